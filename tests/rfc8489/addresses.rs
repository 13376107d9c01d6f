//! §14.1–14.2: addresses in attributes.

use rig::kind::{self, method};
use rig::{Draft, World};

#[test]
fn stun_009_a_mapped_ipv4_source_is_reported_as_ipv4() {
    let mapped = "[::ffff:81.2.69.7]:4711".parse().expect("an address");
    let mut world = World::seeded(9).with_client_at("dual", "81.2.69.7:4711".parse().expect("one"));
    let bytes = Draft::request(method::BINDING).encode();
    world.inject(proto::addr::ListenerId(0), mapped, &bytes);
    world.settle();
    let bytes = world.client("dual").state().inbox.pop_front().expect("an answer");
    let heard = rig::Heard::read(&bytes);
    assert_eq!(heard.value(kind::MAPPED).expect("XOR-MAPPED-ADDRESS")[1], 1, "family IPv4");
}

#[test]
fn attr_001_peer_addresses_are_eight_or_twenty_bytes_of_a_known_family() {
    // 45.33.32.10:5904, XORed with the cookie by hand.
    let v4 = [0, 1, 0x36, 0x02, 0x0C, 0x33, 0x84, 0x48];
    for (case, value, code) in [
        ("sound", v4.to_vec(), None),
        (
            "first byte is not zero",
            {
                let mut v = v4;
                v[0] = 0xFF;
                v.to_vec()
            },
            None,
        ),
        (
            "family 3",
            {
                let mut v = v4;
                v[1] = 3;
                v.to_vec()
            },
            Some(400),
        ),
        (
            "family 0",
            {
                let mut v = v4;
                v[1] = 0;
                v.to_vec()
            },
            Some(400),
        ),
        (
            "IPv6 of eight bytes",
            {
                let mut v = v4;
                v[1] = 2;
                v.to_vec()
            },
            Some(400),
        ),
        ("seven bytes", v4[..7].to_vec(), Some(400)),
        ("nine bytes", [&v4[..], &[0]].concat(), Some(400)),
        ("IPv4 of twenty bytes", [&v4[..], &[0; 12]].concat(), Some(400)),
        ("four bytes", v4[..4].to_vec(), Some(400)),
        ("nothing", Vec::new(), Some(400)),
    ] {
        let mut world = World::seeded(1).with_client("alice").with_peer("bob");
        let mut alice = world.client("alice");
        alice.relay();
        let permit = Draft::request(method::CREATE_PERMISSION).raw(kind::PEER, &value);
        assert_eq!(alice.ask(permit).code(), code, "CreatePermission: {case}");
        let bind = Draft::request(method::CHANNEL_BIND)
            .raw(kind::CHANNEL_NUMBER, &[0x40, 0, 0, 0])
            .raw(kind::PEER, &value);
        assert_eq!(alice.ask(bind).code(), code, "ChannelBind: {case}");
        alice.permit(&["bob"]).expect_success();
        let send = Draft::of_kind(method::SEND | kind::INDICATION)
            .raw(kind::PEER, &value)
            .raw(kind::DATA, b"hello");
        assert!(alice.exchange(send).is_none(), "Send: {case}");
        let relayed = world.server.tally().via_indication.to_peer.packets;
        assert_eq!(relayed, u64::from(code.is_none()), "Send: {case}");
    }
}

#[test]
fn attr_001_addresses_are_xored_as_the_oracle_does() {
    // XOR-MAPPED-ADDRESS and XOR-RELAYED-ADDRESS are read, XOR-PEER-ADDRESS written by stun-rs.
    let mut world = World::seeded(1).with_client6("carol").with_peer6("dave");
    let address = world.client("carol").state().address;
    let family = Draft::allocate().raw(kind::FAMILY, &[2, 0, 0, 0]);
    let heard = world.client("carol").allocate_with(family);
    assert_eq!(heard.expect_success().mapped(), Some(address));
    let relayed = heard.relayed().expect("a relayed address");
    assert_eq!(world.open_sockets(), [relayed]);
    world.client("carol").permit(&["dave"]).expect_success();
    world.client("carol").send("dave", b"over IPv6");
    assert_eq!(world.peer("dave").expect(b"over IPv6"), relayed);
    world.peer("dave").send(relayed, b"and back");
    world.client("carol").expect_data("dave", b"and back");
}
