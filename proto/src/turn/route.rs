//! Routes: what a kernel may relay by itself, and what it says it has.
//!
//! A route is a channel, or the active destination of MS-TURN, whose peer is admitted and permitted
//! now, between addresses of UDP, with no limit of bandwidth that is its worker's. Followers ask for
//! the routes of an allocation after each [`Change`] that names it: so they need not know which of
//! its parts a change touched, and cannot drift.
//!
//! [`Change`]: crate::turn::Change

use std::time::Instant;

use crate::addr::{AllocationId, FiveTuple, PeerAddr, RelayId, RelayedAddr, Transport};
use crate::channel_data::ChannelNumber;
use crate::media::Leg;
use crate::policy::Ledger;
use crate::policy::bandwidth::{Bound, Direction};
use crate::reject::DropReason;
use crate::turn::action::{Action, Change};
use crate::turn::allocation::Allocation;
use crate::turn::channel::Way;
use crate::turn::notices::{Notice, Occurrence, Party};
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
    /// Where the worker has a limit there are none, because all its packets are counted together; nor
    /// has one whose packets are being looked at, or measured, if measuring comes first.
    pub fn routes(&self, id: AllocationId) -> impl Iterator<Item = Route> + '_ {
        let found = self.table.get(id).filter(|allocation| {
            let udp = self.transport(allocation.client) == Transport::Udp;
            let datagrams = udp && !allocation.away && !allocation.relays_tcp;
            let whole = self.config.measured.is_some_and(|it| it.whole);
            let heard = whole && allocation.measured;
            let is_held = allocation.meter.is_none() || !self.trunk.is_limited();
            datagrams && !self.is_tapped(id) && !heard && is_held
        });
        found.into_iter().flat_map(routes)
    }

    /// The limits of an allocation, which whoever relays its routes must hold as well.
    pub fn bounds(&self, id: AllocationId) -> Vec<Bound> {
        let meter = self.table.get(id).and_then(|allocation| allocation.meter.as_ref());
        meter.map(|meter| meter.bounds(&self.trunk)).unwrap_or_default()
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
            if let Some(meter) = &mut allocation.meter {
                meter.passed([usage.to_peer, usage.to_client]);
            }
            for (leg, flow) in [(Leg::Client, usage.to_peer), (Leg::Peer, usage.to_client)] {
                if let Some(media) = allocation.media.as_mut().filter(|_| flow.packets > 0) {
                    media.skip(leg);
                }
            }
        }
    }

    /// What the server itself relayed of a limited allocation since this was asked last. Whoever holds
    /// the limit beside it asks often, and tells what it [carried](Self::carried) before.
    pub fn even(&mut self, now: Instant, id: AllocationId) -> Usage {
        let meter = self.table.open(id).and_then(|allocation| allocation.meter.as_mut());
        let admitted = meter.map(|meter| meter.even(&mut self.trunk, now));
        let [to_peer, to_client] = admitted.unwrap_or_default();
        Usage { to_peer, to_client }
    }

    /// Datagrams were dropped beside the server, for a limit of the allocation of this route.
    pub fn held_back(
        &mut self,
        now: Instant,
        (id, route): (AllocationId, &Route),
        (direction, reason): (Direction, DropReason),
        count: u64,
    ) {
        self.tally.dropped[reason.index()] += count;
        let party = match direction {
            Direction::ToPeer => Party::Client(route.client),
            Direction::ToClient => {
                let family = route.peer.family();
                Party::Relay { id: RelayId { allocation: id, family }, peer: route.peer }
            }
        };
        let told = u32::try_from(count).unwrap_or(u32::MAX);
        self.notices.tell(Notice { party, what: Occurrence::Dropped(reason), count: told });
        self.lost_by(route.client.listener, reason, count);
        if let Some(meter) = self.table.open(id).and_then(|it| it.meter.as_mut()) {
            meter.refused(now);
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
            relayed: relay.addr(),
            peer: channel.peer,
            hairpin: channel.hairpin,
            expires: channel.expires.min(permission.expires).min(relay.expires),
        })
    })
}
