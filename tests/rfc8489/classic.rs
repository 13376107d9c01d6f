//! §11: clients of RFC 5389 and RFC 3489.

use std::net::{IpAddr, SocketAddr};

use proto::addr::Transport;
use proto::policy::Edge;
use proto::reject::{DropReason, Why};
use proto::turn::Config;
use rig::kind::{self, method};
use rig::{Draft, Scheme, World};

/// What names a transaction of RFC 3489.
const OLD_ID: &[u8; 16] = b"sixteen bytes id";

/// A request without the magic cookie.
fn old(draft: &Draft) -> Vec<u8> {
    let mut bytes = draft.encode();
    bytes[4..20].copy_from_slice(OLD_ID);
    bytes
}

fn answered(config: &mut Config) {
    config.compat.rfc3489 = true;
}

/// What a client of RFC 3489 hears.
#[derive(Debug, PartialEq)]
struct Old {
    /// The message type.
    kind: u16,
    /// Types and values, in order.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// The oldest datagram of a client, which repeats the transaction.
fn hear(world: &mut World, name: &str) -> Option<Old> {
    world.settle();
    let bytes = world.client(name).state().inbox.pop_front()?;
    assert_eq!(&bytes[4..20], OLD_ID);
    assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len() - 20);
    let mut attributes = Vec::new();
    let mut rest = &bytes[20..];
    while let [k0, k1, l0, l1, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        attributes.push((u16::from_be_bytes([*k0, *k1]), tail[..len].to_vec()));
        rest = &tail[len.next_multiple_of(4)..];
    }
    Some(Old { kind: u16::from_be_bytes([bytes[0], bytes[1]]), attributes })
}

/// The value of MAPPED-ADDRESS.
fn mapped(address: SocketAddr) -> Vec<u8> {
    let (family, octets) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    [&[0, family][..], &address.port().to_be_bytes(), &octets].concat()
}

#[test]
fn old_001_a_classic_binding_is_answered_in_the_clear() {
    let mut world = World::configured(1, answered).with_client("alice").with_client6("six");
    for name in ["alice", "six"] {
        // Credentials and unknown optional attributes change nothing.
        let plain = Draft::request(method::BINDING);
        let rich = plain.clone().raw(kind::USERNAME, b"user").raw(0x8028, &[0; 4]);
        for draft in [plain, rich] {
            world.client(name).send_bytes(&old(&draft));
            let expected = mapped(world.client(name).state().address);
            let Old { kind, attributes } = hear(&mut world, name).expect("an answer");
            assert_eq!(kind, method::BINDING | kind::SUCCESS);
            assert_eq!(attributes, [(0x0001, expected)], "MAPPED-ADDRESS alone");
        }
    }
    let mut modern = world.client("alice").bare(Draft::request(method::BINDING));
    modern.expect_success();
    assert!(modern.mapped().is_some());
    modern = world.client("six").bare(Draft::request(method::BINDING));
    assert!(!modern.has(0x0001), "OLD-002 still holds");
}

#[test]
fn old_001_classic_clients_are_not_answered_by_default() {
    let mut world = World::seeded(1).with_client("alice");
    world.client("alice").send_bytes(&old(&Draft::request(method::BINDING)));
    assert_eq!(hear(&mut world, "alice"), None);
    assert_eq!(world.dropped(DropReason::ClassicStun), 1);
}

#[test]
fn old_001_what_is_no_classic_request_is_dropped() {
    let good = old(&Draft::request(method::BINDING));
    let typed = |kind: u16| [&kind.to_be_bytes()[..], &good[2..]].concat();
    let mut world = World::configured(1, answered).with_client("alice");
    for (case, bytes) in [
        ("a response", typed(0x0101)),
        ("an error", typed(0x0111)),
        ("an indication", typed(0x0011)),
        ("Shared Secret", typed(0x0002)),
        ("Send", typed(0x0016)),
        ("a length too many", [&good[..2], &[0, 4], &good[4..]].concat()),
        ("bytes too many", [&good[..], &[0; 4]].concat()),
        ("half a header", good[..10].to_vec()),
        ("an attribute cut short", old(&Draft::request(method::BINDING).bytes(&[0, 6, 0, 8]))),
    ] {
        world.client("alice").send_bytes(&bytes);
        assert_eq!(hear(&mut world, "alice"), None, "{case}");
    }
    assert_eq!(world.dropped(DropReason::MalformedStun), 9);
}

