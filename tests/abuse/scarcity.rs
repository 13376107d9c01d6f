//! T4: out of relayed ports, of descriptors, of memory.
//!
//! Newcomers are refused with a code that says so; calls lose nothing; when the attacker has gone
//! newcomers are served again. Each attack has a server of its own, which has little of one thing.

use std::time::Duration;

use client::{AllocateOptions, Transport, TurnClient};

use super::calls::{self, Calls};
use super::target::{ATTACKER, FEW_PORTS, Kind, Setup, Target, VICTIM};
use super::{Attack, Outcome, judge, outcome};
use rig::clock;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "take every relayed port", run: ports },
    Attack { name: "take every descriptor", run: descriptors },
    Attack { name: "take the memory there is", run: memory },
];

#[test]
fn sec_009_abuse_t4_a_server_that_runs_out_heals() {
    judge("T4 out of ports, descriptors and memory", ATTACKS);
}

/// How newcomers fare.
struct Shortage {
    /// With how many clients the attacker had it all.
    held: usize,
    /// What newcomers heard while it did.
    codes: Vec<Option<u16>>,
    /// Whether operators were answered meanwhile.
    shown: bool,
    /// Whether one was served when it had gone.
    healed: bool,
    calls: calls::Lost,
}

impl Shortage {
    fn judge(&self, most: usize) -> Outcome {
        let Self { held, codes, shown, healed, calls } = self;
        // Over UDP and TCP alike: not silence, and not a connection that ends.
        let told = codes.iter().all(|code| matches!(code, Some(486 | 508)));
        outcome(
            *held <= most && told && *shown && *healed && calls.is_proof(),
            format!(
                "{held} have it all, others hear {codes:?}, and are served afterwards: {healed}; \
                 operators are answered: {shown}; calls meanwhile: {calls}"
            ),
        )
    }
}

/// Tries, while calls go on, to take all of something with clients that this opens, until one is
/// refused.
fn take_all(target: &Target, most: usize, open: impl Fn(usize) -> Option<TurnClient>) -> Shortage {
    let calls = Calls::through(target);
    let work = || {
        let clients: Vec<TurnClient> = (0..most).map_while(open).collect();
        let codes = ["newcomer", "another"].map(|user| {
            let answer = target.applicant(VICTIM, user, &AllocateOptions::default()).1;
            answer.err().and_then(|error| error.code())
        });
        let shown = target.kind == Kind::Coturn || target.metrics().contains("process_max_fds");
        let held = clients.len();
        for mut client in clients {
            drop(client.release());
        }
        let served = || {
            let (mut client, answer) =
                target.applicant(VICTIM, "newcomer", &AllocateOptions::default());
            answer.is_ok().then(|| drop(client.release()))
        };
        let healed = clock::look_until(Duration::from_secs(10), served).is_some();
        (held, codes.to_vec(), shown, healed)
    };
    let ((held, codes, shown, healed), calls) = calls::beside(calls, work);
    Shortage { held, codes, shown, healed, calls }
}

/// A client over UDP that has an allocation, one of many of the attacker's accounts.
fn hoarder(target: &Target, number: usize) -> Option<TurnClient> {
    let user = format!("hoarder-{}", number / 16);
    let (client, answer) = target.applicant(ATTACKER, &user, &AllocateOptions::default());
    answer.is_ok().then_some(client)
}

fn ports(target: &mut Target) -> Outcome {
    let few = Target::start_with_few_ports(target.kind);
    take_all(&few, 2 * FEW_PORTS, |number| hoarder(&few, number)).judge(FEW_PORTS - 2)
}

fn descriptors(target: &mut Target) -> Outcome {
    const MOST: u32 = 256;
    // More than there can be, so that descriptors are what runs out.
    let tables = "[limits]\nallocations = 1000\nallocations_per_client = 1000\n".to_owned();
    let setup = Setup { tables, descriptors: Some(MOST), ..Setup::default() };
    let poor = Target::start_as(target.kind, setup);
    let before = poor.process.cpu_time();
    let begin = clock::now();
    let shortage = take_all(&poor, MOST as usize, |number| hoarder(&poor, number));
    // It does not spin meanwhile.
    let share = poor.process.cpu_time().saturating_sub(before).as_secs_f64()
        / begin.elapsed().as_secs_f64();
    let outcome = shortage.judge(MOST as usize)?;
    super::outcome(share < 0.9, format!("{outcome}; a core is busy to {:.0} %", share * 100.0))
}

/// By clients on TCP that never read what their peer sends.
fn memory(target: &mut Target) -> Outcome {
    const MOST: usize = 400;
    const BUDGET_MIB: u64 = 64;
    if target.kind == Kind::Coturn {
        return Err("there is no budget".to_owned());
    }
    let tables = format!("[limits]\nallocations_per_client = 1000\nmemory_mib = {BUDGET_MIB}\n");
    let small = Target::start_as(target.kind, Setup { tables, ..Setup::default() });
    // What the kernel keeps for a connection is none of the server's memory.
    small.site.relay.sysctl("net.ipv4.tcp_wmem", "4096 16384 16384");
    let (peer, at) = small.peer();
    let open = |number: usize| {
        let who = small.credentials(&format!("sloth-{}", number / 16));
        let mut sloth = small.with_room(ATTACKER, who, Transport::Tcp, 4_096);
        let relayed = sloth.allocate(&AllocateOptions::default()).ok()?.relayed;
        sloth.bind_channel(at).ok()?;
        let begin = clock::now();
        for datagram in 0..400_u32 {
            peer.send_to(&[7; 1200], relayed).expect("it is sent");
            if datagram.is_multiple_of(20) {
                clock::rest_until(begin + Duration::from_micros(u64::from(datagram) * 20));
            }
        }
        Some(sloth)
    };
    let before = small.resident_bytes();
    let shortage = take_all(&small, MOST, open);
    let outcome = shortage.judge(MOST - 1)?;
    let after = small.resident_bytes();
    super::outcome(
        after < BUDGET_MIB << 20,
        format!("{outcome}; resident MiB before and afterwards: {}, {}", before >> 20, after >> 20),
    )
}
