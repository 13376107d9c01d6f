//! New peers of one user, and of one client network, over all their allocations.
//!
//! The brake of an allocation ends with it, and who allocates again begins anew. So what is new to
//! an allocation counts here as well, for its user and for its client's network, hosts and addresses
//! apart. Time alone credits it: neither the end of an allocation nor that of a worker. Who turned to
//! no new peer for a minute loses its entry to what comes after: each new peer and, where workers
//! share, each allocation looks at a few, in turn. Ordered maps only, so that a run replays from its
//! seed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use crate::policy::limits::{Lease, Limits, UserKey};
use crate::reject::{DropReason, Why};

/// The time that limits are told for.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Entries of each kind that are looked at each time: more than are added.
const LOOKED_AT: usize = 4;

/// Peers that are new to an allocation.
#[derive(Clone, Copy, Debug)]
pub struct NewPeers {
    /// Hosts, for which there was no permission.
    pub hosts: u32,
    /// Addresses, ports included.
    pub addresses: u32,
    /// When.
    pub at: Instant,
}

/// Who turned to as many new peers within a minute as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hasty {
    /// The allocation.
    Allocation,
    /// Its user.
    User,
    /// The network of its client.
    Client,
}

/// Who has to wait, and until when if nobody else uses up what gets free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Who.
    pub who: Hasty,
    /// No earlier than this.
    pub until: Instant,
}

impl From<Hasty> for Why {
    fn from(hasty: Hasty) -> Self {
        match hasty {
            Hasty::Allocation => Self::TooManyNewPeers,
            Hasty::User => Self::UserNewPeers,
            Hasty::Client => Self::ClientNewPeers,
        }
    }
}

impl From<Hasty> for DropReason {
    fn from(hasty: Hasty) -> Self {
        match hasty {
            Hasty::Allocation => Self::TooManyNewPeers,
            Hasty::User => Self::UserNewPeers,
            Hasty::Client => Self::ClientNewPeers,
        }
    }
}

/// What users and client networks turned to.
#[derive(Debug, Default)]
pub struct Encounters {
    users: Owners<UserKey>,
    clients: Owners<IpAddr>,
}

/// Owners of one kind.
#[derive(Debug)]
struct Owners<K> {
    filled: BTreeMap<K, Filled>,
    /// The one that was looked at last.
    looked_at: Option<K>,
}

/// How full both buckets are.
#[derive(Clone, Copy, Debug, Default)]
struct Filled {
    hosts: Bucket,
    addresses: Bucket,
}

/// When a bucket is empty again; `None` before its first use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket(Option<Instant>);

impl Encounters {
    /// Counts new peers of an allocation; nothing is counted on refusal.
    pub fn count(&mut self, lease: &Lease, new: NewPeers, limits: &Limits) -> Result<(), Halt> {
        self.sweep(new.at);
        let user = self.users.with(lease.user, limits.new_peers_per_minute_per_user, new);
        let user = user.map_err(|until| Halt { who: Hasty::User, until })?;
        let client = self.clients.with(lease.client, limits.new_peers_per_minute_per_client, new);
        let client = client.map_err(|until| Halt { who: Hasty::Client, until })?;
        self.users.filled.insert(lease.user, user);
        self.clients.filled.insert(lease.client, client);
        Ok(())
    }

    /// Takes a few entries away if they are over.
    pub fn sweep(&mut self, now: Instant) {
        self.users.sweep(now);
        self.clients.sweep(now);
    }

    /// Users and client networks that have an entry.
    pub fn len(&self) -> [usize; 2] {
        [self.users.filled.len(), self.clients.filled.len()]
    }
}

impl<K: Ord + Copy> Owners<K> {
    /// What an owner's would be with new ones.
    fn with(&self, owner: K, limit: u32, new: NewPeers) -> Result<Filled, Instant> {
        let Filled { hosts, addresses } = self.filled.get(&owner).copied().unwrap_or_default();
        Ok(Filled {
            hosts: hosts.with(limit, new.at, new.hosts)?,
            addresses: addresses.with(limit, new.at, new.addresses)?,
        })
    }

    /// Looks at the next few, and takes those away that are over.
    fn sweep(&mut self, now: Instant) {
        for _ in 0..LOOKED_AT {
            let after = self.looked_at.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.filled.range((after, Bound::Unbounded)).next();
            let next = next.map(|(owner, filled)| (*owner, filled.is_over(now)));
            self.looked_at = next.map(|(owner, _)| owner);
            match next {
                Some((owner, true)) => drop(self.filled.remove(&owner)),
                Some(_) => {}
                None => return,
            }
        }
    }
}

impl<K> Default for Owners<K> {
    fn default() -> Self {
        Self { filled: BTreeMap::new(), looked_at: None }
    }
}

impl Filled {
    /// Whether both are empty.
    fn is_over(self, now: Instant) -> bool {
        self.hosts.max(self.addresses).0.is_none_or(|end| end <= now)
    }
}

