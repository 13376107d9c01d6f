//! What clients of MS-TURN do in it: two of one user over UDP, two of another over streams, of
//! which one passes for TLS.

use std::net::SocketAddr;

use proto::addr::{ClientAddr, FiveTuple};
use rig::ms::{ALLOCATE, LIFETIME, RELAYED, SEQUENCE, VERSION};
use rig::shadow::{Intent, MsTotals, Number, Payload};
use rig::{MsArrival, MsDraft};

use crate::{PEERS, Play};

const CLIENTS: [&str; 4] = ["maria", "minna", "mike", "mona"];
/// Those of them whose address may change: a stream has one for life.
const MOVABLE: [&str; 2] = ["maria", "minna"];

/// What happened in both.
pub(crate) fn sum(one: MsTotals, other: MsTotals) -> MsTotals {
    MsTotals {
        delivered: std::array::from_fn(|at| one.delivered[at] + other.delivered[at]),
        replayed: one.replayed + other.replayed,
        moved: one.moved + other.moved,
        used: one.used + other.used,
    }
}

/// A user as the shadow calls it.
fn name_of(token: &[u8]) -> String {
    format!("{token:02x?}")
}

impl Play {
    /// One thing that one of them does, or a peer on a connection.
    pub(crate) fn act_ms(&mut self) {
        let client = CLIENTS[self.dice.index(CLIENTS.len())];
        let begins = self.world.ms(client).state().connection == [0; 20];
        if begins && self.dice.one_in_thousand(900) {
            return self.allocate_ms(client);
        }
        match self.dice.below(100) {
            0..14 => self.allocate_ms(client),
            14..40 => self.send_ms(client),
            40..52 => self.aim(client),
            52..76 => self.pay(client),
            76..86 => self.peer_says(),
            86..88 => self.forge_ms(client),
            88..91 => self.peer_hangs_up(),
            91 => {
                let who = MOVABLE[self.dice.index(MOVABLE.len())];
                self.move_client(who);
            }
            92..96 => self.repeat_send(),
            _ => self.retransmit(),
        }
    }

    /// Clients learn from what they hear; everybody checks payload.
    pub(crate) fn hear_ms(&mut self) {
        for client in CLIENTS {
            while let Some(arrival) = self.world.ms(client).take() {
                let heard = match arrival {
                    MsArrival::Response(heard) => heard,
                    MsArrival::Data(_, payload) | MsArrival::Bare(payload) => {
                        let known = self.payloads.contains(&payload);
                        assert!(known, "{client} hears what nobody said");
                        continue;
                    }
                };
                if matches!(heard.code(), Some(401 | 438)) {
                    self.world.ms(client).learn(&heard);
                }
                if let (ALLOCATE, Some((connection, number))) =
                    (heard.kind() & 0xF, heard.numbered())
                {
                    let mut acting = self.world.ms(client);
                    let state = acting.state();
                    if state.connection != connection {
                        (state.connection, state.number) = (connection, number);
                    }
                    state.number = state.number.max(number);
                    self.known.extend(heard.address(RELAYED));
                }
            }
        }
    }

    /// Sends a request without waiting; again later, perhaps.
    fn request_ms(&mut self, client: &'static str, draft: &MsDraft, intent: Intent) {
        let mut acting = self.world.client(client);
        let (address, user) = (acting.state().address, name_of(&acting.state().ms.username));
        self.shadow.expect_request(&draft.transaction(), &user, intent);
        self.sent.push((client, address, draft.encode()));
        acting.send_bytes(&draft.encode());
    }

    /// Opens, refreshes, releases, or comes with the connection of another client.
    fn allocate_ms(&mut self, client: &'static str) {
        let other = CLIENTS[self.dice.index(CLIENTS.len())];
        let connection = self.world.ms(other).state().connection;
        let brings = connection != [0; 20] && self.dice.one_in_thousand(400);
        let lifetime = match self.dice.below(10) {
            0 => Some(0),
            1..5 => Some(u32::try_from(self.dice.below(4_000)).expect("small")),
            _ => None,
        };
        let mut acting = self.world.ms(client);
        let mut draft = acting.draft(ALLOCATE).number(VERSION, 1);
        if let Some(lifetime) = lifetime {
            draft = draft.number(LIFETIME, lifetime);
        }
        if brings {
            draft = draft.raw(SEQUENCE, &[&connection[..], &[0; 4]].concat());
        }
        if !acting.state().nonce.is_empty() {
            draft = acting.signed(draft);
        }
        let intent = Intent::MsAllocate(brings.then_some(connection));
        self.request_ms(client, &draft, intent);
    }

