//! Usage records: what each allocation carried, told to those who bill, plan and look back.
//!
//! A [`Teller`] in each worker notes what began and ended in a bounded queue, and never waits. One
//! thread, which alone may write files, keeps the `book` of what is open: it makes a [`record`] of
//! each note, asks the workers now and then how far allocations have come, and writes lines to a
//! file and to the `spool`, a few files that outlive the relay. From there a `courier` for each
//! receiver brings them over `http`, as spans of `otlp` and into a stream of `redis`, in order and
//! at least once: a receiver that is away, slow or broken costs room in the spool and nothing else.
//! What is lost all the same is counted by [`Accounts`].

mod accounts;
mod book;
mod courier;
mod file;
mod http;
mod note;
mod otlp;
mod record;
mod redis;
mod spool;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use guard::{Errands, Writer};

pub(crate) use accounts::{Accounts, Sink, Stage};
pub(crate) use http::HttpWish;
pub(crate) use note::Teller;
pub(crate) use redis::RedisWish;

use crate::config::Config;
use crate::service::StartError;
use crate::shown::Shown;
use crate::worker::Letterbox;
use book::Book;

/// How long the end of the relay waits for the last records to be written and brought.
const PATIENCE: Duration = Duration::from_secs(3);

/// What resolves host names reads.
const RESOLVER_FILES: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];

/// Where names are asked for when an answer is too long for a datagram.
const DNS_PORT: u16 = 53;

/// What the operator wishes.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// What records call this relay.
    pub(crate) node: String,
    /// How often an open allocation is told of; `None` for never.
    pub(crate) interim: Option<Duration>,
    /// What they tell of addresses.
    pub(crate) addresses: Shown,
    /// A file of lines.
    pub(crate) file: Option<Place>,
    /// Where records wait for receivers; there is one if there are receivers.
    pub(crate) spool: Option<SpoolWish>,
    /// A receiver over HTTP.
    pub(crate) http: Option<HttpWish>,
    /// A receiver of traces over HTTP.
    pub(crate) otlp: Option<HttpWish>,
    /// A stream of Redis.
    pub(crate) redis: Option<RedisWish>,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To standard output.
    Stdout,
    /// Behind those of a file.
    Path(PathBuf),
}

/// Where records wait, and how many bytes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpoolWish {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// Bytes.
    pub(crate) limit: u64,
}

impl Wish {
    /// Where records go, in words.
    pub(crate) fn places(&self) -> String {
        let file = self.file.as_ref().map(|place| match place {
            Place::Stdout => "standard output".to_owned(),
            Place::Path(path) => path.display().to_string(),
        });
        let http = self.http.as_ref().map(|it| format!("{} over HTTP", it.host));
        let otlp = self.otlp.as_ref().map(|it| format!("{} as traces", it.host));
        let redis = self.redis.as_ref().map(|it| format!("stream {:?} of Redis", it.stream));
        [file, http, otlp, redis].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What the thread that writes records needs, and no other thread.
    pub(crate) fn errands(&self) -> Errands {
        let file = self.file.iter().filter_map(|place| match place {
            Place::Stdout => None,
            Place::Path(path) => path.parent(),
        });
        let spool = self.spool.iter().map(|it| it.folder.as_path());
        let places = || {
            let http = self.http.iter().chain(&self.otlp).map(|it| (&it.host, it.port));
            http.chain(self.redis.iter().map(|it| (&it.host, it.port)))
        };
        let is_name = |host: &str| host.parse::<std::net::IpAddr>().is_err();
        let named = places().any(|(host, _)| is_name(host.trim_matches(['[', ']'])));
        let files = RESOLVER_FILES.iter().filter(|_| named).map(PathBuf::from);
        Errands {
            folders: file.chain(spool).map(PathBuf::from).collect(),
            files: files.collect(),
            ports: places().map(|(_, port)| port).chain(named.then_some(DNS_PORT)).collect(),
        }
    }
}

/// Records that are kept.
#[derive(Debug)]
pub(crate) struct Records {
    accounts: Arc<Accounts>,
    reopen: Arc<AtomicBool>,
    done: Receiver<()>,
}

/// Begins to keep records in the thread of a writer, if that is wanted: the teller of workers, and
/// what it leads to. The queue has room for every allocation to begin and end.
pub(crate) fn keep(
    config: &Config,
    letterboxes: &Arc<[Letterbox]>,
    writer: Option<Writer>,
) -> Result<(Option<Teller>, Option<Records>), StartError> {
    let (Some(wish), Some(writer)) = (&config.records, writer) else { return Ok((None, None)) };
    let failed = |source| StartError::system("usage records", source);
    let allocations = usize::try_from(config.limits.allocations).unwrap_or(usize::MAX);
    let (told, notes) = sync_channel(allocations.saturating_mul(2).saturating_add(1_024));
    let (ready, opened) = sync_channel(1);
    let (finished, done) = sync_channel(1);
    let accounts = Arc::new(Accounts::default());
    let reopen = Arc::new(AtomicBool::new(false));
    let teller = Teller::new(told, Arc::clone(&accounts));
    let desk = book::Desk {
        wish: wish.clone(),
        edge: config.edge(),
        transports: config.listeners.iter().map(|it| it.transport).collect(),
        letterboxes: Arc::clone(letterboxes),
        notes,
        accounts: Arc::clone(&accounts),
        reopen: Arc::clone(&reopen),
    };
    let work = move || match Book::open(desk) {
        // Whoever waits for these is there, or has given up.
        Ok(book) => {
            let _ = ready.send(Ok(()));
            book.keep();
            let _ = finished.send(());
        }
        Err(error) => drop(ready.send(Err(error))),
    };
    writer.employ(work).map_err(failed)?;
    match opened.recv().map_err(io::Error::other).map_err(failed)? {
        Ok(()) => Ok((Some(teller), Some(Records { accounts, reopen, done }))),
        Err(refused) => Err(refused.told(config)),
    }
}

impl Records {
    /// What is counted.
    pub(crate) fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.accounts)
    }

    /// What has the file opened anew when it is set, because another may have its name now.
    pub(crate) fn reopening(&self) -> Reopening {
        Reopening(Arc::clone(&self.reopen))
    }

    /// Waits until the last records are written and brought, but not for long: what waits in the
    /// spool is brought by the next relay. To be called when no teller is left.
    pub(crate) fn close(self) {
        if self.done.recv_timeout(PATIENCE).is_err() {
            tracing::warn!("usage records: the last ones may not be written");
        }
    }
}

/// Has the file of records opened anew.
#[derive(Clone, Debug)]
pub(crate) struct Reopening(Arc<AtomicBool>);

impl Reopening {
    /// Before the next record.
    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }
}
