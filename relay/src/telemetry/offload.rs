//! Metrics of what the kernel relays by itself.

use metrics::{Unit, gauge};
use proto::turn::tally::Usage;

use super::block::Snapshot;
use super::catalogue::{Kind, Row};
use super::exposition::{Scrape, count, directions, float};
use crate::offload::{Meter, PASSED};

/// Kind, name, unit, help.
pub(super) const METRICS: &[Row] = &[
    (
        Kind::Gauge,
        "av_edge_relay_offload",
        Unit::Count,
        "1 for each interface of offload.interfaces where the kernel relays by itself, 0 where it does not; the log of the start says why",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_offload_routes",
        Unit::Count,
        "channels by what the kernel does with them: it relays at least one direction, or at least one waits for a next hop (both may be)",
    ),
    (
        Kind::Counter,
        "av_edge_relay_offload_refused_total",
        Unit::Count,
        "channels the kernel had no room for (offload.routes), or did not take or end; the log says the first reason",
    ),
    (
        Kind::Counter,
        "av_edge_relay_offloaded_packets_total",
        Unit::Count,
        "datagrams the kernel relayed by itself; they are part of all other sums",
    ),
    (Kind::Counter, "av_edge_relay_offloaded_bytes_total", Unit::Bytes, "their payload"),
    (
        Kind::Gauge,
        "av_edge_relay_offloaded_ratio",
        Unit::Count,
        "datagrams the kernel relayed by itself, of all that were relayed",
    ),
    (
        Kind::Counter,
        "av_edge_relay_offload_passed_total",
        Unit::Count,
        "datagrams of a channel in the kernel that went up to the relay all the same, by reason",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_rings",
        Unit::Count,
        "queues of interfaces whose media comes by rings of AF_XDP, by whether the driver moves it without a copy; 0 where offload.engine wants none, or the log of the start says why",
    ),
    (
        Kind::Counter,
        "av_edge_relay_ring_datagrams_total",
        Unit::Count,
        "datagrams received and sent by rings; they are part of all other sums",
    ),
    (
        Kind::Counter,
        "av_edge_relay_stray_datagrams_total",
        Unit::Count,
        "datagrams of relayed ports without a socket that took the host's network stack all the same: next hop not known yet, fragments, IP options, too large for the link, another interface, this host",
    ),
    (
        Kind::Counter,
        "av_edge_relay_ring_lost_total",
        Unit::Count,
        "frames that rings had no room for, whose checksum was wrong (damaged), or that claim to come from the relay's own host (forged)",
    ),
];

/// What one worker has the kernel relay.
pub(super) fn counters(worker: &str, snapshot: &Snapshot) {
    let tally = &snapshot.offload;
    for (state, value) in [("relayed", tally.routes), ("waiting", tally.waiting)] {
        let labels = [("worker", worker.to_owned()), ("state", state.to_owned())];
        gauge!("av_edge_relay_offload_routes", &labels).set(float(value));
    }
    count("av_edge_relay_offload_refused_total", &[("worker", worker)], tally.refused);
    for (direction, flow) in directions(&tally.carried) {
        let labels = [("worker", worker), ("direction", direction)];
        count("av_edge_relay_offloaded_packets_total", &labels, flow.packets);
        count("av_edge_relay_offloaded_bytes_total", &labels, flow.bytes);
    }
}

/// What came and went by rings.
pub(super) fn rings(worker: &str, snapshot: &Snapshot) {
    let tally = &snapshot.engine;
    for (direction, value) in [("in", tally.ring_in), ("out", tally.ring_out)] {
        let labels = [("worker", worker), ("direction", direction)];
        count("av_edge_relay_ring_datagrams_total", &labels, value);
    }
    count("av_edge_relay_stray_datagrams_total", &[("worker", worker)], tally.strays);
    let reasons =
        [("queue_full", tally.lost_at_rings), ("damaged", tally.damaged), ("forged", tally.forged)];
    for (reason, value) in reasons {
        let labels = [("worker", worker), ("reason", reason)];
        count("av_edge_relay_ring_lost_total", &labels, value);
    }
}

/// What is told of the kernel program once for all workers.
pub(super) fn standing(scrape: &Scrape) {
    let [all, zero_copy] = scrape.offload.rings;
    for (copies, value) in [("yes", all - zero_copy), ("no", zero_copy)] {
        gauge!("av_edge_relay_rings", &[("copies", copies)]).set(float(value as u64));
    }
    for (interface, mode, stands) in &scrape.offload.interfaces {
        let labels = [("interface", interface.clone()), ("mode", mode.name().to_owned())];
        gauge!("av_edge_relay_offload", &labels).set(u8::from(*stands));
    }
    let passed = scrape.offload.meter().map(Meter::passed).unwrap_or_default();
    for (reason, count_of) in PASSED.iter().zip(passed) {
        count("av_edge_relay_offload_passed_total", &[("reason", reason)], count_of);
    }
    let (mut carried, mut all) = (Usage::default(), Usage::default());
    for Snapshot { server, offload, .. } in &scrape.workers {
        carried += offload.carried;
        for usage in [server.via_channel, server.via_indication, server.via_destination] {
            all += usage;
        }
    }
    let packets = |usage: Usage| float(usage.to_peer.packets + usage.to_client.packets);
    gauge!("av_edge_relay_offloaded_ratio").set(packets(carried) / packets(all).max(1.0));
}
