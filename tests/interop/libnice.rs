//! libnice in the mode of Office Communicator 2007 R2: agents that have relayed candidates only.
//!
//! The program (`libnice/agents.c`) is ours, its ICE and its TURN are libnice's. All pairs call at
//! once, through one relay, for as long as two refreshes take. Their credentials are those that SIPp
//! obtained of A/V authentication. tshark listens to all that go over UDP and, on port 443, to two
//! pairs that say less.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use client::Credentials;

use crate::edge::{Home, METRICS, RelayFile, http_get, start_relay};
use crate::mras::{by_sipp, start_mras};
use crate::netns::must;
use crate::process::Process;
use crate::site::{INTERNAL, Site};
use crate::wire::{Carrier, Wire};
use rig::clock;

/// Packets each agent sends.
const PACKETS: &str = "10000";
/// The same where tshark listens to every one.
const FEW: &str = "300";
/// What the relay grants at a time over UDP, seconds. libnice refreshes at half of it. Over TCP it
/// need not: what it is granted there is longer than a call.
const LIFETIME: u32 = 30;
/// How long a call takes, seconds: two refreshes and a little more.
const SECONDS: &str = "34";
/// How long everything else may take.
const LIMIT: Duration = Duration::from_secs(90);

/// What two agents do.
struct Call {
    case: &'static str,
    port: &'static str,
    relay: &'static str,
    packets: &'static str,
    modes: [&'static str; 2],
}

const MS: [&str; 2] = ["oc2007r2"; 2];

const CALLS: [Call; 6] = [
    Call { case: "UDP", port: "3478", relay: "udp", packets: PACKETS, modes: MS },
    Call { case: "TCP", port: "3478", relay: "tcp", packets: PACKETS, modes: MS },
    Call { case: "pseudo-TLS", port: "3478", relay: "tls", packets: PACKETS, modes: MS },
    Call {
        case: "both dialects",
        port: "3478",
        relay: "udp",
        packets: PACKETS,
        modes: ["oc2007r2", "rfc"],
    },
    Call { case: "TCP, heard", port: "443", relay: "tcp", packets: FEW, modes: MS },
    Call { case: "pseudo-TLS, heard", port: "443", relay: "tls", packets: FEW, modes: MS },
];

#[test]
fn mst_078_libnice_agents_lose_nothing_over_two_refreshes_and_tshark_finds_nothing_malformed() {
    let program = agents();
    let site = Site::new();
    let home = Home::with_pool_key();
    home.certificate("turn", "turn.example.org");
    let mut file = RelayFile {
        features: "microsoft = true",
        transports: &["udp", "tcp", "tls"],
        tables: format!(
            "[tls]\ncertificates = [{{ certificate = \"turn.pem\", key = \"turn.key\" }}]\n\
             [timers]\nmicrosoft_lifetime_s = {LIFETIME}"
        ),
        ..RelayFile::default()
    };
    file.listeners.push((format!("{INTERNAL}:443"), "internal", None));
    let _auth = start_mras(&site, &home);
    let tokens = by_sipp(&site, &home, "intranet", 2 * CALLS.len());
    let _relay = start_relay(&site, &home, &file);
    let mut datagrams = Wire::tap(&site.relay, Carrier::Datagrams(3478));
    let mut frames = Wire::tap(&site.relay, Carrier::Frames(443));
    let calls: Vec<_> = CALLS
        .iter()
        .zip(tokens.chunks_exact(2))
        .map(|(call, tokens)| (call, call.start(&site, &program, tokens)))
        .collect();
    for (call, agents) in calls {
        call.demand_whole(agents, &site);
    }
    // Agents give back what they hold, or close the connection it hangs on.
    clock::await_some(LIMIT, "allocations to end", || {
        (site.count("av_edge_relay_allocations{") == 0).then_some(())
    });
    assert_eq!(site.count("av_edge_relay_pseudo_tls_total{"), 4);
    let said = datagrams.demand_well_formed();
    // The first, two refreshes, the release: of each agent that speaks this dialect over UDP.
    let successes = said.types.iter().filter(|(_, kind)| *kind == 0x0103);
    let mut ports: Vec<_> = successes.map(|(port, _)| *port).collect();
    ports.sort_unstable();
    let clients: Vec<_> = ports.chunk_by(|a, b| a == b).map(<[_]>::len).collect();
    assert!(clients.len() == 3 && clients.iter().all(|&count| count >= 4), "{clients:?}");
    assert!(said.messages >= 3 * 6, "{said:?}");
    let said = frames.demand_well_formed();
    assert_eq!(said.greetings, 2, "of the pair that speaks pseudo-TLS");
    // Challenge, allocation, a peer's check, destination: of each of four agents.
    for (kind, least) in [(0x0113, 4), (0x0103, 4), (0x0115, 4), (0x0106, 4)] {
        let count = said.types.iter().filter(|(_, it)| *it == kind).count();
        assert!(count >= least, "{count} of {kind:#06x}: {said:?}");
    }
}

/// A call over UDP from which nothing is missing.
pub(crate) fn demand_whole_call(site: &Site, tokens: &[Credentials]) {
    let [call, ..] = &CALLS;
    let agents = call.start(site, &agents(), tokens);
    call.demand_whole(agents, site);
}

impl Call {
    /// Waits for the end of the call: each agent got all that the other sent.
    fn demand_whole(&self, mut agents: Process, site: &Site) {
        let Self { case, packets, .. } = self;
        let status = agents.wait(LIMIT);
        let said = agents.output();
        assert!(status.success(), "{case}: {status}\n{said}{}", site.losses());
        for agent in 0..2 {
            let all =
                format!("agent={agent} sent={packets} received={packets} missing=0 strange=0");
            assert!(said.contains(&all), "{case}: no `{all}` in\n{said}");
        }
    }

    /// Starts the agents, each with a token of its own.
    fn start(&self, site: &Site, program: &Path, tokens: &[Credentials]) -> Process {
        let mut command = site.client.command(program.to_str().expect("a path in UTF-8"));
        command.args([INTERNAL, self.port, self.relay, SECONDS, self.packets]);
        for (mode, Credentials { username, password }) in self.modes.iter().zip(tokens) {
            command.args([mode, username.as_str(), password.as_str()]);
        }
        Process::start(&mut command)
    }
}

impl Site {
    /// What the relay refused, dropped or lost, in its own words.
    fn losses(&self) -> String {
        let page = self.relay.enter(|| http_get(&format!("http://{METRICS}/metrics")));
        let page = page.expect("metrics");
        let bad = ["_refused", "_dropped", "_lost", "_ended", "_errors"];
        let rows = page.lines().filter(|row| {
            bad.iter().any(|it| row.contains(it)) && !row.starts_with('#') && !row.ends_with(" 0")
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    /// The sum of a metric's series.
    fn count(&self, name: &str) -> u64 {
        let page = self.relay.enter(|| http_get(&format!("http://{METRICS}/metrics")));
        let page = page.expect("metrics");
        let rows = page.lines().filter(|row| row.starts_with(name));
        rows.map(|row| row.rsplit(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0)).sum()
    }
}

/// Compiles the program with what pkg-config says about libnice.
fn agents() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.parent().expect("tests/ is in the workspace").join("target/libnice-agents");
    let flags = must(Command::new("pkg-config").args(["--cflags", "--libs", "nice"]));
    let flags = String::from_utf8(flags.stdout).expect("UTF-8");
    must(
        Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-o"])
            .arg(&program)
            .arg(root.join("interop/libnice/agents.c"))
            .args(flags.split_whitespace()),
    );
    program
}
