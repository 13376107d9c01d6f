//! How allocations end, and parts of them: by deadline, by release, by shut-down.
//!
//! Every way leads through [`Server::close_relay`], so socket, port, ledger, deadline and gauges
//! are given back in one place.

use std::time::Instant;

use crate::addr::{AllocationId, Family, RelayId};
use crate::now::Now;
use crate::policy::Ledger;
use crate::turn::action::{Action, Change, CloseReason};
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// Makes sure that an allocation is looked at by then.
    pub(super) fn arm_by(&mut self, id: AllocationId, at: Instant) {
        if let Some(allocation) = self.table.open(id)
            && at < allocation.owner.armed
        {
            self.expiry.disarm(allocation.owner.armed, id);
            allocation.owner.armed = at;
            self.expiry.arm(at, id);
        }
    }

    /// Drops what is over in an allocation whose deadline came, and arms it anew.
    pub(super) fn expire(&mut self, now: Now, id: AllocationId) {
        self.prolong_by_use(now, id);
        let Some(allocation) = self.table.open(id) else { return };
        let over = Family::ALL
            .map(|family| allocation.relay(family).is_some_and(|relay| relay.expires <= now.mono));
        let before = (allocation.permissions(), allocation.channels());
        allocation.expire(now.mono);
        let after = (allocation.permissions(), allocation.channels());
        // Taken out of the order of deadlines already; in again, so that closing finds it.
        let next = allocation.first_deadline().unwrap_or(now.mono);
        allocation.owner.armed = next;
        self.expiry.arm(next, id);
        self.count_gone(before, after);
        self.routes_changed(id);
        for family in Family::ALL {
            if over[family.index()] {
                self.close_relay(now, id, family, CloseReason::Expired);
            }
        }
    }

    /// Ends an allocation because an operator says so; whether there was one.
    pub fn end(&mut self, now: Now, id: AllocationId) -> bool {
        let found = self.table.open(id).is_some();
        self.close(now, id, CloseReason::Ended);
        found
    }

    /// Ends an allocation.
    pub(super) fn close(&mut self, now: Now, id: AllocationId, reason: CloseReason) {
        for family in Family::ALL {
            self.close_relay(now, id, family, reason);
        }
    }

    /// Ends the relayed address of one family, and the allocation with its last.
    pub(super) fn close_relay(
        &mut self,
        now: Now,
        id: AllocationId,
        family: Family,
        reason: CloseReason,
    ) {
        self.close_connections(now, id, family);
        let Some(allocation) = self.table.open(id) else { return };
        let before = (allocation.permissions(), allocation.channels());
        let Some(port) = allocation.forget(family) else { return };
        let after = (allocation.permissions(), allocation.channels());
        let (armed, carried) = (allocation.owner.armed, allocation.carried());
        let next = allocation.first_deadline();
        self.count_gone(before, after);
        self.actions.push_back(Action::CloseRelay(RelayId { allocation: id, family }));
        self.ledger.set_live(port, carried, false);
        self.release_port(now, port);
        self.expiry.disarm(armed, id);
        if let Some(next) = next {
            if let Some(allocation) = self.table.open(id) {
                allocation.owner.armed = next;
            }
            self.expiry.arm(next, id);
            self.routes_changed(id);
            return;
        }
        let Some(allocation) = self.table.remove(id) else { return };
        for client in allocation.seats() {
            self.end_diversion(client);
        }
        let media = allocation.media_report(now.mono).map(Box::new);
        let owner = *allocation.owner;
        self.ledger.release(owner.lease);
        self.tally.allocations -= 1;
        self.tally.closed[reason as usize] += 1;
        if let Some(demand) = self.demand(allocation.client.listener) {
            demand.closed[reason as usize] += 1;
        }
        let lived = now.mono.saturating_duration_since(owner.opened);
        let usage = allocation.usage;
        self.actions.push_back(Action::Changed(Change::AllocationClosed {
            id,
            reason,
            lived,
            usage,
            media,
        }));
    }

    /// Lowers the gauges of permissions and channels.
    pub(super) fn count_gone(&mut self, before: (usize, usize), after: (usize, usize)) {
        self.tally.permissions -= (before.0 - after.0) as u64;
        self.tally.channels -= (before.1 - after.1) as u64;
    }
}
