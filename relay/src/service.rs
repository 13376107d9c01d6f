//! The life of a relay: start, observe, drain, stop.

mod employ;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use guard::{Confined, Measures, Plan};
use proto::addr::{ClientAddr, Side, Transport};
use proto::media::MediaReport;
use proto::policy::Listener;
use proto::turn::tap::{Depth, Untapped};
use proto::turn::view::AllocationDetail;
use proto::turn::{Rate, Tally, Throttle};

use crate::capture::{Aim, Recording};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::dtls::Sessions;
use crate::engine::{Batch, MioEngine};
use crate::haste::Haste;
use crate::ledger::SharedLedger;
use crate::listen;
use crate::memory::Memory;
use crate::office::{self, Guestbook, Office};
use crate::offload::{self, Offload, Program, Standing};
use crate::records::{self, Accounts, Records, Reopening};
use crate::session::{Session, SessionId};
use crate::stream::Streams;
use crate::tcp_relay::TcpRelays;
use crate::telemetry::block::{self, Block, Snapshot};
use crate::telemetry::exposition::Scrape;
use crate::telemetry::process::Process;
use crate::worker::{self, Hands, Letterbox, Order, Question};
use employ::employ;

/// How long an observer waits for a worker's answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a relay could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not fit this host as it is now: an occupied port, for instance.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system refused something that no configuration can mend.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl From<guard::Error> for StartError {
    fn from(error: guard::Error) -> Self {
        Self::system("privileges", io::Error::other(error))
    }
}

impl StartError {
    /// The exit status of a process that could not start.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(error) => error.exit_code(),
            Self::System { .. } => 1,
        }
    }

    /// A refusal of the operating system.
    pub(crate) fn system(what: &str, source: io::Error) -> Self {
        Self::System { what: what.to_owned(), source }
    }
}

/// The address of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerAddr {
    /// What it is bound to; never a wildcard.
    pub local: SocketAddr,
    /// What it is called outside a 1:1 NAT, if it stands behind one.
    pub advertised: Option<IpAddr>,
}

impl ListenerAddr {
    /// The address clients use: the advertised one where there is one.
    pub fn reachable(&self) -> SocketAddr {
        SocketAddr::new(self.advertised.unwrap_or(self.local.ip()), self.local.port())
    }
}

impl fmt::Display for ListenerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.advertised {
            Some(ip) => write!(f, "{} (advertised as {ip})", self.local),
            None => self.local.fmt(f),
        }
    }
}

/// Looks at a running relay from any thread.
#[derive(Clone, Debug)]
pub struct Observer(Arc<Shared>);

/// What the office counts.
#[derive(Debug, Default)]
struct OfficeTally {
    /// How often the configuration was read again, with and without success.
    reloads: [AtomicU64; 2],
    /// Parts of the office that a defect has ended.
    defects: AtomicU64,
}

/// What all handles of a relay share.
#[derive(Debug)]
struct Shared {
    config: Config,
    started: Instant,
    letterboxes: Arc<[Letterbox]>,
    blocks: Vec<Arc<Block>>,
    draining: AtomicBool,
    /// What protects the process.
    hardening: Measures,
    /// Where the kernel relays by itself.
    offload: Standing,
    tally: OfficeTally,
    /// Of the workers' threads.
    niceness: i32,
    memory: Memory,
    /// Visitors who were refused.
    guestbook: Guestbook,
    /// Counts handshakes, clients' and operators'.
    ledger: SharedLedger,
    /// What is counted of usage records, and what has their file opened anew.
    records: Option<(Arc<Accounts>, Reopening)>,
    /// Workers that still have allocations, or may get some.
    busy: AtomicU16,
}

impl Observer {
    /// Every allocation of every worker as it is now. Waits for the workers' answers, at most
    /// a second; a worker that does not answer is left out.
    pub fn sessions(&self) -> Vec<Session> {
        let all = |answer| Question::Allocations { first: 0, most: usize::MAX, answer };
        let mut sessions = Vec::new();
        for (worker, views) in (0..).zip(self.ask(all)) {
            let views = views.unwrap_or_default();
            sessions.extend(views.into_iter().map(|view| Session { worker, view }));
        }
        sessions
    }

