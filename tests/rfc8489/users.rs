//! §9.2 with users whom the configuration names, and §14.4: USERHASH.

use proto::auth::{UserKeys, Users};
use proto::turn::Config;
use rig::kind;
use rig::site::{self, BEGIN, REALM};
use rig::{Draft, Login, Scheme, World};
use ring::digest::{SHA256, digest};

/// Two users, and beside them no other form of credential.
fn only_users(config: &mut Config) {
    config.authority.ring = None;
    config.authority.rest_secrets.clear();
    also_users(config);
}

/// The same beside pool and REST credentials.
fn also_users(config: &mut Config) {
    let user = |name: &str, password: &str| {
        (name.to_owned(), UserKeys::of_password(name, REALM, password))
    };
    let users = [user("alice", "wonderland"), user("bob", "builder"), user("1800003600", "digits")];
    config.authority.users = Some(Users::new(REALM, users));
}

fn login(name: &str, password: &str) -> Login {
    Login { username: name.to_owned(), password: password.to_owned() }
}

/// A client of a server that knows these users, with Alice's credential.
fn world(seed: u64, users: impl FnOnce(&mut Config)) -> World {
    let mut world = World::configured(seed, users).with_client("alice");
    world.client("alice").state().login = login("alice", "wonderland");
    world
}

/// USERHASH as the RFC defines it, by another implementation.
fn user_hash(name: &str) -> Vec<u8> {
    digest(&SHA256, format!("{name}:{REALM}").as_bytes()).as_ref().to_vec()
}

/// The third byte of the security features in a nonce.
fn features(nonce: &str) -> u8 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let bits = nonce.strip_prefix("obMatJos2").expect("the nonce cookie");
    STANDARD.decode(&bits[..4]).expect("base64")[2]
}

/// An Allocate whose user is named by hash alone, signed with the client's own key.
fn hashed(world: &mut World, hash: &[u8]) -> Draft {
    let mut alice = world.client("alice");
    alice.know_the_realm();
    let draft = Draft::allocate().raw(kind::USERHASH, hash);
    let draft = alice.state().credentials_without(kind::USERNAME, draft);
    alice.state().seal(draft)
}

#[test]
fn auth_014_named_users_log_in_with_every_algorithm() {
    for users in [only_users, also_users] {
        for scheme in Scheme::ALL {
            let mut world = world(14, users);
            world.client("alice").state().scheme = scheme;
            world.client("alice").allocate().expect_success();
            world.client("alice").refresh(0).expect_success();
            world.client("alice").state().login.password = "looking-glass".to_owned();
            world.client("alice").allocate().expect_code(401);
        }
    }
}

#[test]
fn auth_014_all_forms_of_credentials_are_taken_side_by_side() {
    let digits = login("1800003600", "digits");
    for login in [
        site::pool_login("carol", BEGIN + 600),
        site::rest_login("carol", BEGIN + 600),
        site::rest_login("alice", BEGIN + 600),
        login("bob", "builder"),
        digits,
    ] {
        let mut world = world(14, also_users);
        world.client("alice").state().login = login;
        world.client("alice").allocate().expect_success();
    }
    let mut world = world(14, only_users);
    world.client("alice").state().login = site::pool_login("carol", BEGIN + 600);
    world.client("alice").allocate().expect_code(401);
}

#[test]
fn auth_016_a_user_whose_key_is_of_one_algorithm_uses_that_one() {
    for (scheme, keep_md5, code) in [
        (Scheme::Legacy, true, None),
        (Scheme::Legacy, false, Some(401)),
        (Scheme::Sha256, true, Some(401)),
        (Scheme::Sha256, false, None),
    ] {
        let mut world = world(16, |config| {
            let both = UserKeys::of_password("alice", REALM, "wonderland");
            let keys = UserKeys {
                md5: both.md5.filter(|_| keep_md5),
                sha256: both.sha256.filter(|_| !keep_md5),
            };
            config.authority.users = Some(Users::new(REALM, [("alice".to_owned(), keys)]));
        });
        world.client("alice").state().scheme = scheme;
        assert_eq!(world.client("alice").allocate().code(), code, "{scheme:?}, MD5: {keep_md5}");
    }
}

