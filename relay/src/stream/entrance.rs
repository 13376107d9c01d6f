//! How connections come in: taken within the limits, recognised, passed on if they are not ours.

use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Token};
use proto::addr::{ClientAddr, FiveTuple};
use proto::framing::pseudo_tls;
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::Server;

use super::connection::{Connection, Layer};
use super::door::Call;
use super::frames::Framing;
use super::opening::{self, Beside, Reading};
use super::queue::Worth;
use super::roster::Key;
use super::tally::{Ending, Refusal};
use super::tls::{self, Session};
use super::{PASSAGE, Streams};
use crate::engine::FOREIGN;

/// Connections taken at one door in a turn.
const CALLS: usize = 32;

impl Streams {
    /// Takes whoever waits at a door, within the limits.
    pub(super) fn accept<L: Ledger>(&mut self, now: Now, server: &mut Server<L>) {
        for _ in 0..CALLS * self.doors.len() {
            match self.doors.call(now.mono) {
                Call::Nobody => return,
                Call::Exhausted => {
                    self.tools.tally.refused[Refusal::Exhausted as usize] += 1;
                    return;
                }
                Call::Client(socket, from, door) => self.welcome(now, (socket, from), door, server),
            }
        }
    }

    fn welcome<L: Ledger>(
        &mut self,
        now: Now,
        (mut socket, from): (TcpStream, SocketAddr),
        door: usize,
        server: &mut Server<L>,
    ) {
        let plan = self.doors.plan(door);
        let proxied = plan.is_balancer(from.ip());
        let layer = match (plan.plain, plan.tls, &self.config.tls) {
            _ if proxied || self.config.microsoft => Ok(Layer::Unknown { door, proxied }),
            (Some(_), None, _) => Ok(Layer::Plain),
            (None, Some(_), Some(tls)) if self.config.pass_through.is_none() => {
                Session::new(tls).map(|session| Layer::Tls(Box::new(session)))
            }
            _ => Ok(Layer::Unknown { door, proxied }),
        };
        let client = FiveTuple { listener: plan.listener(), client: ClientAddr::new(from) };
        let bounds = self.config.limits.strangers;
        // A balancer brings many clients; each is counted when it is known.
        let bounds = if proxied { bounds.in_all() } else { bounds };
        if let Err(refusal) = self.ledger.admit_stranger(client.client.ip(), &bounds) {
            self.refuse(client, refusal);
            return;
        }
        if let Ok(Layer::Tls(_)) = layer
            && let Err(refusal) = self.ledger.admit_handshake(now.mono, client.client)
        {
            self.refuse(client, refusal);
            self.ledger.dismiss_stranger(client.client.ip());
            return;
        }
        self.make_way(now, None, client, server);
        let key = self.roster.next_key();
        let token = Token(FOREIGN | key.to_token());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.registry.register(&mut socket, token, interest).is_ok();
        let (true, Ok(layer)) = (registered, layer) else {
            self.refuse(client, Refusal::Exhausted);
            self.ledger.dismiss_stranger(client.client.ip());
            return;
        };
        self.tools.tally.accepted += 1;
        self.count_open(client, true);
        self.roster.insert(Connection::new(socket, layer, client, now.mono));
    }

    /// Finds out what a connection is, by the bytes that have arrived.
    pub(super) fn recognise<L: Ledger>(
        &mut self,
        now: Now,
        key: Key,
        (door, proxied): (usize, bool),
        server: &mut Server<L>,
    ) -> Option<Ending> {
        let connection = self.roster.find(key)?;
        let room = &mut self.tools.records[..opening::LONGEST];
        let seen = match connection.peek(room) {
            Ok(None) => return None,
            Ok(Some(0)) => return Some(Ending::ByClient),
            Ok(Some(seen)) => seen,
            Err(_) => return Some(Ending::Reset),
        };
        let plan = self.doors.plan(door);
        let (pass, microsoft) = (self.config.pass_through.as_ref(), self.config.microsoft);
        let beside = Beside { pass, microsoft };
        let (listener, layer) = match opening::read(&room[..seen], proxied, plan, beside) {
            Reading::Wait if connection.half_closed => return Some(Ending::ByClient),
            Reading::Wait => return None,
            Reading::Nothing(ending) => return Some(ending),
            Reading::Foreign => return self.pass_on(now, key),
            Reading::Proxied(client, header) => {
                if connection.skip(header, room).is_err() {
                    return Some(Ending::Reset);
                }
                connection.layer = Layer::Unknown { door, proxied: false };
                if let Some(refused) = client.and_then(|it| self.introduce(now, key, it, server)) {
                    return Some(refused);
                }
                self.recall(key);
                return None;
            }
            Reading::Plain => (plan.plain, Layer::Plain),
            Reading::PseudoTls => {
                if connection.skip(pseudo_tls::CLIENT_LEN, room).is_err() {
                    return Some(Ending::Reset);
                }
                self.disguise(now, key);
                (self.doors.plan(door).plain, Layer::Plain)
            }
            Reading::Tls
                if let Err(refusal) =
                    self.ledger.admit_handshake(now.mono, connection.client.client) =>
            {
                let client = connection.client;
                self.refuse(client, refusal);
                return Some(Ending::Told);
            }
            Reading::Tls => match self.config.tls.as_ref().map(Session::new) {
                Some(Ok(session)) => (plan.tls, Layer::Tls(Box::new(session))),
                Some(Err(tls::Failed)) | None => return Some(Ending::Tls),
            },
        };
        let connection = self.roster.find(key)?;
        connection.layer = layer;
        let client = connection.client;
        if let Some(listener) = listener {
            self.rename(now, key, FiveTuple { listener, ..client }, server);
        }
        self.recall(key);
        None
    }

