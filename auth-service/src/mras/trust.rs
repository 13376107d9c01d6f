//! Which servers may ask: those with a certificate of our authority for a configured name.
//!
//! Checked inside the TLS handshake, so that a stranger sees an alert and never a byte of SIP
//! (MRAS-2). Servers of the product hold certificates for server authentication alone, and use
//! them as clients too; either purpose is taken. A wildcard is nobody's name.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

/// The servers a service answers.
#[derive(Debug)]
pub(crate) struct TrustedServers {
    roots: RootCertStore,
    subjects: Vec<DistinguishedName>,
    /// In lower case.
    names: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl TrustedServers {
    /// Of these names, with certificates of these authorities.
    pub(crate) fn new(
        roots: RootCertStore,
        names: &[String],
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { subjects: roots.subjects(), roots, names, algorithms }
    }
}

/// The configured name that a certificate is for (a dNSName among its alternative names).
pub(crate) fn name_among(certificate: &CertificateDer<'_>, names: &[String]) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut own = certificate.valid_dns_names();
    own.find_map(|own| names.iter().find(|name| name.eq_ignore_ascii_case(own)).cloned())
}

impl ClientCertVerifier for TrustedServers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(invalid)?;
        let verify = |usage| {
            let (algorithms, roots) = (self.algorithms.all, &self.roots.roots);
            certificate
                .verify_for_usage(algorithms, roots, intermediates, now, usage, None, None)
                .map(|_| ())
        };
        verify(KeyUsage::client_auth())
            .or_else(|_| verify(KeyUsage::server_auth()))
            .map_err(invalid)?;
        name_among(end_entity, &self.names)
            .map(|_| ClientCertVerified::assertion())
            .ok_or(Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The alert that fits best.
fn invalid(error: webpki::Error) -> Error {
    Error::InvalidCertificate(match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::BadDer => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}
