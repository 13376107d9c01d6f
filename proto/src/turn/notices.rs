//! What befell clients, told to who follows: refusals one by one, drops by number.
//!
//! Strangers can provoke all of this, so its memory is fixed, and nothing here is allocated after
//! the start. A refusal costs an answer anyway and waits in a short queue. A drop only adds to a
//! counter that stands at a place of its own; drops that fall on the place of others are lost to
//! the followers ([`Notices::missed`] says how many), unless they are of an allocation, which are
//! told exactly as long as the queue has room. The tally counts all of them in any case.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::addr::{ClientAddr, FiveTuple, PeerAddr, RelayId};
use crate::policy::Ledger;
use crate::reject::{DropReason, Why};
use crate::turn::server::Server;
use crate::turn::tally::Procedure;

/// Notices that wait for the shell at a time.
const QUEUE: usize = 64;

/// Places of drops; a bit of a word each.
const PLACES: usize = 64;

/// Something that befell a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whom.
    pub party: Party,
    /// What.
    pub what: Occurrence,
    /// How often.
    pub count: u32,
}

/// Whom a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Who sent from there; perhaps a forged address.
    Client(FiveTuple),
    /// The client of a relayed address, to whom a peer sent.
    Relay {
        /// The relayed address.
        id: RelayId,
        /// The peer; of several, the last.
        peer: PeerAddr,
    },
}

/// What befell somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// A request was refused.
    Refused {
        /// Why.
        why: Why,
        /// What was asked for.
        procedure: Procedure,
        /// What the client heard.
        code: u16,
        /// Whether the request was authenticated.
        proven: bool,
        /// The peer it was about.
        peer: Option<SocketAddr>,
    },
    /// Packets were dropped.
    Dropped(DropReason),
}

impl Notice {
    /// Whether nobody but who has the allocation at that address can have provoked it.
    pub fn is_proven(&self) -> bool {
        match (self.party, self.what) {
            (Party::Relay { .. }, _) => true,
            (Party::Client(_), Occurrence::Refused { proven, .. }) => proven,
            (Party::Client(_), Occurrence::Dropped(reason)) => reason.befalls_allocations_alone(),
        }
    }
}

/// What the shell has not taken yet.
#[derive(Debug)]
pub(super) struct Notices {
    queue: VecDeque<Notice>,
    drops: Box<[Option<Drops>; PLACES]>,
    /// A bit for each place that is taken.
    taken: u64,
    missed: u64,
}

/// Packets of one party that were dropped for one reason.
#[derive(Clone, Copy, Debug)]
struct Drops {
    party: Party,
    reason: DropReason,
    count: u32,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            queue: VecDeque::with_capacity(QUEUE),
            drops: Box::new([None; PLACES]),
            taken: 0,
            missed: 0,
        }
    }
}

impl Notices {
    /// A refusal, or drops that give way.
    pub(super) fn tell(&mut self, notice: Notice) {
        if self.queue.len() < QUEUE {
            self.queue.push_back(notice);
        } else {
            self.missed += u64::from(notice.count);
        }
    }

    /// A packet that was dropped. In a flood of strangers every place is soon taken, and the rest
    /// costs a comparison.
    #[inline]
    pub(super) fn dropped(&mut self, party: Party, reason: DropReason) {
        let precious = matches!(party, Party::Relay { .. }) || reason.befalls_allocations_alone();
        if self.taken == u64::MAX && !precious {
            self.missed += 1;
        } else {
            self.count(party, reason, precious);
        }
    }

    #[cold]
    fn count(&mut self, party: Party, reason: DropReason, precious: bool) {
        let place = place_of(party, reason);
        let before = match &mut self.drops[place] {
            Some(drops) if drops.are_of(party, reason) => {
                drops.count = drops.count.saturating_add(1);
                if matches!(party, Party::Relay { .. }) {
                    drops.party = party;
                }
                return;
            }
            Some(_) if !precious => {
                self.missed += 1;
                return;
            }
            drops => drops.replace(Drops { party, reason, count: 1 }),
        };
        self.taken |= 1 << place;
        if let Some(before) = before {
            self.tell(before.into());
        }
    }

    /// The drops at the next place that is taken.
    fn take_drops(&mut self) -> Option<Notice> {
        let place = self.taken.trailing_zeros() as usize;
        let drops = self.drops.get_mut(place)?.take()?;
        self.taken &= !(1 << place);
        Some(drops.into())
    }
}

