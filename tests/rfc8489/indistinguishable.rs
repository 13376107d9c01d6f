//! An unknown user and a wrong password look alike: in every byte of the answer, and in the time it
//! takes (threat model T2).

use std::time::{Duration, Instant};

use proto::addr::{ClientAddr, FiveTuple, ListenerId};
use proto::auth::{Secret, UserKeys, Users};
use proto::reject::Why;
use proto::turn::{Action, Config};
use rig::site::{BEGIN, KEY_ID, REALM, REST_SECRET};
use rig::{Draft, Login, Scheme, World};

/// Answers of which the fastest is taken, as nothing disturbs one of so many. Where they still
/// differ, more are asked for: what is really slower stays slower.
const TRIES: u32 = 100;
const MOST_TRIES: u32 = 4_000;

/// How much longer one may take than the other, of a hundred.
const TOLERANCE: u32 = 15;

/// A form of credentials that a relay takes alone, with a user who exists and one who does not; both
/// names have one length.
struct Form {
    name: &'static str,
    alone: fn(&mut Config),
    known: String,
    unknown: String,
}

fn forms() -> [Form; 4] {
    let until = BEGIN + 3_600;
    [
        Form {
            name: "pool",
            alone: |config| config.authority.rest_secrets.clear(),
            known: format!("{until}:{KEY_ID}::alice"),
            unknown: format!("{until}:0badbeef::alice"),
        },
        Form {
            name: "pool, a claim that nobody mints",
            alone: |config| config.authority.rest_secrets.clear(),
            known: format!("{until}:{KEY_ID}:n=1:alice"),
            unknown: format!("{until}:{KEY_ID}:x=1:alice"),
        },
        Form {
            name: "shared secrets",
            alone: |config| {
                config.authority.ring = None;
                config.authority.rest_secrets.push(Secret::new(REST_SECRET.repeat(2)));
            },
            known: format!("{until}:alice"),
            unknown: "18000036xx:alice".to_owned(),
        },
        Form {
            name: "named users",
            alone: |config| {
                config.authority.ring = None;
                config.authority.rest_secrets.clear();
                let keys = UserKeys::of_password("alice", REALM, "wonderland");
                config.authority.users = Some(Users::new(REALM, [("alice".to_owned(), keys)]));
            },
            known: "alice".to_owned(),
            unknown: "mabel".to_owned(),
        },
    ]
}

/// A client of a server with this form alone that knows the realm, and where it sits.
fn world(form: &Form, scheme: Scheme) -> (World, FiveTuple) {
    let mut world = World::configured(33, form.alone).with_client("alice");
    world.client("alice").know_the_realm();
    let mut alice = world.client("alice");
    alice.state().scheme = scheme;
    let address = alice.state().address;
    (world, FiveTuple { listener: ListenerId(0), client: ClientAddr::new(address) })
}

/// A request with a wrong password.
fn request(world: &mut World, username: &str) -> Vec<u8> {
    let mut alice = world.client("alice");
    let password = "a wrong password".to_owned();
    alice.state().login = Login { username: username.to_owned(), password };
    alice.state().sign(Draft::allocate().transaction([7; 12])).encode()
}

/// What the server answers, and how long it takes.
#[expect(clippy::disallowed_methods, reason = "the time of an answer is what is asked here")]
fn answer(world: &mut World, from: FiveTuple, request: &[u8]) -> (Vec<u8>, Duration) {
    let now = world.now();
    let begin = Instant::now();
    let _ = world.server.client_input(now, from, request);
    let took = begin.elapsed();
    let mut answers = Vec::new();
    while let Some(action) = world.server.poll_action() {
        if let Action::Send { bytes, .. } = action {
            answers.push(bytes.to_vec());
        }
    }
    assert_eq!(answers.len(), 1, "one answer");
    (answers.remove(0), took)
}

#[test]
fn auth_033_an_unknown_user_gets_the_bytes_of_a_wrong_password() {
    for form in forms() {
        for scheme in Scheme::ALL {
            let (mut world, from) = world(&form, scheme);
            let [wrong, unknown] = [&form.known, &form.unknown].map(|username| {
                let request = request(&mut world, username);
                answer(&mut world, from, &request).0
            });
            assert_eq!(wrong, unknown, "{}, {scheme:?}", form.name);
            assert_eq!(world.rejected(Why::WrongPassword), 1, "{}, {scheme:?}", form.name);
            assert_eq!(world.rejected(Why::UnknownUser), 1, "{}, {scheme:?}", form.name);
        }
    }
}

#[test]
fn auth_033_an_unknown_user_takes_the_time_of_a_wrong_password() {
    for form in forms() {
        for scheme in Scheme::ALL {
            let (mut world, from) = world(&form, scheme);
            let requests = [&form.known, &form.unknown].map(|name| request(&mut world, name));
            let mut fastest = [Duration::MAX; 2];
            for tries in 1.. {
                for (fastest, request) in fastest.iter_mut().zip(&requests) {
                    *fastest = answer(&mut world, from, request).1.min(*fastest);
                }
                let [wrong, unknown] = fastest;
                let (short, long) = (wrong.min(unknown), wrong.max(unknown));
                if tries >= TRIES && long * 100 <= short * (100 + TOLERANCE) {
                    break;
                }
                assert!(
                    tries < MOST_TRIES,
                    "{}, {scheme:?}: {wrong:?} for a wrong password, {unknown:?} for nobody",
                    form.name
                );
            }
        }
    }
}
