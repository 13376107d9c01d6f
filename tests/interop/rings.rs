//! Media by rings of `AF_XDP`: real clients, counted packets, and no socket for any relayed port.
//!
//! The site is that of `offload.rs`. Requests go by sockets on purpose, so it is media that is counted.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use client::Event;
use socket2::{Domain, Protocol, Socket, Type};

use crate::browser::Browser;
use crate::call::{assert_is_good, serve_page};
use crate::conformance::{
    CLIENTS_AS_PEERS, MANY_QUESTIONS, OURS, failed, open_the_way_to_the_client, verdicts,
};
use crate::coturn::{RUNS, for_coturn, start_peers};
use crate::edge::{Home, REST_SECRET, RelayFile, av_edge, start_auth, start_relay};
use crate::line::Line;
use crate::netns::must;
use crate::offload::{assert_mostly_offloaded, metric, page, relayed, serve_without, site};
use crate::site::{EXTERNAL, INTERNAL, Site};

/// Words of the call, each there and back.
const WORDS: u64 = 500;

/// A relay whose media comes by rings; with routes the kernel relays by itself what it can.
pub(crate) fn ringing(file: RelayFile, routes: u32) -> RelayFile {
    let tables = format!(
        "[offload]\nmode = \"native\"\ninterfaces = [\"internal\", \"external\"]\n\
         engine = \"af_xdp\"\nroutes = {routes}\n"
    );
    RelayFile { tables, workers: 1, ..file }
}

/// The same with two workers, where each interface has two queues.
fn ringing_in_pairs(site: &Site, file: RelayFile) -> RelayFile {
    for (machine, interfaces) in [
        (&site.client, &["relay"][..]),
        (&site.peer, &["relay"]),
        (&site.relay, &["internal", "external"]),
    ] {
        for interface in interfaces {
            must(machine.command("ethtool").args(["-L", interface, "rx", "2", "tx", "2"]));
        }
    }
    RelayFile { workers: 2, ..ringing(file, 0) }
}

/// Datagrams by rings so far, in and out, and those of relayed ports that went by the stack.
fn carried(page: &str) -> [u64; 3] {
    let ring = |direction| metric(page, "av_edge_relay_ring_datagrams_total", &[direction]);
    let strays = metric(page, "av_edge_relay_stray_datagrams_total", &[]);
    [ring("direction=\"in\""), ring("direction=\"out\""), strays]
}

/// Sockets of UDP on the relay's machine that are bound to a relayed port, but for those on
/// loopback.
fn relayed_sockets(site: &Site) -> usize {
    let ports_of = |file: &str| {
        let path = format!("/proc/thread-self/net/{file}");
        let text = site.relay.enter(move || std::fs::read_to_string(path)).expect("a table");
        let rows = text.lines().skip(1).filter_map(|row| row.split_whitespace().nth(1));
        let rows = rows.filter(|it| {
            !["0100007F:", "00000000000000000000000001000000:"].iter().any(|lo| it.starts_with(lo))
        });
        let ports = rows.filter_map(|it| u16::from_str_radix(it.rsplit(':').next()?, 16).ok());
        ports.filter(|port| (50_000..60_000).contains(port)).count()
    };
    ports_of("udp") + ports_of("udp6")
}

/// Nearly all media since an earlier look went by rings, both ways.
fn assert_by_rings(case: &str, before: [u64; 3], all: u64, page: &str) {
    let after = carried(page);
    let [entered, left, strays] = [0, 1, 2].map(|index| after[index] - before[index]);
    println!("{case}: of {all} datagrams {entered} came and {left} left by rings; {strays} strays");
    assert!(entered * 100 > 95 * all && left * 100 > 95 * all, "{case}: {page}");
}

