//! Addresses and ports of this host that are free to use.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Addresses that stand for "somewhere else": connecting a UDP socket to them only asks the
/// routing table, nothing is sent. From the documentation ranges (RFC 5737, RFC 3849).
const ELSEWHERE: [&str; 2] = ["198.51.100.1:9", "[2001:db8::1]:9"];

/// How many ports after an occupied one are tried.
const NEXT_PORTS: u16 = 100;

/// The address this host uses to speak to other hosts; where it has no route to any, the first
/// that an interface has. `None` if there is a loopback only. IPv4 if there is one.
pub(crate) fn primary_address() -> Option<IpAddr> {
    let routed = ELSEWHERE.iter().filter_map(|other| source_toward(other.parse().ok()?).ok());
    routed.chain(interface_addresses()).find(|ip| reaches_beyond(*ip))
}

/// Whether other hosts can know an address.
fn reaches_beyond(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    }
}

/// Addresses of all interfaces that are up, IPv4 first.
fn interface_addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = getifaddrs()
        .into_iter()
        .flatten()
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

fn source_toward(other: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match other {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(other)?;
    Ok(socket.local_addr()?.ip())
}

/// A port on which all of these addresses are free for UDP: the wanted one if it is, else, unless
/// the caller insists, one of the next.
pub(crate) fn udp_port(addresses: &[IpAddr], wanted: u16, insist: bool) -> io::Result<u16> {
    nearest(wanted, insist, |port| {
        let bound = addresses.iter().map(|ip| UdpSocket::bind((*ip, port)));
        bound.collect::<io::Result<Vec<_>>>().map(|_| port)
    })
}

/// A TCP socket that listens on the wanted address if that is free, else, unless the caller
/// insists, on one of the next ports.
pub(crate) fn tcp_listener(wanted: SocketAddr, insist: bool) -> io::Result<TcpListener> {
    nearest(wanted.port(), insist, |port| TcpListener::bind((wanted.ip(), port)))
}

/// Tries the wanted port, and the next ones if it is occupied or not for everybody.
fn nearest<T>(wanted: u16, insist: bool, take: impl Fn(u16) -> io::Result<T>) -> io::Result<T> {
    take(wanted).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied if !insist => {
            (1..=NEXT_PORTS).find_map(|step| take(wanted.checked_add(step)?).ok()).ok_or(error)
        }
        _ => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn an_occupied_port_is_replaced_unless_it_was_insisted_on() {
        let taken = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let other = udp_port(&[LOOPBACK], port, false).unwrap();
        assert!(other > port, "{other} instead of {port}");
        assert_eq!(udp_port(&[LOOPBACK], port, true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        assert_eq!(udp_port(&[LOOPBACK], port, false).unwrap(), port);

        let taken = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let wanted = taken.local_addr().unwrap();
        let other = tcp_listener(wanted, false).unwrap().local_addr().unwrap();
        assert_eq!(other.ip(), wanted.ip());
        assert_ne!(other.port(), wanted.port());
        assert_eq!(tcp_listener(wanted, true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_primary_address_belongs_to_this_host_and_other_hosts_can_know_it() {
        let known: Vec<_> =
            interface_addresses().into_iter().filter(|ip| reaches_beyond(*ip)).collect();
        assert_eq!(primary_address().is_some(), !known.is_empty(), "{known:?}");
        assert!(primary_address().is_none_or(|ip| known.contains(&ip)), "{known:?}");
    }
}
