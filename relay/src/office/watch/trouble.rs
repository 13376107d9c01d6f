//! What is wrong, in words: which calls suffer, on which side of the relay, and what runs out.
//!
//! Each finding has a stable id, a sentence and what to do. Nothing is remembered here: what holds
//! now is said, and said no more when it is over.

use std::time::Duration;

use proto::media::Leg;
use proto::reject::{DropReason, Why};

use super::table::{Row, Table};
use super::totals::Totals;
use crate::chronicle::findings::Finding;
use crate::clock;
use crate::records::Accounts;
use crate::service::Observer;
use crate::session::SessionId;
use crate::telemetry::process::Process;

/// Allocations that a finding names.
const NAMED: usize = 20;

/// Loss that people hear; and that makes words unintelligible.
const LOSS: [f64; 2] = [0.02, 0.10];

/// Jitter that buffers of clients hardly make up for, in seconds.
const JITTER: f64 = 0.05;

/// Looks without anything coming back: ten seconds.
const STILL: u8 = 2;

/// Logins that fail in a minute before it is worth a word.
const FAILED: u64 = 20;

/// What is nearly used up, as a share; and as good as used up.
const NEARLY: [f64; 2] = [0.80, 0.95];

/// A worker with more to do than this has no reserve for a burst.
const BUSY: f64 = 0.90;

/// How long before its end a certificate is worth a word; and when it is urgent.
const ENDING: [u64; 2] = [14 * 86_400, 2 * 86_400];

/// How bad it is; the worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::office) enum Severity {
    Error,
    Warning,
    Note,
}

impl Severity {
    /// Its name.
    pub(in crate::office) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }

    /// Whether something is beyond the first or even the second bound.
    fn beyond([first, second]: [f64; 2], value: f64) -> Option<Self> {
        match value {
            _ if value >= second => Some(Self::Error),
            _ if value >= first => Some(Self::Warning),
            _ => None,
        }
    }
}

/// One finding.
#[derive(Clone, Debug)]
pub(in crate::office) struct Trouble {
    /// Stable name.
    pub(in crate::office) id: &'static str,
    /// How bad it is.
    pub(in crate::office) severity: Severity,
    /// What is wrong.
    pub(in crate::office) text: String,
    /// How often: calls, or whatever the text counts.
    pub(in crate::office) count: u64,
    /// Some of the allocations that have it.
    pub(in crate::office) allocations: Vec<SessionId>,
    /// What to do.
    pub(in crate::office) advice: &'static str,
}

/// What is true of the process and its configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub(super) process: Process,
    pub(super) draining: bool,
    pub(super) allocations: u64,
    pub(super) allocations_most: u64,
    pub(super) memory_budget: Option<u64>,
    pub(super) memory_tight: bool,
    /// Each with its end.
    pub(super) certificates: Vec<(String, u64)>,
    /// Now.
    pub(super) unix: u64,
    /// In use, and of how many.
    pub(super) ports: (u64, u64),
    /// Bytes of usage records that wait, and how many may.
    pub(super) spool: (u64, u64),
    /// Usage records that nobody will ever get.
    pub(super) records_lost: u64,
}

impl Host {
    /// Looks.
    pub(super) fn look(observer: &Observer) -> Self {
        let config = observer.config();
        let memory = observer.memory();
        let tally = observer.published().sum;
        let records = observer.records();
        Self {
            process: Process::look(),
            draining: observer.is_draining(),
            allocations_most: u64::from(config.limits.allocations),
            memory_budget: config.memory,
            memory_tight: memory.is_tight(),
            certificates: config.certificates().map(|it| it.ends()).unwrap_or_default(),
            unix: clock::unix_ms() / 1_000,
            ports: (tally.ports_used, tally.ports_total),
            spool: records
                .map(|it| (it.spooled_bytes.value(), it.spool_bytes.value()))
                .unwrap_or_default(),
            records_lost: records.map_or(0, Accounts::lost),
            allocations: tally.allocations,
        }
    }

