//! Random clients of both dialects and their peers over faulty links, judged by a shadow model.
//!
//! 256 seeds by default; `SEED=0x51 cargo nextest run simulation` replays one,
//! `SEEDS=5000 cargo nextest run simulation` runs more. A failure prints the seed to replay.

mod ms;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use proto::addr::{ClientAddr, Family, FiveTuple};
use proto::stun::attribute::Icmp;
use proto::turn::OpenFailure;
use rig::dice::Dice;
use rig::kind;
use rig::script::channel_data;
use rig::seeds::{is_replay, play};
use rig::shadow::{Intent, Payload, Shadow};
use rig::{Arrival, Draft, Link, Login, Scheme, World};

const CLIENTS: [&str; 5] = ["alice", "carol", "legacy", "twin", "wired"];
const PEERS: [&str; 4] = ["bob", "eve", "dave", "private"];
const STEPS: usize = 200;

#[test]
fn simulation() {
    let (seeds, totals) = play("simulation", 256, run, |sum, it: Totals| Totals {
        delivered: sum.delivered + it.delivered,
        dropped: sum.dropped + it.dropped,
        succeeded: sum.succeeded + it.succeeded,
        hairpins: sum.hairpins + it.hairpins,
        mixed: sum.mixed + it.mixed,
        redeemed: sum.redeemed + it.redeemed,
        ms: ms::sum(sum.ms, it.ms),
    });
    if is_replay() {
        return;
    }
    println!("{seeds} seeds: {totals:?}");
    // A simulation in which nothing happens proves nothing.
    assert!(totals.delivered > seeds * 8 && totals.dropped > seeds * 8, "{totals:?}");
    assert!(totals.succeeded > seeds * 10 && totals.hairpins > seeds / 8, "{totals:?}");
    let ms = totals.ms;
    assert!(ms.delivered.iter().all(|count| *count > seeds), "{totals:?}");
    assert!(ms.replayed > seeds / 2 && ms.moved > seeds / 4 && ms.used > seeds / 4, "{totals:?}");
    assert!(totals.mixed > seeds / 8 && totals.redeemed > seeds / 16, "{totals:?}");
}

#[derive(Debug, Default)]
struct Totals {
    delivered: u64,
    dropped: u64,
    succeeded: u64,
    hairpins: u64,
    /// Words between clients of one relay that speak different dialects.
    mixed: u64,
    /// Kept ports that became allocations.
    redeemed: u64,
    ms: rig::shadow::MsTotals,
}

/// One world from its first packet to the last deadline.
fn run(seed: u64, totals: &mut Totals) {
    let mut play = Play::new(seed);
    for _ in 0..STEPS {
        play.act();
        play.judge();
    }
    play.wind_down();
    totals.delivered += play.shadow.judged.0;
    totals.dropped += play.shadow.judged.1;
    totals.succeeded += play.shadow.succeeded;
    totals.hairpins += play.hairpins;
    totals.mixed += play.mixed;
    totals.redeemed += play.world.books.redeemed();
    totals.ms = ms::sum(totals.ms, play.shadow.ms);
}

