//! How many answers a stranger gets (threat model T3).
//!
//! Whoever forges a source address makes us send to it. Answers to those who have proved nothing
//! are therefore limited by source and by network, and what exceeds the limit is not sent. The
//! memory is a fixed number of buckets, chosen by a keyed hash: nobody can fill it, and nobody
//! can aim at the bucket of somebody else. The workers of a relay share it.
//!
//! A good client is not to pay for a flood under its own address. Who proved something is counted
//! apart ([`Standing`]); and a tenth of each bucket is kept for those who asked little so far, a
//! new port of a flooding host, a new host of a flooding network, so that they hear a challenge
//! and can prove themselves.
//!
//! Guesses at passwords are counted apart, for each name that a source tries, for the source and
//! for its network: beyond a limit not even a right one is looked at, so that guessing does not get
//! faster than answers would come, nor by trying many names. What comes without a nonce of ours may
//! be forged, and uses up nothing of what others have who come with one.

use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use crate::addr::ClientAddr;
use crate::policy::Claim;

/// Buckets of one kind; 128 KiB.
const BUCKETS: usize = 16_384;

/// A network gets so many times what one source gets.
pub const NETWORK_FACTOR: u32 = 4;

/// At how many names a source may guess as fast as at one, and how many such sources a network may
/// hold. People behind one NAT who mistype stay far below; secrets are too long for either.
const GUESS_FACTOR: u32 = 4;

/// One in so many answers is kept for those who asked little.
const RESERVE: u32 = 10;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run, each second; at least 1.
    pub per_s: u32,
    /// At once, after a pause; at least 1.
    pub burst: u32,
}

impl Rate {
    /// Whether something may happen once more now; counts it if so. `empty_at` is the bucket:
    /// the instant at which it is empty again, `None` before its first use.
    pub(crate) fn admits(self, empty_at: &mut Option<Instant>, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / self.per_s.max(1);
        let slack = interval * self.burst.saturating_sub(1);
        let begin = empty_at.map_or(now, |at| at.max(now));
        let admitted = begin <= now + slack;
        if admitted {
            *empty_at = Some(begin + interval);
        }
        admitted
    }

    /// So many times as often.
    fn times(self, factor: u32) -> Self {
        let Self { per_s, burst } = self;
        Self { per_s: per_s.saturating_mul(factor), burst: burst.saturating_mul(factor) }
    }

    /// The part kept for those who asked little.
    fn reserve(self) -> Self {
        Self { per_s: (self.per_s / RESERVE).max(1), burst: (self.burst / RESERVE).max(1) }
    }

    /// How much of a bucket somebody may use: all of it who asked little so far.
    fn share(self, calm: bool) -> Self {
        let kept = if calm { 0 } else { self.burst / RESERVE };
        Self { burst: self.burst - kept, ..self }
    }

    /// Nanoseconds from one to the next.
    fn interval(self) -> u64 {
        1_000_000_000 / u64::from(self.per_s.max(1))
    }
}

/// What somebody has proved who asks without being authenticated. Each is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing: the source of the datagram may be forged.
    Unproven,
    /// Its address, by the handshake of a connection; it has given a wrong password.
    Connected,
    /// Its password; but with an old nonce, so that the request may be a copy.
    Knowing,
    /// It has an allocation at this five-tuple.
    Seated,
}

/// Limits answers by source and by network.
#[derive(Debug)]
pub struct Throttle {
    rate: Rate,
    begin: Instant,
    networks: Buckets,
    sources: Buckets,
    /// What those draw who asked little so far: ports and sources.
    reserves: Buckets,
    /// Wrong passwords of those whose address may be forged, and of those who proved it.
    guesses: [Guesses; 2],
}

/// Wrong passwords, by how far around a guess they are counted.
#[derive(Debug)]
struct Guesses {
    /// For one name, from one source.
    names: Buckets,
    sources: Buckets,
    networks: Buckets,
}

/// Somebody who wants a password checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guess<'a> {
    /// Whence.
    pub(crate) client: ClientAddr,
    /// For whom: the name, or its hash.
    pub(crate) name: &'a [u8],
}

impl Throttle {
    /// No source gets more than `rate`. `secret` is random; no instant is before `begin`.
    pub fn new(rate: Rate, secret: u64, begin: Instant) -> Self {
        let [networks, sources, reserves] = [0, 1, 2].map(|salt| Buckets::new(secret ^ salt));
        let guesses = [3, 6].map(|salt| Guesses {
            names: Buckets::new(secret ^ salt),
            sources: Buckets::new(secret ^ (salt + 1)),
            networks: Buckets::new(secret ^ (salt + 2)),
        });
        Self { rate, begin, networks, sources, reserves, guesses }
    }

