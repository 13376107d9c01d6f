//! What the shadow predicts for clients of MS-TURN.
//!
//! Permissions come with Send and Set Active Destination and last as long as the allocation, which
//! lasts as long as it is refreshed or used. Relays of clients on streams are for streams; what
//! peers say there comes on connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::addr::{ConnectionId, Family, FiveTuple};
use proto::turn::Verdict;

use super::{Allocated, Asked, Dress, Intent, Number, Payload, Shadow, undressed};
use crate::ms::{LIFETIME, MsHeard, RELAYED};
use crate::site;

/// How long an allocation goes on by being used: over UDP and over TCP.
const USED: [Duration; 2] = [Duration::from_secs(600), Duration::from_secs(3_600)];
/// Longer than any world.
const ALWAYS: Duration = Duration::from_secs(1_000_000);
/// How far behind the highest a number may be.
const WINDOW: u32 = 64;

/// What happened to clients of MS-TURN: a simulation in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Payload that went on: as datagrams to peers, in chunks to peers, and to clients bare, and in
    /// Data Indications.
    pub delivered: [u64; 4],
    /// Sends that came again, or too late.
    pub replayed: u64,
    /// Allocations that followed their connection.
    pub moved: u64,
    /// Allocations that went on because they were in use.
    pub used: u64,
}

/// What is known of an allocation.
#[derive(Debug)]
pub(super) struct Session {
    connection: [u8; 20],
    /// Whether it relays streams.
    pub(super) streams: bool,
    destination: Option<SocketAddr>,
    /// The numbers that came.
    seen: BTreeSet<u32>,
    /// The Set Active Destination that was answered last.
    answered: Vec<u8>,
    /// Whether it carried anything to peers, and to its client, since its end came last.
    used: [bool; 2],
}

impl Session {
    fn is_fresh(&self, number: u32) -> bool {
        let highest = self.seen.last().copied().unwrap_or(0);
        number > highest || (highest - number < WINDOW && !self.seen.contains(&number))
    }
}

impl Allocated {
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        self.ms.as_ref()?.destination
    }

    /// How payload of a peer comes to the client, if that speaks MS-TURN.
    pub(super) fn ms_dress(&self, from: SocketAddr) -> Option<Dress> {
        let session = self.ms.as_ref()?;
        let bare = session.destination == Some(from);
        Some(if bare { Dress::Bare } else { Dress::MsIndication })
    }

    /// Puts off the end of what was used; how often.
    pub(super) fn prolong_by_use(&mut self, now: Instant) -> u64 {
        let Some(session) = &mut self.ms else { return 0 };
        let mut prolonged = 0;
        for (_, end) in self.relayed.values_mut() {
            while *end <= now {
                let [up, down] = std::mem::take(&mut session.used);
                if !(up || down && session.streams) {
                    break;
                }
                prolonged += 1;
                *end += USED[usize::from(session.streams)];
            }
        }
        prolonged
    }

    fn use_by(&mut self, direction: usize) {
        if let Some(session) = &mut self.ms {
            session.used[direction] = true;
        }
    }
}

impl Shadow {
    /// The relayed addresses of clients of MS-TURN, for streams or for datagrams.
    pub fn ms_relays(&self, streams: bool) -> Vec<SocketAddr> {
        let mine = self
            .allocations
            .values()
            .filter(|held| held.ms.as_ref().is_some_and(|session| session.streams == streams));
        mine.flat_map(|held| held.relayed.values()).map(|(relayed, _)| *relayed).collect()
    }

    /// Payload came to a client.
    pub(super) fn heard_by(&mut self, to: FiveTuple, dress: Dress) {
        if let Some(held) = self.allocations.get_mut(&to) {
            held.use_by(1);
        }
        match dress {
            Dress::Bare => self.ms.delivered[2] += 1,
            Dress::MsIndication => self.ms.delivered[3] += 1,
            Dress::Channel(_) | Dress::Indication => {}
        }
    }

    pub(super) fn judge_ms_uplink(
        &mut self,
        from: FiveTuple,
        payload: &Payload,
        wire: &[u8],
        verdict: Verdict,
    ) {
        let expected = match payload {
            Payload::MsSend(user, number, peer, bytes) => {
                self.admits_send(from, user, *number, *peer).then(|| (*peer, bytes.clone()))
            }
            Payload::Bare => self
                .allocations
                .get(&from)
                .and_then(|held| Some((held.destination()?, held.carried())))
                .filter(|(peer, carried)| self.admits_for(*carried, *peer))
                .map(|(peer, _)| (peer, wire.to_vec())),
            Payload::Send(..) | Payload::Channel(..) => unreachable!("not of this dialect"),
        };
        let part = |start: u32, len: u32| wire[start as usize..(start + len) as usize].to_vec();
        let actual = match verdict {
            Verdict::ToPeer { peer, payload, .. } => {
                self.ms.delivered[0] += 1;
                Some((peer.socket(), part(payload.start, payload.len)))
            }
            Verdict::ToConnection { connection, payload } => {
                self.ms.delivered[1] += 1;
                let peer = expected.as_ref().map(|(peer, _)| *peer);
                let ends = self.ends_of(from, connection, peer);
                Some((ends, part(payload.start, payload.len)))
            }
            Verdict::ToClient { .. } => panic!("what a client sends never goes to a client"),
            Verdict::Handled | Verdict::Leaves | Verdict::Dropped(_) => None,
        };
        assert_eq!(actual, expected, "uplink of {from:?}: {payload:?}");
        self.count(expected.is_some());
        if expected.is_some()
            && let Some(held) = self.allocations.get_mut(&from)
        {
            held.use_by(0);
        }
    }

