//! The book of open allocations, and the thread that keeps it.
//!
//! It hears what workers note, in the order they noted it, asks them now and then how far each
//! allocation has come, and writes a line for each. It waits for disks, never for receivers, and
//! no worker waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use proto::addr::{FiveTuple, RelayedAddr, Transport};
use proto::auth::Trace;
use proto::media::LegSummary;
use proto::policy::{Edge, UserKey};
use proto::turn::tally::{AllocationView, Usage};

use super::accounts::Stage;
use super::courier::{self, Delivery, Patience};
use super::file::LineFile;
use super::http::Http;
use super::note::{News, Note};
use super::otlp::Otlp;
use super::record::{DEFECT, Quality, Record, flows, unique};
use super::redis::Redis;
use super::spool::{self, Inlet, Outlet};
use super::{Accounts, Sink, Wish};
use crate::clock::{Calendar, Clock};
use crate::config::{Config, ConfigError};
use crate::service::StartError;
use crate::session::SessionId;
use crate::worker::{Letterbox, Question};

/// How often the book looks up when nothing is noted.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Notes that become lines before these are written.
const AT_ONCE: usize = 256;

/// Allocations that a worker is asked about at once.
const ASKED_AT_ONCE: usize = 64;

/// Entries of closed allocations that may wait in any case.
const SLACK: usize = 64;

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long couriers have for what waits when the relay ends.
const LAST_ROUND: Duration = Duration::from_secs(2);

/// What the book is made of.
pub(super) struct Desk {
    pub(super) wish: Wish,
    /// Knows how relayed addresses are told.
    pub(super) edge: Edge,
    /// Of each listener.
    pub(super) transports: Vec<Transport>,
    pub(super) letterboxes: Arc<[Letterbox]>,
    pub(super) notes: Receiver<Box<Note>>,
    pub(super) accounts: Arc<Accounts>,
    /// Set when the file is to be opened anew.
    pub(super) reopen: Arc<AtomicBool>,
}

/// What could not be opened.
pub(super) struct Refused {
    key: &'static str,
    found: String,
    error: io::Error,
}

impl Refused {
    /// The same to an operator.
    pub(super) fn told(self, config: &Config) -> StartError {
        let why = format!(
            "cannot be used: {}. The folder must be there, and the relay's user must own it: \
             install -d -o av-edge FOLDER.",
            self.error
        );
        ConfigError::about(config, self.key, &self.found, &why).into()
    }
}

/// The book.
pub(super) struct Book {
    desk: Desk,
    file: Option<LineFile>,
    spool: Option<Inlet>,
    couriers: Vec<JoinHandle<()>>,
    open: BTreeMap<SessionId, Open>,
    /// Who is asked about next, and when. The interval is the same for all, so the order is that
    /// of the row. Those that are closed meanwhile are left in it, until they are the most.
    due: VecDeque<(Instant, SessionId)>,
    calendar: Calendar,
    /// Lines that wait to be written, and their number.
    lines: Vec<u8>,
    count: u64,
    synced: Instant,
}

/// An allocation that is open.
struct Open {
    unique: String,
    sequence: u32,
    began: Instant,
    began_ms: u64,
    client: FiveTuple,
    user: UserKey,
    relayed: [Option<RelayedAddr>; 2],
    trace: Option<Trace>,
    /// As last heard.
    usage: Usage,
    quality: Option<Box<[LegSummary; 2]>>,
    /// Whether its worker knew nothing of it when it was asked last.
    missing: bool,
}

