//! What one scrape shows: counters become series, with their labels.
//!
//! Every scrape fills a fresh recorder from a snapshot, so the series of an allocation end with
//! the allocation and nothing has to be unregistered. No worker ever calls this.

use std::sync::Arc;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use proto::policy::Listener;
use proto::reject::{DropReason, Why};
use proto::turn::tally::{Flow, Procedure, Usage};

use super::block::Snapshot;
use super::catalogue::{Kind, all};
use super::log;
use super::media;
use super::offload;
use super::process::Process;
use super::product;
use super::records;
use crate::config::Metrics;
use crate::dtls::{Greeting, Loss, Parting};
use crate::office::Guestbook;
use crate::offload::Standing;
use crate::records::Accounts;
use crate::session::Session;
use crate::stream::{Ending, Refusal, TRANSPORTS};
use crate::sys::Lane;

/// Everything one scrape shows.
#[derive(Debug)]
pub(crate) struct Scrape {
    /// Counters by worker.
    pub(crate) workers: Vec<Snapshot>,
    /// Listeners, in order of their ids.
    pub(crate) listeners: Vec<Listener>,
    /// Allocations alive.
    pub(crate) sessions: Vec<Session>,
    /// The process.
    pub(crate) process: Process,
    /// Whether new allocations are refused.
    pub(crate) draining: bool,
    /// What protects the process.
    pub(crate) hardening: guard::Measures,
    /// Where the kernel relays by itself.
    pub(crate) offload: Standing,
    /// Attempts to read the configuration again: those that did, and those that failed.
    pub(crate) reloads: [u64; 2],
    /// Parts of the office that a defect has ended.
    pub(crate) office_defects: u64,
    /// Of the workers' threads.
    pub(crate) niceness: i32,
    /// Visitors of the office who were refused.
    pub(crate) guestbook: Guestbook,
    /// Whether they are because of memory.
    pub(crate) memory_tight: bool,
    /// Files of certificates, and when these end in Unix time.
    pub(crate) certificates: Vec<(String, u64)>,
    /// What is counted of usage records, if they are kept.
    pub(crate) records: Option<Arc<Accounts>>,
}

type Describe = fn(&'static str, Unit, &'static str);

/// The text of one scrape.
pub(crate) fn render(scrape: &Scrape, config: &Metrics) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        process(scrape);
        offload::standing(scrape);
        if let Some(accounts) = &scrape.records {
            records::counters(accounts);
        }
        for (worker, snapshot) in (0_u16..).zip(&scrape.workers) {
            let worker = worker.to_string();
            server(&worker, snapshot);
            engine(&worker, snapshot);
            streams(&worker, snapshot);
            dtls(&worker, snapshot);
            offload::counters(&worker, snapshot);
            offload::rings(&worker, snapshot);
            listeners(&worker, snapshot, &scrape.listeners);
            product::counters(&worker, snapshot, &scrape.listeners);
            media::counters(&worker, snapshot);
        }
        product::sessions(&scrape.sessions, &scrape.listeners);
        sessions(&scrape.sessions, config);
    });
    let handle = recorder.handle();
    // Descriptions become visible with the upkeep.
    handle.run_upkeep();
    let mut text = handle.render();
    media::histograms(&scrape.workers, &mut text);
    text
}

fn describe() {
    for &(kind, name, unit, help) in all() {
        let describe: Describe = match kind {
            Kind::Counter => |name, unit, help| describe_counter!(name, unit, help),
            Kind::Gauge => |name, unit, help| describe_gauge!(name, unit, help),
            // Written by hand, with their help.
            Kind::Histogram => |_, _, _| (),
        };
        describe(name, unit, help);
    }
}

