//! §3.1: an Allocate that asks for mobility.

use proto::reject::Why;
use proto::turn::config::MobilityPolicy;
use rig::{Draft, kind};

use crate::{mobile, ticket, under, wish};

#[test]
fn mob_001_the_policy_decides_what_a_client_that_asks_for_a_ticket_gets() {
    for (policy, expected) in [
        (MobilityPolicy::Allowed, Ok(true)),
        (MobilityPolicy::Ignored, Ok(false)),
        (MobilityPolicy::Forbidden, Err(405)),
    ] {
        let mut world = under(policy, 1);
        let heard = world.client("alice").allocate_with(wish());
        match expected {
            Ok(given) => {
                heard.expect_success();
                assert_eq!(heard.has(kind::MOBILITY_TICKET), given, "{policy:?}");
            }
            Err(code) => {
                heard.expect_code(code);
                assert_eq!(world.rejected(Why::MobilityForbidden), 1);
            }
        }
        let plain = world.client("eve").allocate();
        assert!(!plain.expect_success().has(kind::MOBILITY_TICKET), "{policy:?}: nobody asked");
    }
}

#[test]
fn mob_001_a_repeated_allocate_gets_the_same_ticket() {
    let mut world = mobile(2);
    world.client("alice").know_the_realm();
    let draft = wish().transaction([7; 12]);
    let first = ticket(&world.client("alice").ask(draft.clone()));
    assert_eq!(ticket(&world.client("alice").ask(draft)), first);
}

#[test]
fn mob_002_a_ticket_that_is_not_empty_has_no_place_in_an_allocate() {
    for value in [&[7][..], &[7; 54], &[7; 300]] {
        let mut world = mobile(3);
        let draft = Draft::allocate().raw(kind::MOBILITY_TICKET, value);
        world.client("alice").allocate_with(draft).expect_code(400);
        assert_eq!(world.server.tally().allocations, 0);
    }
}

#[test]
fn mob_009_tickets_are_small_and_tell_nothing_apart() {
    let mut world = mobile(4);
    let first = ticket(&world.client("alice").allocate_with(wish()));
    let second = ticket(&world.client("eve").allocate_with(wish()));
    assert!(first.len() < 300, "{} bytes", first.len());
    assert_eq!(first.len(), second.len());
    let equal = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    assert!(equal < 8, "{equal} bytes of two tickets are equal");
}
