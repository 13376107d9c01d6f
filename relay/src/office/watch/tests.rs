//! Made-up allocations, looked at every five seconds.

use std::time::Duration;

use proto::addr::{AllocationId, ClientAddr, FiveTuple, ListenerId, Transport};
use proto::media::LegSummary;
use proto::policy::UserKey;
use proto::turn::tally::{AllocationView, Flow, Usage};

use super::table::{DETAILED, Row, Sort, Table};
use super::totals::Totals;
use super::trouble::{Host, Severity, find};
use super::{EVERY, Sample};
use crate::service::Counters;
use crate::session::{Session, SessionId};

/// What an allocation did in five seconds: packets of 100 bytes.
#[derive(Clone, Copy, Default)]
struct Doings {
    to_peer: u64,
    to_client: u64,
    lost: [u64; 2],
    jitter: Duration,
    freezes: u32,
    /// Packets of both directions that the kernel relayed.
    beside: u64,
}

/// A talk in both directions, of which nothing is lost.
const TALK: Doings = Doings {
    to_peer: 250,
    to_client: 250,
    lost: [0; 2],
    jitter: Duration::ZERO,
    freezes: 0,
    beside: 0,
};

/// A relay with allocations that go on and on.
struct Stage {
    table: Table,
    at: Duration,
    sessions: Vec<Session>,
}

impl Stage {
    fn with(sessions: u32) -> Self {
        let sessions = (0..sessions).map(session).collect();
        Self { table: Table::default(), at: Duration::from_secs(100), sessions }
    }

    /// Five seconds pass.
    fn pass(&mut self, doings: impl Fn(u32) -> Doings) {
        self.at += EVERY;
        self.table.begin();
        for session in &mut self.sessions {
            let doings = doings(session.view.id.slot);
            let usage = &mut session.view.usage;
            for (flow, packets) in
                [(&mut usage.to_peer, doings.to_peer), (&mut usage.to_client, doings.to_client)]
            {
                flow.packets += packets;
                flow.bytes += packets * 100;
            }
            session.view.beside += doings.beside;
            let legs = session.view.media.as_mut().expect("it is measured");
            for ((leg, came), lost) in
                legs.iter_mut().zip([doings.to_peer, doings.to_client]).zip(doings.lost)
            {
                leg.received += came;
                leg.expected += came + lost;
                leg.jitter = doings.jitter;
                leg.freezes += doings.freezes;
            }
            session.view.age += EVERY;
            self.table.take(self.at, session);
        }
        self.table.sweep();
    }

    /// What is wrong with these calls, and nothing of the relay.
    fn troubles(&self) -> Vec<(&'static str, Severity, String, usize)> {
        let found = find(&Host::default(), &Totals::default(), &self.table, true);
        found.into_iter().map(|it| (it.id, it.severity, it.text, it.allocations.len())).collect()
    }

    fn last(&self, slot: u32) -> Sample {
        self.table.recent(id(slot)).last.expect("it was seen twice")
    }
}

fn id(slot: u32) -> SessionId {
    SessionId { worker: 0, allocation: AllocationId { slot, generation: 1 } }
}

/// An allocation that is older than what is seen of it.
fn session(slot: u32) -> Session {
    let client = ClientAddr::new(([192, 0, 2, 1], 4_000).into());
    let carried = Flow { packets: 1_000, bytes: 100_000 };
    let view = AllocationView {
        id: id(slot).allocation,
        client: FiveTuple { listener: ListenerId(0), client },
        transport: Transport::Udp,
        user: UserKey(7),
        relayed: [None; 2],
        age: Duration::from_secs(60 + u64::from(slot)),
        expires_in: Duration::from_secs(600 + u64::from(slot % 10)),
        permissions: 1,
        channels: 1,
        usage: Usage { to_peer: carried, to_client: carried },
        beside: 0,
        pressure: proto::policy::bandwidth::Pressure::default(),
        media: Some([LegSummary::default(); 2]),
    };
    Session { worker: 0, view }
}

#[test]
fn an_allocation_takes_the_room_that_is_said() {
    assert_eq!(size_of::<(SessionId, Row)>(), 216);
}

#[test]
fn the_kernel_relays_what_it_carries_most_packets_of_now() {
    let mut stage = Stage::with(1);
    stage.pass(|_| TALK);
    for (beside, in_kernel) in [(0, false), (250, false), (251, true), (500, true), (0, false)] {
        stage.pass(|_| Doings { beside, ..TALK });
        assert_eq!(stage.table.recent(id(0)).in_kernel, in_kernel, "{beside} of 500");
    }
    stage.pass(|_| Doings::default());
    assert!(!stage.table.recent(id(0)).in_kernel, "nothing is relayed by nobody");
}

