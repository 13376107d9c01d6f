//! `/v1/allocations`: who is served, a page at a time, and an end to one of them.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Desk, Problem};
use crate::session::{Session, SessionId};

/// Allocations of a page, unless fewer are asked for.
const PAGE: usize = 100;

/// The longest page.
const LONGEST_PAGE: usize = 1_000;

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    behind: Option<String>,
    limit: Option<usize>,
}

/// An allocation, in JSON.
#[derive(Serialize)]
struct Row {
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
}

impl From<&Session> for Row {
    fn from(session: &Session) -> Self {
        let view = &session.view;
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
            bytes_to_peer: view.usage.to_peer.bytes,
            bytes_to_client: view.usage.to_client.bytes,
        }
    }
}

/// One page.
pub(super) async fn page(
    State(desk): State<Desk>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(Wanted { behind, limit }) =
        wanted.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        let wrong = format!("limit={limit}: a page has 1 to {LONGEST_PAGE} allocations");
        return Err(Problem::bad_request(wrong));
    }
    let behind = behind.map(|text| id_of(&text)).transpose()?;
    let page = desk.look(move |observer| observer.page(behind, limit)).await?;
    let next = page.last().filter(|_| page.len() == limit).map(|it| it.id().to_string());
    let rows: Vec<_> = page.iter().map(Row::from).collect();
    Ok(Json(json!({"allocations": rows, "next": next})))
}

/// Ends one.
pub(super) async fn end(
    State(desk): State<Desk>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id_of(&id)?;
    if desk.look(move |observer| observer.end(id)).await? {
        tracing::info!(allocation = %id, "ended by an operator");
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::new(StatusCode::NOT_FOUND, format!("no allocation {id}: it is over")))
    }
}

/// The allocation of a name.
pub(super) fn id_of(text: &str) -> Result<SessionId, Problem> {
    let wrong = "not the name of an allocation, which is WORKER-SLOT-GENERATION";
    text.parse().map_err(|()| Problem::bad_request(wrong))
}
