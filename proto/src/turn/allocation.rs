//! An allocation: what one client holds (RFC 8656 §6).
//!
//! Deadlines are kept beside what they end. The packet path reads none of them: whatever is still
//! here is alive, because [`Allocation::expire`] runs before the first packet after a deadline.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::addr::{Carried, ConnectionId, Family, FiveTuple, PeerAddr, RelayedAddr};
use crate::auth::Identity;
use crate::dialect::Dialect;
use crate::media::Media;
use crate::policy::bandwidth::Meter;
use crate::policy::{AdmittedPeer, Lease, Reach, SealedPeers};
use crate::reject::Why;
use crate::stun::MessageKey;
use crate::turn::brake::Brake;
use crate::turn::channel::{Channel, Way};
use crate::turn::few::Few;
use crate::turn::mobility::Mobility;
use crate::turn::permission::Permission;
use crate::turn::session::Session;
use crate::turn::tally::Usage;

/// What one client holds.
///
/// In the order the packet path wants it: uplink reads one channel, downlink one permission and one
/// peer; the rest is asked for rarely. Most allocations carry nothing most of the time, and there may
/// be a hundred thousand: what not all of them need stands behind a pointer.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Allocation {
    /// What it carried so far.
    pub(crate) usage: Usage,
    /// What it may carry; `None` without a limit.
    pub(crate) meter: Option<Box<Meter>>,
    /// How well its media arrives; `None` if that is not measured, or nothing has come yet.
    pub(crate) media: Option<Box<Media>>,
    channels: Few<Way, Channel>,
    /// The client.
    pub(crate) client: FiveTuple,
    /// Whether its connection ended, and it may come back elsewhere.
    pub(crate) away: bool,
    /// What the client speaks.
    pub(crate) dialect: Dialect,
    /// Whether it relays TCP connections, and no datagrams.
    pub(crate) relays_tcp: bool,
    /// Whether it is measured how well its media arrives.
    pub(crate) measured: bool,
    permissions: Few<IpAddr, Permission>,
    /// The inverse of `channels`.
    ways: Few<PeerAddr, Way>,
    relays: [Option<Relay>; 2],
    /// Whose it is, and how it began.
    pub(crate) owner: Box<Owner>,
}

/// A relayed address and when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relay {
    /// Its parts, which take a third less than the whole.
    ip: IpAddr,
    port: u16,
    /// When it ends unless refreshed.
    pub(crate) expires: Instant,
}

impl Relay {
    pub(crate) fn new(addr: RelayedAddr, expires: Instant) -> Self {
        Self { ip: addr.ip(), port: addr.port(), expires }
    }

    /// Local form.
    pub(crate) fn addr(&self) -> RelayedAddr {
        RelayedAddr::new((self.ip, self.port).into())
    }
}

/// Whose an allocation is, and how it began.
#[derive(Debug)]
pub(crate) struct Owner {
    /// The user name every further request must bring (RFC 8656 §5).
    pub(crate) username: Box<[u8]>,
    /// The only peers its credential is good for; `None`: all that the configuration allows.
    pub(crate) peers: Option<Arc<SealedPeers>>,
    /// The access token in force; `None` for every other credential.
    pub(crate) bearer: Option<Box<Bearer>>,
    /// What the ledger charged.
    pub(crate) lease: Lease,
    /// Keyed hash of the Allocate that opened it, to know a retransmission.
    pub(crate) digest: u64,
    /// When it was opened.
    pub(crate) opened: Instant,
    /// The instant under which [`crate::turn::expiry::Expiry`] knows the allocation: no later
    /// than its first deadline.
    pub(crate) armed: Instant,
    /// When its credential has expired so long ago that nothing prolongs it any more. By the
    /// monotonic clock: a step of the wall clock ends no call.
    pub(crate) last_refresh: Option<Instant>,
    /// The token of the port reserved with it.
    pub(crate) token: Option<[u8; 8]>,
    /// The family of a dual request that could not be served, and why.
    pub(crate) missing: Option<(Family, Why)>,
    /// How many peers it turned to lately; `None` before the first one.
    pub(crate) brake: Option<Box<Brake>>,
    /// How many ICMP messages it heard of lately: the bucket of a [`crate::turn::Rate`].
    pub(crate) reports: Option<Instant>,
    /// How it follows its client, if that may be.
    pub(crate) mobility: Option<Box<Mobility>>,
    /// Its connections to peers.
    pub(crate) connections: BTreeSet<ConnectionId>,
    /// Packets that its routes carried beside the server.
    pub(crate) beside: u64,
    /// What is remembered between requests of MS-TURN.
    pub(crate) session: Option<Box<Session>>,
}

