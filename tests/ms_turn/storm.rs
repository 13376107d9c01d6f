//! Random calls of MS-TURN over a bad network, against a model; a failure replays from its seed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rig::ms::RELAYED;
use rig::{Link, MsArrival, World};

use super::world;

/// Worlds that are played.
const SEEDS: u64 = 48;

/// Steps in each.
const STEPS: usize = 150;

/// What one client should hold.
#[derive(Debug, Default)]
struct Model {
    relayed: Option<SocketAddr>,
    /// Peers that may have been permitted, by name.
    permitted: BTreeSet<&'static str>,
    /// The destination that was confirmed last; `None` when an answer was lost.
    aim: Option<&'static str>,
}

#[test]
fn mst_099_whatever_happens_payload_reaches_whom_it_is_for() {
    for seed in 0..SEEDS {
        let mut world = world(seed);
        if seed % 2 == 1 {
            world.link = Link { loss: 100, duplication: 50, ..Link::default() };
        }
        play(&mut world, seed);
    }
}

fn play(world: &mut World, seed: u64) {
    let mut models = [("alice", Model::default()), ("carol", Model::default())];
    for step in 0..STEPS {
        let which = world.dice.index(2);
        let (name, model) = &mut models[which];
        act(world, name, model);
        for (name, model) in &mut models {
            hear(world, name, model, (seed, step));
        }
        world.check();
    }
    world.advance(Duration::from_secs(7_200));
    assert!(world.open_sockets().is_empty(), "seed {seed}: everything ends");
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
fn hear(world: &mut World, name: &str, model: &Model, at: (u64, usize)) {
    let own = [b"to ", name.as_bytes()].concat();
    while let Some(arrival) = world.ms(name).take() {
        match arrival {
            MsArrival::Response(_) => {}
            MsArrival::Data(from, payload) => {
                assert_eq!(payload, own, "{at:?}");
                let known = model.permitted.iter().any(|peer| world.peer_address(peer) == from);
                assert!(known, "{at:?}: from a stranger");
                let aimed = model.aim.map(|peer| world.peer_address(peer));
                assert_ne!(aimed, Some(from), "{at:?}: the destination sends bare payload");
            }
            MsArrival::Bare(payload) => assert_eq!(payload, own, "{at:?}"),
        }
    }
    for peer in ["bob", "dave"] {
        while let Some((_, payload)) = world.peer(peer).take() {
            let bare = payload.first() == Some(&0x80);
            assert!(bare || payload == peer.as_bytes(), "{at:?}: {payload:02x?} to {peer}");
        }
    }
}
