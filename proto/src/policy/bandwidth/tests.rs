use std::net::IpAddr;

use super::*;
use crate::now::tests::start;
use crate::policy::limits::Claim;

/// A user of one client address asks for an allocation.
pub(super) fn claim(user: u64, bandwidth: Bandwidth, at: Instant) -> Claim {
    let client = IpAddr::from([192, 0, 2, 1]);
    Claim { user: UserKey(user), client, user_limit: None, charges: 1, bandwidth, at }
}

#[test]
fn sec_010_without_a_limit_there_is_no_meter() {
    let begin = start().mono;
    let (unlimited, mut trunk) = (Bandwidth::UNLIMITED, Trunk::default());
    let shares = Pots::default().of(&claim(1, unlimited, begin));
    assert!(Meter::new(&mut trunk, &unlimited, (UserKey(1), &shares), begin).is_none());
}

/// Somebody who sends datagrams.
#[derive(Clone, Copy)]
struct Sender {
    user: u64,
    worker: usize,
    /// Datagrams a second, at most a thousand, evenly, and the bytes of each.
    load: (u64, usize),
}

/// 64 kbit/s.
const VOICE: (u64, usize) = (50, 160);

/// 4.8 Mbit/s.
const FLOOD: (u64, usize) = (600, 1_000);

const fn at(worker: usize, user: u64, load: (u64, usize)) -> Sender {
    Sender { user, worker, load }
}

/// A relay with two workers.
#[derive(Default)]
struct Two {
    pots: Pots,
    trunks: [Trunk; 2],
}

impl Two {
    fn meter(&mut self, bandwidth: Bandwidth, sender: &Sender, now: Instant) -> Box<Meter> {
        let shares = self.pots.of(&claim(sender.user, bandwidth, now));
        let user = (UserKey(sender.user), &shares);
        Meter::new(&mut self.trunks[sender.worker], &bandwidth, user, now).unwrap()
    }

    /// Datagrams that each sent, and that passed, in so many seconds.
    fn talk(
        &mut self,
        begin: Instant,
        seconds: u64,
        senders: &mut [(Sender, Box<Meter>)],
    ) -> Vec<(u64, u64)> {
        let mut counts = vec![(0, 0); senders.len()];
        for step in 0..seconds * 1_000 {
            let now = begin + Duration::from_millis(step);
            for ((sender, meter), (sent, passed)) in senders.iter_mut().zip(&mut counts) {
                let (per_s, len) = sender.load;
                if (step + 1) * per_s / 1_000 == step * per_s / 1_000 {
                    continue;
                }
                let trunk = &mut self.trunks[sender.worker];
                *sent += 1;
                *passed += u64::from(meter.admit(trunk, now, Direction::ToPeer, len).is_ok());
            }
        }
        counts
    }
}

const fn kbit(kbit_per_s: u64) -> Rates {
    Rates { bytes: NonZeroU64::new(kbit_per_s * 125), packets: None }
}

const fn packets(per_s: u64) -> Rates {
    Rates { bytes: None, packets: NonZeroU64::new(per_s) }
}

/// How many users share the limit of an allocation.
fn sharers(meter: &Meter) -> u64 {
    let parts = meter.fair.iter().flatten().flatten().filter_map(|fair| fair.part.as_ref());
    parts.map(|part| part.sharers()).max().unwrap_or(1)
}

