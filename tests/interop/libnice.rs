//! libnice in the mode of Office Communicator 2007 R2: agents that have relayed candidates only.
//!
//! The program (`libnice/agents.c`) is ours, its ICE and its TURN are libnice's. All pairs call at
//! once, through one relay, for as long as two refreshes take; tshark listens. Their credentials are
//! those that SIPp obtained of A/V authentication.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use client::Credentials;
use tempfile::NamedTempFile;

use crate::clock;
use crate::edge::{Home, METRICS, RelayFile, http_get, start_relay};
use crate::mras::{by_sipp, start_mras};
use crate::netns::{Namespace, must};
use crate::process::Process;
use crate::site::{INTERNAL, Site};

/// Packets each agent sends.
const PACKETS: &str = "10000";
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
    relay: &'static str,
    modes: [&'static str; 2],
}

const CALLS: [Call; 4] = [
    Call { case: "UDP", relay: "udp", modes: ["oc2007r2", "oc2007r2"] },
    Call { case: "TCP", relay: "tcp", modes: ["oc2007r2", "oc2007r2"] },
    Call { case: "pseudo-TLS", relay: "tls", modes: ["oc2007r2", "oc2007r2"] },
    Call { case: "both dialects", relay: "udp", modes: ["oc2007r2", "rfc"] },
];

#[test]
fn mst_078_libnice_agents_lose_nothing_over_two_refreshes_and_tshark_finds_nothing_malformed() {
    let program = agents();
    let site = Site::new();
    let home = Home::with_pool_key();
    home.certificate("turn", "turn.example.org");
    let file = RelayFile {
        features: "microsoft = true",
        transports: &["udp", "tcp", "tls"],
        tables: format!(
            "[tls]\ncertificates = [{{ certificate = \"turn.pem\", key = \"turn.key\" }}]\n\
             [timers]\nmicrosoft_lifetime_s = {LIFETIME}"
        ),
        ..RelayFile::default()
    };
    let _auth = start_mras(&site, &home);
    let tokens = by_sipp(&site, &home, "intranet", 2 * CALLS.len());
    let _relay = start_relay(&site, &home, &file);
    let mut wire = Wire::tap(&site.relay);
    let calls: Vec<_> = CALLS
        .iter()
        .zip(tokens.chunks_exact(2))
        .map(|(call, tokens)| (call, call.start(&site, &program, tokens)))
        .collect();
    for (call, mut agents) in calls {
        let status = agents.wait(LIMIT);
        let said = agents.output();
        assert!(status.success(), "{}: {status}\n{said}", call.case);
        for agent in 0..2 {
            let all =
                format!("agent={agent} sent={PACKETS} received={PACKETS} missing=0 strange=0");
            assert!(said.contains(&all), "{}: no `{all}` in\n{said}", call.case);
        }
    }
    // Agents give back what they hold, or close the connection it hangs on.
    clock::await_some(LIMIT, "allocations to end", || {
        (site.count("av_edge_relay_allocations{") == 0).then_some(())
    });
    assert_eq!(site.count("av_edge_relay_pseudo_tls_total{"), 2);
    wire.demand_well_formed();
    // The first, two refreshes, the release: of each agent that speaks this dialect over UDP.
    let answers = wire.fields("classicstun.type == 0x0103", "udp.dstport");
    let mut ports: Vec<_> = answers.lines().collect();
    ports.sort_unstable();
    let clients: Vec<_> = ports.chunk_by(|a, b| a == b).map(<[_]>::len).collect();
    assert!(clients.len() == 3 && clients.iter().all(|&count| count >= 4), "{clients:?}");
}

impl Call {
    /// Starts the agents, each with a token of its own.
    fn start(&self, site: &Site, program: &Path, tokens: &[Credentials]) -> Process {
        let mut command = site.client.command(program.to_str().expect("a path in UTF-8"));
        command.args([INTERNAL, "3478", self.relay, SECONDS, PACKETS]);
        for (mode, Credentials { username, password }) in self.modes.iter().zip(tokens) {
            command.args([mode, username.as_str(), password.as_str()]);
        }
        Process::start(&mut command)
    }
}

impl Site {
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

/// What went over the relay's internal cable by UDP, media aside: its first byte says it is RTP.
struct Wire {
    tshark: Process,
    file: NamedTempFile,
}

impl Wire {
    fn tap(machine: &Namespace) -> Self {
        // Runs of equal messages are cut before they are seen, not behind.
        let uncut = ["-K", "internal", "tx-udp-segmentation", "off"];
        must(machine.command("ethtool").args(uncut));
        let file = NamedTempFile::new().expect("a temporary file");
        let mut command = machine.command("tshark");
        command.args(["-q", "-i", "internal", "-f", "udp port 3478 and udp[8] != 0x90", "-w"]);
        let mut tshark = Process::start(command.arg(file.path()));
        tshark.until(LIMIT, "tshark to listen", |it| {
            it.output().contains("Capture started").then_some(())
        });
        Self { tshark, file }
    }

    /// Every datagram of ours is known to the dissector, which has nothing to say against it.
    fn demand_well_formed(&mut self) {
        self.tshark.terminate();
        self.tshark.wait(LIMIT);
        let ours = "udp.srcport == 3478";
        let known = self.fields(&format!("{ours} && classicstun"), "frame.number");
        assert!(known.lines().count() >= 3 * 6, "the dissector knows none of our answers");
        for (case, filter) in [
            ("unknown", "!(classicstun || stun)"),
            ("malformed", "(_ws.malformed || _ws.expert.severity >= 0x600000)"),
        ] {
            let found = self.fields(&format!("{ours} && {filter}"), "data.data");
            assert!(found.is_empty(), "{case} to tshark:\n{found}");
        }
    }

    fn fields(&self, filter: &str, field: &str) -> String {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(self.file.path()).args(["-Y", filter, "-T", "fields", "-e", field]);
        String::from_utf8(must(&mut command).stdout).expect("UTF-8")
    }
}
