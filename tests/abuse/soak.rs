//! Hours in minutes: honest clients come and go while every attack is made again and again.
//!
//! `./test --soak MINUTES` asks for it. Throughout, the calls lose nothing. Every minute the load
//! pauses, an operator ends what vanished clients left behind, and everything that the relay holds
//! must be what it held at first: descriptors, allocations, ports, permissions, channels,
//! connections of clients, strangers and peers, the quota of a user. What was left at the very
//! beginning is never ended by anybody, and must be gone when it has lived its ten minutes. Memory
//! has no slope over the second half.

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};
use std::time::Duration;

use client::conformance::rest_credentials;
use client::transport::{Dtls, Tls, Trust};
use client::{AllocateOptions, Transport, TurnClient};
use ring::rand::{SecureRandom, SystemRandom};

use super::calls::{self, Calls};
use super::target::{Kind, Reach, Setup, Target, unix_s};
use super::{
    Attack, attempt, doors, exhaustion, faults, flood, garbage, handshakes, identity, networks,
    operation, reflection, scarcity, signals, tenants,
};
use crate::edge::REST_SECRET;
use rig::clock;

/// Says for how many minutes.
const MINUTES: &str = "AV_EDGE_SOAK_MINUTES";

/// In fewer there are no two halves with a pause each.
const FEWEST: u64 = 2;

/// Time between pauses.
const PERIOD: Duration = Duration::from_secs(60);

/// How long a pause may take: a stranger on DTLS has half a minute.
const PAUSE: Duration = Duration::from_secs(45);

/// How long an allocation outlives a client that vanished.
const ABANDONED: Duration = Duration::from_secs(660);

/// How many nobody ends.
const FORGOTTEN: u64 = 8;

/// The slope of memory that is no leak: one allocation that leaked every second, at
/// [`ALLOCATION_KIB`], would cost four times as much an hour.
const SLOPE_KIB_PER_HOUR: f64 = 4_096.0;

/// What bounded tables still fill with in the second half of a short soak, such as the ten minutes
/// of samples that operators see.
const TABLES_KIB: f64 = 512.0;

/// What an allocation takes at least.
const ALLOCATION_KIB: f64 = 5.0;

/// All that leave the server running, and nothing behind for longer than it takes to repeat them:
/// ports that are kept for half a minute would stand in the way of the next attack.
const ATTACKS: [&[Attack]; 15] = [
    networks::ATTACKS,
    identity::ATTACKS,
    reflection::ATTACKS,
    exhaustion::ATTACKS,
    exhaustion::SLOW,
    handshakes::ATTACKS,
    handshakes::SLOW,
    flood::ATTACKS,
    garbage::ATTACKS,
    tenants::ATTACKS,
    faults::ATTACKS,
    scarcity::ATTACKS,
    signals::ATTACKS,
    doors::ATTACKS,
    operation::ATTACKS,
];

/// What a relay holds, by the names of its metrics.
const HELD: [&str; 7] = [
    "av_edge_relay_allocations{",
    "av_edge_relay_permissions{",
    "av_edge_relay_channels{",
    "av_edge_relay_peer_connections{",
    "av_edge_relay_ports_used{",
    "av_edge_relay_connections{",
    "av_edge_relay_connections_passing{",
];