/// A world, what is expected of it, and the chance that drives it.
struct Play {
    world: World,
    shadow: Shadow,
    dice: Dice,
    /// Requests as they were sent, to be sent again.
    sent: Vec<(&'static str, SocketAddr, Vec<u8>)>,
    /// Every payload ever sent, by client or peer.
    payloads: HashSet<Vec<u8>>,
    /// Every relayed address ever heard of.
    known: Vec<SocketAddr>,
    /// The last token of a kept port that each user heard.
    tokens: HashMap<String, Vec<u8>>,
    hairpins: u64,
    mixed: u64,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::seeded(seed ^ 0x51_0000_0000);
        let link = match dice.below(4) {
            0 => Link::default(),
            1 => Link { loss: 100, ..Link::default() },
            2 => Link { delay: Duration::from_millis(40), duplication: 200, ..Link::default() },
            _ => Link {
                loss: 50,
                duplication: 100,
                delay: Duration::from_millis(20),
                jitter: Duration::from_millis(300),
            },
        };
        let narrow = dice.one_in_thousand(300);
        let mut world = World::configured(seed, |config| {
            config.microsoft = true;
            config.ports = 50_000..=50_999;
            if narrow {
                config.ports = 50_000..=50_007;
                config.limits.allocations_per_user = 2;
            }
        })
        .with_client("alice")
        .with_client6("carol")
        .with_client("legacy")
        .with_client("twin")
        .with_tcp_client("wired")
        .with_client("maria")
        .with_client("minna")
        .with_ms_tcp_client("mike")
        .with_pseudo_tls_client("mona")
        .with_peer("bob")
        .with_peer("eve")
        .with_peer6("dave")
        .with_peer_at("private", "10.0.0.9:9000".parse().expect("an address"))
        .with_link(link);
        world.client("legacy").state().scheme = Scheme::Legacy;
        // Two sockets of one user.
        let login = world.client("alice").state().login.clone();
        world.client("twin").state().login = login;
        // And so in the other dialect, over UDP and over streams.
        for (one, other) in [("maria", "minna"), ("mike", "mona")] {
            let known = world.ms(one).state().clone();
            *world.ms(other).state() = known;
        }
        world.record = Some(Vec::new());
        Self {
            world,
            shadow: Shadow::default(),
            dice,
            sent: Vec::new(),
            payloads: HashSet::new(),
            known: Vec::new(),
            tokens: HashMap::new(),
            hairpins: 0,
            mixed: 0,
        }
    }

    /// One thing that somebody does.
    fn act(&mut self) {
        if self.dice.one_in_thousand(400) {
            self.act_ms();
        } else {
            self.act_rfc();
        }
        if self.dice.one_in_thousand(700) {
            self.world.settle();
        }
    }

    /// One thing that clients of the RFC do, their peers, or the network.
    fn act_rfc(&mut self) {
        let client = CLIENTS[self.dice.index(CLIENTS.len())];
        match self.dice.below(100) {
            0..14 => self.allocate(client),
            14..20 => self.refresh(client),
            20..32 => self.permit(client),
            32..44 => self.bind(client),
            44..56 => self.send(client),
            56..68 => self.send_channel(client),
            68..80 => self.peer_sends(),
            80..83 => self.forge(client),
            83..87 => self.retransmit(),
            87..89 => self.garbage(client),
            89 => self.move_client(client),
            90 => self.change_login(client),
            91 => self.toggle_sockets(),
            92 => self.disconnect(),
            93 => self.network_refuses(),
            _ => self.let_time_pass(),
        }
    }

    /// Everything that happened since, seen by the shadow; then both must agree on the state.
    fn judge(&mut self) {
        for seen in self.world.record.replace(Vec::new()).expect("recording") {
            self.shadow.judge(&seen);
        }
        self.shadow.forget_until(self.world.now().mono);
        let tally = self.world.server.tally();
        let (allocations, permissions, channels) = self.shadow.sizes();
        assert_eq!(
            (tally.allocations, tally.permissions, tally.channels),
            (allocations as u64, permissions as u64, channels as u64),
            "allocations, permissions and channels alive"
        );
        self.hear();
    }

