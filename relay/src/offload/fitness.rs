//! What can be known of an interface before a program is tried on it.

use std::io;

use nix::net::if_::if_nametoindex;

use super::netlink::{Netlink, driver_features};

/// `NETDEV_XDP_ACT_BASIC`: the driver runs programs, drops, passes and sends back.
const RUNS_PROGRAMS: u64 = 1;

/// `NETDEV_XDP_ACT_XSK_ZEROCOPY`: it moves frames of rings without a copy.
const MOVES_FRAMES: u64 = 8;

/// How an interface suits the kernel program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fitness {
    /// Whether its driver runs programs; `None` if the kernel does not say.
    pub(crate) native: Option<bool>,
    /// Whether it is one end of a virtual cable.
    pub(crate) cable: bool,
    /// Whether a program stands there.
    pub(crate) taken: bool,
    /// Whether its driver reads and writes the frames of rings where they lie.
    pub(crate) zero_copy: bool,
}

/// Looks at an interface, and changes nothing.
pub(crate) fn fitness(name: &str) -> io::Result<Fitness> {
    let ifindex = if_nametoindex(name)?;
    let mut netlink = Netlink::open()?;
    let features = driver_features(ifindex)?;
    let can = |what| features.map(|bits| bits & what != 0);
    Ok(Fitness {
        native: can(RUNS_PROGRAMS),
        zero_copy: can(MOVES_FRAMES).unwrap_or_default(),
        cable: netlink.link(ifindex)?.is_some_and(|link| link.is_cable),
        taken: netlink.has_program(ifindex)?,
    })
}
