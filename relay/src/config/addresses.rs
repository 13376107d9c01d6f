//! Addresses judged against this host: listeners, relay addresses, peers.
//!
//! A listener on a wildcard becomes one listener for each address of the host, so that a reply
//! leaves from where the request arrived and a five-tuple names one server address exactly.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use proto::addr::{Family, Side, Transport};
use proto::policy::{Listener, RelayAddress, ranges};

use super::error::Problem;
use super::file;
use crate::sys;

/// Transports a listener may have.
const SERVED: [Transport; 4] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Dtls];

/// The addresses of this host, and those that stand for its networks.
pub(super) struct Host(BTreeSet<IpAddr>, BTreeSet<IpAddr>);

impl Host {
    pub(super) fn look() -> Result<Self, Problem> {
        sys::interfaces().map(|(own, networks)| Self(own, networks)).map_err(|error| {
            Problem::at("", &format!("the addresses of this host cannot be listed: {error}."))
        })
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.0.iter().copied().collect()
    }

    /// Broadcast and network addresses of its networks.
    pub(super) fn broadcasts(&self) -> Vec<IpAddr> {
        self.1.iter().copied().collect()
    }

    /// Whether an interface has exactly this address.
    pub(super) fn is_at(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }

    pub(super) fn has(&self, ip: IpAddr) -> bool {
        // Linux answers on all of 127.0.0.0/8 when it answers on one.
        let loopback = ip.is_ipv4() && ip.is_loopback();
        self.0.contains(&ip)
            || loopback && self.0.iter().any(|own| own.is_ipv4() && own.is_loopback())
    }

    /// Addresses that a wildcard of this family stands for.
    fn behind_wildcard(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        self.0.iter().copied().filter(move |&ip| Family::of(ip) == family && !is_link_local(ip))
    }

    pub(super) fn list(&self) -> String {
        let names: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

/// The value in the file that a listener comes from.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its key.
    pub(super) key: String,
    /// What it says.
    pub(super) address: String,
    /// Balancers in front of it.
    pub(super) proxies: Vec<IpNet>,
}

/// Listeners, and for each the entry it comes from.
pub(super) fn listeners(
    entries: &[file::Listen],
    host: &Host,
) -> Result<(Vec<Listener>, Vec<Entry>), Problem> {
    if entries.is_empty() {
        let why = "missing. Say where clients are served: [[listen]] address = \"0.0.0.0:3478\".";
        return Err(Problem::at("listen", why));
    }
    let mut listeners: Vec<Listener> = Vec::new();
    let mut origins: Vec<Entry> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let key = format!("listen[{index}].address");
        let template = listener(index, entry, host)?;
        let proxies = proxies(index, entry, template.transport)?;
        let local = template.local;
        let ips: Vec<_> = if local.ip().is_unspecified() {
            host.behind_wildcard(Family::of(local.ip())).collect()
        } else {
            vec![local.ip()]
        };
        if ips.is_empty() {
            let why = "this host has no address of that family.";
            return Err(Problem::text(&key, &entry.address, why));
        }
        for ip in ips {
            let local = SocketAddr::new(ip, local.port());
            let same =
                |other: &Listener| other.local == local && other.transport == template.transport;
            if let Some(earlier) = listeners.iter().position(same) {
                let why = format!(
                    "{} serves {local} by {} already. Leave one of the two out.",
                    origins[earlier].key.trim_end_matches(".address"),
                    template.transport.name()
                );
                return Err(Problem::text(&key, &entry.address, &why));
            }
            listeners.push(Listener { local, ..template });
            let (key, proxies) = (key.clone(), proxies.clone());
            origins.push(Entry { key, address: entry.address.clone(), proxies });
        }
    }
    if listeners.len() > usize::from(u16::MAX) {
        return Err(Problem::at("listen", "more than 65,535 addresses."));
    }
    Ok((listeners, origins))
}

