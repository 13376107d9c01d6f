//! How much of people's addresses is shown: in the log, and in usage records.

use std::net::{IpAddr, SocketAddr};

use proto::turn::surroundings;

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Address and port.
    Full,
    /// The network around: an IPv4 /24, or an IPv6 /48.
    Network,
    /// Nothing.
    Nothing,
}

impl Shown {
    /// An address as it is told.
    pub(crate) fn of(self, address: SocketAddr) -> Option<String> {
        match self {
            Self::Full => Some(address.to_string()),
            Self::Network | Self::Nothing => self.of_host(address.ip()),
        }
    }

    /// The same without a port.
    pub(crate) fn of_host(self, host: IpAddr) -> Option<String> {
        match self {
            Self::Full => Some(host.to_string()),
            Self::Network => {
                let network = surroundings(host.to_canonical());
                Some(format!("{network}/{}", if network.is_ipv4() { 24 } else { 48 }))
            }
            Self::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_as_far_as_the_operator_wants() {
        let v4: SocketAddr = "192.0.2.77:4000".parse().unwrap();
        let v6: SocketAddr = "[2001:db8:1:2::3]:4000".parse().unwrap();
        assert_eq!(Shown::Full.of(v6).unwrap(), "[2001:db8:1:2::3]:4000");
        assert_eq!(Shown::Network.of(v4).unwrap(), "192.0.2.0/24");
        assert_eq!(Shown::Network.of(v6).unwrap(), "2001:db8:1::/48");
        assert_eq!(Shown::Nothing.of(v4), None);
    }
}
