//! Attacks on a running server, each of which would succeed on a naive one.
//!
//! | threat | attacks |
//! | ------ | ------- |
//! | T1 the relay as a way into networks | [`networks`] |
//! | T2 getting in, and as somebody else | [`identity`] |
//! | T3 the server against others | [`reflection`], hellos of DTLS in [`handshakes`] |
//! | T4 the server used up | [`exhaustion`], [`flood`], [`handshakes`], [`scarcity`], [`doors`] |
//! | T5 broken input | [`garbage`] |
//! | T6 between clients | [`tenants`] |
//! | T7 faults | [`faults`], [`signals`]; clocks that step are simulated, in `tests/rfc8656/clock.rs` |
//! | T8 operating it | [`operation`] |
//!
//! An attack plays from addresses beside that of an honest client, who has calls
//! over UDP and TCP meanwhile ([`calls`]). [`judge`] tries the attacks of a threat on our release
//! binary and on Debian's coturn ([`target`]), prints both columns, and demands of ours that it
//! holds and that no call loses a packet. coturn's column is there to be read: its defaults are
//! others. All of them over and over, beside clients that come and go, are the soak.

mod calls;
mod dialogue;
mod doors;
mod exhaustion;
mod faults;
mod flood;
mod garbage;
mod handshakes;
mod identity;
mod networks;
mod operation;
mod raw;
mod reflection;
mod scarcity;
mod signals;
#[cfg(feature = "soak")]
mod soak;
mod target;
mod tenants;

use std::panic::{AssertUnwindSafe, catch_unwind};

use calls::{Calls, Lost};
use target::{Kind, Setup, Target};

/// What an attacker got: `Ok` says why nothing, `Err` what.
type Outcome = Result<String, String>;

/// Something an attacker does.
struct Attack {
    name: &'static str,
    run: fn(&mut Target) -> Outcome,
}

/// Tries attacks on both servers, one after the other, and demands that ours holds.
fn judge(threat: &str, attacks: &[Attack]) {
    judge_as(threat, attacks, &Setup::default());
}

/// The same with servers that are set up like this.
fn judge_as(threat: &str, attacks: &[Attack], setup: &Setup) {
    let start = |kind| Target::start_as(kind, setup.clone());
    conclude(threat, attacks, Kind::ALL.map(|kind| column(start(kind), attacks)));
}

/// The same with attacks that take long and cost little: on both servers at once.
fn judge_at_once(threat: &str, attacks: &[Attack], setup: &Setup) {
    let columns = std::thread::scope(|scope| {
        let start = |kind| Target::start_as(kind, setup.clone());
        let columns = Kind::ALL.map(|kind| scope.spawn(move || column(start(kind), attacks)));
        columns.map(|column| column.join().expect("a column is made"))
    });
    conclude(threat, attacks, columns);
}

/// Prints both columns.
fn conclude(threat: &str, attacks: &[Attack], columns: [(Vec<Outcome>, Lost); 2]) {
    let [(ours, lost), (theirs, _)] = columns;
    println!("{threat}");
    for (attack, (ours, theirs)) in attacks.iter().zip(ours.iter().zip(&theirs)) {
        println!("  {}\n    ours:   {}\n    coturn: {}", attack.name, text(ours), text(theirs));
    }
    println!("  calls beside ours: {lost}");
    let fallen = ours.iter().zip(attacks).filter(|(outcome, _)| outcome.is_err());
    let fallen: Vec<_> = fallen.map(|(outcome, attack)| (attack.name, text(outcome))).collect();
    assert!(fallen.is_empty(), "{fallen:#?}");
    assert!(lost.is_proof(), "calls beside the attacks: {lost}");
}

/// All attacks on one server, with calls beside them.
fn column(mut target: Target, attacks: &[Attack]) -> (Vec<Outcome>, Lost) {
    let calls = Calls::through(&target);
    calls::beside(calls, || attacks.iter().map(|attack| attempt(attack, &mut target)).collect())
}

/// One attack. What fails in its preparations says nothing against us, but of ours it must not fail.
fn attempt(attack: &Attack, target: &mut Target) -> Outcome {
    target.next_round();
    let run = || (attack.run)(target);
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(format!("could not be tried: {words}"))
    })
}

fn text(outcome: &Outcome) -> String {
    match outcome {
        Ok(words) => format!("holds: {words}"),
        Err(words) => format!("FALLS: {words}"),
    }
}

/// `Ok` with these words if `holds`, `Err` with them if not.
fn outcome(holds: bool, words: String) -> Outcome {
    if holds { Ok(words) } else { Err(words) }
}
