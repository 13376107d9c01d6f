//! Connections that no allocation pays for: how many there are of a client, of its network, in all.
//!
//! Each worker's part is kept apart as well, so that what a failed worker held can be credited.

use std::collections::HashMap;
use std::net::IpAddr;

use proto::policy::Claim;
use proto::turn::surroundings;

use super::Counts;

/// How many may be there at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Of everybody.
    pub(crate) in_all: u32,
    /// Of an IPv4 /24, or an IPv6 /48.
    pub(crate) per_network: u32,
    /// Of an IPv4 address, or an IPv6 /64.
    pub(crate) per_client: u32,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// That of the client.
    PerClient,
    /// That of its network.
    PerNetwork,
    /// That of everybody.
    InAll,
}

/// Everybody who is there.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    clients: Counts<IpAddr>,
    networks: Counts<IpAddr>,
    in_all: u32,
    /// The clients of each worker.
    held: HashMap<(u16, IpAddr), u32>,
}

impl Bounds {
    /// The same without a bound for some of them.
    pub(crate) fn in_all(self) -> Self {
        Self { per_network: u32::MAX, per_client: u32::MAX, ..self }
    }
}

impl Crowd {
    /// Counts one more, if there is room.
    pub(super) fn admit(
        &mut self,
        worker: u16,
        client: IpAddr,
        bounds: &Bounds,
    ) -> Result<(), Full> {
        let client = Claim::network(client);
        if self.clients.of(&client) >= bounds.per_client {
            return Err(Full::PerClient);
        }
        if self.networks.of(&surroundings(client)) >= bounds.per_network {
            return Err(Full::PerNetwork);
        }
        if self.in_all >= bounds.in_all {
            return Err(Full::InAll);
        }
        self.take_in(worker, client);
        Ok(())
    }

    /// Counts one more: nothing can refuse it.
    pub(super) fn take_in(&mut self, worker: u16, client: IpAddr) {
        let client = Claim::network(client);
        self.clients.add(client, 1);
        self.networks.add(surroundings(client), 1);
        self.in_all += 1;
        *self.held.entry((worker, client)).or_default() += 1;
    }

    /// One of a worker's is gone.
    pub(super) fn dismiss(&mut self, worker: u16, client: IpAddr) {
        let client = Claim::network(client);
        let Some(count) = self.held.get_mut(&(worker, client)) else { return };
        *count -= 1;
        if *count == 0 {
            self.held.remove(&(worker, client));
        }
        self.credit(client, 1);
    }

    /// All of a worker's are gone.
    pub(super) fn forget(&mut self, worker: u16) {
        let held: Vec<_> = self.held.extract_if(|&(of, _), _| of == worker).collect();
        for ((_, client), count) in held {
            self.credit(client, count);
        }
    }

    fn credit(&mut self, client: IpAddr, count: u32) {
        self.clients.remove(&client, count);
        self.networks.remove(&surroundings(client), count);
        self.in_all = self.in_all.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { in_all: 8, per_network: 4, per_client: 2 };

    fn admit(crowd: &mut Crowd, worker: u16, client: &str) -> Result<(), Full> {
        crowd.admit(worker, client.parse().unwrap(), &BOUNDS)
    }

    #[test]
    fn sec_009_each_bound_refuses_alone_what_it_is_for() {
        let v4 = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let v6 = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8:0:2::1"];
        for (case, there, one_more, expected) in [
            ("a client", &v4[..2], "192.0.2.1", Err(Full::PerClient)),
            ("another beside it", &v4[..2], "192.0.2.2", Ok(())),
            ("a network", &v4[..], "192.0.2.4", Err(Full::PerNetwork)),
            ("a client in a full network", &v4[..], "192.0.2.1", Err(Full::PerClient)),
            ("the network beside it", &v4[..], "192.0.3.4", Ok(())),
            ("a /64", &v6[..2], "2001:db8::3", Err(Full::PerClient)),
            ("a /48", &v6[..], "2001:db8:0:3::1", Err(Full::PerNetwork)),
            ("the /48 beside it", &v6[..], "2001:db8:1::1", Ok(())),
            ("everybody", &[v4, v6].concat(), "198.51.100.1", Err(Full::InAll)),
        ] {
            let mut crowd = Crowd::default();
            for client in there {
                admit(&mut crowd, 0, client).expect(case);
            }
            assert_eq!(admit(&mut crowd, 0, one_more), expected, "{case}");
        }
    }

    #[test]
    fn who_goes_makes_room_at_once_and_refusals_are_not_charged() {
        let mut crowd = Crowd::default();
        for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            admit(&mut crowd, 0, client).unwrap();
        }
        for _ in 0..10 {
            admit(&mut crowd, 0, "192.0.2.4").unwrap_err();
        }
        crowd.dismiss(1, "192.0.2.1".parse().unwrap());
        assert_eq!(admit(&mut crowd, 0, "192.0.2.4"), Err(Full::PerNetwork), "another worker's");
        crowd.dismiss(0, "192.0.2.1".parse().unwrap());
        assert_eq!(admit(&mut crowd, 0, "192.0.2.4"), Ok(()));
    }

    #[test]
    fn a_worker_that_failed_is_credited_and_leaves_nothing() {
        let mut crowd = Crowd::default();
        for (worker, client) in [(0, "192.0.2.1"), (1, "192.0.2.1"), (0, "192.0.2.2")] {
            admit(&mut crowd, worker, client).unwrap();
        }
        crowd.forget(0);
        assert_eq!((crowd.in_all, crowd.networks.0.len(), crowd.clients.0.len()), (1, 1, 1));
        crowd.dismiss(1, "192.0.2.1".parse().unwrap());
        assert_eq!((crowd.in_all, crowd.networks.0.len(), crowd.clients.0.len()), (0, 0, 0));
        assert!(crowd.held.is_empty());
    }
}
