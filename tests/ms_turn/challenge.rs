//! The decision table of Allocate (§5.1), from its top to its end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proto::addr::{Family, Side};
use proto::auth::ms_token::TokenGrant;
use proto::now::UnixTime;
use proto::policy::{Edge, Listener};
use proto::reject::{DropReason, Why};
use proto::turn::{Config, OpenFailure, Rate, Throttle};
use rig::ms::{
    ALLOCATE, ALTERNATE_SERVER, ERROR_CODE, INTEGRITY, MAGIC_COOKIE, NONCE, REALM_ATTRIBUTE,
    RELAYED, UNKNOWN, USERNAME, VERSION,
};
use rig::site::{BEGIN, REALM, pool_key};
use rig::{MsDraft, MsHeard, World};

use super::{world, world_with};

/// What the server is called where it stands behind a NAT.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn behind_nat(config: &mut Config) {
    let advertised = Some(PUBLIC.into());
    let listeners = config.edge.listeners().iter();
    let listeners = listeners.map(|listener| Listener { advertised, ..*listener }).collect();
    let relays = config.edge.relays(Family::V4).copied().collect();
    config.edge = Edge::new(listeners, relays, Vec::new());
}

/// An Allocate of alice without the attribute of this type, and signed.
fn without(world: &mut World, missing: u16) -> MsHeard {
    let mut alice = world.ms("alice");
    let state = alice.state().clone();
    let draft = alice.draft(ALLOCATE).number(VERSION, 1);
    let parts =
        [(REALM_ATTRIBUTE, &state.realm), (NONCE, &state.nonce), (USERNAME, &state.username)];
    let parts = parts.into_iter().filter(|(kind, _)| *kind != missing);
    let draft = parts.fold(draft, |draft, (kind, value)| draft.raw(kind, value));
    let draft = alice.seal(draft);
    alice.ask(&draft)
}

#[test]
fn mst_050_who_does_not_sign_is_challenged() {
    let mut world = world(50);
    let mut alice = world.ms("alice");
    let heard = alice.challenge();
    let expected = [MAGIC_COOKIE, ERROR_CODE, REALM_ATTRIBUTE, NONCE, VERSION];
    assert_eq!(heard.kinds(), expected, "MST-46: no integrity");
    assert_eq!(heard.value(REALM_ATTRIBUTE), Some(REALM.as_bytes()));
    assert_eq!(heard.number(VERSION), Some(2));
    // A user name alone proves nothing.
    let username = alice.state().username.clone();
    let draft = alice.draft(ALLOCATE).raw(USERNAME, &username);
    alice.ask(&draft).expect_code(401);
    assert_eq!(world.rejected(Why::NoIntegrity), 2);
}

#[test]
fn mst_046_the_first_challenge_is_unsigned_and_later_refusals_are_signed() {
    let mut world = world(46);
    assert_eq!(world.ms("alice").challenge().value(INTEGRITY), None);
    let key = world.ms("alice").state().key();
    for (missing, code) in [(REALM_ATTRIBUTE, 434), (NONCE, 435)] {
        let heard = without(&mut world, missing);
        assert_eq!(heard.expect_code(code).is_signed_with(&key), Some(true));
    }
    let heard = without(&mut world, USERNAME);
    assert_eq!(heard.expect_code(432).value(INTEGRITY), None, "nobody's key is known");
}

#[test]
fn mst_051_a_signed_request_without_user_name_is_432() {
    let mut world = world(51);
    world.ms("alice").challenge();
    let heard = without(&mut world, USERNAME);
    heard.expect_code(432);
    assert!(heard.value(NONCE).is_some() && heard.value(REALM_ATTRIBUTE).is_some());
}

