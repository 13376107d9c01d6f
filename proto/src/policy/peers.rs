//! Which peers may be reached: globally reachable unicast, plus what the configuration names.

use ipnet::IpNet;

/// The peer policy (threat model T1). The built-in deny list holds every range that the IANA
/// special-purpose registries call not globally reachable.
#[derive(Clone, Debug, Default)]
pub struct PeerAcl {
    /// Ranges opened on purpose; beat a denial only when they are the more specific.
    pub allow: Vec<IpNet>,
    /// Ranges closed beyond the built-in list.
    pub deny: Vec<IpNet>,
}