#[test]
fn rates_are_of_the_time_between_two_looks() {
    let mut stage = Stage::with(1);
    stage.pass(|_| TALK);
    assert_eq!(stage.table.recent(id(0)).last, None, "nothing to compare with");
    stage.pass(|_| Doings { to_peer: 500, lost: [20, 0], ..TALK });
    let sample = stage.last(0);
    assert_eq!(sample.rates, [10_000, 5_000]);
    let [client, peer] = sample.loss();
    assert!(client.is_some_and(|it| (it - 20.0 / 520.0).abs() < 1e-4), "{client:?}");
    assert_eq!(peer, Some(0.0));
    stage.pass(|_| Doings::default());
    assert_eq!((stage.last(0).rates, stage.last(0).loss()), ([0; 2], [None; 2]), "it is silent");
    assert_eq!(stage.table.recent(id(0)).spark, [15_000, 0]);
}

#[test]
fn a_young_allocation_has_a_rate_at_once() {
    let mut stage = Stage::with(1);
    stage.sessions[0].view.usage = Usage::default();
    stage.sessions[0].view.age = Duration::ZERO;
    stage.pass(|_| TALK);
    assert_eq!(stage.last(0).rates, [5_000, 5_000]);
}

#[test]
fn orders_are_what_they_are_called() {
    let mut stage = Stage::with(4);
    let doings = |slot| Doings {
        to_peer: [50, 200, 100, 150][slot as usize],
        lost: [[0, 5, 0, 0][slot as usize], [0, 0, 40, 0][slot as usize]],
        ..TALK
    };
    stage.pass(doings);
    stage.pass(doings);
    for (sort, expected) in [
        (Sort::Throughput, [1, 3, 2, 0]),
        (Sort::Loss, [2, 1, 0, 3]),
        (Sort::Age, [3, 2, 1, 0]),
        (Sort::Expiry, [0, 1, 2, 3]),
        (Sort::Bytes, [1, 3, 2, 0]),
    ] {
        let found = |most| -> Vec<_> {
            stage.table.first(sort, most).iter().map(|it| it.allocation.slot).collect()
        };
        assert_eq!(found(10), expected, "{sort:?}");
        assert_eq!(found(2), expected[..2], "{sort:?}");
    }
}

#[test]
fn the_busiest_have_samples_when_there_are_more_than_can() {
    let most = u32::try_from(DETAILED).expect("a small number");
    let mut stage = Stage::with(most + 50);
    // The first fifty do nothing.
    let doings = |slot| if slot < 50 { Doings::default() } else { TALK };
    for _ in 0..4 {
        stage.pass(doings);
    }
    let detailed = |slot| !stage.table.samples(id(slot)).is_empty();
    assert!((0..50).all(|slot| !detailed(slot)), "the idle ones have none");
    assert!((50..most + 50).all(detailed), "the busy ones have");
    assert_eq!(stage.table.len(), DETAILED + 50, "all are counted");
}

#[test]
fn what_is_over_is_forgotten() {
    let mut stage = Stage::with(3);
    stage.pass(|_| TALK);
    stage.sessions.remove(1);
    stage.pass(|_| TALK);
    assert_eq!(stage.table.len(), 2);
    assert!(stage.table.recent(id(1)).last.is_none());
}

