//! What the relay needs to know, already valid.
//!
//! A file is read as TOML (`file`), then every value is judged, alone, against the others and
//! against this host (`check`, `addresses`), before a socket opens. The first thing that is
//! wrong becomes one [`ConfigError`].

mod addresses;
mod check;
mod discovery;
mod error;
mod file;
mod hardening;
mod limits;
mod offload;
mod operators;
mod peers;
mod records;
mod redirect;
mod renewal;
mod secrets;
mod summary;
mod tls;
mod tokens;
mod users;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::addr::{ListenerId, Transport};
use proto::auth::{Authority, KeyRing};
use proto::dialect::PerDialect;
use proto::policy::{
    Asker, Bandwidth, Corners, Edge, Explanation, Limits, Listener, PeerAcl, PoolRelay,
    RelayAddress,
};
use proto::turn::config::{Compat, Measured, MobilityPolicy, Redirect, Share, Terms};
use proto::turn::{self, Rate};
use zeroize::Zeroizing;

use crate::certificates::Certificates;
use crate::dtls::{Door, DtlsConfig};
use crate::offload::Wish;
use crate::shown::Shown;
use crate::stream::{DoorPlan, StreamConfig, StreamLimits};
use crate::sys::Spoken;
use addresses::{Entry, Host};
pub use error::ConfigError;
use error::Problem;
use file::File;
pub(crate) use renewal::Renewal;
use tls::Tls;
pub use users::opaque_string;

/// A complete, valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What errors call it.
    name: String,
    /// Where it can be read again.
    path: Option<PathBuf>,
    /// Its keys that wait for a restart, with what stands there.
    fixed: BTreeMap<String, String>,
    /// For each listener, the value of the file it comes from.
    entries: Vec<Entry>,
    realm: String,
    software: Option<String>,
    pub(crate) workers: u16,
    /// How far workers go before other programs: a niceness.
    pub(crate) nice: i32,
    pub(crate) drain: Duration,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) relays: Vec<RelayAddress>,
    own: Vec<IpAddr>,
    broadcasts: Vec<IpAddr>,
    corners: Vec<Corners>,
    pub(crate) ports: RangeInclusive<u16>,
    peers: PeerAcl,
    pool: Vec<PoolRelay>,
    pub(crate) limits: Limits,
    bandwidth: PerDialect<Bandwidth>,
    /// How often strangers are answered.
    pub(crate) strangers: Rate,
    /// How often handshakes of TLS and DTLS begin.
    pub(crate) handshakes: Rate,
    /// Bytes that the process may hold.
    pub(crate) memory: Option<u64>,
    streams: StreamLimits,
    tls: Option<Tls>,
    authority: Authority,
    timers: Timers,
    compat: Compat,
    mobility: MobilityPolicy,
    udp_relays: bool,
    redirect: Redirect,
    tcp_relays: bool,
    microsoft: bool,
    /// One of so many allocations has the quality of its media measured.
    measured: Option<NonZeroU32>,
    pub(crate) metrics: Option<Metrics>,
    /// Where operators look at the relay, and control it.
    pub(crate) admin: Option<Admin>,
    /// Where usage records go, if they are kept.
    pub(crate) records: Option<crate::records::Wish>,
    /// What the log tells of people's addresses.
    pub(crate) shown: Shown,
    /// Where operators of this host control the relay.
    pub(crate) control: Option<guard::socket::Place>,
    hardening: guard::Hardening,
    /// What is read again.
    files: Vec<PathBuf>,
    /// What the kernel shall relay by itself, if anything.
    pub(crate) offload: Option<Wish>,
}

/// Spans of the protocol an operator may change.
#[derive(Clone, Copy, Debug)]
struct Timers {
    lifetime_max: Duration,
    microsoft_lifetime: Duration,
    nonce_lifetime: Duration,
    refresh_grace: Duration,
    port_quarantine: Duration,
}

/// The metrics endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Who may see them.
    pub(crate) access: guard::Access,
    /// Allocations with series of their own.
    pub(crate) sessions: usize,
    /// Whether those series name the user, by keyed hash.
    pub(crate) name_users: bool,
}

/// The admin endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Who may change something, and off loopback who may look.
    pub(crate) access: guard::Access,
}

