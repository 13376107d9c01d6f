//! Another configuration while the server runs: credentials, peers, quotas, spans.
//!
//! Allocations stay; what the new policy forbids of them ends.

use std::sync::Arc;

use crate::now::Now;
use crate::policy::Ledger;
use crate::turn::config::Config;
use crate::turn::nonce::Nonces;
use crate::turn::server::Server;
use crate::turn::ticket::Tickets;

impl<L: Ledger> Server<L> {
    /// Puts another configuration in force, with the seed of the one before: nonces and tickets
    /// whose keys it still has stay good. Realm, listeners, relay addresses, ports and the share
    /// in them must be the same.
    pub fn reconfigure(&mut self, now: Now, config: Arc<Config>, seed: &[u8; 32]) {
        debug_assert!(config.share == self.config.share && config.ports == self.config.ports);
        self.nonces = Nonces::new(&config.authority, seed, config.nonce_lifetime);
        self.tickets = Tickets::new(&config.authority, seed);
        self.config = config;
        for id in self.table.ids() {
            self.judge_again(now, id);
        }
    }
}
