//! A second, naive TURN server that only predicts: what must be delivered, what must not.
//!
//! It learns what clients meant from the client's side ([`Intent`]), sees what reached the server
//! and what left it ([`Seen`]), applies an intent when the server says it succeeded, and judges
//! every verdict. It shares neither code nor representation with `proto`: deadlines are compared
//! at each packet, where the server removes what has expired beforehand.

mod ms;

pub use self::ms::Totals as MsTotals;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::addr::{Carried, ConnectionId, Family, FiveTuple};
use proto::turn::{Verdict, Wrap};

use crate::heard::Heard;
use crate::kind;
use crate::ms::{MsHeard, is_ms};
use crate::seen::{Seen, What};

const PERMISSION: Duration = Duration::from_secs(300);
const CHANNEL: Duration = Duration::from_secs(600);

/// What a client meant with one request.
#[derive(Clone, Debug)]
pub enum Intent {
    /// Allocate.
    Allocate,
    /// Refresh one family, or all.
    Refresh(Option<Family>),
    /// `CreatePermission`.
    Permit(Vec<SocketAddr>),
    /// `ChannelBind`.
    Bind(u16, SocketAddr),
    /// Allocate of MS-TURN, with this connection, if it names one.
    MsAllocate(Option<[u8; 20]>),
    /// Set Active Destination: the connection and number it names, and the peer.
    MsAim(Number, SocketAddr),
    /// A request that must not succeed: forged, altered or with a wrong password.
    Never,
}

/// What a client meant with one datagram of payload.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A Send indication.
    Send(SocketAddr, Vec<u8>),
    /// ChannelData.
    Channel(u16, Vec<u8>),
    /// A Send of MS-TURN: whose, and for whom.
    MsSend(String, Number, SocketAddr, Vec<u8>),
    /// Bytes for the active destination.
    Bare,
}

/// A connection of MS-TURN, and the number of a request on it.
pub type Number = ([u8; 20], u32);

/// A request: whose it is and what it is for.
#[derive(Clone, Debug)]
struct Asked {
    user: String,
    intent: Intent,
}

#[derive(Debug)]
struct Allocated {
    user: String,
    transaction: Vec<u8>,
    /// Advertised form and end, by family.
    relayed: BTreeMap<Family, (SocketAddr, Instant)>,
    permitted: BTreeMap<IpAddr, Instant>,
    channels: BTreeMap<u16, (SocketAddr, Instant)>,
    /// What is known of it if its client speaks MS-TURN.
    ms: Option<ms::Session>,
}

impl Allocated {
    fn carried(&self) -> Carried {
        match &self.ms {
            Some(session) if session.streams => Carried::Streams,
            _ => Carried::Datagrams,
        }
    }
}

/// The predictor.
#[derive(Debug, Default)]
pub struct Shadow {
    requests: HashMap<Vec<u8>, Asked>,
    payloads: HashMap<Vec<u8>, Payload>,
    allocations: BTreeMap<FiveTuple, Allocated>,
    /// Connections of relayed addresses to peers, dead or alive.
    connections: BTreeMap<ConnectionId, (SocketAddr, SocketAddr)>,
    /// Datagrams judged, as (delivered, dropped): a simulation that delivers nothing proves nothing.
    pub judged: (u64, u64),
    /// Successful requests.
    pub succeeded: u64,
    /// What happened to clients of MS-TURN.
    pub ms: ms::Totals,
}

impl Shadow {
    /// A client is about to send this request.
    pub fn expect_request(&mut self, transaction: &[u8], user: &str, intent: Intent) {
        self.requests.insert(transaction.to_vec(), Asked { user: user.to_owned(), intent });
    }

    /// A client is about to send this payload in these bytes.
    pub fn expect_payload(&mut self, bytes: Vec<u8>, payload: Payload) {
        self.payloads.insert(bytes, payload);
    }

    /// Every relayed address alive at this moment.
    pub fn relayed(&self) -> Vec<SocketAddr> {
        let alive = self.allocations.values().flat_map(|held| held.relayed.values());
        alive.map(|(relayed, _)| *relayed).collect()
    }

    /// Those of them that relay streams, or datagrams.
    fn carrying(&self, carried: Carried) -> Vec<SocketAddr> {
        let alive = self.allocations.values().filter(|held| held.carried() == carried);
        alive.flat_map(|held| held.relayed.values()).map(|(relayed, _)| *relayed).collect()
    }

    /// Whether payload of this client for this host would be relayed by indication.
    pub fn permits(&self, client: FiveTuple, host: IpAddr) -> bool {
        self.allocations.get(&client).is_some_and(|held| held.permitted.contains_key(&host))
    }

