//! Log lines about allocations.
//!
//! Clients can provoke them, so their number is bounded; what was left out is said with the next
//! line that gets through. Addresses of people appear at `debug` only.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::addr::{AllocationId, ClientAddr};
use proto::now::Now;
use proto::turn::{Change, surroundings};
use tracing::field::{DisplayValue, display};
use tracing::{debug, info, warn};

use crate::shown::Shown;

/// Lines a second in the long run.
const RATE_PER_S: u64 = 20;

/// Lines at once after a silence.
const BURST: u64 = 100;

/// How often somebody who guesses passwords is named.
const SUSPECT_EVERY: Duration = Duration::from_secs(10);

/// Follows one worker's changes.
#[derive(Debug)]
pub(crate) struct Log {
    worker: u16,
    /// What is told of addresses.
    shown: Shown,
    lines: Allowance,
    /// When somebody was suspected last.
    suspected: Option<Instant>,
}

/// A budget of lines that grows with time.
#[derive(Debug)]
struct Allowance {
    left: u64,
    refilled: Option<Instant>,
    suppressed: u64,
}

impl Log {
    /// The log of a worker.
    pub(crate) fn new(worker: u16, shown: Shown) -> Self {
        Self {
            worker,
            shown,
            lines: Allowance { left: BURST, refilled: None, suppressed: 0 },
            suspected: None,
        }
    }

    /// Whose it is.
    pub(crate) fn worker(&self) -> u16 {
        self.worker
    }

    /// An address as it is told.
    fn shown(&self, address: SocketAddr) -> Option<DisplayValue<String>> {
        self.shown.of(address).map(display)
    }

    /// Notes a change.
    pub(crate) fn change(&mut self, now: Now, change: &Change) {
        let worker = self.worker;
        match change {
            Change::AllocationOpened { id, client, user, relayed, trace, .. } => {
                let allocation = name(*id);
                if let Some(suppressed) = self.lines.take(now) {
                    let user = format_args!("{:016x}", user.0);
                    let traceparent = trace.map(display);
                    info!(worker, allocation, %user, traceparent, suppressed, "allocation opened");
                }
                let (listener, client) = (client.listener.0, self.shown(client.client.socket()));
                let relayed = relayed.iter().flatten().filter_map(|it| self.shown.of(it.socket()));
                let relayed = relayed.collect::<Vec<_>>().join(" ");
                debug!(worker, allocation, listener, client, relayed, "allocation opened");
            }
            Change::AllocationClosed { id, reason, lived, usage, .. } => {
                if let Some(suppressed) = self.lines.take(now) {
                    info!(
                        worker,
                        allocation = name(*id),
                        reason = reason.name(),
                        lived_s = lived.as_secs(),
                        to_peer_bytes = usage.to_peer.bytes,
                        to_client_bytes = usage.to_client.bytes,
                        suppressed,
                        "allocation closed"
                    );
                }
            }
            Change::ClientMoved { id, client } => {
                let (listener, client) = (client.listener.0, self.shown(client.client.socket()));
                debug!(worker, allocation = name(*id), listener, client, "client moved");
            }
            Change::PermissionSet { id, peer } => {
                let peer = self.shown.of_host(peer.ip()).map(display);
                debug!(worker, allocation = name(*id), peer, "permission set");
            }
            Change::DestinationSet { id, peer } => {
                let peer = self.shown(peer.socket());
                debug!(worker, allocation = name(*id), peer, "active destination set");
            }
            // Part of another change, or of time passing.
            Change::RoutesChanged { .. } => {}
            Change::ChannelSet { id, number, peer } => {
                let peer = self.shown(peer.socket());
                debug!(worker, allocation = name(*id), ?number, peer, "channel bound");
            }
        }
    }
}

impl Log {
    /// Notes that a source gave too many wrong passwords.
    pub(crate) fn guesses(&mut self, now: Now, client: ClientAddr) {
        let worker = self.worker;
        if self.suspected.is_none_or(|at| now.mono.saturating_duration_since(at) >= SUSPECT_EVERY)
            && let Some(suppressed) = self.lines.take(now)
        {
            self.suspected = Some(now.mono);
            let network = (self.shown != Shown::Nothing).then(|| surroundings(client.ip()));
            let network = network.map(display);
            warn!(worker, network, suppressed, "many wrong passwords come from this network");
            debug!(worker, client = self.shown(client.socket()), "many wrong passwords");
        }
    }
}

