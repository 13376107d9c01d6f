//! Names, units and labels of what is told about media, and of every distribution.
//!
//! Loss is told as two counters, because a packet that is late is lost for a while: what was
//! expected and what was received, each packet counted once. The share that is missing of the first
//! is loss, over any time and any sum.

use std::fmt::Write;

use metrics::{Unit, gauge};
use proto::media::{Kind as Payload, Leg, LegSummary};

use super::block::Snapshot;
use super::catalogue::{Kind, Row};
use super::distributions::SHOWN;
use super::exposition::count;
use crate::session::Session;

/// Kind, name, unit, help.
pub(super) const METRICS: &[Row] = &[
    (
        Kind::Counter,
        "av_edge_relay_media_packets_total",
        Unit::Count,
        "datagrams relayed of allocations that are measured (quality.every), by the leg they came by (client, peer) and what they are: rtp, rtcp, dtls, stun, other",
    ),
    (Kind::Counter, "av_edge_relay_media_bytes_total", Unit::Bytes, "their payload"),
    (
        Kind::Counter,
        "av_edge_relay_rtp_expected_packets_total",
        Unit::Count,
        "packets of RTP that were sent, as far as their numbers tell, by the leg they had to come by; the share of them that was not received is the loss of that leg",
    ),
    (
        Kind::Counter,
        "av_edge_relay_rtp_received_packets_total",
        Unit::Count,
        "packets of RTP that came, each counted once",
    ),
    (
        Kind::Counter,
        "av_edge_relay_allocation_rtp_expected_packets_total",
        Unit::Count,
        "packets of RTP that were sent to one allocation so far, as far as their numbers tell, by the leg they had to come by; `other` sums the less busy ones beyond metrics.sessions",
    ),
    (
        Kind::Counter,
        "av_edge_relay_allocation_rtp_received_packets_total",
        Unit::Count,
        "packets of RTP that came, each counted once; `other` sums the less busy ones beyond metrics.sessions",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_allocation_rtp_jitter_seconds",
        Unit::Seconds,
        "how unevenly packets of RTP come by a leg of one allocation (RFC 3550 §6.4.1): of its streams of the last five seconds the worst",
    ),
    (
        Kind::Counter,
        "av_edge_relay_allocation_rtp_freezes_total",
        Unit::Count,
        "gaps of more than 200 ms in streams of one allocation that their sender did not mean, by the leg they came by",
    ),
    (
        Kind::Histogram,
        "av_edge_relay_allocation_lifetime_seconds",
        Unit::Seconds,
        "how long allocations lived that have ended",
    ),
    (
        Kind::Histogram,
        "av_edge_relay_allocation_throughput_bytes_per_second",
        Unit::Bytes,
        "payload that allocations carried over their life, of those that have ended and carried something that way",
    ),
    (
        Kind::Histogram,
        "av_edge_relay_rtp_loss_ratio",
        Unit::Count,
        "share of RTP that did not come by a leg of an allocation, of those that have ended",
    ),
    (
        Kind::Histogram,
        "av_edge_relay_rtp_jitter_seconds",
        Unit::Seconds,
        "mean jitter of RTP on a leg of an allocation, of its worst stream, of those that have ended",
    ),
    (
        Kind::Histogram,
        "av_edge_relay_turn_seconds",
        Unit::Seconds,
        "how long a worker took for a batch, from waking up to having sent it",
    ),
    (
        Kind::Histogram,
        "av_edge_relay_batch_datagrams",
        Unit::Count,
        "datagrams that a worker received at a time",
    ),
    (
        Kind::Histogram,
        "av_edge_relay_allocation_handshake_seconds",
        Unit::Seconds,
        "how long clients waited for their allocation, from the challenge to their first request: a round trip, and what they and the relay take",
    ),
    (
        Kind::Histogram,
        "av_edge_relay_tls_handshake_seconds",
        Unit::Seconds,
        "how long handshakes took that were finished: of TLS from the connection on, of DTLS from the hello with a cookie",
    ),
];

