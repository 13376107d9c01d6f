//! What coturn's client can ask for, over each of the transports it speaks.
//!
//! All but two. `-Z` asks for both families by a number from before RFC 8656 (0x8032), which means
//! another thing today, and takes for granted that it got them. `-P`, for peers that connect, calls
//! half of what it sends lost, at coturn's server too. The conformance columns try both.

use std::sync::Mutex;

use crate::coturn::{demand_all_back, start_peers_at};
use crate::edge::{Home, REST_SECRET, RelayFile, start_relay};
use crate::site::{INTERNAL, INTERNAL6, PEER, PEER6, Site};

/// How many runs go on at a time: the tool waits more than it works.
const AT_ONCE: usize = 8;

/// Messages of each client, and clients of each run.
const MESSAGES: u64 = 20;
const CLIENTS: u64 = 2;

/// A transport, and what makes the tool speak it.
const TRANSPORTS: [(&str, &[&str]); 4] =
    [("UDP", &[]), ("TCP", &["-t"]), ("TLS", &["-t", "-S"]), ("DTLS", &["-S"])];

/// What is asked for: words, server, peer, options.
const WISHES: [(&str, &str, &str, &[&str]); 6] = [
    ("ports in pairs", INTERNAL, PEER, &[]),
    ("a move", INTERNAL, PEER, &["-c", "-M"]),
    ("a move, by indications", INTERNAL, PEER, &["-c", "-M", "-s"]),
    ("IPv6 to IPv6", INTERNAL6, PEER6, &["-c", "-x"]),
    ("IPv4 to IPv6", INTERNAL, PEER6, &["-c", "-x"]),
    ("IPv6 to IPv4", INTERNAL6, PEER, &["-c", "-X"]),
];

/// The same for relays of TCP, which only streams may ask for.
const TCP_WISHES: [(&str, &str, &str, &[&str]); 2] = [
    ("a TCP relay", INTERNAL, PEER, &["-T"]),
    ("a TCP relay of IPv6", INTERNAL6, PEER6, &["-T", "-x"]),
];

#[test]
fn stun_029_turnutils_uclient_is_served_in_every_combination() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &everything(&home));
    let _peers = start_peers_at(&site.peer, &[PEER, PEER6]);
    let streams = TRANSPORTS.iter().filter(|(_, options)| options.contains(&"-t"));
    let tcp = streams.flat_map(|transport| TCP_WISHES.map(|wish| (transport, wish)));
    let udp = TRANSPORTS.iter().flat_map(|transport| WISHES.map(|wish| (transport, wish)));
    let runs = Mutex::new(udp.chain(tcp).enumerate());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = runs.lock().expect("no run failed").next();
                    let Some((number, ((transport, how), (wish, server, peer, what)))) = next
                    else {
                        break;
                    };
                    // The tool leaves its allocations to expire: each run is a user of its own.
                    let user = format!("user-{number}");
                    let words = ["-p", "3478", "-u", &user, "-W", REST_SECRET, "-e", peer];
                    let words = [&words[..], how, what, &[server]].concat();
                    let case = format!("{transport}, {wish}");
                    demand_all_back(&site.client, &case, (CLIENTS, MESSAGES), &words);
                }
            });
        }
    });
}

/// Every transport at one port, every feature on.
fn everything(home: &Home) -> RelayFile {
    home.certificate("turn", "turn.example.org");
    RelayFile {
        transports: &["udp", "tcp", "tls", "dtls"],
        features: "tcp_relays = true\nmobility = true",
        old_channels: true,
        tables: "[limits]\nconnections_per_client = 1000\n[tls]\ncertificates = [{ certificate = \"turn.pem\", key = \"turn.key\" }]"
            .to_owned(),
        ..RelayFile::default()
    }
}
