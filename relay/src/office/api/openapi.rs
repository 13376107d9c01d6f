//! `/v1/openapi.json`: this API, described.

use axum::http::header;
use axum::response::IntoResponse;

/// The document; tests compare it with the routes and with answers of a relay.
pub(super) const DOCUMENT: &str = include_str!("../../../../deploy/openapi.json");

/// Shows it.
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}
