//! Who is connected at a door: how many of a client, how many strangers of its network, how many in
//! all; and who leaves where all places are taken.
//!
//! Who has shown nothing yet, no key and no certificate, is a stranger, whatever it asks. Where all
//! places are taken, or all that a network may have, the stranger who is there longest leaves for who
//! comes: strangers alone can keep nobody out, not even their neighbours, and who has shown something
//! is never ended for others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::config::Connections;
use crate::limits::Network;

/// Everybody at a door.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowd(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    in_all: usize,
    by_client: Counts<Network>,
    /// Strangers alone.
    by_network: Counts<IpAddr>,
    /// By the order in which they came.
    strangers: BTreeMap<u64, Stranger>,
    /// Those of each network, in the same order.
    neighbours: BTreeSet<(IpAddr, u64)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Stranger {
    whence: Option<Network>,
    /// What serves it, once that has begun.
    task: Option<AbortHandle>,
}

/// Why a connection is not served, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// The door has as many as it may.
    Total,
    /// The client has as many as it may.
    FromClient,
    /// Somebody else of its network came, which had as many strangers as it may.
    FromNetwork,
    /// The client began as many TLS handshakes as it may.
    Handshakes,
    /// Somebody else came, and all places were taken.
    Crowded,
    /// No descriptor, or no memory, was left for it.
    Exhausted,
}

impl TooMany {
    /// Every reason, in order.
    pub(crate) const ALL: [Self; 6] = [
        Self::Total,
        Self::FromClient,
        Self::FromNetwork,
        Self::Handshakes,
        Self::Crowded,
        Self::Exhausted,
    ];

    /// The label of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::FromClient => "client",
            Self::FromNetwork => "network",
            Self::Handshakes => "handshakes",
            Self::Crowded => "crowded",
            Self::Exhausted => "exhausted",
        }
    }
}

/// How many left for somebody at once: two, so that a door whose limit was lowered empties.
const LEAVE_AT_ONCE: usize = 2;

