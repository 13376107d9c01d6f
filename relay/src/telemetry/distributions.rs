//! How allocations, media and turns of a worker are spread: a histogram for each.
//!
//! An allocation is added when it ends, so that each counts once and alone; what goes on right
//! now is told by counters.

use std::time::Duration;

use proto::media::{Leg, MediaReport};
use proto::turn::tally::{Flow, Usage};

use super::histogram::{Histogram, Scale};

/// Milliseconds: from an allocation that was never used to a working day.
const LIFETIME: Scale = Scale {
    bounds: &[
        1_000, 5_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_200_000, 1_800_000,
        3_600_000, 7_200_000, 14_400_000, 28_800_000,
    ],
    per_unit: 1_000,
};

/// Bytes a second: keep-alives, a voice of 8 to 80 kbit/s, video, screens, a link.
const THROUGHPUT: Scale = Scale {
    bounds: &[
        100,
        1_000,
        2_500,
        5_000,
        10_000,
        20_000,
        40_000,
        80_000,
        160_000,
        320_000,
        640_000,
        1_250_000,
        12_500_000,
        125_000_000,
    ],
    per_unit: 1,
};

/// Millionths: what is heard, what is concealed, what nobody understands.
const LOSS: Scale = Scale {
    bounds: &[
        0, 1_000, 2_500, 5_000, 10_000, 20_000, 30_000, 50_000, 100_000, 200_000, 300_000, 500_000,
        1_000_000,
    ],
    per_unit: 1_000_000,
};

/// Microseconds: from a quiet network to a buffer that runs empty.
const JITTER: Scale = Scale {
    bounds: &[
        500, 1_000, 2_500, 5_000, 10_000, 15_000, 20_000, 30_000, 40_000, 60_000, 100_000, 200_000,
        500_000,
    ],
    per_unit: 1_000_000,
};

/// Nanoseconds: a packet costs a few thousand.
const TURN: Scale = Scale {
    bounds: &[
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        100_000_000,
        1_000_000_000,
    ],
    per_unit: 1_000_000_000,
};

/// Microseconds: a round trip or several, to a client that is near or far.
const HANDSHAKE: Scale = Scale {
    bounds: &[
        1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 150_000, 250_000, 400_000, 600_000,
        1_000_000, 2_500_000, 5_000_000, 10_000_000,
    ],
    per_unit: 1_000_000,
};

/// Datagrams.
const BATCH: Scale =
    Scale { bounds: &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096], per_unit: 1 };

/// A distribution has a name and, for some, a direction or a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// What it is called outside.
    pub(super) name: &'static str,
    /// What is told apart.
    pub(super) label: Option<(&'static str, &'static str)>,
    /// What its values mean.
    pub(super) scale: &'static Scale,
}

/// All distributions of a worker, in the order of [`SHOWN`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distributions(pub(super) [Histogram; SHOWN.len()]);

/// Every distribution. Those of a pair come one behind the other.
pub(super) const SHOWN: [Shown; 12] = {
    const fn of(name: &'static str, scale: &'static Scale) -> Shown {
        Shown { name, label: None, scale }
    }
    const fn with(shown: Shown, label: (&'static str, &'static str)) -> Shown {
        Shown { label: Some(label), ..shown }
    }
    let throughput = of("av_edge_relay_allocation_throughput_bytes_per_second", &THROUGHPUT);
    let loss = of("av_edge_relay_rtp_loss_ratio", &LOSS);
    let handshake = of("av_edge_relay_tls_handshake_seconds", &HANDSHAKE);
    let jitter = of("av_edge_relay_rtp_jitter_seconds", &JITTER);
    [
        of("av_edge_relay_allocation_lifetime_seconds", &LIFETIME),
        with(throughput, ("direction", "to_peer")),
        with(throughput, ("direction", "to_client")),
        with(loss, ("leg", "client")),
        with(loss, ("leg", "peer")),
        with(jitter, ("leg", "client")),
        with(jitter, ("leg", "peer")),
        of("av_edge_relay_turn_seconds", &TURN),
        of("av_edge_relay_batch_datagrams", &BATCH),
        of("av_edge_relay_allocation_handshake_seconds", &HANDSHAKE),
        with(handshake, ("transport", "tls")),
        with(handshake, ("transport", "dtls")),
    ]
};

/// Places in [`SHOWN`].
const LIFETIMES: usize = 0;
const THROUGHPUTS: usize = 1;
const LOSSES: usize = 3;
const JITTERS: usize = 5;
const TURNS: usize = 7;
const BATCHES: usize = 8;
const ALLOCATIONS: usize = 9;
const TLS: usize = 10;
const DTLS: usize = 11;

