//! The URIs of RFC 7064 and RFC 7065: which server a tool shall speak to, and how.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use client::Transport;
use client::transport::{Dtls, Tls, Trust};

use crate::cli::TrustArgs;

/// Default port of `stun:` and `turn:` (RFC 8489 §18.6, RFC 8656 §20).
const DEFAULT_PORT: u16 = 3478;
/// Default port of `stuns:` and `turns:`.
const DEFAULT_TLS_PORT: u16 = 5349;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host name or address, without brackets.
    pub(crate) host: String,
    /// UDP or TCP port.
    pub(crate) port: u16,
    /// Whether it is a TURN server; otherwise Binding alone can be asked for.
    pub(crate) turn: bool,
    /// How messages travel.
    pub(crate) carrier: Carrier,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// As datagrams.
    Udp,
    /// On a connection.
    Tcp,
    /// On a connection inside TLS.
    Tls,
    /// As datagrams inside DTLS.
    Dtls,
}

impl Target {
    /// Reads a URI; the error says what was found and what would be right.
    pub(crate) fn parse(uri: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{uri}: {what}. Give turn:HOST[:PORT][?transport=udp|tcp], the same with turns: (udp is \
                 DTLS, tcp is TLS), stun:HOST[:PORT] or stuns:HOST[:PORT], as in turn:turn.example.org:3478"
            )
        };
        let (scheme, rest) = uri.split_once(':').ok_or_else(|| wrong("no scheme"))?;
        let (turn, secure) = match scheme.to_ascii_lowercase().as_str() {
            "turn" => (true, false),
            "stun" => (false, false),
            "turns" => (true, true),
            "stuns" => (false, true),
            _ => return Err(wrong("not a turn:, turns:, stun: or stuns: URI")),
        };
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query.to_ascii_lowercase())),
            None => (rest, None),
        };
        let carrier = match (secure, query.as_deref()) {
            (_, Some(_)) if !turn => return Err(wrong("a stun: URI names no transport")),
            (false, None | Some("transport=udp")) => Carrier::Udp,
            (false, Some("transport=tcp")) => Carrier::Tcp,
            (true, None | Some("transport=tcp")) => Carrier::Tls,
            (true, Some("transport=udp")) => Carrier::Dtls,
            _ => return Err(wrong("the transport is neither udp nor tcp")),
        };
        let (host, port) = split_port(authority).ok_or_else(|| wrong("no host"))?;
        let port = match port {
            None if secure => DEFAULT_TLS_PORT,
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(wrong("the port is not a number from 1 to 65535")),
            },
        };
        Ok(Self { host: host.to_owned(), port, turn, carrier })
    }

    /// The transport, with the certificates that may be shown.
    pub(crate) fn transport(&self, trust: &TrustArgs) -> io::Result<Transport> {
        let trust = match (&trust.ca, trust.insecure) {
            (_, true) => Trust::Anything,
            (Some(file), false) => Trust::Authorities(file.clone()),
            (None, false) => Trust::System,
        };
        Ok(match self.carrier {
            Carrier::Udp => Transport::Udp,
            Carrier::Tcp => Transport::Tcp,
            Carrier::Tls => Transport::Tls(Tls::new(&self.host, &trust, &["stun.turn"])?),
            Carrier::Dtls => Transport::Dtls(Dtls::new(&self.host, &trust)?),
        })
    }

    /// The first address of the host.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, String> {
        let unknown = |why: String| {
            format!("{}: {why}. Check the name, or give the address itself", self.host)
        };
        (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| unknown(error.to_string()))?
            .next()
            .ok_or_else(|| unknown("the name has no address".to_owned()))
    }
}

/// Host and port text of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match rest {
        "" => None,
        _ => Some(rest.strip_prefix(':')?),
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disc_002_uris_give_host_port_kind_and_transport() {
        use Carrier::{Dtls, Tcp, Tls, Udp};
        for (uri, host, port, turn, carrier) in [
            ("turn:relay.example", "relay.example", 3478, true, Udp),
            ("turn:relay.example:5000", "relay.example", 5000, true, Udp),
            ("TURN:relay.example:5000?transport=udp", "relay.example", 5000, true, Udp),
            ("turn:relay.example?transport=tcp", "relay.example", 3478, true, Tcp),
            ("turns:relay.example", "relay.example", 5349, true, Tls),
            ("turns:relay.example:443?transport=TCP", "relay.example", 443, true, Tls),
            ("turns:relay.example?transport=udp", "relay.example", 5349, true, Dtls),
            ("stun:192.0.2.1:1", "192.0.2.1", 1, false, Udp),
            ("stuns:192.0.2.1", "192.0.2.1", 5349, false, Tls),
            ("turn:[2001:db8::1]", "2001:db8::1", 3478, true, Udp),
            ("turn:[2001:db8::1]:99?transport=UDP", "2001:db8::1", 99, true, Udp),
        ] {
            let expected = Target { host: host.to_owned(), port, turn, carrier };
            assert_eq!(Target::parse(uri), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn what_cannot_be_spoken_to_is_said_with_what_would_be_right() {
        for (uri, found) in [
            ("relay.example", "no scheme"),
            ("http:relay.example", "not a turn:, turns:, stun: or stuns: URI"),
            ("turns:relay.example?transport=sctp", "neither udp nor tcp"),
            ("stun:relay.example?transport=udp", "names no transport"),
            ("turn:", "no host"),
            ("turn:[2001:db8::1", "no host"),
            ("turn:relay.example:0", "port"),
            ("turn:relay.example:70000", "port"),
            ("turn:[::1]x", "no host"),
        ] {
            let error = Target::parse(uri).unwrap_err();
            assert!(error.contains(found) && error.contains("turn:HOST"), "{uri}: {error}");
        }
    }
}