    /// At most so many allocations behind one, or from the first; `None` if a worker does not
    /// answer. Waits as [`Observer::sessions`] does.
    pub(crate) fn page(&self, behind: Option<SessionId>, most: usize) -> Option<Vec<Session>> {
        let (begin, mut first) =
            behind.map_or((0, 0), |it| (it.worker, it.allocation.slot.saturating_add(1)));
        let mut page = Vec::new();
        for (worker, letterbox) in (0..).zip(&*self.0.letterboxes).skip(usize::from(begin)) {
            let most = most - page.len();
            let first = std::mem::take(&mut first);
            let answer = letterbox.ask(|answer| Question::Allocations { first, most, answer });
            let views = answer.recv_timeout(PATIENCE).ok()?;
            page.extend(views.into_iter().map(|view| Session { worker, view }));
        }
        Some(page)
    }

    /// These allocations, in their order, without those that are over; `None` if a worker does not
    /// answer. Waits as [`Observer::sessions`] does.
    pub(crate) fn these(&self, ids: &[SessionId]) -> Option<Vec<Session>> {
        let mut found = HashMap::new();
        for (worker, letterbox) in (0..).zip(&*self.0.letterboxes) {
            let wanted: Vec<_> = ids.iter().filter(|it| it.worker == worker).collect();
            if wanted.is_empty() {
                continue;
            }
            let wanted = wanted.iter().map(|it| it.allocation).collect();
            let answer = letterbox.ask(|answer| Question::Views(wanted, answer));
            for view in answer.recv_timeout(PATIENCE).ok()? {
                found.insert(SessionId { worker, allocation: view.id }, view);
            }
        }
        let session = |id: &SessionId| Some(Session { worker: id.worker, view: found.remove(id)? });
        Some(ids.iter().filter_map(session).collect())
    }

    /// Everything about an allocation, if there is one; an error if its worker does not answer.
    /// Waits as [`Observer::sessions`] does.
    pub(crate) fn detail(
        &self,
        id: SessionId,
    ) -> Result<Option<AllocationDetail>, RecvTimeoutError> {
        let Some(letterbox) = self.0.letterboxes.get(usize::from(id.worker)) else {
            return Ok(None);
        };
        let answer = letterbox.ask(|answer| Question::Detail(id.allocation, answer));
        answer.recv_timeout(PATIENCE)
    }

    /// How well the media of an allocation arrives, stream by stream; `None` if it is over or not
    /// measured, or its worker does not answer. Waits as [`Observer::sessions`] does.
    pub fn media(&self, session: &Session) -> Option<MediaReport> {
        let letterbox = self.0.letterboxes.get(usize::from(session.worker))?;
        let answer = letterbox.ask(|answer| Question::Media(session.view.id, answer));
        answer.recv_timeout(PATIENCE).ok().flatten()
    }

    /// Captures what an allocation sends and gets until the recording is dropped; `None` if its
    /// worker does not answer. Waits as [`Observer::sessions`] does.
    pub(crate) fn capture(
        &self,
        id: SessionId,
        depth: Depth,
    ) -> Option<Result<Recording, Untapped>> {
        let Some(letterbox) = self.0.letterboxes.get(usize::from(id.worker)) else {
            return Some(Err(Untapped::Gone));
        };
        let aim = Aim { id: id.allocation, depth };
        let answer = letterbox.ask(|answer| Question::Capture(aim, answer));
        let batches = answer.recv_timeout(PATIENCE).ok()?;
        Some(batches.map(|batches| Recording::new(batches, id.allocation, letterbox.clone())))
    }

    /// Ends an allocation, and says whether there was one; `None` if its worker does not answer.
    /// Waits as [`Observer::sessions`] does.
    pub(crate) fn end(&self, id: SessionId) -> Option<bool> {
        let Some(letterbox) = self.0.letterboxes.get(usize::from(id.worker)) else {
            return Some(false);
        };
        let answer = letterbox.ask(|answer| Question::End(id.allocation, answer));
        answer.recv_timeout(PATIENCE).ok()
    }

