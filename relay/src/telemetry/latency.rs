//! How long datagrams stay in the relay.
//!
//! Measured by batch, not by packet: from the moment a worker wakes until everything that came
//! with the batch has been handed to the kernel. Each datagram of the batch counts that time, so
//! the average is an upper bound; what waited in a socket's queue before is not seen.

use std::time::Duration;

use proto::turn::{Verdict, Wrap};

/// How a datagram travels between client and relay: what the original product measures apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guise {
    /// In a message of TURN, or as one.
    Turn,
    /// As it is, from or to an active destination.
    Data,
}

impl Guise {
    /// Every one, in order of its number.
    pub(crate) const ALL: [Self; 2] = [Self::Turn, Self::Data];

    /// What metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Data => "data",
        }
    }

    /// How the datagram came, or goes on, that was judged so.
    pub(crate) fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::ToClient { wrap: Wrap::Raw, .. } => Self::Data,
            Verdict::ToPeer { payload, .. } if payload.start == 0 => Self::Data,
            Verdict::ToClient { .. }
            | Verdict::ToPeer { .. }
            | Verdict::ToConnection { .. }
            | Verdict::Handled
            | Verdict::Leaves
            | Verdict::Dropped(_) => Self::Turn,
        }
    }
}

/// So many datagrams, by [`Guise`].
pub(crate) type Counts = [u64; Guise::ALL.len()];

/// The sums, and the worst so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    /// Datagrams received.
    pub(crate) datagrams: Counts,
    /// For each of them the time of its batch, in nanoseconds.
    pub(crate) nanoseconds: Counts,
    /// The longest time of a batch, in nanoseconds.
    pub(crate) longest: u64,
}

impl Latency {
    /// A batch of so many datagrams took so long.
    pub(crate) fn add(&mut self, datagrams: Counts, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for (guise, count) in datagrams.into_iter().enumerate() {
            self.datagrams[guise] += count;
            let spent = &mut self.nanoseconds[guise];
            *spent = spent.saturating_add(time.saturating_mul(count));
        }
        self.longest = self.longest.max(time);
    }
}

#[cfg(test)]
mod tests {
    use proto::addr::{AllocationId, ClientAddr, Family, FiveTuple, ListenerId, PeerAddr, RelayId};
    use proto::channel_data::ChannelNumber;
    use proto::marks::Marks;
    use proto::reject::DropReason;
    use proto::turn::Span;

    use super::*;

    #[test]
    fn ed_055_data_is_what_travels_as_it_is_and_all_else_is_turn() {
        let peer = PeerAddr::new("192.0.2.1:5".parse().unwrap());
        let client = ClientAddr::new("192.0.2.2:5".parse().unwrap());
        let to = FiveTuple { listener: ListenerId(0), client };
        let allocation = AllocationId { slot: 0, generation: 0 };
        let via = RelayId { allocation, family: Family::V4 };
        let marks = Marks::PLAIN;
        let up = |start| Verdict::ToPeer { via, peer, marks, payload: Span { start, len: 9 } };
        let span = Span { start: 0, len: 9 };
        let down = |wrap| Verdict::ToClient { to, wrap, marks, payload: span };
        let channel = Wrap::Channel(ChannelNumber::new(0x4000).unwrap());
        for (case, verdict, expected) in [
            ("bare, up", up(0), Guise::Data),
            ("ChannelData, up", up(4), Guise::Turn),
            ("bare, down", down(Wrap::Raw), Guise::Data),
            ("ChannelData, down", down(channel), Guise::Turn),
            ("a request", Verdict::Handled, Guise::Turn),
            ("nothing", Verdict::Dropped(DropReason::NoPermission), Guise::Turn),
        ] {
            assert_eq!(Guise::of(verdict), expected, "{case}");
        }
    }
}
