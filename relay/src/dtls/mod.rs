//! Clients that speak DTLS over UDP (RFC 7350).
//!
//! Their datagrams come in through the worker's UDP sockets and leave with its batch, so DTLS is
//! only a layer between the socket and the server. A hello is answered with a cookie and
//! forgotten; a session begins when the cookie comes back (`cookie`, AUTH-040). The protocol is
//! done by the library `dimpl`, a state machine without sockets or clocks like our own, on the
//! primitives of ring (`dtls-crypto`); `session` is one client, `travel` how it goes to another
//! worker, `tally` what is counted.
//!
//! Certificates are those of TLS, of which the first with an ECDSA key is used, alone.
//!
//! Sessions are bounded like connections: strangers by network and in all, a handshake by ten
//! seconds, a session without an allocation by half a minute.

mod cookie;
mod session;
mod tally;
#[cfg(test)]
mod tests;
mod travel;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::Output;
use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use proto::addr::{FiveTuple, ListenerId};
use proto::framing::dtls::{self as wire, Hello};
use proto::marks::{Datagram, Marks};
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::{About, Question, Server, Span, Verdict, Wrap};

use crate::certificates::Certificates;
use crate::chronicle::{Below, Tidings};
use crate::engine::{self, Arrival, Batch, Way};
use crate::ledger::SharedLedger;
use crate::stream::{Refusal, StreamLimits};

pub(crate) use dtls_crypto::can_use;
pub(crate) use tally::DtlsTally;
pub use tally::{Greeting, Loss, Parting};
pub(crate) use travel::Traveller;

use cookie::Cookies;
use session::{Library, Session, Version};

/// The longest message in a record (RFC 6347 §4.1).
const LONGEST: usize = 1 << 14;

/// Bytes that one datagram can be.
const DATAGRAM: usize = 1 << 16;

/// What the DTLS of a worker is told.
#[derive(Clone)]
pub(crate) struct DtlsConfig {
    /// By listener of the socket a datagram arrives at: who speaks DTLS there.
    pub(crate) doors: Vec<Option<Door>>,
    /// Who the relay is; `None` without a DTLS listener.
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// Bounds, shared with streams.
    pub(crate) limits: StreamLimits,
}

/// A socket at which DTLS arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// The listener of the clients that speak DTLS.
    pub(crate) inside: ListenerId,
    /// The listener whose socket it is.
    pub(crate) socket: ListenerId,
}

/// The DTLS of one worker.
pub(crate) struct Sessions {
    config: DtlsConfig,
    /// By listener of clients: the listener of their socket.
    sockets: Vec<Option<ListenerId>>,
    library: Option<Library>,
    cookies: Cookies,
    by_client: HashMap<FiveTuple, Session, SeedableRandomState>,
    /// One live entry for each session, named in its `armed`; others are ignored.
    deadlines: BinaryHeap<Reverse<(Instant, FiveTuple)>>,
    /// Clients whose datagrams may arrive at another worker.
    unsettled: Vec<FiveTuple>,
    ledger: SharedLedger,
    /// Where the library puts what comes out.
    room: Box<[u8]>,
    /// Where a message for a client is put together.
    plain: Vec<u8>,
    /// How long the handshakes took that were done in this turn.
    handshakes: Vec<Duration>,
    tally: DtlsTally,
    tidings: Tidings,
}

/// Whom the sessions of a turn work with.
pub(crate) struct Turn<'a, L> {
    pub(crate) now: Now,
    pub(crate) server: &'a mut Server<L>,
    pub(crate) batch: &'a mut Batch,
    /// What the header of the datagram said that is taken in.
    pub(crate) marks: Marks,
}

impl Sessions {
    /// No session yet.
    pub(crate) fn new(
        config: DtlsConfig,
        ledger: SharedLedger,
        secret: &[u8; 32],
        begin: Instant,
    ) -> Result<Self, dimpl::Error> {
        let mut sockets = vec![None; config.doors.len()];
        for door in config.doors.iter().flatten() {
            sockets[door.inside.index()] = Some(door.socket);
        }
        let library = config.certificates.clone().map(Library::new).transpose()?;
        let (words, _) = secret.as_chunks();
        let seed = u64::from_ne_bytes(words.first().copied().unwrap_or_default());
        let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        let memory = if library.is_some() { DATAGRAM } else { 0 };
        Ok(Self {
            config,
            sockets,
            library,
            cookies: Cookies::new(secret, begin),
            by_client: HashMap::with_hasher(hasher),
            deadlines: BinaryHeap::new(),
            unsettled: Vec::new(),
            ledger,
            room: vec![0; memory].into(),
            plain: Vec::with_capacity(memory),
            handshakes: Vec::new(),
            tally: DtlsTally::default(),
            tidings: Tidings::default(),
        })
    }

