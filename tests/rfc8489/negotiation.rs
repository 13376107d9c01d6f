//! §9.2.1, §9.2.4 step 3, §14.11–14.12: choosing the password algorithm without bidding down.

use rig::kind;
use rig::{Draft, Scheme, World};

/// A request that echoes these algorithms and chooses this one.
fn negotiate(world: &mut World, offered: Option<&[u8]>, chosen: Option<&[u8]>) -> Option<u16> {
    let mut alice = world.client("alice");
    alice.know_the_realm();
    let key = alice.state().key();
    alice.state().scheme = Scheme::Legacy;
    let mut draft = alice.state().credentials(Draft::allocate());
    alice.state().scheme = Scheme::Sha256;
    if let Some(offered) = offered {
        draft = draft.raw(kind::ALGORITHMS, offered);
    }
    if let Some(chosen) = chosen {
        draft = draft.raw(kind::ALGORITHM, chosen);
    }
    alice.bare(draft.integrity_sha256(&key)).code()
}

const OFFERED: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];
const SHA256: &[u8] = &[0, 2, 0, 0];

#[test]
fn auth_004_what_was_offered_must_come_back_unchanged() {
    for (case, offered, chosen, code) in [
        ("as offered", Some(OFFERED), Some(SHA256), None),
        ("list missing", None, Some(SHA256), Some(400)),
        ("choice missing", Some(OFFERED), None, Some(400)),
        ("SHA-256 dropped", Some(&[0, 1, 0, 0][..]), Some(&[0, 1, 0, 0][..]), Some(400)),
        ("MD5 dropped", Some(SHA256), Some(SHA256), Some(400)),
        ("other order", Some(&[0, 1, 0, 0, 0, 2, 0, 0]), Some(SHA256), Some(400)),
        ("one more", Some(&[0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0]), Some(SHA256), Some(400)),
        ("empty list", Some(&[]), Some(SHA256), Some(400)),
        ("half an entry", Some(&[0, 2, 0, 0, 0, 1]), Some(SHA256), Some(400)),
        ("choice not offered", Some(OFFERED), Some(&[0, 3, 0, 0]), Some(400)),
        ("choice of zero", Some(OFFERED), Some(&[0, 0, 0, 0]), Some(400)),
        ("choice of two bytes", Some(OFFERED), Some(&[0, 2]), Some(400)),
        ("choice overruns", Some(OFFERED), Some(&[0, 2, 0, 9]), Some(400)),
    ] {
        let mut world = World::seeded(4).with_client("alice");
        assert_eq!(negotiate(&mut world, offered, chosen), code, "{case}");
    }
}

#[test]
fn auth_016_the_stronger_algorithm_is_offered_first() {
    let mut world = World::seeded(16).with_client("alice");
    let heard = world.client("alice").bare(Draft::allocate());
    assert_eq!(heard.value(kind::ALGORITHMS), Some(OFFERED));
}

#[test]
fn auth_034_bidding_down_on_the_path_fails_the_next_request() {
    // Somebody removes SHA-256 from the challenge: the client echoes what it heard.
    let mut world = World::seeded(34).with_client("alice");
    let mut alice = world.client("alice");
    alice.know_the_realm();
    alice.state().scheme = Scheme::ExplicitMd5;
    alice.state().challenge.as_mut().expect("challenged").algorithms = Some(vec![0, 1, 0, 0]);
    let signed = alice.state().sign(Draft::allocate());
    alice.bare(signed).expect_code(400);
    // Somebody strips the algorithms and clears the nonce's bit: an old client would follow.
    alice.state().scheme = Scheme::Legacy;
    let challenge = alice.state().challenge.as_mut().expect("challenged");
    challenge.nonce.replace_range(9..13, "AAAA");
    let signed = alice.state().sign(Draft::allocate());
    alice.bare(signed).expect_code(438);
}
