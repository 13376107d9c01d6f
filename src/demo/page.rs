//! The page: a WebRTC call in the browser through the same relay, with figures from both sides.
//!
//! Static text, compiled in, beside a small JSON API: credentials (asked from the credential
//! service on the page's behalf, so that the bearer key stays here), the relay's live
//! allocations, and what the call at start showed. Nothing is stored and nothing is loaded from
//! elsewhere; the policy in every answer forbids it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use proto::turn::tally::Flow;
use relay::{Observer, Session};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use super::services::{Minter, Services};
use super::{Finding, host};
use crate::clock;
use crate::failure::Failure;

/// Where the page is unless told otherwise.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// How long the page's credentials are good, in seconds.
const LIFETIME_S: u64 = 3600;

/// Headers of every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "microphone=(self), camera=()"),
];

/// A bound socket, not yet serving.
pub(super) struct Page {
    listener: TcpListener,
    address: SocketAddr,
    moved_from: Option<u16>,
}

/// What requests see.
struct Desk {
    minter: Minter,
    observer: Observer,
    about: Value,
    opened: Instant,
}

impl Page {
    /// Takes the address; it is insisted on when given.
    pub(super) fn bind(wanted: Option<SocketAddr>) -> Result<Self, Failure> {
        let insist = wanted.is_some();
        let wanted = wanted.unwrap_or(ADDRESS);
        let bound = host::tcp_listener(wanted, insist)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .and_then(|listener| listener.local_addr().map(|address| (listener, address)));
        let (listener, address) =
            bound.map_err(|error| Failure::setup(format!("--page {wanted}: {error}")))?;
        let moved = wanted.port() != 0 && address.port() != wanted.port();
        Ok(Self { listener, address, moved_from: moved.then_some(wanted.port()) })
    }

    /// Which port it did not get, in words.
    pub(super) fn moved(&self) -> Option<String> {
        let wanted = self.moved_from?;
        Some(format!("TCP port {wanted} is in use here; taking {} instead", self.address.port()))
    }

    /// What to open in a browser.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Serves until SIGINT or SIGTERM.
    pub(super) fn serve_until_told(
        self,
        services: &Services,
        finding: &Finding,
    ) -> Result<(), Failure> {
        let desk = Arc::new(Desk {
            minter: services.minter().clone(),
            observer: services.observer(),
            about: about(services, finding),
            opened: clock::now().mono,
        });
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Failure::job)?;
        let outcome = runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            tokio::select! {
                served = axum::serve(listener, router(desk)) => served,
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        });
        runtime.shutdown_background();
        outcome.map_err(|error| Failure::job(format!("the page: {error}")))
    }
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/", text("text/html; charset=utf-8", include_str!("page.html")))
        .route("/page.css", text("text/css; charset=utf-8", include_str!("page.css")))
        .route("/page.js", text("text/javascript; charset=utf-8", include_str!("page.js")))
        .route("/plot.js", text("text/javascript; charset=utf-8", include_str!("plot.js")))
        .route("/media.js", text("text/javascript; charset=utf-8", include_str!("media.js")))
        .route("/api/credentials", post(credentials))
        .route("/api/sessions", get(sessions))
        .route("/api/about", get(about_page))
        .layer(from_fn(around))
        .with_state(desk)
}

/// Serves a text that never changes.
fn text(kind: &'static str, body: &'static str) -> MethodRouter<Arc<Desk>> {
    get(move || async move { ([(header::CONTENT_TYPE, kind)], body) })
}

/// Around every request: who may ask, and the headers of every answer.
async fn around(request: Request, next: Next) -> Response {
    let mut response = if is_ours(request.headers()) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "This page answers to its own address only.\n").into_response()
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a request comes from this page or from no page. A foreign site could otherwise point
/// a name of its own at this address and read credentials (DNS rebinding), or have them minted.
fn is_ours(headers: &HeaderMap) -> bool {
    let value = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = value(header::HOST);
    let names_no_site = host.is_some_and(|host| {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() || name == "localhost"
    });
    let origin = value(header::ORIGIN);
    let same_origin = origin.is_none_or(|origin| origin.strip_prefix("http://") == host);
    names_no_site && same_origin
}

/// A fresh credential for each call, so that quotas count calls, not browsers.
async fn credentials(State(desk): State<Arc<Desk>>) -> Response {
    let minted = spawn_blocking(move || {
        let id = getrandom::u64().map_err(|error| error.to_string())?;
        desk.minter.mint(&format!("page-{id:016x}"), LIFETIME_S)
    });
    match minted.await {
        Ok(Ok(configuration)) => Json(configuration).into_response(),
        Ok(Err(error)) => trouble(&error),
        Err(error) => trouble(&error.to_string()),
    }
}

async fn sessions(State(desk): State<Arc<Desk>>) -> Response {
    let look = spawn_blocking(move || {
        let sessions: Vec<Value> = desk.observer.sessions().iter().map(session_json).collect();
        let at_ms = clock::now().mono.saturating_duration_since(desk.opened).as_secs_f64() * 1e3;
        let dropped: u64 = desk.observer.tally().dropped.iter().sum();
        json!({ "at_ms": at_ms, "dropped": dropped, "sessions": sessions })
    });
    match look.await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => trouble(&error.to_string()),
    }
}