#[test]
fn rings_carry_a_call_without_a_socket_for_its_port() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &ringing(RelayFile::default(), 0));
    let mut line = Line::open(&site, &home);
    for word in 0..WORDS {
        line.demand_echo(&format!("word {word:04}"));
    }
    let found = page(&site);
    assert_by_rings("a call", [0; 3], 2 * WORDS, &found);
    assert_eq!(relayed(&found), [2 * WORDS, 0], "and the kernel none by itself: {found}");
    assert_eq!(metric(&found, "av_edge_relay_rings", &[]), 2, "a queue of each interface");
    assert_eq!(relayed_sockets(&site), 0);
    line.client.release().expect("the allocation ends");
    let before = carried(&page(&site));
    let late = line.peer.local_addr().expect("it is bound");
    line.client.send_channel(line.channel, b"late").expect("it is sent");
    line.peer.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    assert!(line.peer.recv_from(&mut [0; 64]).is_err(), "nothing passes to {late} any more");
    assert_eq!(carried(&page(&site))[1], before[1]);
}

#[test]
fn rings_leave_to_the_stack_what_does_not_fit_and_it_arrives() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &ringing(RelayFile::default(), 0));
    let mut line = Line::open(&site, &home);
    line.demand_echo("small");
    let [_, _, before] = carried(&page(&site));
    for length in [1_500_usize, 4_000, 60_000] {
        let large: Vec<u8> = (0..=250).cycle().take(length).collect();
        line.client.send_channel(line.channel, &large).expect("it is sent");
        let mut bytes = vec![0; 65_536];
        let (came, from) = line.peer.recv_from(&mut bytes).expect("it reaches the peer");
        assert!(bytes[..came] == large, "{length} there");
        line.peer.send_to(&large, from).expect("it is sent");
        let back = line.client.recv(Duration::from_secs(5)).expect("the socket works");
        assert!(
            matches!(back, Some(Event::Data { payload, .. }) if payload == large),
            "{length} back"
        );
    }
    let [_, _, strays] = carried(&page(&site));
    assert_eq!(strays - before, 6, "three to the peer, three from it");
    line.demand_echo("small again");
}

#[test]
fn rings_carry_everything_of_turnutils_uclient() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &ringing(for_coturn(), 0));
    let _peers = start_peers(&site);
    for (number, run) in RUNS.iter().enumerate() {
        let before = (carried(&page(&site)), relayed(&page(&site)));
        let user = format!("user-{number}");
        run.demand_all_back(&site.client, &["-u", &user, "-W", REST_SECRET]);
        let found = page(&site);
        // What one client sends another is relayed twice and leaves the relay once.
        let halves = if run.case.starts_with("client to client") { 2 } else { 1 };
        let all = (relayed(&found)[0] - before.1[0]) / halves;
        assert_by_rings(run.case, before.0, all, &found);
    }
    assert_eq!(relayed_sockets(&site), 0);
}

#[test]
fn rings_of_two_workers_at_two_queues_carry_everything_of_turnutils_uclient() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &ringing_in_pairs(&site, for_coturn()));
    assert_eq!(metric(&page(&site), "av_edge_relay_rings", &[]), 4, "two queues of each interface");
    let _peers = start_peers(&site);
    for (number, run) in RUNS.iter().enumerate() {
        let before = (carried(&page(&site)), relayed(&page(&site)));
        let user = format!("user-{number}");
        run.demand_all_back(&site.client, &["-u", &user, "-W", REST_SECRET]);
        let found = page(&site);
        // Between two workers it takes the stack.
        if !run.case.starts_with("client to client") {
            let all = relayed(&found)[0] - before.1[0];
            assert_by_rings(run.case, before.0, all, &found);
        }
    }
    let found = page(&site);
    for worker in ["worker=\"0\"", "worker=\"1\""] {
        for direction in ["direction=\"in\"", "direction=\"out\""] {
            let count = metric(&found, "av_edge_relay_ring_datagrams_total", &[worker, direction]);
            assert!(count > 0, "{worker} {direction}: {found}");
        }
    }
    assert_eq!(metric(&found, "av_edge_relay_ring_lost_total", &[]), 0, "{found}");
    assert_eq!(relayed_sockets(&site), 0);
}

