//! NAT behaviour discovery: the two addresses and two ports it needs become four listeners.
//!
//! The operator names one listener and the address and port that differ from it; whichever of the
//! four places is no listener yet becomes one, after the model of the first.

use std::net::{IpAddr, SocketAddr};

use proto::addr::{Family, ListenerId, Transport};
use proto::policy::{Corners, Listener};

use super::addresses::{Entry, Host};
use super::error::Problem;
use super::file;

/// The corners of every table, and the listeners they lack, behind the others.
pub(super) fn corners(
    found: &[file::NatDiscovery],
    listeners: &mut Vec<Listener>,
    entries: &mut Vec<Entry>,
    host: &Host,
) -> Result<Vec<Corners>, Problem> {
    let configured = listeners.clone();
    let mut all: Vec<Corners> = Vec::new();
    for (index, table) in found.iter().enumerate() {
        let key = |name: &str| format!("features.nat_discovery[{index}].{name}");
        let alternate = address(&key("alternate"), &table.alternate, host)?;
        let primary = match &table.primary {
            Some(text) => named(&key("primary"), text, &configured)?,
            None => obvious(&key("primary"), alternate, &configured)?,
        };
        differ(&key("alternate"), &table.alternate, primary.local, alternate)?;
        let hosts = [primary.local.ip(), alternate.ip()];
        let ports = [primary.local.port(), alternate.port()];
        let entry =
            Entry { key: key("alternate"), address: table.alternate.clone(), proxies: Vec::new() };
        let corners = Corners::new(hosts.map(|ip| {
            ports.map(|port| corner(SocketAddr::new(ip, port), primary, &entry, listeners, entries))
        }));
        let taken = |corner: &ListenerId| all.iter().any(|other| other.at(*corner).is_some());
        if corners.listeners().iter().any(taken) {
            let why = "shares a place with another table. Each needs four of its own.";
            return Err(Problem::text(&key("alternate"), &table.alternate, why));
        }
        all.push(corners);
    }
    Ok(all)
}

/// The listener at a place, which is made if it is not there.
fn corner(
    at: SocketAddr,
    primary: Listener,
    entry: &Entry,
    listeners: &mut Vec<Listener>,
    entries: &mut Vec<Entry>,
) -> ListenerId {
    let same = |it: &Listener| it.local == at && it.transport == Transport::Udp;
    let index = listeners.iter().position(same).unwrap_or_else(|| {
        let advertised = name_outside(at.ip(), listeners);
        listeners.push(Listener { local: at, advertised, ..primary });
        entries.push(entry.clone());
        listeners.len() - 1
    });
    ListenerId(u16::try_from(index).unwrap_or(u16::MAX))
}

/// What another listener of this address is called outside a NAT.
fn name_outside(ip: IpAddr, listeners: &[Listener]) -> Option<IpAddr> {
    listeners.iter().find(|it| it.local.ip() == ip).and_then(|it| it.advertised)
}

/// The second address and port.
fn address(key: &str, found: &str, host: &Host) -> Result<SocketAddr, Problem> {
    let refuse = |why: &str| Err(Problem::text(key, found, why));
    let Ok(at) = found.parse::<SocketAddr>() else {
        return refuse("not an address with a port. For instance \"203.0.113.2:3479\".");
    };
    if at.port() == 0 {
        return refuse("port 0 would be another one at every start. 3479 is the usual one.");
    }
    if at.ip().is_unspecified() || !host.has(at.ip()) {
        return refuse(&format!("not an address of this host, which has {}.", host.list()));
    }
    Ok(at)
}

/// The listener that the operator named.
fn named(key: &str, found: &str, listeners: &[Listener]) -> Result<Listener, Problem> {
    let at = found.parse::<SocketAddr>().ok();
    let same = |it: &&Listener| Some(it.local) == at && it.transport == Transport::Udp;
    listeners.iter().find(same).copied().ok_or_else(|| {
        let why = "no UDP listener of [[listen]]. Name one by its address and port.";
        Problem::text(key, found, why)
    })
}

/// The only listener that can be meant.
fn obvious(key: &str, alternate: SocketAddr, listeners: &[Listener]) -> Result<Listener, Problem> {
    let fits = |it: &&Listener| {
        it.transport == Transport::Udp
            && Family::of(it.local.ip()) == Family::of(alternate.ip())
            && it.local.ip() != alternate.ip()
            && it.local.port() != alternate.port()
    };
    let mut fitting = listeners.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(*only),
        (None, _) => {
            let why = "missing, and no UDP listener differs from `alternate` in address and port. \
                       Discovery needs two addresses of this host with two ports each.";
            Err(Problem::at(key, why))
        }
        (Some(one), Some(other)) => {
            let why = format!(
                "missing, and {}, {} and perhaps more could be meant. Name one.",
                one.local, other.local
            );
            Err(Problem::at(key, &why))
        }
    }
}

/// Two places that make four: of one family, different in host and in port.
fn differ(
    key: &str,
    found: &str,
    primary: SocketAddr,
    alternate: SocketAddr,
) -> Result<(), Problem> {
    let why = if Family::of(primary.ip()) != Family::of(alternate.ip()) {
        "not of the family of `primary`"
    } else if primary.ip() == alternate.ip() {
        "has the address of `primary`"
    } else if primary.port() == alternate.port() {
        "has the port of `primary`"
    } else {
        return Ok(());
    };
    let why = format!("{why} ({primary}); it must differ from it in address and in port.");
    Err(Problem::text(key, found, &why))
}
