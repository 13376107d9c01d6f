//! Certificates and private keys of listeners.

use std::path::Path;
use std::sync::Arc;

use guard::certificate::{Files, Unusable, authorities};
use guard::tls::server_config;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{NoClientAuth, danger::ClientCertVerifier};

use super::ConfigError;
use crate::mras::trust::TrustedServers;

/// A table with the keys `certificate` and `key`.
pub(super) struct Table<'a> {
    /// What errors call the configuration.
    pub(super) name: &'a str,
    /// What it is called.
    pub(super) key: &'a str,
    pub(super) files: Files,
}

impl Table<'_> {
    /// For anybody who comes, over HTTP.
    pub(super) fn for_http(&self) -> Result<Arc<ServerConfig>, ConfigError> {
        let mut config = self.load(Arc::new(NoClientAuth))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// For servers with one of these names in a certificate of the authorities in a file.
    pub(super) fn for_servers(
        &self,
        client_ca: &Path,
        names: &[String],
    ) -> Result<Arc<ServerConfig>, ConfigError> {
        let roots = authorities(client_ca).map_err(|wrong| self.wrong(wrong))?;
        let algorithms = default_provider().signature_verification_algorithms;
        let servers = TrustedServers::new(roots, names, algorithms);
        Ok(Arc::new(self.load(Arc::new(servers))?))
    }

    fn load(&self, clients: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, ConfigError> {
        let own = self.files.load().map_err(|wrong| self.wrong(wrong))?;
        server_config(own, clients)
            .map_err(|error| ConfigError::new(format!("{}: {}: {error}", self.name, self.key)))
    }

    fn wrong(&self, Unusable { file, path, why }: Unusable) -> ConfigError {
        let (name, table) = (self.name, self.key);
        ConfigError::new(format!("{name}: {table}.{file} = {path:?}: {why}"))
    }
}

impl super::Reader<'_> {
    /// The files of a table.
    pub(super) fn pair(&self, certificate: &Path, key: &Path) -> Files {
        Files { certificate: self.path(certificate), key: self.path(key) }
    }
}
