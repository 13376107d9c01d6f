//! §9.2.4: receiving a request, check by check in the RFC's order.

use rig::kind::{self, method};
use rig::site::{self, BEGIN};
use rig::{Draft, Heard, Scheme, World};

/// What must never stand in a challenge or in a refusal of the credentials themselves.
fn assert_names_nobody(heard: &Heard) {
    for kind in [kind::USERNAME, kind::USERHASH, kind::INTEGRITY, kind::INTEGRITY_SHA256] {
        assert!(!heard.has(kind), "{kind:#06x} in {:x?}", heard.kinds());
    }
}

fn assert_challenge(heard: &Heard, code: u16) {
    heard.expect_code(code);
    assert_eq!(heard.text(kind::REALM), Some(site::REALM));
    assert!(heard.has(kind::NONCE) && heard.has(kind::ALGORITHMS), "{:x?}", heard.kinds());
    assert!(!heard.has(kind::USERNAME) && !heard.has(kind::USERHASH), "{:x?}", heard.kinds());
}

#[test]
fn auth_001_a_request_without_integrity_is_challenged() {
    let mut world = World::seeded(1).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    for draft in
        [Draft::allocate(), Draft::refresh(0), Draft::permit(&[bob]), Draft::bind(0x4000, bob)]
    {
        for draft in [draft.clone(), draft.raw(kind::USERNAME, b"somebody")] {
            let heard = world.client("alice").bare(draft);
            assert_challenge(&heard, 401);
            assert_names_nobody(&heard);
        }
    }
}

#[test]
fn auth_002_integrity_without_name_realm_or_nonce_is_a_bad_request() {
    for scheme in Scheme::ALL {
        let mut world = World::seeded(2).with_client("alice");
        let mut alice = world.client("alice");
        alice.state().scheme = scheme;
        alice.know_the_realm();
        for missing in [kind::USERNAME, kind::REALM, kind::NONCE] {
            let draft = alice.state().credentials_without(missing, Draft::allocate());
            let sealed = alice.state().seal(draft);
            let heard = alice.bare(sealed);
            heard.expect_code(400);
            assert_names_nobody(&heard);
            assert!(!heard.has(kind::REALM) && !heard.has(kind::NONCE), "{missing:#06x}");
        }
        alice.allocate().expect_success();
    }
}

#[test]
fn auth_003_a_nonce_with_the_cookie_does_not_force_new_algorithms() {
    let mut world = World::seeded(3).with_client("alice");
    let mut alice = world.client("alice");
    alice.state().scheme = Scheme::Legacy;
    alice.allocate().expect_success();
    let nonce = alice.state().challenge.clone().expect("challenged").nonce;
    assert!(nonce.starts_with("obMatJos2"), "{nonce}");
}

#[test]
fn auth_005_an_unknown_user_is_challenged_again() {
    for name in ["nobody", "", "1800086400:ffffffff::mallory", "x:0badcafe::alice", "\u{1F600}"] {
        let mut world = World::seeded(5).with_client("alice");
        let mut alice = world.client("alice");
        alice.know_the_realm();
        alice.state().login.username = name.to_owned();
        let heard = alice.ask(Draft::allocate());
        assert_challenge(&heard, 401);
        assert_names_nobody(&heard);
    }
}

#[test]
fn auth_006_the_stronger_integrity_attribute_decides() {
    let mut world = World::seeded(6).with_client("alice");
    let mut alice = world.client("alice");
    alice.know_the_realm();
    let good = alice.state().key();
    let right = alice.state().login.password.clone();
    alice.state().login.password = "wrong".to_owned();
    let heard = alice.ask(Draft::allocate());
    assert_challenge(&heard, 401);
    assert_names_nobody(&heard);
    let bad = alice.state().key();
    alice.state().login.password = right;
    let draft = alice.state().credentials(Draft::allocate());
    let heard = alice.bare(draft.clone().integrity(&good).integrity_sha256(&bad));
    assert_challenge(&heard, 401);
    assert_names_nobody(&heard);
    alice.bare(draft.integrity(&good).integrity_sha256(&good)).expect_success();
}

