//! The peer policy: ranges and ports, per side, NAT64, the pool's other relays.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv6Net};
use proto::addr::Family;
use proto::policy::embedded::NAT64_LENGTHS;
use proto::policy::peers::Rules;
use proto::policy::{PeerAcl, PoolRelay, RelayAddress, ranges};

use super::addresses::{Host, address_ranges};
use super::error::Problem;
use super::file;

/// Ranges opened and closed on purpose.
pub(super) fn peers(found: &file::Peers) -> Result<PeerAcl, Problem> {
    let file::Peers { allow, deny, allow_ports, deny_ports, .. } = found;
    Ok(PeerAcl {
        both: rules("peers", [allow, deny], [allow_ports, deny_ports])?,
        // In the order of `Side`.
        sides: [
            side_rules("peers.internal", &found.internal)?,
            side_rules("peers.external", &found.external)?,
        ],
        nat64: nat64(&found.nat64)?,
        hairpins: found.hairpins.unwrap_or(true),
    })
}

fn side_rules(key: &str, found: &file::PeerRules) -> Result<Rules, Problem> {
    let file::PeerRules { allow, deny, allow_ports, deny_ports } = found;
    rules(key, [allow, deny], [allow_ports, deny_ports])
}

fn rules(
    key: &str,
    [allow, deny]: [&[String]; 2],
    [allow_ports, deny_ports]: [&[String]; 2],
) -> Result<Rules, Problem> {
    Ok(Rules {
        allow: address_ranges(&format!("{key}.allow"), allow)?,
        deny: address_ranges(&format!("{key}.deny"), deny)?,
        allow_ports: port_ranges(&format!("{key}.allow_ports"), allow_ports)?,
        deny_ports: port_ranges(&format!("{key}.deny_ports"), deny_ports)?,
    })
}

fn port_ranges(key: &str, found: &[String]) -> Result<Vec<RangeInclusive<u16>>, Problem> {
    let range = |(index, text): (usize, &String)| {
        ranges::ports(text).ok_or_else(|| {
            let why = "not a port or a range of ports. For instance \"53\" or \"0-1023\".";
            Problem::text(&format!("{key}[{index}]"), text, why)
        })
    };
    found.iter().enumerate().map(range).collect()
}

/// Prefixes behind which IPv4 lies (RFC 6052 §2.2).
fn nat64(found: &[String]) -> Result<Vec<Ipv6Net>, Problem> {
    let prefix = |(index, text): (usize, &String)| match text.parse::<IpNet>() {
        Ok(IpNet::V6(prefix)) if NAT64_LENGTHS.contains(&prefix.prefix_len()) => Ok(prefix.trunc()),
        _ => {
            let why = "not a NAT64 prefix: an IPv6 range of 32, 40, 48, 56, 64 or 96 bits. For \
                       instance \"2001:db8:64::/96\".";
            Err(Problem::text(&format!("peers.nat64[{index}]"), text, why))
        }
    };
    found.iter().enumerate().map(prefix).collect()
}

/// The pool's other relays.
pub(super) fn pool(
    found: &[file::PoolRelay],
    ports: &RangeInclusive<u16>,
    relays: &[RelayAddress],
    host: &Host,
) -> Result<Vec<PoolRelay>, Problem> {
    let mut pool: Vec<PoolRelay> = Vec::new();
    for (index, entry) in found.iter().enumerate() {
        let key = |name: &str| format!("peers.pool[{index}].{name}");
        let ours = |ip: IpAddr| {
            host.is_at(ip) || relays.iter().any(|relay| relay.local == ip || relay.advertised == ip)
        };
        let address = |name: &str, text: &str| {
            let refuse = |why: &str| Err(Problem::text(&key(name), text, why));
            let Ok(ip) = text.parse::<IpAddr>() else {
                return refuse("not an IP address. Give a relay address of another relay.");
            };
            if ip.is_unspecified() || ip.is_multicast() {
                return refuse("no relay can be there.");
            }
            if ours(ip) {
                return refuse("this relay itself; between its own clients peers.hairpins rules.");
            }
            if pool.iter().any(|relay| relay.local == ip || relay.advertised == ip) {
                return refuse("named twice.");
            }
            Ok(ip)
        };
        let advertised = address("address", &entry.address)?;
        let local = entry.local.as_deref().map_or(Ok(advertised), |ip| address("local", ip))?;
        if Family::of(local) != Family::of(advertised) {
            let why = "not of the family of the address it stands for: a 1:1 NAT keeps that.";
            return Err(Problem::new(&key("local"), &format_args!("\"{local}\""), why));
        }
        let ports = match &entry.ports {
            None => ports.clone(),
            Some(text) => ranges::ports(text).ok_or_else(|| {
                let why = "not a range of ports. Write that relay's relay.ports, for instance \
                           \"50000-59999\".";
                Problem::text(&key("ports"), text, why)
            })?,
        };
        pool.push(PoolRelay { local, advertised, ports });
    }
    Ok(pool)
}
