//! `/v1/drain` and `/v1/reload`: what signals do, for operators who send none.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Desk, Problem};

/// As the first SIGTERM.
pub(super) async fn drain(State(desk): State<Desk>) -> (StatusCode, Json<Value>) {
    desk.levers.drain();
    let deadline = desk.observer.config().drain.as_secs();
    (StatusCode::ACCEPTED, Json(json!({"draining": true, "deadline_s": deadline})))
}

/// As SIGHUP, with the outcome.
pub(super) async fn reload(State(desk): State<Desk>) -> Result<Json<Value>, Problem> {
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
