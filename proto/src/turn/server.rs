//! The entry points of the server value.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::addr::{FiveTuple, PeerAddr, RelayId};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::DropReason;
use crate::turn::tally::{AllocationView, ListenerTally};
use crate::turn::{Action, Config, OpenFailure, Tally, Verdict};

/// A TURN server: state and procedures, no I/O.
#[derive(Debug)]
pub struct Server<L> {
    config: Arc<Config>,
    ledger: L,
    tally: Tally,
    actions: VecDeque<Action>,
}

#[expect(
    unused_variables,
    clippy::needless_pass_by_value,
    clippy::missing_panics_doc,
    reason = "signatures first"
)]
impl<L: Ledger> Server<L> {
    /// A server without allocations. `seed` comes from the operating system's generator.
    pub fn new(config: Arc<Config>, ledger: L, seed: [u8; 32]) -> Self {
        Self { config, ledger, tally: Tally::default(), actions: VecDeque::new() }
    }

    /// One message from a client.
    pub fn client_input(&mut self, now: Now, from: FiveTuple, bytes: &[u8]) -> Verdict {
        Verdict::Dropped(DropReason::Unrecognised)
    }

    /// One datagram that arrived at a relayed address.
    pub fn peer_input(&mut self, now: Now, at: RelayId, from: PeerAddr, payload: &[u8]) -> Verdict {
        Verdict::Dropped(DropReason::StaleRelay)
    }

    /// The answer to [`Action::OpenRelay`].
    pub fn relay_opened(&mut self, now: Now, id: RelayId, outcome: Result<(), OpenFailure>) {}

    /// The next piece of work for the shell.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Server::timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Ends what has expired.
    pub fn timeout(&mut self, now: Now) {}

    /// Counters of everything.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Counters by listener, in order of [`crate::addr::ListenerId`].
    pub fn listeners(&self) -> &[ListenerTally] {
        &[]
    }

    /// Every allocation as an observer sees it.
    pub fn allocations(&self, now: Now) -> impl Iterator<Item = AllocationView> + '_ {
        std::iter::empty()
    }

    /// Takes no new allocation from now on.
    pub fn drain(&mut self) {}

    /// Whether the server drains and the last allocation is gone.
    pub fn is_drained(&self) -> bool {
        false
    }

    /// Ends every allocation; actions follow.
    pub fn shut_down(&mut self, now: Now) {}
}
