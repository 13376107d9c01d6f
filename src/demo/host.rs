//! Addresses and ports of this host that are free to use.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Addresses that stand for "somewhere else": connecting a UDP socket to them only asks the
/// routing table, nothing is sent. From the documentation ranges (RFC 5737, RFC 3849).
const ELSEWHERE: [&str; 2] = ["198.51.100.1:9", "[2001:db8::1]:9"];

/// The address this host uses to speak to other hosts; `None` if it has a loopback only.
/// IPv4 if there is one.
pub(crate) fn primary_address() -> Option<IpAddr> {
    ELSEWHERE.iter().filter_map(|other| source_toward(other.parse().ok()?).ok()).find(|ip| {
        !ip.is_loopback()
            && !ip.is_unspecified()
            && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
    })
}

fn source_toward(other: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match other {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(other)?;
    Ok(socket.local_addr()?.ip())
}

/// A port on which all of these addresses are free for UDP: the wanted one if it is, else, unless
/// the caller insists, another.
pub(crate) fn udp_port(addresses: &[IpAddr], wanted: u16, insist: bool) -> io::Result<u16> {
    let bind = |port: u16| -> io::Result<Vec<UdpSocket>> {
        addresses.iter().map(|ip| UdpSocket::bind((*ip, port))).collect()
    };
    match bind(wanted) {
        Ok(sockets) => sockets.first().map_or(Ok(wanted), |s| Ok(s.local_addr()?.port())),
        Err(error) if insist => Err(error),
        Err(error) => another(error, || {
            let ip = addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into());
            let port = UdpSocket::bind((ip, 0))?.local_addr()?.port();
            bind(port).map(|_| port)
        }),
    }
}

/// A TCP socket that listens on the wanted address if that is free, else, unless the caller
/// insists, on another port of it.
pub(crate) fn tcp_listener(wanted: SocketAddr, insist: bool) -> io::Result<TcpListener> {
    match TcpListener::bind(wanted) {
        Ok(listener) => Ok(listener),
        Err(error) if insist => Err(error),
        Err(error) => another(error, || TcpListener::bind((wanted.ip(), 0))),
    }
}

/// Tries a few times to find another port, if the first was occupied or forbidden.
fn another<T>(error: io::Error, find: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => {
            (0..16).find_map(|_| find().ok()).ok_or(error)
        }
        _ => Err(error),
    }
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
        assert_ne!(other, port);
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
    fn the_primary_address_belongs_to_this_host_and_is_no_loopback() {
        if let Some(ip) = primary_address() {
            assert!(!ip.is_loopback());
            UdpSocket::bind((ip, 0)).unwrap();
        }
    }
}
