//! MS-TURN, row by row, against a server in a simulated network.

mod allocate;
mod beside;
mod binding;
mod challenge;
mod destination;
mod moves;
mod refresh;
mod send;
mod storm;
mod streams;

use proto::turn::Config;
use rig::World;

/// A world whose server speaks MS-TURN, with two clients and two peers.
fn world(seed: u64) -> World {
    world_with(seed, |_| ())
}

/// The same with more of the configuration changed.
fn world_with(seed: u64, change: impl FnOnce(&mut Config)) -> World {
    World::configured(seed, |config| {
        config.microsoft = true;
        change(config);
    })
    .with_client("alice")
    .with_client("carol")
    .with_peer("bob")
    .with_peer("dave")
}
