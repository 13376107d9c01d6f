//! What the relay gives up when its sockets are open, and what it must keep.

use std::path::{Path, PathBuf};

use guard::{Connects, Plan, User};
use proto::addr::Transport;
use proto::policy::Listener;
use proto::turn::config::MobilityPolicy;

use super::error::Problem;
use super::file::{self, File};
use super::{Config, ConfigError};

/// The first port that everybody may bind.
const FREE_PORTS: u16 = 1_024;

/// The wishes of the operator.
#[derive(Clone, Debug)]
pub(super) struct Hardening {
    user: Option<String>,
    seccomp: bool,
    landlock: bool,
    /// What is read again.
    files: Vec<PathBuf>,
}

/// The `[hardening]` table, and the files that the rest of the configuration names.
pub(super) fn hardening(file: &File, directory: &Path, own: Option<&Path>) -> Hardening {
    let file::Hardening { user, seccomp, landlock } = &file.hardening;
    Hardening {
        user: user.clone(),
        seccomp: seccomp.unwrap_or(true),
        landlock: landlock.unwrap_or(true),
        files: own.map(Path::to_owned).into_iter().chain(named(file, directory)).collect(),
    }
}

/// Every file a configuration names.
fn named<'f>(file: &'f File, directory: &'f Path) -> impl Iterator<Item = PathBuf> + 'f {
    let auth = &file.auth;
    let oauth = auth.oauth.iter().filter_map(|it| it.key_file.as_ref());
    let tls = file.tls.iter().flat_map(|tls| &tls.certificates);
    let tls = tls.flat_map(|it| [&it.certificate, &it.key]);
    let metrics = file.metrics.as_ref().and_then(|it| it.token_file.as_ref());
    let pool = file.pool.key.iter().chain(&file.pool.previous);
    let named = pool.chain(&auth.rest_secret_file).chain(&auth.users_file).chain(metrics);
    named.chain(oauth).chain(tls).map(|path| directory.join(path))
}

impl Config {
    /// What the process becomes.
    pub(crate) fn plan(&self) -> Result<Plan, ConfigError> {
        let wish = &self.hardening;
        let user = User::find(wish.user.as_deref()).map_err(|error| {
            let shown = wish.user.as_deref().unwrap_or_default();
            let why = format!("{error}.");
            ConfigError::of(&self.name, Problem::text("hardening.user", shown, &why))
        })?;
        // A client that moved gets a socket of its own on the listener's port.
        let low = |it: &Listener| !it.transport.is_stream() && it.local.port() < FREE_PORTS;
        let moves = self.mobility == MobilityPolicy::Allowed;
        Ok(Plan {
            user,
            seccomp: wish.seccomp,
            landlock: wish.landlock,
            files: wish.files.clone(),
            low_ports: moves && self.listeners.iter().any(low),
            connects: self.connects(),
        })
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
