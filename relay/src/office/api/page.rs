//! The page that operators see in a browser: fixed texts, compiled in, that ask the API beside them.
//!
//! Nothing in them is secret, so they come before any token: the page asks for it. Nothing is loaded
//! from elsewhere, and the policy in every answer forbids it.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ring::digest::{SHA256, digest};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, kind, text.
const ASSETS: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("../page/index.html")),
    ("/page.css", STYLE, include_str!("../page/page.css")),
    ("/page.js", SCRIPT, include_str!("../page/page.js")),
    ("/allocation.js", SCRIPT, include_str!("../page/allocation.js")),
    ("/api.js", SCRIPT, include_str!("../page/api.js")),
    ("/ask.js", SCRIPT, include_str!("../page/ask.js")),
    ("/entries.js", SCRIPT, include_str!("../page/entries.js")),
    ("/events.js", SCRIPT, include_str!("../page/events.js")),
    ("/explain.js", SCRIPT, include_str!("../page/explain.js")),
    ("/format.js", SCRIPT, include_str!("../page/format.js")),
    ("/overview.js", SCRIPT, include_str!("../page/overview.js")),
    ("/plot.js", SCRIPT, include_str!("../page/plot.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
];

/// Headers of every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-cache"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Whether a path is of the page.
pub(in crate::office) fn is_asset(path: &str) -> bool {
    ASSETS.iter().any(|(own, ..)| *own == path)
}

/// Serves the page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    ASSETS.iter().fold(router, |router, &(path, kind, text)| {
        let tag: Arc<str> = tag(text).into();
        let asset = move |headers: HeaderMap| {
            let tag = Arc::clone(&tag);
            async move { answer(&headers, &tag, kind, text) }
        };
        router.route(path, get(asset))
    })
}

/// Changes with the text.
fn tag(text: &str) -> String {
    let sum = digest(&SHA256, text.as_bytes());
    let (first, _) = sum.as_ref().as_chunks();
    let first = first.first().copied().unwrap_or_default();
    format!("\"{:016x}\"", u64::from_be_bytes(first))
}

fn answer(headers: &HeaderMap, tag: &str, kind: &'static str, text: &'static str) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).map(HeaderValue::as_bytes);
    let mut response = if known == Some(tag.as_bytes()) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, kind)], text).into_response()
    };
    let own = HEADERS.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(own);
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
