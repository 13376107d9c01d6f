//! What a relay answers, as far as it is shown. Fields that an older relay lacks are empty.

use serde::Deserialize;

/// `/v1/overview`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Overview {
    pub(super) node: String,
    pub(super) uptime_s: u64,
    pub(super) draining: bool,
    pub(super) workers: u16,
    pub(super) allocations: u64,
    pub(super) limits: Limits,
    pub(super) problems: Vec<Problem>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Limits {
    pub(super) allocations: u64,
}

/// What is wrong, the worst first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) severity: String,
    pub(super) text: String,
    pub(super) advice: String,
}

/// `/v1/samples`: the relay over ten minutes, the oldest first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Samples {
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sample {
    pub(super) rate_to_peer: f64,
    pub(super) rate_to_client: f64,
    pub(super) packets_per_s: f64,
    pub(super) loss_client: Option<f64>,
    pub(super) loss_peer: Option<f64>,
    pub(super) cpu: f64,
}

/// `/v1/allocations`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Page {
    pub(super) allocations: Vec<Row>,
    pub(super) total: u64,
}

/// An allocation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) client: String,
    pub(super) transport: String,
    pub(super) relayed: Vec<String>,
    pub(super) age_s: u64,
    pub(super) expires_in_s: u64,
    pub(super) bytes_to_peer: u64,
    pub(super) bytes_to_client: u64,
    pub(super) relayed_by: String,
    pub(super) rate_to_peer: f64,
    pub(super) rate_to_client: f64,
    pub(super) loss_client: Option<f64>,
    pub(super) loss_peer: Option<f64>,
    pub(super) jitter_client_s: Option<f64>,
    pub(super) jitter_peer_s: Option<f64>,
    pub(super) spark: Vec<u64>,
}

impl Row {
    /// Whether the kernel relays it: then nobody measures its media.
    pub(super) fn is_in_kernel(&self) -> bool {
        self.relayed_by == "kernel"
    }
}

/// `/v1/allocations/ID`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Detail {
    #[serde(flatten)]
    pub(super) row: Row,
    pub(super) dialect: String,
    pub(super) listener: String,
    pub(super) peers: Vec<Peer>,
    pub(super) streams: Vec<Stream>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) via: String,
    pub(super) channel: Option<u16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stream {
    pub(super) leg: String,
    pub(super) kind: String,
    pub(super) ssrc: Option<u32>,
    pub(super) payload_type: Option<u8>,
    pub(super) packets: u64,
    pub(super) expected: Option<u64>,
    pub(super) lost: Option<i64>,
    pub(super) jitter_s: Option<f64>,
    pub(super) longest_gap_s: Option<f64>,
    pub(super) freezes: Option<u64>,
    pub(super) frame_rate: Option<f64>,
}

/// `/v1/explain`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Explanation {
    pub(super) summary: String,
    pub(super) entries: Vec<Entry>,
    pub(super) findings: Vec<Finding>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    pub(super) at_ms: u64,
    pub(super) count: u64,
    pub(super) text: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Finding {
    pub(super) text: String,
    pub(super) advice: String,
}