#[test]
fn rings_of_two_workers_fail_no_requirement() {
    let site = site();
    let home = Home::with_pool_key();
    let allow = CLIENTS_AS_PEERS;
    let file = RelayFile { allow, features: "mobility = true", ..RelayFile::default() };
    let mut file = ringing_in_pairs(&site, file);
    file.tables += MANY_QUESTIONS;
    let _relay = start_relay(&site, &home, &file);
    open_the_way_to_the_client(&site);
    let uri = format!("turn:{INTERNAL}");
    let found = verdicts(&site, &uri, &OURS);
    assert!(failed(&found).is_empty(), "{:#?}", failed(&found));
    // Every other client that moves comes from where the other worker would hear it.
    for _ in 0..8 {
        let found = verdicts(&site, &uri, &[&OURS[..], &["--only", "MOB-006,MOB-007"]].concat());
        assert!(found.values().all(|(verdict, _)| verdict == "pass"), "{found:#?}");
    }
    let [entered, left, _] = carried(&page(&site));
    assert!(entered > 100 && left > 100, "{entered} came and {left} left by rings");
}

#[test]
fn rings_lose_no_call_with_their_interface() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &ringing(RelayFile::default(), 0));
    let mut line = Line::open(&site, &home);
    line.demand_echo("before");
    for side in ["internal", "external"] {
        site.relay.ip(&format!("link set {side} down"));
        site.relay.ip(&format!("link set {side} up"));
        line.await_echo(&format!("{side} again"));
    }
    let before = carried(&page(&site));
    line.demand_echo("by rings again");
    let after = carried(&page(&site));
    assert_eq!([0, 1, 2].map(|index| after[index] - before[index]), [2, 2, 0], "by rings");

    site.relay.ip("link delete external");
    site.join_peer();
    line.await_echo("by another cable");
    let before = carried(&page(&site));
    line.demand_echo("and by the stack");
    let after = carried(&page(&site));
    assert_eq!(after[2] - before[2], 2, "to the peer and from it");
}

#[test]
fn rings_carry_what_the_kernel_does_not_relay_by_itself() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &ringing(for_coturn(), 1_000));
    let _peers = start_peers(&site);
    for case in ["channels", "indications"] {
        let run = RUNS.iter().find(|run| run.case == case).expect("a run");
        let before = (carried(&page(&site)), relayed(&page(&site)));
        run.demand_all_back(&site.client, &["-u", case, "-W", REST_SECRET]);
        let found = page(&site);
        if case == "channels" {
            assert_mostly_offloaded(case, before.1, &found);
        } else {
            let all = relayed(&found)[0] - before.1[0];
            assert_by_rings(case, before.0, all, &found);
        }
    }
}

#[test]
fn rings_carry_a_call_of_chromium_with_itself() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &ringing(RelayFile::default(), 0));
    let auth = start_auth(&site, &home);
    let servers = auth.ice_servers(&site.client, "alice");
    let mut browser = Browser::open(&site.client, &format!("http://{}/", serve_page(&site.client)));
    let ends = browser.value(&format!("call({servers}, 10)"), Duration::from_secs(100));
    for end in ends.as_array().expect("two ends") {
        assert_is_good(end);
    }
    let found = page(&site);
    // Both ends are clients of the relay: each packet passes two relayed addresses.
    assert_by_rings("Chromium", [0; 3], relayed(&found)[0] / 2, &found);
    let [.., strays] = carried(&found);
    assert!(strays * 100 < relayed(&found)[0], "what is between them stays within: {found}");
    assert_eq!(relayed_sockets(&site), 0);
}

