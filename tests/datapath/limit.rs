//! Limits of bandwidth that the kernel holds.

use std::num::NonZeroU64;
use std::time::Duration;

use proto::policy::Rates;
use proto::policy::bandwidth::BURST;
use relay::offload::{Mode, Outcome};
use rig::clock::now;
use rig::script::channel_data;

use crate::stage::{CHANNEL, MODES, Stage};
use crate::{PAIRINGS, rtp};

/// Payload of each datagram.
const LENGTH: usize = 160;

/// The indices of limits, toward peer and client.
const LIMITS: [u32; 2] = [1, 2];

/// A call with these limits, and a frame of each side.
fn limited(mode: Mode, rates: [Rates; 2]) -> (Stage, [Vec<u8>; 2]) {
    let mut stage = Stage::new(mode, PAIRINGS[0]);
    stage.limits = LIMITS;
    for (index, rates) in LIMITS.into_iter().zip(rates) {
        stage.program.limit(index, rates, &[]);
    }
    stage.install(u64::MAX);
    let payload = rtp(LENGTH);
    let frames = [stage.of_client(&channel_data(CHANNEL, &payload)), stage.of_peer(&payload)];
    (stage, frames.map(|frame| frame.bytes()))
}

fn is_relayed(stage: &Stage, frame: &[u8]) -> bool {
    match stage.program.run(frame, 1).expect("a frame that can be run").0 {
        Outcome::Back | Outcome::Across => true,
        Outcome::Dropped => false,
        other => panic!("{other:?}"),
    }
}

const fn bytes(rate: u64) -> Rates {
    Rates { bytes: NonZeroU64::new(rate), packets: None }
}

const fn packets(rate: u64) -> Rates {
    Rates { bytes: None, packets: NonZeroU64::new(rate) }
}

#[test]
fn a_limited_leg_carries_its_rate_each_way_and_counts_the_rest() {
    for mode in MODES {
        let datagrams_per_s = 1_000;
        let rate = datagrams_per_s * LENGTH as u64;
        for (case, rates) in [
            ("bytes", bytes(rate)),
            ("datagrams", packets(datagrams_per_s)),
            ("both", Rates { packets: NonZeroU64::new(1_000_000), ..bytes(rate) }),
        ] {
            let (stage, frames) = limited(mode, [rates; 2]);
            let begin = now();
            let (mut offered, mut relayed) = (0_u64, [0_u64; 2]);
            while now() - begin < Duration::from_secs(2) {
                offered += 1;
                for (frame, relayed) in frames.iter().zip(&mut relayed) {
                    *relayed += u64::from(is_relayed(&stage, frame));
                }
            }
            // One every millisecond.
            let allowed = ((now() - begin) + BURST).as_millis();
            for (relayed, index) in relayed.into_iter().zip(LIMITS) {
                let off = u128::from(relayed).abs_diff(allowed);
                assert!(
                    off * 50 < allowed,
                    "{case}: {relayed} of {offered} passed, {allowed} were allowed"
                );
                let held_back: u32 = stage.program.held_back(index).concat().iter().sum();
                assert_eq!(u64::from(held_back), offered - relayed, "{case}: the rest is counted");
            }
        }
    }
}

#[test]
fn a_limit_is_counted_by_what_was_too_much() {
    for mode in MODES {
        for (rates, too_much) in [(bytes(100), [1, 0]), (packets(1), [0, 1])] {
            let (stage, [frame, _]) = limited(mode, [rates; 2]);
            // Any size passes once, and is owed.
            assert!(is_relayed(&stage, &frame));
            assert!(!is_relayed(&stage, &frame));
            assert_eq!(stage.program.held_back(LIMITS[0]), [too_much, [0; 2], [0; 2], [0; 2]]);
            assert_eq!(stage.program.held_back(LIMITS[1]), [[0; 2]; 4]);
        }
    }
}

#[test]
fn each_direction_has_its_own_limit_and_without_one_all_passes() {
    for mode in MODES {
        let (stage, [up, down]) = limited(mode, [packets(1), Rates::UNLIMITED]);
        for round in 0..10_000 {
            assert_eq!(is_relayed(&stage, &up), round == 0, "{round}");
            assert!(is_relayed(&stage, &down), "{round}");
        }
    }
}

#[test]
fn a_leg_is_held_to_what_its_allocation_shares_with_others() {
    for mode in MODES {
        // Both legs stand for allocations of one user here, and of one client address.
        for (case, [user, client], level) in [
            ("the user's", [packets(10), packets(1_000)], 1),
            ("the client's", [packets(1_000), packets(10)], 2),
        ] {
            let (stage, frames) = limited(mode, [Rates::UNLIMITED; 2]);
            for (index, rates) in [(3, user), (4, client)] {
                stage.program.limit(index, rates, &[]);
            }
            for index in LIMITS {
                stage.program.limit(index, Rates::UNLIMITED, &[3, 4]);
            }
            let relayed = frames.each_ref().map(|frame| is_relayed(&stage, frame));
            assert_eq!(relayed, [true, false], "{case}: it has passed what they share");
            let mut held_back = [[0; 2]; 4];
            held_back[level] = [0, 1];
            assert_eq!(stage.program.held_back(LIMITS[1]), held_back, "{case}");
            assert_eq!(stage.program.held_back(LIMITS[0]), [[0; 2]; 4], "{case}");
        }
    }
}

/// Datagrams that passed of a flood and of a voice that sends fifty a second, each of a user of its own
/// under one limit that so many share, and how long that took.
fn flood_beside_a_voice(stage: &Stage, frames: &[Vec<u8>; 2]) -> ([u64; 2], u64, Duration) {
    let (begin, mut relayed, mut spoken) = (now(), [0; 2], 0);
    while now() - begin < Duration::from_secs(2) {
        relayed[0] += u64::from(is_relayed(stage, &frames[0]));
        if now() - begin >= Duration::from_millis(20) * spoken {
            spoken += 1;
            relayed[1] += u64::from(is_relayed(stage, &frames[1]));
        }
    }
    (relayed, spoken.into(), now() - begin)
}

#[test]
fn sec_010_who_floods_a_limit_that_users_share_takes_nothing_from_a_modest_one() {
    for mode in MODES {
        for (case, rates, levels) in [
            ("bytes of a client", bytes(200 * LENGTH as u64), [1, 0]),
            ("datagrams of a client", packets(200), [1, 0]),
            ("datagrams of the relay", packets(200), [0, 1]),
        ] {
            let (stage, frames) = limited(mode, [Rates::UNLIMITED; 2]);
            stage.program.limit(3, rates, &[]);
            // Their limits share one, and have a part of it each.
            for (index, part) in LIMITS.into_iter().zip([4, 5]) {
                stage.program.limit(part, rates, &[]);
                let [shared, parts] = [3, part].map(|index| levels.map(|level| level * index));
                stage.program.limit_in_part(index, Rates::UNLIMITED, [&shared, &parts]);
            }
            for (sharers, voice_loses) in [(2, false), (1, true)] {
                stage.program.share(3, sharers);
                let ([flood, voice], spoken, time) = flood_beside_a_voice(&stage, &frames);
                assert_eq!(voice < spoken, voice_loses, "{case}: {voice} of {spoken} passed");
                // One every five milliseconds, and what was saved before.
                let paid = Duration::from_millis(5 * (flood + voice));
                let exact = time * 49 / 50..(time + BURST) * 51 / 50;
                assert!(exact.contains(&paid), "{case}: {flood} and {voice} in {time:?}");
            }
        }
    }
}
