//! The packet path: payload in, verdict out.
//!
//! From a client one hash finds the allocation; from a peer the relay's id does. Nothing here
//! allocates, compares times or queues. Peers on our own relay addresses (two clients of one
//! relay) carry a mark, and only marked packets ask the ledger whether the port is still alive.

use crate::addr::{AllocationId, FiveTuple, PeerAddr, RelayId, RelayedAddr, Transport};
use crate::channel_data::ChannelData;
use crate::dialect::{Dialect, Wrap};
use crate::marks::Datagram;
use crate::media::{Leg, MediaTally};
use crate::now::Now;
use crate::policy::bandwidth::{Direction, Trunk};
use crate::policy::{Edge, Ledger};
use crate::reject::DropReason;
use crate::turn::action::{Span, Verdict};
use crate::turn::allocation::Allocation;
use crate::turn::channel::Way;
use crate::turn::server::Server;

/// The most a UDP datagram carries over IPv4 and over IPv6 without jumbograms.
const DATAGRAM_MAX: [usize; 2] = [65_507, 65_527];

/// What every transport carries, so that nobody is asked.
const ALWAYS_FITS: usize = DATAGRAM_MAX[0];

/// Bytes ChannelData adds.
const CHANNEL_OVERHEAD: usize = 4;

impl<L: Ledger> Server<L> {
    /// ChannelData from a client (RFC 8656 §12.6).
    #[inline]
    pub(super) fn uplink(&mut self, now: Now, from: FiveTuple, datagram: Datagram<'_>) -> Verdict {
        let Ok(data) = ChannelData::parse(datagram.bytes) else {
            return self.unbound(now, from, datagram, DropReason::MalformedChannelData);
        };
        let Some(marks) = datagram.marks.carried() else {
            return self.dropped(DropReason::HopLimit);
        };
        let Some(seat) = self.table.seat(from) else {
            return self.dropped(DropReason::NoAllocation);
        };
        if seat.arriving {
            self.arrive(from);
        }
        let Some((id, allocation)) = self.table.open_at(seat) else {
            return self.dropped(DropReason::NoAllocation);
        };
        let Some(channel) = allocation.channel(Way::Number(data.number())) else {
            return self.unbound(now, from, datagram, DropReason::NoChannel);
        };
        let peer = channel.peer;
        if channel.hairpin
            && !self.ledger.is_live(RelayedAddr::new(peer.socket()), allocation.carried())
        {
            return self.dropped(DropReason::PeerDenied);
        }
        let len = data.payload().len();
        let shared = (&mut self.trunk, &mut self.tally.media);
        if let Err(reason) = carry(allocation, shared, now, Direction::ToPeer, data.payload()) {
            return self.dropped(reason);
        }
        allocation.usage.to_peer.add(len);
        self.tally.via_channel.to_peer.add(len);
        if let Some(listener) = self.listeners.get_mut(from.listener.index()) {
            listener.relayed.to_peer.add(len);
        }
        let via = RelayId { allocation: id, family: peer.family() };
        Verdict::ToPeer { via, peer, marks, payload: span(CHANNEL_OVERHEAD, len) }
    }

    /// What is no ChannelData after all: bare payload, or nothing.
    #[cold]
    fn unbound(
        &mut self,
        now: Now,
        from: FiveTuple,
        datagram: Datagram<'_>,
        reason: DropReason,
    ) -> Verdict {
        if self.config.microsoft && self.is_aimed(from) {
            return self.bare(now, from, datagram, reason);
        }
        self.dropped(reason)
    }

    /// Whether a client has an active destination.
    pub(super) fn is_aimed(&mut self, from: FiveTuple) -> bool {
        let found = self.table.open_of(from);
        found.is_some_and(|(_, allocation)| allocation.channel(Way::Bare).is_some())
    }

    /// Payload from a client of MS-TURN that goes as it is to the active destination (MST-9);
    /// dropped for this reason if there is none.
    #[inline]
    pub(super) fn bare(
        &mut self,
        now: Now,
        from: FiveTuple,
        datagram: Datagram<'_>,
        otherwise: DropReason,
    ) -> Verdict {
        let Some(marks) = datagram.marks.carried() else {
            return self.dropped(DropReason::HopLimit);
        };
        let Some((id, allocation)) = self.table.open_of(from) else {
            return self.dropped(otherwise);
        };
        let Some(channel) = allocation.channel(Way::Bare) else {
            return self.dropped(otherwise);
        };
        let (peer, streams) = (channel.peer, channel.streams);
        if channel.hairpin
            && !self.ledger.is_live(RelayedAddr::new(peer.socket()), allocation.carried())
        {
            return self.dropped(DropReason::PeerDenied);
        }
        let len = datagram.bytes.len();
        if streams {
            return self.bare_chunk(id, peer, len);
        }
        let shared = (&mut self.trunk, &mut self.tally.media);
        if let Err(reason) = carry(allocation, shared, now, Direction::ToPeer, datagram.bytes) {
            return self.dropped(reason);
        }
        allocation.usage.to_peer.add(len);
        self.tally.via_destination.to_peer.add(len);
        if let Some(listener) = self.listeners.get_mut(from.listener.index()) {
            listener.relayed.to_peer.add(len);
        }
        let via = RelayId { allocation: id, family: peer.family() };
        Verdict::ToPeer { via, peer, marks, payload: span(0, len) }
    }

