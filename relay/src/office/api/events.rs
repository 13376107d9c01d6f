//! `/v1/events`: what happens, as it happens (Server-Sent Events).
//!
//! Workers call nobody. While somebody listens they are asked twice a second what is new, which is
//! written once into a ring; each reader has its place there. Who reads slower than things happen
//! finds its place gone, and is told how much it has missed: nothing waits for it, and nothing
//! grows. A reader that comes back says where it was and goes on there, if the ring still knows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::explain::told;
use super::growing::growing;
use super::overview::Finding;
use super::{Desk, Problem};
use crate::chronicle::{Below, Bookmark, Fresh, What};
use crate::clock::{self, Calendar};
use crate::service::Observer;
use crate::worker::Question;

/// Readers at a time, at each door.
const READERS: usize = 16;

/// Events that are kept.
const RING: usize = 1_024;

/// How often workers are asked while somebody listens.
const EVERY: Duration = Duration::from_millis(500);

/// How often it is seen what is wrong.
const TROUBLES_EVERY: Duration = Duration::from_secs(5);

/// A line without meaning after so long a silence, so that a reader that is gone is noticed.
const SILENCE: Duration = Duration::from_secs(15);

/// What is told to all readers.
#[derive(Debug)]
pub(super) struct Wire {
    ring: Mutex<Ring>,
    seen: Mutex<Seen>,
}

/// The seats of readers at one door, so that those of another cannot use them up.
#[derive(Clone, Debug)]
pub(in crate::office) struct Seats(Arc<Semaphore>);

impl Seats {
    /// All free.
    pub(in crate::office) fn new() -> Self {
        Self(Arc::new(Semaphore::new(READERS)))
    }
}

/// How far the workers were heard.
#[derive(Debug, Default)]
struct Seen {
    asked: Option<Duration>,
    troubles_asked: Option<Duration>,
    bookmarks: Vec<Bookmark>,
    /// What is wrong, by its stable name.
    troubles: BTreeMap<&'static str, Value>,
}

/// The last events, as they are sent.
#[derive(Debug)]
struct Ring {
    /// Tells this life of the relay from others in the names of events.
    life: u64,
    events: VecDeque<Bytes>,
    /// Events that were pushed out.
    gone: u64,
}

impl Ring {
    fn add(&mut self, event: &str, data: &Value) {
        if self.events.len() == RING {
            self.events.pop_front();
            self.gone += 1;
        }
        let id = format!("{:x}-{}", self.life, self.end());
        // JSON has no line breaks of its own.
        self.events.push_back(format!("event: {event}\nid: {id}\ndata: {data}\n\n").into());
    }

    /// Behind the last event.
    fn end(&self) -> u64 {
        self.gone + self.events.len() as u64
    }

    /// The event at a place, or what is to be said of those that are gone; and the next place.
    fn at(&self, place: u64) -> Option<(Bytes, u64)> {
        if place < self.gone {
            let data = json!({"count": self.gone - place});
            return Some((format!("event: lost\ndata: {data}\n\n").into(), self.gone));
        }
        let at = usize::try_from(place - self.gone).ok()?;
        self.events.get(at).map(|event| (event.clone(), place + 1))
    }

    /// The place behind the event of this name; of another life's, the first there is.
    fn behind(&self, name: &str) -> Option<u64> {
        let (life, number) = name.split_once('-')?;
        let (life, number) = (u64::from_str_radix(life, 16).ok()?, number.parse::<u64>().ok()?);
        let place = if life == self.life { number.saturating_add(1) } else { self.gone };
        Some(place.min(self.end()))
    }
}