async fn about_page(State(desk): State<Arc<Desk>>) -> Response {
    Json(&desk.about).into_response()
}

fn trouble(message: &str) -> Response {
    (StatusCode::BAD_GATEWAY, Json(json!({ "error": message }))).into_response()
}

/// What stays the same while the page is served.
fn about(services: &Services, finding: &Finding) -> Value {
    let outcome = &finding.outcome;
    let milliseconds = |share| outcome.round_trip(share).map(|trip| trip.as_secs_f64() * 1e3);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "server": services.server().to_string(),
        "listeners": services.listeners(),
        "metrics": services.metrics_addr().map(|address| format!("http://{address}/metrics")),
        "self_call": {
            "perfect": finding.is_perfect(),
            "packets": outcome.there.sent + outcome.back.sent,
            "lost": outcome.there.lost + outcome.back.lost,
            "altered": outcome.there.altered + outcome.back.altered,
            "round_trip_ms": milliseconds(0.5),
        },
    })
}

/// An allocation as the page reads it: addresses, times in milliseconds, counters since it began.
fn session_json(session: &Session) -> Value {
    let view = &session.view;
    let flow = |flow: Flow| json!({ "packets": flow.packets, "bytes": flow.bytes });
    let relayed: Vec<String> = view.relayed.iter().flatten().map(ToString::to_string).collect();
    json!({
        "worker": session.worker,
        "client": view.client.client.socket().to_string(),
        "transport": view.transport.name(),
        "relayed": relayed,
        "age_ms": view.age.as_secs_f64() * 1e3,
        "expires_in_ms": view.expires_in.as_secs_f64() * 1e3,
        "permissions": view.permissions,
        "channels": view.channels,
        "to_peer": flow(view.usage.to_peer),
        "to_client": flow(view.usage.to_client),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::addr::{AllocationId, ClientAddr, FiveTuple, ListenerId, Transport};
    use proto::policy::UserKey;
    use proto::policy::bandwidth::Pressure;
    use proto::turn::tally::{AllocationView, Usage};

    use super::*;

    #[test]
    fn a_session_has_the_members_the_page_reads() {
        let flow = |packets| Flow { packets, bytes: packets * 100 };
        let view = AllocationView {
            id: AllocationId { slot: 1, generation: 2 },
            client: FiveTuple {
                listener: ListenerId(0),
                client: ClientAddr::new("192.0.2.7:4000".parse().unwrap()),
            },
            transport: Transport::Udp,
            user: UserKey(7),
            relayed: [Some("192.0.2.1:50000".parse().unwrap()), None],
            age: Duration::from_millis(1500),
            expires_in: Duration::from_secs(600),
            permissions: 1,
            channels: 1,
            usage: Usage { to_peer: flow(3), to_client: flow(4) },
            beside: 0,
            pressure: Pressure::default(),
            media: None,
        };
        assert_eq!(
            session_json(&Session { worker: 1, view }),
            json!({
                "worker": 1,
                "client": "192.0.2.7:4000",
                "transport": "udp",
                "relayed": ["192.0.2.1:50000"],
                "age_ms": 1500.0,
                "expires_in_ms": 600_000.0,
                "permissions": 1,
                "channels": 1,
                "to_peer": { "packets": 3, "bytes": 300 },
                "to_client": { "packets": 4, "bytes": 400 },
            })
        );
    }

    #[test]
    fn only_the_page_itself_and_programs_are_answered() {
        for (case, host, origin, answered) in [
            ("a program", Some("127.0.0.1:8080"), None, true),
            ("the page", Some("127.0.0.1:8080"), Some("http://127.0.0.1:8080"), true),
            ("by name", Some("localhost:8080"), Some("http://localhost:8080"), true),
            ("IPv6", Some("[::1]:8080"), Some("http://[::1]:8080"), true),
            ("a foreign page", Some("127.0.0.1:8080"), Some("http://evil.example"), false),
            ("a page of another port", Some("127.0.0.1:8080"), Some("http://127.0.0.1:9"), false),
            ("a page from a file", Some("127.0.0.1:8080"), Some("null"), false),
            ("a foreign name for us", Some("evil.example:8080"), None, false),
            ("the same, whole", Some("evil.example"), Some("http://evil.example"), false),
            ("no host at all", None, None, false),
        ] {
            let mut headers = HeaderMap::new();
            let mut add = |name: HeaderName, value: Option<&'static str>| {
                value.map(|value| headers.insert(name, HeaderValue::from_static(value)));
            };
            add(header::HOST, host);
            add(header::ORIGIN, origin);
            assert_eq!(is_ours(&headers), answered, "{case}");
        }
    }

    #[test]
    fn the_page_loads_nothing_but_what_is_served_here() {
        let all = [
            include_str!("page.html"),
            include_str!("page.css"),
            include_str!("page.js"),
            include_str!("plot.js"),
            include_str!("media.js"),
        ];
        for text in all {
            for address in text.match_indices("://").map(|(at, _)| &text[at.saturating_sub(5)..]) {
                // The namespace of SVG inside the icon is a name, not an address.
                assert!(address.contains("://www.w3.org/2000/svg"), "{address:.60}");
            }
        }
    }
}
