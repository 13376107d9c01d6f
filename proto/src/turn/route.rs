//! Routes: what a kernel may relay by itself, and what it says it has.
//!
//! A route is a channel, or the active destination of MS-TURN, whose peer is admitted and permitted now, between addresses of UDP, without
//! a limit of bandwidth. Followers ask for the routes of an allocation after each [`Change`] that
//! names it: so they need not know which of its parts a change touched, and cannot drift.
//!
//! [`Change`]: crate::turn::Change

use std::time::Instant;

use crate::addr::{AllocationId, FiveTuple, PeerAddr, RelayedAddr, Transport};
use crate::channel_data::ChannelNumber;
use crate::media::Leg;
use crate::policy::Ledger;
use crate::turn::action::{Action, Change};
use crate::turn::allocation::Allocation;
use crate::turn::channel::Way;
use crate::turn::server::Server;
use crate::turn::tally::Usage;

/// A pair of directions: client and channel on the one side, relayed address and peer on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The client, by its listener.
    pub client: FiveTuple,
    /// What dresses payload between listener and client; `None`: it stands bare, and is payload
    /// only where nobody could take it for a message.
    pub channel: Option<ChannelNumber>,
    /// What the peer sees, local form.
    pub relayed: RelayedAddr,
    /// The peer, in local form if it is one of our own relayed addresses.
    pub peer: PeerAddr,
    /// Whether it is one: then payload comes from there alone, and goes there only as long as the
    /// allocation of that address has a route back. It passes both.
    pub hairpin: bool,
    /// From then on nothing may pass, unless the route is told again.
    pub expires: Instant,
}

impl<L: Ledger> Server<L> {
    /// The routes of an allocation; none of one that ended.
    ///
    /// Limited allocations have none, because their packets are counted before they pass; nor has
    /// one whose packets are being looked at, or measured, if measuring comes first.
    pub fn routes(&self, id: AllocationId) -> impl Iterator<Item = Route> + '_ {
        let found = self.table.get(id).filter(|allocation| {
            let udp = self.transport(allocation.client) == Transport::Udp;
            let datagrams = udp && !allocation.away && !allocation.relays_tcp;
            let whole = self.config.measured.is_some_and(|it| it.whole);
            let heard = whole && allocation.media.is_some();
            datagrams && allocation.meter.is_none() && !self.is_tapped(id) && !heard
        });
        found.into_iter().flat_map(routes)
    }

    /// What was relayed beside the server by a route of an allocation, which may have ended
    /// meanwhile.
    pub fn carried(&mut self, id: AllocationId, route: &Route, usage: Usage) {
        match route.channel {
            Some(_) => self.tally.via_channel += usage,
            None => self.tally.via_destination += usage,
        }
        if let Some(listener) = self.listeners.get_mut(route.client.listener.index()) {
            listener.relayed += usage;
        }
        if let Some(allocation) = self.table.open(id) {
            allocation.usage += usage;
            let packets = usage.to_peer.packets + usage.to_client.packets;
            allocation.owner.beside += packets;
            for (leg, flow) in [(Leg::Client, usage.to_peer), (Leg::Peer, usage.to_client)] {
                if let Some(media) = allocation.media.as_mut().filter(|_| flow.packets > 0) {
                    media.skip(leg);
                }
            }
        }
    }

    /// Tells followers that the routes of an allocation may be others now.
    pub(super) fn routes_changed(&mut self, id: AllocationId) {
        self.actions.push_back(Action::Changed(Change::RoutesChanged { id }));
    }
}

/// The routes of an allocation that may have some.
fn routes(allocation: &Allocation) -> impl Iterator<Item = Route> + '_ {
    allocation.bound().filter_map(|(way, channel)| {
        let number = match way {
            Way::Number(number) => Some(number),
            Way::Bare => None,
        };
        let permission = allocation.permission(channel.peer.ip())?;
        let relay = allocation.relay(channel.peer.family())?;
        // A policy that changed may have left one of both.
        (channel.hairpin == permission.hairpin()).then_some(Route {
            client: allocation.client,
            channel: number,
            relayed: relay.addr,
            peer: channel.peer,
            hairpin: channel.hairpin,
            expires: channel.expires.min(permission.expires).min(relay.expires),
        })
    })
}