/// The counters of one worker.
pub(super) fn counters(worker: &str, snapshot: &Snapshot) {
    let media = &snapshot.server.media;
    for leg in Leg::BOTH {
        let labels = [("worker", worker), ("leg", leg.name())];
        for (kind, flow) in Payload::NAMES.into_iter().zip(media.kinds[leg as usize]) {
            let labels: Vec<_> = labels.into_iter().chain([("kind", kind)]).collect();
            count("av_edge_relay_media_packets_total", &labels, flow.packets);
            count("av_edge_relay_media_bytes_total", &labels, flow.bytes);
        }
        let (expected, received) = (media.expected[leg as usize], media.received[leg as usize]);
        count("av_edge_relay_rtp_expected_packets_total", &labels, expected);
        count("av_edge_relay_rtp_received_packets_total", &labels, received);
    }
}

/// The series of an allocation that has a name, by leg; a leg without RTP has none.
pub(super) fn session(labels: &[(&'static str, &str)], session: &Session) {
    let legs = session.view.media.iter().flat_map(|legs| Leg::BOTH.into_iter().zip(legs));
    for (leg, summary) in legs.filter(|(_, summary)| summary.streams > 0) {
        sums(labels, leg, summary);
        let labels: Vec<_> = labels.iter().copied().chain([("leg", leg.name())]).collect();
        let freezes = u64::from(summary.freezes);
        count("av_edge_relay_allocation_rtp_freezes_total", &labels, freezes);
        let labels: Vec<_> = labels.iter().map(|&(key, value)| (key, value.to_owned())).collect();
        gauge!("av_edge_relay_allocation_rtp_jitter_seconds", &labels)
            .set(summary.jitter.as_secs_f64());
    }
}

/// The sums of those without a name.
pub(super) fn others<'a>(
    labels: &[(&'static str, &str)],
    sessions: impl Iterator<Item = &'a Session>,
) {
    let mut legs = [LegSummary::default(); 2];
    for (sum, heard) in
        sessions.filter_map(|it| it.view.media).flat_map(|of| [0, 1].map(|leg| (leg, of[leg])))
    {
        legs[sum].expected += heard.expected;
        legs[sum].received += heard.received;
    }
    for (leg, summary) in Leg::BOTH.into_iter().zip(&legs) {
        sums(labels, leg, summary);
    }
}

fn sums(labels: &[(&'static str, &str)], leg: Leg, summary: &LegSummary) {
    let labels: Vec<_> = labels.iter().copied().chain([("leg", leg.name())]).collect();
    let LegSummary { expected, received, .. } = *summary;
    count("av_edge_relay_allocation_rtp_expected_packets_total", &labels, expected);
    count("av_edge_relay_allocation_rtp_received_packets_total", &labels, received);
}

/// Every histogram, in the text format: the exporter knows only those it fills itself.
pub(super) fn histograms(workers: &[Snapshot], text: &mut String) {
    // Writing to a text cannot fail.
    let _ = try_histograms(workers, text);
}

fn try_histograms(workers: &[Snapshot], text: &mut String) -> std::fmt::Result {
    let all = METRICS.iter().filter(|(kind, ..)| *kind == Kind::Histogram);
    for (_, name, _, help) in all {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram")?;
        for (worker, snapshot) in workers.iter().enumerate() {
            let mine = SHOWN.iter().zip(&snapshot.distributions.0);
            for (shown, histogram) in mine.filter(|(shown, _)| shown.name == *name) {
                let mut labels = format!("worker=\"{worker}\"");
                if let Some((key, value)) = shown.label {
                    write!(labels, ",{key}=\"{value}\"")?;
                }
                for (bound, below) in shown.scale.buckets(histogram) {
                    writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}")?;
                }
                let (count, sum) = (histogram.count(), shown.scale.show(histogram.sum));
                writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
                writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}")?;
            }
        }
        writeln!(text)?;
    }
    Ok(())
}