#[test]
fn sec_009_abuse_soak_nothing_is_lost_over_time() {
    let minutes = std::env::var(MINUTES).ok().and_then(|minutes| minutes.parse::<u64>().ok());
    let minutes = minutes.unwrap_or_else(|| panic!("{MINUTES} says for how many minutes"));
    assert!(
        minutes >= FEWEST,
        "{minutes} minutes are too few for a slope of memory: {FEWEST} or more"
    );
    // Floods need a core for themselves, and attacks leave much behind within a minute.
    let tables = "[limits]\nallocations_per_client = 5000\n\
                  new_peers_per_minute_per_client = 100000\n"
        .to_owned();
    let setup = Setup { tables, reach: Reach::Whole, one_core: true, ..Setup::default() };
    let mut target = Target::start_as(Kind::Ours, setup);
    for number in 0..FORGOTTEN {
        drop(target.tenant("10.25.1.2", &format!("forgotten-{number}")));
    }
    let calls = Calls::through(&target);
    let kept = allocations(&target);
    let first = holdings(&target);
    let start = clock::now();
    let (mut memory, mut rounds) = (Memory::default(), 0);
    let ((), lost) = calls::beside(calls, || {
        for minute in 1..=minutes {
            while start.elapsed() < PERIOD * u32::try_from(minute).expect("a number of minutes") {
                round(&mut target);
                end_what_is_left(&target, &kept);
                memory.note(start.elapsed(), target.resident_bytes());
                rounds += 1;
            }
            quota_is_whole(&target);
            let forgotten = if start.elapsed() > ABANDONED { FORGOTTEN } else { 0 };
            demand(&target, &first, forgotten);
        }
    });
    println!("{rounds} rounds in {minutes} minutes; calls: {lost}");
    println!("held at first, and at each pause: {first:?}");
    if start.elapsed() <= ABANDONED {
        println!("too short to see allocations of vanished clients end by themselves");
    }
    assert!(lost.is_proof(), "calls beside the attacks: {lost}");
    let slope = memory.slope();
    println!("resident KiB: {:?}", memory.told());
    println!("{slope}");
    if !slope.tells_leaks() {
        println!("too short to tell a leak of an allocation a second from tables that fill");
    }
    assert!(!slope.is_a_leak(), "{slope}");
}

#[test]
fn sec_009_abuse_soak_sees_a_leak_of_an_allocation_a_second() {
    // A round each four seconds, and an allocator that takes and gives back 256 KiB.
    let memory = |kib_per_s: f64, minutes: u32| {
        let mut memory = Memory::default();
        for number in 0..minutes * 15 {
            let kib = kib_per_s.mul_add(f64::from(number * 4), f64::from(number * 7 % 5) * 64.0);
            memory.0.push((f64::from(number * 4) / 3600.0, 20_000.0 + kib));
        }
        memory.slope()
    };
    for minutes in [10, 60, 600] {
        assert!(memory(ALLOCATION_KIB, minutes).is_a_leak(), "{minutes} minutes");
        assert!(memory(ALLOCATION_KIB, minutes).tells_leaks(), "{minutes} minutes");
        assert!(!memory(0.0, minutes).is_a_leak(), "{minutes} minutes");
    }
}

/// Resident KiB, and after how many hours.
#[derive(Default)]
struct Memory(Vec<(f64, f64)>);

/// In KiB an hour, with its standard error, over so many hours.
struct Slope {
    per_hour: f64,
    error: f64,
    hours: f64,
}

impl Slope {
    /// How much memory may rise meanwhile.
    fn allowed(&self) -> f64 {
        SLOPE_KIB_PER_HOUR.mul_add(self.hours, TABLES_KIB)
    }

    fn is_a_leak(&self) -> bool {
        (self.per_hour - 3.0 * self.error) * self.hours > self.allowed()
    }

    /// Whether an allocation that leaked every second would show.
    fn tells_leaks(&self) -> bool {
        (ALLOCATION_KIB * 3600.0 - 3.0 * self.error) * self.hours > self.allowed()
    }
}

impl Display for Slope {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { per_hour, error, hours } = self;
        let minutes = hours * 60.0;
        write!(
            f,
            "memory rises by {per_hour:.0} ± {error:.0} KiB an hour over {minutes:.1} minutes"
        )
    }
}

impl Memory {
    #[expect(clippy::cast_precision_loss, reason = "a size of memory")]
    fn note(&mut self, after: Duration, bytes: u64) {
        self.0.push((after.as_secs_f64() / 3600.0, (bytes >> 10) as f64));
    }

    /// About twenty of all.
    fn told(&self) -> Vec<f64> {
        self.0.iter().step_by(self.0.len().div_ceil(20)).map(|(_, kib)| *kib).collect()
    }

    /// By least squares over the second half.
    fn slope(&self) -> Slope {
        let middle = self.0.last().map_or(0.0, |(hours, _)| hours / 2.0);
        let samples: Vec<_> = self.0.iter().filter(|(hours, _)| *hours >= middle).collect();
        assert!(samples.len() >= 3, "{} rounds make no slope", samples.len());
        let count = f64::from(u32::try_from(samples.len()).expect("a number of rounds"));
        let mean =
            |of: fn(&(f64, f64)) -> f64| samples.iter().map(|it| of(it)).sum::<f64>() / count;
        let (hour, kib) = (mean(|it| it.0), mean(|it| it.1));
        let spread: f64 = samples.iter().map(|it| (it.0 - hour).powi(2)).sum();
        let common: f64 = samples.iter().map(|it| (it.0 - hour) * (it.1 - kib)).sum();
        let per_hour = common / spread;
        let rest = |it: &&(f64, f64)| (it.1 - kib - per_hour * (it.0 - hour)).powi(2);
        let rest: f64 = samples.iter().map(rest).sum();
        let error = (rest / (count - 2.0) / spread).sqrt();
        Slope { per_hour, error, hours: middle }
    }
}