    /// Clients learn from what they hear; everybody checks payload.
    fn hear(&mut self) {
        for client in CLIENTS {
            while let Some(arrival) = self.world.client(client).take() {
                match arrival {
                    Arrival::Response(heard) => {
                        if matches!(heard.code(), Some(401 | 438)) {
                            self.world.client(client).state().learn(&heard);
                        }
                        self.known.extend(heard.all_relayed());
                        if let Some(token) = heard.value(kind::RESERVATION) {
                            let user = self.world.client(client).state().login.username.clone();
                            self.tokens.insert(user, token.to_vec());
                        }
                    }
                    Arrival::Icmp { peer, .. } => assert_eq!(peer.port(), 9, "nobody's datagram"),
                    Arrival::Data { payload, .. } | Arrival::Channel { payload, .. } => {
                        assert!(
                            self.payloads.contains(&payload),
                            "{client} hears what nobody said"
                        );
                    }
                }
            }
        }
        self.hear_ms();
        for peer in PEERS {
            while let Some((from, payload)) = self.world.peer(peer).take() {
                assert!(self.payloads.contains(&payload), "{peer} hears what nobody said");
                assert!(self.known.contains(&from) || self.shadow.relayed().contains(&from));
                assert_ne!(peer, "private", "a private peer was reached");
            }
        }
    }

    /// After hours of silence nothing is left.
    fn wind_down(&mut self) {
        self.world.settle();
        self.judge();
        self.world.advance(Duration::from_secs(3 * 3600));
        self.judge();
        self.world.check();
        let tally = self.world.server.tally();
        assert_eq!((tally.allocations, tally.permissions, tally.channels), (0, 0, 0));
        assert_eq!(tally.ports_used, 0, "every port was given back");
        assert_eq!(self.world.books.reservations(), 0, "every reservation ended");
        assert_eq!(self.world.books.charged(), 0, "every charge was credited");
        assert_eq!(self.world.server.poll_timeout(), None, "no deadline is left");
        assert_eq!(tally.opened, tally.closed.iter().sum::<u64>(), "what opened was closed");
    }

    /// Signs a request, tells the shadow, and sends it without waiting.
    fn request(&mut self, client: &'static str, draft: Draft, intent: Intent) {
        let id = self.dice.transaction();
        let mut acting = self.world.client(client);
        let user = acting.state().login.username.clone();
        let draft = draft.transaction(id);
        let draft =
            if acting.state().challenge.is_some() { acting.state().sign(draft) } else { draft };
        let bytes = draft.encode();
        self.shadow.expect_request(&id, &user, intent);
        self.sent.push((client, acting.state().address, bytes.clone()));
        acting.send_bytes(&bytes);
    }

    fn allocate(&mut self, client: &'static str) {
        let user = self.world.client(client).state().login.username.clone();
        let draft = match (self.dice.below(6), self.tokens.remove(&user)) {
            (0, _) => Draft::allocate().raw(kind::FAMILY, &[2, 0, 0, 0]),
            (1, _) => Draft::allocate().raw(kind::ADDITIONAL_FAMILY, &[2, 0, 0, 0]),
            (2, _) => Draft::allocate().raw(kind::EVEN_PORT, &[0x80]),
            (3, _) => Draft::allocate().raw(kind::EVEN_PORT, &[0]),
            // Good for half a minute, once, and not where an allocation is.
            (4.., Some(token)) => {
                self.request(client, Draft::refresh(0), Intent::Refresh(None));
                Draft::allocate().raw(kind::RESERVATION, &token)
            }
            _ => Draft::allocate(),
        };
        let seconds = u32::try_from(self.dice.below(4000)).expect("small");
        let draft = draft.raw(kind::LIFETIME, &seconds.to_be_bytes());
        self.request(client, draft, Intent::Allocate);
    }

    fn refresh(&mut self, client: &'static str) {
        let seconds = if self.dice.one_in_thousand(400) { 0 } else { self.dice.below(4000) };
        let draft = Draft::refresh(u32::try_from(seconds).expect("small"));
        let family = match self.dice.below(6) {
            0 => Some(Family::V4),
            1 => Some(Family::V6),
            _ => None,
        };
        let draft = match family {
            Some(family) => draft.raw(kind::FAMILY, &[family as u8, 0, 0, 0]),
            None => draft,
        };
        self.request(client, draft, Intent::Refresh(family));
    }

