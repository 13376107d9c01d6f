//! What a credential itself grants, sealed by the pool key: never more than the configuration.
//!
//! A relay enforces both, so a credential can only take away.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::policy::bandwidth::Rates;

/// Limits that a credential carries. They bind its user: all allocations together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealedLimits {
    /// Allocations at a time.
    pub allocations: Option<u32>,
    /// Payload, each way.
    pub rates: Rates,
}

/// The only peers that a credential is good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedPeers {
    /// Ranges they lie in; empty: all that the relay allows.
    pub ranges: Vec<IpNet>,
    /// Ports they have; empty: all that the relay allows.
    pub ports: Vec<RangeInclusive<u16>>,
}

impl SealedPeers {
    /// Most ranges a credential carries.
    pub const MOST_RANGES: usize = 16;

    /// Most ranges of ports a credential carries.
    pub const MOST_PORTS: usize = 8;

    /// Whether the credential leaves the choice to the relay.
    pub fn is_everybody(&self) -> bool {
        self.ranges.is_empty() && self.ports.is_empty()
    }

    /// Whether an address is in reach.
    pub fn reaches(&self, ip: IpAddr) -> bool {
        self.ranges.is_empty() || self.ranges.iter().any(|range| range.contains(&ip))
    }

    /// Whether a port is.
    pub fn opens(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(&port))
    }
}