fn process(scrape: &Scrape) {
    gauge!("av_edge_relay_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
    gauge!("av_edge_relay_draining").set(u8::from(scrape.draining));
    for (result, count) in ["done", "failed"].into_iter().zip(scrape.reloads) {
        counter!("av_edge_relay_reloads_total", "result" => result).absolute(count);
    }
    counter!("av_edge_relay_office_defects_total").absolute(scrape.office_defects);
    gauge!("av_edge_relay_worker_niceness").set(scrape.niceness);
    for (place, why, refused) in scrape.guestbook.counts() {
        let labels = [("door", place.name()), ("reason", why.name())];
        count("av_edge_relay_visitors_refused_total", &labels, refused);
    }
    for (measure, holds) in scrape.hardening.named() {
        gauge!("av_edge_relay_hardening", "measure" => measure).set(u8::from(holds));
    }
    gauge!("av_edge_relay_memory_tight").set(u8::from(scrape.memory_tight));
    for (file, end) in &scrape.certificates {
        let name = "av_edge_relay_certificate_not_after_timestamp_seconds";
        gauge!(name, "file" => file.clone()).set(float(*end));
    }
    let Process { descriptors, descriptor_limit, resident_bytes, workers } = &scrape.process;
    for (worker, spent) in workers {
        let worker = worker.to_string();
        gauge!("av_edge_relay_worker_cpu_seconds", "worker" => worker).set(spent.as_secs_f64());
    }
    for (name, value) in [
        ("process_open_fds", descriptors),
        ("process_max_fds", descriptor_limit),
        ("process_resident_memory_bytes", resident_bytes),
    ] {
        if let Some(value) = value {
            gauge!(name).set(float(*value));
        }
    }
}

fn server(worker: &str, snapshot: &Snapshot) {
    let tally = &snapshot.server;
    for (name, value) in [
        ("av_edge_relay_allocations", tally.allocations),
        ("av_edge_relay_permissions", tally.permissions),
        ("av_edge_relay_channels", tally.channels),
        ("av_edge_relay_peer_connections", tally.connections),
        ("av_edge_relay_ports_used", tally.ports_used),
        ("av_edge_relay_ports", tally.ports_total),
    ] {
        gauge!(name, "worker" => worker.to_owned()).set(float(value));
    }
    count("av_edge_relay_paced_total", &[("worker", worker)], tally.paced);
    count("av_edge_relay_icmp_reported_total", &[("worker", worker)], tally.icmp_reported);
    for (procedure, &succeeded) in Procedure::ALL.iter().zip(&tally.succeeded) {
        let labels = [("worker", worker), ("procedure", procedure.name())];
        count("av_edge_relay_succeeded_total", &labels, succeeded);
    }
    for why in Why::ALL {
        let code = why.code().0.to_string();
        let labels = [("worker", worker), ("reason", why.name()), ("code", &code)];
        count("av_edge_relay_rejected_total", &labels, tally.rejected[why.index()]);
    }
    for reason in DropReason::ALL {
        let labels = [("worker", worker), ("reason", reason.name())];
        count("av_edge_relay_dropped_total", &labels, tally.dropped[reason.index()]);
    }
    for (framing, usage) in [
        ("channel", tally.via_channel),
        ("indication", tally.via_indication),
        ("destination", tally.via_destination),
        ("connection", tally.via_connection),
    ] {
        for (direction, flow) in directions(&usage) {
            let labels = [("worker", worker), ("framing", framing), ("direction", direction)];
            count("av_edge_relay_framed_packets_total", &labels, flow.packets);
            count("av_edge_relay_framed_bytes_total", &labels, flow.bytes);
        }
    }
}

fn engine(worker: &str, snapshot: &Snapshot) {
    let tally = &snapshot.engine;
    for (name, label, value, total) in [
        ("av_edge_relay_datagrams_total", "direction", "in", tally.datagrams_in),
        ("av_edge_relay_datagrams_total", "direction", "out", tally.datagrams_out),
        ("av_edge_relay_system_calls_total", "call", "receive", tally.receives),
        ("av_edge_relay_system_calls_total", "call", "send", tally.sends),
        ("av_edge_relay_send_lost_total", "reason", "queue_full", tally.send_queue_full),
        ("av_edge_relay_send_lost_total", "reason", "refused", tally.send_refused),
        ("av_edge_relay_send_lost_total", "reason", "closed", tally.send_closed),
        (
            "av_edge_relay_receive_lost_total",
            "reason",
            "listener_queue_full",
            snapshot.inlets.iter().flat_map(|it| it.lost).sum(),
        ),
        ("av_edge_relay_receive_lost_total", "reason", "relayed_queue_full", tally.lost_at_relays),
        ("av_edge_relay_receive_lost_total", "reason", "truncated", tally.truncated),
    ] {
        count(name, &[("worker", worker), (label, value)], total);
    }
    count("av_edge_relay_runs_sent_total", &[("worker", worker)], tally.runs_out);
    count("av_edge_relay_overloads_total", &[("worker", worker)], tally.overloads);
    count("av_edge_relay_worker_restarts_total", &[("worker", worker)], tally.restarts);
    count("av_edge_relay_diversions_failed_total", &[("worker", worker)], tally.diversions_failed);
}

fn streams(worker: &str, snapshot: &Snapshot) {
    let tally = &snapshot.streams;
    for (transport, &open) in TRANSPORTS.iter().zip(&tally.open) {
        let labels = [("worker", worker.to_owned()), ("transport", transport.name().to_owned())];
        gauge!("av_edge_relay_connections", &labels).set(float(open));
    }
    gauge!("av_edge_relay_accept_paused", "worker" => worker.to_owned()).set(float(tally.paused));
    gauge!("av_edge_relay_connections_passing", "worker" => worker.to_owned())
        .set(float(tally.passing));
    for (refusal, &refused) in Refusal::ALL.iter().zip(&tally.refused) {
        let labels = [("worker", worker), ("reason", refusal.name())];
        count("av_edge_relay_connections_refused_total", &labels, refused);
    }
    for (ending, &closed) in Ending::ALL.iter().zip(&tally.closed) {
        let labels = [("worker", worker), ("reason", ending.name())];
        count("av_edge_relay_connections_closed_total", &labels, closed);
    }
    for (name, label, value, total) in [
        ("av_edge_relay_stream_bytes_total", "direction", "in", tally.bytes_in),
        ("av_edge_relay_stream_bytes_total", "direction", "out", tally.bytes_out),
        ("av_edge_relay_stream_system_calls_total", "call", "read", tally.reads),
        ("av_edge_relay_stream_system_calls_total", "call", "write", tally.writes),
    ] {
        count(name, &[("worker", worker), (label, value)], total);
    }
    for (name, total) in [
        ("av_edge_relay_connections_accepted_total", tally.accepted),
        ("av_edge_relay_connections_passed_idle_total", tally.passed_idle),
        ("av_edge_relay_tls_handshakes_total", tally.handshakes),
        ("av_edge_relay_pseudo_tls_total", tally.pseudo_tls),
        ("av_edge_relay_stream_dropped_packets_total", tally.dropped_frames),
        ("av_edge_relay_stream_dropped_bytes_total", tally.dropped_bytes),
    ] {
        count(name, &[("worker", worker)], total);
    }
}

fn dtls(worker: &str, snapshot: &Snapshot) {
    let tally = &snapshot.dtls;
    let labels = [("worker", worker.to_owned()), ("transport", "dtls".to_owned())];
    gauge!("av_edge_relay_connections", &labels).set(float(tally.open));
    count("av_edge_relay_dtls_handshakes_total", &[("worker", worker)], tally.finished);
    let by_reason = |name, reason, total| {
        count(name, &[("worker", worker), ("reason", reason)], total);
    };
    for (greeting, &total) in Greeting::ALL.iter().zip(&tally.greeted) {
        by_reason("av_edge_relay_dtls_hellos_total", greeting.name(), total);
    }
    for (parting, &total) in Parting::ALL.iter().zip(&tally.parted) {
        by_reason("av_edge_relay_dtls_closed_total", parting.name(), total);
    }
    for (loss, &total) in Loss::ALL.iter().zip(&tally.lost) {
        by_reason("av_edge_relay_dtls_lost_total", loss.name(), total);
    }
}

fn listeners(worker: &str, snapshot: &Snapshot, listeners: &[Listener]) {
    let tallies = snapshot.listeners.iter().zip(&snapshot.inlets);
    for (listener, (tally, inlet)) in listeners.iter().zip(tallies) {
        let address = listener.local.to_string();
        let place = || {
            let [transport, side, family] = product::place(listener);
            [("worker", worker), ("listener", address.as_str()), transport, side, family]
        };
        let labels = |direction| {
            let [worker, listener, transport, side, family] = place();
            [worker, listener, transport, side, family, ("direction", direction)]
        };
        if inlet.lanes > 0 {
            let labels = place().map(|(key, value)| (key, value.to_owned()));
            gauge!("av_edge_relay_listener_lanes", &labels).set(float(inlet.lanes));
        }
        for lane in Lane::ALL.into_iter().filter(|&lane| (lane as u64) < inlet.lanes) {
            let [worker, listener, transport, side, family] = place();
            let labels = [worker, listener, transport, side, family, ("lane", lane.name())];
            let [received, lost] = [inlet.received, inlet.lost].map(|of| of[lane as usize]);
            count("av_edge_relay_listener_datagrams_total", &labels, received);
            count("av_edge_relay_listener_lost_total", &labels, lost);
        }
        for (direction, flow) in directions(&tally.relayed) {
            count("av_edge_relay_relayed_packets_total", &labels(direction), flow.packets);
            count("av_edge_relay_relayed_bytes_total", &labels(direction), flow.bytes);
        }
        for (direction, flow) in [("in", tally.control_in), ("out", tally.control_out)] {
            count("av_edge_relay_control_messages_total", &labels(direction), flow.packets);
            count("av_edge_relay_control_bytes_total", &labels(direction), flow.bytes);
        }
    }
}

/// Series of the busiest allocations, and the sum of the rest.
fn sessions(all: &[Session], config: &Metrics) {
    let mut order: Vec<_> = all.iter().collect();
    order.sort_by_key(|session| {
        let Usage { to_peer, to_client } = session.view.usage;
        std::cmp::Reverse(to_peer.bytes + to_client.bytes)
    });
    let (busiest, rest) = order.split_at(config.sessions.min(order.len()));
    for session in busiest {
        let Session { worker, view } = session;
        let worker = worker.to_string();
        let allocation = log::name(view.id);
        let user = if config.name_users { format!("{:016x}", view.user.0) } else { String::new() };
        let relayed: Vec<_> = view.relayed.iter().flatten().map(ToString::to_string).collect();
        let relayed = relayed.join(",");
        let labels = [
            ("worker", worker.as_str()),
            ("allocation", allocation.as_str()),
            ("user", user.as_str()),
            ("relayed", relayed.as_str()),
        ];
        let pairs: Vec<_> = labels.iter().map(|&(k, v)| (k, v.to_owned())).collect();
        gauge!("av_edge_relay_allocation_age_seconds", &pairs).set(view.age.as_secs_f64());
        usage(&labels, &view.usage);
        media::session(&labels, session);
    }
    let mut others = Usage::default();
    for session in rest {
        others += session.view.usage;
    }
    let labels = [("worker", ""), ("allocation", "other"), ("user", ""), ("relayed", "")];
    usage(&labels, &others);
    media::others(&labels, rest.iter().copied());
}

fn usage(labels: &[(&'static str, &str)], usage: &Usage) {
    for (direction, flow) in directions(usage) {
        let labels: Vec<_> = labels.iter().copied().chain([("direction", direction)]).collect();
        count("av_edge_relay_allocation_packets_total", &labels, flow.packets);
        count("av_edge_relay_allocation_bytes_total", &labels, flow.bytes);
    }
}

pub(super) fn directions(usage: &Usage) -> [(&'static str, Flow); 2] {
    [("to_peer", usage.to_peer), ("to_client", usage.to_client)]
}

pub(super) fn count(name: &'static str, labels: &[(&'static str, &str)], value: u64) {
    let labels: Vec<_> = labels.iter().map(|&(key, value)| (key, value.to_owned())).collect();
    counter!(name, &labels).absolute(value);
}

#[expect(clippy::cast_precision_loss, reason = "gauges here stay far below 2^53")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}