impl Drops {
    fn are_of(&self, party: Party, reason: DropReason) -> bool {
        self.reason == reason
            && match (self.party, party) {
                (Party::Client(own), Party::Client(other)) => own == other,
                (Party::Relay { id: own, .. }, Party::Relay { id: other, .. }) => own == other,
                (Party::Client(_), Party::Relay { .. })
                | (Party::Relay { .. }, Party::Client(_)) => false,
            }
    }
}

impl From<Drops> for Notice {
    fn from(Drops { party, reason, count }: Drops) -> Self {
        Self { party, what: Occurrence::Dropped(reason), count }
    }
}

/// Where the drops of a party are counted. Who aims at the place of somebody else only hides drops
/// that would have been told of strangers.
#[expect(clippy::cast_possible_truncation, reason = "six bits are left")]
fn place_of(party: Party, reason: DropReason) -> usize {
    let who = match party {
        Party::Client(FiveTuple { client, .. }) => address(client) ^ u64::from(client.port()) << 32,
        Party::Relay { id, .. } => u64::from(id.allocation.slot) << 1 | id.family.index() as u64,
    };
    let mixed = (who ^ (reason.index() as u64) << 48).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (u64::BITS - PLACES.ilog2())) as usize
}

/// An address, folded.
#[expect(clippy::cast_possible_truncation, reason = "takes the integer's halves apart")]
fn address(client: ClientAddr) -> u64 {
    match client.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ ip.to_bits() as u64,
    }
}

impl<L: Ledger> Server<L> {
    /// The next refusal; poll it when actions are polled.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.queue.pop_front()
    }

    /// The next drops that were counted together; poll them now and then, until `None`.
    pub fn poll_drops(&mut self) -> Option<Notice> {
        self.notices.take_drops()
    }

    /// How many refusals and drops no notice told of, because they came too fast.
    pub fn missed_notices(&self) -> u64 {
        self.notices.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{AllocationId, Family, ListenerId};

    fn client(host: u8, port: u16) -> Party {
        let client = ClientAddr::new(SocketAddr::from(([192, 0, 2, host], port)));
        Party::Client(FiveTuple { listener: ListenerId(0), client })
    }

    fn relay(slot: u32, port: u16) -> Party {
        let allocation = AllocationId { slot, generation: 1 };
        let peer = PeerAddr::new(SocketAddr::from(([198, 51, 100, 1], port)));
        Party::Relay { id: RelayId { allocation, family: Family::V4 }, peer }
    }

    fn all(notices: &mut Notices) -> Vec<Notice> {
        let drops: Vec<_> = std::iter::from_fn(|| notices.take_drops()).collect();
        notices.queue.drain(..).chain(drops).collect()
    }

    #[test]
    fn drops_of_one_party_for_one_reason_are_one_notice_with_a_count() {
        let mut notices = Notices::default();
        for port in 0..1_000 {
            notices.dropped(client(1, 4_000), DropReason::Unrecognised);
            notices.dropped(relay(7, port), DropReason::NoPermission);
        }
        let told = all(&mut notices);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|notice| notice.count == 1_000), "{told:?}");
        let last = relay(7, 999);
        assert!(told.iter().any(|notice| notice.party == last), "of several peers, the last");
        assert!(all(&mut notices).is_empty(), "they are told once");
    }

    #[test]
    fn a_flood_hides_drops_of_strangers_but_none_of_an_allocation() {
        let mut notices = Notices::default();
        for host in 0..=255 {
            for port in 1_000..1_020 {
                notices.dropped(client(host, port), DropReason::Unrecognised);
            }
            notices.dropped(relay(7, 9), DropReason::NoPermission);
            notices.dropped(client(1, 77), DropReason::NoChannel);
        }
        let told = all(&mut notices);
        assert!(told.len() <= QUEUE + PLACES);
        let count = |reason| {
            let of = |notice: &&Notice| notice.what == Occurrence::Dropped(reason);
            told.iter().filter(of).map(|notice| u64::from(notice.count)).sum::<u64>()
        };
        assert_eq!(count(DropReason::NoPermission), 256);
        assert_eq!(count(DropReason::NoChannel), 256);
        assert_eq!(count(DropReason::Unrecognised) + notices.missed, 256 * 20);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut notices = Notices::default();
        for port in 0..100 {
            let what = Occurrence::Refused {
                why: Why::NoIntegrity,
                procedure: Procedure::Allocate,
                code: 401,
                proven: false,
                peer: None,
            };
            notices.tell(Notice { party: client(1, port), what, count: 1 });
        }
        assert_eq!(all(&mut notices).len(), QUEUE);
        assert_eq!(notices.missed, 36);
    }
}
