//! How much may wait in the kernel for a worker that cannot read it in time.
//!
//! Queues have room for bursts: who reads them empty again and again owes nobody an answer how long
//! they may be. Once more comes than a worker can read they fill, and each packet waits for all
//! before it; one of a call that comes half a second late is worth nothing, and makes the next one
//! late. So when sockets have not been read empty for a while, they may hold what is read in
//! a few milliseconds, and the kernel drops the rest at less cost than we would. They get their
//! room back when the worker has found time to wait.
//!
//! Queues of relayed addresses, of which there are many, are made smaller. Those of listeners
//! cannot be made larger again without privileges, so they are shut while too much waits.

use std::time::{Duration, Instant};

/// For how long something may wait somewhere without a pause.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long it takes to read what may wait then.
const WORTH: Duration = Duration::from_millis(10);

/// How long queues are kept short at least.
const RELIEF: Duration = Duration::from_secs(1);

/// Bytes of the kernel's memory that a small packet takes while it waits.
const PACKET: u64 = 1_024;

/// The smallest queue that a socket can have: two or three packets (`SOCK_MIN_RCVBUF`).
const SMALLEST: u32 = 2_304;

/// What one worker is behind with.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Since when something has waited, and how many datagrams had been read by then.
    since: Option<(Instant, u64)>,
    cut: Option<Cut>,
    overloads: u64,
}

/// What may wait.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// No longer than until then, if the worker finds time.
    until: Instant,
    /// Bytes at all relayed addresses together, and as many at a listener.
    all: u32,
    /// Bytes at each relayed address.
    each: u32,
}

impl Backlog {
    /// After a turn: how many sockets were not read empty, and how many datagrams have been read so
    /// far. The clock is read if it matters.
    pub(super) fn turn(&mut self, now: impl FnOnce() -> Instant, waiting: usize, read: u64) {
        if waiting == 0 && self.cut.is_none() {
            self.since = None;
            return;
        }
        let now = now();
        let (since, before) = *self.since.get_or_insert((now, read));
        let lag = now.saturating_duration_since(since);
        if lag < PATIENCE {
            return;
        }
        self.since = Some((now, read));
        let read = u128::from(read.saturating_sub(before) * PACKET);
        let all = read * WORTH.as_nanos() / lag.as_nanos().max(1);
        let all = u32::try_from(all).unwrap_or(u32::MAX).max(SMALLEST);
        let sockets = u32::try_from(waiting.max(1)).unwrap_or(u32::MAX);
        // Powers of two, so that queues are not made longer and shorter all the time.
        let each = (all / sockets).checked_next_power_of_two().unwrap_or(u32::MAX).max(SMALLEST);
        self.overloads += u64::from(self.cut.is_none());
        self.cut = Some(Cut { until: now + RELIEF, all, each });
    }

    /// The worker has found nothing to do.
    pub(super) fn rest(&mut self, now: Instant) {
        self.since = None;
        self.cut = self.cut.filter(|cut| now < cut.until);
    }

    /// Whether queues are kept short.
    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// Bytes to ask for as the queue of a relayed address, where one asks for so many at other times;
    /// the kernel gives twice as many.
    #[inline]
    pub(super) fn room(&self, full: u32) -> u32 {
        self.cut.map_or(full, |cut| (cut.each / 2).min(full))
    }

    /// Bytes that may wait at a listener, if it matters.
    #[inline]
    pub(super) fn most(&self) -> Option<u32> {
        self.cut.map(|cut| cut.all)
    }

    /// How often queues had to be cut.
    pub(super) fn overloads(&self) -> u64 {
        self.overloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const FULL: u32 = 1 << 18;

    /// Turns of a millisecond each in which so many datagrams are read; the time after them.
    fn busy(
        backlog: &mut Backlog,
        (from, turns): (Instant, u32),
        waiting: usize,
        read: &mut u64,
    ) -> Instant {
        let turn = Duration::from_millis(1);
        for index in 0..turns {
            backlog.turn(|| from + turn * index, waiting, *read);
            *read += 100;
        }
        from + turn * turns
    }

    #[test]
    fn queues_are_cut_to_what_is_read_in_ten_milliseconds() {
        let (mut backlog, mut read) = (Backlog::default(), 7);
        let start = Clock::new().last().mono;
        let now = busy(&mut backlog, (start, 100), 4, &mut read);
        assert!(!backlog.is_cut(), "a burst is waited for");
        assert_eq!((backlog.room(FULL), backlog.most()), (FULL, None));
        let now = busy(&mut backlog, (now, 1), 4, &mut read);
        // A thousand datagrams in ten milliseconds.
        assert_eq!(backlog.most(), Some(1_000 * 1_024));
        assert_eq!(2 * backlog.room(FULL), 1 << 18, "a quarter, rounded up");
        let now = busy(&mut backlog, (now, 101), 1_000, &mut read);
        assert_eq!(2 * backlog.room(FULL), SMALLEST.max(1 << 10));
        assert_eq!(backlog.room(1_000), 1_000, "never more than there was");
        assert_eq!(backlog.overloads(), 1);
        // As long as it never rests nothing changes, whether something waits at the end of a turn or not.
        let now = busy(&mut backlog, (now, 2_000), 0, &mut read);
        assert!(backlog.is_cut());
        backlog.rest(now);
        assert!(backlog.is_cut(), "not at the first rest");
        backlog.rest(now + RELIEF);
        assert!(!backlog.is_cut());
        assert_eq!(backlog.room(FULL), FULL);
    }

    #[test]
    fn nobody_who_reads_queues_empty_is_cut() {
        let (mut backlog, mut read) = (Backlog::default(), 0);
        let mut now = Clock::new().last().mono;
        for _ in 0..50 {
            now = busy(&mut backlog, (now, 99), 3, &mut read);
            now = busy(&mut backlog, (now, 1), 0, &mut read);
        }
        assert!(!backlog.is_cut());
        backlog.turn(|| panic!("the clock is not read in vain"), 0, read);
        assert_eq!(backlog.overloads(), 0);
    }
}
