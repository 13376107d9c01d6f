//! What clients may use up: counts, rates, room.

use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use proto::addr::{Family, Transport};
use proto::dialect::PerDialect;
use proto::policy::bandwidth::{BYTES_PER_KBIT, MOST_BYTES_PER_S};
use proto::policy::{Bandwidth, Limits, Listener, Rates, RelayAddress};
use proto::turn::Rate;

use super::check::number;
use super::error::Problem;
use super::file;
use crate::ledger::Bounds;
use crate::stream::StreamLimits;

/// The most allocations that ports and descriptors leave room for, with a fifth to spare.
/// `each` is how many descriptors an allocation may take.
pub(super) fn room(
    relays: &[RelayAddress],
    ports: &RangeInclusive<u16>,
    descriptors: u64,
    each: u64,
) -> u64 {
    let of_family =
        |family| relays.iter().filter(|relay| Family::of(relay.local) == family).count() as u64;
    let addresses = of_family(Family::V4).max(of_family(Family::V6));
    let sockets = addresses * ports.len() as u64;
    (sockets.min(descriptors / each) * 4 / 5).max(1)
}

/// How many descriptors an allocation may take: that of its relayed address, and its client's.
pub(super) fn each(listeners: &[Listener]) -> u64 {
    let on_streams =
        listeners.iter().any(|it| matches!(it.transport, Transport::Tcp | Transport::Tls));
    if on_streams { 2 } else { 1 }
}

/// The most connections to peers that descriptors leave room for beside so many of allocations,
/// with two fifths to spare; where an operator leaves them next to none, a twentieth of all.
fn connection_room(descriptors: u64, for_allocations: u64) -> u64 {
    let beside = descriptors.saturating_sub(for_allocations) * 3 / 5;
    (beside.max(descriptors / 20) / PER_CONNECTION).max(1)
}

/// How many descriptors a connection to a peer takes: its own, and its client's.
pub(super) const PER_CONNECTION: u64 = 2;