/// One attack, some honest clients, and the files read again.
fn round(target: &mut Target) {
    let all: Vec<&Attack> = ATTACKS.into_iter().flatten().collect();
    let attack = all[usize::from(draw()) % all.len()];
    if let Err(words) = attempt(attack, target) {
        panic!("{}: {words}", attack.name);
    }
    let transports = [
        Transport::Udp,
        Transport::Tcp,
        Transport::Tls(Tls::new("turn.example.org", &Trust::Anything, &[]).expect("a name")),
        Transport::Dtls(Dtls::new("turn.example.org", &Trust::Anything).expect("a name")),
    ];
    for transport in transports.iter().cycle().take(8) {
        let who = target.credentials(&format!("guest-{}", draw() % 100));
        let mut client = target.with("10.25.1.2", who, transport.clone());
        client.allocate(&AllocateOptions::default()).expect("an honest client is served");
        let (peer, at) = target.peer();
        let channel = client.bind_channel(at).expect("a channel");
        client.send_channel(channel, b"hello").expect("it is sent");
        peer.recv(&mut [0; 64]).expect("the peer hears it");
        // Some vanish without a word.
        if !draw().is_multiple_of(8) {
            client.release().expect("it ends");
            client.link().finish().expect("it says goodbye");
        }
    }
    target.process.hang_up();
}

/// Ids of all allocations.
fn allocations(target: &Target) -> BTreeSet<String> {
    let page = target.operate("GET", "/v1/allocations?limit=1000").expect("operators are answered");
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let rows = page["allocations"].as_array().expect("a list").iter();
    rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

/// Ends allocations whose clients have vanished.
fn end_what_is_left(target: &Target, kept: &BTreeSet<String>) {
    for id in allocations(target).difference(kept) {
        // It may have ended meanwhile.
        drop(target.operate("DELETE", &format!("/v1/allocations/{id}")));
    }
}

/// A user may hold as many allocations as ever, and not one more.
fn quota_is_whole(target: &Target) {
    const QUOTA: usize = 16;
    let who = || rest_credentials(REST_SECRET, &format!("{}:quota", unix_s() + 3600));
    let mut clients: Vec<TurnClient> =
        (0..=QUOTA).map(|_| target.with("10.25.1.2", who(), Transport::Udp)).collect();
    let answers = clients.iter_mut().map(|client| client.allocate(&AllocateOptions::default()));
    let codes: Vec<_> = answers.map(|answer| answer.err().and_then(|error| error.code())).collect();
    let (last, others) = codes.split_last().expect("there are some");
    assert!(*last == Some(486) && others.iter().all(Option::is_none), "of a quota: {codes:?}");
    for client in &mut clients[..QUOTA] {
        client.release().expect("it ends");
    }
}

/// Descriptors, and each of [`HELD`].
fn holdings(target: &Target) -> Vec<(&'static str, u64)> {
    let descriptors = u64::try_from(target.descriptors()).expect("a number of files");
    let metrics = HELD.iter().map(|name| (*name, target.metric(&[*name])));
    std::iter::once(("descriptors", descriptors)).chain(metrics).collect()
}

/// Everything must be what it was at first, but for allocations that have expired since.
fn demand(target: &Target, first: &[(&'static str, u64)], expired: u64) {
    let mut now = Vec::new();
    let as_before = || {
        now = holdings(target);
        let back = now.iter().zip(first).all(|((name, now), (_, first))| {
            let gone = if *name == HELD[0] { expired } else { 0 };
            *now <= first - gone
        });
        back.then_some(())
    };
    let back = clock::look_until(PAUSE, as_before);
    assert!(back.is_some(), "held now: {now:?}\nat first: {first:?}, of which {expired} expired");
}

fn draw() -> u16 {
    let mut bytes = [0; 2];
    SystemRandom::new().fill(&mut bytes).expect("random bytes");
    u16::from_be_bytes(bytes)
}