impl Book {
    /// Opens the file and the spool, and sends couriers off.
    pub(super) fn open(desk: Desk) -> Result<Self, Refused> {
        let Desk { wish, accounts, .. } = &desk;
        let file = wish.file.as_ref().map(|place| {
            let file = LineFile::open(place.clone(), Arc::clone(accounts));
            file.map_err(|error| Refused {
                key: "records.file",
                found: format!("{place:?}"),
                error,
            })
        });
        let file = file.transpose()?;
        let http = wish.http.clone().map(|it| (Sink::Http, Way::Http(it)));
        let otlp = wish.otlp.clone().map(|it| (Sink::Otlp, Way::Otlp(it)));
        let redis = wish.redis.clone().map(|it| (Sink::Redis, Way::Redis(it)));
        let (sinks, ways): (Vec<_>, Vec<_>) = http.into_iter().chain(otlp).chain(redis).unzip();
        let (mut inlet, mut couriers) = (None, Vec::new());
        if let Some(spool) = &wish.spool {
            let found = || spool.folder.display().to_string();
            let refused = |error| Refused { key: "records.spool", found: found(), error };
            let (opened, outlets) =
                spool::open(spool, &sinks, Arc::clone(accounts)).map_err(refused)?;
            for (way, outlet) in ways.into_iter().zip(outlets) {
                couriers.push(way.send_off(outlet, accounts).map_err(refused)?);
            }
            inlet = Some(opened);
        }
        Ok(Self {
            synced: now(),
            desk,
            file,
            spool: inlet,
            couriers,
            open: BTreeMap::new(),
            due: VecDeque::new(),
            calendar: Calendar::new(),
            lines: Vec::new(),
            count: 0,
        })
    }