/// One entry; a wildcard is still one.
fn listener(index: usize, entry: &file::Listen, host: &Host) -> Result<Listener, Problem> {
    let key = |name: &str| format!("listen[{index}].{name}");
    let found = &entry.address;
    let local: SocketAddr = found.parse().map_err(|_| {
        let why = "not an address with a port. For instance \"0.0.0.0:3478\" or \"[::]:3478\".";
        Problem::text(&key("address"), found, why)
    })?;
    let refuse = |why: &str| Err(Problem::text(&key("address"), found, why));
    if local.port() == 0 {
        return refuse("port 0 would be another one at every start. 3478 is the usual one.");
    }
    if is_link_local(local.ip()) && local.is_ipv6() {
        return refuse("link-local addresses need an interface and reach no further than it.");
    }
    if !local.ip().is_unspecified() && !host.has(local.ip()) {
        return refuse(&format!("not an address of this host, which has {}.", host.list()));
    }
    let transport = match entry.transport.as_deref() {
        None => Transport::Udp,
        Some(name) => SERVED.into_iter().find(|it| it.name() == name).ok_or_else(|| {
            let served = SERVED.map(|it| format!("{:?}", it.name())).join(" and ");
            Problem::text(&key("transport"), name, &format!("this relay serves {served}."))
        })?,
    };
    let side = match entry.side.as_deref() {
        None => Side::External,
        Some(name) => name.parse().map_err(|_| {
            Problem::text(
                &key("side"),
                name,
                "the edge has an \"internal\" and an \"external\" side.",
            )
        })?,
    };
    let advertised = entry
        .advertise
        .as_ref()
        .map(|ip| advertised(&key("advertise"), ip, local.ip()))
        .transpose()?;
    if let (Side::Internal, Some(ip)) = (side, &entry.advertise) {
        let why = "the internal side is reached without a NAT: there must be no NAT between an \
                   edge and its organisation. Leave it out, or make this listener an external one.";
        return Err(Problem::text(&key("advertise"), ip, why));
    }
    Ok(Listener { local, advertised, transport, side, anycast: entry.anycast })
}

/// Balancers that begin with a PROXY header.
fn proxies(
    index: usize,
    entry: &file::Listen,
    transport: Transport,
) -> Result<Vec<IpNet>, Problem> {
    let key = format!("listen[{index}].proxy_protocol_from");
    if !entry.proxy_protocol_from.is_empty() && transport == Transport::Udp {
        let why = "PROXY headers begin connections: \"tcp\" or \"tls\" is the transport for them.";
        return Err(Problem::at(&key, why));
    }
    address_ranges(&key, &entry.proxy_protocol_from)
}

/// Relay addresses; without any, those of the external listeners.
pub(super) fn relays(
    entries: &[file::RelayAddress],
    listeners: &[Listener],
    host: &Host,
) -> Result<Vec<RelayAddress>, Problem> {
    let mut relays: Vec<RelayAddress> = Vec::new();
    if entries.is_empty() {
        for Listener { local, advertised, .. } in
            listeners.iter().filter(|listener| listener.side == Side::External)
        {
            let local = local.ip();
            if !relays.iter().any(|relay| relay.local == local) {
                relays.push(RelayAddress { local, advertised: advertised.unwrap_or(local) });
            }
        }
        if relays.is_empty() {
            let why = "missing, and there is no external listener to take them from. Name an \
                       address of this host: addresses = [{ local = \"192.0.2.1\" }].";
            return Err(Problem::at("relay.addresses", why));
        }
        return Ok(relays);
    }
    for (index, entry) in entries.iter().enumerate() {
        let key = format!("relay.addresses[{index}].local");
        let refuse = |why: &str| Err(Problem::text(&key, &entry.local, why));
        let Ok(local) = entry.local.parse::<IpAddr>() else {
            return refuse("not an IP address. A port does not belong here, see relay.ports.");
        };
        if local.is_unspecified() {
            return refuse("peers must see one address. Name one of this host's.");
        }
        if is_link_local(local) && local.is_ipv6() {
            return refuse("link-local addresses reach no further than their interface.");
        }
        if !host.has(local) {
            return refuse(&format!("not an address of this host, which has {}.", host.list()));
        }
        if relays.iter().any(|relay| relay.local == local) {
            return refuse("named twice.");
        }
        let told = entry.advertise.as_ref().map_or(Ok(local), |ip| {
            advertised(&format!("relay.addresses[{index}].advertise"), ip, local)
        })?;
        relays.push(RelayAddress { local, advertised: told });
    }
    Ok(relays)
}

/// The public side of a 1:1 NAT.
fn advertised(key: &str, found: &str, local: IpAddr) -> Result<IpAddr, Problem> {
    let refuse = |why: &str| Err(Problem::text(key, found, why));
    let Ok(ip) = found.parse::<IpAddr>() else {
        return refuse("not an IP address. Give the public side of the NAT, without a port.");
    };
    if ip.is_unspecified() || ip.is_multicast() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
    {
        return refuse("nobody can reach this. Give the public side of the NAT.");
    }
    if ip.is_loopback() && !local.is_loopback() {
        return refuse(
            "a loopback address; nobody outside this host can reach it. Give the public side of \
             the NAT.",
        );
    }
    if Family::of(ip) != Family::of(local) {
        return refuse("not of the family of the address it stands for: a 1:1 NAT keeps that.");
    }
    Ok(ip)
}

/// Ranges of addresses, or single ones.
pub(super) fn address_ranges(key: &str, found: &[String]) -> Result<Vec<IpNet>, Problem> {
    let range = |(index, text): (usize, &String)| {
        ranges::addresses(text).ok_or_else(|| {
            let why = "not a range of addresses. For instance \"10.0.0.0/8\" or \"fd00::/8\".";
            Problem::text(&format!("{key}[{index}]"), text, why)
        })
    };
    found.iter().enumerate().map(range).collect()
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
