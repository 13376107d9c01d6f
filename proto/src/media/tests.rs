//! Streams against a naive model, and what is bounded.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "numbers of packets go round, and times of a test are short"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::now::tests::start;

const MS: u64 = 1_000_000;

/// A packet as it came.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// Its number, with all rounds.
    number: u64,
    /// When it came.
    at: u64,
    /// Ticks since the source began.
    ticks: u64,
}

/// A packet of RTP on the wire.
fn rtp(ssrc: u32, payload_type: u8, sequence: u16, timestamp: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend([7; 160]);
    bytes
}

/// Who listens, and the time.
struct Bench {
    media: Media,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        let start = start().mono;
        Self { media: Media::new(start), start }
    }

    fn hear(&mut self, at: u64, payload: &[u8]) -> Heard {
        self.media.hear(self.start + Duration::from_nanos(at), Leg::Client, payload)
    }

    fn streams(&self, at: u64) -> Vec<StreamReport> {
        let report = self.media.report(self.start + Duration::from_nanos(at));
        assert_eq!(report.legs[1], LegReport::default(), "nothing was heard on the other leg");
        let [client, _] = report.legs;
        client.streams
    }

    fn stream(&self, at: u64) -> StreamReport {
        let streams = self.streams(at);
        assert_eq!(streams.len(), 1);
        streams[0]
    }
}

/// PCMU heard as told; what the stream says then.
fn heard(first: u64, ticks: u32, packets: &[Packet]) -> StreamReport {
    let mut bench = Bench::new();
    for Packet { number, at, ticks: passed } in packets {
        let timestamp = ticks.wrapping_add(*passed as u32);
        bench.hear(*at, &rtp(5, 0, (first + number) as u16, timestamp));
    }
    bench.stream(packets.last().unwrap().at)
}

/// What a receiver that keeps everything in mind would say: lost, duplicates, late, and jitter as
/// RFC 3550 A.8 has it, in seconds.
fn naive(packets: &[Packet]) -> (u64, u64, u64, f64) {
    let mut seen = BTreeSet::new();
    let (mut duplicates, mut late, mut jitter) = (0, 0, 0.0);
    let mut before: Option<f64> = None;
    for Packet { number, at, ticks } in packets {
        let highest = seen.last().copied();
        if !seen.insert(*number) {
            duplicates += 1;
        } else if highest.is_some_and(|highest| *number < highest) {
            late += 1;
        }
        let transit = *at as f64 / 1e9 - *ticks as f64 / 8_000.0;
        if let Some(before) = before {
            jitter += ((transit - before).abs() - jitter) / 16.0;
        }
        before = Some(transit);
    }
    let sent = seen.last().unwrap() - seen.first().unwrap() + 1;
    (sent - seen.len() as u64, duplicates, late, jitter)
}

/// What becomes of one packet on its way.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Late(u64),
    Twice(u64, u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        1 => Just(Fate::Lost),
        8 => (0..30 * MS).prop_map(Fate::Late),
        1 => (0..400 * MS).prop_map(Fate::Late),
        1 => (0..30 * MS, 0..300 * MS).prop_map(|(one, two)| Fate::Twice(one, two)),
    ]
}