#[test]
fn auth_007_a_stale_nonce_matters_only_with_the_right_password() {
    for scheme in Scheme::ALL {
        let mut world = World::seeded(7).with_client("alice");
        world.client("alice").state().scheme = scheme;
        world.client("alice").know_the_realm();
        world.advance_s(601);
        let mut alice = world.client("alice");
        let signed = alice.state().sign(Draft::allocate());
        let heard = alice.bare(signed);
        assert_challenge(&heard, 438);
        let old = alice.state().challenge.clone().expect("challenged").nonce;
        assert_ne!(heard.text(kind::NONCE), Some(&*old), "a fresh nonce");
        alice.state().login.password = "wrong".to_owned();
        let signed = alice.state().sign(Draft::allocate());
        assert_challenge(&alice.bare(signed), 401);
    }
}

#[test]
fn auth_008_another_realm_is_a_wrong_credential() {
    for scheme in Scheme::ALL {
        let mut world = World::seeded(8).with_client("alice");
        let mut alice = world.client("alice");
        alice.state().scheme = scheme;
        alice.know_the_realm();
        alice.state().challenge.as_mut().expect("challenged").realm = "other".to_owned();
        let heard = alice.ask(Draft::allocate());
        assert_challenge(&heard, 401);
        assert_names_nobody(&heard);
    }
}

/// One request of each refusal that follows authentication, with its code.
fn refusals(world: &mut World) -> Vec<(u16, Heard)> {
    let (bob, carol) = (world.peer_address("bob"), world.peer_address("carol"));
    let denied = "127.0.0.1:9".parse().expect("an address");
    let mut alice = world.client("alice");
    let mut heard = vec![
        (437, alice.refresh(600)),
        (400, alice.ask(Draft::request(method::ALLOCATE))),
        (420, alice.ask(Draft::allocate().raw(0x7FFF, b""))),
        (442, alice.ask(Draft::request(method::ALLOCATE).raw(kind::TRANSPORT, &[1, 0, 0, 0]))),
        (440, alice.ask(Draft::allocate().raw(kind::FAMILY, &[9, 0, 0, 0]))),
        (508, alice.ask(Draft::allocate().raw(kind::RESERVATION, &[9; 8]))),
    ];
    alice.relay();
    heard.extend([
        (437, alice.ask(Draft::allocate())),
        (400, alice.ask(Draft::request(method::CREATE_PERMISSION))),
        (400, alice.ask(Draft::bind(0x3FFF, bob))),
        (403, alice.permit_addresses(&[denied])),
        (403, alice.bind_address(0x4000, denied)),
        (443, alice.permit_addresses(&[carol])),
    ]);
    heard
}

#[test]
fn auth_009_every_answer_to_an_authenticated_request_is_signed() {
    for scheme in Scheme::ALL {
        let mut world = World::seeded(9).with_client("alice").with_peer("bob").with_peer6("carol");
        world.client("alice").state().scheme = scheme;
        for (code, heard) in refusals(&mut world) {
            heard.expect_code(code);
            world.client("alice").assert_signed(&heard);
        }
    }
}

#[test]
fn auth_009_quotas_and_other_users_are_told_with_a_signature() {
    let mut world = World::configured(9, |config| config.limits.allocations_per_user = 1)
        .with_client("alice")
        .with_client("second");
    world.client("alice").relay();
    world.client("second").state().login = site::pool_login("alice", BEGIN + 86_400);
    let heard = world.client("second").allocate();
    heard.expect_code(486);
    world.client("second").assert_signed(&heard);
    world.client("alice").state().login = site::pool_login("mallory", BEGIN + 86_400);
    let heard = world.client("alice").refresh(600);
    heard.expect_code(441);
    world.client("alice").assert_signed(&heard);
}

#[test]
fn auth_010_the_answer_uses_the_integrity_attribute_of_the_request() {
    for (scheme, present, absent) in [
        (Scheme::Legacy, kind::INTEGRITY, kind::INTEGRITY_SHA256),
        (Scheme::Sha256, kind::INTEGRITY_SHA256, kind::INTEGRITY),
        (Scheme::ExplicitMd5, kind::INTEGRITY_SHA256, kind::INTEGRITY),
    ] {
        let mut world = World::seeded(10).with_client("alice");
        world.client("alice").state().scheme = scheme;
        let heard = world.client("alice").allocate();
        heard.expect_success();
        assert!(heard.has(present) && !heard.has(absent), "{scheme:?}: {:x?}", heard.kinds());
    }
}

