//! T4: more than the server can receive, from addresses nobody has.
//!
//! The attacker pours with a core of its own; the server has another. Its kernel must be seen to
//! drop what the attacker sends, or the flood was too weak to show anything; calls must lose nothing.

use std::time::Duration;

use super::calls::{self, Calls};
use super::raw::{self, Forger};
use super::reflection::anybody;
use super::target::{ATTACKERS_CORE, Kind, Setup, Target, on_core, server};
use super::{Attack, Outcome, judge_as, outcome};
use rig::clock;

/// How long it goes on.
const LENGTH: Duration = Duration::from_secs(3);

/// Forged sources, so many that none of them exceeds what a stranger is answered.
const SOURCES: u32 = 32_768;

/// The least that deserves the name: datagrams a second, on a busy machine too.
const FLOOD: f64 = 20_000.0;

/// The least that the kernel drops of requests, so that calls would have lost packets beside them.
const DROPPED: u64 = 5_000;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "pour requests out of forged addresses", run: requests },
    Attack { name: "pour payload that belongs to no call", run: payload },
];

#[test]
fn sec_007_abuse_t4_a_flood_costs_calls_nothing() {
    // The attacks need a whole core, so that the server is left alone on the other.
    let setup = Setup { one_core: true, ..Setup::default() };
    judge_as("T4 more than the server can receive", ATTACKS, &setup);
}

/// What a stranger may ask, in turn: with nothing, and with credentials that are guessed.
fn requests(target: &mut Target) -> Outcome {
    let integrity = (raw::INTEGRITY, &[7; 20][..]);
    let guess = [
        (raw::TRANSPORT, &raw::UDP[..]),
        (raw::USERNAME, b"1999999999:somebody"),
        (raw::REALM, b"turn.example.org"),
        (raw::NONCE, b"obMatJos2AAABAAAAAAAAAAAAAAAAAAA"),
        integrity,
    ];
    // Guesses cost most; with fewer of them a server keeps up with all that a core can send.
    let guess = raw::message(raw::ALLOCATE, &guess);
    let mut questions = vec![guess; 8];
    questions[0] = raw::message(raw::BINDING, &[]);
    questions[1] = raw::message(raw::ALLOCATE, &[(raw::TRANSPORT, &raw::UDP)]);
    let before = Dropped::by(target);
    let poured = pour(target, &questions);
    let dropped = Dropped::by(target).since(before);
    outcome(
        poured.calls.is_proof() && dropped.requests >= DROPPED,
        format!("{poured}; dropped by the kernel: {dropped}"),
    )
}

/// ChannelData and Send, which share a lane with calls and cost a look at the five-tuple.
fn payload(target: &mut Target) -> Outcome {
    let peer = (raw::PEER, &[0, 1, 0x33, 0x9A, 0x2B, 0x0B, 0xA4, 0x40][..]);
    let send = raw::message(0x0006 | raw::INDICATION, &[peer, (0x0013, &[7; 160])]);
    let channel_data = [&[0x40, 0, 0, 160][..], &[7; 160]].concat();
    let before = Dropped::by(target);
    let poured = pour(target, &[channel_data, send]);
    let dropped = Dropped::by(target).since(before);
    outcome(
        poured.calls.is_proof() && poured.rate >= FLOOD,
        format!("{poured}; dropped by the kernel: {dropped}"),
    )
}

/// What came of a flood.
struct Poured {
    rate: f64,
    calls: calls::Lost,
}

impl std::fmt::Display for Poured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, calls } = self;
        write!(f, "{:.0} thousand a second; calls meanwhile: {calls}", rate / 1e3)
    }
}

/// Sends this from everywhere while calls go on.
fn pour(target: &Target, what: &[Vec<u8>]) -> Poured {
    let forger = Forger::of(&target.site.client);
    let packets: Vec<_> = (0..SOURCES)
        .zip(what.iter().cycle())
        .map(|(number, payload)| raw::packet(anybody(number), server(), payload))
        .collect();
    let calls = Calls::through(target);
    let (sent, calls) = calls::beside(calls, || {
        on_core(ATTACKERS_CORE, || forger.pour(&packets, server(), clock::now() + LENGTH))
    });
    #[expect(clippy::cast_precision_loss, reason = "a number of datagrams")]
    let rate = sent as f64 / LENGTH.as_secs_f64();
    Poured { rate, calls }
}

/// Datagrams that found a queue of the server full.
#[derive(Clone, Copy, Default)]
struct Dropped {
    /// In the queue for requests; of a server with one queue, there.
    requests: u64,
    media: u64,
}

impl Dropped {
    fn by(target: &Target) -> Self {
        let by_lane = |lane| target.metric(&["av_edge_relay_listener_lost_total{", lane]);
        match target.kind {
            Kind::Ours => {
                Self { requests: by_lane("lane=\"requests\""), media: by_lane("lane=\"media\"") }
            }
            Kind::Coturn => Self { requests: target.site.relay.receive_buffer_errors(), media: 0 },
        }
    }

    fn since(self, before: Self) -> Self {
        Self { requests: self.requests - before.requests, media: self.media - before.media }
    }
}

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of requests, {} of media", self.requests, self.media)
    }
}
