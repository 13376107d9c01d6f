//! Control by operators of this host: HTTP and JSON on a unix socket.
//!
//! The mode of its file says who may come; whoever came may do everything. Workers are asked
//! through their inboxes, one request at a time; nothing here is on the way of a packet. What is
//! refused is told as RFC 9457 has it.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::levers::Levers;
use super::visits::{self, ACCEPT_PAUSE, Visits};
use crate::service::Observer;
use crate::session::{Session, SessionId};

/// Allocations of a page, unless fewer are asked for.
const PAGE: usize = 100;

/// The longest page.
const LONGEST_PAGE: usize = 1_000;

/// What is behind the socket.
#[derive(Clone, Debug)]
struct Desk {
    observer: Observer,
    levers: Levers,
    looks: Arc<Semaphore>,
}

impl Desk {
    /// Does what waits for the workers, once at a time.
    async fn look<T: Send + 'static>(
        self,
        work: impl FnOnce(&Observer) -> Option<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let silent = || {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer; see /healthz")
        };
        let turn = self.looks.acquire_owned().await.map_err(|_| silent())?;
        let look = move || {
            // Whoever asked may leave meanwhile; the turn ends with the look all the same.
            let _turn = turn;
            work(&self.observer)
        };
        spawn_blocking(look).await.ok().flatten().ok_or_else(silent)
    }
}

/// Serves visitors for ever.
pub(super) async fn serve(listener: UnixListener, observer: Observer, levers: Levers) {
    let desk = Desk { observer, levers, looks: Arc::new(Semaphore::new(1)) };
    let router = Router::new()
        .route("/v1/state", get(state))
        .route("/v1/allocations", get(allocations))
        .route("/v1/allocations/{id}", delete(end))
        .route("/v1/drain", post(drain))
        .route("/v1/reload", post(reload))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is no such resource") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method")
        })
        .layer(from_fn(without_body))
        .with_state(desk);
    let mut visits = Visits::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => visits.begin(visits::answer(stream, router.clone())),
            Err(error) => {
                tracing::warn!("no connection for control can be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What is refused, and why.
struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}

/// No request here needs a body, so none is read.
async fn without_body(request: Request, next: Next) -> Response {
    if !request.body().is_end_stream() {
        let detail = "requests here have no body; whatever they say stands in the path";
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    next.run(request.map(|_| Body::empty())).await
}

async fn state(State(desk): State<Desk>) -> Result<Json<Value>, Problem> {
    let observer = desk.observer.clone();
    let tally = desk.look(|observer| Some(observer.tally())).await?;
    let listeners = observer.config().listeners.iter();
    let listeners: Vec<_> = listeners
        .map(|it| json!({"address": it.local, "transport": it.transport.name(), "side": it.side.name()}))
        .collect();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": observer.uptime().as_secs(),
        "draining": observer.is_draining(),
        "workers": observer.config().workers,
        "allocations": tally.allocations,
        "listeners": listeners,
    })))
}

/// Which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
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

async fn allocations(
    State(desk): State<Desk>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(Wanted { behind, limit }) = wanted.map_err(|error| bad(error.body_text()))?;
    let limit = limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(bad(format!("limit={limit}: a page has 1 to {LONGEST_PAGE} allocations")));
    }
    let behind = behind.map(|text| id_of(&text)).transpose()?;
    let page = desk.look(move |observer| observer.page(behind, limit)).await?;
    let next = page.last().filter(|_| page.len() == limit).map(|it| it.id().to_string());
    let rows: Vec<_> = page.iter().map(Row::from).collect();
    Ok(Json(json!({"allocations": rows, "next": next})))
}

async fn end(State(desk): State<Desk>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let id = id_of(&id)?;
    if desk.look(move |observer| observer.end(id)).await? {
        tracing::info!(allocation = %id, "ended by an operator");
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::new(StatusCode::NOT_FOUND, format!("no allocation {id}: it is over")))
    }
}

fn id_of(text: &str) -> Result<SessionId, Problem> {
    let wrong = "not the name of an allocation, which is WORKER-SLOT-GENERATION";
    text.parse().map_err(|()| Problem::new(StatusCode::BAD_REQUEST, wrong))
}

async fn drain(State(desk): State<Desk>) -> (StatusCode, Json<Value>) {
    desk.levers.drain();
    let deadline = desk.observer.config().drain.as_secs();
    (StatusCode::ACCEPTED, Json(json!({"draining": true, "deadline_s": deadline})))
}

async fn reload(State(desk): State<Desk>) -> Result<Json<Value>, Problem> {
    let (answer, outcome) = oneshot::channel();
    let busy = |_| {
        Problem::new(StatusCode::CONFLICT, "the configuration is being read already; ask again")
    };
    desk.levers.reload(answer).map_err(busy)?;
    let gone = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the relay ends");
    let waiting = outcome.await.map_err(gone)?.map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{error} What is in force stays."))
    })?;
    Ok(Json(json!({"reloaded": true, "waiting_for_restart": waiting})))
}