    /// Counters summed over the workers. Waits as [`Observer::sessions`] does.
    pub fn tally(&self) -> Tally {
        self.counters().sum
    }

    /// Counters of every worker, and their sum. Waits as [`Observer::sessions`] does.
    pub(crate) fn counters(&self) -> Counters {
        // Whoever answers has published.
        let whole = self.is_healthy();
        Counters { whole, ..self.published() }
    }

    /// The same as the workers published them last, up to 100 ms ago.
    pub(crate) fn published(&self) -> Counters {
        let workers = self.snapshots();
        let mut sum = Tally::default();
        for snapshot in &workers {
            block::add(&mut sum, snapshot.server);
        }
        Counters { whole: true, workers, sum }
    }

    /// Whether the relay takes no new allocations any more.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Whether every worker answers. Waits as [`Observer::sessions`] does.
    pub(crate) fn is_healthy(&self) -> bool {
        self.ask(Question::Counters).iter().all(Option::is_some)
    }

    /// What each worker answers; `None` of one that does not.
    pub(crate) fn ask<T>(&self, question: impl Fn(SyncSender<T>) -> Question) -> Vec<Option<T>> {
        self.ask_each(|_, answer| question(answer))
    }

    /// The same with a question that depends on the worker's number.
    pub(crate) fn ask_each<T>(
        &self,
        question: impl Fn(usize, SyncSender<T>) -> Question,
    ) -> Vec<Option<T>> {
        let letterboxes = self.0.letterboxes.iter().enumerate();
        let answers: Vec<_> = letterboxes
            .map(|(index, letterbox)| letterbox.ask(|answer| question(index, answer)))
            .collect();
        answers.iter().map(|answer| answer.recv_timeout(PATIENCE).ok()).collect()
    }

    /// Everything a scrape of the metrics shows. Waits as [`Observer::sessions`] does.
    pub(crate) fn scrape(&self) -> Scrape {
        let sessions = self.sessions();
        Scrape {
            workers: self.snapshots(),
            listeners: self.0.config.listeners.clone(),
            sessions,
            process: Process::look(),
            draining: self.is_draining(),
            hardening: self.0.hardening,
            offload: self.0.offload.clone(),
            reloads: [0, 1].map(|index| self.0.tally.reloads[index].load(Ordering::Relaxed)),
            office_defects: self.0.tally.defects.load(Ordering::Relaxed),
            niceness: self.0.niceness,
            guestbook: self.0.guestbook.clone(),
            memory_tight: self.0.memory.is_tight(),
            certificates: self.0.config.certificates().map(|it| it.ends()).unwrap_or_default(),
            records: self.0.records.as_ref().map(|(accounts, _)| Arc::clone(accounts)),
        }
    }

    /// How long the relay has run.
    pub(crate) fn uptime(&self) -> Duration {
        Clock::new().last().mono.saturating_duration_since(self.0.started)
    }

    /// The configuration at the start.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Puts a configuration in force that was read again; allocations stay.
    pub(crate) fn renew(&self, config: &Config) {
        for (letterbox, server) in self.0.letterboxes.iter().zip(config.servers()) {
            letterbox.renew(server);
        }
    }

    /// What is counted of usage records, if they are kept.
    pub(crate) fn records(&self) -> Option<&Accounts> {
        self.0.records.as_ref().map(|(accounts, _)| &**accounts)
    }

    /// Has the file of usage records opened anew: another may have its name now.
    pub(crate) fn reopen_records(&self) {
        self.0.records.iter().for_each(|(_, reopening)| reopening.ask());
    }

