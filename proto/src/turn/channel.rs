//! Channels and `ChannelBind` (RFC 8656 §12).

use std::time::{Duration, Instant};

use crate::addr::{Family, PeerAddr, RelayedAddr};
use crate::channel_data::ChannelNumber;
use crate::dialect::rfc;
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::request::Reply;
use crate::stun::Message;
use crate::stun::attribute::{Channel as WireChannel, XorPeerAddress};
use crate::turn::action::{Action, Change};
use crate::turn::brake::Turn;
use crate::turn::gate::Authenticated;
use crate::turn::permission::{PERMISSION_LIFETIME, same_family};
use crate::turn::server::Server;

/// How long a channel lives (RFC 8656 §12).
pub const CHANNEL_LIFETIME: Duration = rfc::RULES.route;

/// How payload between a client and one peer is told apart from other payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// By a channel number.
    Number(ChannelNumber),
    /// It stands bare: the peer is the active destination of MS-TURN.
    Bare,
}

/// A way to a peer. When it expires, number and peer are free at once: the five
/// minutes of RFC 8656 §12 bind clients only (CHAN-007).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    /// The peer, in local form if it is one of our own relayed addresses.
    pub(crate) peer: PeerAddr,
    /// Whether it is one.
    pub(crate) hairpin: bool,
    /// Whether the allocation relays TCP connections: then payload is a piece of a stream. It
    /// stands here because the packet path reads this line anyway.
    pub(crate) streams: bool,
    /// When the channel ends unless renewed.
    pub(crate) expires: Instant,
}

impl<L: Ledger> Server<L> {
    /// `ChannelBind`: binds or renews a channel and the permission of its peer.
    pub(super) fn channel_bind(
        &mut self,
        now: Now,
        request: &Authenticated<'_>,
        message: &Message<'_>,
    ) -> Result<(), Reject> {
        // §12.2: the allocation, then syntax (400), family (443), policy (403), collisions (400),
        // capacity (508), too many new peers (403).
        let id = self.owned(request)?;
        let WireChannel(number) = message.require()?;
        let number = self.number(number).ok_or(Why::ChannelNumber)?;
        let XorPeerAddress(peer) = message.require()?;
        if peer.port() == 0 {
            return Err(Why::BadAttribute.into());
        }
        let Some(allocation) = self.table.open(id) else { return Err(Why::NoAllocation.into()) };
        if allocation.relays_tcp {
            return Err(Why::TcpRelay.into());
        }
        same_family(Family::ALL.map(|family| allocation.relay(family).is_some()), peer)?;
        let asker = self.config.asker(allocation);
        let denied = |why| Reject::about(why, peer);
        let peer = self.config.peers.admit_port(&self.config.edge, asker, peer).map_err(denied)?;
        if peer.hairpin()
            && !self.ledger.is_live(RelayedAddr::new(peer.addr().socket()), allocation.carried())
        {
            return Err(denied(Why::PeerDenied));
        }
        let way = Way::Number(number);
        let bound = allocation.channel(way).map(|channel| channel.peer);
        let renewed = bound == Some(peer.addr());
        if !renewed && (bound.is_some() || allocation.way_to(peer.addr()).is_some()) {
            return Err(Why::ChannelConflict.into());
        }
        let limits = &self.config.limits;
        if !renewed && allocation.channels() >= limits.channels {
            return Err(Why::TooManyChannels.into());
        }
        let permitted = allocation.permission(peer.addr().ip()).is_some();
        if !permitted && allocation.permissions() >= limits.permissions {
            return Err(Why::TooManyPermissions.into());
        }
        let (hosts, address) = (usize::from(!permitted), (!renewed).then_some(peer.addr()));
        let turn = Turn { hosts, address, at: now.mono };
        allocation.owner.turns_to(turn, &mut self.ledger, limits).map_err(Why::from)?;
        allocation.bind(now.mono, way, peer);
        self.tally.channels += u64::from(!renewed);
        self.tally.permissions += u64::from(!permitted);
        self.arm_by(id, now.mono + PERMISSION_LIFETIME.min(CHANNEL_LIFETIME));
        let peer = peer.addr();
        self.actions.push_back(Action::Changed(Change::ChannelSet { id, number, peer }));
        self.succeed(&request.exchange, Reply::Done);
        Ok(())
    }

    /// A number that may be bound: of RFC 8656, or of RFC 5766 where that is configured.
    fn number(&self, number: u16) -> Option<ChannelNumber> {
        if self.config.compat.rfc5766_channels {
            ChannelNumber::new_rfc5766(number)
        } else {
            ChannelNumber::new(number)
        }
    }
}
