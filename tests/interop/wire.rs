//! What Wireshark's dissectors say about messages of MS-TURN that went over a cable.
//!
//! Wireshark knows the messages, and not Microsoft's framing of them over TCP: that is taken off
//! by `wire/frames.lua`, which hands what is in the frames to Wireshark's own dissectors.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::netns::{Namespace, must};
use crate::process::Process;

/// How long tshark may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What is asked about each packet.
const FIELDS: [&str; 10] = [
    "classicstun.type",
    "stun",
    "msframes.type",
    "tls.handshake.type",
    "udp.dstport",
    "tcp.dstport",
    "_ws.malformed",
    "_ws.expert.severity",
    "_ws.expert.group",
    "_ws.expert.message",
];
/// The frame of a message, the gravity of an error, and the group of what is malformed.
const CONTROL: u32 = 2;
const ERROR: u32 = 0x80_0000;
const MALFORMED: u32 = 0x0700_0000;

/// How messages travel, and what may be looked at of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Carrier {
    /// UDP from this port; media aside, whose first byte says that it is RTP.
    Datagrams(u16),
    /// TCP from this port, in frames, behind the greeting of pseudo-TLS or without.
    Frames(u16),
}

/// A capture of what went over the relay's internal cable.
pub(crate) struct Wire {
    carrier: Carrier,
    tshark: Process,
    file: NamedTempFile,
}

/// What the dissectors found in our answers.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// The messages of MS-TURN that they knew: the port each went to, and its type.
    pub(crate) types: Vec<(u32, u32)>,
    /// How many there must have been.
    pub(crate) messages: usize,
    /// How many times we greeted as TLS does.
    pub(crate) greetings: usize,
    /// What they object to.
    pub(crate) objections: Vec<String>,
}

impl Wire {
    /// Begins to listen.
    pub(crate) fn tap(machine: &Namespace, carrier: Carrier) -> Self {
        // Runs of equal messages are cut before they are seen, not behind.
        let uncut = ["-K", "internal", "tx-udp-segmentation", "off"];
        must(machine.command("ethtool").args(uncut));
        let filter = match carrier {
            Carrier::Datagrams(port) => format!("udp port {port} and udp[8] != 0x90"),
            Carrier::Frames(port) => format!("tcp port {port}"),
        };
        let file = NamedTempFile::new().expect("a temporary file");
        let mut command = machine.command("tshark");
        command.args(["-q", "-i", "internal", "-f", &filter, "-w"]);
        let mut tshark = Process::start(command.arg(file.path()));
        tshark.until(LIMIT, "tshark to listen", |it| {
            it.output().contains("Capture started").then_some(())
        });
        Self { carrier, tshark, file }
    }

    /// Listens no more: what our answers were, of which every one is known and nothing is held
    /// against any. That the dissectors would object is proved with a message that is spoilt.
    pub(crate) fn demand_well_formed(&mut self) -> Findings {
        self.tshark.terminate();
        self.tshark.wait(LIMIT);
        let findings = self.judge(self.file.path());
        assert!(findings.are_well(), "{:?}: {findings:?}", self.carrier);
        let mut bytes = fs::read(self.file.path()).expect("a capture");
        spoil(&mut bytes);
        let spoilt = NamedTempFile::new().expect("a temporary file");
        fs::write(spoilt.path(), bytes).expect("a copy");
        let spoilt = self.judge(spoilt.path());
        assert!(!spoilt.are_well(), "{:?}: tshark misses what is wrong: {spoilt:?}", self.carrier);
        findings
    }

    /// What the dissectors say about a capture: a line for each packet of ours that is no mere part
    /// of the transport.
    fn judge(&self, file: &Path) -> Findings {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/wire/frames.lua");
        let mut command = Command::new("tshark");
        command.args(["-X", &format!("lua_script:{}", script.display())]);
        let filter = match self.carrier {
            Carrier::Datagrams(port) => format!("udp.srcport == {port}"),
            Carrier::Frames(port) => {
                command.args(["-d", &format!("tcp.port=={port},msframes")]);
                format!(
                    "tcp.srcport == {port} && (msframes || tls || classicstun || _ws.malformed)"
                )
            }
        };
        command.arg("-r").arg(file).args(["-Y", &filter, "-T", "fields"]);
        for field in FIELDS {
            command.args(["-e", field]);
        }
        let said = String::from_utf8(must(&mut command).stdout).expect("UTF-8");
        let mut findings = Findings::default();
        for line in said.lines() {
            self.note(line, &mut findings);
        }
        findings
    }

    fn note(&self, line: &str, findings: &mut Findings) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [known, rfc, frames, greeting, udp, tcp, malformed, severities, groups, ..] =
            columns[..]
        else {
            panic!("{} columns: {line}", columns.len())
        };
        let to = numbers(udp).chain(numbers(tcp)).next().expect("a port");
        let types: Vec<_> = numbers(known).map(|kind| (to, kind)).collect();
        findings.messages += match self.carrier {
            // Nothing but messages: what is none of this dialect is one of the RFC.
            Carrier::Datagrams(_) => usize::from(rfc.is_empty()),
            Carrier::Frames(_) => numbers(frames).filter(|kind| *kind == CONTROL).count(),
        };
        findings.types.extend(types);
        if !greeting.is_empty() {
            // MST-20: both in one record.
            assert_eq!(numbers(greeting).collect::<Vec<_>>(), [2, 14], "{line}");
            findings.greetings += 1;
        }
        let grave = numbers(severities).any(|severity| severity >= ERROR)
            || numbers(groups).any(|group| group == MALFORMED);
        if grave || !malformed.is_empty() {
            findings.objections.push(line.to_owned());
        }
    }
}

impl Findings {
    /// Whether every message was known, and nothing is held against any.
    fn are_well(&self) -> bool {
        self.messages > 0 && self.types.len() == self.messages && self.objections.is_empty()
    }
}

/// Numbers as tshark writes them.
fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split(',').filter(|it| !it.is_empty()).map(move |it| {
        let number = match it.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => it.parse(),
        };
        number.unwrap_or_else(|e| panic!("{text}: {e}"))
    })
}

/// Makes an attribute of an Allocate's success longer than its message.
fn spoil(capture: &mut [u8]) {
    const COOKIE: [u8; 8] = [0, 0x0F, 0, 4, 0x72, 0xC6, 0x4B, 0xC6];
    let is_success = |it: &[u8]| it.starts_with(&[1, 3]) && it[20..] == COOKIE;
    let at = capture.windows(28).position(is_success).expect("an Allocate that succeeds");
    capture[at + 30..at + 32].copy_from_slice(&[0xFF; 2]);
}
