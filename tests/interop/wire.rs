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
#[derive(Debug)]
pub(crate) struct Findings {
    /// The types of the messages they knew.
    pub(crate) types: Vec<u16>,
    /// How many there must have been.
    pub(crate) messages: usize,
    /// How many times we greeted as TLS does.
    pub(crate) greetings: usize,
    /// What they object to.
    pub(crate) objections: String,
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

    /// The values of a field in packets that a filter lets pass.
    pub(crate) fn fields(&self, filter: &str, field: &str) -> Vec<String> {
        self.read(self.file.path(), filter, &[field])
            .lines()
            .flat_map(|line| line.split(','))
            .map(str::to_owned)
            .collect()
    }

    fn judge(&self, file: &Path) -> Findings {
        let (ours, wrong) = match self.carrier {
            // Nothing but messages: what is none is an objection.
            Carrier::Datagrams(port) => {
                (format!("udp.srcport == {port}"), "|| !(classicstun || stun)")
            }
            Carrier::Frames(port) => (format!("tcp.srcport == {port}"), ""),
        };
        let values = |filter: &str, field: &str| -> Vec<u16> {
            let said = self.read(file, &format!("{ours} && {filter}"), &[field]);
            let values = said.lines().flat_map(|line| line.split(','));
            values.map(|it| number(it).unwrap_or_else(|| panic!("{field}: {said}"))).collect()
        };
        let types = values("classicstun", "classicstun.type");
        let (messages, greetings) = match self.carrier {
            Carrier::Datagrams(_) => (types.len(), 0),
            Carrier::Frames(_) => {
                let frames = values("msframes", "msframes.type");
                let greetings = values("tls", "tls.handshake.type");
                let both = [2, 14];
                assert!(greetings.chunks(2).all(|it| it == both), "MST-20: {greetings:?}");
                (frames.into_iter().filter(|it| *it == 2).count(), greetings.len() / 2)
            }
        };
        let filter = format!(
            "{ours} && (_ws.malformed || _ws.expert.severity >= 0x800000 \
             || _ws.expert.group == 0x07000000 {wrong})"
        );
        let objections = self.read(file, &filter, &["frame.number", "_ws.expert.message"]);
        Findings { types, messages, greetings, objections }
    }

    fn read(&self, file: &Path, filter: &str, fields: &[&str]) -> String {
        let mut command = Command::new("tshark");
        if let Carrier::Frames(port) = self.carrier {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/wire/frames.lua");
            let script = format!("lua_script:{}", script.display());
            command.args(["-X", &script, "-d", &format!("tcp.port=={port},msframes")]);
        }
        command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields"]);
        for field in fields {
            command.args(["-e", field]);
        }
        String::from_utf8(must(&mut command).stdout).expect("UTF-8")
    }
}

impl Findings {
    /// Whether every message was known, and nothing is held against any.
    fn are_well(&self) -> bool {
        self.messages > 0 && self.types.len() == self.messages && self.objections.is_empty()
    }
}

/// A number as tshark writes it.
fn number(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Makes an attribute of an Allocate's success longer than its message.
fn spoil(capture: &mut [u8]) {
    const COOKIE: [u8; 8] = [0, 0x0F, 0, 4, 0x72, 0xC6, 0x4B, 0xC6];
    let is_success = |it: &[u8]| it.starts_with(&[1, 3]) && it[20..] == COOKIE;
    let at = capture.windows(28).position(is_success).expect("an Allocate that succeeds");
    capture[at + 30..at + 32].copy_from_slice(&[0xFF; 2]);
}
