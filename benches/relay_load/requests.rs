//! What requests cost: how many strangers a second a server can answer, and how many calls it can
//! begin and end.
//!
//! Some clients at once, each on a port of its own. A *binding* is one request. A *call* is three: an
//! Allocate without credentials, which is refused with a challenge, one with credentials, and a Refresh
//! that ends the allocation; then another client comes. Requests leave in bursts, as a card that
//! moderates interrupts hands over those of many, and answers are taken in the order of requests. What
//! counts is the time of the server's threads; how many a second there were is said beside it, because
//! the load may be the slower of the two. The far end of the link is polled by the core of the load, so
//! that no server pays for what clients receive.

use std::collections::VecDeque;
use std::io;
use std::iter::Cycle;
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use client::wire::{self, Signature};
use client::{ClientError, Credentials};
use stun_rs::attributes::stun::{Nonce, Realm, UserName};
use stun_rs::attributes::turn::{LifeTime, RequestedTrasport};
use stun_rs::methods::{ALLOCATE, BINDING, REFRESH};
use stun_rs::{
    Algorithm, AlgorithmId, HMACKey, MessageClass, MessageMethod, StunAttribute, TransactionId,
};

use crate::Bench;
use crate::clock;
use crate::cpu::Spent;
use crate::server::{Kind, Server, credentials};
use crate::site::{CLIENT, Room};
use crate::traffic::BURST;

/// How long the load waits for an answer before it gives a client up.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a server may grow accustomed to the load.
const WARM_UP: Duration = Duration::from_millis(150);

/// The ports that clients have in turn, far more than come in the time a server may remember one.
const PORTS: RangeInclusive<u16> = 2_000..=63_999;

/// What clients come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// To learn their address, again and again.
    Binding,
    /// To allocate and to leave.
    Call,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It has asked for its address.
    Curious,
    /// It has asked for an allocation, without credentials.
    Asked,
    /// The same with credentials.
    Proved,
    /// It has given its allocation back.
    Left,
}

/// A client.
#[derive(Debug)]
struct Caller {
    socket: UdpSocket,
    step: Step,
    transaction: TransactionId,
    /// What it signs with, and what goes with it.
    demand: Option<(Signature, [StunAttribute; 3])>,
    request: Vec<u8>,
    /// When that was sent.
    since: Instant,
}

/// What an answer means to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It is not the one.
    OldNews,
    /// The client has asked for more.
    Onward,
    /// The client has what it came for.
    Finished,
    /// It never will.
    Failed,
}

/// Those who call a server.
#[derive(Debug)]
struct Callers {
    server: SocketAddr,
    errand: Errand,
    credentials: Credentials,
    ports: Cycle<RangeInclusive<u16>>,
    /// In the order of their requests.
    underway: VecDeque<Caller>,
    /// The last of them whose requests have not been sent.
    unsent: usize,
    finished: u64,
    failed: u64,
}

/// What a window of load came to.
#[derive(Clone, Copy, Debug)]
struct Round {
    each_us: f64,
    each_second: f64,
    failed: f64,
}

/// Measures every server in turn and prints a table.
pub(crate) fn measure(bench: &Bench<'_>, clients: u16) -> io::Result<()> {
    println!(
        "{clients} clients at once on UDP, in bursts of {BURST}. binding: one request each. call: Allocate refused with 401, Allocate, \
         Refresh to nothing. Time: of the server's threads. Medians of {} rounds of {} s, servers in turn.\n\
         {:<10}{:<8}{:>10}{:>14}{:>10}  aim",
        bench.args.rounds, bench.args.seconds, "", "server", "µs each", "each second", "failed"
    );
    for errand in [Errand::Binding, Errand::Call] {
        if errand.name().contains(&bench.args.only) {
            table(bench, errand, clients)?;
        }
    }
    Ok(())
}