#[test]
fn auth_024_a_user_is_found_by_the_hash_of_the_name() {
    for scheme in Scheme::ALL {
        let mut world = world(24, only_users).with_peer("bob");
        world.client("alice").state().scheme = scheme;
        let draft = hashed(&mut world, &user_hash("alice"));
        let heard = world.client("alice").bare(draft);
        heard.expect_success();
        world.client("alice").assert_signed(&heard);
        // The name itself is the same user.
        world.client("alice").permit(&["bob"]).expect_success();
    }
    let mut world = world(24, only_users);
    for (case, hash, code) in [
        ("somebody else's", user_hash("bob"), 401),
        ("nobody's", user_hash("nobody"), 401),
        ("of nothing", user_hash(""), 401),
        ("one byte short", user_hash("alice")[..31].to_vec(), 400),
        ("one byte long", [&user_hash("alice")[..], b"\0"].concat(), 400),
        ("empty", Vec::new(), 400),
    ] {
        let draft = hashed(&mut world, &hash);
        let heard = world.client("alice").bare(draft);
        assert_eq!(heard.code(), Some(code), "{case}");
        assert!(!heard.has(kind::USERHASH), "{case}");
    }
}

#[test]
fn auth_025_names_may_be_hidden_only_where_everybody_is_known() {
    for (case, users, anonymity) in [
        ("named users alone", only_users as fn(&mut Config), true),
        ("beside minted credentials", also_users, false),
        ("minted credentials alone", |_| (), false),
    ] {
        let mut world = World::configured(25, users).with_client("alice");
        let heard = world.client("alice").bare(Draft::allocate());
        let bits = features(heard.text(kind::NONCE).expect("a nonce"));
        assert_eq!(bits, if anonymity { 0b11 } else { 0b01 }, "{case}");
    }
}

#[test]
fn auth_025_a_cleared_anonymity_bit_makes_the_nonce_stale() {
    let mut world = world(25, only_users);
    world.client("alice").know_the_realm();
    let challenge = world.client("alice").state().challenge.clone().expect("challenged");
    let altered = challenge.nonce.replacen("AAAD", "AAAB", 1);
    assert_ne!(altered, challenge.nonce);
    let mut alice = world.client("alice");
    alice.state().challenge.as_mut().expect("challenged").nonce = altered;
    let signed = alice.state().sign(Draft::allocate());
    alice.bare(signed).expect_code(438);
}

#[test]
fn auth_026_of_name_and_hash_the_name_counts() {
    for (hash, password, code) in [
        ("bob", "wonderland", None),
        ("bob", "builder", Some(401)),
        ("nobody", "wonderland", None),
        ("alice", "wonderland", None),
    ] {
        let mut world = world(26, only_users);
        world.client("alice").state().login.password = password.to_owned();
        let draft = Draft::allocate().raw(kind::USERHASH, &user_hash(hash));
        assert_eq!(world.client("alice").ask(draft).code(), code, "{hash}, {password}");
    }
}

#[test]
fn auth_027_no_password_of_a_named_user_is_kept() {
    let mut world = world(27, only_users);
    world.client("alice").relay();
    let dump = format!("{:?}", world.server);
    assert!(dump.contains("Users(3)"), "the dump shows that there are users");
    assert!(!dump.contains("wonderland") && !dump.contains("builder"));
}

#[test]
fn auth_028_a_named_user_is_not_the_namesake_of_another_form() {
    let mut world = world(28, also_users);
    world.client("alice").relay();
    let named = world.server.allocations(world.now()).next().expect("an allocation").user;
    world.client("alice").refresh(0).expect_success();
    world.client("alice").state().login = site::pool_login("alice", BEGIN + 600);
    world.client("alice").relay();
    let minted = world.server.allocations(world.now()).next().expect("an allocation").user;
    assert_ne!(named, minted, "quotas of their own");
}

#[test]
fn auth_033_an_unknown_user_is_answered_like_a_wrong_password() {
    for users in [only_users, also_users] {
        let mut heard = Vec::new();
        for name in ["alice", "nobody", "1800003600", "1800003601"] {
            let mut world = world(33, users);
            world.client("alice").state().login = login(name, "wrong");
            let answer = world.client("alice").allocate();
            answer.expect_code(401);
            heard.push((answer.kinds(), answer.bytes().len()));
        }
        assert!(heard.windows(2).all(|pair| pair[0] == pair[1]), "{heard:?}");
    }
}

#[test]
fn rest_007_named_users_never_expire() {
    let mut world = world(7, only_users);
    world.step_wall_clock(40 * 365 * 86_400);
    world.client("alice").relay();
    world.step_wall_clock(10 * 365 * 86_400);
    world.client("alice").refresh(600).expect_success();
}