    /// A peer by name, or another client's relayed address, dead or alive.
    fn somebody(&mut self) -> SocketAddr {
        if !self.known.is_empty() && self.dice.one_in_thousand(250) {
            return self.known[self.dice.index(self.known.len())];
        }
        // The private peer comes seldom: one of it spoils a whole list.
        let choices = if self.dice.one_in_thousand(80) { 4 } else { 3 };
        self.world.peer_address(PEERS[self.dice.index(choices)])
    }

    fn permit(&mut self, client: &'static str) {
        let count = 1 + self.dice.below(2);
        let peers: Vec<_> = (0..count).map(|_| self.somebody()).collect();
        self.request(client, Draft::permit(&peers), Intent::Permit(peers));
    }

    fn bind(&mut self, client: &'static str) {
        let number = 0x4000 + u16::try_from(self.dice.below(4)).expect("small");
        let peer = self.somebody();
        self.request(client, Draft::bind(number, peer), Intent::Bind(number, peer));
    }

    /// A payload that was never sent before, of any size, beginning with any byte.
    fn payload(&mut self) -> Vec<u8> {
        let len = 12 + self.dice.index(200);
        let payload = self.dice.bytes(len);
        assert!(self.payloads.insert(payload.clone()), "twelve random bytes repeat");
        payload
    }

    /// The five-tuple of a client at this moment.
    fn tuple(&mut self, client: &'static str) -> FiveTuple {
        let mut acting = self.world.client(client);
        let (listener, address) = (acting.state().listener, acting.state().address);
        FiveTuple { listener, client: ClientAddr::new(address) }
    }

    /// Mostly somebody whom this client may reach, if there is one.
    fn reachable(&mut self, client: &'static str) -> SocketAddr {
        let from = self.tuple(client);
        let named = PEERS.map(|name| self.world.peer_address(name));
        let candidates = named.into_iter().chain(self.shadow.relayed());
        let may: Vec<_> = candidates.filter(|at| self.shadow.permits(from, at.ip())).collect();
        if may.is_empty() || self.dice.one_in_thousand(200) {
            return self.somebody();
        }
        may[self.dice.index(may.len())]
    }

    fn send(&mut self, client: &'static str) {
        let (peer, payload) = (self.reachable(client), self.payload());
        let bytes = Draft::send(peer, &payload).transaction(self.dice.transaction()).encode();
        self.shadow.expect_payload(bytes.clone(), Payload::Send(peer, payload));
        self.world.client(client).send_bytes(&bytes);
        self.hairpins += u64::from(self.shadow.relayed().contains(&peer));
        self.mixed += u64::from(self.shadow.ms_relays(false).contains(&peer));
    }

    fn send_channel(&mut self, client: &'static str) {
        let from = self.tuple(client);
        let bound = self.shadow.channels(from);
        let number = if bound.is_empty() || self.dice.one_in_thousand(200) {
            0x4000 + u16::try_from(self.dice.below(5)).expect("small")
        } else {
            bound[self.dice.index(bound.len())]
        };
        let payload = self.payload();
        let bytes = channel_data(number, &payload);
        self.shadow.expect_payload(bytes.clone(), Payload::Channel(number, payload));
        self.world.client(client).send_bytes(&bytes);
    }

    fn peer_sends(&mut self) {
        if self.known.is_empty() {
            return;
        }
        let mut to = self.known[self.dice.index(self.known.len())];
        if self.shadow.ms_relays(true).contains(&to) {
            return self.peer_connects(to);
        }
        let same_family: &[&str] = if to.is_ipv4() { &["bob", "eve"] } else { &["dave"] };
        let peer = same_family[self.dice.index(same_family.len())];
        let from = self.world.peer_address(peer);
        let streams = self.shadow.ms_relays(true);
        let mut heard = self.shadow.heard().into_iter();
        let heard = heard.find(|(host, at)| *host == from.ip() && !streams.contains(at));
        if let Some((_, relayed)) = heard.filter(|_| self.dice.one_in_thousand(800)) {
            to = relayed;
        }
        let payload = self.payload();
        self.world.inject_at_relay(to, from, &payload);
    }