impl Config {
    /// Reads and checks a file; relative paths in it start at its directory.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
            ConfigError::of(&name, Problem::at("", &format!("cannot be read: {error}.")))
        })?;
        let config = Self::build(&text, &name, Some(path), None)?;
        config.plan()?;
        Ok(config)
    }

    /// Checks a configuration that is no file; errors call it `name`. With `keys` given,
    /// `pool.key` is not needed.
    pub fn from_toml(text: &str, name: &str, keys: Option<KeyRing>) -> Result<Self, ConfigError> {
        Self::build(text, name, None, keys)
    }

    /// The metrics endpoint, if one is configured.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|metrics| metrics.address)
    }

    /// The admin endpoint, if one is configured.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// Whether a client may reach a peer, and why.
    pub fn explain_peer(&self, asker: Asker<'_>, ip: IpAddr, port: Option<u16>) -> Explanation {
        self.peers.explain(&self.edge(), asker, ip, port)
    }

    /// Descriptors that as many allocations and connections take as there may be.
    pub(crate) fn descriptors(&self) -> u64 {
        let each = limits::each(&self.listeners);
        let connections = if each > 1 { self.streams.strangers.in_all } else { 0 };
        let passed = self.tls.iter().filter_map(|tls| tls.pass_through.as_ref());
        let passed: u64 = passed.map(|pass| 2 * u64::from(pass.bounds.in_all)).sum();
        let to_peers = if self.tcp_relays || self.microsoft {
            u64::from(self.limits.peer_connections_total) * limits::PER_CONNECTION
        } else {
            0
        };
        u64::from(self.limits.allocations) * each + u64::from(connections) + passed + to_peers
    }

    /// What the server of one worker is told.
    pub(crate) fn server(&self, index: u16) -> turn::Config {
        turn::Config {
            realm: self.realm.clone(),
            software: self.software.clone(),
            edge: self.edge(),
            peers: self.peers.clone(),
            limits: self.limits,
            authority: self.authority.clone(),
            ports: self.ports.clone(),
            share: Share { index, of: self.workers },
            lifetime_max: self.timers.lifetime_max,
            nonce_lifetime: self.timers.nonce_lifetime,
            refresh_grace: self.timers.refresh_grace,
            port_quarantine: self.timers.port_quarantine,
            compat: self.compat,
            mobility: self.mobility,
            udp_relays: self.udp_relays,
            tcp_relays: self.tcp_relays,
            microsoft: self.microsoft,
            terms: PerDialect {
                rfc: Terms::rfc(self.bandwidth.rfc),
                ms: Terms::microsoft(
                    self.bandwidth.ms,
                    self.timers.microsoft_lifetime,
                    self.timers.lifetime_max,
                ),
            },
            redirect: self.redirect.clone(),
            measured: self.measured.map(|every| Measured {
                every,
                whole: self.offload.as_ref().is_some_and(|it| it.keep_measured),
            }),
        }
    }

    /// Every address of this host and of the pool that means something.
    pub(crate) fn edge(&self) -> Edge {
        let doors = self.metrics_addr().into_iter().chain(self.admin_addr());
        let others = self.redirect.alternates.iter().flatten().copied();
        Edge::new(self.listeners.clone(), self.relays.clone(), self.own.clone())
            .with_ports(self.ports.clone())
            .with_corners(self.corners.clone())
            .with_broadcasts(self.broadcasts.clone())
            .with_services(doors.chain(others).collect())
            .with_pool(self.pool.clone())
    }

    /// What the streams of a worker are told.
    pub(crate) fn streams(&self) -> StreamConfig {
        let transport = |listener: &Listener| match listener.transport {
            transport @ (Transport::Tcp | Transport::Tls) => Some(transport),
            Transport::Udp | Transport::Dtls => None,
        };
        StreamConfig {
            limits: self.streams,
            transports: self.listeners.iter().map(transport).collect(),
            rfc5766_channels: self.compat.rfc5766_channels,
            microsoft: self.microsoft,
            tls: self.tls.as_ref().map(|tls| Arc::clone(&tls.server)),
            pass_through: self.tls.as_ref().and_then(|tls| tls.pass_through.clone()),
        }
    }

    /// What the listener of this id shares its door with.
    pub(crate) fn door(&self, id: ListenerId) -> DoorPlan {
        let mut plan = DoorPlan::default();
        let local = self.listeners[id.index()].local;
        for ((id, listener), entry) in (0..).map(ListenerId).zip(&self.listeners).zip(&self.entries)
        {
            let place = match listener.transport {
                Transport::Tcp => &mut plan.plain,
                Transport::Tls => &mut plan.tls,
                Transport::Udp | Transport::Dtls => continue,
            };
            if listener.local == local {
                *place = Some(id);
                plan.proxies.extend(&entry.proxies);
            }
        }
        plan
    }

    /// Certificates whose files are to be watched.
    pub(crate) fn certificates(&self) -> Option<Arc<Certificates>> {
        self.tls.as_ref().map(|tls| Arc::clone(&tls.certificates))
    }

    /// What the DTLS of a worker is told.
    pub(crate) fn dtls(&self) -> DtlsConfig {
        let ids = || (0..).map(ListenerId).zip(&self.listeners);
        let twin = |of: &Listener| {
            let same = |it: &Listener| it.transport == Transport::Dtls && it.local == of.local;
            ids().find(|(_, it)| same(it)).map(|(id, _)| id)
        };
        let door = |(id, listener): (ListenerId, &Listener)| match listener.transport {
            Transport::Udp => twin(listener).map(|inside| Door { inside, socket: id }),
            Transport::Dtls if !self.has_udp(listener.local) => {
                Some(Door { inside: id, socket: id })
            }
            Transport::Dtls | Transport::Tcp | Transport::Tls => None,
        };
        let doors: Vec<_> = ids().map(door).collect();
        let served = doors.iter().any(Option::is_some);
        DtlsConfig {
            certificates: self.certificates().filter(|_| served),
            doors,
            limits: self.streams,
        }
    }

    /// What is spoken at the socket of a listener beside TURN of the RFCs.
    pub(crate) fn spoken(&self, socket: ListenerId) -> Spoken {
        let doors = self.dtls().doors;
        Spoken {
            microsoft: self.microsoft,
            dtls: matches!(doors.get(socket.index()), Some(Some(_))),
            rfc5766_channels: self.compat.rfc5766_channels,
        }
    }

    /// Whether UDP is served at an address.
    pub(crate) fn has_udp(&self, address: SocketAddr) -> bool {
        let udp = |it: &Listener| it.transport == Transport::Udp && it.local == address;
        self.listeners.iter().any(udp)
    }

    fn build(
        text: &str,
        name: &str,
        path: Option<&Path>,
        keys: Option<KeyRing>,
    ) -> Result<Self, ConfigError> {
        File::parse(text)
            .and_then(|(file, document)| {
                let fixed = renewal::fixed(&document.0);
                Ok(Self { fixed, ..Self::judge(file, name, path, keys)? })
            })
            .map_err(|problem| ConfigError::of(name, problem))
    }

    fn judge(
        file: File,
        name: &str,
        path: Option<&Path>,
        keys: Option<KeyRing>,
    ) -> Result<Self, Problem> {
        let directory = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let host = Host::look()?;
        let workers = check::workers(file.workers)?;
        let (mut listeners, mut entries) = addresses::listeners(&file.listen, &host)?;
        let relays = addresses::relays(&file.relay.addresses, &listeners, &host)?;
        // Behind the others, so that no relay is opened on an address that came for discovery.
        let found = &file.features.nat_discovery;
        let corners = discovery::corners(found, &mut listeners, &mut entries, &host)?;
        let redirect = redirect::redirect(&file.redirect, &listeners, !corners.is_empty())?;
        let ports = check::ports(file.relay.ports.as_deref(), workers, &listeners)?;
        let pool = peers::pool(&file.peers.pool, &ports, &relays, &host)?;
        let metrics = operators::metrics(file.metrics.as_ref(), &listeners, directory)?;
        let admin = operators::admin(file.admin.as_ref(), &listeners, metrics.as_ref(), directory)?;
        let (_, descriptors) =
            guard::descriptors::limit().map_err(|error| Problem::at("", &error.to_string()))?;
        let streams = limits::streams(&file.limits, descriptors)?;
        let tls = tls::tls(file.tls.as_ref(), &listeners, directory, descriptors)?;
        let each = limits::each(&listeners);
        let room = limits::room(&relays, &ports, descriptors, each);
        let realm = check::realm(file.realm.as_deref())?;
        secrets::warn_of_readers(name, path, &file.auth);
        let authority = secrets::authority(&realm, &file.pool, &file.auth, directory, keys)?;
        if let Some(tokens) = &authority.tokens {
            check::challenge(&realm, Some(&tokens.server_name))?;
        }
        let files = hardening::files(&file, directory, path);
        let limits = limits::limits(&file.limits, room, (descriptors, each))?;
        let bandwidth = limits::bandwidths(&file.limits)?;
        let offload = {
            let served = if file.features.microsoft { 2 } else { 1 };
            let terms = [bandwidth.rfc, bandwidth.ms];
            offload::offload(&file.offload, limits.allocations, &terms[..served], workers)?
        };
        Ok(Self {
            name: name.to_owned(),
            path: path.map(Path::to_owned),
            fixed: BTreeMap::new(),
            entries,
            software: check::software(file.software)?,
            workers,
            nice: check::nice(file.nice)?,
            drain: check::seconds("drain_s", file.drain_s, 30, 0..=86_400)?,
            relays,
            own: host.addresses(),
            broadcasts: host.broadcasts(),
            pool,
            corners,
            ports,
            peers: peers::peers(&file.peers)?,
            limits,
            bandwidth,
            offload,
            strangers: limits::strangers(&file.limits)?,
            handshakes: limits::handshakes(&file.limits)?,
            memory: limits::memory(&file.limits)?,
            streams,
            tls,
            authority,
            realm,
            redirect,
            timers: check::timers(&file.timers)?,
            compat: Compat {
                rfc5766_channels: file.compat.rfc5766_channels,
                rfc3489: file.compat.rfc3489,
            },
            mobility: check::mobility(file.features.mobility.as_ref())?,
            udp_relays: file.features.udp_relays.unwrap_or(true),
            microsoft: file.features.microsoft,
            tcp_relays: check::tcp_relays(file.features.tcp_relays, &listeners)?,
            measured: operators::quality(&file.quality)?,
            metrics,
            admin,
            shown: records::shown("log.addresses", file.log.addresses.as_deref())?,
            records: records::records(file.records.as_ref(), directory)?,
            control: operators::control(&file.control, directory)?,
            files,
            hardening: file.hardening,
            listeners,
        })
    }
}
