//! `/v1/allocations/ID`: everything about one, and its end.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use proto::dialect::Dialect;
use proto::media::{Kind, Leg, LegReport, MediaReport, StreamReport};
use proto::turn::view::{AllocationDetail, Bond, BondKind, PeerView};
use serde::Serialize;
use serde_json::Value;

use super::allocations::{Figures, Row};
use super::explain::history;
use super::{Desk, Problem, time_ms};
use crate::clock;
use crate::office::watch::Sample as Packed;
use crate::session::{Session, SessionId};

/// Everything.
#[derive(Serialize)]
pub(super) struct Detail {
    #[serde(flatten)]
    row: Row,
    dialect: &'static str,
    listener: String,
    opened_ms: u64,
    peers: Vec<Peer>,
    /// Whether its media is measured.
    measured: bool,
    streams: Vec<Stream>,
    samples: Vec<Sample>,
    history: Vec<Value>,
}

/// Whom it may reach: a port, or a host without one.
#[derive(Serialize)]
struct Peer {
    address: String,
    /// What leads there: "channel", "destination", "connection", or "permission" alone.
    via: &'static str,
    permission_expires_in_s: Option<u64>,
    channel: Option<u16>,
    channel_expires_in_s: Option<u64>,
}

impl From<&PeerView> for Peer {
    fn from(view: &PeerView) -> Self {
        let address = match view.bond {
            Some(Bond { port, .. }) => std::net::SocketAddr::new(view.ip, port).to_string(),
            None => view.ip.to_string(),
        };
        let (via, channel) = match view.bond.map(|bond| bond.kind) {
            None => ("permission", None),
            Some(BondKind::Channel(number)) => ("channel", Some(number)),
            Some(BondKind::Destination) => ("destination", None),
            Some(BondKind::Connection) => ("connection", None),
        };
        let expires_in = view.bond.and_then(|bond| bond.expires_in);
        Self {
            address,
            via,
            permission_expires_in_s: view.permission.map(|it| it.as_secs()),
            channel,
            channel_expires_in_s: expires_in.map(|it| it.as_secs()),
        }
    }
}

/// A stream of RTP, or everything else of one kind that came by a leg.
#[derive(Default, Serialize)]
struct Stream {
    leg: &'static str,
    kind: &'static str,
    ssrc: Option<u32>,
    payload_type: Option<u8>,
    video: bool,
    packets: u64,
    bytes: u64,
    expected: Option<u64>,
    lost: Option<u64>,
    reordered: Option<u64>,
    duplicates: Option<u64>,
    jitter_s: Option<f64>,
    longest_gap_s: Option<f64>,
    freezes: Option<u32>,
    frame_rate: Option<f64>,
    silent_s: Option<f64>,
}

impl Stream {
    fn rtp(leg: Leg, report: &StreamReport) -> Self {
        Self {
            leg: leg.name(),
            kind: "rtp",
            ssrc: Some(report.ssrc),
            payload_type: Some(report.payload_type),
            video: report.video,
            packets: report.received + report.duplicates,
            bytes: report.bytes,
            expected: Some(report.expected),
            lost: Some(report.lost()),
            reordered: Some(report.late),
            duplicates: Some(report.duplicates),
            jitter_s: report.clock_rate.map(|_| report.jitter.as_secs_f64()),
            longest_gap_s: Some(report.longest_gap.as_secs_f64()),
            freezes: Some(report.freezes),
            frame_rate: report.video.then(|| f64::from(report.frame_rate) / 1_000.0),
            silent_s: Some(report.silent.as_secs_f64()),
        }
    }

    fn all(report: &MediaReport) -> Vec<Self> {
        Leg::BOTH.into_iter().zip(&report.legs).flat_map(|(leg, it)| Self::leg(leg, it)).collect()
    }

    /// Those of RTP, and a sum of each kind beside.
    fn leg(leg: Leg, report: &LegReport) -> impl Iterator<Item = Self> {
        let rtp = Kind::NAMES.iter().position(|name| *name == "rtp");
        let kinds = Kind::NAMES.into_iter().zip(report.summary.kinds).enumerate();
        let beside = kinds.filter(move |(at, (_, flow))| Some(*at) != rtp && flow.packets > 0);
        let beside = beside.map(move |(_, (kind, flow))| Self {
            leg: leg.name(),
            kind,
            packets: flow.packets,
            bytes: flow.bytes,
            ..Self::default()
        });
        report.streams.iter().map(move |it| Self::rtp(leg, it)).chain(beside)
    }
}

/// Five seconds of it, and when.
#[derive(Serialize)]
struct Sample {
    time_ms: u64,
    #[serde(flatten)]
    figures: Figures,
}

/// Shows one.
pub(super) async fn detail(
    State(desk): State<Desk>,
    Path(id): Path<String>,
) -> Result<Json<Detail>, Problem> {
    let id = id_of(&id)?;
    let look = move |desk: &Desk| {
        desk.watch.attend();
        let found = desk.observer.detail(id).ok()?;
        Some(found.map(|detail| desk.describe(id, detail)))
    };
    desk.look(look).await?.map(Json).ok_or_else(|| over(id))
}

impl Desk {
    fn describe(&self, id: SessionId, detail: AllocationDetail) -> Detail {
        let AllocationDetail { view, dialect, peers, media } = detail;
        let listeners = &self.observer.config().listeners;
        let listener = listeners.get(view.client.listener.index());
        let age = u64::try_from(view.age.as_millis()).unwrap_or(u64::MAX);
        let begun = self.begun_ms();
        let session = Session { worker: id.worker, view };
        let sample = |it: &Packed| Sample { time_ms: time_ms(begun, it.at()), figures: it.into() };
        Detail {
            row: Row::new(&session, self.watch.recent(id)),
            dialect: match dialect {
                Dialect::Rfc => "turn",
                Dialect::Ms => "ms-turn",
            },
            listener: listener.map(|it| it.local.to_string()).unwrap_or_default(),
            opened_ms: clock::unix_ms().saturating_sub(age),
            peers: peers.iter().map(Peer::from).collect(),
            measured: media.is_some(),
            streams: media.as_ref().map(Stream::all).unwrap_or_default(),
            samples: self.watch.samples(id).iter().map(sample).collect(),
            history: history(&self.observer, id),
        }
    }
}

/// Ends one.
pub(super) async fn end(
    State(desk): State<Desk>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id_of(&id)?;
    if desk.look(move |desk| desk.observer.end(id)).await? {
        tracing::info!(allocation = %id, "ended by an operator");
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(over(id))
    }
}

fn over(id: SessionId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no allocation {id}: it is over"))
}

/// The allocation of a name.
pub(super) fn id_of(text: &str) -> Result<SessionId, Problem> {
    let wrong = "not the name of an allocation, which is WORKER-SLOT-GENERATION";
    text.parse().map_err(|()| Problem::bad_request(wrong))
}
