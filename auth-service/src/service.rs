//! The life of a service: open, serve, read the configuration again, stop.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use guard::{Confined, Reader};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Config, ConfigError};
use crate::server::{Behind, Door};
use crate::shared::Shared;
use crate::web;

/// How often latency samples are folded.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why a service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not fit this host as it is now: an occupied port, for instance.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system refused something that no configuration can mend.
    #[error("credential service: {0}")]
    System(#[from] io::Error),
    /// Privileges could not be given up.
    #[error("credential service: {0}")]
    Privileges(#[from] guard::Error),
}

impl StartError {
    /// The exit status of a process that could not start.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(error) => error.exit_code(),
            Self::System(_) | Self::Privileges(_) => 1,
        }
    }
}

/// A running service. Dropping it stops it.
#[derive(Debug)]
pub struct AuthService {
    addr: SocketAddr,
    metrics_addr: Option<SocketAddr>,
    mras_addr: Option<SocketAddr>,
    secure: bool,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl AuthService {
    /// Where callers are served; the port is the one in use, even if 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where metrics are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// Where trusted servers are served.
    pub fn mras_addr(&self) -> Option<SocketAddr> {
        self.mras_addr
    }

    /// The address as a URL without a path, as in `http://127.0.0.1:8443`.
    pub fn url(&self) -> String {
        url(self.secure, self.addr)
    }

    /// Takes no new request, answers those under way, and ends.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported on standard error already.
            let _ = thread.join();
        }
    }
}

impl Drop for AuthService {
    fn drop(&mut self) {
        self.end();
    }
}

fn url(secure: bool, addr: SocketAddr) -> String {
    format!("{}://{addr}", if secure { "https" } else { "http" })
}

/// Opens every socket, then serves in a thread of its own.
pub fn start(config: Config) -> Result<AuthService, StartError> {
    let runtime = runtime()?;
    guard::descriptors::raise()?;
    let sockets = Sockets::open(&config)?;
    let Addresses { api: addr, metrics: metrics_addr, mras: mras_addr } = sockets.addresses()?;
    let secure = config.tls.is_some();
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared::new(config));
    let doors = {
        let _context = runtime.enter();
        sockets.doors(&shared)?
    };
    let thread = thread::Builder::new().name("auth".to_owned()).spawn(move || {
        runtime.block_on(serve(doors, shared, stopped));
    })?;
    Ok(AuthService { addr, metrics_addr, mras_addr, secure, stop, thread: Some(thread) })
}

/// Serves, with no more privileges than that needs, until SIGTERM or SIGINT, which lets the answers under way finish; a second one ends
/// it at once. SIGHUP reads the configuration file again: a good one is put in force, but for
/// the addresses; a bad one is reported and changes nothing. The calling process must have no
/// other threads, and is good for nothing else afterwards.
pub fn run(config: Config) -> Result<(), StartError> {
    guard::descriptors::raise()?;
    let sockets = Sockets::open(&config)?;
    let Confined { measures, reader, .. } = guard::confine(&config.plan()?, &[])?;
    let runtime = runtime()?;
    let Addresses { api: addr, metrics: metrics_addr, mras: mras_addr } = sockets.addresses()?;
    let url = url(config.tls.is_some(), addr);
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared::new(config));
    shared.telemetry.hardened(measures);
    let (doors, signals) = {
        let _context = runtime.enter();
        (sockets.doors(&shared)?, Signals::listen()?)
    };
    tracing::info!("credential service on {url}");
    warn_of_shortage(&shared.live().config);
    if let Some(addr) = mras_addr {
        tracing::info!("A/V authentication (MRAS) on {addr}");
    }
    if let Some(addr) = metrics_addr {
        let scheme = shared.live().config.access.scheme();
        tracing::info!("metrics on {scheme}://{addr}/metrics");
    }
    runtime.block_on(async {
        tokio::select! {
            () = serve(doors, Arc::clone(&shared), stopped) => {}
            () = signals.obey(&shared, &reader, &stop) => {}
        }
    });
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Serves all doors, and folds metrics meanwhile.
async fn serve(doors: Vec<Door>, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let upkeep = tokio::spawn({
        let shared = Arc::clone(&shared);
        async move {
            let mut tick = interval(UPKEEP_INTERVAL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                shared.telemetry.upkeep();
            }
        }
    });
    let doors: Vec<_> =
        doors.into_iter().map(|door| tokio::spawn(door.serve(stop.clone()))).collect();
    for door in doors {
        // A door's panic has been reported on standard error already.
        let _ = door.await;
    }
    shared.stop();
    upkeep.abort();
}