#[test]
fn auth_011_answers_to_the_authenticated_repeat_no_credentials() {
    let mut world = World::seeded(11).with_client("alice");
    let heard = [world.client("alice").allocate(), world.client("alice").refresh(600)];
    for heard in heard {
        for kind in [kind::REALM, kind::NONCE, kind::USERNAME, kind::USERHASH] {
            assert!(!heard.has(kind), "{kind:#06x}");
        }
    }
}

#[test]
fn auth_012_the_keyed_hash_covers_a_length_that_ends_with_its_own_attribute() {
    let mut world = World::seeded(12).with_client("alice");
    let mut alice = world.client("alice");
    alice.know_the_realm();
    let key = alice.state().key();
    let draft = alice.state().credentials(Draft::allocate());
    let draft = draft.integrity(&key).integrity_sha256(&key).fingerprint();
    alice.bare(draft).expect_success();
    let draft = alice.state().credentials(Draft::refresh(600)).integrity_sha256(&key).fingerprint();
    alice.bare(draft).expect_success();
    alice.state().scheme = Scheme::Legacy;
    let signed = alice.state().sign(Draft::refresh(600)).fingerprint();
    alice.bare(signed).expect_success();
}

#[test]
fn auth_013_integrity_values_have_one_length() {
    let mut world = World::seeded(13).with_client("alice");
    let mut alice = world.client("alice");
    alice.know_the_realm();
    let key = alice.state().key();
    for length in [0, 4, 12, 16, 20, 24, 28, 31, 33, 36] {
        let draft = alice.state().credentials(Draft::allocate());
        let code = alice.bare(draft.integrity_sha256_of(&key, length)).code();
        assert!(matches!(code, Some(400 | 401)), "SHA-256 of {length} bytes: {code:?}");
    }
    alice.state().scheme = Scheme::Legacy;
    for length in [0, 4, 16, 19, 21, 24, 32] {
        let draft = alice.state().credentials(Draft::allocate());
        let code = alice.bare(draft.raw(kind::INTEGRITY, &vec![7; length])).code();
        assert!(matches!(code, Some(400 | 401)), "SHA-1 of {length} bytes: {code:?}");
    }
    alice.allocate().expect_success();
}

#[test]
fn auth_014_keys_are_md5_of_name_realm_and_password() {
    let key = rig::Login { username: "user".to_owned(), password: "pass".to_owned() }
        .key("realm", stun_rs::AlgorithmId::MD5);
    assert_eq!(key.as_bytes()[..4], [0x84, 0x93, 0xFB, 0xC5], "the RFC's constant, by the oracle");
    let mut world = World::seeded(14).with_client("alice");
    for scheme in [Scheme::Legacy, Scheme::ExplicitMd5] {
        world.client("alice").state().scheme = scheme;
        world.client("alice").allocate().expect_success();
        world.client("alice").refresh(0).expect_success();
    }
}

#[test]
fn auth_015_keys_are_sha256_when_the_client_chooses_it() {
    let mut world = World::seeded(15).with_client("alice");
    let mut alice = world.client("alice");
    alice.allocate().expect_success();
    let key = alice.state().key();
    assert_eq!(key.as_bytes().len(), 32);
    // The same key feeds either keyed hash.
    let draft = alice.state().credentials(Draft::refresh(600));
    alice.bare(draft.integrity(&key)).expect_success();
}

#[test]
fn auth_025_a_user_hash_without_a_name_is_refused() {
    let mut world = World::seeded(25).with_client("alice");
    let mut alice = world.client("alice");
    alice.know_the_realm();
    let challenge = alice.state().challenge.clone().expect("challenged");
    let draft = Draft::allocate()
        .raw(kind::USERHASH, &[0x11; 32])
        .raw(kind::REALM, challenge.realm.as_bytes())
        .raw(kind::NONCE, challenge.nonce.as_bytes())
        .raw(kind::ALGORITHMS, challenge.algorithms.as_deref().expect("offered"))
        .raw(kind::ALGORITHM, &[0, 2, 0, 0]);
    let sealed = alice.state().seal(draft);
    assert_challenge(&alice.bare(sealed), 401);
}

