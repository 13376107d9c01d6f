//! The office: one tokio thread that answers operators and hears signals.
//!
//! It never sees a packet, and the workers never wait for it: what it wants to know it asks
//! through their inboxes, on a thread that may block.

mod admin;
mod api;
mod control;
mod door;
mod duties;
mod entry;
mod guestbook;
mod levers;
mod reload;
mod surroundings;
mod vigil;
mod visits;
mod watch;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{future, io};

use axum::Router;
use guard::Reader;
use nix::unistd::gethostname;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;

use crate::certificates::Certificates;
use crate::config::{Admin, Config, ConfigError, Metrics};
use crate::service::{Observer, StartError};
use admin::Door;
use door::Desk;
use duties::Duties;
pub(crate) use guestbook::Guestbook;
use guestbook::{Page, Place};
use levers::Pulled;
use reload::{Doors, Prompts};
use surroundings::Surroundings;
use watch::Watch;

/// The duty without which a relay cannot be told to end.
const SIGNALS: &str = "obeying signals";

/// When a drain first says what it waits for, and how often at least.
const FIRST_WORD: Duration = Duration::from_secs(2);
const RAREST_WORD: Duration = Duration::from_secs(60);

/// An office with its door open and nobody in it.
pub(crate) struct Vacant {
    door: Option<(TcpListener, Metrics)>,
    admin: Option<(TcpListener, Admin)>,
    control: Option<UnixListener>,
    /// What this host is called.
    node: String,
    drain: Duration,
    certificates: Option<Arc<Certificates>>,
    surroundings: Surroundings,
}

/// An office at work.
#[derive(Debug)]
pub(crate) struct Office {
    thread: JoinHandle<()>,
    close: oneshot::Sender<()>,
}

/// Binds the endpoints of metrics and administration and the control socket, if there are.
pub(crate) fn open(config: &Config) -> Result<Vacant, StartError> {
    let door = config.metrics.as_ref().map(|metrics| {
        let listener = bind(config, "metrics.address", metrics.address)?;
        Ok::<_, StartError>((listener, metrics.clone()))
    });
    let admin = config.admin.as_ref().map(|admin| {
        let listener = bind(config, "admin.address", admin.address)?;
        Ok::<_, StartError>((listener, admin.clone()))
    });
    let control = config.control.as_ref().map(|place| {
        place.open().map_err(|error| {
            let why = error.to_string();
            ConfigError::about(config, "control.path", &place.path.display(), &why)
        })
    });
    let (door, admin, control) = (door.transpose()?, admin.transpose()?, control.transpose()?);
    let node = gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (drain, certificates) = (config.drain, config.certificates());
    let surroundings = Surroundings::open();
    Ok(Vacant { door, admin, control, node, drain, certificates, surroundings })
}

fn bind(config: &Config, key: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let why = "the port is in use by another process. Stop that process, or choose \
                       another port.";
            ConfigError::about(config, key, &address, why).into()
        }
        _ => StartError::system(&format!("cannot serve operators on {address} ({key})"), error),
    })
}

impl Vacant {
    /// Starts the thread. With `signals`, it also obeys SIGTERM, SIGINT and SIGHUP.
    pub(crate) fn staff(
        self,
        observer: Observer,
        reader: Reader,
        signals: bool,
    ) -> Result<Office, StartError> {
        let failed = |source| StartError::system("the office thread", source);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        // Registered before `start` returns, so that no early signal kills the process.
        let signals = {
            let _guard = runtime.enter();
            if signals {
                Some((Signals::listen().map_err(failed)?, hangups().map_err(failed)?))
            } else {
                None
            }
        };
        let (close, closed) = oneshot::channel();
        let (ends, hangup) =
            signals.map_or((None, None), |(ends, hangup)| (Some(ends), Some(hangup)));
        let door = self
            .door
            .map(|(listener, metrics)| (listener, Arc::new(Desk::new(observer.clone(), metrics))));
        let book = observer.guestbook();
        let admin = self.admin.map(|(listener, config)| {
            let page = book.page(Place::Admin);
            (listener, Arc::new(Door::new(&config, page, observer.clone())))
        });
        let doors = Doors {
            metrics: door.as_ref().map(|(_, desk)| Arc::clone(&desk.entry)),
            admin: admin.as_ref().map(|(_, door)| Arc::clone(&door.entry)),
        };
        let (levers, Pulled { drain, reload }) = levers::levers();
        let surroundings = {
            let _guard = runtime.enter();
            self.surroundings.attend()
        };
        let prompts = Prompts { hangup, pulled: reload, surroundings };
        let renewals = reload::obey(prompts, observer.clone(), reader.clone(), doors);
        let lookout = Watch::new(observer.clone());
        let api = api::Desk::new(observer.clone(), lookout.clone(), levers, &self.node);
        let router = api::router(api);
        let admin = administer(admin, router.clone());
        let control = control(self.control, router, book.page(Place::Control));
        let memory = observer.memory();
        let work = move || {
            runtime.block_on(async move {
                let mut duties = Duties::default();
                duties.begin("the metrics endpoint", serve(door));
                duties.begin("the admin endpoint", admin);
                duties.begin("the control socket", control);
                duties.begin(SIGNALS, obey(ends, drain, observer.clone(), self.drain));
                duties.begin("reading the configuration again", renewals);
                duties.begin("watching certificates", vigil::keep(self.certificates, reader));
                duties.begin("watching memory", memory.watch());
                duties.begin("watching allocations", lookout.run());
                tokio::select! {
                    _ = closed => {}
                    () = duties.watch(|name| report(name, &observer)) => {}
                }
            });
        };
        let thread = thread::Builder::new().name("office".into()).spawn(work).map_err(failed)?;
        Ok(Office { thread, close })
    }
}

