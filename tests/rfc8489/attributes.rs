//! §14: values of attributes, and RFC 8656 §18 for those of TURN.

use rig::kind::{self, method};
use rig::{Draft, World};

#[test]
fn attr_002_lifetime_is_four_bytes() {
    for (length, code) in
        [(0, Some(400)), (2, Some(400)), (4, None), (5, Some(400)), (8, Some(400))]
    {
        let mut world = World::seeded(2).with_client("alice");
        let mut alice = world.client("alice");
        alice.relay();
        let draft = Draft::request(method::REFRESH).raw(kind::LIFETIME, &vec![3; length]);
        assert_eq!(alice.ask(draft).code(), code, "Refresh, {length} bytes");
        let mut world = World::seeded(2).with_client("alice");
        let draft = Draft::allocate().raw(kind::LIFETIME, &vec![3; length]);
        assert_eq!(world.client("alice").ask(draft).code(), code, "Allocate, {length} bytes");
    }
}

#[test]
fn attr_003_lengths_of_turn_attributes_are_exact_and_reserved_bits_ignored() {
    for (case, kind, value, code) in [
        ("transport", kind::TRANSPORT, &[17, 0, 0, 0][..], None),
        ("transport, reserved bits", kind::TRANSPORT, &[17, 1, 2, 3], None),
        ("transport of one byte", kind::TRANSPORT, &[17], Some(400)),
        ("transport of eight bytes", kind::TRANSPORT, &[17, 0, 0, 0, 0, 0, 0, 0], Some(400)),
        ("even port", kind::EVEN_PORT, &[0], None),
        ("even port, reserved bits", kind::EVEN_PORT, &[0x7F], None),
        ("even port of no byte", kind::EVEN_PORT, &[], Some(400)),
        ("even port of two bytes", kind::EVEN_PORT, &[0, 0], Some(400)),
        ("token of seven bytes", kind::RESERVATION, &[0; 7], Some(400)),
        ("token of nine bytes", kind::RESERVATION, &[0; 9], Some(400)),
        ("token of eight bytes, unknown", kind::RESERVATION, &[0; 8], Some(508)),
    ] {
        let mut world = World::seeded(3).with_client("alice");
        let draft = match kind {
            kind::TRANSPORT => Draft::request(method::ALLOCATE).raw(kind, value),
            _ => Draft::allocate().raw(kind, value),
        };
        assert_eq!(world.client("alice").ask(draft).code(), code, "{case}");
    }
}

#[test]
fn attr_003_a_channel_number_is_two_bytes_and_two_reserved_ones() {
    for (case, value, code) in [
        ("sound", &[0x40, 0, 0, 0][..], None),
        ("reserved bytes", &[0x40, 0, 0xFF, 0xFF], None),
        ("two bytes", &[0x40, 0], Some(400)),
        ("eight bytes", &[0x40, 0, 0, 0, 0, 0, 0, 0], Some(400)),
        ("no byte", &[], Some(400)),
    ] {
        let mut world = World::seeded(3).with_client("alice").with_peer("bob");
        let bob = world.peer_address("bob");
        let mut alice = world.client("alice");
        alice.relay();
        let draft = Draft::request(method::CHANNEL_BIND).raw(kind::CHANNEL_NUMBER, value).peer(bob);
        assert_eq!(alice.ask(draft).code(), code, "{case}");
    }
}

#[test]
fn attr_004_a_family_is_one_byte_and_three_reserved_ones() {
    for (case, value, code) in [
        ("IPv4", &[1, 0, 0, 0][..], None),
        ("IPv6", &[2, 0, 0, 0], None),
        ("reserved bytes", &[2, 0xFF, 0xFF, 0xFF], None),
        ("one byte", &[1], Some(400)),
        ("five bytes", &[1, 0, 0, 0, 0], Some(400)),
        ("unknown family", &[3, 0, 0, 0], Some(440)),
    ] {
        let mut world = World::seeded(4).with_client("alice");
        let draft = Draft::allocate().raw(kind::FAMILY, value);
        assert_eq!(world.client("alice").ask(draft).code(), code, "{case}");
    }
}

#[test]
fn attr_006_algorithms_are_entries_of_number_and_length() {
    let mut world = World::seeded(6).with_client("alice");
    let heard = world.client("alice").bare(Draft::allocate());
    assert_eq!(heard.value(kind::ALGORITHMS), Some(&[0, 2, 0, 0, 0, 1, 0, 0][..]));
}

#[test]
fn attr_007_unknown_attributes_are_two_bytes_each_without_filling() {
    for n in 1..=3_u16 {
        let mut world = World::seeded(7).with_client("alice");
        let draft =
            (0..n).fold(Draft::request(method::BINDING), |draft, i| draft.raw(0x7000 + i, b""));
        let heard = world.client("alice").bare(draft);
        let value = heard.value(kind::UNKNOWN_ATTRIBUTES).expect("420 lists them");
        assert_eq!(value.len(), usize::from(n) * 2);
    }
}

#[test]
fn attr_010_texts_the_server_sends_keep_their_limits() {
    let mut world = World::configured(10, |config| {
        config.realm = "r".repeat(40);
        config.software = Some("s".repeat(127));
    })
    .with_client("alice");
    let mut alice = world.client("alice");
    let heard = alice.bare(Draft::allocate());
    for kind in [kind::REALM, kind::NONCE] {
        assert!(heard.text(kind).expect("a challenge").chars().count() < 128, "{kind:#06x}");
    }
    let heard = alice.allocate();
    assert!(heard.text(kind::SOFTWARE).expect("configured").chars().count() < 128);
}

#[test]
fn disc_011_the_transmit_counter_of_rfc_7982_is_ignored() {
    let mut world = World::seeded(11).with_client("alice");
    let counted = Draft::request(method::BINDING).raw(0x8025, &[0, 0, 2, 0]);
    let heard = world.client("alice").bare(counted);
    assert!(!heard.expect_success().has(0x8025));
    world
        .client("alice")
        .allocate_with(Draft::allocate().raw(0x8025, &[0, 0, 1, 0]))
        .expect_success();
}
