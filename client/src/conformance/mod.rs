//! Black-box cases against any TURN server: what the RFCs ask for and a client can see.
//!
//! Each [`Case`] carries the id of a requirement, says it in a sentence with its source, and ends
//! in a [`Verdict`]. A file holds the cases of one area. A case composes its messages byte by
//! byte ([`message`]), speaks from a [`seat`] at the server, to a [`peer`] of this host where one
//! is needed, and shares with others what a [`survey`] found out before ([`stage`]).
//!
//! Nothing is waited for in vain for long: that there is no answer is known when a Binding
//! request sent behind is answered. Cases run side by side, a few at a time; those that use up
//! what others need, or look back on the whole run, come last and alone.

mod addresses;
mod allocate;
mod attributes;
mod auth_answers;
mod auth_order;
mod channel;
mod compatibility;
mod data;
mod discovery;
mod dtls;
mod iphdr;
pub(crate) mod message;
mod mobility;
pub(crate) mod numbers;
mod peer;
mod permission;
mod refresh;
mod rest;
mod seat;
mod security;
mod stage;
mod streams;
mod stun;
mod survey;
mod tcp_relay;
mod verdict;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::{Credentials, Transport, clock};
pub use rest::credentials as rest_credentials;
use stage::Stage;
use verdict::Finding;
pub use verdict::Verdict;

/// How many cases run side by side. Each holds an allocation or two; a user may hold few.
const SIDE_BY_SIDE: usize = 4;

/// One requirement, tried out.
#[derive(Clone, Copy)]
pub struct Case {
    /// The id of the requirement, such as `STUN-005`.
    pub id: &'static str,
    /// What is required, in a sentence.
    pub rule: &'static str,
    /// The specification and its sections.
    pub source: &'static str,
    /// How strongly it is required.
    pub level: Level,
    run: fn(&Stage<'_>) -> Finding,
    turn: Turn,
}

/// How strongly something is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// By an absolute requirement of a specification.
    Must,
    /// By a recommendation, or by good practice where the specifications leave it open.
    Should,
}

impl Level {
    /// The word of RFC 2119.
    pub fn name(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        }
    }
}

/// When a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    First,
    Beside,
    Alone,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Case {
    const fn must(
        id: &'static str,
        source: &'static str,
        rule: &'static str,
        run: fn(&Stage<'_>) -> Finding,
    ) -> Self {
        Self { id, rule, source, level: Level::Must, run, turn: Turn::Beside }
    }

    const fn should(
        id: &'static str,
        source: &'static str,
        rule: &'static str,
        run: fn(&Stage<'_>) -> Finding,
    ) -> Self {
        Self { id, rule, source, level: Level::Should, run, turn: Turn::Beside }
    }

    /// Begins before the others, because it waits for long.
    const fn first(self) -> Self {
        Self { turn: Turn::First, ..self }
    }

    /// Runs by itself, after the others.
    const fn last(self) -> Self {
        Self { turn: Turn::Alone, ..self }
    }
}

/// Every case, in the order of the areas.
pub fn cases() -> Vec<Case> {
    [
        stun::CASES,
        streams::CASES,
        compatibility::CASES,
        dtls::CASES,
        auth_order::CASES,
        auth_answers::CASES,
        allocate::CASES,
        addresses::CASES,
        refresh::CASES,
        permission::CASES,
        data::CASES,
        channel::CASES,
        iphdr::CASES,
        tcp_relay::CASES,
        mobility::CASES,
        rest::CASES,
        discovery::CASES,
        security::CASES,
        attributes::CASES,
    ]
    .concat()
}

/// How to speak to the server, and as whom.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How messages travel.
    pub transport: Transport,
    /// A user that may hold several allocations.
    pub credentials: Credentials,
    /// A second user, for the cases that need one.
    pub other: Option<Credentials>,
    /// The secret the server shares with its credential service (TURN REST), if it may be known.
    pub secret: Option<String>,
    /// Addresses of this host that the server can reach and lets clients send to.
    pub peers: Vec<IpAddr>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// One case that has ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub case: Case,
    /// What became of it.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// Runs cases against a server; each outcome is told, in the order of the cases. The error says
/// why no case could begin.
pub fn run(
    server: SocketAddr,
    plan: &Plan,
    cases: &[Case],
    mut tell: impl FnMut(&Outcome),
) -> Result<Vec<Outcome>, String> {
    let mut stage = Stage::new(server, plan);
    stage.survey = survey::take(&stage).map_err(survey::obstacle)?;
    let (alone, beside): (Vec<Case>, Vec<Case>) =
        cases.iter().partition(|case| case.turn == Turn::Alone);
    let mut outcomes = side_by_side(&stage, &beside, &mut tell);
    for case in alone {
        let outcome = try_out(&stage, case);
        tell(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn try_out(stage: &Stage<'_>, case: Case) -> Outcome {
    let start = clock::now();
    let verdict = Verdict::from((case.run)(stage));
    Outcome { case, verdict, took: clock::now() - start }
}

/// Runs these a few at a time, the longest first; tells them in the given order nevertheless.
fn side_by_side(
    stage: &Stage<'_>,
    cases: &[Case],
    tell: &mut impl FnMut(&Outcome),
) -> Vec<Outcome> {
    let mut order: Vec<(usize, Case)> = cases.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, case)| case.turn);
    let (order, next) = (&order, &AtomicUsize::new(0));
    let (done, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            let done = done.clone();
            scope.spawn(move || {
                while let Some((index, case)) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver outlives this thread.
                    done.send((*index, try_out(stage, *case))).ok();
                }
            });
        }
        drop(done);
        let mut waiting: Vec<Option<Outcome>> = vec![None; cases.len()];
        let mut told = Vec::new();
        for (index, outcome) in ended {
            if let Some(place) = waiting.get_mut(index) {
                *place = Some(outcome);
            }
            while let Some(outcome) = waiting.get_mut(told.len()).and_then(Option::take) {
                tell(&outcome);
                told.push(outcome);
            }
        }
        told
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_its_own_requirement_a_sentence_and_a_source() {
        let cases = cases();
        let ids: BTreeSet<&str> = cases.iter().map(|case| case.id).collect();
        assert_eq!(ids.len(), cases.len(), "an id stands for one case");
        for case in cases {
            assert!(case.rule.split_whitespace().count() >= 4, "{}: {}", case.id, case.rule);
            assert!(case.source.contains('§'), "{}: {}", case.id, case.source);
        }
    }
}
