//! Hours in minutes: honest clients come and go while every attack is made again and again.
//!
//! `./test --soak MINUTES` asks for it. Throughout, the calls lose nothing; when what vanished
//! clients left behind has lived its ten minutes, every descriptor and allocation has been given
//! back; memory has no trend.

use std::time::Duration;

use client::AllocateOptions;
use ring::rand::{SecureRandom, SystemRandom};

use super::calls::{self, Calls};
use super::target::{Kind, Setup, Target};
use super::{
    Attack, attempt, exhaustion, faults, garbage, identity, networks, reflection, tenants,
};
use rig::clock;

/// Says for how many minutes.
const MINUTES: &str = "AV_EDGE_SOAK_MINUTES";

/// How long an allocation outlives a client that vanished.
const ABANDONED: Duration = Duration::from_secs(660);

/// What memory may grow by in the second half: noise of an allocator at work.
const NOISE_BYTES: u64 = 2 << 20;

/// Attacks that end by themselves and leave the server running.
const ATTACKS: [&[Attack]; 7] = [
    networks::ATTACKS,
    identity::ATTACKS,
    reflection::ATTACKS,
    exhaustion::ATTACKS,
    garbage::ATTACKS,
    tenants::ATTACKS,
    faults::ATTACKS,
];

#[test]
fn sec_009_abuse_soak_nothing_is_lost_over_time() {
    let minutes = std::env::var(MINUTES).ok().and_then(|minutes| minutes.parse::<u64>().ok());
    let minutes = minutes.unwrap_or_else(|| panic!("{MINUTES} says for how many minutes"));
    // Attacks go on longer than what they leave behind.
    let tables = "[limits]\nallocations_per_client = 5000\n".to_owned();
    let mut target = Target::start_as(Kind::Ours, Setup { tables, ..Setup::default() });
    let calls = Calls::through(&target);
    let (files, held) = (target.descriptors(), allocations(&target));
    let end = clock::now() + Duration::from_secs(60 * minutes);
    let start = clock::now();
    let (trend, lost) = calls::beside(calls, || {
        let mut trend = Trend::default();
        while clock::now() < end {
            round(&mut target);
            let minute = (start.elapsed().as_secs() / 60).min(minutes - 1);
            let minute = usize::try_from(minute).expect("a small number");
            trend.memory.resize(trend.memory.len().max(minute + 1), Vec::new());
            trend.memory[minute].push(target.resident_bytes());
            trend.rounds += 1;
        }
        let given_back =
            || (target.descriptors() <= files && allocations(&target) <= held).then_some(());
        trend.given_back = clock::look_until(ABANDONED, given_back).is_some();
        trend
    });
    println!("{} rounds in {minutes} minutes; calls: {lost}", trend.rounds);
    let by_minute: Vec<u64> = trend.memory.iter().map(|it| median(it) >> 10).collect();
    println!("resident KiB, medians by the minute: {by_minute:?}");
    println!("resident KiB, medians of the halves: {:?}", trend.halves().map(|it| it >> 10));
    assert!(lost.is_proof(), "calls beside the attacks: {lost}");
    let files = (target.descriptors(), files, allocations(&target), held);
    assert!(
        trend.given_back,
        "descriptors now and at first, allocations now and at first: {files:?}"
    );
    let [first, second] = trend.halves();
    assert!(second <= first + NOISE_BYTES, "resident bytes grew from {first} to {second}");
}

#[derive(Default)]
struct Trend {
    rounds: usize,
    /// Resident bytes, by the minute.
    memory: Vec<Vec<u64>>,
    given_back: bool,
}

impl Trend {
    fn halves(&self) -> [u64; 2] {
        let (first, second) = self.memory.split_at(self.memory.len() / 2);
        [first, second].map(|half| median(&half.concat()))
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or(0)
}

/// One attack, and some honest clients.
fn round(target: &mut Target) {
    let all: Vec<&Attack> = ATTACKS.into_iter().flatten().collect();
    let attack = all[usize::from(draw()) % all.len()];
    if let Err(words) = attempt(attack, target) {
        panic!("{}: {words}", attack.name);
    }
    for guest in 0..8 {
        let user = format!("guest-{}", draw() % 100);
        let mut client = if guest % 2 == 0 {
            target.tenant("10.25.1.2", &user).0
        } else {
            let mut caller = target.caller("10.25.1.2", &user);
            caller.allocate(&AllocateOptions::default()).expect("an honest client is served");
            caller
        };
        let (peer, at) = target.peer();
        let channel = client.bind_channel(at).expect("a channel");
        client.send_channel(channel, b"hello").expect("it is sent");
        peer.recv(&mut [0; 64]).expect("the peer hears it");
        // Some vanish without a word.
        if !draw().is_multiple_of(8) {
            client.release().expect("it ends");
        }
    }
}

fn allocations(target: &Target) -> u64 {
    target.metric(&["av_edge_relay_allocations{"])
}

fn draw() -> u16 {
    let mut bytes = [0; 2];
    SystemRandom::new().fill(&mut bytes).expect("random bytes");
    u16::from_be_bytes(bytes)
}
