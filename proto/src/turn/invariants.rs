//! What must hold between any two calls; tests and the simulation ask after each.

use crate::policy::Ledger;
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// Verifies what must hold between any two calls.
    ///
    /// # Panics
    /// Where it does not.
    pub fn check(&self) {
        let (mut gauges, mut connections) = ((0, 0, 0), 0);
        for (id, allocation) in self.table.iter_from(0) {
            allocation.check();
            assert!(self.expiry.is_armed(allocation.owner.armed, id), "{id:?} is armed");
            for (_, relay) in allocation.relays() {
                assert!(
                    self.ledger.is_live(relay.addr(), allocation.carried()),
                    "{} is live",
                    relay.addr()
                );
            }
            connections += allocation.owner.connections.len();
            gauges.0 += 1;
            gauges.1 += allocation.permissions() as u64;
            gauges.2 += allocation.channels() as u64;
        }
        let tally = self.tally();
        assert_eq!(gauges, (tally.allocations, tally.permissions, tally.channels), "gauges");
        assert_eq!(self.expiry.len() as u64, tally.allocations, "one deadline an allocation");
        self.table.check();
        self.connections.check();
        assert_eq!(self.connections.len(), connections, "each connection has its allocation");
        assert!(tally.ports_used <= tally.ports_total, "ports");
        let ended: u64 = tally.closed.iter().sum();
        assert_eq!(tally.opened - ended, tally.allocations, "opened, closed and alive");
        self.ports.check();
    }
}
