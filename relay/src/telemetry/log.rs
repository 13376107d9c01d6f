//! Log lines about allocations.
//!
//! Clients can provoke them, so their number is bounded; what was left out is said with the next
//! line that gets through. Addresses of people appear at `debug` only.

use std::time::{Duration, Instant};

use proto::addr::{AllocationId, ClientAddr};
use proto::now::Now;
use proto::turn::{Change, surroundings};
use tracing::{debug, info, warn};

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
    pub(crate) fn new(worker: u16) -> Self {
        Self {
            worker,
            lines: Allowance { left: BURST, refilled: None, suppressed: 0 },
            suspected: None,
        }
    }

    /// Notes a change.
    pub(crate) fn change(&mut self, now: Now, change: &Change) {
        let worker = self.worker;
        match change {
            Change::AllocationOpened { id, client, user, relayed } => {
                let allocation = name(*id);
                if let Some(suppressed) = self.lines.take(now) {
                    let user = format_args!("{:016x}", user.0);
                    info!(worker, allocation, %user, suppressed, "allocation opened");
                }
                debug!(worker, allocation, ?client, ?relayed, "allocation opened");
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
                debug!(worker, allocation = name(*id), ?client, "client moved");
            }
            Change::PermissionSet { id, peer } => {
                debug!(worker, allocation = name(*id), peer = %peer.ip(), "permission set");
            }
            Change::DestinationSet { id, peer } => {
                debug!(worker, allocation = name(*id), %peer, "active destination set");
            }
            // Part of another change, or of time passing.
            Change::RoutesChanged { .. } => {}
            Change::ChannelSet { id, number, peer } => {
                debug!(worker, allocation = name(*id), ?number, %peer, "channel bound");
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
            let network = surroundings(client.ip());
            warn!(worker, %network, suppressed, "many wrong passwords come from this network");
            debug!(worker, ?client, "many wrong passwords");
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
    fn said(level: tracing::Level, work: impl FnOnce(&mut Log)) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || Sink(Arc::clone(&sink)))
            .finish();
        tracing::subscriber::with_default(subscriber, || work(&mut Log::new(3)));
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
        let said = said(tracing::Level::INFO, |log| {
            for ms in 0..15_000 {
                log.guesses(now.advanced(Duration::from_millis(ms)), guesser);
            }
        });
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(said.contains("WARN") && said.contains("wrong passwords"), "{said}");
        assert!(said.contains("192.0.2.0") && !said.contains("192.0.2.77"), "{said}");
    }

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
        let said = said(tracing::Level::DEBUG, |log| {
            for change in &changes {
                log.change(now, change);
            }
        });
        for words in [
            "allocation opened",
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
