//! Socket addresses as the kernel spells them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::length;

/// Room for a `sockaddr_in` or a `sockaddr_in6`, whose leading bytes are: family (2, host
/// order), port (2, network order), then for IPv4 the address (4), for IPv6 flow information
/// (4), the address (16) and the scope (4).
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name([u8; Name::LENGTH]);

impl Name {
    /// Bytes of the longer form.
    pub(super) const LENGTH: usize = size_of::<libc::sockaddr_in6>();

    /// The families, as wide as they are stored.
    #[expect(clippy::cast_possible_truncation, reason = "families are below 50")]
    const INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
    #[expect(clippy::cast_possible_truncation, reason = "families are below 50")]
    const INET6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;

    /// Nobody's address.
    pub(super) const EMPTY: Self = Self([0; Self::LENGTH]);

    /// The kernel's form of an address, and its length.
    pub(super) fn of(addr: SocketAddr) -> (Self, libc::socklen_t) {
        let mut name = Self::EMPTY;
        let bytes = &mut name.0;
        bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        let (family, len) = match addr.ip() {
            IpAddr::V4(ip) => {
                bytes[4..8].copy_from_slice(&ip.octets());
                (Self::INET, size_of::<libc::sockaddr_in>())
            }
            IpAddr::V6(ip) => {
                bytes[8..24].copy_from_slice(&ip.octets());
                (Self::INET6, size_of::<libc::sockaddr_in6>())
            }
        };
        bytes[..2].copy_from_slice(&family.to_ne_bytes());
        (name, length(len))
    }

    /// What the kernel wrote elsewhere; bytes behind the longer form are left out.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let mut name = Self::EMPTY;
        name.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        name
    }

    /// The address, if the kernel wrote one.
    pub(super) fn read(&self) -> Option<SocketAddr> {
        let bytes = &self.0;
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let ip = match libc::sa_family_t::from_ne_bytes([bytes[0], bytes[1]]) {
            Self::INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[4..8]).ok()?)),
            Self::INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[8..24]).ok()?)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for addr in ["192.0.2.1:3478", "[2001:db8::1:2]:65535", "0.0.0.0:0", "[::]:1"] {
            let addr = addr.parse::<SocketAddr>().unwrap();
            assert_eq!(Name::of(addr).0.read(), Some(addr));
        }
        assert_eq!(Name::EMPTY.read(), None);
    }
}