impl Distributions {
    /// An allocation ended. What carried nothing one way says nothing about it.
    pub(crate) fn closed(&mut self, lived: Duration, usage: &Usage, media: Option<&MediaReport>) {
        let ms = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX);
        self.add(LIFETIMES, ms);
        for (place, Flow { packets, bytes }) in
            [usage.to_peer, usage.to_client].into_iter().enumerate()
        {
            if packets > 0 {
                self.add(THROUGHPUTS + place, bytes.saturating_mul(1_000) / ms.max(1));
            }
        }
        let legs = media.into_iter().flat_map(|media| Leg::BOTH.into_iter().zip(&media.legs));
        for (leg, heard) in legs {
            let summary = &heard.summary;
            let lost = summary.lost().saturating_mul(1_000_000);
            if let Some(loss) = lost.checked_div(summary.expected) {
                self.add(LOSSES + leg as usize, loss);
                self.add(JITTERS + leg as usize, microseconds(summary.mean_jitter));
            }
        }
    }

    /// A client that was challenged has its allocation after so long.
    pub(crate) fn opened(&mut self, waited: Duration) {
        self.add(ALLOCATIONS, microseconds(waited));
    }

    /// Handshakes of TLS and of DTLS took so long.
    pub(crate) fn shook_hands(
        &mut self,
        tls: impl Iterator<Item = Duration>,
        dtls: impl Iterator<Item = Duration>,
    ) {
        tls.for_each(|took| self.add(TLS, microseconds(took)));
        dtls.for_each(|took| self.add(DTLS, microseconds(took)));
    }

    /// A turn that brought so many datagrams took so long.
    pub(crate) fn turn(&mut self, datagrams: u64, took: Duration) {
        self.add(TURNS, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.add(BATCHES, datagrams);
    }

    fn add(&mut self, place: usize, value: u64) {
        self.0[place].add(SHOWN[place].scale, value);
    }
}

fn microseconds(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proto::media::{LegReport, LegSummary};

    use super::*;

    fn counts(of: &Distributions) -> [u64; SHOWN.len()] {
        of.0.each_ref().map(Histogram::count)
    }

    #[test]
    fn an_allocation_counts_where_it_carried_something() {
        let mut all = Distributions::default();
        let flow = |bytes| Flow { packets: 10, bytes };
        let silent = Usage::default();
        all.closed(Duration::from_secs(10), &silent, None);
        assert_eq!(counts(&all), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let heard = LegSummary {
            expected: 1_000,
            received: 980,
            mean_jitter: Duration::from_millis(12),
            ..LegSummary::default()
        };
        let heard = LegReport { summary: heard, streams: vec![] };
        let media = MediaReport { legs: [LegReport::default(), heard] };
        let usage = Usage { to_client: flow(80_000), ..silent };
        all.closed(Duration::from_secs(10), &usage, Some(&media));
        assert_eq!(counts(&all), [2, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!((all.0[2].sum, all.0[4].sum, all.0[6].sum), (8_000, 20_000, 12_000));
        all.turn(3, Duration::from_micros(40));
        assert_eq!(counts(&all), [2, 0, 1, 0, 1, 0, 1, 1, 1, 0, 0, 0]);
        all.opened(Duration::from_millis(30));
        let handshake = || std::iter::once(Duration::from_millis(80));
        all.shook_hands(handshake(), handshake().chain(handshake()));
        assert_eq!(counts(&all), [2, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 2]);
        assert_eq!((all.0[9].sum, all.0[11].sum), (30_000, 160_000));
    }

    #[test]
    fn bounds_rise_and_fit() {
        for shown in SHOWN {
            let bounds = shown.scale.bounds;
            assert!(bounds.len() <= super::super::histogram::BOUNDS, "{}", shown.name);
            assert!(bounds.is_sorted_by(|one, other| one < other), "{}", shown.name);
        }
        for (place, label) in
            [(THROUGHPUTS, "to_peer"), (LOSSES, "client"), (JITTERS, "client"), (TLS, "tls")]
        {
            assert_eq!(SHOWN[place].label.map(|(_, value)| value), Some(label));
            assert_eq!(SHOWN[place].name, SHOWN[place + 1].name);
        }
        assert!(SHOWN[ALLOCATIONS].name.contains("allocation_handshake"));
        assert_eq!(SHOWN[DTLS].label, Some(("transport", "dtls")));
        assert!(SHOWN[TURNS].name.contains("turn") && SHOWN[BATCHES].name.contains("batch"));
    }
}
