//! What the kernel carried, kept by slot.

use std::collections::VecDeque;
use std::ops::Range;

use proto::policy::bandwidth::Direction;
use proto::turn::tally::{Flow, Usage};

use super::program::Meter;

/// Counters of what one worker has the kernel relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffloadTally {
    /// Routes of which at least one direction is in the kernel.
    pub routes: u64,
    /// Routes that wait: a next hop is not known, or leads nowhere the program stands.
    pub waiting: u64,
    /// Routes that the kernel did not take, or had no room for.
    pub refused: u64,
    /// What it carried.
    pub carried: Usage,
}

/// The slots of one worker, and how far each was read.
#[derive(Debug)]
pub(super) struct Accounts {
    meter: Meter,
    /// The one that was free longest comes first: what a packet on its way still counts there is
    /// nobody else's.
    free: VecDeque<u32>,
}

/// A slot in use.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) slot: u32,
    read: Flow,
}

impl Accounts {
    /// All free.
    pub(super) fn new(meter: Meter, slots: Range<u32>) -> Self {
        Self { meter, free: slots.collect() }
    }

    /// Opens one; `None` if all are in use.
    pub(super) fn open(&mut self) -> Option<Account> {
        let slot = self.free.pop_front()?;
        Some(Account { slot, read: self.meter.carried(slot) })
    }

    /// Closes one, which has been drawn.
    pub(super) fn close(&mut self, account: &Account) {
        self.free.push_back(account.slot);
    }

    /// What came to it since it was drawn last.
    pub(super) fn draw(&self, account: &mut Account) -> Flow {
        let total = self.meter.carried(account.slot);
        let before = std::mem::replace(&mut account.read, total);
        Flow {
            packets: total.packets.wrapping_sub(before.packets),
            bytes: total.bytes.wrapping_sub(before.bytes),
        }
    }
}

/// A flow in one direction.
pub(super) fn usage(direction: Direction, flow: Flow) -> Usage {
    match direction {
        Direction::ToPeer => Usage { to_peer: flow, ..Usage::default() },
        Direction::ToClient => Usage { to_client: flow, ..Usage::default() },
    }
}