    /// Processor time of each worker, in their order.
    pub(super) fn cpu(&self) -> Vec<Duration> {
        self.process.workers.iter().map(|(_, spent)| *spent).collect()
    }
}

/// Everything that is wrong, the worst first.
pub(super) fn find(host: &Host, totals: &Totals, table: &Table, answered: bool) -> Vec<Trouble> {
    let mut found = Vec::new();
    if !answered {
        found.push(Trouble {
            id: "silent_worker",
            severity: Severity::Error,
            text: "a worker does not answer: what is shown here may be old".to_owned(),
            count: 1,
            allocations: Vec::new(),
            advice: "see /healthz and the log; a worker that stays silent has to be restarted",
        });
    }
    of_calls(table, &mut found);
    of_clients(totals, &mut found);
    of_budgets(host, totals, &mut found);
    of_certificates(host, &mut found);
    if host.draining {
        found.push(Trouble {
            id: "draining",
            severity: Severity::Note,
            text: "draining: no new allocations are taken".to_owned(),
            count: 1,
            allocations: Vec::new(),
            advice: "the relay ends with its last allocation, or at the deadline (drain_s)",
        });
    }
    sort(&mut found);
    found
}

/// Adds what the chronicle concludes about clients that are refused over and over.
pub(super) fn add_loops(found: &mut Vec<Trouble>, loops: &[Finding]) {
    for Finding { id, text, advice } in loops {
        let severity = match *id {
            "clock_skew" => Severity::Error,
            "stale_nonce" => Severity::Warning,
            // What one client does wrong is told where somebody asks for it.
            _ => continue,
        };
        let (text, allocations) = (text.trim_end_matches('.').to_owned(), Vec::new());
        found.push(Trouble { id, severity, text, count: 1, allocations, advice });
    }
    sort(found);
}

fn sort(found: &mut [Trouble]) {
    found.sort_by_key(|trouble| (trouble.severity, std::cmp::Reverse(trouble.count)));
}

