//! `/v1/allocations`: who is served, page by page or the first of an order.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use proto::turn::tally::Usage;
use serde::{Deserialize, Serialize};

use super::allocation::id_of;
use super::{Desk, Problem};
use crate::office::watch::{Recent, Sample, Sort};
use crate::session::{Session, SessionId};

/// Allocations of a page, unless fewer are asked for.
const PAGE: usize = 100;

/// The longest page.
const LONGEST_PAGE: usize = 1_000;

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    sort: Option<String>,
    behind: Option<String>,
    limit: Option<usize>,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug)]
enum Begin {
    /// At the first one of an order.
    First(Sort),
    /// Behind one in the order of ids.
    Behind(Option<SessionId>),
}

impl Wanted {
    fn begin(&self) -> Result<Begin, Problem> {
        let sort = match self.sort.as_deref() {
            None | Some("id") => None,
            Some("throughput") => Some(Sort::Throughput),
            Some("loss") => Some(Sort::Loss),
            Some("age") => Some(Sort::Age),
            Some("expiry") => Some(Sort::Expiry),
            Some("bytes") => Some(Sort::Bytes),
            Some(other) => {
                let known = "id, throughput, loss, age, expiry, bytes";
                let detail = format!("sort={other:?}: orders there are: {known}");
                return Err(Problem::bad_request(detail));
            }
        };
        match (sort, &self.behind) {
            (None, None) => Ok(Begin::Behind(None)),
            (None, Some(behind)) => Ok(Begin::Behind(Some(id_of(behind)?))),
            (Some(sort), None) => Ok(Begin::First(sort)),
            (Some(_), Some(_)) => Err(Problem::bad_request(
                "behind: pages follow one another in the order of ids only, because every other \
                 order changes meanwhile; leave sort away",
            )),
        }
    }
}

/// A page.
#[derive(Serialize)]
pub(super) struct Page {
    allocations: Vec<Row>,
    next: Option<String>,
    total: usize,
}

/// An allocation in a line.
#[derive(Serialize)]
pub(super) struct Row {
    id: String,
    /// Keyed hash, as in metrics.
    user: String,
    client: String,
    transport: &'static str,
    relayed: Vec<String>,
    age_s: u64,
    expires_in_s: u64,
    permissions: usize,
    channels: usize,
    bytes_to_peer: u64,
    bytes_to_client: u64,
    packets_to_peer: u64,
    packets_to_client: u64,
    /// Those of both that the kernel relayed by itself.
    packets_in_kernel: u64,
    /// Who relayed most of the last seconds: what the "kernel" relays is not measured.
    relayed_by: &'static str,
    #[serde(flatten)]
    figures: Figures,
    spark: Vec<u64>,
}

/// Five seconds of an allocation: what it carried, and how well that came.
#[derive(Default, Serialize)]
pub(super) struct Figures {
    rate_to_peer: u32,
    rate_to_client: u32,
    loss_client: Option<f64>,
    loss_peer: Option<f64>,
    jitter_client_s: Option<f64>,
    jitter_peer_s: Option<f64>,
}

impl From<&Sample> for Figures {
    fn from(sample: &Sample) -> Self {
        let [rate_to_peer, rate_to_client] = sample.rates;
        let [loss_client, loss_peer] = sample.loss();
        let [jitter_client_s, jitter_peer_s] = sample.jitter();
        Self {
            rate_to_peer,
            rate_to_client,
            loss_client,
            loss_peer,
            jitter_client_s,
            jitter_peer_s,
        }
    }
}

impl Row {
    /// What is so now, and what was in the last seconds.
    pub(super) fn new(session: &Session, recent: Recent) -> Self {
        let view = &session.view;
        let Usage { to_peer, to_client } = view.usage;
        let Recent { last, spark, in_kernel } = recent;
        Self {
            id: session.id().to_string(),
            user: format!("{:016x}", view.user.0),
            client: view.client.client.socket().to_string(),
            transport: view.transport.name(),
            relayed: view.relayed.iter().flatten().map(ToString::to_string).collect(),
            age_s: view.age.as_secs(),
            expires_in_s: view.expires_in.as_secs(),
            permissions: view.permissions,
            channels: view.channels,
            bytes_to_peer: to_peer.bytes,
            bytes_to_client: to_client.bytes,
            packets_to_peer: to_peer.packets,
            packets_to_client: to_client.packets,
            packets_in_kernel: view.beside,
            relayed_by: if in_kernel { "kernel" } else { "relay" },
            figures: last.as_ref().map(Figures::from).unwrap_or_default(),
            spark,
        }
    }
}

/// One page.
pub(super) async fn page(
    State(desk): State<Desk>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(wanted) = wanted.map_err(Problem::of_query)?;
    let limit = wanted.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        let wrong = format!("limit={limit}: a page has 1 to {LONGEST_PAGE} allocations");
        return Err(Problem::bad_request(wrong));
    }
    let begin = wanted.begin()?;
    Ok(Json(desk.look(move |desk| desk.page(begin, limit)).await?))
}

impl Desk {
    fn page(&self, begin: Begin, limit: usize) -> Option<Page> {
        let sessions;
        let total;
        let mut next = None;
        match begin {
            Begin::First(sort) => {
                self.watch.attend();
                let (first, all) = self.watch.first(sort, limit);
                sessions = self.observer.these(&first)?;
                // What ended since it was looked at is not there any more.
                total = all - (first.len() - sessions.len());
            }
            Begin::Behind(behind) => {
                sessions = self.observer.page(behind, limit)?;
                let alive = self.observer.published().sum.allocations;
                total = usize::try_from(alive).unwrap_or(usize::MAX);
                next = sessions.last().filter(|_| sessions.len() == limit).map(Session::id);
            }
        }
        let row = |session: &Session| Row::new(session, self.watch.recent(session.id()));
        let allocations = sessions.iter().map(row).collect();
        Some(Page { allocations, next: next.map(|id| id.to_string()), total })
    }
}