    /// The peer at the other end of a connection: a new one leads from the relayed address of the
    /// client to the peer it spoke to.
    fn ends_of(
        &mut self,
        from: FiveTuple,
        connection: ConnectionId,
        peer: Option<SocketAddr>,
    ) -> SocketAddr {
        let relayed = self.allocations.get(&from).and_then(|held| held.relayed.values().next());
        let (relayed, _) = *relayed.expect("only allocations have connections");
        let peer = peer.expect("nothing goes to a connection that should not");
        let ends = *self.connections.entry(connection).or_insert((relayed, peer));
        assert_eq!(ends.0, relayed, "a connection of another allocation");
        ends.1
    }

    /// Whether a Send is relayed; permits its peer if so.
    fn admits_send(
        &mut self,
        from: FiveTuple,
        user: &str,
        (connection, number): Number,
        peer: SocketAddr,
    ) -> bool {
        let Some(held) = self.allocations.get_mut(&from) else { return false };
        let carried = held.carried();
        let Some(session) = &mut held.ms else { return false };
        if held.user != user || session.connection != connection {
            return false;
        }
        if !session.streams && !session.is_fresh(number) {
            self.ms.replayed += 1;
            return false;
        }
        session.seen.insert(number);
        let served = held.relayed.contains_key(&Family::of(peer.ip()));
        if !served || super::is_private(peer.ip()) {
            return false;
        }
        let admitted = self.admits_for(carried, peer);
        if admitted {
            self.permit(from, peer);
        }
        admitted
    }

    fn permit(&mut self, from: FiveTuple, peer: SocketAddr) {
        let Some(held) = self.allocations.get_mut(&from) else { return };
        let until = held.relayed.values().map(|(_, end)| *end).max();
        held.permitted.insert(peer.ip(), until.expect("it has an address") + ALWAYS);
    }

    /// A peer called a relayed address.
    pub(super) fn judge_call(
        &mut self,
        connection: Option<ConnectionId>,
        at: SocketAddr,
        from: SocketAddr,
    ) {
        let mut mine = self.allocations.values().filter(|held| {
            held.ms.is_some() && held.relayed.values().any(|(relayed, _)| *relayed == at)
        });
        let expected = mine.next().is_some_and(|held| held.permitted.contains_key(&from.ip()));
        assert_eq!(connection.is_some(), expected, "{from} calls {at}");
        if let Some(connection) = connection {
            self.connections.insert(connection, (at, from));
        }
    }

    /// Bytes of a peer came on its connection.
    pub(super) fn judge_chunk(&mut self, connection: ConnectionId, bytes: &[u8], verdict: Verdict) {
        let (at, from) = self.connections[&connection];
        let owner = self
            .allocations
            .iter()
            .find(|(_, held)| held.relayed.values().any(|(relayed, _)| *relayed == at));
        let expected = owner.and_then(|(to, held)| Some((*to, held.ms_dress(from)?)));
        let actual = match verdict {
            Verdict::ToClient { to, wrap, payload, .. } => {
                assert_eq!((payload.start, payload.len as usize), (0, bytes.len()), "all of it");
                Some((to, undressed(wrap, from)))
            }
            _ => None,
        };
        assert_eq!(actual, expected, "a chunk of {from} at {at}");
        let (to, dress) = expected.expect("an open connection has a client");
        self.heard_by(to, dress);
    }

    pub(super) fn judge_ms_reply(&mut self, now: Instant, to: FiveTuple, heard: &MsHeard) {
        let Some(asked) = self.requests.get(heard.transaction()).cloned() else {
            panic!("to nobody's request: {heard:02x?}")
        };
        let Some(code) = heard.code() else {
            self.succeeded += 1;
            return self.apply_ms(now, to, &asked, heard);
        };
        let Asked { user, intent } = &asked;
        let held = self.allocations.get(&to);
        let explained = match (code, intent) {
            (400..=441, Intent::Never) | (401 | 438 | 500, Intent::MsAllocate(_)) => true,
            (441, Intent::MsAllocate(connection)) => {
                let held = held.or_else(|| self.of_connection((*connection)?, to).map(|it| it.1));
                held.is_some_and(|held| held.user != *user)
            }
            (437, Intent::MsAim((connection, _), _)) => held
                .and_then(|held| held.ms.as_ref())
                .is_none_or(|session| session.connection != *connection),
            (441, Intent::MsAim(..)) => held.is_some_and(|held| held.user != *user),
            (500, Intent::MsAim(_, peer)) => held.is_some_and(|held| {
                !held.relayed.contains_key(&Family::of(peer.ip()))
                    || !self.admits_for(held.carried(), *peer)
            }),
            _ => false,
        };
        assert!(explained, "{code} to {intent:?} of {user}: {held:?}");
    }

