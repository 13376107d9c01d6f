//! coturn's command-line clients.

use std::time::Duration;

use crate::edge::{Home, REST_SECRET, RelayFile, mint, start_relay};
use crate::netns::{Namespace, must};
use crate::process::Process;
use crate::site::{INTERNAL, INTERNAL6, PEER, PEER6, Site};

/// Messages each client of a run sends.
const MESSAGES: u64 = 200;
/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One run of `turnutils_uclient`.
pub(crate) struct Run {
    pub(crate) case: &'static str,
    pub(crate) server: &'static str,
    pub(crate) peer: &'static str,
    /// How many sockets of clients send. With their RTCP siblings, where the run has them.
    pub(crate) clients: u64,
    pub(crate) options: &'static [&'static str],
}

pub(crate) const RUNS: &[Run] = &[
    Run { case: "channels", server: INTERNAL, peer: PEER, clients: 4, options: &["-c"] },
    Run {
        case: "channels, RTP and RTCP ports in pairs",
        server: INTERNAL,
        peer: PEER,
        clients: 4,
        options: &[],
    },
    Run { case: "indications", server: INTERNAL, peer: PEER, clients: 4, options: &["-c", "-s"] },
    Run {
        case: "DONT-FRAGMENT",
        server: INTERNAL,
        peer: PEER,
        clients: 4,
        options: &["-c", "-s", "-g"],
    },
    Run {
        case: "IPv6 channels",
        server: INTERNAL6,
        peer: PEER6,
        clients: 4,
        options: &["-c", "-x"],
    },
    Run {
        case: "IPv6 indications",
        server: INTERNAL6,
        peer: PEER6,
        clients: 4,
        options: &["-c", "-x", "-s"],
    },
    Run {
        case: "IPv4 client, IPv6 peer",
        server: INTERNAL,
        peer: PEER6,
        clients: 2,
        options: &["-c", "-x"],
    },
    Run {
        case: "IPv6 client, IPv4 peer",
        server: INTERNAL6,
        peer: PEER,
        clients: 2,
        options: &["-c", "-X"],
    },
    Run {
        case: "client to client",
        server: INTERNAL,
        peer: PEER,
        clients: 4,
        options: &["-c", "-y"],
    },
    Run {
        case: "client to client by indications",
        server: INTERNAL,
        peer: PEER,
        clients: 4,
        options: &["-c", "-y", "-s"],
    },
];

#[test]
fn rest_004_turnutils_uclient_relays_without_loss_with_rest_credentials() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &for_coturn());
    let _peers = start_peers(&site);
    // The tool leaves its allocations to expire: each run is a user of its own.
    for (number, run) in RUNS.iter().enumerate() {
        let user = format!("user-{number}");
        run.demand_all_back(&site.client, &["-u", &user, "-W", REST_SECRET]);
    }
}

#[test]
fn turnutils_uclient_relays_without_loss_with_pool_credentials() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &for_coturn());
    let _peers = start_peers(&site);
    let plain = ["channels", "indications", "IPv6 channels", "IPv6 indications"];
    for (number, run) in RUNS.iter().filter(|run| plain.contains(&run.case)).enumerate() {
        let credential = mint(&home.path("pool.pem"), &format!("user-{number}"));
        run.demand_all_back(
            &site.client,
            &["-u", &credential.username, "-w", &credential.password],
        );
    }
}

#[test]
fn turnutils_uclient_with_a_wrong_secret_gets_no_allocation() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &RelayFile::default());
    let output = site
        .client
        .command("turnutils_uclient")
        .args(["-c", "-n", "1", "-u", "alice", "-W", "some-other-secret-77", "-e", PEER, INTERNAL])
        .output()
        .expect("turnutils_uclient runs");
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Cannot complete Allocation"), "{said}");
}

#[test]
fn turnutils_stunclient_learns_its_address() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &RelayFile::default());
    for (server, client) in [(INTERNAL, "10.25.1.2:"), (INTERNAL6, "fd25:1::2:")] {
        let output = must(site.client.command("turnutils_stunclient").arg(server));
        let said = String::from_utf8_lossy(&output.stdout);
        let wanted = format!("UDP reflexive addr: {client}");
        assert!(said.contains(&wanted), "{server}: no `{wanted}` in:\n{said}");
    }
}

/// A relay that takes the channel numbers of `turnutils_uclient`.
pub(crate) fn for_coturn() -> RelayFile {
    RelayFile { old_channels: true, ..RelayFile::default() }
}

impl Run {
    /// Runs the tool and demands that every message came back.
    pub(crate) fn demand_all_back(&self, machine: &Namespace, credential: &[&str]) {
        let words = [credential, &["-e", self.peer], self.options, &[self.server]].concat();
        demand_all_back(machine, self.case, (self.clients, MESSAGES), &words);
    }
}

/// Runs the tool and demands that every message of so many clients came back.
pub(crate) fn demand_all_back(
    machine: &Namespace,
    case: &str,
    (clients, messages): (u64, u64),
    words: &[&str],
) {
    let count = |number: u64| number.to_string();
    let run = || {
        let mut tool = Process::start(
            machine
                .command("turnutils_uclient")
                .args(["-n", &count(messages), "-m", &count(clients), "-l", "160", "-z", "5"])
                .args(words),
        );
        (tool.wait(LIMIT), tool.output())
    };
    let (mut status, mut output) = run();
    // It binds two channels of each client to two peers, with numbers of chance: once in 16,384 times
    // with the same one, which no server grants.
    if output.contains("channel bind: error 400") {
        (status, output) = run();
    }
    assert!(status.success(), "{case}: {status}\n{output}");
    let all = clients * messages;
    let wanted = Report { sent: all, received: all, lost: 0 };
    assert_eq!(Report::read(&output), wanted, "{case}:\n{output}");
}

/// What `turnutils_uclient` says at its end.
#[derive(Debug, PartialEq)]
struct Report {
    sent: u64,
    received: u64,
    lost: u64,
}

impl Report {
    /// Reads the last totals of the program's output.
    fn read(output: &str) -> Self {
        let last = |name: &str| {
            let (_, rest) =
                output.rsplit_once(name).unwrap_or_else(|| panic!("no `{name}` in:\n{output}"));
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or_else(|_| panic!("no number after `{name}` in:\n{output}"))
        };
        Self {
            sent: last("tot_send_msgs="),
            received: last("tot_recv_msgs="),
            lost: last("Total lost packets "),
        }
    }
}

/// coturn's echo on both addresses of the site's peer.
pub(crate) fn start_peers(site: &Site) -> Process {
    start_peers_at(&site.peer, &[PEER, PEER6])
}

/// coturn's echo on these addresses of a machine.
pub(crate) fn start_peers_at(machine: &Namespace, addresses: &[&str]) -> Process {
    let mut command = machine.command("turnutils_peer");
    command.args(["-p", "3480"]);
    for address in addresses {
        command.args(["-L", address]);
    }
    let mut peers = Process::start(&mut command);
    peers.until(LIMIT, "turnutils_peer to listen", |_| {
        let sockets = must(machine.command("ss").args(["-Hlun", "sport = :3480"]));
        let listening = String::from_utf8_lossy(&sockets.stdout).lines().count();
        (listening >= addresses.len()).then_some(())
    });
    peers
}