fn table(bench: &Bench<'_>, errand: Errand, clients: u16) -> io::Result<()> {
    let callers = bench.servers.iter().map(|server| Callers::of(server.kind, errand));
    let mut callers: Vec<Callers> = callers.collect();
    let mut rounds: Vec<Vec<Round>> = callers.iter().map(|_| Vec::new()).collect();
    for _ in 0..bench.args.rounds {
        for ((server, callers), rounds) in bench.servers.iter().zip(&mut callers).zip(&mut rounds) {
            bench.stop.check()?;
            let work = || window(bench, server, callers, clients);
            let round = server.site.enter(Room::Clients, work)?;
            rounds.push(round.map_err(|error| {
                io::Error::other(format!("{}: {}: {error}", server.kind.name(), errand.name()))
            })?);
        }
    }
    let median = |rounds: &[Round], figure: fn(&Round) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let mut all = bench.servers.iter().zip(&rounds);
    let coturn = all.find(|(server, _)| server.kind == Kind::Coturn);
    let coturn = coturn.map(|(_, rounds)| median(rounds, |it| it.each_us));
    for (server, rounds) in bench.servers.iter().zip(&rounds) {
        let each_us = median(rounds, |it| it.each_us);
        let other = coturn.filter(|_| server.kind != Kind::Coturn);
        let verdict = other.map(|other| errand.verdict(each_us / other));
        println!(
            "{:<10}{:<8}{each_us:>10.2}{:>14.0}{:>9.1}%  {}",
            errand.name(),
            server.kind.name(),
            median(rounds, |it| it.each_second),
            median(rounds, |it| it.failed) * 100.0,
            verdict.unwrap_or_default(),
        );
    }
    Ok(())
}

/// Load for some time, by so many at once.
fn window(
    bench: &Bench<'_>,
    server: &Server<'_>,
    callers: &mut Callers,
    clients: u16,
) -> Result<Round, ClientError> {
    let spent = || Spent::read(bench.args.relay_core, server.id(), &[]).map(|spent| spent.tasks);
    for _ in 0..clients {
        callers.welcome()?;
    }
    callers.run(WARM_UP)?;
    let (before, finished, failed) = (spent()?, callers.finished, callers.failed);
    let start = clock::now();
    callers.run(Duration::from_secs_f64(bench.args.seconds))?;
    let (took, spent) = (clock::now() - start, spent()?.saturating_sub(before));
    let finished = (callers.finished - finished) as f64;
    let failed = (callers.failed - failed) as f64;
    callers.end()?;
    Ok(Round {
        each_us: spent.as_secs_f64() * 1e6 / finished.max(1.0),
        each_second: finished / took.as_secs_f64(),
        failed: failed / (finished + failed).max(1.0),
    })
}

impl Errand {
    fn name(self) -> &'static str {
        match self {
            Self::Binding => "binding",
            Self::Call => "call",
        }
    }

    /// What a share of coturn's time is called.
    fn verdict(self, ratio: f64) -> String {
        let (ratio, aim, met) = match self {
            Self::Binding => (ratio, 0.6, ratio <= 0.6),
            // Calls in the same time, as a multiple of coturn's.
            Self::Call => (1.0 / ratio, 6.0, 1.0 / ratio >= 6.0),
        };
        format!("{ratio:.2} of coturn's, aim {aim} {}", if met { "met" } else { "missed" })
    }
}

impl Callers {
    fn of(kind: Kind, errand: Errand) -> Self {
        Self {
            server: kind.addr(),
            errand,
            credentials: credentials(0),
            ports: PORTS.cycle(),
            underway: VecDeque::new(),
            unsent: 0,
            finished: 0,
            failed: 0,
        }
    }

    /// One more client asks.
    fn welcome(&mut self) -> Result<(), ClientError> {
        if let Some(port) = self.ports.next() {
            self.begin(Caller::new(self.server, port)?)?;
        }
        Ok(())
    }

    /// Lets a client ask first.
    fn begin(&mut self, mut caller: Caller) -> Result<(), ClientError> {
        caller.begin(self.errand)?;
        self.underway.push_back(caller);
        self.unsent += 1;
        Ok(())
    }

    /// Sends what there is to send, if that is a burst, or all.
    fn send(&mut self) -> io::Result<()> {
        if self.unsent < BURST.min(self.underway.len()) {
            return Ok(());
        }
        let sent = self.underway.len() - self.unsent;
        self.unsent = 0;
        self.underway.iter_mut().skip(sent).try_for_each(Caller::send)
    }

    /// Lets everybody go on for some time; who has what he came for asks again, or another comes.
    fn run(&mut self, lasting: Duration) -> Result<(), ClientError> {
        let end = clock::now() + lasting;
        while clock::now() < end {
            let Some(through) = self.turn()? else { continue };
            match self.errand {
                Errand::Binding => self.begin(through)?,
                Errand::Call => self.welcome()?,
            }
        }
        Ok(())
    }

    /// Lets everybody who is here come to the end.
    fn end(&mut self) -> Result<(), ClientError> {
        while !self.underway.is_empty() {
            self.turn()?;
        }
        Ok(())
    }