#[test]
fn mst_052_tokens_that_are_not_ours_or_over_are_436_before_all_else() {
    let mut other = pool_key();
    other.ms_tokens = proto::auth::Secret::new(vec![1; 32]);
    for (case, change) in [
        ("another pool", 0),
        ("a bit changed", 1),
        ("no token", 2),
        ("empty", 3),
        ("expired", 4),
        ("a text as other clients have it", 5),
    ] {
        let mut world = world(52);
        let mut alice = world.ms("alice");
        alice.challenge();
        let state = alice.state();
        match change {
            0 => state.log_in(&other, "alice", BEGIN + 3_600),
            1 => state.username[20] ^= 1,
            2 => state.username = b"alice".to_vec(),
            3 => state.username.clear(),
            4 => state.log_in(&pool_key(), "alice", BEGIN),
            _ => state.username = rig::site::pool_login("alice", BEGIN + 60).username.into_bytes(),
        }
        // Even without realm and nonce, and with an integrity that cannot fit.
        for missing in [0, REALM_ATTRIBUTE, NONCE] {
            let heard = without(&mut world, missing);
            heard.expect_code(436);
            assert!(heard.value(NONCE).is_some(), "{case}");
        }
        assert!(world.open_sockets().is_empty(), "{case}");
    }
}

#[test]
fn ed_047_a_token_for_another_side_or_edge_is_nobodys_before_all_else() {
    let mut other = pool_key();
    other.ms_tokens = proto::auth::Secret::new(vec![1; 32]);
    for (case, key, side, why) in [
        ("another edge", other, None, Why::UnknownUser),
        ("another side", pool_key(), Some(Side::Internal), Why::WrongSide),
    ] {
        let mut world = world(47);
        world.ms("alice").challenge();
        let expires = UnixTime(BEGIN + 3_600);
        let grant = TokenGrant { identity: "sip:alice@edge.test", expires, side };
        world.ms("alice").state().take(&key, &grant);
        for missing in [0, REALM_ATTRIBUTE, NONCE] {
            let heard = without(&mut world, missing);
            heard.expect_code(436);
            assert!(heard.value(NONCE).is_some(), "{case}: and may try another");
        }
        assert_eq!(world.rejected(why), 3, "{case}");
        assert!(world.open_sockets().is_empty(), "{case}");
        let grant = TokenGrant { side: Some(Side::External), ..grant };
        world.ms("alice").state().take(&pool_key(), &grant);
        world.ms("alice").relay();
    }
}

#[test]
fn mst_053_an_allocate_without_our_realm_is_434() {
    let mut world = world(53);
    world.ms("alice").challenge();
    without(&mut world, REALM_ATTRIBUTE).expect_code(434);
    world.ms("alice").state().realm = b"elsewhere.test".to_vec();
    without(&mut world, 0).expect_code(434);
    let heard = without(&mut world, NONCE);
    heard.expect_code(434);
    assert_eq!(heard.value(REALM_ATTRIBUTE), Some(REALM.as_bytes()));
}

#[test]
fn mst_054_an_allocate_without_nonce_is_435() {
    let mut world = world(54);
    world.ms("alice").challenge();
    without(&mut world, NONCE).expect_code(435);
}

#[test]
fn mst_055_an_old_or_invented_nonce_is_438_with_a_fresh_one() {
    let mut world = world(55);
    world.ms("alice").challenge();
    world.advance_s(601);
    let heard = without(&mut world, 0);
    heard.expect_code(438);
    let old = world.ms("alice").state().nonce.clone();
    world.ms("alice").learn(&heard);
    assert_ne!(world.ms("alice").state().nonce, old);
    world.ms("alice").state().nonce = b"0123456789abcdef".to_vec();
    let heard = without(&mut world, 0);
    world.ms("alice").learn(heard.expect_code(438));
    without(&mut world, 0).expect_success();
    // Another client's nonce is as good as an invented one.
    let stolen = world.ms("alice").state().nonce.clone();
    world.ms("carol").state().nonce = stolen;
    world.ms("carol").allocate().expect_code(438);
}

#[test]
fn mst_056_a_wrong_integrity_is_431() {
    let mut world = world(56);
    let mut alice = world.ms("alice");
    alice.challenge();
    let draft = alice.draft(ALLOCATE).number(VERSION, 1);
    let mut bytes = alice.signed(draft).encode();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    alice.send_bytes(&bytes);
    let Some(rig::MsArrival::Response(heard)) = alice.take() else { panic!("an answer") };
    heard.expect_code(431);
    alice.state().password[0] ^= 1;
    alice.allocate().expect_code(431);
    assert_eq!(world.rejected(Why::WrongPassword), 2);
    assert!(world.open_sockets().is_empty());
    // Whoever forges an address may have a token of his own: what is signed is not proven.
    while let Some(notice) = world.server.poll_notice() {
        assert!(!notice.is_proven(), "{notice:?}");
    }
}

