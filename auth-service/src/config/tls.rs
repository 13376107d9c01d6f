//! Certificates and private keys of listeners.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::{ConfigError, secret_file};
use crate::mras::trust::TrustedServers;

/// A certificate with its key, and where both stand in the configuration.
pub(super) struct Files<'a> {
    /// What errors call the configuration.
    pub(super) name: &'a str,
    /// The table with the keys `certificate` and `key`.
    pub(super) table: &'a str,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Files<'_> {
    /// For anybody who comes, over HTTP.
    pub(super) fn for_http(&self) -> Result<Arc<ServerConfig>, ConfigError> {
        let mut config = self.load(Arc::new(NoClientAuth))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// For servers with one of these names in a certificate of the authorities in a file.
    pub(super) fn for_servers(
        &self,
        authorities: &Path,
        names: &[String],
    ) -> Result<Arc<ServerConfig>, ConfigError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates("client_ca", authorities)? {
            roots.add(certificate).map_err(|error| {
                self.wrong("client_ca", authorities, &format!("an unusable certificate: {error}"))
            })?;
        }
        let algorithms = default_provider().signature_verification_algorithms;
        let servers = TrustedServers::new(roots, names, algorithms);
        Ok(Arc::new(self.load(Arc::new(servers))?))
    }

    /// Loads both and checks that they belong together. TLS 1.2 and 1.3, forward secrecy only.
    fn load(&self, clients: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, ConfigError> {
        let chain = self.certificates("certificate", &self.certificate)?;
        let pem = secret_file::read(&self.key, self.name, &format!("{}.key", self.table))?;
        let private = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
            self.wrong("key", &self.key, &format!("no private key in PEM: {error}"))
        })?;
        ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::new(format!("{}: {}: {error}", self.name, self.table)))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, private)
            .map_err(|error| {
                let found = format!("does not go with the certificate, or is unusable: {error}");
                self.wrong("key", &self.key, &found)
            })
    }

    /// At least one certificate.
    fn certificates(
        &self,
        field: &str,
        path: &Path,
    ) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let pem = fs::read(path)
            .map_err(|error| self.wrong(field, path, &format!("cannot be read: {error}")))?;
        let chain = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.wrong(field, path, &format!("broken PEM: {error}")))?;
        if chain.is_empty() {
            let found = "holds no certificate; a PEM chain is needed, the server's own first";
            return Err(self.wrong(field, path, found));
        }
        Ok(chain)
    }

    fn wrong(&self, field: &str, path: &Path, found: &str) -> ConfigError {
        let (name, table) = (self.name, self.table);
        ConfigError::new(format!("{name}: {table}.{field} = \"{}\": {found}", path.display()))
    }
}