    /// Counts an attempt to read it again.
    pub(crate) fn count_reload(&self, good: bool) {
        self.0.tally.reloads[usize::from(!good)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a part of the office that a defect has ended.
    pub(crate) fn count_defect(&self) {
        self.0.tally.defects.fetch_add(1, Ordering::Relaxed);
    }

    /// Who was refused by the office.
    pub(crate) fn guestbook(&self) -> &Guestbook {
        &self.0.guestbook
    }

    /// Whether an operator from there may begin a handshake of TLS; those of clients count as well.
    pub(crate) fn lets_shake_hands(&self, from: SocketAddr) -> bool {
        let now = Clock::new().last().mono;
        self.0.ledger.admit_handshake(now, ClientAddr::new(from)).is_ok()
    }

    /// The memory budget.
    pub(crate) fn memory(&self) -> Memory {
        self.0.memory.clone()
    }

    /// Takes no new allocation from now on.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.tell_all(Order::Drain);
    }

    /// Ends every allocation and every worker.
    pub(crate) fn stop(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.tell_all(Order::Stop);
    }

    /// Gives all workers an order.
    fn tell_all(&self, order: Order) {
        for letterbox in &*self.0.letterboxes {
            letterbox.order(order);
        }
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        let listeners = self.0.config.listeners.len();
        self.0.blocks.iter().map(|block| block.read(listeners)).collect()
    }
}

/// Counters as they were at some moment.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Whether every worker answered; what the others published before is in it all the same.
    pub(crate) whole: bool,
    /// By worker.
    pub(crate) workers: Vec<Snapshot>,
    /// Of all servers.
    pub(crate) sum: Tally,
}

/// A running relay. Dropping it does not end it: call [`Relay::stop`], then [`Relay::wait`].
#[derive(Debug)]
pub struct Relay {
    observer: Observer,
    workers: Vec<JoinHandle<io::Result<()>>>,
    office: Office,
    /// Usage records, if they are kept.
    records: Option<Records>,
    /// What the kernel relays with, for as long as the relay runs.
    program: Option<Program>,
}

impl Relay {
    /// Where clients are served.
    pub fn listeners(&self) -> Vec<(ListenerAddr, Transport, Side)> {
        let listeners = self.observer.0.config.listeners.iter();
        let address = |l: &Listener| ListenerAddr { local: l.local, advertised: l.advertised };
        listeners.map(|l| (address(l), l.transport, l.side)).collect()
    }

    /// Where metrics are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.observer.0.config.metrics_addr()
    }

    /// Where operators look at it.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.observer.0.config.admin_addr()
    }

    /// A view from outside.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Takes no new allocation from now on; the relay ends with the last one.
    pub fn drain(&self) {
        self.observer.drain();
    }

    /// Ends every allocation and then the relay, at once.
    pub fn stop(&self) {
        self.observer.stop();
    }

    /// Waits until the relay has ended: drained, stopped or failed.
    pub fn wait(self) -> Result<(), StartError> {
        let mut outcome = Ok(());
        for worker in self.workers {
            let ended = worker.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
            if let Err(source) = ended {
                outcome = Err(StartError::system("a worker failed", source));
            }
        }
        self.office.close();
        if let Some(records) = self.records {
            records.close();
        }
        drop(self.program);
        outcome
    }
}

/// Opens every socket, then starts the workers and the office.
pub fn start(config: Config) -> Result<Relay, StartError> {
    launch(config, false)
}

/// [`start`] with no more privileges than relaying needs, then runs until it is told to end:
/// SIGTERM or SIGINT drains for `drain_s`, a second one ends it. The calling process must have no
/// other threads, and is good for nothing else afterwards.
pub fn run(config: Config) -> Result<(), StartError> {
    launch(config, true)?.wait()
}