impl Office {
    /// Ends the thread.
    pub(crate) fn close(self) {
        // An office that has ended by itself needs no word.
        let _ = self.close.send(());
        if self.thread.join().is_err() {
            tracing::error!("the office thread failed");
        }
    }
}

/// Says what a defect has ended. Nobody could end the relay in order without signals, so it is
/// drained, while its calls have time to end.
fn report(name: &'static str, observer: &Observer) {
    tracing::error!("{name}: ended by a defect; relaying goes on");
    observer.count_defect();
    if name == SIGNALS {
        observer.drain();
    }
}

/// Answers operators as long as the relay lives.
async fn serve(door: Option<(TcpListener, Arc<Desk>)>) {
    let Some((listener, desk)) = door else { return future::pending().await };
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => door::serve(listener, desk).await,
        Err(error) => {
            tracing::error!(%error, "the metrics endpoint failed; relaying goes on");
            future::pending::<()>().await;
        }
    }
}

/// Is there for operators with a browser as long as the relay lives.
async fn administer(door: Option<(TcpListener, Arc<Door>)>, router: Router) {
    let Some((listener, door)) = door else { return future::pending().await };
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => admin::serve(listener, door, router).await,
        Err(error) => {
            tracing::error!(%error, "the admin endpoint failed; relaying goes on");
            future::pending::<()>().await;
        }
    }
}

/// Is there for operators of this host as long as the relay lives.
async fn control(listener: Option<UnixListener>, router: Router, page: Page) {
    let Some(listener) = listener else { return future::pending().await };
    match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => control::serve(listener, router, page).await,
        Err(error) => {
            tracing::error!(%error, "the control socket failed; relaying goes on");
            future::pending::<()>().await;
        }
    }
}

/// The signal that has the configuration read again.
fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// The next signal, if any is obeyed.
async fn next(signals: Option<&mut Signals>) {
    match signals {
        Some(signals) => signals.next().await,
        None => future::pending().await,
    }
}

/// The two signals that end a relay.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Says what a drain waits for: soon, and then more and more rarely. Never ends by itself.
async fn tell(observer: &Observer, drain: Duration) {
    let (mut left, mut pause) = (drain, FIRST_WORD);
    loop {
        tokio::time::sleep(pause).await;
        left = left.saturating_sub(pause);
        pause = (pause * 2).min(RAREST_WORD);
        let observer = observer.clone();
        let look = spawn_blocking(move || observer.tally().allocations);
        let allocations = look.await.unwrap_or_default();
        tracing::info!(allocations, left_s = left.as_secs(), "draining: allocations go on");
    }
}

/// The first signal, or control, drains; the next signal or the deadline ends.
async fn obey(
    mut signals: Option<Signals>,
    pulled: Arc<Notify>,
    observer: Observer,
    drain: Duration,
) {
    tokio::select! {
        () = next(signals.as_mut()) => {}
        () = pulled.notified() => {}
    }
    tracing::info!(deadline_s = drain.as_secs(), "draining: no new allocations");
    observer.drain();
    tokio::select! {
        () = next(signals.as_mut()) => tracing::info!("ending at once: another signal"),
        () = tokio::time::sleep(drain) => tracing::info!("ending: the drain deadline has passed"),
        () = tell(&observer, drain) => {}
    }
    observer.stop();
    future::pending::<()>().await;
}