proptest! {
    #[test]
    fn a_stream_counts_as_who_keeps_everything_in_mind(
        first in any::<u16>(),
        ticks in any::<u32>(),
        fates in prop::collection::vec(fate(), 2..200),
    ) {
        let mut packets = Vec::new();
        for (number, fate) in (0_u64..).zip(fates) {
            let sent = number * 20 * MS;
            let came = match fate {
                Fate::Lost => vec![],
                Fate::Late(by) => vec![by],
                Fate::Twice(one, two) => vec![one, two],
            };
            let packet = |by| Packet { number, at: sent + by, ticks: number * 160 };
            packets.extend(came.into_iter().map(packet));
        }
        packets.sort_by_key(|packet| packet.at);
        let numbers: BTreeSet<_> = packets.iter().map(|packet| packet.number).collect();
        prop_assume!(numbers.len() > 2);
        // A source is believed when one of its numbers is behind the first that came.
        prop_assume!(packets.iter().any(|packet| packet.number > packets[0].number));
        let report = heard(u64::from(first), ticks, &packets);
        let (lost, duplicates, late, jitter) = naive(&packets);
        prop_assert_eq!(report.lost(), lost);
        prop_assert_eq!(report.received, numbers.len() as u64);
        prop_assert_eq!((report.duplicates, report.late), (duplicates, late));
        prop_assert_eq!(report.restarts, 0);
        let found = report.jitter.as_secs_f64();
        prop_assert!((found - jitter).abs() < 1e-7, "jitter {} is {}", found, jitter);
    }

    #[test]
    fn no_payload_is_too_strange(packets in prop::collection::vec(
        (0..2_000 * MS, prop::collection::vec(any::<u8>(), 0..60)), 0..60,
    )) {
        let mut bench = Bench::new();
        let mut at = 0;
        for (after, mut payload) in packets {
            at += after;
            if let Some(first) = payload.first_mut().filter(|_| after % 2 == 0) {
                *first = 0x80;
            }
            bench.hear(at, &payload);
        }
        let now = bench.start + Duration::from_nanos(at);
        for leg in bench.media.report(now).legs {
            prop_assert!(leg.summary.received <= leg.summary.expected);
            prop_assert!(leg.streams.len() <= MOST_STREAMS);
        }
    }
}

/// A packet every 20 ms, but for some.
fn row(count: u64, leave_out: impl Fn(u64) -> bool) -> Vec<Packet> {
    let all = (0..count).filter(|number| !leave_out(*number));
    all.map(|number| Packet { number, at: number * 20 * MS, ticks: number * 160 }).collect()
}

#[test]
fn numbers_go_round_and_loss_is_exact_across_it() {
    let packets = row(70_000, |number| number % 10 == 3);
    let report = heard(65_000, u32::MAX - 1_000, &packets);
    assert_eq!((report.expected, report.received, report.lost()), (70_000, 63_000, 7_000));
    assert_eq!((report.duplicates, report.late, report.restarts), (0, 0, 0));
    assert_eq!(report.jitter, Duration::ZERO);
}

#[test]
fn rows_of_numbers_are_believed_as_rfc3550_has_it() {
    use Arrived::{Duplicate, Late, Next, Restart, Stray};
    for (case, first, numbers, expected) in [
        ("in order", 7, vec![(8, Next(1)), (9, Next(1))], (3, 3)),
        ("a loss", 7, vec![(9, Next(2))], (3, 2)),
        ("its packet comes", 7, vec![(9, Next(2)), (8, Late)], (3, 3)),
        ("twice", 7, vec![(7, Duplicate), (8, Next(1)), (8, Duplicate)], (2, 2)),
        ("around", 65_535, vec![(0, Next(1)), (65_535, Duplicate), (65_534, Late)], (3, 3)),
        ("before the first", 7, vec![(6, Late), (65_500, Late)], (44, 3)),
        ("as far as remembered", 200, vec![(100, Late), (100, Duplicate)], (101, 2)),
        ("farther behind", 200, vec![(99, Stray), (201, Next(1))], (2, 2)),
        ("far ahead", 7, vec![(3_006, Next(2_999))], (3_000, 2)),
        ("too far", 7, vec![(3_007, Stray), (8, Next(1)), (3_008, Stray)], (2, 2)),
        ("begun anew", 7, vec![(9_000, Stray), (9_001, Restart), (9_002, Next(1))], (4, 4)),
        ("and what was lost before", 7, vec![(9, Next(2)), (1, Late)], (9, 3)),
        (
            "anew, and late",
            7,
            vec![(9_000, Stray), (9_001, Restart), (8_999, Late), (9_000, Duplicate)],
            (4, 4),
        ),
        ("noise", 7, vec![(9_000, Stray), (20_000, Stray), (9_002, Stray), (8, Next(1))], (2, 2)),
    ] {
        let mut row = Numbers::new(first);
        for (number, arrived) in numbers {
            assert_eq!(row.add(number), arrived, "{case}: {number}");
        }
        assert_eq!((row.expected(), row.received()), expected, "{case}");
    }
}