/// What an access token left behind.
#[derive(Debug)]
pub(crate) struct Bearer {
    /// Signs requests with the token, and without.
    pub(crate) key: MessageKey,
    /// What the token proved that opened the allocation.
    pub(crate) identity: Identity,
    /// When the newest token is over, by a clock that does not step.
    pub(crate) until: Instant,
}

impl Allocation {
    /// An allocation without permissions and channels (RFC 8656 §7.2).
    pub(crate) fn new(
        (client, dialect): (FiveTuple, Dialect),
        relays: [Option<Relay>; 2],
        owner: Owner,
    ) -> Self {
        let mut allocation = Self {
            usage: Usage::default(),
            meter: None,
            media: None,
            channels: Few::new(),
            client,
            away: false,
            dialect,
            relays_tcp: false,
            measured: false,
            permissions: Few::new(),
            ways: Few::new(),
            relays,
            owner: Box::new(owner),
        };
        let first = allocation.first_deadline();
        allocation.owner.armed = first.unwrap_or(allocation.owner.opened);
        allocation
    }

    /// What its relayed addresses relay.
    #[inline]
    pub(crate) fn carried(&self) -> Carried {
        if self.relays_tcp { Carried::Streams } else { Carried::Datagrams }
    }

    /// The channel of a number, or the active destination.
    #[inline]
    pub(crate) fn channel(&self, way: Way) -> Option<&Channel> {
        self.channels.find(way)
    }

    /// The way to exactly this peer.
    #[inline]
    pub(crate) fn way_to(&self, peer: PeerAddr) -> Option<Way> {
        self.ways.find(peer).copied()
    }

    /// The permission for a peer's host.
    #[inline]
    pub(crate) fn permission(&self, peer: IpAddr) -> Option<&Permission> {
        self.permissions.find(peer)
    }

    /// The relayed address of a family.
    #[inline]
    pub(crate) fn relay(&self, family: Family) -> Option<&Relay> {
        self.relays[family.index()].as_ref()
    }

    /// The relayed addresses, by family.
    pub(crate) fn relays(&self) -> impl Iterator<Item = (Family, &Relay)> {
        Family::ALL.into_iter().filter_map(|family| Some((family, self.relay(family)?)))
    }

    /// The five-tuples that find the allocation: where the client is, and where it arrives.
    pub(crate) fn seats(&self) -> impl Iterator<Item = FiveTuple> + use<> {
        let arriving = self.owner.mobility.as_ref().and_then(|mobility| mobility.arriving);
        (!self.away).then_some(self.client).into_iter().chain(arriving)
    }

    /// Where the client was seen last; `None` after its connection ended.
    pub(crate) fn newest(&self) -> Option<FiveTuple> {
        self.seats().last()
    }

    /// How many permissions are alive.
    pub(crate) fn permissions(&self) -> usize {
        self.permissions.len()
    }

    /// How many channels are bound.
    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Installs or renews a permission (RFC 8656 §9).
    pub(crate) fn permit(&mut self, now: Instant, peer: AdmittedPeer) {
        let expires = now + self.dialect.rules().permission;
        let permission = Permission { expires, reach: peer.reach() };
        self.permissions.set(peer.addr().ip(), permission);
    }

