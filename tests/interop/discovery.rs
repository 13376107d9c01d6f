//! NAT behaviour discovery (RFC 5780): the four places on the wire, and coturn's client.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use rig::kind::method;
use rig::{Draft, Heard};

use crate::edge::{Home, RelayFile, start_relay};
use crate::netns::must;
use crate::process::Process;
use crate::site::{INTERNAL, Site};

/// The second address of the relay toward the client.
const SECOND: &str = "10.25.1.9";
/// The ports of both.
const PORTS: [u16; 2] = [3478, 3479];
/// CHANGE-REQUEST.
const CHANGE_REQUEST: u16 = 0x0003;
/// Clients: enough that every worker has some.
const CLIENTS: usize = 8;

/// A site whose relay has a second address, and that relay.
fn start() -> (Site, Home, Process) {
    let site = Site::new();
    site.relay.ip(&format!("address add {SECOND}/24 dev internal"));
    let home = Home::with_pool_key();
    let features =
        r#"nat_discovery = [{ primary = "10.25.1.1:3478", alternate = "10.25.1.9:3479" }]"#;
    // One host asks more often here than strangers may.
    let tables = "[limits]\nstrangers_burst = 1000\n".to_owned();
    let file = RelayFile { features, tables, ..RelayFile::default() };
    let relay = start_relay(&site, &home, &file);
    (site, home, relay)
}

#[test]
fn natb_003_answers_leave_from_the_place_that_was_asked_for() {
    let (site, _home, _relay) = start();
    let hosts: [IpAddr; 2] = [INTERNAL, SECOND].map(|ip| ip.parse().expect("an address"));
    for _ in 0..CLIENTS {
        let socket = site.client.enter(|| UdpSocket::bind(("10.25.1.2", 0))).expect("a port");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        for (host, port) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for flags in [0, 2, 4, 6_u8] {
                let to = SocketAddr::new(hosts[host], PORTS[port]);
                let draft = Draft::request(method::BINDING)
                    .raw(CHANGE_REQUEST, &[0, 0, 0, flags])
                    .transaction([flags; 12]);
                socket.send_to(&draft.encode(), to).expect("it is sent");
                let mut buffer = [0; 1_500];
                let (len, from) = socket.recv_from(&mut buffer).expect("an answer");
                let heard = Heard::read(&buffer[..len]);
                heard.expect_success();
                assert_eq!(heard.transaction(), [flags; 12]);
                assert_eq!(heard.mapped(), socket.local_addr().ok());
                let host = host ^ usize::from(flags & 4 != 0);
                let port = port ^ usize::from(flags & 2 != 0);
                assert_eq!(from, SocketAddr::new(hosts[host], PORTS[port]), "{to}, flags {flags}");
            }
        }
    }
}

#[test]
fn natb_002_turnutils_natdiscovery_finds_out_about_mapping_and_filtering() {
    let (site, _home, _relay) = start();
    let run = |options: &[&str]| {
        let mut command = site.client.command("turnutils_natdiscovery");
        let output = must(command.args(options).arg(INTERNAL));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // There is no NAT here; the tool calls that the most permissive one.
    for options in [&["-m", "-f"][..], &["-m", "-f", "-P"]] {
        let said = run(options);
        for finding in ["Endpoint Independent Mapping!", "Endpoint Independent Filtering!"] {
            assert!(said.contains(finding), "{options:?}: {said}");
        }
    }
    // With a filter that lets nothing in but answers from where a request went, it finds that.
    let rules = "
table ip guard {
    chain inbound {
        type filter hook input priority filter; policy drop;
        ct state established accept;
    }
}";
    must(site.client.command("nft").arg(rules));
    let said = run(&["-f"]);
    assert!(said.contains("Address and Port Dependent Filtering!"), "{said}");
}