    /// Channels this client has bound.
    pub fn channels(&self, client: FiveTuple) -> Vec<u16> {
        let held = self.allocations.get(&client).into_iter();
        held.flat_map(|held| held.channels.keys().copied()).collect()
    }

    /// Hosts and the relayed addresses at which they would be heard.
    pub fn heard(&self) -> Vec<(IpAddr, SocketAddr)> {
        let held = self.allocations.values();
        held.flat_map(|held| {
            let pairs = held.permitted.keys().filter_map(|ip| {
                held.relayed.get(&Family::of(*ip)).map(|(relayed, _)| (*ip, *relayed))
            });
            pairs.collect::<Vec<_>>()
        })
        .collect()
    }

    /// Judges one thing that happened.
    pub fn judge(&mut self, seen: &Seen) {
        self.forget_until(seen.now);
        match &seen.what {
            What::FromClient(from, bytes, verdict) => self.judge_uplink(*from, bytes, *verdict),
            What::ClientGone(from) => {
                self.allocations.remove(from);
            }
            What::FromPeer(at, from, payload, verdict) => {
                self.judge_downlink(*at, from.socket(), payload, *verdict);
            }
            What::Reply(to, bytes) if is_ms(bytes) => {
                self.judge_ms_reply(seen.now, *to, &MsHeard::read(bytes));
            }
            What::Reply(to, bytes) => self.judge_reply(seen.now, *to, &Heard::read(bytes)),
            What::Called(connection, from, to) => {
                let expected = self.connections.get(connection);
                assert_eq!(expected, Some(&(*from, *to)), "who is called for whom");
            }
            What::CalledBy(connection, at, from) => self.judge_call(*connection, *at, *from),
            What::FromConnection(connection, bytes, verdict) => {
                self.judge_chunk(*connection, bytes, *verdict);
            }
        }
    }

    /// Forgets what has expired at this moment, as an observer of the server would see it.
    pub fn forget_until(&mut self, now: Instant) {
        let used = &mut self.ms.used;
        self.allocations.retain(|_, held| {
            *used += held.prolong_by_use(now);
            held.relayed.retain(|_, (_, end)| *end > now);
            let families: Vec<_> = held.relayed.keys().copied().collect();
            held.permitted.retain(|ip, end| *end > now && families.contains(&Family::of(*ip)));
            held.channels
                .retain(|_, (peer, end)| *end > now && families.contains(&Family::of(peer.ip())));
            !held.relayed.is_empty()
        });
    }

