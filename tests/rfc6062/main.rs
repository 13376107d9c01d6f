//! RFC 6062, section by section, against a server in a simulated network. What concerns bytes of
//! a pipe is tested over real sockets, in `relay/tests`.

mod allocate;
mod attempt;
mod bind;
mod connect;

use proto::addr::{Family, ListenerId, Side, Transport};
use proto::policy::{Edge, Listener};
use proto::turn::Config;
use rig::{Draft, Heard, World, kind};

/// Listeners behind those of every world.
const TCP: ListenerId = ListenerId(3);
const TLS: ListenerId = ListenerId(4);
const DTLS: ListenerId = ListenerId(5);

/// A server that relays TCP, with listeners for it.
fn relays_tcp(config: &mut Config) {
    config.tcp_relays = true;
    let mut listeners = config.edge.listeners().to_vec();
    listeners.truncate(usize::from(TCP.0));
    for (port, transport) in
        [(3478, Transport::Tcp), (5349, Transport::Tls), (5349, Transport::Dtls)]
    {
        let local = std::net::SocketAddr::from(([93, 184, 216, 34], port));
        listeners.push(Listener {
            local,
            advertised: None,
            transport,
            side: Side::External,
            anycast: false,
        });
    }
    let relays = Family::ALL.into_iter().flat_map(|family| config.edge.relays(family).copied());
    let relays = relays.collect();
    config.edge = Edge::new(listeners, relays, Vec::new());
}

/// Alice's control connection, two more connections of hers, and eve's; bob and dave are peers.
fn world(seed: u64) -> World {
    configured(seed, |_| ())
}

/// The same, with the configuration changed.
fn configured(seed: u64, change: impl FnOnce(&mut Config)) -> World {
    let mut world = World::configured(seed, |config| {
        relays_tcp(config);
        change(config);
    })
    .with_client("alice")
    .with_client("data")
    .with_client("more data")
    .with_client("eve")
    .with_peer("bob")
    .with_peer("dave");
    let login = world.client("alice").state().login.clone();
    for name in ["alice", "data", "more data", "eve"] {
        world.client(name).state().listener = TCP;
        if name.ends_with("data") {
            world.client(name).state().login = login.clone();
        }
    }
    world
}

/// The connection id of an answer.
#[track_caller]
fn connection(heard: &Heard) -> u32 {
    heard.expect_success().connection().expect("CONNECTION-ID")
}

/// The `ConnectionAttempt` a client hears: peer and connection id.
#[track_caller]
fn attempt(world: &mut World, client: &str) -> (std::net::SocketAddr, u32) {
    match world.client(client).hear() {
        Some(rig::Arrival::Response(heard)) => {
            let kind = kind::method::CONNECTION_ATTEMPT | kind::INDICATION;
            assert_eq!(heard.kind(), kind, "a ConnectionAttempt indication");
            let peer = heard.peer().expect("XOR-PEER-ADDRESS");
            (peer, heard.connection().expect("CONNECTION-ID"))
        }
        other => panic!("a ConnectionAttempt, not {other:?}"),
    }
}

/// A Connect to a peer by name.
fn to(world: &World, peer: &str) -> Draft {
    Draft::connect(world.peer_address(peer))
}
