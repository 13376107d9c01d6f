//! `/v1/overview`: what is wrong first, then how much there is of everything; `/v1/samples`: the same
//! over the last ten minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use proto::media::Leg;
use proto::reject::{DropReason, Why};
use proto::turn::tally::Flow;
use serde::{Deserialize, Serialize};

use super::{Desk, Problem, time_ms};
use crate::clock;
use crate::office::watch::{EVERY, Total, Trouble, relayed};
use crate::service::Counters;
use crate::telemetry::process;

/// Counters are totals since the relay began.
#[derive(Serialize)]
pub(super) struct Overview {
    time_ms: u64,
    uptime_s: u64,
    node: String,
    draining: bool,
    workers: u16,
    allocations: u64,
    limits: Limits,
    relayed: Directions,
    media: Legs,
    refused: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<&'static str, u64>,
    cpu_s: Vec<f64>,
    packets: u64,
    offloaded_packets: u64,
    problems: Vec<Finding>,
}

#[derive(Serialize)]
struct Limits {
    allocations: u32,
}

#[derive(Serialize)]
struct Directions {
    to_peer: Sum,
    to_client: Sum,
}

#[derive(Serialize)]
struct Sum {
    packets: u64,
    bytes: u64,
}

impl From<Flow> for Sum {
    fn from(Flow { packets, bytes }: Flow) -> Self {
        Self { packets, bytes }
    }
}

#[derive(Serialize)]
struct Legs {
    client: Arrivals,
    peer: Arrivals,
}

#[derive(Serialize)]
struct Arrivals {
    expected: u64,
    received: u64,
}

#[derive(Serialize)]
pub(super) struct Finding {
    id: &'static str,
    severity: &'static str,
    text: String,
    count: u64,
    allocations: Vec<String>,
    advice: &'static str,
}

impl From<Trouble> for Finding {
    fn from(trouble: Trouble) -> Self {
        Self {
            id: trouble.id,
            severity: trouble.severity.name(),
            text: trouble.text,
            count: trouble.count,
            allocations: trouble.allocations.iter().map(ToString::to_string).collect(),
            advice: trouble.advice,
        }
    }
}

/// Answers.
pub(super) async fn overview(State(desk): State<Desk>) -> Result<Json<Overview>, Problem> {
    let look = |desk: &Desk| {
        desk.watch.attend();
        // A worker that is silent is told of as a problem; the others count.
        Some(desk.summarise(&desk.observer.counters()))
    };
    Ok(Json(desk.look(look).await?))
}

impl Desk {
    fn summarise(&self, counters: &Counters) -> Overview {
        let Counters { sum, workers, .. } = counters;
        let usage = relayed(sum);
        let offloaded = workers.iter().map(|worker| worker.offload.carried);
        let arrivals = |leg: Leg| Arrivals {
            expected: sum.media.expected[leg as usize],
            received: sum.media.received[leg as usize],
        };
        Overview {
            time_ms: clock::unix_ms(),
            uptime_s: self.observer.uptime().as_secs(),
            node: self.node.to_string(),
            draining: self.observer.is_draining(),
            workers: self.observer.config().workers,
            allocations: sum.allocations,
            limits: Limits { allocations: self.observer.config().limits.allocations },
            relayed: Directions {
                to_peer: usage.to_peer.into(),
                to_client: usage.to_client.into(),
            },
            media: Legs { client: arrivals(Leg::Client), peer: arrivals(Leg::Peer) },
            refused: named(Why::ALL.iter().map(|why| (why.name(), sum.rejected[why.index()]))),
            dropped: named(DropReason::ALL.iter().map(|it| (it.name(), sum.dropped[it.index()]))),
            cpu_s: process::workers().iter().map(|(_, spent)| spent.as_secs_f64()).collect(),
            packets: usage.to_peer.packets + usage.to_client.packets,
            offloaded_packets: offloaded
                .map(|usage| usage.to_peer.packets + usage.to_client.packets)
                .sum(),
            problems: self.watch.troubles().into_iter().map(Finding::from).collect(),
        }
    }
}

/// Only those that happened.
fn named(all: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    all.filter(|(_, count)| *count > 0).collect()
}

/// From when on.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    since_ms: Option<u64>,
}

/// The last ten minutes, the oldest first.
#[derive(Serialize)]
pub(super) struct Samples {
    every_s: u64,
    samples: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    time_ms: u64,
    rate_to_peer: f64,
    rate_to_client: f64,
    packets_per_s: f64,
    loss_client: Option<f64>,
    loss_peer: Option<f64>,
    allocations: u64,
    /// Processor seconds of all workers in a second.
    cpu: f64,
    cpu_per_packet_s: Option<f64>,
}

/// Answers.
pub(super) async fn samples(
    State(desk): State<Desk>,
    since: Result<Query<Since>, QueryRejection>,
) -> Result<Json<Samples>, Problem> {
    let Query(Since { since_ms }) = since.map_err(Problem::of_query)?;
    let look = move |desk: &Desk| {
        desk.watch.attend();
        let begun = desk.begun_ms();
        let behind = Duration::from_millis(since_ms.unwrap_or_default().saturating_sub(begun));
        let totals = desk.watch.totals(behind);
        Some(totals.iter().map(|total| Sample::of(total, begun)).collect())
    };
    let samples = desk.look(look).await?;
    Ok(Json(Samples { every_s: EVERY.as_secs(), samples }))
}

impl Sample {
    fn of(total: &Total, begun: u64) -> Self {
        let [rate_to_peer, rate_to_client] = total.rates.map(f64::round);
        let [loss_client, loss_peer] = total.loss;
        Self {
            time_ms: time_ms(begun, total.at),
            rate_to_peer,
            rate_to_client,
            packets_per_s: total.packets.round(),
            loss_client,
            loss_peer,
            allocations: total.allocations,
            cpu: total.cpu,
            cpu_per_packet_s: total.cpu_per_packet(),
        }
    }
}
