//! What is remembered of an allocation between requests of MS-TURN.
//!
//! Its clients sign Sends with the key of the Allocate and bring no nonce, so the key is kept; and
//! they number them, so that none counts twice (MST-91).

use crate::addr::{AllocationId, ConnectionId, Family, FiveTuple};
use crate::dialect::{Call, Signer};
use crate::now::Now;
use crate::policy::Ledger;
use crate::request::Numbered;
use crate::stun::MessageKey;
use crate::turn::exchange::Exchange;
use crate::turn::server::Server;
use crate::turn::tally::Usage;

/// What is remembered.
#[derive(Debug)]
pub(crate) struct Session {
    /// Signs every request, and its answers.
    pub(crate) key: MessageKey,
    /// The nonce of the Allocate that opened or moved it: good for refreshing it for ever, because
    /// libnice does not ask for another (MST-77).
    pub(crate) nonce: Box<[u8]>,
    /// The Set Active Destination that was answered last, which is answered alike when it is
    /// repeated (MST-81); and the digest of its bytes.
    pub(crate) answered: Option<(Call, u64, Numbered)>,
    connection: [u8; 20],
    window: Window,
    /// What the allocation had carried when its end was put off last.
    carried: Usage,
}

impl Session {
    /// The connection, and its highest number so far.
    pub(crate) fn numbered(&self) -> Numbered {
        Numbered { connection: self.connection, number: self.window.highest }
    }

    /// Whether a request of this number belongs here.
    pub(crate) fn is_of(&self, numbered: Numbered) -> bool {
        numbered.connection == self.connection
    }

    /// Whether a request of this number did not yet come.
    pub(crate) fn is_fresh(&self, numbered: Numbered) -> bool {
        self.window.is_fresh(numbered.number)
    }

    /// Remembers that it came.
    pub(crate) fn take(&mut self, numbered: Numbered) {
        self.window.take(numbered.number);
    }
}

impl<L: Ledger> Server<L> {
    /// The session of a new allocation, whose client numbers its requests from 1 (MST-71).
    pub(super) fn session(
        &mut self,
        exchange: &Exchange,
        nonce: Box<[u8]>,
    ) -> Option<Box<Session>> {
        let Signer { key, .. } = exchange.signer.clone()?;
        let connection = self.connection();
        let (window, carried) = (Window::default(), Usage::default());
        Some(Box::new(Session { key, nonce, answered: None, connection, window, carried }))
    }

    /// A new connection: random, so that nobody guesses it, and by its remainder the number of this
    /// worker, like the connections of RFC 6062.
    fn connection(&mut self) -> [u8; 20] {
        let (mut connection, share) = ([0; 20], self.config.share);
        let (random, last) = connection.split_at_mut(16);
        self.random.fill(random);
        let ConnectionId(id) = ConnectionId::of_worker(self.random.number(), share.index, share.of);
        last.copy_from_slice(&id.to_be_bytes());
        connection
    }

    /// What an Allocate speaks of (MST-75): the allocation of its five-tuple or, if that has none, the
    /// one that has its connection. A client on a stream has a relay for streams, any other one for
    /// datagrams (MST-68), so the one cannot take the place of the other.
    pub(super) fn spoken_of(&mut self, from: FiveTuple, numbered: Option<Numbered>) -> Spoken {
        if self.table.serves(from) {
            return Spoken::Here;
        }
        let Some(Numbered { connection, .. }) = numbered else { return Spoken::Nothing };
        let share = self.config.share;
        let worker = worker_of(connection, share.of);
        if worker != share.index {
            return Spoken::OfWorker(worker);
        }
        let stream = self.transport(from).is_stream();
        let found = self.table.of_connection(connection);
        let open =
            found.filter(|id| self.table.open(*id).is_some_and(|it| it.relays_tcp == stream));
        open.map_or(Spoken::Nothing, Spoken::Elsewhere)
    }

    /// Puts off the end of an allocation that was used since it was put off last, where that is
    /// the custom (MST-79). Over UDP a client that is gone looks like one that listens, so only
    /// what it sends counts there; a connection tells when it ends (MST-78).
    pub(super) fn prolong_by_use(&mut self, now: Now, id: AllocationId) {
        let Some(allocation) = self.table.open(id) else { return };
        let (client, dialect) = (allocation.client, allocation.dialect);
        let due = allocation.relays().all(|(_, relay)| relay.expires <= now.mono);
        let Some(session) = &mut allocation.owner.session else { return };
        if !due || !dialect.rules().use_prolongs {
            return;
        }
        let (before, after) = (session.carried, allocation.usage);
        session.carried = after;
        let transport = self.transport(client);
        let stream = transport.is_stream();
        if after.to_peer != before.to_peer || stream && after.to_client != before.to_client {
            let lifetime = self.config.lifetime_default(dialect, transport);
            self.prolong(now, id, Family::ALL, lifetime);
        }
    }
}

/// What an Allocate speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// No allocation that is known.
    Nothing,
    /// That of its five-tuple.
    Here,
    /// One whose client spoke from elsewhere so far.
    Elsewhere(AllocationId),
    /// One that another worker knows, if any.
    OfWorker(u16),
}

/// The worker that gave a connection.
fn worker_of(connection: [u8; 20], of: u16) -> u16 {
    let [.., a, b, c, d] = connection;
    ConnectionId(u32::from_be_bytes([a, b, c, d])).worker(of)
}

/// How far behind the highest number another may be and still count (MST-91 names no size; as for
/// other protocols over UDP, 64 is more than networks reorder).
const WINDOW: u32 = u64::BITS;

/// The numbers that came: the highest, and a bit for each of those below it.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    highest: u32,
    seen: u64,
}

impl Window {
    fn is_fresh(self, number: u32) -> bool {
        match self.highest.checked_sub(number) {
            None => true,
            Some(behind) => behind < WINDOW && self.seen >> behind & 1 == 0,
        }
    }

    fn take(&mut self, number: u32) {
        if let Some(ahead) = number.checked_sub(self.highest) {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = number;
        } else if let Some(bit) = 1_u64.checked_shl(self.highest - number) {
            self.seen |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn mst_091_a_number_counts_once_and_not_when_it_is_old() {
        let mut window = Window::default();
        for (number, fresh) in [
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (3, false),
            (66, true),
            (3, false),
            (4, true),
            (130, true),
            (66, false),
            (67, true),
            (u32::MAX, true),
            (130, false),
            (u32::MAX, false),
        ] {
            assert_eq!(window.is_fresh(number), fresh, "{number} after {window:?}");
            if fresh {
                window.take(number);
            }
        }
    }

    #[test]
    fn mst_091_the_window_agrees_with_a_set() {
        let (mut window, mut model) = (Window::default(), BTreeSet::new());
        let mut state = 7_u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = window.highest.saturating_add(state >> 25).saturating_sub(90);
            let known = model.contains(&number) || window.highest.saturating_sub(number) >= 64;
            assert_eq!(window.is_fresh(number), !known, "{number} after {window:?}");
            if !known {
                window.take(number);
                model.insert(number);
            }
        }
    }
}
