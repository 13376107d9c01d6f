//! How long datagrams stay in the relay.
//!
//! Measured by batch, not by packet: from the moment a worker wakes until everything that came
//! with the batch has been handed to the kernel. Each datagram of the batch counts that time, so
//! the average is an upper bound; what waited in a socket's queue before is not seen.

use std::time::Duration;

/// The sum, and the worst so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    /// Datagrams received.
    pub(crate) datagrams: u64,
    /// For each of them the time of its batch, in nanoseconds.
    pub(crate) nanoseconds: u64,
    /// The longest time of a batch, in nanoseconds.
    pub(crate) longest: u64,
}

impl Latency {
    /// A batch of so many datagrams took so long.
    pub(crate) fn add(&mut self, datagrams: u64, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.datagrams += datagrams;
        self.nanoseconds = self.nanoseconds.saturating_add(time.saturating_mul(datagrams));
        self.longest = self.longest.max(time);
    }
}