impl Crowd {
    /// Gives somebody a seat, and says why strangers had to leave for it, a few at most. `whence` is
    /// `None` of a proxy, which brings many clients. `may` is asked last, and may refuse.
    pub(crate) fn admit(
        &self,
        whence: Option<Network>,
        bounds: Connections,
        may: impl FnOnce() -> Result<(), TooMany>,
    ) -> Result<(Arc<Seat>, Vec<TooMany>), TooMany> {
        let mut inside = self.lock();
        let mut neighbour = None;
        if let Some(client) = whence {
            if inside.by_client.of(&client) >= bounds.per_client {
                return Err(TooMany::FromClient);
            }
            let network = client.surroundings();
            if inside.by_network.of(&network) >= bounds.per_network {
                neighbour = inside.oldest_of(network);
            }
        }
        if inside.in_all >= bounds.total && inside.strangers.is_empty() {
            return Err(TooMany::Total);
        }
        may()?;
        let mut left = Vec::new();
        if let Some(neighbour) = neighbour {
            inside.dismiss(neighbour);
            left.push(TooMany::FromNetwork);
        }
        while left.len() < LEAVE_AT_ONCE
            && inside.in_all >= bounds.total
            && let Some((&oldest, _)) = inside.strangers.first_key_value()
        {
            inside.dismiss(oldest);
            left.push(TooMany::Crowded);
        }
        let number = inside.take_in(whence);
        let crowd = self.clone();
        Ok((Arc::new(Seat { crowd, number, whence, known: Mutex::new(false) }), left))
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn take_in(&mut self, whence: Option<Network>) -> u64 {
        self.in_all += 1;
        if let Some(client) = whence {
            self.by_client.add(client);
        }
        self.arrivals += 1;
        self.strangers.insert(self.arrivals, Stranger { whence, task: None });
        if let Some(client) = whence {
            self.by_network.add(client.surroundings());
            self.neighbours.insert((client.surroundings(), self.arrivals));
        }
        self.arrivals
    }

    /// The stranger of a network who is there longest.
    fn oldest_of(&self, network: IpAddr) -> Option<u64> {
        let first = self.neighbours.range((network, 0)..=(network, u64::MAX)).next();
        first.map(|&(_, number)| number)
    }

    /// Somebody is no stranger any more; `None` if it was none.
    fn forget(&mut self, number: u64) -> Option<Stranger> {
        let stranger = self.strangers.remove(&number)?;
        if let Some(client) = stranger.whence {
            self.by_network.remove(client.surroundings());
            self.neighbours.remove(&(client.surroundings(), number));
        }
        Some(stranger)
    }

    /// A stranger leaves for somebody else.
    fn dismiss(&mut self, number: u64) {
        let Some(stranger) = self.forget(number) else { return };
        self.credit(stranger.whence);
        if let Some(task) = stranger.task {
            task.abort();
        }
    }

    fn credit(&mut self, whence: Option<Network>) {
        self.in_all = self.in_all.saturating_sub(1);
        if let Some(client) = whence {
            self.by_client.remove(client);
        }
    }
}

/// How many there are of each; who has none is forgotten.
#[derive(Debug)]
struct Counts<K>(HashMap<K, usize, foldhash::fast::RandomState>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: std::hash::Hash + Eq> Counts<K> {
    fn of(&self, whose: &K) -> usize {
        self.0.get(whose).copied().unwrap_or_default()
    }

    fn add(&mut self, whose: K) {
        *self.0.entry(whose).or_default() += 1;
    }

    fn remove(&mut self, whose: K) {
        if let std::collections::hash_map::Entry::Occupied(mut count) = self.0.entry(whose) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The place of one connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    crowd: Crowd,
    number: u64,
    whence: Option<Network>,
    /// Whether something good was shown there.
    known: Mutex<bool>,
}

impl Seat {
    /// Names what serves the connection, to be ended if a stranger has to leave.
    pub(crate) fn is_served_by(&self, task: AbortHandle) {
        if let Some(stranger) = self.crowd.lock().strangers.get_mut(&self.number) {
            stranger.task = Some(task);
        }
    }

    /// A key or a certificate was shown that is good: from now on nobody ends it for others.
    pub(crate) fn is_known(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !*known {
            *known = self.crowd.lock().forget(self.number).is_some();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let known = *self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut inside = self.crowd.lock();
        // Who left for somebody else was credited then.
        if known || inside.forget(self.number).is_some() {
            inside.credit(self.whence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Connections = Connections { total: 6, per_network: 4, per_client: 2 };

    fn come(crowd: &Crowd, address: &str) -> Result<(Arc<Seat>, Vec<TooMany>), TooMany> {
        let network = Network::of(address.parse().unwrap());
        crowd.admit(Some(network), BOUNDS, || Ok(()))
    }

    /// The reason for which somebody is refused, or has a stranger leave.
    fn why(crowd: &Crowd, address: &str) -> Option<TooMany> {
        come(crowd, address).map_or_else(Some, |(_, left)| left.first().copied())
    }

    #[test]
    fn sec_009_each_bound_acts_alone_on_what_it_is_for() {
        let v4 = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let v6 = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8:0:2::1"];
        for (case, there, one_more, expected) in [
            ("a client", &v4[..2], "192.0.2.1", Some(TooMany::FromClient)),
            ("the same as IPv6 has it", &v4[..2], "::ffff:192.0.2.1", Some(TooMany::FromClient)),
            ("another beside it", &v4[..2], "192.0.2.2", None),
            ("a /24", &v4[..], "192.0.2.4", Some(TooMany::FromNetwork)),
            ("the /24 beside it", &v4[..], "192.0.3.4", None),
            ("a /64", &v6[..2], "2001:db8::3", Some(TooMany::FromClient)),
            ("a /48", &v6[..], "2001:db8:0:3::1", Some(TooMany::FromNetwork)),
            ("the /48 beside it", &v6[..], "2001:db8:1::1", None),
        ] {
            let crowd = Crowd::default();
            let _held: Vec<_> = there.iter().map(|it| come(&crowd, it).unwrap()).collect();
            assert_eq!(why(&crowd, one_more), expected, "{case}");
        }
    }

    #[test]
    fn the_oldest_stranger_leaves_where_all_places_are_taken_and_who_is_known_stays() {
        let crowd = Crowd::default();
        let addresses: Vec<_> = (0..6).map(|number| format!("10.0.{number}.1")).collect();
        let mut seats: Vec<_> = addresses.iter().map(|it| come(&crowd, it).unwrap().0).collect();
        seats[0].is_known();
        let (newest, left) = come(&crowd, "10.1.0.1").unwrap();
        assert_eq!(left, [TooMany::Crowded]);
        assert_eq!(crowd.lock().strangers.keys().copied().min(), Some(3), "the second has left");
        // Its task ends later, and is not credited once more.
        drop(seats.remove(1));
        assert_eq!(crowd.lock().in_all, 6);
        // Too late for it to become known.
        let gone = seats.remove(1);
        let (other, _) = come(&crowd, "10.2.0.1").unwrap();
        gone.is_known();
        drop(gone);
        assert_eq!(crowd.lock().in_all, 6);

        for seat in seats.iter().chain([&newest, &other]) {
            seat.is_known();
        }
        assert_eq!(come(&crowd, "10.3.0.1").err(), Some(TooMany::Total), "all are known");
        drop((seats, newest, other));
        let inside = crowd.lock();
        assert_eq!((inside.in_all, inside.strangers.len()), (0, 0));
        assert!(inside.by_client.0.is_empty() && inside.by_network.0.is_empty());
    }

    #[test]
    fn where_a_network_is_full_its_own_oldest_stranger_leaves() {
        let crowd = Crowd::default();
        let elsewhere = come(&crowd, "198.51.100.1").unwrap();
        let hosts = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let seats: Vec<_> = hosts.iter().map(|it| come(&crowd, it).unwrap().0).collect();
        seats[0].is_known();
        // Who is known is none of those that a network is bounded in.
        let (fourth, left) = come(&crowd, "192.0.2.4").unwrap();
        assert_eq!(left, []);
        let wide = Connections { total: 100, ..BOUNDS };
        let network = Network::of("192.0.2.5".parse().unwrap());
        let (newest, left) = crowd.admit(Some(network), wide, || Ok(())).unwrap();
        let is_stranger = |seat: &Seat| crowd.lock().strangers.contains_key(&seat.number);
        assert_eq!(left, [TooMany::FromNetwork]);
        assert!(!is_stranger(&seats[1]) && is_stranger(&elsewhere.0) && is_stranger(&fourth));
        assert_eq!(crowd.lock().in_all, 6);
        drop((elsewhere, seats, fourth, newest));
        let inside = crowd.lock();
        assert_eq!(inside.in_all, 0);
        assert!(inside.neighbours.is_empty() && inside.by_network.0.is_empty());
    }

    #[test]
    fn nobody_leaves_for_who_may_not_come() {
        let crowd = Crowd::default();
        let seats: Vec<_> =
            (0..6).map(|it| come(&crowd, &format!("10.0.{it}.1")).unwrap()).collect();
        let refused = crowd.admit(None, BOUNDS, || Err(TooMany::Handshakes));
        assert_eq!(refused.err(), Some(TooMany::Handshakes));
        assert_eq!(crowd.lock().strangers.len(), seats.len());
    }

    #[test]
    fn a_door_whose_limit_was_lowered_empties_by_a_few_for_each_who_comes() {
        let crowd = Crowd::default();
        let _seats: Vec<_> =
            (0..6).map(|it| come(&crowd, &format!("10.0.{it}.1")).unwrap()).collect();
        let narrow = Connections { total: 2, ..BOUNDS };
        let mut new = Vec::new();
        for left_behind in [5, 4, 3, 2, 2] {
            new.push(crowd.admit(None, narrow, || Ok(())).unwrap());
            assert_eq!(crowd.lock().in_all, left_behind);
        }
    }

    #[test]
    fn proxies_have_no_bound_but_that_of_all() {
        let crowd = Crowd::default();
        let seats = (0..6).map(|_| crowd.admit(None, BOUNDS, || Ok(())).unwrap());
        let seats: Vec<_> = seats.collect();
        for (seat, _) in &seats {
            seat.is_known();
        }
        assert_eq!(crowd.admit(None, BOUNDS, || Ok(())).err(), Some(TooMany::Total));
    }
}
