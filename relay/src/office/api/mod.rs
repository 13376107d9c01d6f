//! What operators can ask and do, in HTTP and JSON: one router for every door that leads here.
//!
//! The doors decide who may come and what they may do ([control](mod@super::control), [admin](super::admin)); behind
//! them all are equal. Workers are asked through their inboxes, one request at a time; nothing here
//! is on the way of a packet. What is refused is told as RFC 9457 has it.

mod allocation;
mod allocations;
mod capture;
mod events;
mod explain;
mod growing;
mod openapi;
mod orders;
mod overview;
mod page;
mod problem;
mod state;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::levers::Levers;
use super::watch::Watch;
use crate::clock;
use crate::service::Observer;
pub(super) use events::Seats;
use events::Wire;
#[cfg(test)]
pub(super) use growing::growing;
pub(super) use page::is_asset;
pub(super) use problem::Problem;

/// What is behind the doors.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    observer: Observer,
    watch: Watch,
    levers: Levers,
    /// What this host is called.
    node: Arc<str>,
    wire: Arc<Wire>,
    looks: Arc<Semaphore>,
}

impl Desk {
    /// One for all doors.
    pub(super) fn new(observer: Observer, watch: Watch, levers: Levers, node: &str) -> Self {
        let looks = Arc::new(Semaphore::new(1));
        let wire = Arc::new(Wire::new(&observer));
        Self { observer, watch, levers, node: node.into(), wire, looks }
    }

    /// Does what waits for the workers, once at a time.
    async fn look<T: Send + 'static>(
        self,
        work: impl FnOnce(&Self) -> Option<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let silent = || {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer; see /healthz")
        };
        let turn = Arc::clone(&self.looks).acquire_owned().await.map_err(|_| silent())?;
        let look = move || {
            // Whoever asked may leave meanwhile; the turn ends with the look all the same.
            let _turn = turn;
            work(&self)
        };
        spawn_blocking(look).await.ok().flatten().ok_or_else(silent)
    }
}

impl Desk {
    /// When the relay began, in milliseconds of Unix time as its wall clock is now.
    fn begun_ms(&self) -> u64 {
        let uptime = u64::try_from(self.observer.uptime().as_millis()).unwrap_or(u64::MAX);
        clock::unix_ms().saturating_sub(uptime)
    }
}

/// A time since the relay began, in milliseconds of Unix time.
fn time_ms(begun_ms: u64, at: Duration) -> u64 {
    begun_ms.saturating_add(u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
}

/// Every resource of the API; `deploy/openapi.json` describes them.
fn routes() -> Vec<(&'static str, MethodRouter<Desk>)> {
    vec![
        ("/v1/openapi.json", get(openapi::document)),
        ("/v1/state", get(state::state)),
        ("/v1/overview", get(overview::overview)),
        ("/v1/samples", get(overview::samples)),
        ("/v1/allocations", get(allocations::page)),
        ("/v1/allocations/{id}", get(allocation::detail).delete(allocation::end)),
        ("/v1/events", get(events::events)),
        ("/v1/explain", get(explain::explain)),
        ("/v1/reasons", get(explain::reasons)),
        ("/v1/allocations/{id}/capture", post(capture::capture)),
        ("/v1/drain", post(orders::drain)),
        ("/v1/reload", post(orders::reload)),
    ]
}

/// Everything there is.
pub(super) fn router(desk: Desk) -> Router {
    let page = page::routes(Router::new());
    let all = routes().into_iter().fold(page, |router, (path, method)| router.route(path, method));
    all.fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is no such resource") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method")
        })
        .layer(from_fn(without_body))
        .with_state(desk)
}

/// No request here needs a body, so none is read.
async fn without_body(request: Request, next: Next) -> Response {
    if !request.body().is_end_stream() {
        let detail = "requests here have no body; whatever they say stands in the path";
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    let mut response = next.run(request.map(|_| Body::empty())).await;
    // What is so now is told; the page alone says otherwise of itself.
    let fresh = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(fresh);
    let plain = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, plain);
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_has_the_paths_that_are_served() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        let described = document["paths"].as_object().unwrap().keys().map(String::as_str);
        let served: BTreeSet<_> = routes().iter().map(|(path, _)| *path).collect();
        assert_eq!(described.collect::<BTreeSet<_>>(), served);
    }
}