/// The sockets of a service, open.
struct Sockets {
    api: StdListener,
    metrics: Option<StdListener>,
    mras: Option<StdListener>,
}

/// Where they are.
struct Addresses {
    api: SocketAddr,
    metrics: Option<SocketAddr>,
    mras: Option<SocketAddr>,
}

impl Sockets {
    fn open(config: &Config) -> Result<Self, ConfigError> {
        let name = config
            .file
            .as_ref()
            .map_or_else(|| "credential service".to_owned(), |file| file.display().to_string());
        let open = |key: &str, addr: SocketAddr| {
            let listener = StdListener::bind(addr).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            listener.map_err(|error| {
                let right = match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        "another process listens there; choose another port"
                    }
                    io::ErrorKind::AddrNotAvailable => "not an address of this host",
                    io::ErrorKind::PermissionDenied => {
                        "ports below 1024 need CAP_NET_BIND_SERVICE; grant it, or choose another"
                    }
                    _ => "cannot be opened",
                };
                ConfigError::new(format!("{name}: {key} = \"{addr}\": {right} ({error})"))
            })
        };
        Ok(Self {
            api: open("listen", config.listen)?,
            metrics: config.metrics.map(|addr| open("metrics.address", addr)).transpose()?,
            mras: config.mras.as_ref().map(|mras| open("mras.listen", mras.listen)).transpose()?,
        })
    }

    fn addresses(&self) -> io::Result<Addresses> {
        let of =
            |socket: &Option<StdListener>| socket.as_ref().map(StdListener::local_addr).transpose();
        let (metrics, mras) = (of(&self.metrics)?, of(&self.mras)?);
        Ok(Addresses { api: self.api.local_addr()?, metrics, mras })
    }

    /// Puts what is served behind them; inside a runtime.
    fn doors(self, shared: &Arc<Shared>) -> io::Result<Vec<Door>> {
        let sockets = [
            (Some(self.api), Behind::Api(web::api(shared))),
            (self.metrics, Behind::Monitoring(web::monitoring(shared))),
            (self.mras, Behind::Mras),
        ];
        let open = sockets.into_iter().filter_map(|(socket, behind)| Some((socket?, behind)));
        open.map(|(socket, behind)| {
            let listener = TcpListener::from_std(socket)?;
            Ok(Door { listener, behind, shared: Arc::clone(shared) })
        })
        .collect()
    }
}

/// The signals a service obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns at the second request to end; the first one stops the doors.
    async fn obey(mut self, shared: &Shared, reader: &Reader, stop: &watch::Sender<bool>) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    reload(shared, reader).await;
                    continue;
                }
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            shared.stop();
            if stop.send_replace(true) {
                return;
            }
            tracing::info!("stopping; a second signal ends it at once");
        }
    }
}

/// Says it if connections may come to lack descriptors.
fn warn_of_shortage(config: &Config) {
    if let Some(shortage) = config.shortage() {
        tracing::warn!("{shortage}");
    }
}

/// Reads the configuration file again.
async fn reload(shared: &Shared, reader: &Reader) {
    let live = shared.live();
    let old = &live.config;
    let Some(file) = &old.file else { return };
    let path = file.clone();
    let read = reader.run(move || Config::read(&path)).await;
    let gone = || ConfigError::new("files can no longer be read".to_owned());
    match read.unwrap_or_else(|| Err(gone())) {
        Ok(mut new) => {
            let moved = new.listen != old.listen || new.metrics != old.metrics;
            let mras_of = |config: &Config| config.mras.as_ref().map(|mras| mras.listen);
            let moved = moved || mras_of(&new) != mras_of(old);
            let secured = new.tls.is_some() != old.tls.is_some();
            keep_mras(old, &mut new);
            if moved || secured {
                tracing::warn!(
                    "{}: other addresses, and TLS on or off, wait for a restart",
                    file.display()
                );
            }
            if secured {
                new.tls.clone_from(&old.tls);
            }
            let key = new.issue.ring.current.id;
            warn_of_shortage(&new);
            shared.replace(new);
            shared.telemetry.reloaded(true);
            tracing::info!("{}: read again; minting with pool key {key}", file.display());
        }
        Err(error) => {
            shared.telemetry.reloaded(false);
            tracing::error!("{error}; the configuration in force stays");
        }
    }
}

/// MRAS stays on, and in clear or not, as it was at the start.
fn keep_mras(old: &Config, new: &mut Config) {
    match (&old.mras, &mut new.mras) {
        (Some(old), Some(new)) if old.tls.is_some() != new.tls.is_some() => {
            new.tls.clone_from(&old.tls);
        }
        (Some(_), None) => new.mras.clone_from(&old.mras),
        (None | Some(_), _) => {}
    }
}
