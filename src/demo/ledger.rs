//! What was sent and what arrived, packet by packet, by hash.
//!
//! Each end writes down the SHA-256 of every SRTP packet. Comparing the two lists proves that
//! the relay delivered each packet bit by bit, once, and nothing else.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// SHA-256 of a packet.
type Hash = [u8; 32];

/// The packets that passed one point, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    hashes: Vec<Hash>,
    bytes: u64,
}

/// How two ends of one direction compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Packets sent.
    pub(crate) sent: usize,
    /// Bytes sent.
    pub(crate) bytes: u64,
    /// Packets that arrived as they were sent.
    pub(crate) intact: usize,
    /// Packets that did not arrive.
    pub(crate) lost: usize,
    /// Arrivals that nobody sent: altered on the way.
    pub(crate) altered: usize,
    /// Arrivals of a packet that had arrived before.
    pub(crate) repeated: usize,
    /// SHA-256 over all packets' hashes in the order sent.
    pub(crate) sent_digest: Hash,
    /// The same in the order of arrival.
    pub(crate) arrived_digest: Hash,
}

impl Ledger {
    /// Writes a packet down.
    pub(crate) fn add(&mut self, packet: &[u8]) {
        self.hashes.push(Sha256::digest(packet).into());
        self.bytes += packet.len() as u64;
    }

    /// Packets so far.
    pub(crate) fn packets(&self) -> usize {
        self.hashes.len()
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Compares what was sent with what arrived.
    pub(crate) fn compare(&self, arrived: &Self) -> Comparison {
        let mut awaited: HashMap<&Hash, bool> = HashMap::new();
        awaited.extend(self.hashes.iter().map(|hash| (hash, false)));
        let (mut intact, mut altered, mut repeated) = (0, 0, 0);
        for hash in &arrived.hashes {
            match awaited.get_mut(hash) {
                None => altered += 1,
                Some(true) => repeated += 1,
                Some(seen) => {
                    *seen = true;
                    intact += 1;
                }
            }
        }
        Comparison {
            sent: self.packets(),
            bytes: self.bytes,
            intact,
            lost: self.packets() - intact,
            altered,
            repeated,
            sent_digest: self.digest(),
            arrived_digest: arrived.digest(),
        }
    }

    fn digest(&self) -> Hash {
        let mut all = Sha256::new();
        self.hashes.iter().for_each(|hash| all.update(hash));
        all.finalize().into()
    }
}

impl Comparison {
    /// Whether every packet arrived as it was sent, once, and nothing else did.
    pub(crate) fn is_perfect(&self) -> bool {
        self.sent > 0 && self.lost == 0 && self.altered == 0 && self.repeated == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(packets: &[&[u8]]) -> Ledger {
        let mut ledger = Ledger::default();
        for packet in packets {
            ledger.add(packet);
        }
        ledger
    }

    #[test]
    fn every_way_to_differ_is_told_apart() {
        let sent = ledger(&[b"one", b"two", b"three"]);
        for (case, arrived, [intact, lost, altered, repeated]) in [
            ("the same", &[&b"one"[..], b"two", b"three"][..], [3, 0, 0, 0]),
            ("another order", &[b"two", b"one", b"three"], [3, 0, 0, 0]),
            ("one lost", &[b"one", b"three"], [2, 1, 0, 0]),
            ("one altered", &[b"one", b"twa", b"three"], [2, 1, 1, 0]),
            ("one twice", &[b"one", b"two", b"two", b"three"], [3, 0, 0, 1]),
            ("nothing", &[], [0, 3, 0, 0]),
        ] {
            let found = sent.compare(&ledger(arrived));
            let counts = [found.intact, found.lost, found.altered, found.repeated];
            assert_eq!(counts, [intact, lost, altered, repeated], "{case}");
            assert_eq!(found.is_perfect(), [lost, altered, repeated] == [0; 3], "{case}");
            assert_eq!((found.sent, found.bytes), (3, 11), "{case}");
            let same = arrived == [&b"one"[..], b"two", b"three"];
            assert_eq!(found.sent_digest == found.arrived_digest, same, "{case}");
        }
    }

    #[test]
    fn a_call_without_packets_proves_nothing() {
        assert!(!Ledger::default().compare(&Ledger::default()).is_perfect());
    }
}
