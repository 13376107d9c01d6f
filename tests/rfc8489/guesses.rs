//! §16.1.1: guesses at passwords are slowed, and nobody else is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::reject::{DropReason, Why};
use proto::turn::{Rate, Throttle};
use rig::{Draft, World};

const ALICES: &str = "81.2.69.10:40000";

/// Alice, and mallory at an address, who knows her name and not her password.
fn world(seed: u64, mallory: &str) -> World {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let mut world = World::seeded(seed)
        .with_client_at("alice", address(ALICES))
        .with_client_at("mallory", address(mallory));
    let throttle = Throttle::new(Rate { per_s: 50, burst: 100 }, 1, world.now().mono);
    world.server = world.server.throttled(Arc::new(throttle));
    world.client("mallory").know_the_realm();
    let mut login = world.client("alice").state().login.clone();
    "a guess".clone_into(&mut login.password);
    world.client("mallory").state().login = login;
    world
}

/// So many guesses in one moment that none is looked at any more.
fn exhaust(world: &mut World) {
    for _ in 0..300 {
        let mut mallory = world.client("mallory");
        let signed = mallory.state().sign(Draft::allocate());
        mallory.exchange(signed);
    }
}

/// How many of so many guesses are answered, a thousand a second.
fn guess(world: &mut World, count: u32) -> usize {
    let answered = (0..count).filter(|_| {
        let mut mallory = world.client("mallory");
        let signed = mallory.state().sign(Draft::allocate());
        let answer = mallory.exchange(signed);
        if let Some(answer) = &answer {
            answer.expect_code(401);
        }
        world.advance(Duration::from_millis(1));
        answer.is_some()
    });
    answered.count()
}

#[test]
fn auth_033_guesses_are_answered_by_rate_and_counted_and_their_source_is_named() {
    let mut world = world(1, "203.0.113.9:5000");
    let answered = guess(&mut world, 1_000);
    assert!((80..=150).contains(&answered), "{answered} answers in a second");
    assert_eq!(world.rejected(Why::WrongPassword), answered as u64);
    assert_eq!(world.dropped(DropReason::Guessing), (1_000 - answered) as u64);
    let suspect = world.server.take_suspect().expect("somebody is suspected");
    assert_eq!(suspect.ip().to_string(), "203.0.113.9");
    assert!(world.server.take_suspect().is_none(), "said once");
    // A login from elsewhere.
    world.client("alice").relay();
}

#[test]
fn auth_033_beyond_the_rate_a_right_guess_is_not_even_looked_at() {
    let mut world = world(2, "203.0.113.9:5000");
    exhaust(&mut world);
    world.client("mallory").state().login = world.client("alice").state().login.clone();
    let mut mallory = world.client("mallory");
    let signed = mallory.state().sign(Draft::allocate());
    assert!(mallory.exchange(signed.clone()).is_none(), "no answer tells that it was right");
    world.advance_s(2);
    world.client("mallory").exchange(signed).expect("an answer").expect_success();
}

#[test]
fn auth_033_beyond_the_rate_of_a_source_no_name_is_looked_at_but_for_who_asked_little() {
    let mut world = world(6, "203.0.113.9:5000")
        .with_client_at("carol", "203.0.113.9:5001".parse().expect("an address"));
    let login = world.client("mallory").state().login.clone();
    for name in 0..2_000 {
        let mut mallory = world.client("mallory");
        mallory.state().login.username = format!("{}{name}", login.username);
        let signed = mallory.state().sign(Draft::allocate());
        mallory.exchange(signed);
    }
    world.client("mallory").state().login = world.client("alice").state().login.clone();
    let mut mallory = world.client("mallory");
    let signed = mallory.state().sign(Draft::allocate());
    assert!(mallory.exchange(signed).is_none(), "a name that was never tried before");
    assert_eq!(world.server.take_suspect().expect("suspected").ip().to_string(), "203.0.113.9");
    world.client("carol").relay();
    world.client("alice").relay();
}

#[test]
fn auth_033_who_proved_himself_and_who_has_another_name_are_served_behind_the_same_address() {
    let mut world = world(3, "81.2.69.10:5000").with_peer("bob");
    world.client("alice").relay();
    world = world
        .with_client_at("carol", "81.2.69.10:40002".parse().expect("an address"))
        .with_client_at("alice again", "81.2.69.10:40003".parse().expect("an address"));
    let login = world.client("alice").state().login.clone();
    world.client("alice again").state().login = login;
    for _ in 0..5 {
        guess(&mut world, 1_000);
        world.client("alice").permit(&["bob"]).expect_success();
        world.client("alice").refresh(600).expect_success();
    }
    world.client("carol").relay();
    world.client("alice again").relay();
}

#[test]
fn auth_033_forged_guesses_use_up_nothing_of_the_address_they_claim() {
    let mut world = world(4, "203.0.113.9:5000");
    let alices: SocketAddr = ALICES.parse().expect("an address");
    world.client("alice").know_the_realm();
    let forged = world.client("mallory").state().sign(Draft::allocate()).encode();
    for port in 1_000..3_000 {
        let from = SocketAddr::new(alices.ip(), port);
        world.inject(proto::addr::ListenerId(0), from, &forged);
    }
    world.settle();
    assert!(world.dropped(DropReason::Guessing) > 1_000);
    world.client("alice").relay();
}

#[test]
fn auth_033_an_allocation_does_not_let_its_user_guess_for_others() {
    let mut world = world(5, "203.0.113.9:5000").with_client("carol");
    let guesses = world.client("mallory").state().login.clone();
    world.client("mallory").state().login = world.client("carol").state().login.clone();
    world.client("mallory").relay();
    world.client("mallory").state().login = guesses;
    exhaust(&mut world);
    world.client("mallory").state().login = world.client("alice").state().login.clone();
    let mut mallory = world.client("mallory");
    let signed = mallory.state().sign(Draft::allocate());
    assert!(mallory.exchange(signed).is_none(), "441 would tell that it was right");
}