    /// Looks whether the client that has waited longest has an answer; the client, if it is through.
    fn turn(&mut self) -> Result<Option<Caller>, ClientError> {
        self.send()?;
        let Some(caller) = self.underway.front_mut() else { return Ok(None) };
        let mut buffer = [0; wire::MESSAGE_MAX];
        let heard = match caller.receive(&mut buffer)? {
            Some(answer) => caller.heed(answer, &self.credentials)?,
            None if clock::now() - caller.since > PATIENCE => Heard::Failed,
            None => Heard::OldNews,
        };
        match heard {
            Heard::OldNews => return Ok(None),
            Heard::Onward => {
                self.underway.rotate_left(1);
                self.unsent += 1;
                return Ok(None);
            }
            Heard::Finished => self.finished += 1,
            Heard::Failed => self.failed += 1,
        }
        Ok(self.underway.pop_front())
    }
}

impl Caller {
    /// A client on this port.
    fn new(server: SocketAddr, port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((CLIENT, port))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            step: Step::Curious,
            transaction: TransactionId::default(),
            demand: None,
            request: Vec::new(),
            since: clock::now(),
        })
    }

    fn begin(&mut self, errand: Errand) -> Result<(), ClientError> {
        match errand {
            Errand::Binding => self.ask(Step::Curious, BINDING, None),
            Errand::Call => self.allocate(Step::Asked),
        }
    }

    fn allocate(&mut self, step: Step) -> Result<(), ClientError> {
        self.ask(step, ALLOCATE, Some(RequestedTrasport::default().into()))
    }

    fn ask(
        &mut self,
        step: Step,
        method: MessageMethod,
        attribute: Option<StunAttribute>,
    ) -> Result<(), ClientError> {
        self.step = step;
        self.transaction = TransactionId::default();
        let mut attributes = Vec::from_iter(attribute);
        let signature = self.demand.as_ref().map(|(signature, others)| {
            attributes.extend(others.iter().cloned());
            signature
        });
        let (class, tail) = (MessageClass::Request, (signature, false));
        self.request = wire::write(method, class, self.transaction, &attributes, tail)?;
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        self.since = clock::now();
        self.socket.send(&self.request).map(drop)
    }

    fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        match self.socket.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            outcome => outcome.map(|len| buffer.get(..len)),
        }
    }

    fn heed(&mut self, answer: &[u8], credentials: &Credentials) -> Result<Heard, ClientError> {
        if answer.get(8..20) != Some(self.transaction.as_bytes().as_slice()) {
            return Ok(Heard::OldNews);
        }
        // A success of Binding, Allocate or Refresh; errors have another second byte.
        let succeeded = matches!(answer, [0x01, 0x01 | 0x03 | 0x04, ..]);
        match (self.step, succeeded) {
            (Step::Asked, false) => {
                self.demand = Some(demanded(answer, credentials)?);
                self.allocate(Step::Proved)?;
                Ok(Heard::Onward)
            }
            (Step::Proved, true) => {
                self.ask(Step::Left, REFRESH, Some(LifeTime::new(0).into()))?;
                Ok(Heard::Onward)
            }
            (Step::Curious | Step::Left, true) => Ok(Heard::Finished),
            _ => Ok(Heard::Failed),
        }
    }
}

/// What a challenge asks for, as every client since RFC 5389 gives it.
fn demanded(
    challenge: &[u8],
    credentials: &Credentials,
) -> Result<(Signature, [StunAttribute; 3]), ClientError> {
    let unsendable = |error: stun_rs::StunError| ClientError::Unsendable(error.to_string());
    let message = wire::read(challenge)?;
    let realm = message.get::<Realm>().and_then(|it| it.as_realm().ok()).cloned();
    let nonce = message.get::<Nonce>().and_then(|it| it.as_nonce().ok()).cloned();
    let (Some(realm), Some(nonce)) = (realm, nonce) else {
        let error = wire::error_code(&message);
        return Err(ClientError::Garbled(format!("a refusal without a challenge: {error:?}")));
    };
    let Credentials { username, password } = credentials;
    let algorithm = Algorithm::from(AlgorithmId::MD5);
    let key = HMACKey::new_long_term(username, realm.as_str(), password, algorithm)
        .map_err(unsendable)?;
    let username = UserName::new(username).map_err(unsendable)?;
    Ok((Signature::Sha1(key), [username.into(), realm.into(), nonce.into()]))
}