fn launch(config: Config, alone: bool) -> Result<Relay, StartError> {
    let descriptors = guard::descriptors::raise()
        .map_err(|source| StartError::system("the limit of descriptors", source))?;
    let haste = Haste::begin(config.nice);
    let sockets = listen::bind(&config)?;
    let desk = office::open(&config)?;
    let Offload { program, standing, followers, gear } = offload::open(&config);
    let Confined { measures, reader, writer } = if alone {
        let plan = Plan { kernel_maps: program.is_some(), ..config.plan()? };
        guard::confine(&plan, &listen::descriptors(&sockets))?
    } else {
        Confined::free(config.records.is_some())?
    };

    let seed = seed()?;
    let throttle = throttle(config.strangers)?;
    let memory = Memory::new(config.memory);
    let ledger = SharedLedger::new(config.relays.iter().map(|relay| relay.local))
        .within(memory.clone())
        .with_handshakes(self::throttle(config.handshakes)?);
    let failed = |source| StartError::system("a worker's event queue", source);
    let (mut letterboxes, mut tables) = (Vec::new(), Vec::new());
    for sockets in sockets {
        let engine = MioEngine::new(sockets.datagrams).map_err(failed)?;
        let (letterbox, inbox) = worker::open(engine.waker().map_err(failed)?);
        letterboxes.push(letterbox);
        tables.push((engine, sockets.doors, inbox));
    }
    let letterboxes: Arc<[Letterbox]> = letterboxes.into();
    let (teller, records) = records::keep(&config, &letterboxes, writer)?;
    let (mut blocks, mut crew) = (Vec::new(), Vec::new());
    let (mut followers, mut gear) = (followers.into_iter(), gear.into_iter());
    for (index, (engine, doors, inbox)) in (0_u16..).zip(tables) {
        let ledger = ledger.of_worker(index);
        let registry = engine.registry().map_err(failed)?;
        let offload = followers.next();
        offload.iter().try_for_each(|it| it.register(&registry)).map_err(failed)?;
        let streams =
            Streams::new(config.streams(), registry, doors, ledger.clone()).map_err(failed)?;
        let (secret, begin) = (worker::random_seed().map_err(failed)?, Clock::new().last().mono);
        let dtls = Sessions::new(config.dtls(), ledger.clone(), &secret, begin)
            .map_err(|error| StartError::system("DTLS", io::Error::other(error)))?;
        let block = Arc::new(Block::new(config.listeners.len()));
        let desk = worker::Desk {
            index,
            config: Arc::new(config.server(index)),
            throttle: Arc::clone(&throttle),
            seed,
            ledger,
            inbox,
            letterboxes: Arc::clone(&letterboxes),
            records: teller.as_ref().map(|it| it.of_worker(index)),
            shown: config.shown,
        };
        blocks.push(Arc::clone(&block));
        let tcp = TcpRelays::new(engine.registry().map_err(failed)?);
        let hands = Hands { batch: Batch::new(), streams, dtls, tcp, offload };
        let worker = worker::hire(gear.next(), engine, (desk, hands, block));
        crew.push((index, worker.map_err(failed)?));
    }

    let observer = Observer(Arc::new(Shared {
        busy: AtomicU16::new(config.workers),
        config,
        started: Clock::new().last().mono,
        letterboxes,
        blocks,
        draining: AtomicBool::new(false),
        hardening: measures,
        offload: standing,
        tally: OfficeTally::default(),
        niceness: haste.niceness(),
        memory,
        guestbook: Guestbook::default(),
        ledger,
        records: records.as_ref().map(|it| (it.accounts(), it.reopening())),
    }));
    let begin = |(index, worker)| employ(index, worker, observer.clone());
    let workers = crew.into_iter().map(begin).collect::<Result<_, _>>()?;
    haste.end().map_err(|source| StartError::system("its own niceness", source))?;
    let office = desk.staff(observer.clone(), reader, alone)?;
    // Whoever reads this may send signals.
    listen::announce(&observer.0.config, descriptors);
    Ok(Relay { observer, workers, office, records, program })
}

/// What nobody can guess.
fn seed() -> Result<[u8; 32], StartError> {
    worker::random_seed()
        .map_err(|source| StartError::system("the random number generator", source))
}

/// What limits something by its source.
fn throttle(rate: Rate) -> Result<Arc<Throttle>, StartError> {
    let secret = seed()?;
    let (words, _) = secret.as_chunks();
    let secret = u64::from_ne_bytes(words.first().copied().unwrap_or_default());
    Ok(Arc::new(Throttle::new(rate, secret, Clock::new().last().mono)))
}
