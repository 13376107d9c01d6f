//! The configuration read again while the relay runs: what may change, and what waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use guard::Access;
use toml::{Table, Value};
use zeroize::Zeroizing;

use super::addresses::Host;
use super::error::Problem;
use super::{Config, ConfigError};

/// What the running relay takes from a file that is read again: tables and keys. All others wait
/// for a restart.
const RENEWED: &[&str] = &[
    "admin.hosts",
    "admin.tls",
    "admin.token_file",
    "auth",
    "limits.allocations",
    "limits.allocations_per_client",
    "limits.allocations_per_user",
    "limits.channels",
    "limits.kbit_per_s_per_allocation",
    "limits.kbit_per_s_per_client",
    "limits.kbit_per_s_per_user",
    "limits.microsoft_kbit_per_s_per_allocation",
    "limits.microsoft_kbit_per_s_per_user",
    "limits.packets_per_s_per_allocation",
    "limits.packets_per_s_per_client",
    "limits.packets_per_s_per_user",
    "limits.new_peers_per_minute",
    "limits.new_peers_per_minute_per_client",
    "limits.new_peers_per_minute_per_user",
    "limits.peer_connections",
    "limits.peer_connections_per_client",
    "limits.peer_connections_per_user",
    "limits.peer_connections_total",
    "limits.peer_connections_waiting",
    "limits.permissions",
    "metrics.hosts",
    "metrics.tls",
    "metrics.token_file",
    "peers",
    "pool",
    "quality",
    "redirect",
    "software",
    "timers",
    "tls.certificates",
];

/// A configuration that may take the place of the one in force.
#[derive(Debug)]
pub(crate) struct Renewal {
    /// The one in force with what may change.
    pub(crate) config: Config,
    /// Keys that were changed and wait for a restart.
    pub(crate) waiting: Vec<String>,
}

/// The keys of a document that wait for a restart, with their values: no secret is among them.
pub(super) fn fixed(document: &Table) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    flatten("", document, &mut found);
    found
}

fn flatten(prefix: &str, table: &Table, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            _ if RENEWED.contains(&&*key) => {}
            Value::Table(table) => flatten(&key, table, found),
            value => drop(found.insert(key, format!("{value:?}"))),
        }
    }
}

impl Config {
    /// Reads the file again that this configuration comes from.
    pub(crate) fn read_again(&self) -> Result<Renewal, ConfigError> {
        let Some(path) = &self.path else {
            let why = "it came from no file and cannot be read again.";
            return Err(ConfigError::of(&self.name, Problem::at("", why)));
        };
        let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
            ConfigError::of(&self.name, Problem::at("", &format!("cannot be read: {error}.")))
        })?;
        let fresh = Self::build(&text, &self.name, Some(path), None)?;
        if fresh.realm != self.realm {
            let why = "another realm waits for a restart, and its keys of users with it.";
            return Err(ConfigError::of(&self.name, Problem::text("realm", &fresh.realm, why)));
        }
        if fresh.tls.is_none() && self.tls.is_some() {
            let why = "missing. The relay that runs needs its certificates.";
            return Err(ConfigError::of(&self.name, Problem::at("tls", why)));
        }
        let keys = self.fixed.keys().chain(fresh.fixed.keys());
        let mut waiting: Vec<String> =
            keys.filter(|key| self.fixed.get(*key) != fresh.fixed.get(*key)).cloned().collect();
        waiting.sort();
        waiting.dedup();
        Ok(Renewal { config: self.renewed(fresh), waiting })
    }

    /// This one with the addresses that the host has now, if they are others.
    pub(crate) fn moved(&self) -> Result<Option<Self>, ConfigError> {
        let host = Host::look().map_err(|problem| ConfigError::of(&self.name, problem))?;
        let (own, broadcasts) = (host.addresses(), host.broadcasts());
        let others = (&own, &broadcasts) != (&self.own, &self.broadcasts);
        Ok(others.then(|| Self { own, broadcasts, ..self.clone() }))
    }

    /// This one, with what may change taken from a fresh one. The certificates in use stay where
    /// they are, and take in those of the fresh one.
    fn renewed(&self, fresh: Self) -> Self {
        let tls = match (&self.tls, fresh.tls) {
            (Some(old), Some(new)) => {
                old.certificates.adopt(&new.certificates);
                Some(old.clone())
            }
            (old, _) => old.clone(),
        };
        let metrics = match (&self.metrics, fresh.metrics) {
            (Some(old), Some(new)) => {
                let access = access(old.address, &old.access, new.access);
                Some(super::Metrics { access, ..old.clone() })
            }
            (old, _) => old.clone(),
        };
        let admin = match (&self.admin, fresh.admin) {
            (Some(old), Some(new)) => {
                let access = access(old.address, &old.access, new.access);
                Some(super::Admin { access, ..old.clone() })
            }
            (old, _) => old.clone(),
        };
        Self {
            software: fresh.software,
            peers: fresh.peers,
            pool: fresh.pool,
            own: fresh.own,
            broadcasts: fresh.broadcasts,
            limits: fresh.limits,
            bandwidth: fresh.bandwidth,
            authority: fresh.authority,
            timers: fresh.timers,
            redirect: fresh.redirect,
            measured: fresh.measured,
            tls,
            metrics,
            admin,
            ..self.clone()
        }
    }

    /// What each worker is told.
    pub(crate) fn servers(&self) -> impl Iterator<Item = Arc<proto::turn::Config>> + '_ {
        (0..self.workers).map(|index| Arc::new(self.server(index)))
    }
}

/// Who may come in at a door that stays where it is. A file that moves it to loopback and asks for
/// no proof there opens nothing before the restart that moves it.
fn access(address: SocketAddr, old: &Access, new: Access) -> Access {
    if guard::needs_proof(address) && !new.asks_for_proof() { old.clone() } else { new }
}
