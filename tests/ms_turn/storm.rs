//! Random calls of MS-TURN over a bad network, against a model.
//!
//! 256 seeds by default; `SEED=0x51 cargo nextest run storm` replays one, as the failure says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rig::ms::RELAYED;
use rig::seeds::{is_replay, play};
use rig::{Link, MsArrival, World};

use super::world;

/// Steps in each.
const STEPS: usize = 80;

/// What one client should hold.
#[derive(Debug, Default)]
struct Model {
    relayed: Option<SocketAddr>,
    /// Peers that may have been permitted, by name.
    permitted: BTreeSet<&'static str>,
    /// The destination that was confirmed last; `None` when an answer was lost.
    aim: Option<&'static str>,
}

/// Payload that arrived: bare, in Data Indications, and at peers.
type Arrived = [u64; 3];

#[test]
fn mst_099_whatever_happens_payload_reaches_whom_it_is_for() {
    let name = "mst_099_whatever_happens";
    let (seeds, arrived) =
        play(name, 256, run, |one: Arrived, two| std::array::from_fn(|at| one[at] + two[at]));
    if is_replay() {
        return;
    }
    // A storm in which nothing arrives proves nothing.
    assert!(arrived.iter().all(|arrived| *arrived > seeds * 2), "{seeds} seeds: {arrived:?}");
}

/// One world from its first packet to the last deadline.
fn run(seed: u64, arrived: &mut Arrived) {
    let mut world = world(seed);
    if seed % 2 == 1 {
        world.link = Link { loss: 100, duplication: 50, ..Link::default() };
    }
    let mut models = [("alice", Model::default()), ("carol", Model::default())];
    for step in 0..STEPS {
        let which = world.dice.index(2);
        let (name, model) = &mut models[which];
        act(&mut world, name, model);
        for (name, model) in &mut models {
            hear(&mut world, name, model, (step, &mut *arrived));
        }
        world.check();
    }
    world.advance(Duration::from_secs(7_200));
    assert!(world.open_sockets().is_empty(), "everything ends");
    world.check();
}

/// One thing that a client or one of its peers does.
fn act(world: &mut World, name: &str, model: &mut Model) {
    let peer = ["bob", "dave"][world.dice.index(2)];
    match world.dice.index(8) {
        0 => {
            if world.ms(name).state().nonce.is_empty() {
                let draft = world.ms(name).draft(rig::ms::ALLOCATE);
                if let Some(heard) = world.ms(name).exchange(&draft) {
                    world.ms(name).learn(&heard);
                }
            }
            ask_for_a_relay(world, name, model);
        }
        1 => {
            world.ms(name).send(peer, peer.as_bytes());
            model.permitted.insert(peer);
        }
        2 | 3 => {
            let (number, at) = (world.ms(name).count(), world.peer_address(peer));
            let draft = world.ms(name).aim_draft(number, at);
            let heard = world.ms(name).exchange(&draft);
            model.aim = heard.filter(|heard| heard.code().is_none()).map(|_| peer);
            model.permitted.insert(peer);
        }
        4 | 5 => {
            world.ms(name).send_bytes(&[&[0x80][..], name.as_bytes()].concat());
        }
        6 => {
            if let Some(relayed) = model.relayed {
                world.peer(peer).send(relayed, &[b"to ", name.as_bytes()].concat());
            }
        }
        _ => {
            let by = world.dice.below(200);
            world.advance_s(by);
        }
    }
}

fn ask_for_a_relay(world: &mut World, name: &str, model: &mut Model) {
    let draft = world.ms(name).draft(rig::ms::ALLOCATE);
    let draft = world.ms(name).signed(draft);
    let Some(heard) = world.ms(name).exchange(&draft) else { return };
    let relayed = heard.address(RELAYED);
    match heard.code() {
        None => {
            if model.relayed != relayed {
                *model = Model { relayed, ..Model::default() };
            }
            let (connection, number) = heard.numbered().expect("a sequence number");
            let mut client = world.ms(name);
            let state = client.state();
            state.connection = connection;
            state.number = state.number.max(number);
        }
        Some(438 | 435) => world.ms(name).learn(&heard),
        Some(code) => panic!("{name} hears {code}"),
    }
}

/// What arrived must be for whom it arrived at, and in the dress that was agreed.
fn hear(world: &mut World, name: &str, model: &Model, (step, arrived): (usize, &mut Arrived)) {
    let own = [b"to ", name.as_bytes()].concat();
    while let Some(arrival) = world.ms(name).take() {
        match arrival {
            MsArrival::Response(_) => {}
            MsArrival::Data(from, payload) => {
                arrived[1] += 1;
                assert_eq!(payload, own, "step {step}");
                let known = model.permitted.iter().any(|peer| world.peer_address(peer) == from);
                assert!(known, "step {step}: from a stranger");
                let aimed = model.aim.map(|peer| world.peer_address(peer));
                assert_ne!(aimed, Some(from), "step {step}: the destination sends bare payload");
            }
            MsArrival::Bare(payload) => {
                arrived[0] += 1;
                assert_eq!(payload, own, "step {step}");
            }
        }
    }
    for peer in ["bob", "dave"] {
        while let Some((_, payload)) = world.peer(peer).take() {
            arrived[2] += 1;
            let bare = payload.first() == Some(&0x80);
            assert!(bare || payload == peer.as_bytes(), "step {step}: {payload:02x?} to {peer}");
        }
    }
}