impl Allowance {
    /// Takes one line; says how many were left out before it.
    fn take(&mut self, now: Now) -> Option<u64> {
        let refilled = *self.refilled.get_or_insert(now.mono);
        let earned = now.mono.saturating_duration_since(refilled).as_secs() * RATE_PER_S;
        if earned > 0 {
            self.left = (self.left + earned).min(BURST);
            self.refilled = Some(now.mono);
        }
        if self.left == 0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// An allocation's name in logs and labels, unique in its worker.
pub(crate) fn name(id: AllocationId) -> String {
    format!("{}-{}", id.slot, id.generation)
}

#[cfg(test)]
mod tests {
    use proto::addr::{FiveTuple, ListenerId, PeerAddr, RelayedAddr};
    use proto::policy::UserKey;
    use proto::turn::action::CloseReason;
    use proto::turn::tally::Usage;
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn lines_are_bounded_and_their_absence_is_told() {
        let start = crate::clock::Clock::new().last();
        let mut lines = Allowance { left: BURST, refilled: None, suppressed: 0 };
        let passed = (0..BURST + 50).filter(|_| lines.take(start).is_some()).count() as u64;
        assert_eq!(passed, BURST);
        let later = start.advanced(Duration::from_secs(1));
        assert_eq!(lines.take(later), Some(50));
        assert_eq!(lines.take(later), Some(0));
        assert_eq!(
            (0..BURST).filter(|_| lines.take(later).is_some()).count() as u64,
            RATE_PER_S - 2
        );
    }

    /// What the log says at its most talkative.
    fn said(level: tracing::Level, shown: Shown, work: impl FnOnce(&mut Log)) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || Sink(Arc::clone(&sink)))
            .finish();
        tracing::subscriber::with_default(subscriber, || work(&mut Log::new(3, shown)));
        String::from_utf8(written.lock().unwrap().clone()).unwrap()
    }

    /// Memory to write lines into.
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn auth_033_who_guesses_is_named_by_network_and_not_at_every_packet() {
        let now = crate::clock::Clock::new().last();
        let guesser = ClientAddr::new("192.0.2.77:4000".parse().unwrap());
        let said = said(tracing::Level::INFO, Shown::Full, |log| {
            for ms in 0..15_000 {
                log.guesses(now.advanced(Duration::from_millis(ms)), guesser);
            }
        });
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(said.contains("WARN") && said.contains("wrong passwords"), "{said}");
        assert!(said.contains("192.0.2.0") && !said.contains("192.0.2.77"), "{said}");
    }

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn sec_013_the_life_of_an_allocation_can_be_followed() {
        let id = AllocationId { slot: 7, generation: 2 };
        let client = "192.0.2.1:40000".parse().map(ClientAddr::new).unwrap();
        let peer = "198.51.100.9:6000".parse().map(PeerAddr::new).unwrap();
        let relayed = "203.0.113.5:50000".parse().map(RelayedAddr::new).unwrap();
        let changes = [
            Change::AllocationOpened {
                id,
                client: FiveTuple { listener: ListenerId(1), client },
                user: UserKey(0xABCD),
                relayed: [Some(relayed), None],
                waited: None,
                trace: TRACE.parse().ok(),
            },
            Change::PermissionSet { id, peer },
            Change::AllocationClosed {
                id,
                reason: CloseReason::Expired,
                lived: Duration::from_secs(61),
                usage: Usage::default(),
                media: None,
            },
        ];
        let now = crate::clock::Clock::new().last();
        let follow = |shown| {
            said(tracing::Level::DEBUG, shown, |log| {
                for change in &changes {
                    log.change(now, change);
                }
            })
        };
        for (shown, network) in [(Shown::Network, true), (Shown::Nothing, false)] {
            let said = follow(shown);
            assert_eq!(said.contains("192.0.2.0/24"), network, "{said}");
            for address in ["192.0.2.1", "198.51.100.9", "203.0.113.5"] {
                assert!(!said.contains(address), "{address} in {said}");
            }
        }
        let said = follow(Shown::Full);
        for words in [
            "allocation opened",
            TRACE,
            "7-2",
            "000000000000abcd",
            "192.0.2.1:40000",
            "203.0.113.5:50000",
            "permission set",
            "198.51.100.9",
            "allocation closed",
            "expired",
            "lived_s=61",
        ] {
            assert!(said.contains(words), "{words} in {said}");
        }
    }
}