#[test]
fn mst_057_unknown_attributes_are_420_once_the_client_is_known() {
    let mut world = world(57);
    let mut alice = world.ms("alice");
    let draft = alice.draft(ALLOCATE).number(VERSION, 1).raw(0x0025, &[]);
    let heard = alice.ask(&draft);
    alice.learn(heard.expect_code(401));
    let draft = alice.draft(ALLOCATE).raw(0x0025, &[]).raw(0x8006, &[1]).raw(0x7FFF, &[]);
    let draft = alice.signed(draft);
    let heard = alice.ask(&draft);
    heard.expect_code(420);
    assert_eq!(heard.value(UNKNOWN), Some(&[0x00, 0x25, 0x7F, 0xFF][..]));
    let key = alice.state().key();
    assert_eq!(heard.is_signed_with(&key), Some(true));
    let draft = alice.draft(ALLOCATE).raw(0x8037, b"cloud").raw(0x8039, b"tag");
    let draft = alice.signed(draft);
    alice.ask(&draft).expect_success();
}

#[test]
fn mst_058_a_full_relay_sends_clients_to_another() {
    let other: SocketAddr = "198.51.100.20:3478".parse().expect("an address");
    let mut world = world_with(58, |config| {
        config.limits.allocations = 1;
        config.redirect.when_full = true;
        config.redirect.alternates[Family::V4.index()] = vec![other];
    });
    world.ms("alice").relay();
    let heard = world.ms("carol").allocate();
    heard.expect_code(300);
    assert_eq!(heard.address(ALTERNATE_SERVER), Some(other));
    let key = world.ms("carol").state().key();
    assert_eq!(heard.is_signed_with(&key), Some(true));
}

#[test]
fn mst_059_what_cannot_be_allocated_is_500() {
    let mut full = world_with(59, |config| config.limits.allocations_per_user = 0);
    full.ms("alice").allocate().expect_code(500);
    assert_eq!(full.rejected(Why::UserQuota), 1);
    let mut world = world(59);
    world.socket_failure = Some(OpenFailure::Exhausted);
    world.ms("alice").allocate().expect_code(500);
    assert_eq!(world.rejected(Why::OutOfDescriptors), 1);
}

#[test]
fn mst_061_the_public_name_is_told_where_there_is_one() {
    let mut plain = world(61);
    assert_eq!(plain.ms("alice").challenge().address(ALTERNATE_SERVER), None);
    let mut world = world_with(61, behind_nat);
    let expected = Some(SocketAddr::from((PUBLIC, 3478)));
    assert_eq!(world.ms("alice").challenge().address(ALTERNATE_SERVER), expected);
    let heard = without(&mut world, NONCE);
    assert_eq!(heard.expect_code(435).address(ALTERNATE_SERVER), expected);
    assert_eq!(world.ms("alice").allocate().expect_success().address(ALTERNATE_SERVER), None);
}

#[test]
fn mst_061_a_challenge_gives_nobody_a_lever() {
    let mut world = world_with(61, |config| {
        behind_nat(config);
        config.realm = "edge.example.com".to_owned();
    });
    let mut alice = world.ms("alice");
    let smallest = alice.draft(ALLOCATE);
    let heard = alice.ask(&smallest);
    let wire = |bytes: &[u8]| 28 + bytes.len();
    // As SEC-007 has it for TURN of the RFCs.
    let (asked, answered) = (wire(&smallest.encode()), wire(heard.expect_code(401).bytes()));
    assert!(answered * 10 <= asked * 27, "{answered} bytes for {asked}");
}

#[test]
fn mst_062_the_challenge_names_the_realm_whose_key_is_meant() {
    let mut world = world(62);
    for named in [REALM, "elsewhere.test"] {
        let mut alice = world.ms("alice");
        let draft = alice.draft(ALLOCATE).raw(REALM_ATTRIBUTE, named.as_bytes());
        let heard = alice.ask(&draft);
        // A key of another realm than ours would not be ours, so only ours is ever challenged for.
        assert_eq!(heard.expect_code(401).value(REALM_ATTRIBUTE), Some(REALM.as_bytes()));
    }
}

