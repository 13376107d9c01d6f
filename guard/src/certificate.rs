//! Certificates and keys in files, and what is wrong with them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

/// A certificate's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The chain in PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// Which of the files is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The key it is configured with, such as "certificate".
    pub file: &'static str,
    /// Its path.
    pub path: String,
    /// What was found, and what would be right.
    pub why: String,
}

impl Files {
    /// Reads both and checks that they belong together.
    pub fn load(&self) -> Result<CertifiedKey, Unusable> {
        let chain = certificates("certificate", &self.certificate)?;
        let at_fault = |why: &str| unusable("key", &self.key, why);
        let unreadable = |error: io::Error| at_fault(&format!("cannot be read: {error}."));
        let mode = fs::metadata(&self.key).map_err(unreadable)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(at_fault("others may read this file. Take that away: chmod o= FILE."));
        }
        let pem = Zeroizing::new(fs::read(&self.key).map_err(unreadable)?);
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|error| at_fault(&format!("no private key in PEM: {error}.")))?;
        CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| {
            at_fault(&format!("does not go with the certificate, or is unusable: {error}."))
        })
    }
}

/// When a certificate ends, in seconds of Unix time; `None` if that cannot be read.
pub fn not_after(certificate: &CertifiedKey) -> Option<u64> {
    let (_, read) = X509Certificate::from_der(certificate.end_entity_cert().ok()?).ok()?;
    u64::try_from(read.validity().not_after.timestamp()).ok()
}

/// The authorities in a file, for the certificates of clients.
pub fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca", path)? {
        roots.add(certificate).map_err(|error| {
            unusable("client_ca", path, &format!("an unusable certificate: {error}."))
        })?;
    }
    Ok(roots)
}

/// At least one certificate.
fn certificates(file: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let at_fault = |why: &str| unusable(file, path, why);
    let pem = fs::read(path).map_err(|error| at_fault(&format!("cannot be read: {error}.")))?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| at_fault(&format!("broken PEM: {error}.")))?;
    if chain.is_empty() {
        let why = "holds no certificate. A chain in PEM is right, the server's own first.";
        return Err(at_fault(why));
    }
    Ok(chain)
}

fn unusable(file: &'static str, path: &Path, why: &str) -> Unusable {
    Unusable { file, path: path.display().to_string(), why: why.to_owned() }
}
