//! What is refused, and why (RFC 9457).

use axum::extract::rejection::QueryRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use guard::http::Wording;
use serde_json::json;

/// A refusal.
#[derive(Debug)]
pub(in crate::office) struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    /// With what is wrong and what to do, in words.
    pub(in crate::office) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// The words behind the question mark cannot be understood.
    #[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
    pub(super) fn of_query(error: QueryRejection) -> Self {
        Self::bad_request(error.body_text())
    }

    /// The request cannot be understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// What is said of it.
    pub(in crate::office) fn wording(&self) -> Wording {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        Wording { kind: "application/problem+json", body: body.to_string() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Wording { kind, body } = self.wording();
        (self.status, [(header::CONTENT_TYPE, kind)], body).into_response()
    }
}