impl Wire {
    pub(super) fn new(observer: &Observer) -> Self {
        let workers = usize::from(observer.config().workers);
        Self {
            ring: Mutex::new(Ring { life: clock::unix_ms(), events: VecDeque::new(), gone: 0 }),
            seen: Mutex::new(Seen {
                bookmarks: vec![Bookmark::default(); workers],
                ..Seen::default()
            }),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what is new, unless somebody just did.
    fn refresh(&self, desk: &Desk) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = desk.observer.uptime();
        let lately = |at: Duration| now.saturating_sub(at) < EVERY / 2;
        if seen.asked.is_some_and(lately) {
            return;
        }
        seen.asked = Some(now);
        self.hear_workers(desk, &mut seen);
        if seen.troubles_asked.is_none_or(|at| now.saturating_sub(at) >= TROUBLES_EVERY) {
            seen.troubles_asked = Some(now);
            self.hear_troubles(desk, &mut seen);
        }
    }

    fn hear_workers(&self, desk: &Desk, seen: &mut Seen) {
        let bookmarks = seen.bookmarks.clone();
        let question = |at: usize, answer| {
            Question::Fresh(bookmarks.get(at).copied().unwrap_or_default(), answer)
        };
        let answers = desk.observer.ask_each(question);
        let calendar = Calendar::new();
        let (mut fresh, mut missed) = (Vec::new(), 0);
        for (bookmark, answer) in seen.bookmarks.iter_mut().zip(answers) {
            // One that is silent now is heard later.
            let Some(Fresh { items, strangers, missed: gone, until }) = answer else { continue };
            *bookmark = until;
            missed += gone;
            fresh.extend(items.into_iter().map(|it| (it.client, Some(it.id), it.entry)));
            fresh.extend(strangers.into_iter().map(|it| (it.client, None, it.entry)));
        }
        fresh.sort_by_key(|(_, _, entry)| entry.last);
        let mut ring = self.ring();
        if missed > 0 {
            ring.add("lost", &json!({"count": missed}));
        }
        for (client, of, entry) in fresh {
            let event = match entry.what {
                What::Refused { .. } | What::Below(Below::Refused(_)) => "refused",
                // How connections end is told where somebody asks for it.
                What::Below(_) => continue,
                other => other.name(),
            };
            ring.add(event, &told(calendar, client, of, &entry));
        }
    }

    /// Tells what has gone wrong since, and what is well again.
    fn hear_troubles(&self, desk: &Desk, seen: &mut Seen) {
        desk.watch.attend();
        let found = desk.watch.troubles().into_iter();
        let found: BTreeMap<_, _> =
            found.map(|trouble| (trouble.id, json!(Finding::from(trouble)))).collect();
        let mut ring = self.ring();
        let known = std::mem::take(&mut seen.troubles);
        for (id, trouble) in &found {
            let is_known = known.get(id).is_some_and(|it| it["severity"] == trouble["severity"]);
            if !is_known {
                ring.add("problem", trouble);
            }
        }
        for (id, mut trouble) in known {
            if !found.contains_key(id) {
                trouble["over"] = true.into();
                ring.add("problem", &trouble);
            }
        }
        seen.troubles = found;
    }
}

/// Nothing can be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {}

/// Tells events for as long as somebody reads.
pub(super) async fn events(
    State(desk): State<Desk>,
    Extension(Seats(seats)): Extension<Seats>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let _: Query<Wanted> = wanted.map_err(Problem::of_query)?;
    let place = seats.try_acquire_owned().map_err(|_| {
        let detail = format!("{READERS} read events already; come back when one has gone");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let refresh = |desk: &Desk| {
        desk.wire.refresh(desk);
        Some(())
    };
    desk.clone().look(refresh).await?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let begin = {
        let ring = desk.wire.ring();
        last.and_then(|name| ring.behind(name)).unwrap_or(ring.end())
    };
    let (sender, mut lines) = mpsc::channel(1);
    tokio::spawn(tell(desk, begin, sender, place));
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((head, growing(move |context| lines.poll_recv(context))).into_response())
}

/// Goes through the ring with one reader until it has gone.
async fn tell(
    desk: Desk,
    mut place: u64,
    reader: mpsc::Sender<Bytes>,
    _seat: OwnedSemaphorePermit,
) {
    // The head of the answer leaves with the first bytes.
    let mut line = Some(Bytes::from_static(b": events of av-edge\nretry: 2000\n\n"));
    let mut said = Instant::now();
    loop {
        if let Some(line) = line.take() {
            if reader.send(line).await.is_err() {
                return;
            }
            said = Instant::now();
        }
        let next = desk.wire.ring().at(place);
        if let Some((event, behind)) = next {
            (line, place) = (Some(event), behind);
            continue;
        }
        tokio::select! {
            () = reader.closed() => return,
            () = sleep(EVERY) => {}
        }
        let refresh = |desk: &Desk| {
            desk.wire.refresh(desk);
            Some(())
        };
        // Without an answer there is nothing to tell, this time.
        drop(desk.clone().look(refresh).await);
        if said.elapsed() >= SILENCE {
            line = Some(Bytes::from_static(b":\n\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(events: u64) -> Ring {
        let mut ring = Ring { life: 0xAB, events: VecDeque::new(), gone: 0 };
        for number in 0..events {
            ring.add("opened", &json!({"number": number}));
        }
        ring
    }

    #[test]
    fn who_reads_too_slowly_is_told_how_much_it_missed_and_goes_on() {
        let ring = ring(5_000);
        assert_eq!(ring.events.len(), RING);
        let (lost, next) = ring.at(100).unwrap();
        assert_eq!(lost, "event: lost\ndata: {\"count\":3876}\n\n");
        let (event, behind) = ring.at(next).unwrap();
        assert_eq!(event, "event: opened\nid: ab-3976\ndata: {\"number\":3976}\n\n");
        assert_eq!(behind, 3_977);
        assert!(ring.at(5_000).is_none(), "nothing has happened since");
    }

    #[test]
    fn who_comes_back_goes_on_where_it_was() {
        let ring = ring(2_000);
        for (case, name, expected) in [
            ("behind the last it heard", "ab-1500", Some(1_501)),
            ("nothing new", "ab-1999", Some(2_000)),
            ("what never was", "ab-99999", Some(2_000)),
            ("long ago", "ab-3", Some(4)),
            ("before the relay began anew", "aa-1500", Some(976)),
            ("no name", "abc", None),
            ("no number", "ab-x", None),
        ] {
            assert_eq!(ring.behind(name), expected, "{case}");
        }
    }
}
