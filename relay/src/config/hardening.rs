//! What the relay gives up when its sockets are open, and what it must keep.

use std::path::{Path, PathBuf};

use guard::{Connects, Plan};
use proto::addr::Transport;
use proto::policy::Listener;
use proto::turn::config::MobilityPolicy;

use super::error::Problem;
use super::file::File;
use super::{Config, ConfigError, records};

/// The first port that everybody may bind.
const FREE_PORTS: u16 = 1_024;

/// The files that are read again.
pub(super) fn files(file: &File, directory: &Path, own: Option<&Path>) -> Vec<PathBuf> {
    own.map(Path::to_owned).into_iter().chain(named(file, directory)).collect()
}

/// Every file a configuration names.
fn named<'f>(file: &'f File, directory: &'f Path) -> impl Iterator<Item = PathBuf> + 'f {
    let auth = &file.auth;
    let oauth = auth.oauth.iter().filter_map(|it| it.key_file.as_ref());
    let tls = file.tls.iter().flat_map(|tls| &tls.certificates);
    let tls = tls.flat_map(|it| [&it.certificate, &it.key]);
    let metrics = file.metrics.iter().map(|it| (&it.token_file, &it.tls));
    let doors = metrics.chain(file.admin.iter().map(|it| (&it.token_file, &it.tls)));
    let doors = doors.flat_map(|(token, tls)| {
        token.iter().chain(tls.iter().flat_map(guard::tls::TlsTable::files))
    });
    let http = file.records.iter().flat_map(|it| it.http.iter().chain(&it.otlp));
    let http = http.flat_map(|it| it.token_file.iter().chain(&it.ca_file));
    let redis = file.records.iter().filter_map(|it| it.redis.as_ref());
    let receivers = http.chain(redis.filter_map(|it| it.password_file.as_ref()));
    let pool = file.pool.key.iter().chain(&file.pool.previous);
    let named = pool.chain(&auth.rest_secret_file).chain(&auth.users_file).chain(doors);
    named.chain(oauth).chain(tls).chain(receivers).map(|path| directory.join(path))
}

impl Config {
    /// What the process becomes.
    pub(crate) fn plan(&self) -> Result<Plan, ConfigError> {
        let wish = &self.hardening;
        let plan = wish.plan(self.files.clone(), self.connects()).map_err(|error| {
            let (shown, why) = (wish.user().unwrap_or_default(), format!("{error}."));
            ConfigError::of(&self.name, Problem::text("hardening.user", shown, &why))
        })?;
        // A client that moved gets a socket of its own on the listener's port.
        let low = |it: &Listener| !it.transport.is_stream() && it.local.port() < FREE_PORTS;
        let moves = self.mobility == MobilityPolicy::Allowed;
        if let Some(problem) = self.records.as_ref().and_then(records::unknown) {
            return Err(ConfigError::of(&self.name, problem));
        }
        let errands = self.records.as_ref().map(crate::records::Wish::errands);
        Ok(Plan { low_ports: moves && self.listeners.iter().any(low), errands, ..plan })
    }

    /// Where this process itself opens connections to.
    fn connects(&self) -> Connects {
        let streams = self.listeners.iter().any(|it| it.transport.is_stream());
        if self.tcp_relays || self.microsoft && streams {
            return Connects::Anywhere;
        }
        let pass_through = self.tls.as_ref().and_then(|tls| tls.pass_through.as_ref());
        let tls = self.listeners.iter().any(|it| it.transport == Transport::Tls);
        Connects::Ports(pass_through.filter(|_| tls).map(|it| it.to.port()).into_iter().collect())
    }
}