    /// Allocations, permissions and channels alive.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let held = || self.allocations.values();
        let permissions = held().map(|held| held.permitted.len()).sum();
        let aimed = held().filter(|held| held.destination().is_some()).count();
        let channels: usize = held().map(|held| held.channels.len()).sum();
        (held().count(), permissions, channels + aimed)
    }

    fn judge_uplink(&mut self, from: FiveTuple, bytes: &[u8], verdict: Verdict) {
        let payload = self.payloads.get(bytes).cloned();
        if let Some(payload @ (Payload::MsSend(..) | Payload::Bare)) = &payload {
            return self.judge_ms_uplink(from, payload, bytes, verdict);
        }
        let expected = payload.and_then(|payload| self.uplink(from, &payload));
        let actual = match verdict {
            Verdict::ToPeer { peer, payload, .. } => {
                let start = payload.start as usize;
                Some((peer.socket(), bytes[start..start + payload.len as usize].to_vec()))
            }
            Verdict::ToClient { .. } => panic!("what a client sends never goes to a client"),
            Verdict::ToConnection { .. } => panic!("only clients of MS-TURN speak in chunks"),
            Verdict::Handled | Verdict::Leaves | Verdict::Dropped(_) => None,
        };
        assert_eq!(actual, expected, "uplink of {from:?}: {:?}", self.payloads.get(bytes));
        if self.payloads.contains_key(bytes) {
            self.count(expected.is_some());
        }
    }

    fn uplink(&self, from: FiveTuple, payload: &Payload) -> Option<(SocketAddr, Vec<u8>)> {
        let held = self.allocations.get(&from)?;
        let (peer, bytes) = match payload {
            Payload::Send(peer, bytes) => {
                held.permitted.contains_key(&peer.ip()).then_some((peer, bytes))?
            }
            Payload::Channel(number, bytes) => {
                held.channels.get(number).map(|(peer, _)| (peer, bytes))?
            }
            Payload::MsSend(..) | Payload::Bare => return None,
        };
        (held.relayed.contains_key(&Family::of(peer.ip())) && self.admits(*peer))
            .then(|| (*peer, bytes.clone()))
    }

    fn judge_downlink(&mut self, at: SocketAddr, from: SocketAddr, bytes: &[u8], verdict: Verdict) {
        let owner = self
            .allocations
            .iter()
            .find(|(_, held)| held.relayed.values().any(|(relayed, _)| *relayed == at));
        let expected = owner.and_then(|(to, held)| {
            held.permitted.get(&from.ip()).filter(|_| self.admits(from))?;
            let bound = held.channels.iter().find(|(_, (peer, _))| *peer == from);
            let bound = bound.map(|(number, _)| Dress::Channel(*number));
            Some((*to, held.ms_dress(from).or(bound).unwrap_or(Dress::Indication)))
        });
        let actual = match verdict {
            Verdict::ToClient { to, wrap, payload, .. } => {
                assert_eq!((payload.start, payload.len as usize), (0, bytes.len()), "all of it");
                Some((to, undressed(wrap, from)))
            }
            Verdict::ToPeer { .. } | Verdict::ToConnection { .. } => {
                panic!("what a peer sends never goes to a peer")
            }
            Verdict::Handled | Verdict::Leaves => {
                panic!("what a peer sends is never a control message")
            }
            Verdict::Dropped(_) => None,
        };
        assert_eq!(actual, expected, "downlink at {at} from {from}");
        self.count(expected.is_some());
        if let Some((to, dress)) = expected {
            self.heard_by(to, dress);
        }
    }

    fn count(&mut self, delivered: bool) {
        self.judged.0 += u64::from(delivered);
        self.judged.1 += u64::from(!delivered);
    }

    fn judge_reply(&mut self, now: Instant, to: FiveTuple, heard: &Heard) {
        if heard.kind() == kind::method::DATA | kind::INDICATION {
            let about = heard.peer().expect("a report names its peer");
            assert!(self.permits(to, about.ip()), "a report about a stranger: {heard:?}");
            return;
        }
        let Some(asked) = self.requests.get(&heard.transaction()[..]).cloned() else {
            let binding = heard.kind() == kind::method::BINDING | kind::SUCCESS;
            let explained = binding || matches!(heard.code(), Some(400 | 401 | 420));
            assert!(explained, "to nobody's request: {heard:?}");
            return;
        };
        match heard.code() {
            None => {
                self.succeeded += 1;
                self.apply(now, to, &asked, heard);
            }
            Some(code) => self.judge_refusal(to, &asked, code, heard),
        }
    }

    /// Whether this refusal is one that the state explains.
    fn judge_refusal(&self, to: FiveTuple, asked: &Asked, code: u16, heard: &Heard) {
        let Asked { user, intent } = asked;
        let held = self.allocations.get(&to);
        let mine = held.filter(|held| held.user == *user);
        let explained = match code {
            401 | 438 => true,
            437 => match intent {
                Intent::Allocate => held.is_some(),
                _ => held.is_none(),
            },
            441 => held.is_some_and(|held| held.user != *user),
            486 | 508 | 500 => matches!(intent, Intent::Allocate),
            403 => !self.admits_all(intent),
            443 => match intent {
                Intent::Refresh(family) => {
                    mine.is_some_and(|m| family.is_some_and(|f| !m.relayed.contains_key(&f)))
                }
                _ => mine.is_some_and(|mine| {
                    let lacks =
                        |peer: &SocketAddr| !mine.relayed.contains_key(&Family::of(peer.ip()));
                    self.peers(intent).iter().any(lacks)
                }),
            },
            400 => match intent {
                Intent::Bind(number, peer) => mine.is_some_and(|m| conflicts(m, *number, *peer)),
                _ => false,
            },
            _ => false,
        };
        let never = matches!(intent, Intent::Never) && matches!(code, 400 | 401 | 420 | 438);
        assert!(explained || never, "{code} to {intent:?} of {user}: {held:?}, {heard:?}");
    }

    fn apply(&mut self, now: Instant, to: FiveTuple, asked: &Asked, heard: &Heard) {
        let Asked { user, intent } = asked;
        let until = |seconds: u32| now + Duration::from_secs(u64::from(seconds));
        if let Intent::Allocate = intent {
            let end = until(heard.lifetime().expect("Allocate success has LIFETIME"));
            return self.allocated(to, user, end, heard);
        }
        let peers = self.peers(intent);
        assert!(self.admits_all(intent), "a denied peer: {intent:?}");
        let held = self.allocations.get_mut(&to).expect("a success needs an allocation");
        assert_eq!(held.user, *user, "a success for somebody else");
        for peer in peers {
            assert!(held.relayed.contains_key(&Family::of(peer.ip())), "443 was due: {intent:?}");
            held.permitted.insert(peer.ip(), now + PERMISSION);
        }
        match intent {
            Intent::Bind(number, peer) => {
                assert!(!conflicts(held, *number, *peer), "400 was due: {intent:?}");
                held.channels.insert(*number, (*peer, now + CHANNEL));
            }
            Intent::Refresh(family) => {
                let end = until(heard.lifetime().expect("Refresh success has LIFETIME"));
                for (of, (_, expires)) in &mut held.relayed {
                    if family.is_none_or(|family| family == *of) {
                        *expires = end;
                    }
                }
                self.forget_until(now);
            }
            Intent::Permit(_) => {}
            Intent::Allocate | Intent::Never | Intent::MsAllocate(_) | Intent::MsAim(..) => {
                panic!("a success for {intent:?}")
            }
        }
    }

    fn allocated(&mut self, to: FiveTuple, user: &str, end: Instant, heard: &Heard) {
        let relayed = heard.all_relayed();
        if let Some(held) = self.allocations.get(&to) {
            assert_eq!(held.transaction, heard.transaction().to_vec(), "437 was due");
            // The family whose life ended earlier is missing from the repeated answer.
            let first: Vec<_> = held.relayed.values().map(|(relayed, _)| *relayed).collect();
            assert!(first.iter().all(|at| relayed.contains(at)), "the same answer again");
            return;
        }
        let taken = self.relayed();
        assert!(relayed.iter().all(|at| !taken.contains(at)), "relayed addresses are unique");
        let by_family = |at: &SocketAddr| (Family::of(at.ip()), (*at, end));
        self.allocations.insert(
            to,
            Allocated {
                user: user.to_owned(),
                transaction: heard.transaction().to_vec(),
                relayed: relayed.iter().map(by_family).collect(),
                permitted: BTreeMap::new(),
                channels: BTreeMap::new(),
                ms: None,
            },
        );
    }

    #[expect(clippy::unused_self, reason = "reads like a question to the predictor")]
    fn peers(&self, intent: &Intent) -> Vec<SocketAddr> {
        match intent {
            Intent::Permit(peers) => peers.clone(),
            Intent::Bind(_, peer) => vec![*peer],
            Intent::Allocate
            | Intent::Refresh(_)
            | Intent::MsAllocate(_)
            | Intent::MsAim(..)
            | Intent::Never => Vec::new(),
        }
    }

    /// Whether the policy permits the peers of a request. Permissions know no port, so a host of
    /// the relay itself is permitted as a host; channels need a port that is alive.
    fn admits_all(&self, intent: &Intent) -> bool {
        match intent {
            Intent::Bind(_, peer) => self.admits(*peer),
            _ => self.peers(intent).iter().all(|peer| !is_private(peer.ip())),
        }
    }

    /// The simulation's peers are global, private, or addresses of the relay itself: those are
    /// reached only while they are alive.
    fn admits(&self, peer: SocketAddr) -> bool {
        self.admits_for(Carried::Datagrams, peer)
    }

    /// The same for an allocation that relays one or the other.
    fn admits_for(&self, carried: Carried, peer: SocketAddr) -> bool {
        let ours = crate::site::is_relay_host(peer.ip());
        !is_private(peer.ip()) && (!ours || self.carrying(carried).contains(&peer))
    }
}

/// How payload comes to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dress {
    /// ChannelData.
    Channel(u16),
    /// A Data indication of the RFC.
    Indication,
    /// A Data Indication of MS-TURN.
    MsIndication,
    /// As it is.
    Bare,
}

fn undressed(wrap: Wrap, from: SocketAddr) -> Dress {
    let named = match wrap {
        Wrap::Channel(number) => return Dress::Channel(number.number()),
        Wrap::Raw => return Dress::Bare,
        Wrap::Indication(peer, _) | Wrap::MsIndication(peer, _) => peer.socket(),
    };
    assert_eq!(named, from, "the indication names its source");
    if matches!(wrap, Wrap::MsIndication(..)) { Dress::MsIndication } else { Dress::Indication }
}

fn is_private(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_private())
}

fn conflicts(held: &Allocated, number: u16, peer: SocketAddr) -> bool {
    let other_peer = held.channels.get(&number).is_some_and(|(bound, _)| *bound != peer);
    let other_number = held.channels.iter().any(|(n, (bound, _))| *n != number && *bound == peer);
    other_peer || other_number || !(0x4000..=0x4FFF).contains(&number)
}