#[test]
fn rings_leave_other_processes_their_ports() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &ringing(RelayFile::default(), 0));
    let _line = Line::open(&site, &home);
    let peer = site.peer.enter(|| UdpSocket::bind("10.25.2.2:0")).expect("a port of the peer");
    let mut other = (50_000..60_000).map(|port| format!("10.25.2.1:{port}"));
    let other = site.relay.enter(|| other.find_map(|at| UdpSocket::bind(at).ok()));
    let other = other.expect("a port in the range of relayed ones");
    other.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    peer.send_to(b"for another", other.local_addr().expect("it is bound")).expect("it is sent");
    let mut bytes = [0; 64];
    let (length, _) = other.recv_from(&mut bytes).expect("it arrives");
    assert_eq!(&bytes[..length], b"for another");
}

/// Sends an IPv4 packet with a UDP datagram whose headers are all made up.
fn make_up(site: &Site, (from, to): (SocketAddrV4, SocketAddrV4), checksum: u16) {
    let payload = b"made up";
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    for word in [from.port(), to.port(), 8 + 7, checksum] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(payload);
    let raw = site.peer.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)));
    let raw = raw.expect("a raw socket");
    raw.set_header_included_v4(true).expect("headers of our own");
    raw.send_to(&packet, &SocketAddr::from(to).into()).expect("it is sent");
}

#[test]
fn sec_005_rings_take_nothing_that_is_damaged_or_claims_to_come_from_the_relay_itself() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &ringing(RelayFile::default(), 0));
    let mut line = Line::open(&site, &home);
    line.client.permit(&[EXTERNAL.parse().expect("an address")]).expect("a permission");
    line.demand_echo("the way is open");
    line.client.send_channel(line.channel, b"whence").expect("it is sent");
    let (_, relayed) = line.peer.recv_from(&mut [0; 64]).expect("it arrives");
    let SocketAddr::V4(to) = relayed else { panic!("IPv4, not {relayed}") };
    let Ok(SocketAddr::V4(peer)) = line.peer.local_addr() else { panic!("IPv4") };
    let itself = SocketAddrV4::new(*to.ip(), 5_000);
    for (from, checksum, lost) in
        [(peer, 0x1234, "damaged"), (itself, 0, "forged"), (peer, 0, "nothing")]
    {
        make_up(&site, (from, to), checksum);
        let heard = line.client.recv(Duration::from_millis(300)).expect("the socket works");
        assert_eq!(heard.is_some(), lost == "nothing", "{lost}: {heard:?}");
        let reason = format!("reason=\"{lost}\"");
        let count = metric(&page(&site), "av_edge_relay_ring_lost_total", &[&reason]);
        assert_eq!(count, u64::from(lost != "nothing"), "{lost}");
    }
}

#[test]
fn rings_are_foretold_by_the_doctor() {
    let site = site();
    let home = Home::with_pool_key();
    let file = home.write("relay.toml", &ringing(RelayFile::default(), 0).toml());
    let mut doctor = site.relay.command(av_edge().to_str().expect("a path in UTF-8"));
    let said = must(doctor.args(["doctor", "--config"]).arg(file)).stdout;
    let said = String::from_utf8(said).expect("it prints text");
    for interface in ["internal", "external"] {
        let wanted =
            format!("{interface}: media comes by rings; of its packets the kernel copies each");
        assert!(said.contains(&wanted), "{said}");
    }
}

#[test]
fn rings_without_privilege_are_sockets_and_the_log_says_why() {
    let (site, relay, _line) = serve_without("-net_raw", &ringing(RelayFile::default(), 0));
    let found = page(&site);
    assert_eq!(metric(&found, "av_edge_relay_rings", &[]), 0, "{found}");
    assert_eq!(carried(&found), [0; 3]);
    assert_eq!(relayed_sockets(&site), 1, "that of the call");
    let said = relay.output();
    assert!(said.contains("media comes by sockets, not by rings: "), "{said}");
}
