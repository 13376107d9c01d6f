//! §12: basic server behaviour, and §14.1–14.2 as Binding uses them.

use rig::kind::{self, method};
use rig::{Draft, World};

#[test]
fn stun_008_binding_reports_the_source_the_server_saw() {
    let mut world = World::seeded(8).with_client("alice").with_client6("carol");
    for name in ["alice", "carol"] {
        let address = world.client(name).state().address;
        let heard = world.client(name).bare(Draft::request(method::BINDING));
        heard.expect_success();
        assert_eq!(heard.mapped(), Some(address));
    }
}

#[test]
fn stun_010_binding_needs_no_credentials() {
    let mut world = World::seeded(10).with_client("alice");
    let heard = world.client("alice").bare(Draft::request(method::BINDING));
    heard.expect_success();
    assert!(!heard.has(kind::REALM) && !heard.has(kind::NONCE));
}

#[test]
fn old_002_modern_clients_get_no_mapped_address() {
    let mut world = World::seeded(2).with_client("alice");
    let heard = world.client("alice").bare(Draft::request(method::BINDING));
    assert!(heard.has(kind::MAPPED) && !heard.has(0x0001));
}

#[test]
fn natb_001_without_a_second_address_discovery_is_refused() {
    let mut world = World::seeded(5780).with_client("alice");
    for flags in [2, 4, 6] {
        let change = Draft::request(method::BINDING).raw(0x0003, &[0, 0, 0, flags]);
        let heard = world.client("alice").bare(change);
        heard.expect_code(420);
        assert_eq!(heard.unknown(), Some(vec![0x0003]));
    }
    let heard = world.client("alice").bare(Draft::request(method::BINDING));
    assert!(!heard.has(0x802C), "no OTHER-ADDRESS");
}
