//! What it costs to measure media: no allocation, and at most a thirtieth of what a packet costs.
//!
//! Two figures of one run are compared. One is what a server takes longer for a packet of RTP when
//! it measures, over many allocations in turn, so that what it keeps of them is as cold as many
//! callers make it. The other is what the worker of a real relay, which does not measure, spends on
//! a packet that comes and goes over loopback. Both are the least of many rounds, because a machine
//! is never quiet; each alone would say little. Packets come in two ways, each of which is compared with
//! itself: singly, each of another call, and in runs, so many of one call at once.

use std::hint::black_box;
use std::iter::repeat_n;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use benches::{Call, Stage};
use client::load::{Burst, Collector, Lane};
use client::{Credentials, Options};
use nix::sched::{CloneFlags, unshare};
use proto::auth::Secret;
use proto::auth::credential::mint_rest;
use proto::media::{Leg, Media};
use proto::now::UnixTime;
use proto::turn::Verdict;
use relay::Config;

/// The most that measuring may take of what a packet costs.
const MOST: f64 = 0.03;

/// Allocations, of which each has its turn.
const CALLS: u32 = 1_000;

/// Packets of a round.
const PACKETS: u32 = 20_000;

/// Packets of one call that come at once, where they come in runs.
const RUN: u32 = 16;

/// Packets that a server is given together, all of which have arrived before it looks at one.
const BATCH: u32 = 64;

/// Packets or runs of each call before it is measured: more than a second of them.
const LEARNING: u32 = 150;

/// Rounds, of which the least counts.
const ROUNDS: u32 = 40;

/// A voice packet with the header of RTP.
const PAYLOAD: usize = 172;

const SECRET: &str = "a secret of more than sixteen bytes";
const RELAY: &str = "127.0.0.1:3478";

/// Callers: who speaks sends a packet every 20 ms, who shows something a frame every 33 ms, in a run
/// of packets of one time.
struct Callers {
    stage: Stage,
    calls: Vec<Call>,
    /// What a batch brings, in the order of its packets.
    batch: Vec<Vec<u8>>,
    /// Packets of each so far.
    number: u32,
    /// What their clocks show.
    time: u32,
}

impl Callers {
    fn of(mut stage: Stage) -> Self {
        let calls: Vec<_> = (0..CALLS).map(|number| stage.call(number)).collect();
        let mut payload = [0xE5; PAYLOAD];
        payload[0] = 0x80;
        let batch = vec![calls[0].channel_data(&payload); BATCH as usize];
        Self { stage, calls, batch, number: 0, time: 0 }
    }

    /// So many packets of each call, one behind the other.
    fn all_speak(&mut self, run: u32) {
        let (after, ticks) = if run == 1 { (20, 960) } else { (33, 2_970) };
        self.stage.now = self.stage.now.advanced(Duration::from_millis(after));
        self.time = self.time.wrapping_add(ticks);
        let together = (BATCH / run) as usize;
        for (calls, first) in self.calls.chunks(together).zip((0_u32..).step_by(together)) {
            for (bytes, place) in self.batch.iter_mut().zip(0..) {
                let number = self.number + 1 + place % run;
                let [.., n0, n1] = number.to_be_bytes();
                let ends = run > 1 && place % run == run - 1;
                bytes[5] = if ends { 0x80 + 96 } else { 96 };
                bytes[6..8].copy_from_slice(&[n0, n1]);
                bytes[8..12].copy_from_slice(&self.time.to_be_bytes());
                bytes[12..16].copy_from_slice(&(first + place / run).to_be_bytes());
            }
            let callers = calls.iter().flat_map(|call| repeat_n(call, run as usize));
            for (call, bytes) in callers.zip(&self.batch) {
                let Stage { server, now, .. } = &mut self.stage;
                let verdict = server.client_input(*now, call.client, &bytes[..]);
                assert!(matches!(black_box(&verdict), Verdict::ToPeer { .. }), "{verdict:?}");
            }
        }
        self.number += run;
    }

    /// What a packet took while as many came as a round has, or a few more.
    fn round(&mut self, run: u32) -> Duration {
        let turns = PACKETS.div_ceil(CALLS * run);
        let start = now();
        for _ in 0..turns {
            self.all_speak(run);
        }
        (now() - start) / (turns * CALLS * run)
    }
}

fn main() {
    let mut measuring = Callers::of(Stage::measuring());
    measuring.all_speak(1);
    let counted = allocation_counter::measure(|| {
        (0..200).for_each(|_| measuring.all_speak(1));
    });
    assert_eq!(counted.count_total, 0, "allocations while 200 packets of {CALLS} calls");
    let tally = measuring.stage.server.tally().media;
    assert_eq!(tally.received, [201 * u64::from(CALLS), 0], "everything was measured");

    println!("a packet is measured without an allocation");
    let held = held();
    assert!((4 << 10..9 << 10).contains(&held), "{held} bytes for the media of an allocation");
    println!("{held} bytes are the most that the media of an allocation takes");
    // `cargo bench -- --test` looks whether benchmarks run, and measures nothing.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let relay = Loaded::start().expect("a relay on a loopback of its own, which needs root");
    for (how, run) in [("singly", 1), ("in runs", RUN)] {
        let (mut plain, mut measuring) =
            (Callers::of(Stage::new()), Callers::of(Stage::measuring()));
        // Until it is known how long ticks are: no packet is measured for less.
        for _ in 0..LEARNING {
            plain.all_speak(run);
            measuring.all_speak(run);
        }
        let mut least = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            least[0] = least[0].min(plain.round(run));
            least[1] = least[1].min(measuring.round(run));
        }
        let costs = least[1].saturating_sub(least[0]);
        let whole = relay.cost(run > 1).expect("loopback carries packets");
        let share = costs.as_secs_f64() / whole.as_secs_f64();
        println!(
            "packets that come {how}: a server judges one in {:?}, with measuring in {:?}, which is {costs:?} \
             or {:.1} % of the {whole:?} that a relay takes to forward it",
            least[0],
            least[1],
            share * 100.0
        );
        assert!(share <= MOST, "measuring takes {:.1} % of forwarding", share * 100.0);
    }
    relay.stop();
}

