//! The claims in a pool credential's name, or behind an access token: `k=v` joined by commas.
//!
//! | claim | means |
//! |---|---|
//! | `s=i`, `s=e` | good on one side of the edge |
//! | `n=` number | allocations of the user |
//! | `b=`, `r=` number | kbit/s and packets/s of the user, each way |
//! | `p=` base64url | the only peers: for each range a byte that says family and length of the prefix (0–32 IPv4, 64–192 IPv6), then as many bytes of it as that takes |
//! | `t=` traceparent | what W3C Trace Context calls the request it was minted in; it limits nothing |
//! | `o=` ports | the only ports of peers: `53` or `1024-65535`, joined by `+` |
//!
//! A claim that is unknown, repeated, out of range or not as minting writes it refuses the name, so
//! that a narrower credential of a later version is never taken for a wider one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;

use crate::addr::Side;
use crate::auth::Trace;
use crate::auth::credential::{GrantError, decimal};
use crate::policy::bandwidth::{BYTES_PER_KBIT, MOST_BYTES_PER_S, Rates};
use crate::policy::sealed::{SealedLimits, SealedPeers};

/// What is added to the length of an IPv6 prefix in its byte.
const SIX: u8 = 64;

/// Bytes of the longest range.
const RANGE_MAX: usize = 17;

/// Claims as they stand in a name. What lists peers is kept as text that was found good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims<'a> {
    /// The only side of the edge the credential is good on.
    pub side: Option<Side>,
    /// What its user may use.
    pub limits: SealedLimits,
    /// The trace it was minted in.
    pub trace: Option<Trace>,
    ranges: Option<&'a str>,
    ports: Option<&'a str>,
}

impl<'a> Claims<'a> {
    /// Reads them; `None` if one is not as minting writes it.
    pub fn read(text: &'a str) -> Option<Self> {
        let mut claims = Self::default();
        let Self { side, limits, trace, ranges, ports } = &mut claims;
        let Rates { bytes, packets } = &mut limits.rates;
        for claim in text.split(',').filter(|_| !text.is_empty()) {
            match claim.split_once('=')? {
                ("s", letter) => set(side, side_of(letter)?)?,
                ("n", count) => set(&mut limits.allocations, number(count)?.try_into().ok()?)?,
                ("b", kbit) => set(bytes, of_kbit(kbit)?)?,
                ("r", count) => set(packets, rate(number(count)?)?)?,
                ("p", list) => set(ranges, read_ranges(list, |_| {}).map(|()| list)?)?,
                ("o", list) => set(ports, read_ports(list, |_| {}).map(|()| list)?)?,
                ("t", text) => set(trace, text.parse().ok()?)?,
                _ => return None,
            }
        }
        Some(claims)
    }

    /// The only peers the credential is good for.
    pub fn peers(&self) -> SealedPeers {
        let mut peers = SealedPeers::default();
        if let Some(list) = self.ranges {
            let _ = read_ranges(list, |range| peers.ranges.push(range));
        }
        if let Some(list) = self.ports {
            let _ = read_ports(list, |range| peers.ports.push(range));
        }
        peers
    }

