//! The URIs of RFC 7064 and RFC 7065, as far as a probe over UDP understands them.

use std::net::{SocketAddr, ToSocketAddrs};

/// Default port of `stun:` and `turn:` (RFC 8489 §18.6, RFC 8656 §20).
const DEFAULT_PORT: u16 = 3478;

/// What to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Host name or address, without brackets.
    pub(super) host: String,
    /// UDP port.
    pub(super) port: u16,
    /// Whether it is a TURN server; otherwise Binding alone is tried.
    pub(super) turn: bool,
}

impl Target {
    /// Reads a URI; the error says what was found and what would be right.
    pub(super) fn parse(uri: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{uri}: {what}. Give turn:HOST[:PORT][?transport=udp] or stun:HOST[:PORT], \
                 as in turn:turn.example.org:3478?transport=udp"
            )
        };
        let (scheme, rest) = uri.split_once(':').ok_or_else(|| wrong("no scheme"))?;
        let turn = match scheme.to_ascii_lowercase().as_str() {
            "turn" => true,
            "stun" => false,
            "turns" | "stuns" => return Err(wrong("TLS cannot be probed yet, only UDP")),
            _ => return Err(wrong("not a turn: or stun: URI")),
        };
        let (authority, query) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
        if !query.eq_ignore_ascii_case("transport=udp") {
            return Err(wrong("only transport=udp can be probed yet"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| wrong("no host"))?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(wrong("the port is not a number from 1 to 65535")),
            },
        };
        Ok(Self { host: host.to_owned(), port, turn })
    }

    /// The first address of the host.
    pub(super) fn resolve(&self) -> Result<SocketAddr, String> {
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
    fn uris_give_host_port_and_kind() {
        for (uri, host, port, turn) in [
            ("turn:relay.example", "relay.example", 3478, true),
            ("turn:relay.example:5000", "relay.example", 5000, true),
            ("TURN:relay.example:5000?transport=udp", "relay.example", 5000, true),
            ("stun:192.0.2.1:1", "192.0.2.1", 1, false),
            ("turn:[2001:db8::1]", "2001:db8::1", 3478, true),
            ("turn:[2001:db8::1]:99?transport=UDP", "2001:db8::1", 99, true),
        ] {
            let expected = Target { host: host.to_owned(), port, turn };
            assert_eq!(Target::parse(uri), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn what_cannot_be_probed_is_said_with_what_would_be_right() {
        for (uri, found) in [
            ("relay.example", "no scheme"),
            ("http:relay.example", "not a turn: or stun: URI"),
            ("turns:relay.example", "TLS"),
            ("turn:relay.example?transport=tcp", "transport=udp"),
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
