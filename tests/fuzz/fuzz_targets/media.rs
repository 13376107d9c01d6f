//! Any bytes as payload of an allocation, packet by packet: nothing is counted twice or forgotten,
//! and memory stays bounded.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use proto::media::{Kind, Leg, MOST_STREAMS, Media, MediaTally};

fuzz_target!(|data: &[u8]| {
    #[expect(clippy::disallowed_methods, reason = "an Instant comes from nowhere else")]
    let begin = Instant::now();
    let mut now = begin;
    let mut media = Media::new(begin);
    let mut tally = MediaTally::default();
    let mut packets = 0;
    let mut rest = data;
    // Each packet: how long after the last one (ms, doubled up), which leg, how long it is.
    while let [after, head, more @ ..] = rest {
        let len = usize::from(head & 0x7F).min(more.len());
        let (payload, behind) = more.split_at(len);
        rest = behind;
        now += Duration::from_millis(u64::from(*after).pow(2));
        let leg = if head & 0x80 == 0 { Leg::Client } else { Leg::Peer };
        let heard = media.hear(now, leg, payload);
        assert_eq!(heard.kind, Kind::of(payload));
        tally.add(leg, heard, len);
        packets += 1;
    }
    let report = media.report(now);
    let mut heard = 0;
    for (leg, it) in report.legs.iter().enumerate() {
        let sum = it.summary;
        assert!(it.streams.len() <= MOST_STREAMS);
        assert!(sum.received <= sum.expected);
        assert!(sum.expected <= tally.expected[leg] && sum.received <= tally.received[leg]);
        assert_eq!(sum.kinds, tally.kinds[leg]);
        heard += sum.kinds.iter().map(|flow| flow.packets).sum::<u64>();
        for stream in &it.streams {
            assert!(
                stream.received <= stream.expected && stream.mean_jitter <= stream.longest_jitter
            );
            assert!(stream.frozen >= Duration::from_millis(200) * stream.freezes);
        }
    }
    assert_eq!(heard, packets);
});