    /// Writes the claims of a grant.
    pub fn write(
        side: Option<Side>,
        limits: &SealedLimits,
        peers: &SealedPeers,
        trace: Option<Trace>,
    ) -> Result<String, GrantError> {
        let Rates { bytes, packets } = limits.rates;
        let too_much = |rate: &NonZeroU64| rate.get() > MOST_BYTES_PER_S;
        if bytes
            .is_some_and(|rate| too_much(&rate) || !rate.get().is_multiple_of(BYTES_PER_KBIT.get()))
            || packets.is_some_and(|rate| too_much(&rate))
        {
            return Err(GrantError::Rate);
        }
        let claims = [
            side.map(|side| format!("s={}", side_letter(side))),
            limits.allocations.map(|count| format!("n={count}")),
            bytes.map(|bytes| format!("b={}", bytes.get() / BYTES_PER_KBIT)),
            packets.map(|packets| format!("r={packets}")),
            (!peers.ranges.is_empty()).then(|| write_ranges(&peers.ranges)).transpose()?,
            (!peers.ports.is_empty()).then(|| write_ports(&peers.ports)).transpose()?,
            trace.map(|trace| format!("t={trace}")),
        ];
        Ok(claims.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

/// Fills what is empty: no claim comes twice.
fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.is_none().then(|| *place = Some(value))
}

fn rate(rate: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(rate).filter(|rate| rate.get() <= MOST_BYTES_PER_S)
}

/// A number as minting writes it: without zeros before it.
fn number(digits: &str) -> Option<u64> {
    decimal(digits).filter(|_| digits.len() == 1 || !digits.starts_with('0'))
}

fn of_kbit(digits: &str) -> Option<NonZeroU64> {
    rate(number(digits)?.checked_mul(BYTES_PER_KBIT.get())?)
}

fn side_letter(side: Side) -> &'static str {
    match side {
        Side::Internal => "i",
        Side::External => "e",
    }
}

fn side_of(letter: &str) -> Option<Side> {
    Side::ALL.into_iter().find(|&side| side_letter(side) == letter)
}

fn write_ranges(ranges: &[IpNet]) -> Result<String, GrantError> {
    if ranges.len() > SealedPeers::MOST_RANGES {
        return Err(GrantError::Peers);
    }
    let mut bytes = Vec::with_capacity(ranges.len() * RANGE_MAX);
    for range in ranges {
        let (family, address) = match range.network() {
            IpAddr::V4(ip) => (0, ip.octets().to_vec()),
            IpAddr::V6(ip) => (SIX, ip.octets().to_vec()),
        };
        bytes.push(family + range.prefix_len());
        bytes.extend(address.into_iter().take(bytes_of(range.prefix_len())));
    }
    Ok(format!("p={}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// Bytes that a prefix takes.
fn bytes_of(prefix_len: u8) -> usize {
    usize::from(prefix_len.div_ceil(8))
}

fn read_ranges(list: &str, mut take: impl FnMut(IpNet)) -> Option<()> {
    let mut room = [0; SealedPeers::MOST_RANGES * RANGE_MAX];
    let length = URL_SAFE_NO_PAD.decode_slice(list, &mut room).ok()?;
    let mut rest = room.get(..length).filter(|bytes| !bytes.is_empty())?;
    for _ in 0..SealedPeers::MOST_RANGES {
        let Some((&first, behind)) = rest.split_first() else { break };
        let range;
        (range, rest) = match first.checked_sub(SIX) {
            None => {
                let (octets, rest) = octets::<4>(first, behind)?;
                (IpNet::new(Ipv4Addr::from(octets).into(), first).ok()?, rest)
            }
            Some(prefix_len) => {
                let (octets, rest) = octets::<16>(prefix_len, behind)?;
                (IpNet::new(Ipv6Addr::from(octets).into(), prefix_len).ok()?, rest)
            }
        };
        if range != range.trunc() {
            return None;
        }
        take(range);
    }
    rest.is_empty().then_some(())
}

/// The address that a prefix begins, and what follows it.
fn octets<const N: usize>(prefix_len: u8, bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (prefix, rest) = bytes.split_at_checked(bytes_of(prefix_len))?;
    let mut octets = [0; N];
    octets.get_mut(..prefix.len())?.copy_from_slice(prefix);
    Some((octets, rest))
}

fn write_ports(ports: &[RangeInclusive<u16>]) -> Result<String, GrantError> {
    if ports.len() > SealedPeers::MOST_PORTS || ports.iter().any(RangeInclusive::is_empty) {
        return Err(GrantError::Ports);
    }
    let text = ports.iter().map(|ports| match (ports.start(), ports.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    });
    Ok(format!("o={}", text.collect::<Vec<_>>().join("+")))
}

fn read_ports(text: &str, mut take: impl FnMut(RangeInclusive<u16>)) -> Option<()> {
    let port = |digits| u16::try_from(number(digits)?).ok();
    for (index, range) in text.split('+').enumerate() {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = port(first)?..=port(last)?;
        if range.is_empty() || index >= SealedPeers::MOST_PORTS {
            return None;
        }
        take(range);
    }
    Some(())
}
