//! Send indications (RFC 8656 §11.2): payload from clients that bound no channel.
//!
//! Never answered and never authenticated; whatever is wrong ends in silence. DONT-FRAGMENT can't
//! be promised for a single datagram, so an indication that demands it is dropped, as §11.2 asks.

use std::net::IpAddr;

use crate::addr::{FiveTuple, PeerAddr, RelayId, RelayedAddr};
use crate::policy::Ledger;
use crate::reject::DropReason;
use crate::stun::attribute::XorPeerAddress;
use crate::stun::{AttributeType, Message};
use crate::turn::action::Verdict;
use crate::turn::forward::span;
use crate::turn::gate::KNOWN;
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// A Send indication.
    pub(super) fn send(&mut self, from: FiveTuple, message: &Message<'_>) -> Verdict {
        match self.try_send(from, message) {
            Ok(verdict) => verdict,
            Err(reason) => self.dropped(reason),
        }
    }

    fn try_send(&mut self, from: FiveTuple, message: &Message<'_>) -> Result<Verdict, DropReason> {
        let Ok(XorPeerAddress(peer)) = message.require() else {
            return Err(DropReason::BadIndication);
        };
        let data = message.attribute(AttributeType::DATA).ok_or(DropReason::BadIndication)?;
        if !message.unknown_required(KNOWN).is_empty() {
            return Err(DropReason::BadIndication);
        }
        if message.has(AttributeType::DONT_FRAGMENT) {
            return Err(DropReason::DontFragment);
        }
        let mapped = matches!(peer.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        if mapped || peer.port() == 0 {
            return Err(DropReason::PeerDenied);
        }
        let peer = PeerAddr::new(peer);
        let (id, allocation) = self.table.open_of(from).ok_or(DropReason::NoAllocation)?;
        if allocation.relay(peer.family()).is_none() {
            return Err(DropReason::PeerFamily);
        }
        let peer = self.config.edge.localise(peer).map_or(peer, |own| PeerAddr::new(own.socket()));
        let permission = allocation.permission(peer.ip()).ok_or(DropReason::NoPermission)?;
        if permission.hairpin && !self.ledger.is_live(RelayedAddr::new(peer.socket())) {
            return Err(DropReason::PeerDenied);
        }
        let len = data.value.len();
        allocation.usage.to_peer.add(len);
        self.tally.via_indication.to_peer.add(len);
        if let Some(listener) = self.listeners.get_mut(from.listener.index()) {
            listener.relayed.to_peer.add(len);
        }
        let via = RelayId { allocation: id, family: peer.family() };
        Ok(Verdict::ToPeer { via, peer, payload: span(data.offset, len) })
    }
}
