//! Certificate and private key of the HTTPS listener.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{ConfigError, secret_file};

/// Loads both and checks that they belong together. TLS 1.2 and 1.3, forward secrecy only.
pub(super) fn load(
    certificate: &Path,
    key: &Path,
    name: &str,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let wrong = |field: &str, path: &Path, found: &str| {
        ConfigError::new(format!("{name}: tls.{field} = \"{}\": {found}", path.display()))
    };
    let pem = fs::read(certificate)
        .map_err(|error| wrong("certificate", certificate, &format!("cannot be read: {error}")))?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong("certificate", certificate, &format!("broken PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(
            "certificate",
            certificate,
            "holds no certificate; a PEM chain is needed, the server's own first",
        ));
    }
    let pem = secret_file::read(key, name, "tls.key")?;
    let private = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| wrong("key", key, &format!("no private key in PEM: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new(format!("{name}: tls: {error}")))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| {
            wrong("key", key, &format!("does not go with the certificate, or is unusable: {error}"))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