    /// Keeps it until no worker is left.
    pub(super) fn keep(mut self) {
        loop {
            let now = now();
            let next = self.due.front().map(|(at, _)| at.saturating_duration_since(now));
            match self.desk.notes.recv_timeout(next.unwrap_or(LOOK_UP).min(LOOK_UP)) {
                Ok(note) => {
                    self.calendar = Calendar::new();
                    self.note(*note);
                }
                Err(RecvTimeoutError::Timeout) => self.calendar = Calendar::new(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.hear_all(AT_ONCE);
            self.ask_due();
            self.write();
        }
        self.end();
    }

    /// Hears what has been noted, so much at most.
    fn hear_all(&mut self, most: usize) {
        for _ in 0..most {
            let Ok(note) = self.desk.notes.try_recv() else { return };
            self.note(*note);
        }
    }

    fn note(&mut self, Note { worker, at, news }: Note) {
        let session = |allocation| SessionId { worker, allocation };
        match news {
            News::Opened { id, client, user, relayed, trace } => {
                let id = session(id);
                let Ok(unique) = unique() else {
                    // No randomness, no name: the kernel has had some since the relay started.
                    return self.desk.accounts.unheard.add(1);
                };
                let open = Open {
                    unique,
                    sequence: 0,
                    began: at,
                    began_ms: self.calendar.ms(at),
                    client,
                    user,
                    relayed,
                    trace,
                    usage: Usage::default(),
                    quality: None,
                    missing: false,
                };
                self.open.insert(id, open);
                self.line(Stage::Start, id, at, None);
                if let Some(interim) = self.desk.wish.interim {
                    self.due.push_back((at + interim, id));
                }
            }
            News::Moved { id, client } => {
                if let Some(open) = self.open.get_mut(&session(id)) {
                    open.client = client;
                }
            }
            News::Closed { id, reason, lived, usage, media } => {
                let id = session(id);
                if let Some(open) = self.open.get_mut(&id) {
                    (open.usage, open.quality) = (usage, media);
                    let end = open.began + lived;
                    self.line(Stage::Stop, id, end, Some(reason.name()));
                    self.strike(id);
                } else {
                    // Its beginning found no room.
                    self.desk.accounts.unheard.add(1);
                }
            }
            News::AllLost => {
                let of_worker = |id: &&SessionId| id.worker == worker;
                let ids: Vec<_> = self.open.keys().filter(of_worker).copied().collect();
                for id in ids {
                    self.line(Stage::Stop, id, at, Some(DEFECT));
                    self.strike(id);
                }
            }
        }
    }

    /// Takes an allocation out of the book. What is due never outgrows what is open: who opens and
    /// closes allocations in a loop must not fill memory until the first interim would come.
    fn strike(&mut self, id: SessionId) {
        self.open.remove(&id);
        if self.due.len() > 2 * self.open.len() + SLACK {
            self.due.retain(|(_, id)| self.open.contains_key(id));
        }
    }

    /// Asks workers about the allocations whose turn it is, and makes a record of each.
    fn ask_due(&mut self) {
        let Some(interim) = self.desk.wish.interim else { return };
        let now = now();
        let mut asked: BTreeMap<u16, Vec<SessionId>> = BTreeMap::new();
        for _ in 0..ASKED_AT_ONCE {
            let Some((_, id)) = self.due.front().copied().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.due.pop_front();
            if self.open.contains_key(&id) {
                asked.entry(id.worker).or_default().push(id);
            }
        }
        for (worker, ids) in asked {
            let wanted = ids.iter().map(|id| id.allocation).collect();
            let letterbox = self.desk.letterboxes.get(usize::from(worker));
            let answer = letterbox.map(|it| it.ask(|answer| Question::Views(wanted, answer)));
            let views = answer.and_then(|it| it.recv_timeout(PATIENCE).ok());
            self.hear_of(&ids, views);
            self.due.extend(ids.iter().map(|id| (now + interim, *id)));
        }
    }

    /// What a worker said about allocations it was asked about; a silent one says nothing.
    fn hear_of(&mut self, ids: &[SessionId], views: Option<Vec<AllocationView>>) {
        let Some(views) = views else { return };
        self.calendar = Calendar::new();
        let now = now();
        for id in ids {
            let Some(open) = self.open.get_mut(id) else { continue };
            if let Some(view) = views.iter().find(|view| view.id == id.allocation) {
                (open.usage, open.quality) = (view.usage, view.media.map(Box::new));
                open.missing = false;
                self.line(Stage::Interim, *id, now, None);
            } else if mem::replace(&mut open.missing, true) {
                // The note of its end found no room, or it would have come by now.
                self.line(Stage::Stop, *id, now, Some("unknown"));
                self.strike(*id);
            }
        }
    }

    /// Makes the next record of an allocation.
    fn line(&mut self, stage: Stage, id: SessionId, at: Instant, cause: Option<&'static str>) {
        let Self { desk, open, calendar, lines, .. } = self;
        let Some(open) = open.get_mut(&id) else { return };
        let Desk { wish, edge, transports, accounts, .. } = desk;
        let shown = |address| wish.addresses.of(address);
        let [to_peer, to_client] = flows(&open.usage);
        let transport = transports.get(open.client.listener.index());
        let relayed = open.relayed.iter().flatten();
        let age = at.saturating_duration_since(open.began);
        let record = Record {
            stage: stage.name(),
            id: &open.unique,
            sequence: open.sequence,
            node: &wish.node,
            time_ms: calendar.ms(at),
            allocation: id.to_string(),
            user: format!("{:016x}", open.user.0),
            client: shown(open.client.client.socket()),
            transport: transport.map_or("", |it| it.name()),
            relayed: relayed.filter_map(|it| shown(edge.advertise(*it))).collect(),
            started_ms: open.began_ms,
            traceparent: open.trace.map(|it| it.to_string()),
            duration_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            cause,
            to_peer,
            to_client,
            quality: open.quality.as_deref().map(Quality::from),
        };
        record.write(lines);
        open.sequence += 1;
        self.count += 1;
        accounts.made[stage as usize].add(1);
    }

    /// Writes the lines that wait.
    fn write(&mut self) {
        if self.desk.reopen.swap(false, Ordering::AcqRel)
            && let Some(file) = &mut self.file
        {
            file.reopen();
        }
        if let Some(spool) = &mut self.spool
            && self.calendar.age(self.synced) >= LOOK_UP
        {
            spool.sync();
            self.synced = now();
        }
        if self.count == 0 {
            return;
        }
        if let Some(spool) = &mut self.spool {
            spool.append(&self.lines, self.count);
        }
        if let Some(file) = &mut self.file {
            file.append(&self.lines, self.count);
        }
        self.lines.clear();
        self.count = 0;
    }

    /// Writes what is left, and lets couriers bring what they can.
    fn end(mut self) {
        self.hear_all(usize::MAX);
        self.write();
        let Some(spool) = self.spool.take() else { return };
        spool.end();
        let until = now() + LAST_ROUND;
        for courier in self.couriers {
            while !courier.is_finished() && now() < until {
                thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}

fn now() -> Instant {
    Clock::new().last().mono
}

/// How a receiver is reached.
enum Way {
    Http(super::HttpWish),
    Otlp(super::HttpWish),
    Redis(super::RedisWish),
}

impl Way {
    /// Starts a courier.
    fn send_off(self, outlet: Outlet, accounts: &Arc<Accounts>) -> io::Result<JoinHandle<()>> {
        match self {
            Self::Http(wish) => spawn(Http::new(wish), outlet, accounts),
            Self::Otlp(wish) => spawn(Otlp::new(wish), outlet, accounts),
            Self::Redis(wish) => spawn(Redis::new(wish), outlet, accounts),
        }
    }
}

fn spawn(
    way: impl Delivery + 'static,
    outlet: Outlet,
    accounts: &Arc<Accounts>,
) -> io::Result<JoinHandle<()>> {
    let accounts = Arc::clone(accounts);
    let name = format!("to-{}", outlet.sink().name());
    thread::Builder::new()
        .name(name)
        .spawn(move || courier::run(way, outlet, &accounts, Patience::USUAL))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::sync_channel;

    use proto::addr::{AllocationId, ClientAddr, ListenerId};
    use proto::policy::RelayAddress;
    use proto::turn::action::CloseReason;
    use proto::turn::tally::Flow;
    use serde_json::Value;

    use super::super::accounts::Count;
    use super::super::{Place, Wish};
    use super::*;
    use crate::shown::Shown;

    /// What is written when a worker notes this, and what is counted.
    fn written(addresses: Shown, news: Vec<(u16, u64, News)>) -> (Vec<Value>, Arc<Accounts>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let (told, notes) = sync_channel(news.len());
        let begin = now().checked_sub(Duration::from_secs(5)).unwrap();
        for (worker, ms, news) in news {
            let at = begin + Duration::from_millis(ms);
            told.send(Box::new(Note { worker, at, news })).unwrap();
        }
        drop(told);
        let (book, accounts) = book(&path, None, addresses, notes);
        book.keep();
        let text = std::fs::read_to_string(path).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), accounts)
    }

    /// A book that writes to this file.
    fn book(
        path: &Path,
        interim: Option<Duration>,
        addresses: Shown,
        notes: Receiver<Box<Note>>,
    ) -> (Book, Arc<Accounts>) {
        let inside = "192.168.0.5".parse().unwrap();
        let relay = RelayAddress { local: inside, advertised: "203.0.113.5".parse().unwrap() };
        let accounts = Arc::new(Accounts::default());
        let desk = Desk {
            wish: Wish {
                node: "relay-1".to_owned(),
                interim,
                addresses,
                file: Some(Place::Path(path.to_owned())),
                spool: None,
                http: None,
                otlp: None,
                redis: None,
            },
            edge: Edge::new(Vec::new(), vec![relay], vec![inside]),
            transports: vec![Transport::Udp, Transport::Tls],
            letterboxes: Arc::new([]),
            notes,
            accounts: Arc::clone(&accounts),
            reopen: Arc::default(),
        };
        let Ok(book) = Book::open(desk) else { panic!("the book does not open") };
        (book, accounts)
    }

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    const ID: AllocationId = AllocationId { slot: 7, generation: 2 };

    fn seat(client: &str) -> FiveTuple {
        FiveTuple { listener: ListenerId(1), client: ClientAddr::new(client.parse().unwrap()) }
    }

    fn opened(id: AllocationId) -> News {
        let relayed = RelayedAddr::new("192.168.0.5:50000".parse().unwrap());
        let client = seat("198.51.100.9:4000");
        News::Opened {
            id,
            client,
            user: UserKey(0xAB),
            relayed: [Some(relayed), None],
            trace: TRACE.parse().ok(),
        }
    }

    fn closed(id: AllocationId) -> News {
        let usage = Usage {
            to_peer: Flow { packets: 3, bytes: 300 },
            to_client: Flow { packets: 5, bytes: 500 },
        };
        let leg = LegSummary {
            expected: 10,
            received: 9,
            mean_jitter: Duration::from_millis(4),
            ..LegSummary::default()
        };
        let media = Some(Box::new([leg, LegSummary::default()]));
        let lived = Duration::from_millis(1_500);
        News::Closed { id, reason: CloseReason::Released, lived, usage, media }
    }

    #[test]
    fn an_allocation_is_told_from_its_beginning_to_its_end() {
        let moved = News::Moved { id: ID, client: seat("198.51.100.9:5000") };
        let notes = vec![(3, 0, opened(ID)), (3, 10, moved), (3, 1_500, closed(ID))];
        let (lines, accounts) = written(Shown::Full, notes);
        let [start, stop] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(start["id"], stop["id"]);
        let common = serde_json::json!({
            "node": "relay-1", "allocation": "3-7-2", "user": "00000000000000ab",
            "transport": "tls", "relayed": ["203.0.113.5:50000"], "traceparent": TRACE,
        });
        for (key, value) in common.as_object().unwrap() {
            assert_eq!((&start[key], &stop[key]), (value, value), "{key}");
        }
        assert_eq!((&start["record"], &start["sequence"]), (&"start".into(), &0.into()));
        assert_eq!(start["client"], "198.51.100.9:4000");
        assert_eq!((&start["duration_ms"], &start["to_peer"]["bytes"]), (&0.into(), &0.into()));
        assert!(start["cause"].is_null() && start["quality"].is_null(), "{start}");
        assert_eq!((&stop["record"], &stop["sequence"]), (&"stop".into(), &1.into()));
        assert_eq!(
            (&stop["client"], &stop["cause"]),
            (&"198.51.100.9:5000".into(), &"released".into())
        );
        assert_eq!(stop["duration_ms"], 1_500);
        let ms = |key: &str| stop[key].as_u64().unwrap();
        assert_eq!(ms("time_ms") - ms("started_ms"), 1_500);
        assert_eq!(stop["to_peer"], serde_json::json!({"packets": 3, "bytes": 300}));
        assert_eq!(stop["to_client"], serde_json::json!({"packets": 5, "bytes": 500}));
        let client = &stop["quality"]["client"];
        assert_eq!((&client["expected"], &client["received"]), (&10.into(), &9.into()));
        assert_eq!(client["mean_jitter_s"], 0.004);
        assert_eq!(accounts.made.each_ref().map(Count::value), [1, 0, 1]);
        assert_eq!(accounts.sink(Sink::File).delivered.value(), 2);
    }

    #[test]
    fn addresses_are_left_out_where_nobody_shall_know_them() {
        let (lines, _) = written(Shown::Network, vec![(0, 0, opened(ID))]);
        assert_eq!(lines[0]["client"], "198.51.100.0/24");
        assert_eq!(lines[0]["relayed"], serde_json::json!(["203.0.113.0/24"]));
        let (lines, _) = written(Shown::Nothing, vec![(0, 0, opened(ID))]);
        assert!(lines[0]["client"].is_null() && lines[0]["relayed"].is_null(), "{lines:?}");
        let text = lines[0].to_string();
        assert!(!text.contains("198.51") && !text.contains("203.0"), "{text}");
    }

    #[test]
    fn a_worker_that_loses_its_allocations_ends_them_and_no_others() {
        let other = AllocationId { slot: 1, generation: 1 };
        let notes = vec![
            (0, 0, opened(ID)),
            (1, 0, opened(ID)),
            (0, 0, opened(other)),
            (0, 50, News::AllLost),
            (0, 60, closed(ID)),
            (1, 70, closed(ID)),
        ];
        let (lines, accounts) = written(Shown::Full, notes);
        let stops: Vec<_> = lines.iter().filter(|line| line["record"] == "stop").collect();
        let told = |line: &&Value| format!("{} {}", line["allocation"], line["cause"]);
        let told: Vec<_> = stops.iter().map(told).collect();
        assert_eq!(told, [r#""0-1-1" "defect""#, r#""0-7-2" "defect""#, r#""1-7-2" "released""#]);
        assert_eq!(accounts.unheard.value(), 1, "an end without a beginning");
    }
    #[test]
    fn who_opens_and_closes_in_a_loop_fills_no_memory_and_others_keep_their_turn() {
        let folder = tempfile::tempdir().unwrap();
        let interim = Duration::from_hours(24);
        let (_told, notes) = sync_channel(1);
        let (mut book, _) = book(&folder.path().join("records"), Some(interim), Shown::Full, notes);
        let id = |slot| AllocationId { slot, generation: 1 };
        let mut note = |news| {
            book.note(Note { worker: 0, at: now(), news });
            book.lines.clear();
            book.due.len()
        };
        note(opened(id(0)));
        for turn in 1..10_000 {
            note(opened(id(turn)));
            assert!(note(closed(id(turn))) <= 2 + SLACK, "after {turn} turns");
        }
        note(opened(id(10_000)));
        let due = book.due.iter().filter(|(_, id)| book.open.contains_key(id));
        let slots: Vec<_> = due.map(|(_, id)| id.allocation.slot).collect();
        assert_eq!(slots, [0, 10_000], "who is open is asked about in order");
    }
}
