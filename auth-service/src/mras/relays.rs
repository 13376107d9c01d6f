//! The relays that clients are told, by where they are.

use std::net::IpAddr;

use crate::mras::request::{Location, Route};

/// A relay, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relay {
    pub(crate) location: Location,
    /// Of the pool; a DNS name or an address.
    pub(crate) host_name: String,
    /// Of this one relay.
    pub(crate) direct_ip: Option<IpAddr>,
    pub(crate) udp_port: Option<u16>,
    pub(crate) tcp_port: Option<u16>,
}

/// A relay as one client is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) location: Location,
    pub(crate) host: Host,
    pub(crate) udp_port: Option<u16>,
    pub(crate) tcp_port: Option<u16>,
}

/// `hostName` or `directIPAddress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

/// The relays of a location, or of all (MRAS-30), by name or by address (MRAS-31); each once.
pub(crate) fn choose(relays: &[Relay], location: Option<Location>, route: Route) -> Vec<Told> {
    let mut told = Vec::new();
    for relay in relays {
        let host = match route {
            Route::LoadBalanced => Some(Host::Name(relay.host_name.clone())),
            Route::DirectIp => relay.direct_ip.map(Host::Address),
        };
        let Relay { location: own, udp_port, tcp_port, .. } = *relay;
        let Some(host) = host.filter(|_| location.is_none_or(|wanted| wanted == own)) else {
            continue;
        };
        let one = Told { location: own, host, udp_port, tcp_port };
        if !told.contains(&one) {
            told.push(one);
        }
    }
    told
}
