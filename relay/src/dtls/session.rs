//! One client that speaks DTLS.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Error, Output};
use dtls_crypto::{GROUPS, provider, with_cookie, with_key};
use proto::framing::dtls::{COOKIE_LEN, Hello};

use super::tally::Parting;
use crate::certificates::Certificates;

/// How long a session may be without an allocation, from the end of its handshake or after the
/// last. Whatever arrives meanwhile does not prolong it.
const STRANGER: Duration = Duration::from_secs(30);

/// How long a handshake may take, its cookie not counted.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Datagrams of one client that wait inside the library, at most; a flight has a few.
const QUEUE: usize = 16;

/// What endpoints are made with.
pub(super) struct Library {
    config: Arc<Config>,
    certificates: Arc<Certificates>,
}

/// Versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V12,
    V13,
}

impl Version {
    /// The version in which a hello is answered: the newer, if that needs no memory.
    pub(super) fn of(hello: &Hello<'_>) -> Option<Self> {
        if hello.offers_1_3(&GROUPS) && !hello.has_cookie_of_1_2() {
            Some(Self::V13)
        } else {
            hello.offers_1_2().then_some(Self::V12)
        }
    }
}

impl Library {
    /// Tries the primitives on known answers.
    pub(super) fn new(certificates: Arc<Certificates>) -> Result<Self, Error> {
        let config = Config::builder()
            .with_crypto_provider(provider())
            .require_client_certificate(false)
            .use_server_cookie(true)
            .handshake_timeout(HANDSHAKE)
            .max_queue_rx(QUEUE)
            .max_queue_tx(QUEUE)
            .build()?;
        Ok(Self { config: Arc::new(config), certificates })
    }

    /// A new endpoint; `None` while there is no certificate for it.
    ///
    /// The library sends the certificate itself and none of those that vouch for it.
    fn endpoint(&self, version: Version, now: Instant) -> Option<Dtls> {
        let key = self.certificates.for_dtls()?;
        let certificate = key.end_entity_cert().ok()?.to_vec();
        with_key(key, |private_key| {
            let config = Arc::clone(&self.config);
            let certificate = DtlsCertificate { certificate, private_key };
            Some(match version {
                Version::V12 => Dtls::new_12(config, certificate, now),
                Version::V13 => Dtls::new_13(config, certificate, now),
            })
        })
    }

    /// What a hello without a cookie is answered with in DTLS 1.3; nothing is kept.
    pub(super) fn retry_request<'b>(
        &self,
        now: Instant,
        hello: &[u8],
        cookie: [u8; COOKIE_LEN],
        room: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        let work = || {
            let mut endpoint = self.endpoint(Version::V13, now)?;
            let outcome = with_cookie(cookie, || {
                endpoint.handle_timeout(now)?;
                endpoint.handle_packet(hello)
            });
            outcome.ok()?;
            match endpoint.poll_output(room) {
                Output::Packet(packet) => Some(packet.len()),
                _ => None,
            }
        };
        let length = guarded(work)??;
        room.get(..length)
    }

    /// An endpoint for a hello whose cookie was judged good. The library, which has not seen what
    /// came before, is shown that first; what it answers was sent already.
    pub(super) fn resume(
        &self,
        version: Version,
        now: Instant,
        (first, second): (&[u8], &[u8]),
        cookie: [u8; COOKIE_LEN],
    ) -> Option<Dtls> {
        let work = || {
            let mut endpoint = self.endpoint(version, now)?;
            let outcome = with_cookie(cookie, || {
                endpoint.handle_timeout(now)?;
                endpoint.handle_packet(first)?;
                let mut sent = [0; 1_500];
                while let Output::Packet(_) = endpoint.poll_output(&mut sent) {}
                endpoint.handle_packet(second)
            });
            outcome.ok().map(|()| endpoint)
        };
        guarded(work)?
    }
}

/// A client that has shown that it hears us.
pub(super) struct Session {
    endpoint: Dtls,
    /// What its hellos carry, by which a hello sent twice is told from a new one.
    random: [u8; 32],
    /// Whether the handshake is over.
    pub(super) finished: bool,
    /// Whether it counts as a stranger.
    pub(super) stranger: bool,
    /// Whether it had an allocation when it was looked at last.
    served: bool,
    /// When the handshake began.
    begun: Instant,
    /// When it is looked at next, to see whether it has an allocation.
    patience: Instant,
    /// When the library wants to be asked.
    pub(super) timer: Instant,
    /// What is in the heap of deadlines for it.
    pub(super) armed: Option<Instant>,
}

impl Session {
    /// A session at its beginning.
    pub(super) fn begin(endpoint: Dtls, random: [u8; 32], now: Instant) -> Self {
        Self {
            endpoint,
            random,
            finished: false,
            stranger: true,
            served: false,
            begun: now,
            patience: now + HANDSHAKE,
            timer: now + HANDSHAKE,
            armed: None,
        }
    }

    /// Whether it began with this hello.
    pub(super) fn began_with(&self, hello: &Hello<'_>) -> bool {
        self.random == *hello.random()
    }

    /// Takes in a datagram.
    pub(super) fn take(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Parting> {
        let endpoint = &mut self.endpoint;
        let outcome = guarded(|| {
            endpoint.handle_timeout(now)?;
            endpoint.handle_packet(datagram)
        });
        self.parting(outcome.as_ref())
    }

    /// Lets the library do what its timer was for.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), Parting> {
        let endpoint = &mut self.endpoint;
        let outcome = guarded(|| endpoint.handle_timeout(now));
        self.parting(outcome.as_ref())
    }

    fn parting(&self, outcome: Option<&Result<(), Error>>) -> Result<(), Parting> {
        match outcome {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) if self.finished => Err(Parting::Failed),
            Some(Err(_)) => Err(Parting::Handshake),
            None => Err(Parting::Defect),
        }
    }

    /// Seals a message; false if that is not possible now.
    pub(super) fn seal(&mut self, message: &[u8]) -> bool {
        let endpoint = &mut self.endpoint;
        self.finished
            && matches!(guarded(|| endpoint.send_application_data(message)), Some(Ok(1..)))
    }

    /// Says goodbye.
    pub(super) fn close(&mut self) {
        // Nothing can be said to a client whose session failed.
        let _ = guarded(|| self.endpoint.close());
    }

    /// What comes out next; `None` after a defect.
    pub(super) fn poll<'b>(&mut self, room: &'b mut [u8]) -> Option<Output<'b>> {
        guarded(|| self.endpoint.poll_output(room))
    }

    /// The handshake is over; how long it took.
    pub(super) fn finish(&mut self, now: Instant) -> Duration {
        self.finished = true;
        self.patience = now + STRANGER;
        now.saturating_duration_since(self.begun)
    }

    /// When somebody has to look at it next.
    pub(super) fn deadline(&self) -> Instant {
        self.timer.min(self.patience)
    }

    /// Whether its time is over; `served` says whether it has an allocation. One whose allocation
    /// ended is granted the time of a stranger once more.
    pub(super) fn is_overdue(&mut self, now: Instant, served: bool) -> bool {
        if now < self.patience {
            return false;
        }
        if !served && !self.served {
            return true;
        }
        self.served = served;
        self.patience = now + STRANGER;
        false
    }
}

/// Calls the library. A panic is a defect of it, and costs this one client.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    if outcome.is_err() {
        tracing::error!("a client lost its DTLS session to a defect");
    }
    outcome.ok()
}
