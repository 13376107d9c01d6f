//! Unpredictable numbers, drawn from a seed that the shell takes from the operating system.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::stun::TransactionId;

/// A stream of random numbers; the same seed and stream give the same numbers.
#[derive(Debug)]
pub(crate) struct Random(ChaCha20Rng);

impl Random {
    /// Workers that share a seed take different streams of it.
    pub(crate) fn new(seed: [u8; 32], stream: u16) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        rng.set_stream(u64::from(stream));
        Self(rng)
    }

    /// A number below `bound`, which must not be zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        usize::try_from(self.0.next_u64() % bound).unwrap_or(0)
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Any bytes.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A reservation token.
    pub(crate) fn token(&mut self) -> [u8; 8] {
        self.0.next_u64().to_be_bytes()
    }

    /// A transaction id for an indication.
    pub(crate) fn transaction(&mut self) -> TransactionId {
        let [id @ .., _, _, _, _] = self.any_transaction();
        TransactionId(id)
    }

    /// The same for an indication in any dialect: as many bytes as the longest wants.
    pub(crate) fn any_transaction(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        self.0.fill_bytes(&mut id);
        id
    }
}