#[test]
fn bad_calls_are_told_by_the_leg_that_is_bad() {
    let quiet: &[(&str, Severity, &str, usize)] = &[];
    let jitter = Duration::from_millis(80);
    for (case, bad, looks, expected) in [
        ("a good call", TALK, 3, quiet),
        (
            "loss before the relay",
            Doings { lost: [10, 0], ..TALK },
            2,
            &[(
                "loss_client",
                Severity::Warning,
                "3 calls lose packets between client and relay",
                3,
            )],
        ),
        (
            "much loss",
            Doings { lost: [0, 60], ..TALK },
            2,
            &[("loss_peer", Severity::Error, "3 calls lose packets between peer and relay", 3)],
        ),
        (
            "jitter on both legs",
            Doings { jitter, ..TALK },
            2,
            &[
                ("jitter_client", Severity::Warning, "3 calls come unevenly from their clients", 3),
                ("jitter_peer", Severity::Warning, "3 calls come unevenly from their peers", 3),
            ],
        ),
        ("one way for a moment", Doings { to_client: 0, ..TALK }, 2, quiet),
        (
            "one way",
            Doings { to_client: 0, ..TALK },
            3,
            &[(
                "one_way_to_peer",
                Severity::Warning,
                "3 calls are one-way: nothing comes back from the peers",
                3,
            )],
        ),
        (
            "the other way",
            Doings { to_peer: 0, ..TALK },
            3,
            &[(
                "one_way_to_client",
                Severity::Note,
                "3 calls are one-way: the clients send nothing",
                3,
            )],
        ),
    ] {
        let mut stage = Stage::with(5);
        for _ in 0..looks {
            stage.pass(|slot| if slot < 3 { bad } else { TALK });
        }
        let found = stage.troubles();
        let found: Vec<_> = found.iter().map(|it| (it.0, it.1, &*it.2, it.3)).collect();
        assert_eq!(found, expected, "{case}");
        stage.pass(|_| TALK);
        stage.pass(|_| TALK);
        stage.pass(|_| TALK);
        assert_eq!(stage.troubles(), [], "{case}: it is over");
    }
}

#[test]
fn one_call_is_spoken_of_as_one_and_twenty_are_named_of_many() {
    let bad = Doings { lost: [60, 0], freezes: 1, ..TALK };
    let mut stage = Stage::with(30);
    let mut one = Stage::with(1);
    for _ in 0..2 {
        stage.pass(|_| bad);
        one.pass(|_| bad);
    }
    let found = one.troubles();
    assert_eq!(found[0].2, "1 call loses packets between client and relay");
    let freezes = "1 call freezes: its client sends nothing for 200 ms and more";
    assert!(found.iter().any(|it| it.2 == freezes), "{found:?}");
    let found = stage.troubles();
    assert_eq!(found[0].2, "30 calls lose packets between client and relay");
    assert_eq!(found[0].3, 20);
}

#[test]
fn what_runs_out_is_told_before_it_has() {
    let good = Host::default();
    for (case, host, id, severity, text) in [
        (
            "ports",
            Host { ports: (81, 100), ..good.clone() },
            "ports",
            Severity::Warning,
            "relayed ports: 81 of 100 in use",
        ),
        (
            "allocations",
            Host { allocations: 9_600, allocations_most: 10_000, ..good.clone() },
            "allocations",
            Severity::Error,
            "allocations: 9,600 of 10,000 in use",
        ),
        (
            "memory",
            Host { memory_tight: true, ..good.clone() },
            "memory",
            Severity::Error,
            "memory is tight: new allocations are refused",
        ),
        (
            "records that wait",
            Host { spool: (62 << 20, 64 << 20), ..good.clone() },
            "records_spool",
            Severity::Error,
            "spool of usage records in MiB: 62 of 64 in use",
        ),
        (
            "a certificate that ends",
            Host {
                certificates: vec![
                    ("far".to_owned(), 90 * 86_400),
                    ("near".to_owned(), 5 * 86_400 + 9),
                ],
                ..good.clone()
            },
            "certificate",
            Severity::Warning,
            "a certificate ends in 5 days",
        ),
        (
            "a certificate that has ended",
            Host { certificates: vec![("old".to_owned(), 1)], unix: 2, ..good.clone() },
            "certificate",
            Severity::Error,
            "a certificate has ended",
        ),
        (
            "draining",
            Host { draining: true, ..good.clone() },
            "draining",
            Severity::Note,
            "draining: no new allocations are taken",
        ),
    ] {
        let found = find(&host, &Totals::default(), &Table::default(), true);
        let found: Vec<_> = found.iter().map(|it| (it.id, it.severity, &*it.text)).collect();
        assert_eq!(found, [(id, severity, text)], "{case}");
    }
    let enough = Host {
        ports: (79, 100),
        allocations: 79,
        allocations_most: 100,
        certificates: vec![("far".to_owned(), 15 * 86_400)],
        ..good
    };
    assert_eq!(find(&enough, &Totals::default(), &Table::default(), true).len(), 0);
    let mut totals = Totals::default();
    for (at, lost) in [(5, 7), (10, 1_207)] {
        let host = Host { records_lost: lost, ..Host::default() };
        totals.take(Duration::from_secs(at), &Counters::default(), &host);
    }
    let lost = find(&enough, &totals, &Table::default(), true);
    assert_eq!(lost[0].text, "1,200 usage records were lost in the last minute");
    let silent = find(&enough, &Totals::default(), &Table::default(), false);
    assert_eq!(silent[0].id, "silent_worker");
}