    /// Answers the record of pseudo-TLS. Nothing was said before, so it leaves in one write.
    fn disguise(&mut self, now: Now, key: Key) {
        let mut fresh = [0; pseudo_tls::FRESH_LEN];
        let (time, rest) = fresh.split_at_mut(4);
        // Nobody looks at these bytes, and nothing depends on them.
        let _ = getrandom::fill(rest);
        time.copy_from_slice(&now.unix.0.to_be_bytes()[4..]);
        self.tools.tally.pseudo_tls += 1;
        let Some(connection) = self.roster.find(key) else { return };
        connection.framing = Framing::Ms;
        self.put(key, Worth::Control, &[&pseudo_tls::answer(&fresh)]);
    }

    /// A connection has more to say in the next turn.
    fn recall(&mut self, key: Key) {
        if let Some(connection) = self.roster.find(key) {
            connection.ready = true;
            self.ready.push_back(key);
        }
    }

    /// A balancer said whom it brings.
    fn introduce<L: Ledger>(
        &mut self,
        now: Now,
        key: Key,
        client: SocketAddr,
        server: &mut Server<L>,
    ) -> Option<Ending> {
        let old = self.roster.find(key)?.client;
        let new = FiveTuple { client: ClientAddr::new(client), ..old };
        self.ledger.dismiss_stranger(old.client.ip());
        let bounds = &self.config.limits.strangers;
        if let Err(refusal) = self.ledger.admit_stranger(new.client.ip(), bounds) {
            self.refuse(new, refusal);
            self.roster.find(key)?.stranger = false;
            return Some(Ending::Told);
        }
        self.rename(now, key, new, server);
        None
    }

    /// A connection is of another client than it seemed. Only one connection may be: the kernel
    /// gives a port away when the old one is gone.
    fn rename<L: Ledger>(&mut self, now: Now, key: Key, client: FiveTuple, server: &mut Server<L>) {
        self.make_way(now, Some(key), client, server);
        let Some(connection) = self.roster.find(key) else { return };
        let before = connection.client;
        self.count_open(before, false);
        self.count_open(client, true);
        self.roster.rename(key, client);
    }

    /// Ends the connection of a client other than this one.
    pub(super) fn make_way<L: Ledger>(
        &mut self,
        now: Now,
        key: Option<Key>,
        client: FiveTuple,
        server: &mut Server<L>,
    ) {
        if let Some((old, connection)) = self.roster.of(client)
            && Some(old) != key
        {
            connection.ending = Some(Ending::Replaced);
            server.client_gone(now, client);
            self.remove(old);
        }
    }

    /// Hands a connection to the other server, which speaks to it from now on.
    fn pass_on(&mut self, now: Now, key: Key) -> Option<Ending> {
        let pass = self.config.pass_through.clone()?;
        let client = self.roster.find(key)?.client;
        if let Err(refusal) = self.ledger.admit_passage(client.client.ip(), &pass.bounds) {
            self.refuse(client, refusal);
            return Some(Ending::Told);
        }
        let mut connection = self.roster.remove(key)?;
        connection.silence(&mut self.tools.spares);
        self.ledger.dismiss_stranger(client.client.ip());
        self.count_open(client, false);
        self.tools.tally.closed[Ending::PassedOn as usize] += 1;
        let token = |token| Token(FOREIGN | PASSAGE | token);
        let socket = (connection.into_socket(), client.client.socket());
        let begun = self.passages.begin(now.mono, socket, &pass, (&self.registry, token));
        if begun.is_err() {
            self.ledger.dismiss_passage(client.client.ip());
        }
        None
    }
}
