//! A record: one object of JSON on one line.
//!
//! Receivers may get a record twice, after one that was not acknowledged: `id` and `sequence` tell.
//! Counters are sums since the allocation began, so a later record says all that an earlier one did.

use std::time::Duration;

use proto::media::LegSummary;
use proto::turn::tally::{self, Usage};
use serde::Serialize;

/// What is told.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    #[serde(rename = "record")]
    pub(super) stage: &'static str,
    pub(super) id: &'a str,
    pub(super) sequence: u32,
    pub(super) node: &'a str,
    pub(super) time_ms: u64,
    pub(super) allocation: String,
    /// Keyed hash, as in metrics.
    pub(super) user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<String>,
    pub(super) transport: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) relayed: Vec<String>,
    /// The trace of its credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) traceparent: Option<String>,
    pub(super) started_ms: u64,
    pub(super) duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<&'static str>,
    pub(super) to_peer: Flow,
    pub(super) to_client: Flow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quality: Option<Quality>,
}

/// One direction.
#[derive(Debug, Serialize)]
pub(super) struct Flow {
    packets: u64,
    bytes: u64,
}

/// Both directions.
pub(super) fn flows(usage: &Usage) -> [Flow; 2] {
    [usage.to_peer, usage.to_client].map(|tally::Flow { packets, bytes }| Flow { packets, bytes })
}

/// How well media arrived at the relay, by where it came from.
#[derive(Debug, Serialize)]
pub(super) struct Quality {
    client: Leg,
    peer: Leg,
}

impl From<&[LegSummary; 2]> for Quality {
    fn from([client, peer]: &[LegSummary; 2]) -> Self {
        Self { client: client.into(), peer: peer.into() }
    }
}

#[derive(Debug, Serialize)]
struct Leg {
    /// What most of it is; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    streams: u32,
    expected: u64,
    received: u64,
    duplicates: u64,
    late: u64,
    mean_jitter_s: f64,
    longest_jitter_s: f64,
    longest_gap_s: f64,
    freezes: u32,
    frozen_s: f64,
}

impl From<&LegSummary> for Leg {
    fn from(leg: &LegSummary) -> Self {
        Self {
            kind: leg.nature(),
            streams: leg.streams,
            expected: leg.expected,
            received: leg.received,
            duplicates: leg.duplicates,
            late: leg.late,
            mean_jitter_s: seconds(leg.mean_jitter),
            longest_jitter_s: seconds(leg.longest_jitter),
            longest_gap_s: seconds(leg.longest_gap),
            freezes: leg.freezes,
            frozen_s: seconds(leg.frozen),
        }
    }
}

/// To the microsecond.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e6
}

impl Record<'_> {
    /// Appends the record and the end of its line.
    pub(super) fn write(&self, lines: &mut Vec<u8>) {
        let begin = lines.len();
        match serde_json::to_writer(&mut *lines, self) {
            Ok(()) => lines.push(b'\n'),
            // Memory takes everything, and no key here is anything but text.
            Err(_) => lines.truncate(begin),
        }
    }
}

/// The cause of an end that is a failure of the relay.
pub(super) const DEFECT: &str = "defect";

/// A name for an allocation that no other has anywhere: a random UUID (RFC 9562 §5.4).
pub(super) fn unique() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_random_uuids() {
        let [one, other] = [unique().unwrap(), unique().unwrap()];
        assert_ne!(one, other);
        for name in [one, other] {
            let parts: Vec<_> = name.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{name}");
            assert_eq!(&name[14..15], "4", "{name}");
            assert!("89ab".contains(&name[19..20]), "{name}");
        }
    }
}
