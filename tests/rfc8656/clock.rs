//! Steps of the wall clock, which other hosts set: no call may notice (threat model T7).

use proto::reject::Why;
use rig::World;
use rig::site::{self, BEGIN};

/// How long the credential of the call is good, and how long an expired one may refresh.
const CREDENTIAL_S: u64 = 20 * 60;
const GRACE_S: u64 = 10 * 60;

/// One packet each way.
fn talk(world: &mut World, case: &str) {
    let relayed = world.client("alice").state().relayed.expect("allocated");
    world.client("alice").send_channel(0x4000, b"up");
    world.peer("bob").send(relayed, b"down");
    assert_eq!(world.peer("bob").take().map(|it| it.1).as_deref(), Some(&b"up"[..]), "{case}");
    assert!(world.client("alice").take().is_some(), "{case}: nothing came down");
}

#[test]
fn sec_017_a_wall_clock_that_steps_by_an_hour_loses_no_call() {
    const HOUR: i64 = 3_600;
    for (case, steps) in [
        ("forward", &[HOUR][..]),
        ("back", &[-HOUR]),
        ("ever further", &[HOUR, HOUR, HOUR]),
        ("to and fro", &[HOUR, -HOUR, -HOUR, HOUR, HOUR, -HOUR]),
    ] {
        let mut world = World::seeded(17).with_client("alice").with_peer("bob");
        let login = site::pool_login("alice", BEGIN + CREDENTIAL_S);
        world.client("alice").state().login = login;
        world.client("alice").relay();
        world.client("alice").bind(0x4000, "bob").expect_success();
        let mut steps = steps.iter();
        for minute in 1..30 {
            if minute % 4 == 1 {
                world.step_wall_clock(steps.next().copied().unwrap_or_default());
            }
            world.advance_s(60);
            talk(&mut world, case);
            if minute % 2 == 0 {
                world.client("alice").bind(0x4000, "bob").expect_success();
                world.client("alice").refresh(600).expect_success();
            }
            talk(&mut world, case);
        }
        // The credential lives as long as it would have.
        world.advance_s(CREDENTIAL_S + GRACE_S - 29 * 60);
        world.client("alice").refresh(600).expect_code(401);
        assert_eq!(world.rejected(Why::Expired), 1, "{case}");
        assert_eq!(world.dropped_in_all(), 0, "{case}");
    }
}

#[test]
fn sec_017_after_a_step_new_calls_begin_and_allocations_end_in_their_time() {
    for step in [3_600, -3_600] {
        let mut world = World::seeded(17).with_client("alice").with_client("carol");
        world.client("alice").relay();
        world.step_wall_clock(step);
        world.client("carol").state().login = site::pool_login("carol", BEGIN + 4 * 3_600);
        world.client("carol").relay();
        world.advance_s(599);
        assert_eq!(world.server.tally().allocations, 2, "after a step of {step} s");
        world.advance_s(1);
        assert_eq!(world.server.tally().allocations, 0, "after a step of {step} s");
    }
}