/// `descriptors` there are; an allocation may take `each`.
pub(super) fn limits(
    found: &file::Limits,
    room: u64,
    (descriptors, each): (u64, u64),
) -> Result<Limits, Problem> {
    let count = |key: &str, found, default, most| {
        let count = number(key, found, default, 1..=most)?;
        Ok::<_, Problem>(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let (user, client) = ("limits.allocations_per_user", "limits.allocations_per_client");
    let allocations = count("limits.allocations", found.allocations, room, 1_000_000)?;
    let peers = |key: &str, found, default: u64| {
        count(
            &format!("limits.peer_connections_{key}"),
            found,
            default.clamp(1, 1_000_000),
            1_000_000,
        )
    };
    let total = connection_room(descriptors, u64::from(allocations) * each);
    let total = peers("total", found.peer_connections_total, total)?;
    let new_peers = |key: &str, found, default| count(key, found, default, 1_000_000);
    let new_peers_per_minute =
        new_peers("limits.new_peers_per_minute", found.new_peers_per_minute, 256)?;
    let several = |times: u64| (u64::from(new_peers_per_minute) * times).min(1_000_000);
    // By default nobody alone takes all that there may be.
    let quarter = u64::from(total / 4);
    Ok(Limits {
        allocations,
        allocations_per_user: count(user, found.allocations_per_user, 16, 1_000_000)?,
        allocations_per_client: count(client, found.allocations_per_client, 64, 1_000_000)?,
        permissions: count("limits.permissions", found.permissions, 256, 4_096)? as usize,
        channels: count("limits.channels", found.channels, 256, 4_096)? as usize,
        new_peers_per_minute,
        new_peers_per_minute_per_user: new_peers(
            "limits.new_peers_per_minute_per_user",
            found.new_peers_per_minute_per_user,
            several(4),
        )?,
        new_peers_per_minute_per_client: new_peers(
            "limits.new_peers_per_minute_per_client",
            found.new_peers_per_minute_per_client,
            several(8),
        )?,
        peer_connections: count("limits.peer_connections", found.peer_connections, 64, 4_096)?
            as usize,
        peer_connections_waiting: count(
            "limits.peer_connections_waiting",
            found.peer_connections_waiting,
            16,
            4_096,
        )? as usize,
        peer_connections_per_user: peers(
            "per_user",
            found.peer_connections_per_user,
            quarter.min(128),
        )?,
        peer_connections_per_client: peers(
            "per_client",
            found.peer_connections_per_client,
            quarter.min(256),
        )?,
        peer_connections_total: total,
    })
}

/// What allocations of each dialect may carry.
pub(super) fn bandwidths(found: &file::Limits) -> Result<PerDialect<Bandwidth>, Problem> {
    Ok(PerDialect { rfc: bandwidth(found)?, ms: microsoft_bandwidth(found)? })
}

/// What allocations may carry; without a word from the operator there is no limit.
fn bandwidth(found: &file::Limits) -> Result<Bandwidth, Problem> {
    Ok(Bandwidth {
        allocation: Rates {
            bytes: kbit("kbit_per_s_per_allocation", found.kbit_per_s_per_allocation)?,
            packets: packets("packets_per_s_per_allocation", found.packets_per_s_per_allocation)?,
        },
        user: Rates {
            bytes: kbit("kbit_per_s_per_user", found.kbit_per_s_per_user)?,
            packets: packets("packets_per_s_per_user", found.packets_per_s_per_user)?,
        },
        client: Rates {
            bytes: kbit("kbit_per_s_per_client", found.kbit_per_s_per_client)?,
            packets: packets("packets_per_s_per_client", found.packets_per_s_per_client)?,
        },
        worker: Rates {
            bytes: kbit("kbit_per_s_per_worker", found.kbit_per_s_per_worker)?,
            packets: packets("packets_per_s_per_worker", found.packets_per_s_per_worker)?,
        },
        relay: Rates {
            bytes: kbit("kbit_per_s", found.kbit_per_s)?,
            packets: packets("packets_per_s", found.packets_per_s)?,
        },
    })
}

/// The same for clients of the Microsoft dialect: of an allocation and of a user, what the
/// original product allows.
fn microsoft_bandwidth(found: &file::Limits) -> Result<Bandwidth, Problem> {
    let rates = |key: &str, found: Option<u64>, default| {
        let bytes = kbit(key, Some(found.unwrap_or(default)))?;
        Ok::<_, Problem>(Rates { bytes, packets: None })
    };
    let (of_allocation, of_user) =
        (found.microsoft_kbit_per_s_per_allocation, found.microsoft_kbit_per_s_per_user);
    Ok(Bandwidth {
        allocation: rates("microsoft_kbit_per_s_per_allocation", of_allocation, 3_000)?,
        user: rates("microsoft_kbit_per_s_per_user", of_user, 10_000)?,
        ..bandwidth(found)?
    })
}

/// The greatest rate that may be written (ED-51).
const MOST_KBIT: u64 = 1 << 32;

/// A rate in kilobits of a thousand bits, as rates of media are told; in bytes, of which no more
/// are counted than a relay can carry.
fn kbit(key: &str, found: Option<u64>) -> Result<Option<NonZeroU64>, Problem> {
    let kbit = rate(key, found, MOST_KBIT)?;
    Ok(kbit.and_then(|kbit| {
        NonZeroU64::new((kbit.get() * BYTES_PER_KBIT.get()).min(MOST_BYTES_PER_S))
    }))
}

/// A rate of datagrams.
fn packets(key: &str, found: Option<u64>) -> Result<Option<NonZeroU64>, Problem> {
    rate(key, found, 1_000_000_000)
}

fn rate(key: &str, found: Option<u64>, most: u64) -> Result<Option<NonZeroU64>, Problem> {
    let Some(found) = found else { return Ok(None) };
    number(&format!("limits.{key}"), Some(found), 1, 1..=most).map(NonZeroU64::new)
}

/// How often one source hears an answer that has not logged in.
pub(super) fn strangers(found: &file::Limits) -> Result<Rate, Problem> {
    let count = |key: &str, found, default| {
        let count = number(key, found, default, 1..=1_000_000)?;
        Ok::<_, Problem>(u32::try_from(count).unwrap_or(u32::MAX))
    };
    Ok(Rate {
        per_s: count("limits.strangers_per_s", found.strangers_per_s, 50)?,
        burst: count("limits.strangers_burst", found.strangers_burst, 100)?,
    })
}

/// How often one source begins a handshake of TLS or DTLS.
pub(super) fn handshakes(found: &file::Limits) -> Result<Rate, Problem> {
    let count = |key: &str, found, default| {
        let count = number(key, found, default, 1..=1_000_000)?;
        Ok::<_, Problem>(u32::try_from(count).unwrap_or(u32::MAX))
    };
    Ok(Rate {
        per_s: count("limits.handshakes_per_s", found.handshakes_per_s, 100)?,
        burst: count("limits.handshakes_burst", found.handshakes_burst, 200)?,
    })
}

/// The memory that the process may hold before it takes no new allocations, in bytes.
pub(super) fn memory(found: &file::Limits) -> Result<Option<u64>, Problem> {
    let key = "limits.memory_mib";
    let Some(mib) = found.memory_mib else { return Ok(None) };
    number(key, Some(mib), mib, 64..=16_777_216).map(|mib| Some(mib << 20))
}

/// Bounds of streams. By default strangers hold a twentieth of all descriptors at most: what they take
/// is missing to those who have logged in.
pub(super) fn streams(found: &file::Limits, descriptors: u64) -> Result<StreamLimits, Problem> {
    let queue = number(
        "limits.stream_queue_bytes",
        found.stream_queue_bytes,
        256 * 1024,
        65_536..=16_777_216,
    )?;
    let wanted = [found.connections, found.connections_per_network, found.connections_per_client];
    Ok(StreamLimits {
        strangers: bounds("limits", wanted, [(descriptors / 20).clamp(16, 4_096), 64])?,
        queue_bytes: usize::try_from(queue).unwrap_or(usize::MAX),
    })
}

/// How many connections are passed on by default: each takes two descriptors, which is a fortieth of
/// all descriptors for all of them.
pub(super) fn passages(descriptors: u64) -> u64 {
    (descriptors / 80).clamp(8, 4_096)
}

/// How many connections of a kind there may be, as a table says it; by default of all and of a client
/// as many as given, and of a network so few that one alone keeps nobody else out.
pub(super) fn bounds(
    table: &str,
    [in_all, per_network, per_client]: [Option<u64>; 3],
    [most, most_per_client]: [u64; 2],
) -> Result<Bounds, Problem> {
    let count = |key: &str, found, default| {
        let count = number(&format!("{table}.{key}"), found, default, 1..=1_000_000)?;
        Ok::<_, Problem>(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let in_all = count("connections", in_all, most)?;
    let per_client =
        count("connections_per_client", per_client, most_per_client.min((most / 4).max(1)))?;
    let share = (in_all / 4).max(per_client);
    let per_network = count("connections_per_network", per_network, share.into())?;
    Ok(Bounds { in_all, per_network, per_client })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_009_connections_to_peers_leave_descriptors_for_allocations_and_for_other_users() {
        for (case, descriptors, allocations, expected) in [
            ("few descriptors", 1_000, None, [60, 15, 15]),
            ("many", 524_288, Some(13_000), [149_486, 128, 256]),
            ("allocations take all of them", 1_000, Some(1_000), [25, 6, 6]),
            ("next to none", 10, None, [1, 1, 1]),
        ] {
            let room = (descriptors / 2 * 4 / 5).max(1);
            let found = file::Limits { allocations, ..file::Limits::default() };
            let limits = limits(&found, room, (descriptors, 2)).unwrap();
            let all = limits.peer_connections_total;
            let derived =
                [all, limits.peer_connections_per_user, limits.peer_connections_per_client];
            assert_eq!(derived, expected, "{case}");
            let strangers = streams(&found, descriptors).unwrap().strangers.in_all;
            let others = u64::from(strangers) + 2 * passages(descriptors);
            let taken = u64::from(limits.allocations + all) * 2 + others;
            assert!(taken < descriptors || allocations.is_some() || descriptors < 20, "{case}");
        }
    }

    #[test]
    fn sec_009_new_peers_of_a_user_and_of_a_client_follow_those_of_an_allocation() {
        for (case, allocation, user, client, expected) in [
            ("nothing is written", None, None, None, [256, 1_024, 2_048]),
            ("of an allocation", Some(10), None, None, [10, 40, 80]),
            ("many", Some(400_000), None, None, [400_000, 1_000_000, 1_000_000]),
            ("all", Some(10), Some(7), Some(3), [10, 7, 3]),
        ] {
            let found = file::Limits {
                new_peers_per_minute: allocation,
                new_peers_per_minute_per_user: user,
                new_peers_per_minute_per_client: client,
                ..file::Limits::default()
            };
            let limits = limits(&found, 400, (1_000, 2)).unwrap();
            let told = [
                limits.new_peers_per_minute,
                limits.new_peers_per_minute_per_user,
                limits.new_peers_per_minute_per_client,
            ];
            assert_eq!(told, expected, "{case}");
        }
    }

    #[test]
    fn what_is_written_is_taken() {
        let found = file::Limits {
            peer_connections_per_user: Some(5),
            peer_connections_per_client: Some(70_000),
            peer_connections_total: Some(6),
            ..file::Limits::default()
        };
        let limits = limits(&found, 400, (1_000, 2)).unwrap();
        let told = (limits.peer_connections_per_user, limits.peer_connections_per_client);
        assert_eq!((told, limits.peer_connections_total), ((5, 70_000), 6));
    }
}
