//! What a connection turns out to be, where a door serves several kinds.
//!
//! Its first bytes are looked at where the kernel keeps them, and taken only when it is known
//! whose they are: until then a connection costs no memory here, and what belongs to somebody
//! else goes on untouched.

use std::net::SocketAddr;
use std::time::Duration;

use proto::framing::client_hello::{self, ClientHello};
use proto::framing::proxy::{self, Origin};
use proto::framing::pseudo_tls;
use proto::framing::sniff::{Opening, sniff};

use super::door::DoorPlan;
use super::tally::Ending;
use crate::certificates::PROTOCOLS;
use crate::ledger::Bounds;

/// The most bytes that are looked at.
pub(super) const LONGEST: usize = client_hello::LONGEST;

const _: () = assert!(proxy::LONGEST <= LONGEST && pseudo_tls::CLIENT_LEN <= LONGEST);

/// Where TLS goes that is for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PassThrough {
    /// The other server.
    pub(crate) to: SocketAddr,
    /// Its host names, in lower case.
    pub(crate) names: Vec<String>,
    /// Whether it is told the client's address by a PROXY header.
    pub(crate) proxy_header: bool,
    /// How many connections go there.
    pub(crate) bounds: Bounds,
    /// How long one may stay on which nothing moves.
    pub(crate) idle: Duration,
}

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Too little.
    Wait,
    /// A PROXY header of so many bytes; of this client, if it names one.
    Proxied(Option<SocketAddr>, usize),
    /// TURN without TLS, or frames of the Microsoft dialect.
    Plain,
    /// The record of pseudo-TLS; what follows its answer is plain.
    PseudoTls,
    /// TLS for us.
    Tls,
    /// TLS for somebody else.
    Foreign,
    /// Nothing that is served here.
    Nothing(Ending),
}

/// What is served beside ordinary TURN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside<'a> {
    /// Where foreign TLS goes.
    pub(super) pass: Option<&'a PassThrough>,
    /// Whether the Microsoft dialect is spoken.
    pub(super) microsoft: bool,
}

/// Reads the first bytes of a connection; `proxied` if they have to be a PROXY header.
pub(super) fn read(bytes: &[u8], proxied: bool, plan: &DoorPlan, beside: Beside<'_>) -> Reading {
    if proxied {
        return match proxy::read(bytes) {
            proxy::Reading::NeedMore(_) => Reading::Wait,
            proxy::Reading::Complete { origin: Origin::Itself, wire } => {
                Reading::Proxied(None, wire)
            }
            proxy::Reading::Complete { origin: Origin::Client { source, .. }, wire } => {
                Reading::Proxied(Some(source), wire)
            }
            proxy::Reading::Broken(_) => Reading::Nothing(Ending::ProxyHeader),
        };
    }
    match (sniff(bytes, beside.microsoft), plan.plain, plan.tls, beside.pass) {
        (Opening::NeedMore(_), ..) => Reading::Wait,
        // The port of TLS is where clients of that dialect look, and none of them speaks TLS.
        (Opening::Turn, Some(_), ..) | (Opening::Ms, ..) => Reading::Plain,
        (Opening::PseudoTls, ..) => Reading::PseudoTls,
        (Opening::Tls, _, Some(_), None) => Reading::Tls,
        (Opening::Tls, _, Some(_), Some(pass)) => match client_hello::read(bytes) {
            client_hello::Reading::NeedMore(_) => Reading::Wait,
            client_hello::Reading::Complete(hello) if is_foreign(&hello, pass) => Reading::Foreign,
            // What cannot be read is refused by TLS itself, with an alert.
            client_hello::Reading::Complete(_) | client_hello::Reading::Broken(_) => Reading::Tls,
        },
        (Opening::Turn | Opening::Tls | Opening::ProxyV2 | Opening::Unknown, ..) => {
            Reading::Nothing(Ending::Garbled)
        }
    }
}

/// Whether a client wants none of our protocols, or names a host that is not ours.
fn is_foreign(hello: &ClientHello, pass: &PassThrough) -> bool {
    if hello.protocols.iter().any(|it| PROTOCOLS.contains(&it.as_slice())) {
        return false;
    }
    let named = hello.server_name.as_ref().is_some_and(|name| pass.names.contains(name));
    named || !hello.protocols.is_empty()
}

