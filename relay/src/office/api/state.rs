//! `/v1/state`: what this relay is, and how it is doing in one line.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Desk, Problem};

/// Answers.
pub(super) async fn state(State(desk): State<Desk>) -> Result<Json<Value>, Problem> {
    let (observer, node) = (desk.observer.clone(), desk.node.clone());
    let tally = desk.look(|desk| Some(desk.observer.tally())).await?;
    let listeners = observer.config().listeners.iter();
    let listeners: Vec<_> = listeners
        .map(|it| json!({"address": it.local, "transport": it.transport.name(), "side": it.side.name()}))
        .collect();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": &*node,
        "uptime_s": observer.uptime().as_secs(),
        "draining": observer.is_draining(),
        "workers": observer.config().workers,
        "allocations": tally.allocations,
        "listeners": listeners,
    })))
}
