//! Plain Binding requests of clients that speak MS-TURN.

use std::net::SocketAddr;

use rig::{Draft, World, kind};

use super::world;

/// As libnice sends it: twenty bytes, no cookie.
const BARE: [u8; 20] = [
    0x00, 0x01, 0x00, 0x00, 0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xAB,
    0xAC, 0xAD, 0xAE, 0xAF,
];

/// A Binding request without cookie, answered; the address in it.
fn bind(world: &mut World, name: &str) -> Option<SocketAddr> {
    world.ms(name).send_bytes(&BARE);
    let answer = world.client(name).state().inbox.pop_front()?;
    assert_eq!(answer[..4], [0x01, 0x01, 0, 12]);
    assert_eq!(answer[4..20], BARE[4..]);
    assert_eq!(answer[20..24], [0, 1, 0, 8], "Mapped Address alone, in the clear");
    let port = u16::from_be_bytes([answer[26], answer[27]]);
    let ip: [u8; 4] = answer[28..].try_into().expect("four octets");
    Some(SocketAddr::from((ip, port)))
}

#[test]
fn mst_060_a_binding_without_cookie_is_answered_in_the_clear() {
    let mut world = world(60);
    let expected = world.client("alice").state().address;
    assert_eq!(bind(&mut world, "alice"), Some(expected));
    // Beside an allocation too.
    world.ms("alice").relay();
    assert_eq!(bind(&mut world, "alice"), Some(expected));
    // And with the cookie as everywhere.
    let heard = world.client("alice").bare(Draft::request(kind::method::BINDING));
    assert_eq!(heard.mapped(), Some(expected));
}

#[test]
fn mst_060_with_an_active_destination_it_is_payload() {
    let mut world = world(60);
    world.ms("alice").relay();
    world.ms("alice").aim("bob").expect_success();
    assert_eq!(bind(&mut world, "alice"), None);
    world.peer("bob").expect(&BARE);
}
