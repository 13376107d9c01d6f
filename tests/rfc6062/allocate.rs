//! §5.1: an Allocate for a TCP relay.

use proto::addr::ListenerId;
use proto::reject::DropReason;
use rig::{Draft, kind};

use crate::{DTLS, TCP, TLS, configured, to, world};

#[test]
fn tcpa_001_only_clients_over_tcp_and_tls_get_tcp_relays() {
    for (case, listener, expected) in [
        ("UDP", ListenerId(0), Some(400)),
        ("TCP", TCP, None),
        ("TLS", TLS, None),
        ("DTLS", DTLS, Some(400)),
    ] {
        let mut world = world(1);
        world.client("alice").state().listener = listener;
        let heard = world.client("alice").allocate_with(Draft::allocate_tcp());
        assert_eq!(heard.code(), expected, "{case}");
        assert_eq!(world.server.tally().allocations, u64::from(expected.is_none()), "{case}");
        world.client("eve").allocate().expect_success();
    }
}

#[test]
fn tcpa_002_other_protocols_and_switched_off_ones_are_told_apart() {
    for (case, udp, tcp, protocol, expected) in [
        ("SCTP", true, true, 132, Some(442)),
        ("zero", true, true, 0, Some(442)),
        ("UDP", true, true, 17, None),
        ("UDP, which is off", false, true, 17, Some(403)),
        ("TCP, with UDP off", false, true, 6, None),
        ("TCP, which is off", true, false, 6, Some(442)),
    ] {
        let mut world = configured(2, |config| {
            config.udp_relays = udp;
            config.tcp_relays = tcp;
        });
        let draft = Draft::request(kind::method::ALLOCATE);
        let draft = draft.raw(kind::TRANSPORT, &[protocol, 0, 0, 0]);
        assert_eq!(world.client("alice").allocate_with(draft).code(), expected, "{case}");
    }
}

#[test]
fn tcpa_002_with_the_feature_off_its_methods_are_unheard_of() {
    let mut world = configured(3, |config| config.tcp_relays = false);
    world.client("alice").relay();
    for draft in [to(&world, "bob"), Draft::connection_bind(7)] {
        let signed = world.client("alice").state().sign(draft);
        assert!(world.client("alice").exchange(signed).is_none());
    }
    assert_eq!(world.dropped(DropReason::UnexpectedMessage), 2);
}

#[test]
fn tcpa_003_what_means_something_for_udp_alone_is_refused() {
    for (case, attribute, value) in [
        ("DONT-FRAGMENT", kind::DONT_FRAGMENT, &[][..]),
        ("EVEN-PORT", kind::EVEN_PORT, &[0x80]),
        ("RESERVATION-TOKEN", kind::RESERVATION, &[7; 8]),
    ] {
        let mut world = world(4);
        let draft = Draft::allocate_tcp().raw(attribute, value);
        assert_eq!(world.client("alice").allocate_with(draft).code(), Some(400), "{case}");
        let heard = world.client("alice").allocate_with(Draft::allocate_tcp());
        assert!(!heard.expect_success().has(kind::RESERVATION), "{case}");
    }
}

#[test]
fn tcpa_004_the_relayed_address_listens_and_calls_from_its_own_port() {
    let mut world = world(5);
    let relayed = world.client("alice").allocate_with(Draft::allocate_tcp()).relayed().unwrap();
    world.client("alice").permit(&["dave"]).expect_success();
    assert!(world.peer("dave").connect(relayed).is_some());
    let draft = to(&world, "bob");
    world.client("alice").ask(draft).expect_success();
    assert_eq!(world.dials.calls, [(relayed, world.peer_address("bob"))]);
}

#[test]
fn tcpa_017_channels_and_indications_mean_nothing_for_a_tcp_relay() {
    let mut world = world(6);
    world.client("alice").allocate_with(Draft::allocate_tcp()).expect_success();
    world.client("alice").permit(&["bob"]).expect_success();
    world.client("alice").bind(0x4000, "bob").expect_code(403);
    world.client("alice").send("bob", b"datagram");
    world.client("alice").send_channel(0x4000, b"datagram");
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::TcpRelay), 1);
    assert_eq!(world.dropped(DropReason::NoChannel), 1);
}

#[test]
fn tcpa_001_a_dual_allocation_listens_in_both_families() {
    let mut world = world(7);
    let draft = Draft::allocate_tcp().raw(kind::ADDITIONAL_FAMILY, &[2, 0, 0, 0]);
    let heard = world.client("alice").allocate_with(draft);
    assert_eq!(heard.expect_success().all_relayed().len(), 2);
    assert_eq!(world.open_sockets().len(), 2);
}
