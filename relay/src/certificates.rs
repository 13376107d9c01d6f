//! The certificates of TLS listeners: read from files, chosen by name, read again when changed.
//!
//! Workers ask for one at each handshake; the office looks at the files now and then. What
//! replaces a certificate is complete and fits its key, or nothing is replaced.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, PoisonError, RwLock};

use guard::certificate::{Files, Unusable, not_after};
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

use crate::dtls;

/// Application protocols of RFC 7443.
pub(crate) const PROTOCOLS: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];

/// Certificates in use, the default first.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: RwLock<Vec<Files>>,
    first: Traces,
    current: RwLock<Vec<Arc<CertifiedKey>>>,
}

/// What tells that files have changed, their modes and owners too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traces(Vec<Option<Trace>>);

/// Device, inode, mode and size; the times of the contents and of all else, with nanoseconds.
type Trace = ([u64; 2], u32, u64, [i64; 4]);

impl Certificates {
    /// Reads all of them; what is wrong is told with its position in the list.
    pub(crate) fn load(files: Vec<Files>) -> Result<Self, (usize, Unusable)> {
        let first = traces(&files);
        let current = RwLock::new(read_all(&files)?);
        Ok(Self { files: RwLock::new(files), first, current })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.files().len()
    }

    /// What the files looked like before they were read first.
    pub(crate) fn first_traces(&self) -> Traces {
        self.first.clone()
    }

    /// What the files look like now.
    pub(crate) fn traces(&self) -> Traces {
        traces(&self.files())
    }

    /// Reads all of them again, and says whether there are others now; on failure those in use
    /// stay.
    pub(crate) fn reload(&self) -> Result<bool, (usize, Unusable)> {
        let fresh = read_all(&self.files())?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let others = !fresh.iter().map(|it| &it.cert).eq(current.iter().map(|it| &it.cert));
        *current = fresh;
        Ok(others)
    }

    /// Puts the certificates of another configuration in the place of these.
    pub(crate) fn adopt(&self, other: &Self) {
        let fresh = other.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = other.files();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// When each ends that is in use: its file, and seconds of Unix time.
    pub(crate) fn ends(&self) -> Vec<(String, u64)> {
        let files = self.files();
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let ends = files.iter().zip(&*current).filter_map(|(files, certificate)| {
            Some((files.certificate.display().to_string(), not_after(certificate)?))
        });
        ends.collect()
    }

    fn files(&self) -> Vec<Files> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first certificate that DTLS can use.
    pub(crate) fn for_dtls(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.iter().find(|it| dtls::can_use(it)).cloned()
    }

    /// What a worker's TLS is told. TLS 1.2 and 1.3, suites with forward secrecy only; no
    /// sessions are kept, so nothing outlives a connection.
    pub(crate) fn server_config(self: Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    /// The first certificate that is good for the name; the default for any other, or none.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let good = name.and_then(|name| current.iter().find(|it| is_good_for(it, &name)));
        good.or(current.first()).cloned()
    }
}

fn traces(files: &[Files]) -> Traces {
    let paths = files.iter().flat_map(|files| [&files.certificate, &files.key]);
    let trace = |it: Metadata| {
        let times = [it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec()];
        ([it.dev(), it.ino()], it.mode(), it.size(), times)
    };
    Traces(paths.map(|path| fs::metadata(path).ok().map(trace)).collect())
}

fn is_good_for(certificate: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let own = certificate.end_entity_cert().and_then(ParsedCertificate::try_from);
    own.is_ok_and(|own| verify_server_name(&own, name).is_ok())
}

fn read_all(files: &[Files]) -> Result<Vec<Arc<CertifiedKey>>, (usize, Unusable)> {
    let read = |(index, files): (usize, &Files)| {
        files.load().map(Arc::new).map_err(|wrong| (index, wrong))
    };
    files.iter().enumerate().map(read).collect()
}
