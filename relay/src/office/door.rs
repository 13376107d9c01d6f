//! Metrics and health over HTTP.
//!
//! One look at the workers is taken at a time, whatever the number of visitors.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use guard::{Denied, NAMELESS};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::entry::Entry;
use super::guestbook::Place;
use super::visits;
use crate::config::Metrics;
use crate::service::Observer;
use crate::telemetry::exposition;

/// What is behind the door.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) entry: Arc<Entry>,
    observer: Observer,
    metrics: Metrics,
    looks: Arc<Semaphore>,
}

impl Desk {
    /// One with the access that the configuration grants.
    pub(super) fn new(observer: Observer, metrics: Metrics) -> Self {
        let page = observer.guestbook().page(Place::Metrics);
        let entry = Arc::new(Entry::new(page, metrics.access.clone(), observer.clone()));
        Self { entry, observer, metrics, looks: Arc::new(Semaphore::new(1)) }
    }

    /// Does what waits for the workers, once at a time.
    async fn look<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.looks).acquire_owned().await.ok()?;
        let look = move || {
            // Whoever asked may leave meanwhile; the turn ends with the look all the same.
            let _turn = turn;
            work(&self)
        };
        spawn_blocking(look).await.ok()
    }
}

/// Serves visitors for ever.
pub(super) async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(Arc::clone(&desk), admit))
        .with_state(Arc::clone(&desk));
    Arc::clone(&desk.entry).serve(listener, router).await;
}

/// Only those who may know get further; health is everybody's, as a load balancer has no token.
async fn admit(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let verdict = desk.entry.judge(&request);
    let open = request.uri().path() != "/metrics";
    if verdict.is_ok() && !open {
        visits::grant(&request);
    }
    match verdict {
        Err(Denied::Nameless) => (StatusCode::BAD_REQUEST, format!("{NAMELESS}\n")).into_response(),
        Err(Denied::Host) => (
            StatusCode::MISDIRECTED_REQUEST,
            "this name is not in metrics.hosts; addresses and localhost always are\n",
        )
            .into_response(),
        Err(Denied::Token) if !open => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            "the token of metrics.token_file is needed\n",
        )
            .into_response(),
        Ok(()) | Err(Denied::Token) => next.run(request).await,
    }
}

async fn healthz(State(desk): State<Arc<Desk>>) -> impl IntoResponse {
    match desk.look(|desk| desk.observer.is_healthy()).await {
        Some(true) => (StatusCode::OK, "ok\n"),
        Some(false) | None => (StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer\n"),
    }
}

async fn readyz(State(desk): State<Arc<Desk>>) -> impl IntoResponse {
    if desk.observer.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(desk): State<Arc<Desk>>) -> Response {
    let scrape = |desk: &Desk| exposition::render(&desk.observer.scrape(), &desk.metrics);
    match desk.look(scrape).await {
        Some(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