    /// Payload for an active destination whose stream it is a piece of.
    #[cold]
    fn bare_chunk(&mut self, id: AllocationId, peer: PeerAddr, len: usize) -> Verdict {
        let conveyed = self.convey_chunk(id, peer, span(0, len));
        conveyed.unwrap_or_else(|reason| self.dropped(reason))
    }

    /// A datagram from a peer (RFC 8656 §11.3).
    #[inline]
    pub(super) fn downlink(
        &mut self,
        now: Now,
        at: RelayId,
        from: PeerAddr,
        datagram: Datagram<'_>,
    ) -> Verdict {
        let Some(allocation) = self.table.open(at.allocation) else {
            return self.dropped(DropReason::StaleRelay);
        };
        // The permissions of a family go with its relayed address, so this says both.
        let Some(permission) = allocation.permission(from.ip()) else {
            let closed = allocation.relay(at.family).is_none();
            return self.dropped(if closed {
                DropReason::StaleRelay
            } else {
                DropReason::NoPermission
            });
        };
        if permission.hairpin()
            && !self.ledger.is_live(RelayedAddr::new(from.socket()), allocation.carried())
        {
            return self.dropped(DropReason::PeerDenied);
        }
        let Some(marks) = datagram.marks.carried() else {
            return self.dropped(DropReason::HopLimit);
        };
        if allocation.away {
            return self.dropped(DropReason::ClientAway);
        }
        let (len, to) = (datagram.bytes.len(), allocation.client);
        let (way, dialect) = (allocation.way_to(from), allocation.dialect);
        // A peer that was bound was admitted with its port.
        if way.is_none() {
            let (asker, reach) = (self.config.asker(allocation), permission.reach);
            if !self.config.peers.opens(&self.config.edge, asker, from, reach) {
                return self.dropped(DropReason::PeerDenied);
            }
        }
        let overhead = match way {
            Some(Way::Number(_)) => CHANNEL_OVERHEAD,
            Some(Way::Bare) => 0,
            None => dialect.indication_overhead(from.family(), len),
        };
        if len + overhead > ALWAYS_FITS && !fits(&self.config.edge, to, dialect, len + overhead) {
            return self.dropped(DropReason::Oversize);
        }
        let shared = (&mut self.trunk, &mut self.tally.media);
        if let Err(reason) = carry(allocation, shared, now, Direction::ToClient, datagram.bytes) {
            return self.dropped(reason);
        }
        allocation.usage.to_client.add(len);
        if let Some(listener) = self.listeners.get_mut(to.listener.index()) {
            listener.relayed.to_client.add(len);
        }
        let wrap = match way {
            Some(Way::Number(number)) => {
                self.tally.via_channel.to_client.add(len);
                Wrap::Channel(number)
            }
            Some(Way::Bare) => {
                self.tally.via_destination.to_client.add(len);
                Wrap::Raw
            }
            None => {
                self.tally.via_indication.to_client.add(len);
                let from = self.config.edge.present(from);
                dialect.indication(from, self.random.any_transaction())
            }
        };
        Verdict::ToClient { to, wrap, marks, payload: span(0, len) }
    }

    /// Counts a packet that ends here.
    #[cold]
    pub(super) fn dropped(&mut self, reason: DropReason) -> Verdict {
        self.tally.dropped[reason.index()] += 1;
        Verdict::Dropped(reason)
    }
}

/// Lets payload go on if the limits of bandwidth do; counts it against them then, and hears what it
/// says about its media.
#[inline]
pub(super) fn carry(
    allocation: &mut Allocation,
    (trunk, heard): (&mut Trunk, &mut MediaTally),
    now: Now,
    direction: Direction,
    payload: &[u8],
) -> Result<(), DropReason> {
    if let Some(meter) = &mut allocation.meter {
        meter.admit(trunk, now.mono, direction, payload.len())?;
    }
    if let Some(media) = allocation.listen() {
        let leg = match direction {
            Direction::ToPeer => Leg::Client,
            Direction::ToClient => Leg::Peer,
        };
        heard.add(leg, media.hear(now.mono, leg, payload), payload.len());
    }
    Ok(())
}

/// Whether a message of so many bytes reaches a client by its transport.
#[cold]
fn fits(edge: &Edge, to: FiveTuple, dialect: Dialect, bytes: usize) -> bool {
    let most = match edge.listener(to.listener).map(|listener| listener.transport) {
        Some(Transport::Tcp | Transport::Tls) => dialect.rules().longest_on_stream,
        Some(Transport::Udp | Transport::Dtls) | None => DATAGRAM_MAX[to.client.family().index()],
    };
    bytes <= most
}

/// A span; a datagram is shorter than 64 KiB.
#[expect(clippy::cast_possible_truncation, reason = "the shell's buffers are far below 4 GiB")]
pub(super) fn span(start: usize, len: usize) -> Span {
    Span { start: start as u32, len: len as u32 }
}
