//! DTLS as a client, 1.3 or 1.2 (RFC 7350): the library `dimpl` over a UDP socket.
//!
//! The library wants to be told the time and asked for what it has to send; here it is pumped
//! while somebody waits for a message. It shows of the server's certificates the first alone, so
//! that one must be signed by a trusted authority itself.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, DtlsCertificate, Output};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::tls::Trust;
use super::{closed, is_timeout};
use crate::clock;

/// Room for any datagram.
const DATAGRAM: usize = 1 << 16;

/// In place of a certificate of the client: the library wants one, though no TURN server does.
const NONE: [u8; 1] = [0];

/// The client's side of DTLS.
#[derive(Clone, Debug)]
pub struct Dtls {
    config: Arc<Config>,
    verifier: Arc<dyn ServerCertVerifier>,
    name: ServerName<'static>,
    /// Goes with it.
    key: Vec<u8>,
}

impl Dtls {
    /// DTLS with a server of this name, or address.
    pub fn new(host: &str, trust: &Trust) -> io::Result<Self> {
        let config = Config::builder()
            .with_crypto_provider(dtls_crypto::provider())
            .build()
            .map_err(io::Error::other)?;
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| io::Error::other("no key could be made"))?;
        Ok(Self {
            config: Arc::new(config),
            verifier: trust.verifier()?,
            name: super::tls::name(host)?,
            key: key.as_ref().to_vec(),
        })
    }

    /// Whether the server may show this certificate.
    fn vouch(&self, certificate: &[u8]) -> io::Result<()> {
        let certificate = CertificateDer::from(certificate);
        let verdict = self.verifier.verify_server_cert(
            &certificate,
            &[],
            &self.name,
            &[],
            UnixTime::since_unix_epoch(Duration::from_secs(clock::unix_s())),
        );
        verdict.map(drop).map_err(|error| {
            let why = format!(
                "DTLS handshake: {error}; the certificate must be signed by a trusted authority \
                 itself, as those between are not seen"
            );
            io::Error::new(io::ErrorKind::InvalidData, why)
        })
    }
}

/// A session with a server.
#[derive(Debug)]
pub(super) struct Session {
    socket: UdpSocket,
    endpoint: dimpl::Dtls,
    /// When the library wants to be asked next.
    timer: Instant,
    /// What came and was not asked for yet.
    waiting: VecDeque<Vec<u8>>,
    closed: bool,
    room: Box<[u8]>,
    datagram: Box<[u8]>,
}

impl Session {
    /// Shakes hands with the server that the socket is connected to.
    pub(super) fn open(dtls: &Dtls, socket: UdpSocket, timeout: Duration) -> io::Result<Self> {
        let now = clock::now();
        let certificate =
            DtlsCertificate { certificate: NONE.to_vec(), private_key: dtls.key.clone() };
        let endpoint = guarded(|| {
            let mut endpoint = dimpl::Dtls::new_auto(Arc::clone(&dtls.config), certificate, now);
            endpoint.set_active(true);
            Ok(endpoint)
        })?;
        let mut session = Self {
            socket,
            endpoint,
            timer: now,
            waiting: VecDeque::new(),
            closed: false,
            room: vec![0; DATAGRAM].into(),
            datagram: vec![0; DATAGRAM].into(),
        };
        guarded(|| session.endpoint.handle_timeout(now))?;
        let mut vouched = false;
        while !session.pump(|certificate| dtls.vouch(certificate).map(|()| vouched = true))? {
            if session.closed {
                return Err(closed());
            }
            if clock::now() >= now + timeout {
                let why = "DTLS handshake: no answer in time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            session.wait(now + timeout).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => handshake(&error),
                _ => error,
            })?;
        }
        if !vouched {
            return Err(handshake(&"the server showed no certificate"));
        }
        Ok(session)
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sends a message; of one without a byte, nothing is sent.
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        guarded(|| self.endpoint.send_application_data(message))?;
        self.pump(|_| Ok(())).map(drop)
    }

    /// The next message, in the front of `buffer`; `None` when `until` has passed.
    pub(super) fn receive(
        &mut self,
        until: Instant,
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                let len = message.len().min(buffer.len());
                for (to, from) in buffer.iter_mut().zip(message) {
                    *to = from;
                }
                return Ok(Some(len));
            }
            if self.closed {
                return Err(closed());
            }
            if !self.wait(until)? && clock::now() >= until {
                return Ok(None);
            }
            self.pump(|_| Ok(()))?;
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self) -> io::Result<()> {
        guarded(|| self.endpoint.close())?;
        self.pump(|_| Ok(())).map(drop)
    }

    /// Waits for a datagram, or until the library or the caller has waited enough; whether one
    /// came.
    fn wait(&mut self, until: Instant) -> io::Result<bool> {
        let wait = until.min(self.timer).saturating_duration_since(clock::now());
        // A zero timeout would mean "for ever" to the socket.
        self.socket.set_read_timeout(Some(wait.max(Duration::from_micros(1))))?;
        let came = match self.socket.recv(&mut self.datagram) {
            Ok(len) => Some(len),
            Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) => return Err(error),
        };
        guarded(|| {
            self.endpoint.handle_timeout(clock::now())?;
            match came {
                Some(len) => {
                    let datagram = self.datagram.get(..len).unwrap_or_default();
                    self.endpoint.handle_packet(datagram)
                }
                None => Ok(()),
            }
        })?;
        Ok(came.is_some())
    }

    /// Sends and keeps what the library has ready; whether the handshake ended with it.
    fn pump(&mut self, mut judge: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        let mut connected = false;
        loop {
            match guarded(|| Ok(self.endpoint.poll_output(&mut self.room)))? {
                Output::Packet(packet) => drop(self.socket.send(packet)?),
                Output::PeerCert(certificate) => judge(certificate)?,
                Output::Connected => connected = true,
                Output::ApplicationData(message) => self.waiting.push_back(message.to_vec()),
                Output::CloseNotify => self.closed = true,
                Output::Timeout(at) => {
                    self.timer = at;
                    return Ok(connected);
                }
                // The room holds any datagram; keys for media were not asked for.
                _ => {}
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server would keep the session for a while otherwise; that is all.
        self.close().ok();
    }
}

fn handshake(error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("DTLS handshake: {error}"))
}

/// Calls the library. A panic is a defect of it, and ends this session alone.
fn guarded<T>(work: impl FnOnce() -> Result<T, dimpl::Error>) -> io::Result<T> {
    let garbled = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("DTLS: {why}"));
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| garbled(error.to_string())),
        Err(_) => Err(garbled("the library failed".to_owned())),
    }
}