#[test]
fn old_003_nobody_is_answered_but_the_sender() {
    let victim: SocketAddr = "81.2.69.99:9999".parse().expect("an address");
    for (attribute, value) in [
        (kind::RESPONSE_ADDRESS, mapped(victim)),
        (kind::CHANGE_REQUEST, vec![0, 0, 0, 6]),
        (kind::CHANGE_REQUEST, vec![0, 0, 0, 0]),
    ] {
        let mut world =
            World::configured(3, answered).with_client("alice").with_client_at("victim", victim);
        let draft = Draft::request(method::BINDING).raw(attribute, &value);
        world.client("alice").send_bytes(&old(&draft));
        let Old { kind, attributes } = hear(&mut world, "alice").expect("an answer");
        assert_eq!(kind, method::BINDING | kind::ERROR);
        assert_eq!(attributes[0], (kind::ERROR_CODE, vec![0, 0, 4, 20]));
        let listed = attribute.to_be_bytes().to_vec();
        assert_eq!(attributes[1], (kind::UNKNOWN_ATTRIBUTES, listed));
        assert_eq!(attributes.len(), 2);
        // With the cookie it is the same.
        let heard = world.client("alice").bare(draft);
        heard.expect_code(420);
        assert_eq!(heard.unknown(), Some(vec![attribute]));
        world.client("victim").expect_silence();
    }
}

#[test]
fn old_004_over_dtls_a_request_without_cookie_is_an_error() {
    for switch in [false, true] {
        let mut world = World::configured(4, |config| {
            config.compat.rfc3489 = switch;
            let mut listeners = config.edge.listeners().to_vec();
            listeners[0].transport = Transport::Dtls;
            let relays = config.edge.relays(proto::addr::Family::V4).copied().collect();
            config.edge = Edge::new(listeners, relays, Vec::new());
        })
        .with_client("alice");
        world.client("alice").send_bytes(&old(&Draft::request(method::BINDING)));
        let Old { kind, attributes } = hear(&mut world, "alice").expect("an answer");
        assert_eq!(kind, method::BINDING | kind::ERROR);
        assert_eq!(attributes, [(kind::ERROR_CODE, vec![0, 0, 5, 0])]);
        assert_eq!(world.rejected(Why::ClassicDtls), 1);
        let indication = Draft::of_kind(method::BINDING | kind::INDICATION);
        world.client("alice").send_bytes(&old(&indication));
        assert_eq!(hear(&mut world, "alice"), None);
    }
}

#[test]
fn old_005_turn_without_the_magic_cookie_is_dropped() {
    let methods = [method::ALLOCATE, method::REFRESH, method::CREATE_PERMISSION];
    for (method, switch) in methods.into_iter().flat_map(|m| [(m, false), (m, true)]) {
        let mut world =
            World::configured(5, |config| config.compat.rfc3489 = switch).with_client("alice");
        let mut bytes = Draft::request(method).encode();
        bytes[4..8].copy_from_slice(b"old!");
        world.client("alice").send_bytes(&bytes);
        world.client("alice").expect_silence();
        assert_eq!(world.dropped_in_all(), 1);
    }
}

#[test]
fn old_006_shared_secret_requests_are_dropped() {
    let mut world = World::seeded(6).with_client("alice");
    assert!(world.client("alice").exchange(Draft::of_kind(0x0002)).is_none());
    assert_eq!(world.dropped(DropReason::UnexpectedMessage), 1);
}

#[test]
fn old_007_a_client_of_rfc_5389_works_unchanged() {
    let mut world = World::seeded(7).with_client("alice").with_peer("bob");
    world.client("alice").state().scheme = Scheme::Legacy;
    let relayed = world.client("alice").relay();
    world.client("alice").refresh(900).expect_success();
    world.client("alice").permit(&["bob"]).expect_success();
    world.client("alice").bind(0x4000, "bob").expect_success();
    world.client("alice").send_channel(0x4000, b"hello");
    assert_eq!(world.peer("bob").expect(b"hello"), relayed);
    world.peer("bob").send(relayed, b"and back");
    world.client("alice").expect_channel(0x4000, b"and back");
}

#[test]
fn old_008_names_up_to_763_bytes_are_parsed() {
    for (length, code) in [(508, 401), (763, 401), (764, 400)] {
        let mut world = World::seeded(8).with_client("alice");
        let mut alice = world.client("alice");
        alice.know_the_realm();
        alice.state().login.username = "u".repeat(length);
        let signed = alice.state().sign(Draft::allocate());
        assert_eq!(alice.bare(signed).code(), Some(code), "{length} bytes");
    }
}