#[test]
fn mst_063_attributes_come_in_any_order() {
    let mut world = world(63);
    let mut alice = world.ms("alice");
    alice.challenge();
    let state = alice.state().clone();
    // As a genuine client orders them.
    let draft = alice
        .draft(ALLOCATE)
        .number(VERSION, 1)
        .raw(USERNAME, &state.username)
        .raw(NONCE, &state.nonce)
        .raw(REALM_ATTRIBUTE, &state.realm);
    let draft = alice.seal(draft);
    let first = alice.ask(&draft).expect_success().address(RELAYED);
    // And as libnice does.
    assert_eq!(alice.allocate().expect_success().address(RELAYED), first);
}

#[test]
fn mst_035_answers_have_only_attributes_that_libnice_knows() {
    let mut world = world(35);
    world.ms("alice").challenge();
    for missing in [REALM_ATTRIBUTE, NONCE, USERNAME, 0] {
        // `MsHeard::read` fails on others.
        without(&mut world, missing);
    }
}

#[test]
fn mst_036_values_that_we_choose_fill_words() {
    let mut world = world(36);
    let mut alice = world.ms("alice");
    let heard = alice.challenge();
    for kind in [ERROR_CODE, NONCE] {
        let length = heard.value(kind).expect("it is there").len();
        assert!(length.is_multiple_of(4), "{kind:#x}");
    }
    assert!(alice.state().username.len().is_multiple_of(4));
}

#[test]
fn mst_005_broken_messages_are_ignored() {
    let mut world = world(5);
    let mut alice = world.ms("alice");
    let good = alice.draft(ALLOCATE).number(VERSION, 1).encode();
    let mut cookie = good.clone();
    cookie[27] ^= 1;
    alice.send_bytes(&cookie);
    for cut in [1, 4, 5, 8] {
        alice.send_bytes(&good[..good.len() - cut]);
    }
    alice.send_bytes(&[&good[..], &[0]].concat());
    alice.expect_silence();
    assert_eq!(world.dropped(DropReason::MalformedMs), 5);
    assert_eq!(world.dropped(DropReason::MalformedStun), 1, "without cookie it is no message");
}

#[test]
fn mst_050_strangers_hear_so_many_answers_and_no_more() {
    let mut world = world(50);
    let throttle = Throttle::new(Rate { per_s: 10, burst: 20 }, 1, world.now().mono);
    world.server = world.server.throttled(Arc::new(throttle));
    let answered = (0..50).filter(|_| {
        let mut alice = world.ms("alice");
        let draft = alice.draft(ALLOCATE).number(VERSION, 1);
        alice.exchange(&draft).is_some()
    });
    assert_eq!(answered.count(), 12, "the rest is kept for others at this address");
    assert_eq!(world.dropped(DropReason::Throttled), 38);
}

#[test]
fn mst_034_messages_of_servers_and_the_shared_secret_are_not_for_us() {
    let mut world = world(34);
    for kind in [0x0002, 0x0102, 0x0103, 0x0104, 0x0114, 0x0115, 0x0106, 0x0008, 0x0001, 0x03FF] {
        let id = world.dice.bytes(16).try_into().expect("asked for 16 bytes");
        world.ms("alice").send_bytes(&MsDraft::new(kind, id).encode());
        world.ms("alice").expect_silence();
    }
    assert_eq!(world.dropped(DropReason::UnexpectedMessage), 10);
}

#[test]
fn mst_044_no_token_or_password_is_one_that_libnice_would_trim() {
    let mut world = world(44);
    for number in 0..2_000 {
        let mut alice = world.ms("alice");
        let state = alice.state();
        state.log_in(&pool_key(), &format!("user{number}"), BEGIN + 3_600);
        for bytes in [&state.username, &state.password] {
            assert_ne!(bytes.first(), Some(&b'"'), "{number}");
            assert!(!matches!(bytes.last(), Some(b'"' | 0)), "{number}");
        }
    }
}