#[test]
fn auth_026_a_user_hash_beside_a_name_changes_nothing() {
    let mut world = World::seeded(26).with_client("alice");
    world
        .client("alice")
        .allocate_with(Draft::allocate().raw(kind::USERHASH, &[0x11; 32]))
        .expect_success();
}

#[test]
fn auth_027_the_server_keeps_no_password() {
    let mut world = World::seeded(27).with_client("alice");
    world.client("alice").relay();
    let password = world.client("alice").state().login.password.clone();
    let dump = format!("{:?}", world.server);
    assert!(dump.contains("realm"), "the dump shows the server's state");
    let octets = format!("{:?}", password.as_bytes());
    let octets = octets.trim_matches(['[', ']']);
    assert!(!dump.contains(&password) && !dump.contains(octets), "the password is in the state");
}

#[test]
fn auth_028_another_user_on_the_five_tuple_is_refused() {
    let mut world = World::seeded(28).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    world.client("alice").relay();
    let own = world.client("alice").state().login.clone();
    world.client("alice").state().login = site::pool_login("mallory", BEGIN + 86_400);
    for draft in [Draft::refresh(0), Draft::permit(&[bob]), Draft::bind(0x4000, bob)] {
        world.client("alice").ask(draft).expect_code(441);
    }
    let tally = world.server.tally();
    assert_eq!((tally.allocations, tally.permissions, tally.channels), (1, 0, 0));
    world.client("alice").state().login = own;
    world.client("alice").refresh(600).expect_success();
}

#[test]
fn auth_029_authentication_comes_before_the_allocation() {
    let mut world = World::seeded(29).with_client("alice");
    let without = world.client("alice").bare(Draft::refresh(600));
    without.expect_code(401);
    world.client("alice").refresh(600).expect_code(437);
    world.client("alice").relay();
    world.client("alice").bare(Draft::refresh(600)).expect_code(401);
}

#[test]
fn sec_015_outsiders_cannot_tell_whether_an_allocation_exists() {
    let mut world = World::seeded(15).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    let probes = [Draft::refresh(600), Draft::permit(&[bob]), Draft::bind(0x4000, bob)];
    let answers = |world: &mut World| -> Vec<Heard> {
        probes.iter().map(|probe| world.client("alice").bare(probe.clone())).collect()
    };
    let without = answers(&mut world);
    world.client("alice").relay();
    for (without, with) in without.iter().zip(answers(&mut world)) {
        with.expect_code(401);
        assert_eq!(with.kinds(), without.kinds());
        assert_eq!(with.bytes().len(), without.bytes().len());
    }
}

#[test]
fn auth_030_indications_are_not_authenticated() {
    let mut world = World::seeded(30).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    world.client("alice").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    for kind in [kind::INTEGRITY, kind::INTEGRITY_SHA256] {
        let length = if kind == kind::INTEGRITY { 20 } else { 32 };
        let draft = Draft::send(bob, b"hello").raw(kind, &vec![0xEE; length]);
        assert!(world.client("alice").exchange(draft).is_none());
        world.peer("bob").expect(b"hello");
    }
}

#[test]
fn auth_031_short_term_credentials_are_refused() {
    let mut world = World::seeded(31).with_client("alice");
    let mut alice = world.client("alice");
    alice.know_the_realm();
    let key = alice.state().key();
    let name = alice.state().login.username.clone();
    let draft = Draft::allocate().raw(kind::USERNAME, name.as_bytes());
    alice.bare(draft.clone().integrity(&key)).expect_code(400);
    alice.bare(draft.integrity_sha256(&key)).expect_code(400);
}

#[test]
fn auth_033_unknown_user_and_wrong_password_look_alike() {
    let mut world = World::seeded(33).with_client("alice");
    let mut alice = world.client("alice");
    alice.know_the_realm();
    let unknown = alice.state().login.username.replace("0badcafe", "ffffffff");
    let name = std::mem::replace(&mut alice.state().login.username, unknown);
    let first = alice.ask(Draft::allocate());
    alice.state().login.username = name;
    alice.state().login.password = "wrong".to_owned();
    let second = alice.ask(Draft::allocate());
    assert_eq!((first.code(), first.kinds()), (second.code(), second.kinds()));
    assert_eq!(first.bytes().len(), second.bytes().len());
}