    /// For whom a datagram is that arrived at this socket's listener, if it is for DTLS.
    #[inline]
    pub(crate) fn claims(&self, socket: ListenerId, datagram: &[u8]) -> Option<ListenerId> {
        let door = (*self.config.doors.get(socket.index())?)?;
        (wire::is_dtls(datagram) || door.inside == socket).then_some(door.inside)
    }

    /// Whether clients of this listener speak DTLS.
    #[inline]
    pub(crate) fn serves(&self, listener: ListenerId) -> bool {
        matches!(self.sockets.get(listener.index()), Some(Some(_)))
    }

    /// How long the handshakes took that were done since this was asked last.
    pub(crate) fn handshakes(&mut self) -> impl Iterator<Item = Duration> + '_ {
        self.handshakes.drain(..)
    }

    /// Counters.
    pub(crate) fn tally(&self) -> DtlsTally {
        self.tally
    }

    /// How long the engine may wait because of sessions; `None`: for ever.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        let Reverse((next, _)) = self.deadlines.peek()?;
        Some(next.saturating_duration_since(now))
    }

    /// Takes in a datagram.
    pub(crate) fn hear<L: Ledger>(
        &mut self,
        turn: &mut Turn<'_, L>,
        from: FiveTuple,
        arrival: &Arrival,
    ) {
        let datagram = turn.batch.bytes(arrival);
        if !wire::is_dtls(datagram) {
            self.lose(Loss::Foreign);
            return;
        }
        if wire::is_handshake(datagram)
            && let Some(greeting) = self.greet(turn, from, arrival)
        {
            self.tally.greeted[greeting as usize] += 1;
            self.tidings.tell(from, Below::Greeted(greeting));
            self.decline(turn, (from, arrival), greeting);
            return;
        }
        let datagram = turn.batch.bytes(arrival);
        let Some(session) = self.by_client.get_mut(&from) else {
            self.lose(Loss::Stray);
            return;
        };
        let parting = session.take(turn.now.mono, datagram).err();
        self.drain(turn, from, parting);
    }

    /// Answers a hello, or begins a session with it. `None` if it belongs to a session.
    fn greet<L: Ledger>(
        &mut self,
        turn: &mut Turn<'_, L>,
        from: FiveTuple,
        arrival: &Arrival,
    ) -> Option<Greeting> {
        let now = turn.now.mono;
        let datagram = turn.batch.bytes(arrival);
        let known = self.by_client.get(&from);
        let hello = match Hello::parse(datagram) {
            Ok(hello) if known.is_some_and(|session| session.began_with(&hello)) => return None,
            Ok(hello) => hello,
            Err(_) if known.is_some() => return None,
            Err(why) => return Some(Greeting::of(why)),
        };
        let Some(version) = Version::of(&hello) else { return Some(Greeting::Version) };
        let library = self.library.as_ref()?;
        let Some((cookie, first)) = self.cookies.judge(now, from, (&hello, version)) else {
            if version == Version::V13 && hello.cookie().is_some() {
                return Some(Greeting::BadCookie);
            }
            if !turn.server.answers(turn.now, &question(from, datagram)) {
                return Some(Greeting::Throttled);
            }
            let cookie = self.cookies.bake(now, from, (&hello, version));
            let short = wire::verify_request(&cookie);
            let answer = match version {
                Version::V12 => Some(&short[..]),
                Version::V13 => library.retry_request(now, datagram, cookie, &mut self.room),
            };
            let Some(answer) = answer else { return Some(Greeting::Mismatch) };
            if answer.len() > datagram.len() {
                return Some(Greeting::Long);
            }
            turn.batch.reply(outside(&self.sockets, from), false, answer);
            return Some(Greeting::Asked);
        };
        if hello.sequence() != 1 {
            // The library begins with the first answer to a cookie, not with a later one.
            return Some(Greeting::BadCookie);
        }
        if let Err(refusal) = self.ledger.admit_handshake(now, from.client) {
            return Some(Greeting::refused(refusal));
        }
        if let Err(refusal) =
            self.ledger.admit_stranger(from.client.ip(), &self.config.limits.strangers)
        {
            return Some(Greeting::refused(refusal));
        }
        let endpoint = library.resume(version, now, (&first, datagram), cookie);
        let Some(endpoint) = endpoint else {
            self.ledger.dismiss_stranger(from.client.ip());
            return Some(Greeting::Mismatch);
        };
        let session = Session::begin(endpoint, *hello.random(), now);
        self.remove(turn, from, Parting::Replaced);
        self.by_client.insert(from, session);
        self.tally.open += 1;
        self.drain(turn, from, None);
        Some(Greeting::Taken)
    }

    /// Tells a client that there will be no answer, where waiting for one would be in vain.
    fn decline<L: Ledger>(
        &self,
        turn: &mut Turn<'_, L>,
        (from, arrival): (FiveTuple, &Arrival),
        greeting: Greeting,
    ) {
        let why = match greeting {
            Greeting::Version => wire::PROTOCOL_VERSION,
            Greeting::Mismatch => wire::HANDSHAKE_FAILURE,
            _ => return,
        };
        if turn.server.answers(turn.now, &question(from, turn.batch.bytes(arrival))) {
            turn.batch.reply(outside(&self.sockets, from), false, &wire::alert(why));
        }
    }

    /// Whatever the library has ready goes where it belongs; then the session ends, if it must.
    fn drain<L: Ledger>(
        &mut self,
        turn: &mut Turn<'_, L>,
        from: FiveTuple,
        mut parting: Option<Parting>,
    ) {
        let Some(session) = self.by_client.get_mut(&from) else { return };
        loop {
            match session.poll(&mut self.room) {
                Some(Output::Packet(packet)) => {
                    turn.batch.reply(outside(&self.sockets, from), false, packet);
                }
                Some(Output::ApplicationData(message)) => turn.judge(from, message),
                Some(Output::Connected) => {
                    self.handshakes.push(session.finish(turn.now.mono));
                    self.tally.finished += 1;
                }
                Some(Output::CloseNotify) => {
                    session.close();
                    parting.get_or_insert(Parting::ByClient);
                }
                Some(Output::Timeout(at)) => {
                    session.timer = at;
                    break;
                }
                // The room holds any datagram.
                None | Some(Output::BufferTooSmall { .. }) => {
                    parting.get_or_insert(Parting::Failed);
                    break;
                }
                // Certificates of clients and keys for media: not asked for.
                Some(_) => {}
            }
        }
        match parting {
            Some(parting) => self.remove(turn, from, parting),
            None => self.arm(from),
        }
    }

    /// Queues relayed payload for a client.
    pub(crate) fn relay(
        &mut self,
        (to, marks): (FiveTuple, Marks),
        wrap: Wrap,
        (arrival, part): (&Arrival, Span),
        batch: &mut Batch,
    ) {
        let payload = batch.part(arrival, part);
        let mut head = [0; engine::LONGEST_HEAD];
        #[expect(clippy::cast_possible_truncation, reason = "a datagram has less than 64 KiB")]
        let length = payload.len() as u32;
        let written = engine::head(wrap, length, &mut head);
        let head = &head[..written];
        let padding = &[0; 3][..engine::padding(wrap, length)];
        self.put_together(&[head, payload, padding]);
        self.send(to, marks, batch);
    }

    /// Queues a control message for a client.
    pub(crate) fn reply(&mut self, to: FiveTuple, bytes: &[u8], batch: &mut Batch) {
        self.put_together(&[bytes]);
        self.send(to, Marks::PLAIN, batch);
    }

    fn put_together(&mut self, parts: &[&[u8]]) {
        self.plain.clear();
        for part in parts {
            self.plain.extend_from_slice(part);
        }
    }

    /// Seals what was put together.
    fn send(&mut self, to: FiveTuple, marks: Marks, batch: &mut Batch) {
        if self.plain.len() > LONGEST {
            self.lose(Loss::Oversize);
            return;
        }
        if let Some(session) = self.by_client.get_mut(&to)
            && session.seal(&self.plain)
        {
            let way = Way::to_client(outside(&self.sockets, to), marks);
            let way = way.lasting(!session.stranger);
            while let Some(Output::Packet(packet)) = session.poll(&mut self.room) {
                batch.send_copied(way, packet);
            }
        } else {
            self.lose(Loss::Unsent);
        }
    }

    /// A client has an allocation: it is no stranger any more.
    pub(crate) fn admitted(&mut self, client: FiveTuple) {
        if let Some(session) = self.by_client.get_mut(&client)
            && std::mem::replace(&mut session.stranger, false)
        {
            self.ledger.dismiss_stranger(client.client.ip());
        }
    }

    /// Ends the session of a client that the server needs no longer.
    pub(crate) fn close<L: Ledger>(&mut self, turn: &mut Turn<'_, L>, client: FiveTuple) {
        if let Some(session) = self.by_client.get_mut(&client) {
            session.close();
            self.drain(turn, client, Some(Parting::Told));
        }
    }

    /// Looks after the sessions whose time has come.
    pub(crate) fn timeout<L: Ledger>(&mut self, turn: &mut Turn<'_, L>) {
        let now = turn.now.mono;
        while let Some(&Reverse((at, from))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            let session = self.by_client.get_mut(&from);
            let Some(session) = session.filter(|session| session.armed == Some(at)) else {
                continue;
            };
            session.armed = None;
            let mut parting = session.tick(now).err();
            if parting.is_none() && session.is_overdue(now, turn.server.serves(from)) {
                parting = Some(if session.finished { Parting::Idle } else { Parting::Handshake });
                session.close();
            }
            self.drain(turn, from, parting);
        }
    }

    /// Ends all sessions; says goodbye to their clients.
    pub(crate) fn close_all(&mut self, batch: &mut Batch) {
        self.deadlines.clear();
        self.unsettled.clear();
        for (client, mut session) in self.by_client.drain() {
            session.close();
            while let Some(Output::Packet(packet)) = session.poll(&mut self.room) {
                batch.reply(outside(&self.sockets, client), false, packet);
            }
            if session.stranger {
                self.ledger.dismiss_stranger(client.client.ip());
            }
            self.tally.parted[Parting::ShutDown as usize] += 1;
        }
        self.tally.open = 0;
    }

    fn remove<L: Ledger>(&mut self, turn: &mut Turn<'_, L>, client: FiveTuple, parting: Parting) {
        let Some(session) = self.by_client.remove(&client) else { return };
        if session.stranger {
            self.ledger.dismiss_stranger(client.client.ip());
        }
        self.tally.open -= 1;
        self.tally.parted[parting as usize] += 1;
        self.tidings.tell(client, Below::Parted(parting));
        turn.server.client_gone(turn.now, client);
    }

    /// Sees to it that a session comes up when its deadline does.
    fn arm(&mut self, client: FiveTuple) {
        let Some(session) = self.by_client.get_mut(&client) else { return };
        let deadline = session.deadline();
        if session.armed.is_none_or(|armed| deadline < armed) {
            session.armed = Some(deadline);
            self.deadlines.push(Reverse((deadline, client)));
        }
    }

    /// What befell clients since this was asked last.
    pub(crate) fn tidings(&mut self) -> &mut Tidings {
        &mut self.tidings
    }

    fn lose(&mut self, loss: Loss) {
        self.tally.lost[loss as usize] += 1;
    }
}

