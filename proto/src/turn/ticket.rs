//! Mobility tickets (RFC 8016 §5): what lets a client prove which allocation is its own.
//!
//! A ticket says where the allocation lies and how many tickets went before, sealed with
//! AES-256-GCM. Every ticket has a key of its own, derived from the secret and sixteen random
//! bytes that stand in front, so no number is ever used twice with a key. Any relay of a pool
//! opens it; the instance in it says whether this one has the allocation.

use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;

use crate::addr::AllocationId;
use crate::auth::Authority;
use crate::turn::random::Random;

/// Random bytes that make the key of a ticket.
const SALT: usize = 16;

/// Bytes of a [`Pass`].
const PASS: usize = 22;

/// Bytes of the authentication tag.
const TAG: usize = 16;

/// Length of a ticket.
pub(crate) const LENGTH: usize = SALT + PASS + TAG;

/// Separates tickets from anything else sealed with such a key, and their layouts from each other.
const LABEL: &[u8] = b"av-edge mobility ticket 1";

/// A sealed ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) [u8; LENGTH]);

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The life of the server that issued it: after a restart its allocations are no more.
    pub(crate) instance: u64,
    /// The worker that has the allocation.
    pub(crate) worker: u16,
    /// The allocation.
    pub(crate) allocation: AllocationId,
    /// How many tickets of the allocation went before.
    pub(crate) serial: u32,
}

/// Seals and opens tickets.
pub(crate) struct Tickets {
    /// The first key seals; all open.
    keys: Vec<Hmac<Sha256>>,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tickets({} keys)", self.keys.len())
    }
}

impl Tickets {
    /// Keys come from the pool; without a pool key, from `seed`.
    pub(crate) fn new(authority: &Authority, seed: &[u8; 32]) -> Self {
        let mut keys: Vec<_> = authority
            .ring
            .iter()
            .flat_map(|ring| std::iter::once(&ring.current).chain(&ring.previous))
            .map(|key| keyed(key.tickets.bytes()))
            .collect();
        if keys.is_empty() {
            let derived = keyed(seed).chain_update(b"av-edge tickets").finalize().into_bytes();
            keys.push(keyed(&derived));
        }
        Self { keys }
    }

    /// A ticket that only a holder of the secret can read or make.
    pub(crate) fn seal(&self, pass: &Pass, random: &mut Random) -> Ticket {
        let mut ticket = [0; LENGTH];
        let (salt, rest) = ticket.split_at_mut(SALT);
        let (body, tag) = rest.split_at_mut(PASS);
        random.fill(salt);
        body.copy_from_slice(&pass.to_bytes());
        let sealed = once(&self.keys[0], salt).seal_in_place_separate_tag(
            Nonce::assume_unique_for_key([0; 12]),
            Aad::from(LABEL),
            body,
        );
        tag.copy_from_slice(sealed.expect("a pass is far shorter than AES-GCM allows").as_ref());
        Ticket(ticket)
    }

    /// What a ticket says, if one of the keys sealed it.
    pub(crate) fn open(&self, ticket: &[u8]) -> Option<Pass> {
        let ticket: &[u8; LENGTH] = ticket.try_into().ok()?;
        let (salt, sealed) = ticket.split_first_chunk::<SALT>()?;
        self.keys.iter().find_map(|key| {
            let mut sealed: [u8; PASS + TAG] = sealed.try_into().ok()?;
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            let pass = once(key, salt).open_in_place(nonce, Aad::from(LABEL), &mut sealed).ok()?;
            Pass::from_bytes((&*pass).try_into().ok()?)
        })
    }
}

/// The number that stands for one life of a server in its tickets.
pub(crate) fn instance(seed: &[u8; 32]) -> u64 {
    let hash = keyed(seed).chain_update(b"av-edge instance").finalize().into_bytes();
    u64::from_be_bytes(*hash.first_chunk().expect("a SHA-256 hash has 32 bytes"))
}