    /// ICMP tells of a datagram that some relayed address sent, or that somebody says it sent.
    fn network_refuses(&mut self) {
        let streams = self.shadow.ms_relays(true);
        let open: Vec<_> =
            self.world.open_sockets().into_iter().filter(|at| !streams.contains(at)).collect();
        if open.is_empty() {
            return;
        }
        let relayed = open[self.dice.index(open.len())];
        let about = self.world.peer_address(PEERS[self.dice.index(PEERS.len())]);
        let number = self.dice.bytes(1)[0] % 16;
        let icmp = Icmp { kind: number, code: 0, data: 0 };
        self.world.unreachable(relayed, SocketAddr::new(about.ip(), 9), icmp);
    }

    /// A request that must not succeed: one bit differs from what was signed, or the password.
    fn forge(&mut self, client: &'static str) {
        let mut acting = self.world.client(client);
        if acting.state().challenge.is_none() {
            return;
        }
        let id = self.dice.transaction();
        let user = acting.state().login.username.clone();
        let draft = Draft::refresh(0).transaction(id);
        let bytes = if self.dice.one_in_thousand(500) {
            let password = "guess".to_owned();
            let wrong = Login { username: user.clone(), password };
            let right = std::mem::replace(&mut acting.state().login, wrong);
            let signed = acting.state().sign(draft).encode();
            acting.state().login = right;
            signed
        } else {
            let mut signed = acting.state().sign(draft).encode();
            let bit = self.dice.index((signed.len() - 20) * 8);
            signed[20 + bit / 8] ^= 1 << (bit % 8);
            signed
        };
        acting.send_bytes(&bytes);
        self.shadow.expect_request(&id, &user, Intent::Never);
    }

    /// An old request arrives once more, from where it came.
    fn retransmit(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let at = self.dice.index(self.sent.len());
        let (client, address, bytes) = self.sent[at].clone();
        let listener = self.world.client(client).state().listener;
        self.world.inject(listener, address, &bytes);
    }

    fn garbage(&mut self, client: &'static str) {
        let len = self.dice.index(80);
        let mut bytes = self.dice.bytes(len);
        if self.dice.one_in_thousand(500) {
            let header =
                Draft::of_kind(u16::try_from(self.dice.below(0x20)).expect("small")).encode();
            bytes.splice(..bytes.len().min(20), header);
        }
        self.world.client(client).send_bytes(&bytes);
    }

    /// The NAT in front of a client gives it another port.
    fn move_client(&mut self, client: &'static str) {
        let port = 1024 + u16::try_from(self.dice.below(60_000)).expect("a port");
        self.world.client(client).state().address.set_port(port);
    }

    /// The stream of a client that may have one ends, in order or not.
    fn disconnect(&mut self) {
        let streams = ["wired", "mike", "mona"];
        let who = streams[self.dice.index(streams.len())];
        let FiveTuple { listener, client } = self.tuple(who);
        if self.dice.one_in_thousand(500) {
            self.world.hang_up(listener, client.socket());
        } else {
            self.world.break_off(listener, client.socket());
        }
    }

    /// Somebody else signs in on the same socket, or the first one comes back.
    fn change_login(&mut self, client: &'static str) {
        let other =
            self.world.client(CLIENTS[self.dice.index(CLIENTS.len())]).state().login.clone();
        self.world.client(client).state().login = other;
    }

    fn toggle_sockets(&mut self) {
        self.world.socket_failure = match self.world.socket_failure {
            None => Some(OpenFailure::Exhausted),
            Some(_) => None,
        };
    }

    fn let_time_pass(&mut self) {
        let by = match self.dice.below(10) {
            0..4 => Duration::from_millis(self.dice.below(2000)),
            4..7 => Duration::from_secs(self.dice.below(60)),
            7..9 => Duration::from_secs(self.dice.below(400)),
            _ => Duration::from_secs(self.dice.below(1500)),
        };
        self.world.advance(by);
    }
}