impl<L: Ledger> Turn<'_, L> {
    /// One message out of a record.
    fn judge(&mut self, from: FiveTuple, message: &[u8]) {
        let message = Datagram { marks: self.marks, bytes: message };
        let frame = self.batch.copied_frame(from, message);
        // The server counts what it drops, and queues what it answers; nothing of a client goes
        // to a client.
        if let Verdict::ToPeer { via, peer, marks, payload } =
            self.server.client_input(self.now, from, self.batch.datagram(&frame))
        {
            self.batch.send_to_peer(&frame, Way::to_peer(via, peer, marks), payload);
        }
    }
}

/// What a stranger sends, as it is counted.
fn question(from: FiveTuple, datagram: &[u8]) -> Question<'_> {
    Question { from, transaction: wire::repeated(datagram), about: About::Login }
}

/// Where what is sealed for a client leaves.
fn outside(sockets: &[Option<ListenerId>], client: FiveTuple) -> FiveTuple {
    let socket = sockets.get(client.listener.index()).copied().flatten();
    FiveTuple { listener: socket.unwrap_or(client.listener), client: client.client }
}

impl Greeting {
    fn of(why: wire::Broken) -> Self {
        match why {
            wire::Broken::Message | wire::Broken::Field => Self::Malformed,
            wire::Broken::Pieces => Self::Pieces,
            wire::Broken::Version => Self::Version,
        }
    }

    fn refused(why: Refusal) -> Self {
        match why {
            Refusal::PerClient => Self::PerClient,
            Refusal::PerNetwork => Self::PerNetwork,
            Refusal::Handshakes => Self::Handshakes,
            // Sessions are not passed on.
            Refusal::PassedPerClient
            | Refusal::PassedPerNetwork
            | Refusal::PassedInAll
            | Refusal::InAll
            | Refusal::Exhausted => Self::InAll,
        }
    }
}
