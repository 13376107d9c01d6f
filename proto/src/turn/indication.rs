//! Send indications (RFC 8656 §11.2): payload from clients that bound no channel.
//!
//! Never answered and never authenticated; whatever is wrong ends in silence. DONT-FRAGMENT is
//! kept between IPv4 and IPv4 and for clients of a stream. Between datagrams of which one or both
//! are IPv6 it must be ignored (§13.1–13.3); for an IPv6 datagram out of a stream it can't be
//! kept, and the indication is dropped, as §11.2 asks.

use std::net::{IpAddr, SocketAddr};

use crate::addr::{Family, FiveTuple, PeerAddr, RelayId, RelayedAddr};
use crate::marks::Marks;
use crate::now::Now;
use crate::policy::Ledger;
use crate::policy::bandwidth::Direction;
use crate::reject::DropReason;
use crate::stun::attribute::XorPeerAddress;
use crate::stun::{AttributeType, Message};
use crate::turn::action::Verdict;
use crate::turn::brake::Turn;
use crate::turn::forward::{carry, span};
use crate::turn::gate::KNOWN;
use crate::turn::server::Server;
use crate::turn::table::Seat;

impl<L: Ledger> Server<L> {
    /// A Send indication of somebody who has an allocation.
    pub(super) fn send(
        &mut self,
        now: Now,
        from: (FiveTuple, Seat),
        marks: Marks,
        message: &Message<'_>,
    ) -> Verdict {
        match self.try_send(now, from, marks, message) {
            Ok(verdict) => verdict,
            Err(reason) => self.dropped(reason),
        }
    }

    fn try_send(
        &mut self,
        now: Now,
        from: (FiveTuple, Seat),
        marks: Marks,
        message: &Message<'_>,
    ) -> Result<Verdict, DropReason> {
        let Ok(XorPeerAddress(peer)) = message.require() else {
            return Err(DropReason::BadIndication);
        };
        let data = message.attribute(AttributeType::DATA).ok_or(DropReason::BadIndication)?;
        if !message.unknown_required(KNOWN).is_empty() {
            return Err(DropReason::BadIndication);
        }
        let mut marks = marks.carried().ok_or(DropReason::HopLimit)?;
        if message.has(AttributeType::DONT_FRAGMENT) {
            marks.dont_fragment = self.keeps_whole(from.0, Family::of(peer.ip()))?;
        }
        self.convey(now, from, marks, (peer, data.offset, data.value))
    }

    /// Payload that names its peer, and begins at this offset of its message, goes there, if that is
    /// permitted.
    pub(super) fn convey(
        &mut self,
        now: Now,
        (from, seat): (FiveTuple, Seat),
        marks: Marks,
        (peer, offset, bytes): (SocketAddr, usize, &[u8]),
    ) -> Result<Verdict, DropReason> {
        let len = bytes.len();
        let payload = span(offset, len);
        let mapped = matches!(peer.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        if mapped || peer.port() == 0 {
            return Err(DropReason::PeerDenied);
        }
        let peer = PeerAddr::new(peer);
        if seat.arriving {
            self.arrive(from);
        }
        let (id, allocation) = self.table.open_at(seat).ok_or(DropReason::NoAllocation)?;
        let in_chunks = allocation.relays_tcp && allocation.dialect.rules().chunks;
        if allocation.relays_tcp && !in_chunks {
            return Err(DropReason::TcpRelay);
        }
        if allocation.relay(peer.family()).is_none() {
            return Err(DropReason::PeerFamily);
        }
        let (peer, _) = self.config.edge.place(peer);
        let permission = allocation.permission(peer.ip()).ok_or(DropReason::NoPermission)?;
        let asker = self.config.asker(allocation);
        if !self.config.peers.opens(&self.config.edge, asker, peer, permission.reach)
            || permission.hairpin()
                && !self.ledger.is_live(RelayedAddr::new(peer.socket()), allocation.carried())
        {
            return Err(DropReason::PeerDenied);
        }
        // A channel's peer was counted when it was bound.
        if allocation.way_to(peer).is_none() {
            let turn = Turn { hosts: 0, address: Some(peer), at: now.mono };
            allocation.owner.turns_to(turn, &mut self.ledger, &self.config.limits)?;
        }
        if in_chunks {
            return self.convey_chunk(id, peer, payload);
        }
        let shared = (&mut self.trunk, &mut self.tally.media);
        carry(allocation, shared, now, Direction::ToPeer, bytes)?;
        allocation.usage.to_peer.add(len);
        self.tally.via_indication.to_peer.add(len);
        if let Some(listener) = self.listeners.get_mut(from.listener.index()) {
            listener.relayed.to_peer.add(len);
        }
        let via = RelayId { allocation: id, family: peer.family() };
        Ok(Verdict::ToPeer { via, peer, marks, payload })
    }

    /// Whether DONT-FRAGMENT toward a peer of this family means something: then DF is set.
    fn keeps_whole(&self, from: FiveTuple, peer: Family) -> Result<bool, DropReason> {
        let stream = self.transport(from).is_stream();
        match (peer, from.client.family()) {
            (Family::V4, Family::V4) => Ok(true),
            (Family::V4, Family::V6) => Ok(stream),
            (Family::V6, _) if stream => Err(DropReason::DontFragment),
            (Family::V6, _) => Ok(false),
        }
    }
}
