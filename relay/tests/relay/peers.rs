//! Peers of a running relay: what credentials carry, and other relays of the pool.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use client::{AllocateOptions, ClientError, Credentials, Event, TurnClient};
use proto::auth::{Grant, KeyId, KeyRing, PoolKey, Secret, mint};
use proto::policy::SealedPeers;
use relay::{Config, Relay};

use crate::site::{SOON, configuration, soon_to_expire};

pub(crate) fn pool_key() -> PoolKey {
    let secret = |byte| Secret::new(vec![byte; 32]);
    PoolKey {
        id: KeyId([1, 2, 3, 4]),
        credentials: secret(1),
        nonces: secret(2),
        users: secret(3),
        tickets: secret(4),
        tokens: secret(5),
        ms_tokens: secret(6),
    }
}

/// A relay of the pool.
fn open(text: &str) -> Relay {
    let ring = KeyRing { current: pool_key(), previous: Vec::new() };
    relay::start(Config::from_toml(text, "test.toml", Some(ring)).unwrap()).unwrap()
}

/// A client with an allocation; its relayed address.
fn client(server: &str, peers: SealedPeers) -> (TurnClient, SocketAddr) {
    let grant = Grant { peers, ..Grant::new("alice", soon_to_expire()) };
    let minted = mint(&pool_key(), &grant).unwrap();
    let credentials = Credentials::new(minted.username, minted.password.as_str());
    let mut client = TurnClient::connect(server.parse().unwrap(), credentials).unwrap();
    let allocation = client.allocate(&AllocateOptions::default()).unwrap();
    (client, allocation.relayed)
}

fn code<T>(outcome: Result<T, ClientError>) -> Option<u16> {
    outcome.err().and_then(|error| error.code())
}

fn data(client: &mut TurnClient) -> Vec<u8> {
    match client.recv(SOON).unwrap() {
        Some(Event::Data { payload, .. }) => payload,
        other => panic!("payload, not {other:?}"),
    }
}

#[test]
fn sec_006_a_credential_reaches_its_own_peers_and_ports_only() {
    let relay = open(&configuration(93, 2, ""));
    let [own, other] = ["127.0.0.2:0", "127.0.0.3:0"].map(|at| UdpSocket::bind(at).unwrap());
    let closed = UdpSocket::bind("127.0.0.2:0").unwrap();
    for peer in [&own, &other, &closed] {
        peer.set_read_timeout(Some(SOON)).unwrap();
    }
    let at = |socket: &UdpSocket| socket.local_addr().unwrap();
    let port = at(&own).port();
    let sealed =
        SealedPeers { ranges: vec!["127.0.0.2/32".parse().unwrap()], ports: vec![port..=port] };
    let (mut alice, relayed) = client("127.0.0.1:21093", sealed);
    assert_eq!(code(alice.permit(&[at(&other).ip()])), Some(403));
    assert_eq!(code(alice.permit(&[at(&own).ip(), at(&other).ip()])), Some(403), "a list");
    assert_eq!(code(alice.bind_channel(at(&other))), Some(403));
    assert_eq!(code(alice.bind_channel(at(&closed))), Some(403));
    alice.permit(&[at(&own).ip()]).unwrap();
    alice.send_indication(at(&closed), b"to a closed port").unwrap();
    let channel = alice.bind_channel(at(&own)).unwrap();
    alice.send_channel(channel, b"hello").unwrap();
    let mut buffer = [0; 64];
    let (length, from) = own.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"hello"[..], relayed));
    own.send_to(b"hello back", relayed).unwrap();
    assert_eq!(data(&mut alice), b"hello back");
    closed.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(closed.recv(&mut buffer).is_err(), "nothing came");
    relay.stop();
    relay.wait().unwrap();
}

#[test]
fn sec_005_clients_of_two_relays_of_a_pool_reach_each_other() {
    // Two hosts: loopback addresses that neither opens to anybody but the other relay's ports.
    let text = |number: u16, own: &str, other: &str| {
        let peers = format!("pool = [{{ address = \"{other}\", ports = \"39000-41000\" }}]");
        configuration(number, 2, "")
            .replace("allow = [\"127.0.0.0/8\"]", &peers)
            .replace("{ local = \"127.0.0.1\" }", &format!("{{ local = \"{own}\" }}"))
    };
    let relays =
        [open(&text(94, "127.0.0.4", "127.0.0.5")), open(&text(95, "127.0.0.5", "127.0.0.4"))];
    let (mut alice, a) = client("127.0.0.1:21094", SealedPeers::default());
    let (mut bob, b) = client("127.0.0.1:21095", SealedPeers::default());
    let ips: [IpAddr; 2] = ["127.0.0.4", "127.0.0.5"].map(|ip| ip.parse().unwrap());
    assert_eq!([a.ip(), b.ip()], ips);
    let (to_bob, to_alice) = (alice.bind_channel(b).unwrap(), bob.bind_channel(a).unwrap());
    alice.send_channel(to_bob, b"across the pool").unwrap();
    assert_eq!(data(&mut bob), b"across the pool");
    bob.send_channel(to_alice, b"and back").unwrap();
    assert_eq!(data(&mut alice), b"and back");
    for closed in ["127.0.0.5:22", "127.0.0.6:40000", "127.0.0.1:21095"] {
        assert_eq!(code(alice.bind_channel(closed.parse().unwrap())), Some(403), "{closed}");
    }
    for relay in relays {
        relay.stop();
        relay.wait().unwrap();
    }
}