impl Bucket {
    /// The bucket with so many more in it; if that is too many, when it will not be.
    pub(crate) fn with(self, limit: u32, now: Instant, more: u32) -> Result<Self, Instant> {
        if more == 0 {
            return Ok(self);
        }
        let begin = self.0.map_or(now, |at| at.max(now));
        let filled = begin + MINUTE / limit.max(1) * more;
        let room = filled.checked_sub(MINUTE).unwrap_or(now);
        if room <= now { Ok(Self(Some(filled))) } else { Err(room) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now::tests::start;

    const BRAKED: Limits = Limits {
        allocations: 1,
        allocations_per_user: 1,
        allocations_per_client: 1,
        permissions: 1,
        channels: 1,
        new_peers_per_minute: 1,
        new_peers_per_minute_per_user: 4,
        new_peers_per_minute_per_client: 6,
        peer_connections: 1,
        peer_connections_waiting: 1,
        peer_connections_per_user: 1,
        peer_connections_per_client: 1,
        peer_connections_total: 1,
    };

    fn lease(user: u64, client: u8) -> Lease {
        Lease { user: UserKey(user), client: IpAddr::from([192, 0, 2, client]), charges: 1 }
    }

    /// Whom one more new peer has to wait for.
    fn meets(
        encounters: &mut Encounters,
        (user, client): (u64, u8),
        [hosts, addresses]: [u32; 2],
        at: Instant,
    ) -> Option<Hasty> {
        let new = NewPeers { hosts, addresses, at };
        encounters.count(&lease(user, client), new, &BRAKED).err().map(|halt| halt.who)
    }

    #[test]
    fn sec_009_new_peers_are_limited_by_user_and_by_client_hosts_and_addresses_apart() {
        for (case, before, who, new, after_s, expected) in [
            ("room", vec![(1, 1); 3], (1, 1), [1, 0], 0, None),
            ("the user", vec![(1, 1); 4], (1, 2), [1, 0], 0, Some(Hasty::User)),
            ("addresses of hosts that are known", vec![(1, 1); 4], (1, 1), [0, 4], 0, None),
            ("more than there may be", vec![], (1, 1), [5, 0], 0, Some(Hasty::User)),
            ("another user", vec![(1, 1); 4], (2, 1), [2, 0], 0, None),
            (
                "the client",
                vec![(1, 1), (1, 1), (1, 1), (2, 1), (2, 1), (2, 1)],
                (3, 1),
                [1, 0],
                0,
                Some(Hasty::Client),
            ),
            ("another client", vec![(1, 1); 4], (2, 2), [4, 0], 0, None),
            ("a quarter of a minute later", vec![(1, 1); 4], (1, 1), [1, 0], 15, None),
            ("but not two", vec![(1, 1); 4], (1, 1), [2, 0], 15, Some(Hasty::User)),
            ("a minute later", vec![(1, 1); 4], (1, 1), [4, 0], 60, None),
        ] {
            let (mut encounters, begin) = (Encounters::default(), start().mono);
            for owner in before {
                assert_eq!(meets(&mut encounters, owner, [1, 0], begin), None, "{case}");
            }
            let later = begin + Duration::from_secs(after_s);
            for _ in 0..3 {
                let refused = meets(&mut encounters, who, new, later);
                assert_eq!(refused, expected, "{case}");
                if refused.is_none() {
                    break;
                }
            }
        }
    }

    #[test]
    fn sec_009_who_has_to_wait_is_told_how_long() {
        let mut encounters = Encounters::default();
        let now = start().mono;
        let one = |at| NewPeers { hosts: 0, addresses: 1, at };
        for _ in 0..4 {
            encounters.count(&lease(1, 1), one(now), &BRAKED).unwrap();
        }
        let Halt { until, .. } = encounters.count(&lease(1, 1), one(now), &BRAKED).unwrap_err();
        assert_eq!(until, now + Duration::from_secs(15));
        let just_before = now + Duration::from_millis(14_999);
        assert!(encounters.count(&lease(1, 1), one(just_before), &BRAKED).is_err());
        assert!(encounters.count(&lease(1, 1), one(until), &BRAKED).is_ok());
    }

    #[test]
    fn sec_009_who_turned_to_nobody_for_a_minute_is_forgotten() {
        let (mut encounters, begin) = (Encounters::default(), start().mono);
        let at = |second| begin + Duration::from_secs(second);
        for user in 0..1_000_u64 {
            let client = user.to_le_bytes()[0];
            assert_eq!(meets(&mut encounters, (user, client), [1, 1], at(user / 10)), None);
        }
        // Of each 15 s to come, that is of each user, there were 150 users.
        let [users, clients] = encounters.len();
        assert!((150..250).contains(&users) && clients < 150, "{users} users, {clients} clients");
        for second in 0..100 {
            meets(&mut encounters, (7, 7), [0, 1], at(1_000 + second * 20));
        }
        assert_eq!(encounters.len(), [1, 1]);
    }
}
