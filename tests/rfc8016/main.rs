//! RFC 8016, section by section, against a server in a simulated network.

mod allocate;
mod refresh;

use proto::turn::config::MobilityPolicy;
use rig::{Draft, Heard, World, kind};

/// A world whose server hands out tickets. One person has two addresses: alice, and later wlan.
fn mobile(seed: u64) -> World {
    under(MobilityPolicy::Allowed, seed)
}

/// The same under another policy.
fn under(policy: MobilityPolicy, seed: u64) -> World {
    let mut world = World::configured(seed, |config| config.mobility = policy)
        .with_client("alice")
        .with_client("wlan")
        .with_client("train")
        .with_client("eve")
        .with_peer("bob");
    let login = world.client("alice").state().login.clone();
    for place in ["wlan", "train"] {
        world.client(place).state().login = login.clone();
    }
    world
}

/// An Allocate that asks for a ticket.
fn wish() -> Draft {
    Draft::allocate().raw(kind::MOBILITY_TICKET, &[])
}

/// A Refresh that brings a ticket.
fn bring(ticket: &[u8]) -> Draft {
    Draft::refresh(600).raw(kind::MOBILITY_TICKET, ticket)
}

/// The ticket of an answer.
#[track_caller]
fn ticket(heard: &Heard) -> Vec<u8> {
    heard.expect_success().value(kind::MOBILITY_TICKET).expect("a ticket").to_vec()
}
