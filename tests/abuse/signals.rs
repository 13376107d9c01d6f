//! T7: signals of the operator, while the server is attacked.

use std::cell::Cell;
use std::time::Duration;

use client::AllocateOptions;

use super::calls::{self, Calls};
use super::raw::{self, Forger};
use super::reflection::anybody;
use super::target::{ATTACKER, Kind, SOON, Setup, Target, VICTIM, server};
use super::{Attack, Outcome, judge, outcome};
use rig::clock;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "have it read its files again, over and over", run: reload },
    Attack { name: "crowd in while it drains", run: drain },
];

#[test]
fn sec_018_abuse_t7_signals_hurt_no_call_under_attack() {
    judge("T7 signals under attack", ATTACKS);
}

/// A thousand requests from forged addresses, in a tenth of a second.
fn annoy(target: &Target, forger: &Forger) {
    let question = raw::message(raw::ALLOCATE, &[(raw::TRANSPORT, &raw::UDP)]);
    let begin = clock::now();
    for number in 0..1_000 {
        forger.send(anybody(number), server(), &question);
        if number % 50 == 0 {
            clock::rest_until(begin + Duration::from_micros(u64::from(number) * 100));
        }
    }
    let (mut client, _) = target.tenant(ATTACKER, "busy");
    client.release().expect("it ends");
}

/// Good files and bad ones by turns, ten times a second and more.
fn reload(target: &mut Target) -> Outcome {
    const LENGTH: Duration = Duration::from_secs(3);
    let other = Target::start(target.kind);
    let good = std::fs::read_to_string(other.home.path(Target::FILE)).unwrap_or_default();
    let (mut client, _) = other.tenant(VICTIM, "constant");
    let files = other.descriptors();
    let forger = Forger::of(&other.site.client);
    let begin = clock::now();
    let storm = || {
        let mut count = 0;
        while clock::now() < begin + LENGTH {
            for text in [&good[..], "realm = ", &good] {
                other.home.write(Target::FILE, text);
                for _ in 0..5 {
                    other.process.hang_up();
                    count += 1;
                }
            }
            annoy(&other, &forger);
        }
        count
    };
    let (count, lost) = calls::beside(Calls::through(&other), storm);
    let alive = client.refresh(Duration::from_secs(600)).is_ok();
    let welcome = other.applicant(VICTIM, "neighbour", &AllocateOptions::default()).1.is_ok();
    let read = match target.kind {
        Kind::Ours => other.metric(&["av_edge_relay_reloads_total"]),
        Kind::Coturn => 1,
    };
    // The call over UDP and the neighbour still have an allocation each.
    let left = || (other.descriptors() <= files + 2).then_some(());
    let given_back = clock::look_until(Duration::from_secs(5), left).is_some();
    outcome(
        alive && welcome && read > 0 && given_back && lost.is_proof(),
        format!(
            "{count} signals, files read {read} times; an allocation lives: {alive}; others get \
             one: {welcome}; descriptors given back: {given_back}; calls meanwhile: {lost}"
        ),
    )
}

/// Calls go on until the deadline, whoever knocks; it ends then with the status of success.
fn drain(target: &mut Target) -> Outcome {
    const DRAIN_S: u32 = 6;
    let setup = Setup { drain_s: Some(DRAIN_S), ..Setup::default() };
    let mut other = Target::start_as(target.kind, setup);
    let forger = Forger::of(&other.site.client);
    let codes = Cell::new(Vec::new());
    let told = clock::now();
    let crowd = || {
        other.process.terminate();
        if other.kind == Kind::Ours {
            let drains = || (other.metric(&["av_edge_relay_draining"]) == 1).then_some(());
            clock::await_some(SOON, "the drain to begin", drains);
        }
        let mut heard = Vec::new();
        while clock::now() < told + Duration::from_secs(u64::from(DRAIN_S) - 3) {
            let question = raw::message(raw::ALLOCATE, &[(raw::TRANSPORT, &raw::UDP)]);
            for number in 0..500 {
                forger.send(anybody(number), server(), &question);
            }
            for user in ["newcomer", "another"] {
                let mut client = other.guest(ATTACKER, user);
                let answer = client.allocate(&AllocateOptions::default());
                heard.push(answer.err().and_then(|error| error.code()));
            }
            // As many as one source is answered.
            clock::rest_until(clock::now() + Duration::from_millis(50));
        }
        codes.set(heard);
    };
    let ((), lost) = calls::beside(Calls::through(&other), crowd);
    let codes = codes.take();
    let refused = codes.iter().all(|code| *code == Some(403));
    let limit = told + Duration::from_secs(u64::from(DRAIN_S) + 3);
    let status = clock::look_until(limit - clock::now(), || other.process.ended());
    let took = (clock::now() - told).as_secs_f64();
    let clean = status.is_some_and(|status| status.success());
    outcome(
        refused && clean && took > f64::from(DRAIN_S) - 1.0 && lost.is_proof(),
        format!(
            "{} newcomers, all refused with 403: {refused}; it ended after {took:.1} s with \
             success: {clean}; calls until then: {lost}",
            codes.len()
        ),
    )
}
