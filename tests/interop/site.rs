//! The site every case plays at: a client, the relay's host in a DMZ, and a peer.
//!
//! ```text
//!   client ── internal ── relay ── external ── peer
//!   10.25.1.2         10.25.1.1  10.25.2.1   10.25.2.2
//!   fd25:1::2         fd25:1::1  fd25:2::1   fd25:2::2
//! ```
//!
//! The relay's host does not route: what reaches the peer came through the relay.

use crate::netns::{Namespace, cable};

/// The relay's address on the client's side.
pub(crate) const INTERNAL: &str = "10.25.1.1";
/// The same, IPv6.
pub(crate) const INTERNAL6: &str = "fd25:1::1";
/// The relay's address on the peer's side.
pub(crate) const EXTERNAL: &str = "10.25.2.1";
/// The same, IPv6.
pub(crate) const EXTERNAL6: &str = "fd25:2::1";
/// The peer.
pub(crate) const PEER: &str = "10.25.2.2";
/// The same, IPv6.
pub(crate) const PEER6: &str = "fd25:2::2";

/// Three machines and two cables.
#[derive(Debug)]
pub(crate) struct Site {
    /// Knows only the relay's internal side.
    pub(crate) client: Namespace,
    /// The DMZ host.
    pub(crate) relay: Namespace,
    /// Knows only the relay's external side.
    pub(crate) peer: Namespace,
}

impl Site {
    /// Builds the site.
    pub(crate) fn new() -> Self {
        let site = Self {
            client: Namespace::new("client"),
            relay: Namespace::new("relay"),
            peer: Namespace::new("peer"),
        };
        cable((&site.client, "relay"), (&site.relay, "internal"));
        site.client.address("relay", &["10.25.1.2/24", "fd25:1::2/64"]);
        site.relay.address("internal", &["10.25.1.1/24", "fd25:1::1/64"]);
        site.join_peer();
        site
    }

    /// Lays the cable to the peer.
    pub(crate) fn join_peer(&self) {
        cable((&self.peer, "relay"), (&self.relay, "external"));
        self.relay.address("external", &["10.25.2.1/24", "fd25:2::1/64"]);
        self.peer.address("relay", &["10.25.2.2/24", "fd25:2::2/64"]);
    }
}
