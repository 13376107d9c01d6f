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
        "usage records that will never arrive, by where: the file, the queue before the spool, or the receiver; and by reason: unwritable, the file could not be written; full, records.spool_mib was reached, or the disk, or they came faster than they could be written; refused, the receiver does not take them",
    ),
    (
        Kind::Counter,
        "av_edge_relay_records_failures_total",
        Unit::Count,
        "attempts to deliver usage records that failed; they are repeated, unless the receiver refuses the records",
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
    count(lost, &[("at", "queue"), ("reason", "full")], accounts.unheard.value());
    for (sink, account) in Sink::ALL.iter().zip(&accounts.sinks) {
        let name = sink.name();
        let reason = if *sink == Sink::File { "unwritable" } else { "full" };
        count(lost, &[("at", name), ("reason", reason)], account.lost.value());
        if matches!(sink, Sink::Http | Sink::Otlp) {
            count(lost, &[("at", name), ("reason", "refused")], account.refused.value());
        }
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