    /// Whether a source that may be forged may do once more what `self` counts.
    pub fn lets(&self, now: Instant, client: ClientAddr) -> bool {
        self.admits(now, Standing::Unproven, client)
    }

    /// Whether a password may be looked at. `at_home` says whether the source proved its address.
    pub(crate) fn lets_guess(
        &self,
        now: Instant,
        guess: Guess<'_>,
        at_home: impl FnOnce() -> bool,
    ) -> bool {
        let now = self.nanoseconds(now);
        let around = self.guesses.each_ref().map(|guesses| guesses.around(guess, self.rate));
        let busy = |(bucket, rate): (&Bucket, Rate)| !bucket.has_room(rate.share(false), now);
        if !around.as_flattened().iter().copied().any(busy) {
            return true;
        }
        let [name, source, network] = around[usize::from(at_home())];
        let has_room = |(bucket, rate): (&Bucket, Rate)| bucket.has_room(rate, now);
        let ip = Claim::network(guess.client.ip());
        [name, source, network].into_iter().all(has_room)
            && (!busy(name) && !busy(source) || self.asked_little((b"guess", guess.client), now))
            && (!busy(network) || self.asked_little((b"guess", ip), now))
    }

    /// Counts a wrong password.
    pub(crate) fn guessed(&self, now: Instant, guess: Guess<'_>, at_home: bool) {
        let now = self.nanoseconds(now);
        for (bucket, rate) in self.guesses[usize::from(at_home)].around(guess, self.rate) {
            bucket.takes(rate, now);
        }
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.begin).as_nanos();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    /// Whether one more answer may go there; counts it if so.
    pub(crate) fn admits(&self, now: Instant, who: Standing, client: ClientAddr) -> bool {
        let now = self.nanoseconds(now);
        let rate = self.rate;
        let host = Claim::network(client.ip());
        let source = self.sources.of((who, host));
        match who {
            Standing::Seated => self.sources.of((who, client)).takes(rate, now),
            Standing::Knowing => source.takes(rate, now),
            Standing::Connected => {
                let calm = self.asked_little((who, client), now);
                source.takes(rate.share(calm), now)
            }
            Standing::Unproven => {
                let calm = self.asked_little((who, client), now);
                // Only what is sent is counted.
                source.has_room(rate.share(calm), now) && {
                    let network = self.networks.of(surroundings(host));
                    let calm_there = calm || self.asked_little((who, host), now);
                    network.takes(rate.times(NETWORK_FACTOR).share(calm_there), now)
                        && source.takes(rate.share(calm), now)
                }
            }
        }
    }

    /// Whether somebody asked little so far, a port or a host.
    fn asked_little(&self, asker: impl Hash, now: u64) -> bool {
        self.reserves.of(asker).takes(self.rate.reserve(), now)
    }
}

impl Guesses {
    /// Where one is counted, from its name outward, and how often each may be wrong.
    fn around(&self, guess: Guess<'_>, rate: Rate) -> [(&Bucket, Rate); 3] {
        let source = Claim::network(guess.client.ip());
        [
            (self.names.of((source, guess.name)), rate),
            (self.sources.of(source), rate.times(GUESS_FACTOR)),
            (self.networks.of(surroundings(source)), rate.times(GUESS_FACTOR * GUESS_FACTOR)),
        ]
    }
}

/// The network a source is in: an IPv4 /24, or the /48 of a site.
pub fn surroundings(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & !0xFF)),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> 48))),
    }
}

/// Buckets of one kind.
#[derive(Debug)]
struct Buckets {
    places: Box<[Bucket]>,
    hasher: SeedableRandomState,
}

impl Buckets {
    fn new(secret: u64) -> Self {
        Self {
            places: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            hasher: SeedableRandomState::with_seed(secret, SharedSeed::global_fixed()),
        }
    }

    fn of(&self, key: impl Hash) -> &Bucket {
        let hash = self.hasher.hash_one(key);
        &self.places[usize::try_from(hash % BUCKETS as u64).unwrap_or(0)]
    }
}