#[cfg(test)]
mod tests {
    use proto::addr::ListenerId;

    use super::*;

    fn hello(protocols: &[&str], name: Option<&str>) -> ClientHello {
        ClientHello {
            server_name: name.map(str::to_owned),
            protocols: protocols.iter().map(|it| it.as_bytes().to_vec()).collect(),
        }
    }

    #[test]
    fn tls_is_passed_on_by_protocol_or_by_name_but_never_turn() {
        let pass = PassThrough {
            to: "127.0.0.1:8443".parse().unwrap(),
            names: vec!["www.example.org".to_owned()],
            proxy_header: false,
            bounds: Bounds { in_all: 1, per_network: 1, per_client: 1 },
            idle: Duration::from_secs(60),
        };
        let (www, turn) = (Some("www.example.org"), Some("turn.example.org"));
        for (case, hello, foreign) in [
            ("a browser", hello(&["h2", "http/1.1"], turn), true),
            ("by name", hello(&[], www), true),
            ("TURN by name of the web", hello(&["stun.turn"], www), false),
            ("discovery", hello(&["stun.nat-discovery"], None), false),
            ("both", hello(&["h2", "stun.turn"], None), false),
            ("nothing said", hello(&[], None), false),
            ("our name", hello(&[], turn), false),
        ] {
            assert_eq!(is_foreign(&hello, &pass), foreign, "{case}");
        }
    }

    #[test]
    fn disc_001_a_shared_port_tells_by_the_first_bytes() {
        let (plain, tls) = (Some(ListenerId(0)), Some(ListenerId(1)));
        let beside = Beside { pass: None, microsoft: false };
        let stun = [0, 1, 0, 0];
        let record = [22, 3, 1, 0];
        for (case, plain, tls, bytes, expected) in [
            ("STUN", plain, tls, &stun[..], Reading::Plain),
            ("TLS", plain, tls, &record, Reading::Tls),
            ("nothing yet", plain, tls, &[], Reading::Wait),
            ("plain on TLS", None, tls, &stun, Reading::Nothing(Ending::Garbled)),
            ("TLS on plain", plain, None, &record, Reading::Nothing(Ending::Garbled)),
            (
                "PROXY of a stranger",
                plain,
                tls,
                &proxy::SIGNATURE,
                Reading::Nothing(Ending::Garbled),
            ),
            ("HTTP", plain, tls, b"GET /", Reading::Nothing(Ending::Garbled)),
        ] {
            let door = DoorPlan { plain, tls, proxies: Vec::new() };
            assert_eq!(read(bytes, false, &door, beside), expected, "{case}");
        }
    }

    #[test]
    fn mst_002_the_microsoft_dialect_opens_at_every_door() {
        let beside = Beside { pass: None, microsoft: true };
        let hello = include_bytes!("../../../tests/fuzz/corpus/sniff/pseudo_tls");
        for (plain, tls) in [(Some(0), None), (None, Some(1)), (Some(0), Some(1))] {
            let listener = |number: Option<u16>| number.map(ListenerId);
            let door = DoorPlan { plain: listener(plain), tls: listener(tls), proxies: Vec::new() };
            let read = |bytes: &[u8]| read(bytes, false, &door, beside);
            assert_eq!(read(&[2, 0]), Reading::Plain);
            assert_eq!(read(&hello[..20]), Reading::Wait);
            assert_eq!(read(hello), Reading::PseudoTls);
        }
    }

    #[test]
    fn a_balancer_must_say_whom_it_brings() {
        let plan = DoorPlan { plain: Some(ListenerId(0)), tls: None, proxies: Vec::new() };
        let source = "192.0.2.9:5000".parse().unwrap();
        let (header, len) = proxy::write(source, "192.0.2.1:443".parse().unwrap());
        let beside = Beside { pass: None, microsoft: true };
        let read = |bytes: &[u8]| read(bytes, true, &plan, beside);
        assert_eq!(read(&header[..len]), Reading::Proxied(Some(source), len));
        assert_eq!(read(&header[..len - 1]), Reading::Wait);
        assert_eq!(read(&[0, 1, 0, 0]), Reading::Nothing(Ending::ProxyHeader));
    }
}