    /// One of the newest requests arrives once more.
    fn repeat_send(&mut self) {
        let newest = self.sent.iter().rev().take(8).find(|(client, ..)| MOVABLE.contains(client));
        if let Some((client, address, bytes)) = newest.cloned() {
            let listener = self.world.client(client).state().listener;
            self.world.inject(listener, address, &bytes);
        }
    }

    /// The connection and the next number of a client.
    fn next_of(&mut self, client: &str) -> Number {
        let mut acting = self.world.ms(client);
        let number = acting.count();
        (acting.state().connection, number)
    }

    /// Mostly somebody named, sometimes a client of this relay.
    fn peer_of(&mut self, client: &'static str) -> SocketAddr {
        let mut acting = self.world.client(client);
        let (listener, address) = (acting.state().listener, acting.state().address);
        let from = FiveTuple { listener, client: ClientAddr::new(address) };
        let relayed = self.shadow.relayed();
        match self.dice.below(10) {
            0..2 if !relayed.is_empty() => relayed[self.dice.index(relayed.len())],
            2 => self.somebody(),
            // Once there is a permission it is not the only one for long.
            _ => {
                let peers = PEERS.map(|name| self.world.peer_address(name));
                let near = peers.iter().filter(|peer| self.shadow.permits(from, peer.ip()));
                let near: Vec<_> = near.copied().collect();
                if near.is_empty() { peers[0] } else { near[self.dice.index(near.len())] }
            }
        }
    }

    fn send_ms(&mut self, client: &'static str) {
        let (peer, payload) = (self.peer_of(client), self.payload());
        let number = self.next_of(client);
        let bytes = self.world.ms(client).send_draft(number.1, peer, &payload).encode();
        let user = name_of(&self.world.ms(client).state().username);
        self.shadow.expect_payload(bytes.clone(), Payload::MsSend(user, number, peer, payload));
        let address = self.world.client(client).state().address;
        self.sent.push((client, address, bytes.clone()));
        self.world.client(client).send_bytes(&bytes);
        self.count_hairpin(client, peer);
    }

    fn aim(&mut self, client: &'static str) {
        let peer = self.peer_of(client);
        let number = self.next_of(client);
        let draft = self.world.ms(client).aim_draft(number.1, peer);
        self.request_ms(client, &draft, Intent::MsAim(number, peer));
    }

    /// Payload for the active destination, if there is one.
    fn pay(&mut self, client: &'static str) {
        let payload = self.payload();
        self.shadow.expect_payload(payload.clone(), Payload::Bare);
        self.world.client(client).send_bytes(&payload);
    }

    fn count_hairpin(&mut self, client: &str, peer: SocketAddr) {
        let datagrams = MOVABLE.contains(&client) && self.shadow.relayed().contains(&peer);
        self.hairpins += u64::from(datagrams);
        let rfc = datagrams && !self.shadow.ms_relays(false).contains(&peer);
        self.mixed += u64::from(rfc);
    }

    /// One bit of a signed request differs: of those behind the cookie, without which it would be
    /// payload.
    fn forge_ms(&mut self, client: &'static str) {
        if self.world.ms(client).state().nonce.is_empty() {
            return;
        }
        let mut acting = self.world.ms(client);
        let draft = acting.draft(ALLOCATE).number(LIFETIME, 0);
        let draft = acting.signed(draft);
        let user = name_of(&acting.state().username);
        let mut bytes = draft.encode();
        let bit = self.dice.index((bytes.len() - 28) * 8);
        bytes[28 + bit / 8] ^= 1 << (bit % 8);
        self.shadow.expect_request(&draft.transaction(), &user, Intent::Never);
        self.world.client(client).send_bytes(&bytes);
    }

    /// A peer calls a relayed address that is for streams.
    pub(crate) fn peer_connects(&mut self, to: SocketAddr) {
        let peer = ["bob", "eve"][self.dice.index(2)];
        self.world.peer(peer).connect(to);
    }

    /// A peer says something on a connection.
    fn peer_says(&mut self) {
        let open: Vec<_> = self.world.dials.open.iter().copied().collect();
        if open.is_empty() {
            return self.peer_sends();
        }
        let payload = self.payload();
        self.world.chunk(open[self.dice.index(open.len())], &payload);
    }

    fn peer_hangs_up(&mut self) {
        let open: Vec<_> = self.world.dials.open.iter().copied().collect();
        if !open.is_empty() {
            self.world.end_of(open[self.dice.index(open.len())]);
        }
    }
}
