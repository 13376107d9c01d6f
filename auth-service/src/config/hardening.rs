//! What the service gives up when its sockets are open, and what it must keep.

use std::path::PathBuf;

use guard::tls::TlsTable;
use guard::{Connects, Plan};

use super::{Config, ConfigError, Reader, file};

impl Reader<'_> {
    /// The files that are read again: the configuration, and those it names.
    pub(super) fn files(&self, file: &file::File) -> Vec<PathBuf> {
        let pool = file.pool.iter().flat_map(|it| std::iter::once(&it.key).chain(&it.previous));
        let callers = file.callers.iter().filter_map(|caller| caller.key_file.as_ref());
        let metrics = file.metrics.iter().flat_map(|metrics| {
            metrics.token_file.iter().chain(metrics.tls.iter().flat_map(TlsTable::files))
        });
        let tls = file.tls.iter().flat_map(|it| [&it.certificate, &it.key]);
        let mras = file.mras.iter().filter_map(|mras| mras.tls.as_ref());
        let mras = mras.flat_map(|it| [&it.certificate, &it.key, &it.client_ca]);
        let named = pool.chain(callers).chain(metrics).chain(tls).chain(mras);
        let own = self.file.map(ToOwned::to_owned);
        own.into_iter().chain(named.map(|path| self.path(path))).collect()
    }
}

impl Config {
    /// What the process becomes.
    pub(crate) fn plan(&self) -> Result<Plan, ConfigError> {
        let wish = &self.hardening;
        wish.plan(self.files.clone(), Connects::Ports(Vec::new())).map_err(|error| {
            let name = self
                .file
                .as_ref()
                .map_or_else(|| "credential service".to_owned(), |file| file.display().to_string());
            let found = wish.user().unwrap_or_default();
            ConfigError::new(format!("{name}: hardening.user = {found:?}: {error}"))
        })
    }
}
