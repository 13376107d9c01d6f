//! What operators of the original A/V Edge look for: its performance counters, with its meanings.
//!
//! `deploy/prometheus/lync-counters.md` says which is which. They are kept by listener, so that
//! transport, side and family of its instances are labels here.

use std::collections::BTreeMap;

use metrics::{Unit, gauge};
use proto::addr::{Family, ListenerId};
use proto::policy::Listener;
use proto::turn::CloseReason;
use proto::turn::tally::Procedure;

use super::block::Snapshot;
use super::catalogue::{Kind, Row};
use super::exposition::{count, float};
use super::latency::{Guise, Latency};
use crate::session::Session;

/// Kind, name, unit, help.
pub(super) const METRICS: &[Row] = &[
    (
        Kind::Gauge,
        "av_edge_relay_sessions",
        Unit::Count,
        "allocations alive by what is true of them: allocated (every one), data (payload was relayed), above_average (more than its limit of bandwidth right now, out of what it saved), above_peak (something of it was dropped for that during the last second)",
    ),
    (Kind::Counter, "av_edge_relay_allocations_opened_total", Unit::Count, "allocations opened"),
    (
        Kind::Counter,
        "av_edge_relay_allocations_closed_total",
        Unit::Count,
        "allocations ended, by reason",
    ),
    (
        Kind::Counter,
        "av_edge_relay_requests_total",
        Unit::Count,
        "requests received, by procedure; those of strangers and repetitions as well",
    ),
    (
        Kind::Counter,
        "av_edge_relay_client_errors_total",
        Unit::Count,
        "requests answered with a code of 400 to 499, by procedure; every client's first request is one",
    ),
    (
        Kind::Counter,
        "av_edge_relay_destination_errors_total",
        Unit::Count,
        "Set Active Destinations of MS-TURN that were answered with an error, whatever its code",
    ),
    (
        Kind::Counter,
        "av_edge_relay_failed_logins_total",
        Unit::Count,
        "requests whose credentials proved nothing; many of them mean that the keys of a pool differ, or that somebody guesses",
    ),
    (
        Kind::Counter,
        "av_edge_relay_over_user_quota_total",
        Unit::Count,
        "Allocates of users that hold limits.allocations_per_user already",
    ),
    (
        Kind::Counter,
        "av_edge_relay_redirected_total",
        Unit::Count,
        "clients sent to another relay (300 Try Alternate)",
    ),
    (
        Kind::Counter,
        "av_edge_relay_packets_dropped_total",
        Unit::Count,
        "packets from or for clients of a listener dropped as broken, unwelcome or beyond a limit",
    ),
    (
        Kind::Counter,
        "av_edge_relay_packets_not_forwarded_total",
        Unit::Count,
        "packets from or for clients of a listener dropped because no permission, channel or allocation is there for them",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_latency_spent_seconds",
        Unit::Seconds,
        "time that datagrams spent in the relay since the start, from the wake-up for their batch until the batch was sent, by how they travel between client and relay: in messages of TURN, or as bare data; its rate by that of av_edge_relay_latency_packets_total is the average",
    ),
    (
        Kind::Counter,
        "av_edge_relay_latency_packets_total",
        Unit::Count,
        "datagrams over which that time was summed",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_latency_max_seconds",
        Unit::Seconds,
        "the longest time of a batch since the start",
    ),
];

/// Labels that say where clients are.
pub(super) fn place(listener: &Listener) -> [(&'static str, &'static str); 3] {
    let family = match Family::of(listener.local.ip()) {
        Family::V4 => "4",
        Family::V6 => "6",
    };
    [("transport", listener.transport.name()), ("side", listener.side.name()), ("family", family)]
}

/// The counters of one worker.
pub(super) fn counters(worker: &str, snapshot: &Snapshot, listeners: &[Listener]) {
    for (listener, tally) in listeners.iter().zip(&snapshot.listeners) {
        let address = listener.local.to_string();
        let labels = |more: Option<(&'static str, &'static str)>| {
            let fixed = [("worker", worker), ("listener", address.as_str())];
            fixed.into_iter().chain(place(listener)).chain(more).collect::<Vec<_>>()
        };
        let demand = &tally.demand;
        for (name, total) in [
            ("av_edge_relay_allocations_opened_total", demand.opened),
            ("av_edge_relay_destination_errors_total", demand.destination_errors),
            ("av_edge_relay_failed_logins_total", demand.failed_logins),
            ("av_edge_relay_over_user_quota_total", demand.over_user_quota),
            ("av_edge_relay_redirected_total", demand.redirected),
            ("av_edge_relay_packets_dropped_total", demand.dropped),
            ("av_edge_relay_packets_not_forwarded_total", demand.not_forwarded),
        ] {
            count(name, &labels(None), total);
        }
        for (reason, &closed) in CloseReason::ALL.iter().zip(&demand.closed) {
            let labels = labels(Some(("reason", reason.name())));
            count("av_edge_relay_allocations_closed_total", &labels, closed);
        }
        for (place, procedure) in Procedure::ALL.iter().enumerate() {
            let labels = labels(Some(("procedure", procedure.name())));
            count("av_edge_relay_requests_total", &labels, demand.requests[place]);
            count("av_edge_relay_client_errors_total", &labels, demand.client_errors[place]);
        }
    }
    latency(worker, snapshot.latency);
}

fn latency(worker: &str, Latency { datagrams, nanoseconds, longest }: Latency) {
    let seconds = |nanoseconds| float(nanoseconds) / 1e9;
    for (place, guise) in Guise::ALL.into_iter().enumerate() {
        let labels = [("worker", worker), ("kind", guise.name())];
        count("av_edge_relay_latency_packets_total", &labels, datagrams[place]);
        let labels: Vec<_> = labels.map(|(key, value)| (key, value.to_owned())).into();
        gauge!("av_edge_relay_latency_spent_seconds", &labels).set(seconds(nanoseconds[place]));
    }
    let worker = worker.to_owned();
    gauge!("av_edge_relay_latency_max_seconds", "worker" => worker).set(seconds(longest));
}

/// What is true of how many allocations, by where their clients are.
pub(super) fn sessions(all: &[Session], listeners: &[Listener]) {
    let states = ["allocated", "data", "above_average", "above_peak"];
    let mut found: BTreeMap<_, [u64; 4]> =
        listeners.iter().map(|listener| (place(listener), [0; 4])).collect();
    for Session { view, .. } in all {
        let ListenerId(listener) = view.client.listener;
        let Some(listener) = listeners.get(usize::from(listener)) else { continue };
        let carried = view.usage.to_peer.packets + view.usage.to_client.packets > 0;
        let pressure = view.pressure;
        let is = [true, carried, pressure.above_average, pressure.above_peak];
        let counts = found.entry(place(listener)).or_default();
        for (count, is) in counts.iter_mut().zip(is) {
            *count += u64::from(is);
        }
    }
    for (place, counts) in found {
        for (state, count) in states.into_iter().zip(counts) {
            let labels: Vec<_> = place.into_iter().chain([("state", state)]).collect();
            gauge!("av_edge_relay_sessions", &labels).set(float(count));
        }
    }
}