/// The moment at which the bucket is empty again, in nanoseconds since the beginning.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Whether there is room for one more.
    fn has_room(&self, rate: Rate, now: u64) -> bool {
        room(self.0.load(Ordering::Relaxed), rate, now).is_some()
    }

    /// Puts one more in, if there is room.
    fn takes(&self, rate: Rate, now: u64) -> bool {
        let more = |empty_at| room(empty_at, rate, now);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// When a bucket is empty with one more in it; `None` if that is one too many.
fn room(empty_at: u64, rate: Rate, now: u64) -> Option<u64> {
    let interval = rate.interval();
    let slack = interval.saturating_mul(u64::from(rate.burst.saturating_sub(1)));
    let begin = empty_at.max(now);
    (begin <= now.saturating_add(slack)).then(|| begin.saturating_add(interval))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::now::tests::start;

    const RATE: Rate = Rate { per_s: 50, burst: 100 };

    fn client(host: u8, port: u16) -> ClientAddr {
        ClientAddr::new(SocketAddr::from(([192, 0, 2, host], port)))
    }

    /// Asks a throttle that has begun; answers how many of `asked` are admitted after `ms`.
    struct Flood(Instant, Throttle);

    impl Flood {
        fn new() -> Self {
            let begin = start().mono;
            Self(begin, Throttle::new(RATE, 1, begin))
        }

        fn answers(&self, ms: u64, who: Standing, from: impl Fn(u32) -> ClientAddr, n: u32) -> u32 {
            let now = self.0 + Duration::from_millis(ms);
            (0..n).map(|n| u32::from(self.1.admits(now, who, from(n)))).sum()
        }
    }

    #[test]
    fn sec_007_a_source_gets_its_burst_and_then_its_rate() {
        let many_ports = |n: u32| client(1, 1_000 + u16::try_from(n).unwrap());
        let one_port = |_: u32| client(2, 1_000);
        for (case, from, reserved) in
            [("many ports", &many_ports as &dyn Fn(u32) -> ClientAddr, 0), ("one", &one_port, 10)]
        {
            let flood = Flood::new();
            let answers = |ms| flood.answers(ms, Standing::Unproven, from, 1_000);
            assert_eq!(answers(0), 100 - reserved, "{case}");
            assert_eq!(answers(1_000), 50, "{case}");
            assert_eq!(answers(1_010), 0, "{case}");
            assert_eq!(answers(60_000), 100 - reserved, "{case}");
        }
    }

    #[test]
    fn sec_007_a_network_gets_four_times_as_much() {
        let flood = Flood::new();
        let hosts = |n: u32| client(n.to_le_bytes()[0], 1_000);
        assert_eq!(flood.answers(0, Standing::Unproven, hosts, 10_000), 400);
        assert_eq!(flood.answers(1_000, Standing::Unproven, hosts, 10_000), 200);
        let other = |_| ClientAddr::new(SocketAddr::from(([198, 51, 100, 1], 1)));
        assert_eq!(flood.answers(1_000, Standing::Unproven, other, 10), 10);
    }

    #[test]
    fn sec_007_a_flood_costs_no_good_client_behind_the_same_address_or_network() {
        let flood = Flood::new();
        for ms in (0..2_000).step_by(10) {
            for host in [1, 10, 11, 12, 13, 14, 15, 16, 17] {
                flood.answers(ms, Standing::Unproven, |_| client(host, 1_000), 20);
            }
        }
        for (case, who, good) in [
            ("a new port of the flooding host", Standing::Unproven, client(1, 2_000)),
            ("a new host of the flooding network", Standing::Unproven, client(2, 1_000)),
            ("a connection of the flooding host", Standing::Connected, client(1, 1_000)),
            ("the password, from the same port", Standing::Knowing, client(1, 1_000)),
            ("an allocation, at the same port", Standing::Seated, client(1, 1_000)),
        ] {
            assert_eq!(flood.answers(2_000, who, |_| good, 5), 5, "{case}");
        }
    }

    #[test]
    fn sec_007_of_an_ipv6_host_all_its_addresses_count_together() {
        let flood = Flood::new();
        let within = |n: u32| {
            let ip = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, n.to_le_bytes()[0].into());
            ClientAddr::new(SocketAddr::from((ip, 1_000)))
        };
        assert_eq!(flood.answers(0, Standing::Unproven, within, 1_000), 100);
        let site = |n: u32| {
            let [a, b, ..] = n.to_le_bytes();
            let subnet = u16::from_le_bytes([a, b]);
            let ip = Ipv6Addr::new(0x2001, 0xDB8, 1, subnet, 0, 0, 0, 1);
            ClientAddr::new(SocketAddr::from((ip, 1_000)))
        };
        assert_eq!(flood.answers(0, Standing::Unproven, site, 1_000), 400);
    }
    impl Flood {
        /// How many of so many wrong passwords are looked at after `ms`.
        fn looks(&self, ms: u64, of: impl Fn(u32) -> (ClientAddr, u32, bool), n: u32) -> u32 {
            let now = self.0 + Duration::from_millis(ms);
            let looks = (0..n).filter(|&n| {
                let (client, name, at_home) = of(n);
                let name = name.to_be_bytes();
                let guess = Guess { client, name: &name };
                let looks = self.1.lets_guess(now, guess, || at_home);
                if looks {
                    self.1.guessed(now, guess, at_home);
                }
                looks
            });
            u32::try_from(looks.count()).unwrap()
        }
    }

    /// A source's port, among as many as there are.
    fn port(n: u32) -> u16 {
        1_000 + u16::try_from(n % 60_000).unwrap()
    }

    /// A host of the network, of those that no test looks at apart.
    fn neighbour(n: u32) -> u8 {
        10 + u8::try_from(n % 64).unwrap()
    }

    #[test]
    fn auth_033_guesses_are_held_for_a_name_for_a_source_and_for_its_network() {
        type Guesser = fn(u32) -> (ClientAddr, u32, bool);
        let rows: [(&str, Guesser, [u32; 2]); 6] = [
            ("one name, one port", |_| (client(1, 1), 1, true), [100, 50]),
            ("one name, many ports", |n| (client(1, port(n)), 1, true), [100, 50]),
            ("many names, one port", |n| (client(1, 1), n, true), [370, 200]),
            ("many names, many ports", |n| (client(1, port(n)), n, true), [400, 200]),
            ("many names, many hosts", |n| (client(neighbour(n), 1), n, true), [1_600, 800]),
            ("the same, forged", |n| (client(neighbour(n), port(n)), n, false), [1_600, 800]),
        ];
        for (case, guesser, [at_once, a_second]) in rows {
            let flood = Flood::new();
            let near = |seen: u32, right: u32| seen.abs_diff(right) <= right / 8;
            let seen = flood.looks(0, guesser, 20_000);
            assert!(near(seen, at_once), "{case}: {seen}, not {at_once}, at once");
            let seen = flood.looks(1_000, guesser, 20_000);
            assert!(near(seen, a_second), "{case}: {seen}, not {a_second}, in a second");
        }
    }

    #[test]
    fn auth_033_guesses_over_many_names_cost_no_good_client_around_them() {
        type Guesser = fn(u32) -> (ClientAddr, u32, bool);
        let one_port: Guesser = |n| (client(1, 1), n, true);
        let a_few_hosts: Guesser =
            |n| (client(10 + port(n).to_le_bytes()[0] % 5, port(n)), n, true);
        let forged: Guesser = |n| (client(neighbour(n), port(n)), n, false);
        for (case, guesser, good) in [
            ("behind the same address", one_port, client(1, 2)),
            ("in the same network", one_port, client(2, 1)),
            ("in a network where several hosts guess", a_few_hosts, client(2, 1)),
            ("whose address is forged", forged, client(neighbour(1), 1_001)),
            ("in another network", a_few_hosts, ClientAddr::new("198.51.100.1:1".parse().unwrap())),
        ] {
            let flood = Flood::new();
            for ms in (0..3_000).step_by(10) {
                flood.looks(ms, guesser, 200);
            }
            let login = |n| (good, 1_000_000 + n, true);
            assert_eq!(flood.looks(3_000, login, 3), 3, "{case}");
        }
    }

    #[test]
    fn auth_033_of_guesses_an_ipv6_host_and_its_site_count_together() {
        let at = |subnet: u32, host: u32| {
            let [low, high, ..] = subnet.to_le_bytes();
            let subnet = u16::from_le_bytes([low, high]);
            let host = u16::try_from(host % 60_000).unwrap();
            let ip = Ipv6Addr::new(0x2001, 0xDB8, 0, subnet, 0, 0, 0, host);
            ClientAddr::new(SocketAddr::from((ip, 1)))
        };
        let flood = Flood::new();
        assert_eq!(flood.looks(0, |n| (at(0, n), n, true), 20_000), 400);
        let seen = flood.looks(0, |n| (at(n, 1), n, true), 20_000);
        assert!((1_000..=1_200).contains(&seen), "{seen} more of the site");
    }
}
