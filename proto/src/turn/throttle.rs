//! How many answers a stranger gets (threat model T3).
//!
//! Whoever forges a source address makes us send to it. Answers to those who have proved nothing
//! are therefore limited by source and by network, and what exceeds the limit is not sent. The
//! memory is a fixed number of buckets, chosen by a keyed hash: nobody can fill it, and nobody
//! can aim at the bucket of somebody else. The workers of a relay share it.
//!
//! A good client is not to pay for a flood under its own address. Who proved something is counted
//! apart ([`Standing`]). Of the rest, whoever stands higher fills a bucket higher, and all that
//! flows out is its own if it wants it ([`share`]): who asked little so far, a new port of a
//! flooding host or a new host of a flooding network; above those, since ports cost nothing, who
//! asks the same again after a while without an answer ([`repetitions`]), the more often the higher;
//! and a login above the question for an address, so that a fifth is for logins that come again.
//! A flood that changes its ports or its transactions never gets as high. One that sends each packet
//! twice, as clients would, has half as many, and those who ask a third and a fourth time above it;
//! if it sends each four times, all that is left is chance. What all get never changes.
//!
//! Guesses at passwords are counted apart, for each name that a source tries, for the source and
//! for its network: beyond a limit not even a right one is looked at, so that guessing does not get
//! faster than answers would come, nor by trying many names. What comes without a nonce of ours may
//! be forged, and uses up nothing of what others have who come with one.

mod repetitions;

use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use crate::addr::{ClientAddr, FiveTuple};
use crate::policy::Claim;
use repetitions::{MOST, Repetitions};

/// Buckets of one kind; 128 KiB.
const BUCKETS: usize = 16_384;

/// A network gets so many times what one source gets.
pub const NETWORK_FACTOR: u32 = 4;

/// At how many names a source may guess as fast as at one, and how many such sources a network may
/// hold. People behind one NAT who mistype stay far below; secrets are too long for either.
const GUESS_FACTOR: u32 = 4;

/// Who asks no more than one in so many of what a source gets asked little.
const LITTLE: u32 = 10;

/// How much of a bucket for guesses somebody may use who did not ask little, in percent.
const COMMON: u32 = 90;

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

    /// What is little beside it.
    fn little(self) -> Self {
        Self { per_s: (self.per_s / LITTLE).max(1), burst: (self.burst / LITTLE).max(1) }
    }

    /// As much at once as so many percent of a bucket hold.
    fn share(self, percent: u32) -> Self {
        let more = u64::from(self.burst.saturating_sub(1)) * u64::from(percent) / 100;
        Self { burst: u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1), ..self }
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

/// A request of somebody who is not authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whence.
    pub from: FiveTuple,
    /// What is the same when it comes again, and else never.
    pub transaction: &'a [u8],
    /// What it wants.
    pub about: About,
}

/// What a stranger wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// To hear the address it has.
    Address,
    /// To begin what ends in an allocation: a challenge, a handshake.
    Login,
}

/// Limits answers by source and by network.
#[derive(Debug)]
pub struct Throttle {
    rate: Rate,
    begin: Instant,
    networks: Buckets,
    sources: Buckets,
    /// What ports and sources ask in all, which may be little.
    askers: Buckets,
    repetitions: Repetitions,
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
        let [networks, sources, askers] = [0, 1, 2].map(|salt| Buckets::new(secret ^ salt));
        let guesses = [3, 6].map(|salt| Guesses {
            names: Buckets::new(secret ^ salt),
            sources: Buckets::new(secret ^ (salt + 1)),
            networks: Buckets::new(secret ^ (salt + 2)),
        });
        let repetitions = Repetitions::new(secret ^ 9);
        Self { rate, begin, networks, sources, askers, repetitions, guesses }
    }

    /// Whether a source may do once more what `self` counts, whoever it is.
    pub fn lets(&self, now: Instant, client: ClientAddr) -> bool {
        self.takes(self.nanoseconds(now), client, [100; 2])
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
        let busy = |(bucket, rate): (&Bucket, Rate)| !bucket.has_room(rate.share(COMMON), now);
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
    pub(crate) fn admits(&self, now: Instant, who: Standing, question: &Question<'_>) -> bool {
        let now = self.nanoseconds(now);
        let client = question.from.client;
        let host = Claim::network(client.ip());
        match who {
            Standing::Seated => self.sources.of((who, client)).takes(self.rate, now),
            Standing::Knowing => self.sources.of((who, host)).takes(self.rate, now),
            Standing::Connected => {
                let common = if self.asked_little((who, client), now) { 100 } else { COMMON };
                self.sources.of((who, host)).takes(self.rate.share(common), now)
            }
            Standing::Unproven => {
                let mark = self.repetitions.mark(question);
                let before = self.repetitions.before(mark, now);
                let calm = self.asked_little((who, client), now);
                let calm_there = calm || self.asked_little((who, host), now);
                let shares = [calm, calm_there].map(|calm| share(question.about, before, calm));
                let admitted = self.takes(now, client, shares);
                if !admitted {
                    self.repetitions.let_go(mark, now);
                } else if before > 0 {
                    self.repetitions.settle(mark);
                }
                admitted
            }
        }
    }

    /// Puts one more into the bucket of a source and into that of its network, which it may fill
    /// by so many percent, if there is room in both.
    fn takes(&self, now: u64, client: ClientAddr, [here, there]: [u32; 2]) -> bool {
        let host = Claim::network(client.ip());
        let source = self.sources.of((Standing::Unproven, host));
        let network = self.networks.of(surroundings(host));
        // Only what is sent is counted.
        source.has_room(self.rate.share(here), now)
            && network.takes(self.rate.times(NETWORK_FACTOR).share(there), now)
            && source.takes(self.rate.share(here), now)
    }

    /// Whether somebody asked little so far, a port or a host.
    fn asked_little(&self, asker: impl Hash, now: u64) -> bool {
        self.askers.of(asker).takes(self.rate.little(), now)
    }
}

/// How much of a bucket a stranger may fill, in percent, by what it wants, how often it came
/// `before` without an answer, and whether it asked little.
///
/// A flood keeps a bucket as full as it may, so each step is what those above it find empty. They
/// are as steep where many clients may come at once, of one port or of all.
fn share(about: About, before: u32, calm: bool) -> u32 {
    match (about, before, calm) {
        (About::Address, 0, false) => 55,
        (About::Login, 0, false) => 60,
        (About::Address, 0, true) => 65,
        (About::Login, 0, true) => 70,
        (About::Address, 1, _) => 74,
        (About::Address, 2, _) => 77,
        (About::Address, MOST.., _) => 80,
        (About::Login, 1, _) => 87,
        (About::Login, 2, _) => 94,
        (About::Login, MOST.., _) => 100,
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

/// A hash that no stranger can foresee.
fn hasher(secret: u64) -> SeedableRandomState {
    SeedableRandomState::with_seed(secret, SharedSeed::global_fixed())
}

/// Buckets of one kind.
#[derive(Debug)]
struct Buckets {
    places: Box<[Bucket]>,
    hasher: SeedableRandomState,
}

impl Buckets {
    fn new(secret: u64) -> Self {
        Self { places: (0..BUCKETS).map(|_| Bucket::default()).collect(), hasher: hasher(secret) }
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
mod tests;
