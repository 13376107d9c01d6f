//! What the service gives up when its sockets are open, and what it must keep.

use std::path::PathBuf;

use guard::{Connects, Plan, User};

use super::{Config, ConfigError, Reader, file};

/// The wishes of the operator.
#[derive(Clone, Debug)]
pub(super) struct Hardening {
    user: Option<String>,
    seccomp: bool,
    landlock: bool,
    /// What is read again.
    files: Vec<PathBuf>,
}

impl Reader<'_> {
    /// The `[hardening]` table, and the files that the rest of the configuration names.
    pub(super) fn hardening(&self, file: &file::File) -> Hardening {
        let file::Hardening { user, seccomp, landlock } = &file.hardening;
        let pool = file.pool.iter().flat_map(|it| std::iter::once(&it.key).chain(&it.previous));
        let callers = file.callers.iter().filter_map(|caller| caller.key_file.as_ref());
        let metrics = file.metrics.iter().filter_map(|metrics| metrics.token_file.as_ref());
        let tls = file.tls.iter().flat_map(|it| [&it.certificate, &it.key]);
        let mras = file.mras.iter().filter_map(|mras| mras.tls.as_ref());
        let mras = mras.flat_map(|it| [&it.certificate, &it.key, &it.client_ca]);
        let named = pool.chain(callers).chain(metrics).chain(tls).chain(mras);
        let own = self.file.map(ToOwned::to_owned);
        Hardening {
            user: user.clone(),
            seccomp: seccomp.unwrap_or(true),
            landlock: landlock.unwrap_or(true),
            files: own.into_iter().chain(named.map(|path| self.path(path))).collect(),
        }
    }
}

impl Config {
    /// What the process becomes.
    pub(crate) fn plan(&self) -> Result<Plan, ConfigError> {
        let wish = &self.hardening;
        let user = User::find(wish.user.as_deref()).map_err(|error| {
            let name = self
                .file
                .as_ref()
                .map_or_else(|| "credential service".to_owned(), |file| file.display().to_string());
            let found = wish.user.as_deref().unwrap_or_default();
            ConfigError::new(format!("{name}: hardening.user = {found:?}: {error}"))
        })?;
        Ok(Plan {
            user,
            seccomp: wish.seccomp,
            landlock: wish.landlock,
            files: wish.files.clone(),
            low_ports: false,
            connects: Connects::Ports(Vec::new()),
        })
    }
}
