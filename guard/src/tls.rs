//! TLS at the doors of operators, and the certificates that clients must show there.
//!
//! Who has none of the configured authority is refused inside the handshake: not a byte of HTTP
//! is read. TLS 1.2 and 1.3, forward secrecy only; no session is kept and no ticket given, so
//! every visit proves itself anew.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, version};
use serde::Deserialize;

use crate::certificate::{self, Files, Unusable};

/// The table `tls` of an operators' door in both services' configurations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsTable {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl TlsTable {
    /// The files it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca)
    }

    /// Reads them; relative paths start at a directory.
    pub fn load(&self, directory: &Path) -> Result<Tls, Unusable> {
        let at = |path: &PathBuf| directory.join(path);
        let files = Files { certificate: at(&self.certificate), key: at(&self.key) };
        let own = files.load()?;
        let clients: Arc<dyn ClientCertVerifier> = match &self.client_ca {
            None => Arc::new(NoClientAuth),
            Some(path) => clients_of(&at(path))?,
        };
        let mut config = server_config(own, clients).map_err(|error| Unusable {
            file: "certificate",
            path: files.certificate.display().to_string(),
            why: format!("TLS cannot use it: {error}."),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { config: Arc::new(config), knows_clients: self.client_ca.is_some() })
    }
}

/// TLS 1.2 and 1.3, forward secrecy only; no session is kept and no ticket given.
pub fn server_config(
    own: CertifiedKey,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Takes clients with a certificate of the authorities in a file, for client authentication.
fn clients_of(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let roots = Arc::new(certificate::authorities(path)?);
    WebPkiClientVerifier::builder_with_provider(roots, Arc::new(default_provider()))
        .build()
        .map_err(|error| Unusable {
            file: "client_ca",
            path: path.display().to_string(),
            why: format!("no authority to check clients by: {error}."),
        })
}

/// TLS that a door of operators speaks.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    knows_clients: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("knows_clients", &self.knows_clients).finish_non_exhaustive()
    }
}

impl Tls {
    /// What sessions are made with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether clients must show a certificate.
    pub fn knows_clients(&self) -> bool {
        self.knows_clients
    }
}