/// Each limit that users share.
fn shared_limits(rates: Rates) -> [(&'static str, Bandwidth); 3] {
    let none = Bandwidth::UNLIMITED;
    [
        ("client", Bandwidth { client: rates, ..none }),
        ("relay", Bandwidth { relay: rates, ..none }),
        ("worker", Bandwidth { worker: rates, ..none }),
    ]
}

#[test]
fn sec_010_who_floods_a_shared_limit_takes_nothing_from_the_modest_and_the_sum_is_exact() {
    for (what, rates, rate) in [("bits", kbit(1_000), 125_000), ("packets", packets(200), 200)] {
        for (level, bandwidth) in shared_limits(rates) {
            for (case, senders) in [
                ("the flood first", vec![at(0, 1, FLOOD), at(0, 2, VOICE)]),
                ("the voice first", vec![at(0, 2, VOICE), at(0, 1, FLOOD)]),
                ("small datagrams", vec![at(0, 1, (900, 140)), at(0, 2, VOICE)]),
                ("large datagrams", vec![at(0, 1, (200, 6_000)), at(0, 2, VOICE)]),
                ("two workers", vec![at(0, 1, FLOOD), at(1, 2, VOICE)]),
                ("a flood of both", vec![at(0, 1, FLOOD), at(1, 1, FLOOD), at(1, 2, VOICE)]),
                (
                    "a flood of many allocations",
                    [vec![at(0, 1, (100, 1_000)); 12], vec![at(0, 2, VOICE)]].concat(),
                ),
            ] {
                let mut two = Two::default();
                let begin = start().mono;
                let mut senders: Vec<_> =
                    senders.iter().map(|it| (*it, two.meter(bandwidth, it, begin))).collect();
                let counts = two.talk(begin + Duration::from_secs(1), 10, &mut senders);
                let mut sum = 0;
                for ((sender, _), (sent, passed)) in senders.iter().zip(&counts) {
                    sum += passed * if what == "bits" { sender.load.1 as u64 } else { 1 };
                    if sender.user == 2 {
                        assert_eq!(sent, passed, "{what} of a {level}, {case}: a voice");
                    }
                }
                // Workers that have a limit each may carry it twice.
                if level != "worker" || senders.iter().all(|(it, _)| it.worker == 0) {
                    // Beside what passes in ten seconds what was saved.
                    let expected = rate * 10 + rate / 20;
                    let off = sum.abs_diff(expected);
                    assert!(off * 50 <= expected, "{what} of a {level}, {case}: {sum}");
                }
            }
        }
    }
}

#[test]
fn sec_010_ten_voices_beside_a_flood_lose_nothing() {
    // Each is nearly its part, an eleventh; the last in datagrams so small that slices hold several.
    for (rates, voice) in [(kbit(1_000), VOICE), (packets(800), VOICE), (kbit(10_000), (500, 220))]
    {
        for (level, bandwidth) in shared_limits(rates) {
            for workers in [1, 2] {
                let mut two = Two::default();
                let begin = start().mono;
                let voices = (0..10).map(|user| at(user % workers, 10 + user as u64, voice));
                let flood = at(0, 1, (1_000, 3_000));
                let mut senders: Vec<_> = std::iter::once(flood)
                    .chain(voices)
                    .map(|it| (it, two.meter(bandwidth, &it, begin)))
                    .collect();
                let counts = two.talk(begin + Duration::from_secs(1), 10, &mut senders);
                for (sent, passed) in &counts[1..] {
                    assert_eq!(sent, passed, "{level}, {workers} workers, {rates:?}: {counts:?}");
                }
                assert!(counts[0].1 > 0, "{level}: the rest is for whoever wants it");
            }
        }
    }
}

#[test]
fn ed_051_who_is_alone_has_the_whole_limit_and_again_when_others_have_left() {
    for (level, bandwidth) in shared_limits(kbit(1_000)) {
        let (mut two, begin) = (Two::default(), start().mono);
        let whole = |counts: &[(u64, u64)], saved: u64| {
            let (bytes, expected) = (counts[0].1 * 1_000, 10 * 125_000 + saved);
            assert!(bytes.abs_diff(expected) * 100 <= expected, "{level}: {bytes} bytes alone");
        };
        let mut senders = vec![(at(0, 1, FLOOD), two.meter(bandwidth, &at(0, 1, FLOOD), begin))];
        let seconds = |seconds| begin + Duration::from_secs(seconds);
        whole(&two.talk(seconds(1), 10, &mut senders), 12_500);
        senders.push((at(0, 2, FLOOD), two.meter(bandwidth, &at(0, 2, FLOOD), seconds(11))));
        let counts = two.talk(seconds(11), 10, &mut senders);
        let halves = [0, 1].map(|index| counts[index].1 * 1_000);
        assert!(halves.iter().all(|it| it.abs_diff(625_000) < 40_000), "{level}: {halves:?}");
        // One that is silent leaves all to the other, and one that has left does not count.
        senders[1].0.load = (0, 0);
        whole(&two.talk(seconds(21), 10, &mut senders), 0);
        assert_eq!(sharers(&senders[0].1), 2, "{level}");
        senders.pop();
        assert_eq!(sharers(&senders[0].1), 1, "{level}");
        whole(&two.talk(seconds(31), 10, &mut senders), 0);
    }
}

#[test]
fn ed_051_ending_and_beginning_anew_gains_nothing_of_what_users_share() {
    let bandwidth = Bandwidth { relay: kbit(1_000), ..Bandwidth::UNLIMITED };
    let (mut two, begin) = (Two::default(), start().mono);
    let _other = two.meter(bandwidth, &at(0, 2, VOICE), begin);
    let mut passed = 0;
    for step in 0..1_000 {
        let now = begin + Duration::from_millis(10 * step);
        let mut meter = two.meter(bandwidth, &at(0, 1, FLOOD), now);
        for _ in 0..10 {
            let admitted = meter.admit(&mut two.trunks[0], now, Direction::ToPeer, 1_000);
            passed += if admitted.is_ok() { 1_000 } else { 0 };
        }
    }
    let expected = 10 * 125_000 + 12_500_u64;
    assert!(passed <= expected * 51 / 50, "{passed} of {expected}");
}

/// A stream whose sender has so many bytes for it every millisecond.
struct Stream {
    meter: Box<Meter>,
    worker: usize,
    per_ms: usize,
    waiting: usize,
    rests_until: Instant,
    passed: usize,
}

impl Stream {
    /// Reads what may pass.
    fn read(&mut self, trunk: &mut Trunk, now: Instant) {
        self.waiting += self.per_ms;
        while self.waiting > 0 && self.rests_until <= now {
            match self.meter.allowance(trunk, now, Direction::ToClient) {
                Allowance::Unlimited => panic!("it has a limit"),
                Allowance::NotBefore(at) => self.rests_until = at,
                Allowance::Bytes(bytes) => {
                    let bytes = bytes.min(8_192).min(self.waiting);
                    self.meter.spend(trunk, Direction::ToClient, bytes as u64);
                    self.waiting -= bytes;
                    self.passed += bytes;
                }
            }
        }
    }
}

#[test]
fn ed_051_a_modest_stream_beside_a_flood_gets_its_part_and_streams_share_alike() {
    let rate = 4_000 * 125;
    for (level, bandwidth) in shared_limits(kbit(4_000)) {
        for (case, workers, per_ms, part) in [
            // 500 bytes every millisecond is the rate.
            ("a modest one", 1, [5_000, 5_000, 100], 10 * 100_000),
            ("on another worker", 2, [5_000, 5_000, 100], 10 * 100_000),
            ("all want all", 1, [5_000; 3], 10 * rate / 3),
        ] {
            let (mut two, begin) = (Two::default(), start().mono);
            let mut streams: Vec<_> = (0..3)
                .map(|user| {
                    let sender = at(user / 2 % workers, user as u64, VOICE);
                    let meter = two.meter(bandwidth, &sender, begin);
                    let (worker, per_ms) = (sender.worker, per_ms[user]);
                    let rests_until = begin;
                    Stream { meter, worker, per_ms, waiting: 0, rests_until, passed: 0 }
                })
                .collect();
            for step in 0..10_000 {
                for stream in &mut streams {
                    let now = begin + Duration::from_millis(step);
                    stream.read(&mut two.trunks[stream.worker], now);
                }
            }
            let passed: Vec<_> = streams.iter().map(|stream| stream.passed).collect();
            let off = passed[2].abs_diff(part);
            assert!(off * 20 <= part, "{level}, {case}: {passed:?}, the part is {part}");
            if level != "worker" || workers == 1 {
                let (sum, expected) = (passed.iter().sum::<usize>(), 10 * rate);
                assert!(sum.abs_diff(expected) * 50 <= expected, "{level}, {case}: {passed:?}");
            }
        }
    }
}
