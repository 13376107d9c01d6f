//! Metrics of usage records.

use metrics::{Unit, gauge};

use super::catalogue::{Kind, Row};
use super::exposition::{count, float};
use crate::records::{Accounts, Sink, Stage};

/// Kind, name, unit, help.
pub(super) const METRICS: &[Row] = &[
    (
        Kind::Counter,
        "av_edge_relay_records_total",
        Unit::Count,
        "usage records made, by what they are about",
    ),
    (
        Kind::Counter,
        "av_edge_relay_records_delivered_total",
        Unit::Count,
        "usage records that a receiver has, or that are in the file; otlp has a span of each that ends an allocation, and passes over the others",
    ),
    (
        Kind::Counter,
        "av_edge_relay_records_lost_total",
        Unit::Count,
        "usage records that will never arrive: file, it could not be written; http, otlp and redis, records.spool_mib was full, or the disk; queue, they came faster than they could be written",
    ),
    (
        Kind::Counter,
        "av_edge_relay_records_failures_total",
        Unit::Count,
        "attempts to deliver usage records that failed; they are repeated",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_records_waiting",
        Unit::Count,
        "usage records in the spool that a receiver has not taken yet",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_records_spooled_bytes",
        Unit::Bytes,
        "usage records in the spool, over all receivers",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_records_spool_limit_bytes",
        Unit::Bytes,
        "the most there can be (records.spool_mib)",
    ),
];

/// All of them; zero where no records are kept.
pub(super) fn counters(accounts: &Accounts) {
    for (stage, made) in Stage::ALL.iter().zip(&accounts.made) {
        count("av_edge_relay_records_total", &[("record", stage.name())], made.value());
    }
    let lost = "av_edge_relay_records_lost_total";
    count(lost, &[("at", "queue")], accounts.unheard.value());
    for (sink, account) in Sink::ALL.iter().zip(&accounts.sinks) {
        let name = sink.name();
        count(lost, &[("at", name)], account.lost.value());
        let labels = [("to", name)];
        count("av_edge_relay_records_delivered_total", &labels, account.delivered.value());
        count("av_edge_relay_records_failures_total", &labels, account.failed.value());
        if *sink != Sink::File {
            let waiting = gauge!("av_edge_relay_records_waiting", "to" => name);
            waiting.set(float(account.waiting.value()));
        }
    }
    gauge!("av_edge_relay_records_spooled_bytes").set(float(accounts.spooled_bytes.value()));
    gauge!("av_edge_relay_records_spool_limit_bytes").set(float(accounts.spool_bytes.value()));
}