#[test]
fn pauses_are_told_from_freezes() {
    let at = |number: u64, late: u64| Packet {
        number,
        at: number * 20 * MS + late,
        ticks: number * 160,
    };
    let tail = |from: u64, late| (from..from + 5).map(move |number| at(number, late));
    let silence =
        |number: u64| Packet { number, at: (number + 50) * 20 * MS, ticks: (number + 50) * 160 };
    for (case, packets, freezes, gap_ms, frozen_ms) in [
        ("steady", row(50, |_| false), 0, 20, 0),
        ("one lost", row(50, |n| n == 20), 0, 40, 0),
        ("ten lost", row(50, |n| (20..30).contains(&n)), 1, 220, 220),
        ("nine lost: just not", row(50, |n| (20..29).contains(&n)), 0, 200, 0),
        (
            "held up",
            row(20, |_| false).into_iter().chain(tail(20, 400 * MS)).collect(),
            1,
            420,
            420,
        ),
        ("twice", row(80, |n| (20..40).contains(&n) || (50..64).contains(&n)), 2, 420, 420 + 300),
        (
            "a sender that is silent for a second",
            row(20, |_| false).into_iter().chain((20..30).map(silence)).collect(),
            0,
            20,
            0,
        ),
    ] {
        let report = heard(0, 0, &packets);
        assert_eq!(report.freezes, freezes, "{case}");
        // What the sender meant is no gap, and neither is what lies between two packets.
        let gap = Duration::from_millis(gap_ms);
        let counted = report.longest_gap == gap || (gap_ms == 20 && report.longest_gap.is_zero());
        assert!(counted, "{case}: {:?}", report.longest_gap);
        assert_eq!(report.frozen, Duration::from_millis(frozen_ms), "{case}");
    }
}

#[test]
fn frames_of_video_are_counted_by_their_markers() {
    let mut bench = Bench::new();
    let mut number = 0;
    let mut at = 0;
    for frame in 0..90_u32 {
        at = u64::from(frame) * 33_333_333;
        for packet in 0..3 {
            let payload_type = if packet == 2 { 0x80 + 96 } else { 96 };
            bench.hear(at + packet * MS, &rtp(9, payload_type, number, frame * 3_000));
            number = number.wrapping_add(1);
        }
    }
    let report = bench.stream(at);
    assert!(report.video);
    assert_eq!((report.clock_rate, report.frames), (Some(90_000), 90));
    assert!(report.frame_rate.abs_diff(30_000) < 1_000, "{}", report.frame_rate);
}

#[test]
fn tones_beside_a_voice_do_not_shake_it_but_another_codec_takes_over() {
    let mut bench = Bench::new();
    for packet in 0..100_u32 {
        let at = u64::from(packet) * 20 * MS;
        // Packets of one tone share the timestamp of its beginning.
        let (kind, timestamp) =
            if (50..56).contains(&packet) { (101, 8_000) } else { (0, packet * 160) };
        bench.hear(at, &rtp(5, kind, packet as u16, timestamp));
    }
    let report = bench.stream(2_000 * MS);
    assert_eq!((report.payload_type, report.jitter), (0, Duration::ZERO));
    for packet in 100..300_u32 {
        bench.hear(u64::from(packet) * 20 * MS, &rtp(5, 111, packet as u16, packet * 960));
    }
    let report = bench.stream(6_000 * MS);
    assert_eq!((report.payload_type, report.clock_rate), (111, Some(48_000)));
    assert_eq!((report.received, report.lost()), (300, 0));
    assert!(report.jitter < Duration::from_micros(1), "{:?}", report.jitter);
}

