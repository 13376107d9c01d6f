//! Refusals: what the caller hears, and what is counted.
//!
//! Handlers return `Result<_, Refusal>`; the one place that makes an answer of a refusal is here.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use guard::http::Wording;
use serde_json::json;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Why {
    /// No bearer key.
    MissingKey,
    /// A key that is nobody's.
    WrongKey,
    /// Too many failures from this client's network.
    TooManyFailures,
    /// The caller asks more often than it may.
    CallerRate,
    /// The body is no JSON of the right shape.
    BadBody,
    /// The parameters of the TURN REST form are wrong.
    BadParameters,
    /// The user id cannot be put into a user name.
    BadUser,
    /// Zero, or more than the maximum.
    BadLifetime,
    /// More than [`crate::web::BODY_LIMIT_BYTES`].
    BodyTooLarge,
    /// A body of another type.
    MediaType,
    /// The request did not arrive in time.
    Timeout,
    /// No such resource.
    NotFound,
    /// The resource does not take this method.
    Method,
    /// The request is for a host of another name.
    Host,
    /// The head of the request is not HTTP/1.1.
    BadHead,
    /// The head of the request is too long.
    HeadTooLarge,
}

impl Why {
    /// Every variant, in order of its index.
    pub(crate) const ALL: [Self; 16] = [
        Self::MissingKey,
        Self::WrongKey,
        Self::TooManyFailures,
        Self::CallerRate,
        Self::BadBody,
        Self::BadParameters,
        Self::BadUser,
        Self::BadLifetime,
        Self::BodyTooLarge,
        Self::MediaType,
        Self::Timeout,
        Self::NotFound,
        Self::Method,
        Self::Host,
        Self::BadHead,
        Self::HeadTooLarge,
    ];

    /// Stable name: `error` of the answer and label of the metric.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MissingKey => "missing_key",
            Self::WrongKey => "wrong_key",
            Self::TooManyFailures => "too_many_failures",
            Self::CallerRate => "caller_rate",
            Self::BadBody => "bad_body",
            Self::BadParameters => "bad_parameters",
            Self::BadUser => "bad_user",
            Self::BadLifetime => "bad_lifetime",
            Self::BodyTooLarge => "body_too_large",
            Self::MediaType => "media_type",
            Self::Timeout => "timeout",
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::Host => "host",
            Self::BadHead => "bad_head",
            Self::HeadTooLarge => "head_too_large",
        }
    }

    /// The status of the answer.
    fn status(self) -> StatusCode {
        match self {
            Self::MissingKey | Self::WrongKey => StatusCode::UNAUTHORIZED,
            Self::TooManyFailures | Self::CallerRate => StatusCode::TOO_MANY_REQUESTS,
            Self::BadBody
            | Self::BadParameters
            | Self::BadUser
            | Self::BadLifetime
            | Self::BadHead => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }

    /// The challenge that a 401 must carry (RFC 9110 §11.6.1, RFC 6750 §3).
    fn challenge(self) -> Option<&'static str> {
        match self {
            Self::MissingKey => Some("Bearer realm=\"av-edge\""),
            Self::WrongKey => Some("Bearer realm=\"av-edge\", error=\"invalid_token\""),
            _ => None,
        }
    }
}

/// A refusal with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The reason, which fixes the status.
    pub(crate) why: Why,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// With what the caller should know.
    pub(crate) fn new(why: Why, message: impl Into<String>) -> Self {
        Self { why, message: message.into(), retry_after: None }
    }

    /// One that time heals.
    pub(crate) fn until(why: Why, wait: Duration, message: impl Into<String>) -> Self {
        Self { retry_after: Some(wait), ..Self::new(why, message) }
    }

    /// The body of the answer.
    pub(crate) fn wording(&self) -> Wording {
        let body = json!({ "error": self.why.name(), "message": self.message });
        Wording { kind: "application/json", body: body.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Wording { kind, body } = self.wording();
        let kind = [(header::CONTENT_TYPE, kind)];
        let mut response = (self.why.status(), kind, body).into_response();
        if let Some(challenge) = self.why.challenge() {
            let value = HeaderValue::from_static(challenge);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        // Telemetry reads it from the response, so that nothing is refused uncounted.
        response.extensions_mut().insert(self.why);
        response
    }
}