/// A way in which a call can be bad.
struct Ailment {
    id: &'static str,
    /// What one call does, and what several do.
    words: [&'static str; 2],
    advice: &'static str,
    judge: fn(&Row) -> Option<Severity>,
}

const CLIENT: usize = Leg::Client as usize;
const PEER: usize = Leg::Peer as usize;

const AILMENTS: &[Ailment] = &[
    Ailment {
        id: "loss_client",
        words: [
            "call loses packets between client and relay",
            "calls lose packets between client and relay",
        ],
        advice: "what these clients send does not all reach the relay: look at their networks and \
                 at this relay's uplink; the peers are not to blame",
        judge: |row| Severity::beyond(LOSS, row.loss()[CLIENT]?),
    },
    Ailment {
        id: "loss_peer",
        words: [
            "call loses packets between peer and relay",
            "calls lose packets between peer and relay",
        ],
        advice: "what the peers send does not all reach the relay: look at their networks; the \
                 clients are not to blame",
        judge: |row| Severity::beyond(LOSS, row.loss()[PEER]?),
    },
    Ailment {
        id: "jitter_client",
        words: ["call comes unevenly from its client", "calls come unevenly from their clients"],
        advice: "packets wait somewhere between client and relay: wireless networks and full \
                 uplinks do that",
        judge: |row| (row.jitter()[CLIENT]? >= JITTER).then_some(Severity::Warning),
    },
    Ailment {
        id: "jitter_peer",
        words: ["call comes unevenly from its peer", "calls come unevenly from their peers"],
        advice: "packets wait somewhere between peer and relay",
        judge: |row| (row.jitter()[PEER]? >= JITTER).then_some(Severity::Warning),
    },
    Ailment {
        id: "freezes_client",
        words: [
            "call freezes: its client sends nothing for 200 ms and more",
            "calls freeze: their clients send nothing for 200 ms and more",
        ],
        advice: "the client's network stalls, or its device is too slow to send in time",
        judge: |row| (row.froze()[CLIENT] > 0).then_some(Severity::Warning),
    },
    Ailment {
        id: "freezes_peer",
        words: [
            "call freezes: its peer sends nothing for 200 ms and more",
            "calls freeze: their peers send nothing for 200 ms and more",
        ],
        advice: "the peer's network stalls, or its device is too slow to send in time",
        judge: |row| (row.froze()[PEER] > 0).then_some(Severity::Warning),
    },
    Ailment {
        id: "one_way_to_peer",
        words: [
            "call is one-way: nothing comes back from the peer",
            "calls are one-way: nothing comes back from the peers",
        ],
        advice: "the peer does not hear it, or answers elsewhere: a firewall before the peer, or \
                 one that keeps its packets from the relayed address",
        judge: |row| (row.still()[1] >= STILL).then_some(Severity::Warning),
    },
    Ailment {
        id: "one_way_to_client",
        words: [
            "call is one-way: the client sends nothing",
            "calls are one-way: the clients send nothing",
        ],
        advice: "the client may be muted and silent, or gone without a word; if it says that it \
                 sends, its packets are lost before the relay",
        judge: |row| (row.still()[0] >= STILL).then_some(Severity::Note),
    },
];

fn of_calls(table: &Table, found: &mut Vec<Trouble>) {
    for Ailment { id, words: [one, many], advice, judge } in AILMENTS {
        let ill = table.iter().filter_map(|(id, row)| Some((judge(row)?, id)));
        let mut ill: Vec<_> = ill.collect();
        ill.sort_by_key(|(severity, id)| (*severity, id.worker, id.allocation.slot));
        let Some((severity, _)) = ill.first().copied() else { continue };
        let count = ill.len() as u64;
        let text =
            if count == 1 { format!("1 {one}") } else { format!("{} {many}", grouped(count)) };
        let allocations = ill.into_iter().take(NAMED).map(|(_, id)| id).collect();
        found.push(Trouble { id, severity, text, count, allocations, advice });
    }
}

/// What clients do wrong, or are refused for, during a minute.
fn of_clients(totals: &Totals, found: &mut Vec<Trouble>) {
    let refused = |why| totals.refused(why);
    let guesses = refused(Why::WrongPassword) + totals.dropped(DropReason::Guessing);
    let stale = refused(Why::StaleNonce);
    for (id, count, severity, words, advice) in [
        (
            "wrong_password",
            guesses,
            Severity::Warning,
            "logins with a wrong password in the last minute",
            "somebody guesses, or a minting service has another key than this relay; the log \
             names the network",
        ),
        (
            "expired_credential",
            refused(Why::Expired),
            Severity::Warning,
            "logins with an expired credential in the last minute",
            "clients must ask for a new credential in time; or the clock of the minting service, \
             or of this host, is wrong",
        ),
        (
            "stale_nonce",
            stale,
            Severity::Warning,
            "requests with a stale nonce in the last minute",
            "a few are normal; many mean clients that do not take the new nonce, or a NAT that \
             changes their ports",
        ),
        (
            "wrong_side",
            refused(Why::WrongSide),
            Severity::Warning,
            "clients came to the wrong side in the last minute",
            "credentials are minted for the other side than the listener these clients are sent to",
        ),
    ] {
        if count >= FAILED {
            let (text, allocations) = (format!("{} {words}", grouped(count)), Vec::new());
            found.push(Trouble { id, severity, text, count, allocations, advice });
        }
    }
}

/// What runs out.
fn of_budgets(host: &Host, totals: &Totals, found: &mut Vec<Trouble>) {
    let process = &host.process;
    let budget = |id, what: &str, used: u64, of: u64, advice| {
        #[expect(clippy::cast_precision_loss, reason = "a share, not an account")]
        let share = if of == 0 { 0.0 } else { used as f64 / of as f64 };
        let severity = Severity::beyond(NEARLY, share)?;
        let text = format!("{what}: {} of {} in use", grouped(used), grouped(of));
        Some(Trouble { id, severity, text, count: used, allocations: Vec::new(), advice })
    };
    let (used, of) = host.ports;
    found.extend(budget("ports", "relayed ports", used, of, "widen relay.ports, or add a relay"));
    let (used, of) = (host.allocations, host.allocations_most);
    let advice = "raise limits.allocations if memory and cores allow, or add a relay";
    found.extend(budget("allocations", "allocations", used, of, advice));
    if let (Some(used), Some(of)) = (process.descriptors, process.descriptor_limit) {
        let advice = "raise the limit of the process (LimitNOFILE of its unit)";
        found.extend(budget("descriptors", "descriptors", used, of, advice));
    }
    let (used, of) = (host.spool.0 >> 20, host.spool.1 >> 20);
    let advice = "a receiver of usage records is away or slow: see av_edge_relay_records_waiting; \
                  what has no room is lost (records.spool_mib)";
    found.extend(budget("records_spool", "spool of usage records in MiB", used, of, advice));
    let lost = totals.records_lost();
    if lost > 0 {
        found.push(Trouble {
            id: "records_lost",
            severity: Severity::Error,
            text: format!("{} usage records were lost in the last minute", grouped(lost)),
            count: lost,
            allocations: Vec::new(),
            advice: "av_edge_relay_records_lost_total says where and why: a full spool or disk, \
                     more than could be written, or a receiver that refuses them",
        });
    }
    if host.memory_tight {
        found.push(Trouble {
            id: "memory",
            severity: Severity::Error,
            text: "memory is tight: new allocations are refused".to_owned(),
            count: process.resident_bytes.unwrap_or_default(),
            allocations: Vec::new(),
            advice: "raise limits.memory_mib if the host has more, or add a relay",
        });
    } else if let (Some(used), Some(of)) = (process.resident_bytes, host.memory_budget) {
        let advice = "at limits.memory_mib new allocations are refused";
        found.extend(budget("memory", "memory in MiB", used >> 20, of >> 20, advice));
    }
    let busy = totals.busy().into_iter().filter(|share| *share >= BUSY).count() as u64;
    if busy > 0 {
        found.push(Trouble {
            id: "worker_saturated",
            severity: Severity::Error,
            text: if busy == 1 {
                "1 worker has no time left: its calls wait or lose packets".to_owned()
            } else {
                format!("{busy} workers have no time left: their calls wait or lose packets")
            },
            count: busy,
            allocations: Vec::new(),
            advice: "give the relay more cores (workers), limit bandwidth, or add a relay",
        });
    }
    let overflowed = totals.overflowed();
    if overflowed > 0 {
        found.push(Trouble {
            id: "listener_overflow",
            severity: Severity::Error,
            text: format!(
                "{} packets of clients came too fast in the last minute",
                grouped(overflowed)
            ),
            count: overflowed,
            allocations: Vec::new(),
            advice: "the kernel dropped them because a worker was late: raise \
                     net.core.rmem_max, or give the relay more cores",
        });
    }
}

fn of_certificates(host: &Host, found: &mut Vec<Trouble>) {
    let left = |(_, end): &(String, u64)| end.saturating_sub(host.unix);
    let Some(first) = host.certificates.iter().min_by_key(|it| left(it)) else { return };
    let (left, [soon, at_once]) = (left(first), ENDING);
    if left > soon {
        return;
    }
    let days = left / 86_400;
    found.push(Trouble {
        id: "certificate",
        severity: if left <= at_once { Severity::Error } else { Severity::Warning },
        text: match days {
            _ if left == 0 => "a certificate has ended".to_owned(),
            0 => "a certificate ends within a day".to_owned(),
            1 => "a certificate ends in 1 day".to_owned(),
            _ => format!("a certificate ends in {days} days"),
        },
        count: days,
        allocations: Vec::new(),
        advice: "renew the files of tls.certificates; they are read again when they change",
    });
}

/// A number as people read it: 10,000.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