/// Bytes held for an allocation whose two legs hear more sources than they have room for.
fn held() -> u64 {
    let counted = allocation_counter::measure(|| {
        // Not given back before it is counted.
        let media = Box::leak(Box::new(Media::new(now())));
        for leg in Leg::BOTH {
            for source in 0..1_000_u32 {
                let packet = [&[0x80, 111, 0, 0, 0, 0, 0, 0][..], &source.to_be_bytes()].concat();
                media.hear(now(), leg, &packet);
            }
        }
        black_box(media);
    });
    counted.bytes_current.unsigned_abs()
}

/// A relay in this process, and clients of it.
struct Loaded {
    relay: relay::Relay,
    lanes: Vec<Lane>,
    peer: UdpSocket,
}

impl Loaded {
    /// Eight clients and one peer.
    fn start() -> io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status()?.success());
        let text = format!(
            "realm = \"r\"\nworkers = 1\n[auth]\nrest_secrets = [\"{SECRET}\"]\n[[listen]]\n\
             address = \"{RELAY}\"\n[relay]\naddresses = [{{ local = \"127.0.0.1\" }}]\n[peers]\n\
             allow = [\"127.0.0.0/8\"]\n[quality]\nmeasure = false"
        );
        let config = Config::from_toml(&text, "bench.toml", None).map_err(io::Error::other)?;
        let relay = relay::start(config).map_err(io::Error::other)?;
        let peer = UdpSocket::bind("127.0.0.2:0")?;
        Collector::prepare(&peer)?;
        let to = peer.local_addr()?;
        let lane = |number: u32| {
            let options = Options { buffer_bytes: Some(4 << 20), ..Options::default() };
            let credentials = credentials(&format!("caller{number}"));
            let server: SocketAddr = RELAY.parse().map_err(io::Error::other)?;
            Lane::open(server, credentials, to, options).map_err(io::Error::other)
        };
        let lanes = (0..8).map(lane).collect::<io::Result<_>>()?;
        Ok(Self { relay, lanes, peer })
    }

    /// What the worker spends on a packet.
    fn cost(&self, as_run: bool) -> io::Result<Duration> {
        let payload = u16::try_from(PAYLOAD).map_err(io::Error::other)?;
        let bursts: Vec<_> =
            self.lanes.iter().map(|lane| Burst::channel(lane.channel, payload, 16)).collect();
        let mut collector = Collector::default();
        let mut least = Duration::MAX;
        for _ in 0..ROUNDS {
            let before = worker_time()?;
            let mut sent = 0_u32;
            for _ in 0..10 {
                let mut missing = 0;
                for (lane, burst) in self.lanes.iter().zip(&bursts) {
                    let socket = lane.client.socket().ok_or(io::ErrorKind::NotConnected)?;
                    missing += if as_run {
                        burst.send_as_run(socket, None)?
                    } else {
                        burst.send_singly(socket, None)?
                    };
                }
                sent += u32::try_from(missing).map_err(io::Error::other)?;
                let until = now() + Duration::from_secs(5);
                while missing > 0 {
                    missing = missing.saturating_sub(collector.drain(&self.peer, |_, _| ())?);
                    assert!(now() < until, "{missing} packets did not come");
                    std::thread::yield_now();
                }
            }
            least = least.min(worker_time()?.saturating_sub(before) / sent);
        }
        Ok(least)
    }

    fn stop(self) {
        self.relay.stop();
        self.relay.wait().expect("it ends well");
    }
}

/// How long the relay's worker has run.
fn worker_time() -> io::Result<Duration> {
    for entry in fs::read_dir("/proc/self/task")? {
        let folder = entry?.path();
        if fs::read_to_string(folder.join("comm"))?.trim() == "worker-0" {
            let text = fs::read_to_string(folder.join("schedstat"))?;
            let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
            return Ok(Duration::from_nanos(nanoseconds.unwrap_or(0)));
        }
    }
    Err(io::Error::other("there is no worker"))
}

fn credentials(user: &str) -> Credentials {
    #[expect(clippy::disallowed_methods, reason = "credentials expire on the wall clock")]
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let secret = Secret::new(SECRET.as_bytes().to_vec());
    let minted = mint_rest(&secret, user, UnixTime(unix + 600)).expect("a name that can be minted");
    Credentials::new(minted.username, minted.password.as_str())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}