    /// Binds or renews a channel and its permission (RFC 8656 §12.2). Number and peer must not be
    /// bound otherwise; the active destination takes the place of the one before.
    pub(crate) fn bind(&mut self, now: Instant, way: Way, peer: AdmittedPeer) {
        let expires = now + self.dialect.rules().route;
        let streams = self.relays_tcp;
        let channel = Channel { peer: peer.addr(), hairpin: peer.hairpin(), streams, expires };
        if let Some(before) = self.channels.set(way, channel) {
            self.ways.remove(before.peer);
        }
        self.ways.set(peer.addr(), way);
        self.permit(now, peer);
    }

    /// Lets the relayed address of a family end at another time (RFC 8656 §8.2).
    pub(crate) fn prolong(&mut self, family: Family, until: Instant) {
        if let Some(relay) = &mut self.relays[family.index()] {
            relay.expires = until;
        }
    }

    /// Drops the relayed address of a family with its permissions and channels.
    pub(crate) fn forget(&mut self, family: Family) -> Option<RelayedAddr> {
        let relay = self.relays[family.index()].take()?;
        self.drop_permissions(|ip, _| Family::of(ip) == family);
        self.drop_channels(|channel| channel.peer.family() == family);
        Some(relay.addr())
    }

    /// Drops permissions and channels that are over; relayed addresses are the server's to close.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.drop_permissions(|_, permission| permission.expires <= now);
        self.drop_channels(|channel| channel.expires <= now);
    }

    /// The earliest deadline of everything in here; `None` without a relayed address.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        let relays = self.relays().map(|(_, relay)| relay.expires);
        let permissions = self.permissions.iter().map(|(_, permission)| permission.expires);
        let channels = self.channels.iter().map(|(_, channel)| channel.expires);
        relays.min().map(|first| permissions.chain(channels).fold(first, Instant::min))
    }

    /// Every permission.
    pub(crate) fn permits(&self) -> impl Iterator<Item = (IpAddr, &Permission)> {
        self.permissions.iter()
    }

    /// The hosts that are permitted, and whose they are.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (IpAddr, Reach)> {
        self.permissions.iter().map(|(ip, permission)| (ip, permission.reach))
    }

    /// Everything that is bound to a peer.
    pub(crate) fn bound(&self) -> impl Iterator<Item = (Way, &Channel)> {
        self.channels.iter()
    }

    /// The ways to peers.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (Way, PeerAddr)> {
        self.channels.iter().map(|(way, channel)| (way, channel.peer))
    }

    /// Drops the permissions of these hosts with their channels, and these ways.
    pub(crate) fn revoke(&mut self, hosts: &[IpAddr], ways: &[Way]) {
        self.drop_permissions(|ip, _| hosts.contains(&ip));
        let peers: Vec<_> =
            self.routes().filter(|(way, _)| ways.contains(way)).map(|(_, peer)| peer).collect();
        self.drop_channels(|channel| {
            hosts.contains(&channel.peer.ip()) || peers.contains(&channel.peer)
        });
    }

    fn drop_permissions(&mut self, over: impl Fn(IpAddr, &Permission) -> bool) {
        let gone: Vec<_> =
            self.permissions.iter().filter(|(ip, p)| over(*ip, p)).map(|(ip, _)| ip).collect();
        for ip in gone {
            self.permissions.remove(ip);
        }
    }

    fn drop_channels(&mut self, over: impl Fn(&Channel) -> bool) {
        let gone: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, channel)| over(channel))
            .map(|(way, channel)| (way, channel.peer))
            .collect();
        for (way, peer) in gone {
            self.channels.remove(way);
            self.ways.remove(peer);
        }
    }

    /// Panics unless both directions of the channels agree and every family is served.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        assert_eq!(self.channels.len(), self.ways.len(), "each channel has one peer");
        for (way, channel) in self.channels.iter() {
            assert_eq!(self.way_to(channel.peer), Some(way), "channels and peers agree");
            assert!(self.relay(channel.peer.family()).is_some(), "a channel needs its family");
        }
        for (ip, _) in self.permissions.iter() {
            assert!(self.relay(Family::of(ip)).is_some(), "a permission needs its family");
        }
        let first = self.first_deadline().expect("an allocation has a relayed address");
        assert!(self.owner.armed <= first, "armed no later than the first deadline");
    }
}
