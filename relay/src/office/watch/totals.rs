//! The relay as a whole over ten minutes.

use std::collections::VecDeque;
use std::time::Duration;

use proto::reject::{DropReason, Why};
use proto::turn::Tally;
use proto::turn::tally::Usage;

use super::samples::MOST;
use super::table::loss;
use super::trouble::Host;
use crate::service::Counters;
use crate::sys::Lane;

/// Looks of a minute.
const MINUTE: usize = 12;

/// What five seconds of the relay were like.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::office) struct Total {
    /// When they ended, since the relay began.
    pub(in crate::office) at: Duration,
    /// Bytes a second, by direction.
    pub(in crate::office) rates: [f64; 2],
    /// Packets a second, both ways.
    pub(in crate::office) packets: f64,
    /// The share of packets that did not come, by leg.
    pub(in crate::office) loss: [Option<f64>; 2],
    /// Allocations at the end.
    pub(in crate::office) allocations: u64,
    /// Processor seconds of the workers in a second.
    pub(in crate::office) cpu: f64,
}

impl Total {
    /// Processor time of the workers for a packet, in seconds; `None` while so few packets pass that
    /// requests and timers would be most of it.
    pub(in crate::office) fn cpu_per_packet(&self) -> Option<f64> {
        (self.packets >= 20.0).then(|| self.cpu / self.packets)
    }
}

/// Counters at one look.
#[derive(Clone, Debug)]
struct Mark {
    at: Duration,
    usage: Usage,
    expected: [u64; 2],
    received: [u64; 2],
    refused: [u64; Why::COUNT],
    dropped: [u64; DropReason::COUNT],
    overflowed: u64,
    records_lost: u64,
    cpu: Vec<Duration>,
}

impl Mark {
    fn of(at: Duration, counters: &Counters, host: &Host) -> Self {
        let tally = &counters.sum;
        let media = Lane::Media as usize;
        let inlets = counters.workers.iter().flat_map(|worker| &worker.inlets);
        Self {
            at,
            usage: relayed(tally),
            expected: tally.media.expected,
            received: tally.media.received,
            refused: tally.rejected,
            dropped: tally.dropped,
            overflowed: inlets.map(|inlet| inlet.lost[media]).sum(),
            records_lost: host.records_lost,
            cpu: host.cpu(),
        }
    }
}

/// What was relayed so far, however it travelled.
pub(in crate::office) fn relayed(tally: &Tally) -> Usage {
    let mut sum = Usage::default();
    for usage in
        [tally.via_channel, tally.via_indication, tally.via_destination, tally.via_connection]
    {
        sum += usage;
    }
    sum
}

/// The last minutes, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Totals {
    totals: VecDeque<Total>,
    /// Those of the last minute, one before it included.
    marks: VecDeque<Mark>,
}

impl Totals {
    /// One more look.
    pub(super) fn take(&mut self, at: Duration, counters: &Counters, host: &Host) {
        let mark = Mark::of(at, counters, host);
        if let Some(before) = self.marks.back()
            && at > before.at
        {
            if self.totals.len() == MOST {
                self.totals.pop_front();
            }
            self.totals.push_back(total(before, &mark, counters.sum.allocations));
        }
        if self.marks.len() > MINUTE {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }

    /// Those behind a time.
    pub(super) fn behind(&self, time: Duration) -> Vec<Total> {
        self.totals.iter().filter(|total| total.at > time).copied().collect()
    }

    /// How often requests were refused for a reason during the last minute.
    pub(super) fn refused(&self, why: Why) -> u64 {
        self.lately(|mark| mark.refused[why.index()])
    }

    /// How often packets were dropped for a reason during the last minute.
    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.lately(|mark| mark.dropped[reason.index()])
    }

    /// Datagrams of media that came while the queue of a listener was full, during the last minute.
    pub(super) fn overflowed(&self) -> u64 {
        self.lately(|mark| mark.overflowed)
    }

    /// Usage records that were lost during the last minute.
    pub(super) fn records_lost(&self) -> u64 {
        self.lately(|mark| mark.records_lost)
    }

    fn lately(&self, count: impl Fn(&Mark) -> u64) -> u64 {
        let (first, last) = (self.marks.front(), self.marks.back());
        last.map_or(0, &count).saturating_sub(first.map_or(0, &count))
    }

    /// The share of its core that each worker used between the last two looks.
    pub(super) fn busy(&self) -> Vec<f64> {
        let mut last = self.marks.iter().rev();
        let (Some(last), Some(before)) = (last.next(), last.next()) else { return Vec::new() };
        let passed = last.at.saturating_sub(before.at).as_secs_f64();
        let spent = last.cpu.iter().zip(&before.cpu);
        spent.map(|(new, old)| new.saturating_sub(*old).as_secs_f64() / passed).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
fn total(before: &Mark, mark: &Mark, allocations: u64) -> Total {
    let passed = mark.at.saturating_sub(before.at).as_secs_f64();
    let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / passed;
    let (new, old) = (&mark.usage, &before.usage);
    let legs = [0, 1].map(|leg| {
        let since = |new: [u64; 2], old: [u64; 2]| new[leg].saturating_sub(old[leg]);
        loss(since(mark.expected, before.expected), since(mark.received, before.received))
    });
    let spent = |mark: &Mark| mark.cpu.iter().sum::<Duration>();
    Total {
        at: mark.at,
        rates: [
            rate(new.to_peer.bytes, old.to_peer.bytes),
            rate(new.to_client.bytes, old.to_client.bytes),
        ],
        packets: rate(new.to_peer.packets, old.to_peer.packets)
            + rate(new.to_client.packets, old.to_client.packets),
        loss: legs,
        allocations,
        cpu: spent(mark).saturating_sub(spent(before)).as_secs_f64() / passed,
    }
}