    /// The allocation that has this connection, if its client may come to this five-tuple.
    fn of_connection(
        &self,
        connection: [u8; 20],
        to: FiveTuple,
    ) -> Option<(FiveTuple, &Allocated)> {
        let streams = to.listener == site::TCP_LISTENER;
        let has = |held: &Allocated| {
            let session = held.ms.as_ref();
            session.is_some_and(|it| it.connection == connection && it.streams == streams)
        };
        self.allocations.iter().find(|(_, held)| has(held)).map(|(at, held)| (*at, held))
    }

    fn apply_ms(&mut self, now: Instant, to: FiveTuple, asked: &Asked, heard: &MsHeard) {
        match &asked.intent {
            Intent::MsAllocate(connection) => {
                self.ms_allocated(now, to, (&asked.user, *connection), heard);
            }
            Intent::MsAim(number, peer) => {
                let held = self.allocations.get(&to).expect("a success needs an allocation");
                assert_eq!(held.user, asked.user, "a success for somebody else");
                let session = held.ms.as_ref().expect("of this dialect");
                let repeated = session.answered == heard.transaction();
                assert_eq!(session.connection, number.0, "437 was due");
                assert!(session.streams || repeated || session.is_fresh(number.1), "a replay");
                assert_eq!(heard.numbered(), Some(*number), "MST-98");
                if repeated {
                    return;
                }
                assert!(held.relayed.contains_key(&Family::of(peer.ip())), "500 was due");
                assert!(self.admits_for(held.carried(), *peer), "500 was due: {peer}");
                self.permit(to, *peer);
                let held = self.allocations.get_mut(&to).expect("just seen");
                let session = held.ms.as_mut().expect("just seen");
                session.destination = Some(*peer);
                session.seen.insert(number.1);
                session.answered = heard.transaction().to_vec();
            }
            other => panic!("a success for {other:?}"),
        }
    }

    fn ms_allocated(
        &mut self,
        now: Instant,
        to: FiveTuple,
        (user, connection): (&str, Option<[u8; 20]>),
        heard: &MsHeard,
    ) {
        if !self.allocations.contains_key(&to)
            && let Some((left, _)) = connection.and_then(|it| self.of_connection(it, to))
        {
            let held = self.allocations.remove(&left).expect("just found");
            self.allocations.insert(to, held);
            self.ms.moved += 1;
        }
        assert_eq!(heard.mapped(), Some(to.client.socket()));
        let end = now + Duration::from_secs(heard.number(LIFETIME).expect("MST-66").into());
        let relayed = heard.address(RELAYED);
        if let Some(held) = self.allocations.get_mut(&to) {
            assert_eq!(held.user, *user, "441 was due");
            let (address, expires) = held.relayed.values_mut().next().expect("one address");
            assert_eq!(relayed, Some(*address), "MST-75: the same address");
            *expires = end;
            let session = held.ms.as_ref().expect("of this dialect");
            let highest = session.seen.last().copied().unwrap_or(0);
            assert_eq!(heard.numbered(), Some((session.connection, highest)));
            if end == now {
                self.allocations.remove(&to);
            }
            return;
        }
        if end == now {
            // There is nothing any more, whatever there was.
            return;
        }
        let relayed = relayed.expect("a relayed address");
        assert!(!self.relayed().contains(&relayed), "relayed addresses are unique");
        let (connection, first) = heard.numbered().expect("MST-71");
        assert_eq!(first, 0, "MST-71");
        let known =
            |held: &Allocated| held.ms.as_ref().is_some_and(|it| it.connection == connection);
        assert!(!self.allocations.values().any(known), "connections are unique");
        let session = Session {
            connection,
            streams: to.listener == site::TCP_LISTENER,
            destination: None,
            seen: BTreeSet::new(),
            answered: Vec::new(),
            used: [false; 2],
        };
        let held = Allocated {
            user: user.to_owned(),
            transaction: heard.transaction().to_vec(),
            relayed: [(Family::of(relayed.ip()), (relayed, end))].into(),
            permitted: BTreeMap::new(),
            channels: BTreeMap::new(),
            ms: Some(session),
        };
        self.allocations.insert(to, held);
    }
}
