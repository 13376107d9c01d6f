//! A whole scrape: its format, its cap, and what it leaves behind.

use std::sync::Arc;
use std::time::Duration;

use proto::addr::{AllocationId, ClientAddr, FiveTuple, ListenerId, Side, Transport};
use proto::media::LegSummary;
use proto::policy::bandwidth::Pressure;
use proto::policy::{Listener, UserKey};
use proto::turn::tally::{AllocationView, Flow, ListenerTally, Usage};

use super::block::Snapshot;
use super::exposition::{Scrape, render};
use super::process::Process;
use crate::config::Metrics;
use crate::engine::InletTally;
use crate::office::Guestbook;
use crate::offload::Standing;
use crate::session::Session;

/// Allocations with series of their own.
const NAMED: usize = 20;

pub(super) fn metrics(sessions: usize) -> Metrics {
    let address = "127.0.0.1:9641".parse().unwrap();
    Metrics { address, access: guard::Access::new(None, &[]), sessions, name_users: true }
}

/// An allocation that carried so many bytes each way, of a user who was never seen before.
pub(super) fn session(user: u64, bytes: u64) -> Session {
    let flow = Flow { packets: bytes / 100, bytes };
    let leg = LegSummary {
        streams: 1,
        expected: bytes / 100,
        received: bytes / 110,
        jitter: Duration::from_millis(7),
        freezes: 2,
        ..LegSummary::default()
    };
    let slot = u32::try_from(user % 10_000).unwrap();
    let generation = u32::try_from(user / 10_000).unwrap();
    let client = ClientAddr::new("192.0.2.1:5000".parse().unwrap());
    let view = AllocationView {
        id: AllocationId { slot, generation },
        client: FiveTuple { listener: ListenerId(0), client },
        transport: Transport::Udp,
        user: UserKey(user.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        relayed: [Some("203.0.113.5:50000".parse().unwrap()), None],
        age: Duration::from_secs(60),
        expires_in: Duration::from_secs(540),
        permissions: 1,
        channels: 1,
        usage: Usage { to_peer: flow, to_client: flow },
        beside: 0,
        pressure: Pressure::default(),
        media: Some([leg, LegSummary::default()]),
    };
    Session { worker: 0, view }
}

pub(super) fn scrape(sessions: Vec<Session>) -> Scrape {
    let listener = Listener {
        local: "192.0.2.9:3478".parse().unwrap(),
        advertised: None,
        transport: Transport::Udp,
        side: Side::External,
        anycast: false,
    };
    let mut worker = Snapshot {
        listeners: vec![ListenerTally::default()],
        inlets: vec![InletTally { lanes: 2, ..InletTally::default() }],
        ..Snapshot::default()
    };
    worker.distributions.turn(3, Duration::from_micros(30));
    Scrape {
        workers: vec![worker],
        listeners: vec![listener],
        sessions,
        process: Process { workers: vec![(0, Duration::from_secs(1))], ..Process::look() },
        draining: false,
        hardening: guard::Measures::default(),
        offload: Standing::default(),
        reloads: [0, 0],
        office_defects: 0,
        niceness: 0,
        guestbook: Guestbook::default(),
        memory_tight: false,
        certificates: vec![("turn.pem".to_owned(), 1_800_000_000)],
        records: Some(Arc::default()),
    }
}

/// Series of a metric in a page.
fn series<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let of = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    page.lines().filter(of).collect()
}

#[test]
fn a_million_user_names_in_a_day_leave_the_memory_of_metrics_flat() {
    let config = metrics(NAMED);
    // A hundred scrapes, each of ten thousand allocations that nobody had before.
    let page = |hour: u64| {
        let sessions = (0..10_000).map(|n| session(hour * 10_000 + n, 1_000 + n)).collect();
        render(&scrape(sessions), &config)
    };
    let first = page(0);
    let one = allocation_counter::measure(|| drop(page(0)));
    let day = allocation_counter::measure(|| {
        for hour in 0..100 {
            let page = page(hour);
            assert!(page.len() < first.len() + 2_000, "hour {hour}: {} bytes", page.len());
        }
    });
    assert_eq!(day.bytes_current, 0, "nothing stays of who was there");
    assert!(day.bytes_max <= one.bytes_max + one.bytes_max / 50, "{day:?}, at first {one:?}");
}

#[test]
fn the_busiest_have_series_of_their_own_and_the_rest_is_summed() {
    let sessions: Vec<_> = (0..200).map(|user| session(user, 100_000 + user * 1_000)).collect();
    let all: u64 =
        sessions.iter().filter_map(|it| it.view.media).map(|legs| legs[0].expected).sum();
    let page = render(&scrape(sessions), &metrics(NAMED));
    let name = "av_edge_relay_allocation_rtp_expected_packets_total";
    let expected = series(&page, name);
    // The other leg heard nothing: it has a row among the rest alone.
    assert_eq!(expected.len(), NAMED + 2, "{expected:#?}");
    let value = |line: &&str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(expected.iter().map(value).sum::<u64>(), all);
    assert!(expected.iter().any(|line| line.contains("allocation=\"199-0\"")));
    assert!(!expected.iter().any(|line| line.contains("allocation=\"179-0\"")));
    let jitter = series(&page, "av_edge_relay_allocation_rtp_jitter_seconds");
    assert_eq!(jitter.len(), NAMED);
    assert!(jitter.iter().all(|line| line.ends_with(" 0.007") && line.contains("leg=\"client\"")));
    let after = render(&scrape(vec![]), &metrics(NAMED));
    assert!(series(&after, "av_edge_relay_allocation_rtp_jitter_seconds").is_empty());
}

#[test]
fn a_hostile_name_stays_within_its_label() {
    let name = "a\"} 1\nforged 2\\";
    let scrape = Scrape { certificates: vec![(name.to_owned(), 1)], ..scrape(vec![]) };
    let page = render(&scrape, &metrics(NAMED));
    let escaped = r#"{file="a\"} 1\nforged 2\\"} 1"#;
    assert!(page.lines().any(|line| line.ends_with(escaped)), "{page}");
    assert!(!page.lines().any(|line| line.starts_with("forged")));
}

#[test]
fn histograms_are_cumulative_and_end_with_what_has_no_bound() {
    let page = render(&scrape(vec![]), &metrics(NAMED));
    let name = "av_edge_relay_batch_datagrams";
    let buckets = series(&page, &format!("{name}_bucket"));
    let counts: Vec<u64> =
        buckets.iter().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(counts.is_sorted(), "{buckets:#?}");
    assert!(buckets[2].contains("le=\"4\"} 1") && buckets[1].contains("le=\"2\"} 0"));
    assert!(buckets.last().unwrap().contains("le=\"+Inf\"} 1"));
    assert_eq!(series(&page, &format!("{name}_sum")), [format!("{name}_sum{{worker=\"0\"}} 3")]);
    assert!(page.contains(&format!("# TYPE {name} histogram\n")));
}
