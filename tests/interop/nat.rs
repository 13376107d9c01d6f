//! The edge behind a 1:1 NAT.
//!
//! ```text
//!   client ── internal ── relay ── external ── router ── internet ── peer
//!                          10.25.2.1    10.25.2.254  10.25.3.1     10.25.3.2
//!                                                    10.25.3.7 ⇄ 10.25.2.1
//! ```

use std::net::{IpAddr, SocketAddr, UdpSocket};

use std::time::Duration;

use client::AllocateOptions;

use crate::coturn::{Run, start_peers_at};
use crate::edge::{Home, REST_SECRET, RelayFile, connect, mint, start_relay};
use crate::netns::{Namespace, cable, must};
use crate::site::{EXTERNAL, INTERNAL, Site};

/// The address the internet knows the edge by; the router gives it to no interface of the edge.
const PUBLIC: &str = "10.25.3.7";
/// A host of the internet.
const HOST: &str = "10.25.3.2";

/// One-to-one NAT: ports stay, only the address changes.
const RULES: &str = "
table ip edge {
    chain inbound { type nat hook prerouting priority dstnat; ip daddr 10.25.3.7 dnat to 10.25.2.1; }
    chain outbound {
        type nat hook postrouting priority srcnat;
        oifname internet ip saddr 10.25.2.1 snat to 10.25.3.7;
    }
}";

#[test]
fn edge_advertises_its_public_address_and_relays_from_it() {
    let (site, _router) = site_behind_nat();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &behind_nat());
    let credential = mint(&home.path("pool.pem"), "alice");

    let heard = site.peer.enter(|| UdpSocket::bind((HOST, 0))).expect("a port of the peer");
    heard.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let peer = heard.local_addr().expect("it is bound");
    // From inside, from outside, from outside to the very same relayed port the peer answers to.
    for (machine, server) in [(&site.client, INTERNAL), (&site.peer, PUBLIC)] {
        let mut client = machine.enter(|| connect(server, &credential));
        let allocation = client.allocate(&AllocateOptions::default()).expect("an allocation");
        let public: IpAddr = PUBLIC.parse().expect("an address");
        assert_eq!(allocation.relayed.ip(), public, "{server}");
        client.permit(&[peer.ip()]).expect("a permission");
        client.send_indication(peer, b"out").expect("it is sent");
        let (from, bytes) = receive(&heard);
        assert_eq!((from, bytes.as_slice()), (allocation.relayed, &b"out"[..]), "{server}");
        heard.send_to(b"back", allocation.relayed).expect("it is sent");
        let back = client.recv(Duration::from_secs(5)).expect("the socket works");
        let wanted = client::Event::Data { peer, channel: None, payload: b"back".to_vec() };
        assert_eq!(back, Some(wanted), "{server}");
    }
}

#[test]
fn turnutils_uclient_relays_without_loss_through_a_nat() {
    let (site, _router) = site_behind_nat();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &behind_nat());
    let _peers = start_peers_at(&site.peer, &[HOST]);
    let run = |case, server, options| Run { case, server, peer: HOST, clients: 4, options };
    for (user, (machine, run)) in ["alice", "bob", "carol", "dave"].iter().zip([
        (&site.peer, run("from outside", PUBLIC, &["-c"][..])),
        (&site.client, run("from inside", INTERNAL, &["-c"])),
        (&site.peer, run("client to client, by the public address", PUBLIC, &["-c", "-y"])),
        (&site.client, run("client to client, inside", INTERNAL, &["-c", "-y", "-s"])),
    ]) {
        run.demand_all_back(machine, &["-u", user, "-W", REST_SECRET]);
    }
}

/// The listener outside and the relayed address have a public side.
fn behind_nat() -> RelayFile {
    RelayFile {
        listeners: vec![
            (format!("{INTERNAL}:3478"), "internal", None),
            (format!("{EXTERNAL}:3478"), "external", Some(PUBLIC)),
        ],
        advertise: Some(PUBLIC),
        old_channels: true,
        allow: r#""10.25.3.0/24""#,
        ..RelayFile::default()
    }
}

/// The site with a router between relay and peer.
fn site_behind_nat() -> (Site, Namespace) {
    let site = Site::new();
    let router = Namespace::new("router");
    // The cable to the peer is pulled and led through the router.
    site.relay.ip("link delete external");
    cable((&site.relay, "external"), (&router, "edge"));
    cable((&site.peer, "router"), (&router, "internet"));
    site.relay.address("external", &["10.25.2.1/24", "fd25:2::1/64"]);
    router.address("edge", &["10.25.2.254/24"]);
    router.address("internet", &["10.25.3.1/24", "10.25.3.7/24"]);
    site.peer.address("router", &["10.25.3.2/24"]);
    site.relay.ip("route add default via 10.25.2.254");
    router.sysctl("net.ipv4.ip_forward", "1");
    let rules = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(rules.path(), RULES).expect("the rules are written");
    must(router.command("nft").arg("-f").arg(rules.path()));
    (site, router)
}

fn receive(socket: &UdpSocket) -> (SocketAddr, Vec<u8>) {
    let mut bytes = [0; 2048];
    let (length, from) = socket.recv_from(&mut bytes).expect("a datagram within five seconds");
    (from, bytes[..length].to_vec())
}
