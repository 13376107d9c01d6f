//! Tokens that take something away, by claims behind what the RFC lays out.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::reject::Why;
use rig::{Draft, Token};

use crate::{STRONG, adopt, allocate, good, world};

/// A good token with claims.
fn claiming(claims: &str) -> Token {
    Token { claims: claims.to_owned(), ..good() }
}

/// The claim of one IPv4 address.
fn only(ip: IpAddr) -> String {
    let IpAddr::V4(ip) = ip else { panic!("{ip}: an IPv4 address is meant") };
    format!("p={}", URL_SAFE_NO_PAD.encode([&[32][..], &ip.octets()].concat()))
}

#[test]
fn sec_010_a_token_is_good_for_the_peers_and_ports_in_it() {
    for (case, claims, host, port) in [
        ("nothing taken away", &(|_: SocketAddr| String::new()) as &dyn Fn(_) -> _, true, true),
        ("its host", &|bob: SocketAddr| only(bob.ip()), true, true),
        ("another host", &|_| only(IpAddr::from([198, 51, 100, 9])), false, false),
        ("its port", &|bob: SocketAddr| format!("o={}", bob.port()), true, true),
        ("another port", &|_| "o=9".to_owned(), true, false),
    ] {
        let mut world = world(10);
        let bob = world.peer_address("bob");
        allocate(&mut world, STRONG.0, &claiming(&claims(bob))).expect_success();
        let permitted = world.client("alice").ask(Draft::permit(&[bob]));
        assert_eq!(permitted.code(), (!host).then_some(403), "{case}");
        let bound = world.client("alice").ask(Draft::bind(0x4000, bob));
        assert_eq!(bound.code(), (!port).then_some(403), "{case}");
    }
}

#[test]
fn sec_010_a_token_carries_a_number_of_allocations() {
    let mut world = world(11);
    let token = claiming("n=1");
    allocate(&mut world, STRONG.0, &token).expect_success();
    let mut alice = world.client("alice");
    alice.state().address.set_port(45_000);
    alice.state().challenge = None;
    allocate(&mut world, STRONG.0, &token).expect_code(486);
}

#[test]
fn sec_010_claims_that_nobody_knows_refuse_the_token() {
    let endless = format!("n={:0>513}", 1);
    for claims in ["x=1", "b=0", "n=01", &endless, "n=1,n=2", "p=", "o=9-1", "s=i,", "\0", "o=53 "]
    {
        let mut world = world(12);
        adopt(&mut world, STRONG.0, &good());
        allocate(&mut world, STRONG.0, &claiming(claims)).expect_code(401);
        assert!(world.rejected(Why::BadToken) > 0, "{claims}");
    }
}
