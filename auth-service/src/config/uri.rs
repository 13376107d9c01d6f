//! TURN URIs (RFC 7065): the grammar of what is handed to clients.

use std::net::{IpAddr, Ipv6Addr};

/// Checks a URI; the error says what would be right.
///
/// RFC 7065 §3.1 and RFC 7350 §4.6.1: `turn:` over UDP or TCP, `turns:` over TLS or DTLS, an
/// IPv6 literal in brackets. A `turns:` URI needs a DNS name, because the certificate is checked
/// against it.
pub(super) fn check(uri: &str) -> Result<(), &'static str> {
    let (scheme, rest) = uri.split_once(':').ok_or(FORM)?;
    let secure = match scheme {
        "turn" => false,
        "turns" => true,
        _ => return Err("the scheme must be turn: or turns:, in lower case"),
    };
    let (address, query) = rest.split_once('?').map_or((rest, None), |(a, q)| (a, Some(q)));
    if !matches!(query, None | Some("transport=udp" | "transport=tcp")) {
        return Err("after ? only transport=udp or transport=tcp may follow");
    }
    let (host, port) = split_port(address)?;
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err("the port must be a number from 1 to 65535");
    }
    match host.parse::<IpAddr>() {
        Ok(_) if secure => Err("turns: needs a DNS name: the certificate is checked against it"),
        Ok(_) => Ok(()),
        Err(_) if is_dns_name(host) => Ok(()),
        Err(_) => Err("the host must be a DNS name or an address, IPv6 in brackets"),
    }
}

/// What a URI looks like.
const FORM: &str = "must look like turn:turn.example.org:3478?transport=udp";

/// Host and port, brackets of an IPv6 literal taken off.
fn split_port(address: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
        host.parse::<Ipv6Addr>().map_err(|_| "only an IPv6 address stands in brackets")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(FORM),
        };
    }
    match address.split_once(':') {
        Some((_, port)) if port.contains(':') => Err("an IPv6 address stands in brackets"),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((address, None)),
    }
}

/// Letters, digits, hyphens and dots in labels of 1 to 63 octets; the last label is no number,
/// so that a mistyped IPv4 address is not taken for a name.
pub(super) fn is_dns_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253
        && host.split('.').all(label)
        && host.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn rest_015_uris_follow_the_grammar() {
        for uri in [
            "turn:turn.example.org",
            "turn:turn.example.org:3478?transport=udp",
            "turn:turn.example.org:3478?transport=tcp",
            "turns:turn.example.org:5349?transport=tcp",
            "turns:turn.example.org?transport=udp",
            "turn:192.0.2.1:3478",
            "turn:[2001:db8::1]:3478?transport=udp",
            "turn:[2001:db8::1]",
            "turn:localhost:65535",
        ] {
            assert_eq!(check(uri), Ok(()), "{uri}");
        }
        for (case, uri) in [
            ("no scheme", "turn.example.org"),
            ("another scheme", "stun:turn.example.org"),
            ("upper case", "TURN:turn.example.org"),
            ("user part", "turn:bob@turn.example.org"),
            ("no host", "turn::3478"),
            ("port 0", "turn:turn.example.org:0"),
            ("port too high", "turn:turn.example.org:65536"),
            ("empty port", "turn:turn.example.org:"),
            ("bare IPv6", "turn:2001:db8::1"),
            ("bracket open", "turn:[2001:db8::1"),
            ("IPv4 in brackets", "turn:[192.0.2.1]:3478"),
            ("address with turns", "turns:192.0.2.1:5349?transport=tcp"),
            ("IPv6 with turns", "turns:[2001:db8::1]:5349?transport=tcp"),
            ("mistyped address", "turn:192.0.2.256"),
            ("space", "turn:turn.example.org "),
            ("hyphen first", "turn:-x.example.org"),
        ] {
            assert!(check(uri).is_err(), "{case}: {uri}");
        }
    }

    #[test]
    fn disc_002_uris_are_flat_and_take_one_parameter() {
        for transport in ["udp", "tcp"] {
            assert_eq!(check(&format!("turn:turn.example.org?transport={transport}")), Ok(()));
            assert_eq!(check(&format!("turns:turn.example.org?transport={transport}")), Ok(()));
        }
        for (case, uri) in [
            ("hierarchical", "turn://turn.example.org"),
            ("path", "turn:turn.example.org/relay"),
            ("fragment", "turn:turn.example.org#1"),
            ("STUN", "stun:turn.example.org"),
            ("STUN with a transport", "stun:turn.example.org?transport=udp"),
            ("unknown transport", "turn:turn.example.org?transport=sctp"),
            ("upper case", "turn:turn.example.org?transport=UDP"),
            ("unknown parameter", "turn:turn.example.org?proto=udp"),
            ("two parameters", "turn:turn.example.org?transport=udp&ttl=1"),
            ("empty query", "turn:turn.example.org?"),
        ] {
            assert!(check(uri).is_err(), "{case}: {uri}");
        }
    }
}