#[test]
fn sources_beyond_the_bound_are_counted_and_push_nobody_out() {
    let mut bench = Bench::new();
    let speak = |bench: &mut Bench, at: u64, number: u16| {
        for ssrc in 0..MOST_STREAMS as u32 {
            bench.hear(at, &rtp(ssrc, 0, number, u32::from(number) * 160));
        }
    };
    for number in 0..50 {
        speak(&mut bench, u64::from(number) * 20 * MS, number);
        for noise in 0..20 {
            let ssrc = 1_000 + u32::from(number) * 20 + noise;
            bench.hear(u64::from(number) * 20 * MS, &rtp(ssrc, 0, 1, 1));
        }
    }
    let at = 1_000 * MS;
    let names = |bench: &Bench, at| bench.streams(at).iter().map(|it| it.ssrc).collect::<Vec<_>>();
    assert_eq!(names(&bench, at), (0..MOST_STREAMS as u32).collect::<Vec<_>>());
    let [leg, _] = bench.media.summary(bench.start + Duration::from_nanos(at));
    assert_eq!((leg.unmeasured, leg.expected, leg.received), (1_000, 800, 800));
    assert_eq!(leg.kinds[0].packets, 1_800);

    // All but the third fall silent: who comes takes the place of one of them, and its sum stays.
    for number in 50..600_u16 {
        bench.hear(u64::from(number) * 20 * MS, &rtp(3, 0, number, u32::from(number) * 160));
    }
    let at = 600 * 20 * MS;
    for number in 0..3 {
        bench.hear(at, &rtp(7_777, 0, number, 0));
    }
    let names = names(&bench, at);
    assert!(names.contains(&3) && names.contains(&7_777) && names.len() == MOST_STREAMS);
    let [leg, _] = bench.media.summary(bench.start + Duration::from_nanos(at));
    assert_eq!((leg.streams, leg.received), (MOST_STREAMS as u32 + 1, 800 + 550 + 3));
    assert_eq!(leg.lost(), 0);
}

#[test]
fn what_goes_by_unheard_is_neither_lost_nor_a_gap() {
    let mut bench = Bench::new();
    let hear = |bench: &mut Bench, numbers: std::ops::Range<u64>| {
        for Packet { number, at, ticks } in row(numbers.end, |number| number < numbers.start) {
            bench.hear(at, &rtp(5, 0, number as u16, ticks as u32));
        }
    };
    hear(&mut bench, 0..100);
    bench.media.skip(Leg::Client);
    hear(&mut bench, 700..800);
    let report = bench.stream(800 * 20 * MS);
    assert_eq!((report.expected, report.received, report.freezes), (200, 200, 0));
    assert_eq!((report.jitter, report.longest_gap), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn payload_that_is_no_media_is_named() {
    let mut bench = Bench::new();
    let summary = |bench: &Bench| bench.media.summary(bench.start)[Leg::Client as usize];
    assert_eq!(summary(&bench).nature(), None);
    for _ in 0..3 {
        bench.hear(0, b"\x17\xFE\xFD of a data channel");
    }
    bench.hear(0, &rtp(1, 0, 0, 0));
    let summary = summary(&bench);
    assert_eq!(summary.nature(), Some("dtls"));
    assert_eq!((summary.streams, summary.received), (0, 0), "one packet proves no stream");
}

#[test]
fn the_tally_grows_by_what_streams_grow() {
    let mut bench = Bench::new();
    let mut tally = MediaTally::default();
    let mut at = 0;
    for number in [5, 6, 9, 8, 8, 9_000, 9_001, 4, 9_002, 9_010] {
        at += 20 * MS;
        let payload = rtp(1, 0, number, 0);
        let heard = bench.hear(at, &payload);
        tally.add(Leg::Client, heard, payload.len());
    }
    let report = bench.stream(at);
    assert_eq!((tally.expected[0], tally.received[0]), (report.expected, report.received));
    assert_eq!(tally.kinds[0][0].packets, 10);
}
