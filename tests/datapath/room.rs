//! What the kernel keeps of routes: how much memory that takes, and what becomes of legs for which
//! there is no room.

use relay::offload::{Mode, Program, Room, Unable, ways_of};
use rig::script::channel_data;

use crate::stage::{CHANNEL, Did, MODES, Stage};
use crate::{PAIRINGS, rtp};

/// What counting in one row takes of a leg, and the rows that there are with four processors beyond
/// those that there are with two or three.
const COUNT: u32 = 8;
const FURTHER_ROWS: u32 = 2;

#[test]
fn a_route_takes_less_of_the_kernel_s_memory_than_was_promised() {
    let is_large = std::thread::available_parallelism().is_ok_and(|it| it.get() >= 4);
    let counts = if is_large { 2 * COUNT * FURTHER_ROWS } else { 0 };
    // Buckets are as many as the next power of two: for the last number nearly twice as many as
    // legs.
    for (routes, buckets) in [(10_000, 0), (16_000, 0), (100_000, 0), (16_400, 12)] {
        let legs = 2 * routes;
        for (case, over, most) in [
            ("IPv4", [legs, 0], 300 + buckets),
            ("IPv6", [0, legs], 348 + buckets),
            ("both", [legs; 2], 609 + 2 * buckets),
        ] {
            let room = Room { legs, over, ways: ways_of(legs), limits: 0 };
            let program = Program::load(Mode::Native, room);
            let program = program.expect("a kernel that takes the program: run as root");
            let bytes = program.memory().expect("a kernel that says it") / u64::from(routes);
            let most = u64::from(most + counts);
            assert!(bytes < most, "{routes} routes over {case}: {bytes} bytes each");
            assert!(bytes > most / 2, "{routes} routes over {case}: {bytes} bytes each, so few");
        }
    }
}

/// Whether both sides are heard.
fn is_relayed(stage: &mut Stage) -> [bool; 2] {
    let frames = [stage.of_client(&channel_data(CHANNEL, &rtp(160))), stage.of_peer(&rtp(160))];
    frames.map(|frame| stage.show("a call", &frame.bytes()) == Did::Relayed)
}

#[test]
fn what_leaves_by_more_ways_than_there_is_room_for_goes_up() {
    for (mode, pairing) in MODES.into_iter().zip([PAIRINGS[0], PAIRINGS[3]]) {
        let mut stage = Stage::new(mode, pairing);
        stage.remove();
        stage.legs = stage.program.legs(0..2).expect("its legs");
        stage.install(u64::MAX);
        assert_eq!(is_relayed(&mut stage), [true; 2]);
        let before = stage.next;
        stage.next[1] = [2, 0, 0, 0, 0, 7];
        let full = stage.set(1, Some(stage.entry(1, u64::MAX)));
        assert!(matches!(full, Err(Unable::Ways)), "{full:?}");
        assert_eq!(is_relayed(&mut stage), [true, false], "by the old way it would go astray");
        stage.next = before;
        stage.install(u64::MAX);
        assert_eq!(is_relayed(&mut stage), [true; 2], "the old way still stands");
    }
}

#[test]
fn a_leg_moves_to_another_next_hop_and_those_beside_it_stay() {
    for (mode, pairing) in MODES.into_iter().zip([PAIRINGS[0], PAIRINGS[3]]) {
        let mut stage = Stage::new(mode, pairing);
        for last in 7..12 {
            stage.next[1] = [2, 0, 0, 0, 0, last];
            stage.install(u64::MAX);
            assert_eq!(is_relayed(&mut stage), [true; 2], "by {last}");
        }
    }
}
