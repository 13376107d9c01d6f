//! TLS as a client: whom to trust, what to ask for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// Which certificates a server may show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those that this host's authorities vouch for.
    #[default]
    System,
    /// Those that the authorities in a PEM file vouch for.
    Authorities(PathBuf),
    /// Any: encrypted, but with whom is not known.
    Anything,
}

impl Trust {
    /// Judges what a server shows.
    pub(super) fn verifier(&self) -> io::Result<Arc<dyn ServerCertVerifier>> {
        let provider = Arc::new(ring::default_provider());
        let roots = match self {
            Self::System => system_roots()?,
            Self::Authorities(file) => roots_in(file)?,
            Self::Anything => return Ok(Arc::new(AnyCertificate(provider))),
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(verifier.build().map_err(io::Error::other)?)
    }
}

/// The client's side of TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// TLS 1.2 or 1.3 with a server of this name, or address. ALPN offers `alpn`, most wanted
    /// first; nothing if it is empty (RFC 7443).
    pub fn new(host: &str, trust: &Trust, alpn: &[&str]) -> io::Result<Self> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(trust.verifier()?)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), name: name(host)? }.with_alpn(alpn))
    }

    /// The same, offering other protocols.
    #[must_use]
    pub fn with_alpn(&self, alpn: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = alpn.iter().map(|label| label.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config), name: self.name.clone() }
    }

    /// A connection that has not begun.
    pub(super) fn connection(&self) -> io::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)
    }
}

/// The name, or address, that a certificate must be for.
pub(super) fn name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}")))
}

fn system_roots() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("this host knows no certificate authorities{why}; name a file of them"),
        ));
    }
    Ok(roots)
}

fn roots_in(file: &Path) -> io::Result<RootCertStore> {
    let wrong = |why: String| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {why}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in PEM in it".to_owned()));
    }
    Ok(roots)
}

/// Takes any certificate; that its key signed the handshake is still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