impl Pass {
    fn to_bytes(self) -> [u8; PASS] {
        let mut bytes = [0; PASS];
        let fields = self
            .instance
            .to_be_bytes()
            .into_iter()
            .chain(self.worker.to_be_bytes())
            .chain(self.allocation.slot.to_be_bytes())
            .chain(self.allocation.generation.to_be_bytes())
            .chain(self.serial.to_be_bytes());
        for (byte, field) in bytes.iter_mut().zip(fields) {
            *byte = field;
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; PASS]) -> Option<Self> {
        let (instance, rest) = bytes.split_first_chunk()?;
        let (worker, rest) = rest.split_first_chunk()?;
        let (slot, rest) = rest.split_first_chunk()?;
        let (generation, serial) = rest.split_first_chunk()?;
        Some(Self {
            instance: u64::from_be_bytes(*instance),
            worker: u16::from_be_bytes(*worker),
            allocation: AllocationId {
                slot: u32::from_be_bytes(*slot),
                generation: u32::from_be_bytes(*generation),
            },
            serial: u32::from_be_bytes(serial.try_into().ok()?),
        })
    }
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
}

/// The key of one ticket.
fn once(secret: &Hmac<Sha256>, salt: &[u8]) -> LessSafeKey {
    let key = secret.clone().chain_update(LABEL).chain_update(salt).finalize().into_bytes();
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("a SHA-256 hash has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::auth::{KeyRing, PoolKey};

    fn tickets(keys: &[u8]) -> Tickets {
        let mut keys = keys.iter().map(|&byte| PoolKey::of_test(byte));
        let ring = keys.next().map(|current| KeyRing { current, previous: keys.collect() });
        let authority =
            Authority { ring, rest_secrets: vec![], users: None, tokens: None, max_lifetime_s: 0 };
        Tickets::new(&authority, &[9; 32])
    }

    const PASS: Pass = Pass {
        instance: 0x0123_4567_89AB_CDEF,
        worker: 3,
        allocation: AllocationId { slot: 7, generation: u32::MAX },
        serial: 1,
    };

    #[test]
    fn mob_009_a_ticket_opens_with_its_secret_alone_and_no_bit_of_it_can_change() {
        let mut random = Random::new([1; 32], 0);
        for keys in [&[1][..], &[]] {
            let tickets = tickets(keys);
            let Ticket(ticket) = tickets.seal(&PASS, &mut random);
            assert_eq!(tickets.open(&ticket), Some(PASS));
            for bit in 0..LENGTH * 8 {
                let mut changed = ticket;
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(tickets.open(&changed), None, "bit {bit}");
            }
            for len in 0..LENGTH {
                assert_eq!(tickets.open(&ticket[..len]), None, "{len} bytes");
            }
        }
        let Ticket(sealed) = tickets(&[1]).seal(&PASS, &mut random);
        assert_eq!(tickets(&[2, 1]).open(&sealed), Some(PASS), "a key that was rolled");
        assert_eq!(tickets(&[2]).open(&sealed), None, "another pool");
        assert_eq!(tickets(&[]).open(&sealed), None, "no pool");
    }

    #[test]
    fn mob_009_tickets_never_repeat_and_fit_into_a_small_datagram() {
        let (tickets, mut random) = (tickets(&[1]), Random::new([2; 32], 0));
        let many: BTreeSet<_> = (0..1_000).map(|_| tickets.seal(&PASS, &mut random)).collect();
        assert_eq!(many.len(), 1_000);
        const { assert!(LENGTH <= 300) };
        let ones: u32 = many.iter().flat_map(|ticket| ticket.0).map(u8::count_ones).sum();
        let bits = 1_000 * u32::try_from(LENGTH * 8).unwrap();
        assert!(
            (bits / 100 * 49..bits / 100 * 51).contains(&ones),
            "{ones} of {bits} bits are set"
        );
    }
}
