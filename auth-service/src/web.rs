//! The HTTP API: what is asked, what is answered.
//!
//! `POST /v1/credentials` takes and gives JSON, shaped as WebRTC's `RTCConfiguration`; `/turn` is
//! the TURN REST form of draft-uberti-behave-turn-rest-00. Callers are applications' servers:
//! there is no CORS, so no browser script can read an answer. Every answer says `no-store`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use guard::{Denied, NAMELESS};
use proto::addr::Side;
use proto::auth::Trace;
use proto::policy::bandwidth::BYTES_PER_KBIT;
use proto::policy::{Rates, SealedLimits, SealedPeers, ranges};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::callers::CallerId;
use crate::clock;
use crate::crowd::Seat;
use crate::mint::{Minted, Wish, mint};
use crate::refusal::{Refusal, Why};
use crate::shared::{Live, Shared, bearer};
use crate::tokens::tokens;

/// Longest body of a request, in bytes.
pub(crate) const BODY_LIMIT_BYTES: usize = 4096;

/// A request's body must have arrived and been answered by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a request comes from; the listener puts it into each.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    /// The place of its connection.
    pub(crate) seat: Option<Arc<Seat>>,
}

/// What callers speak to.
pub(crate) fn api(shared: &Arc<Shared>) -> Router {
    let routes = Router::new()
        .route("/v1/credentials", post(credentials))
        .route("/v1/tokens", post(tokens))
        .route("/turn", get(turn_rest).post(turn_rest))
        .route("/healthz", get(health))
        .route("/readyz", get(ready));
    finish(routes, shared)
}

/// What a monitoring system speaks to.
pub(crate) fn monitoring(shared: &Arc<Shared>) -> Router {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .layer(from_fn_with_state(Arc::clone(shared), visit));
    finish(routes, shared)
}

fn finish(routes: Router<Arc<Shared>>, shared: &Arc<Shared>) -> Router {
    routes
        .fallback(|| async { Refusal::new(Why::NotFound, "no such resource") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(Why::Method, "this resource does not take that method; see Allow")
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .layer(from_fn_with_state(Arc::clone(shared), around))
        .with_state(Arc::clone(shared))
}

/// Around every request: the time limit, the headers of every answer, the metrics.
async fn around(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let start = clock::now().mono;
    let mut response = match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::new(Why::Timeout, "the request did not arrive in time").into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let refused = response.extensions().get::<Why>().copied();
    shared.telemetry.answered(refused, clock::now().mono.saturating_duration_since(start));
    response
}

async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    if shared.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response()
    }
}

/// Only those who may know get further; health is everybody's, as a load balancer has no token.
async fn visit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let open = request.uri().path() != "/metrics";
    let live = shared.live();
    let verdict = live.config.access.judge(&request);
    if verdict.is_ok() && live.config.access.has_token() {
        known(&request);
    }
    drop(live);
    match verdict {
        Err(Denied::Nameless) => Refusal::new(Why::BadHead, NAMELESS).into_response(),
        Err(Denied::Host) => {
            let words = "this name is not in metrics.hosts; addresses and localhost always are";
            Refusal::new(Why::Host, words).into_response()
        }
        Err(Denied::Token) if !open => {
            Refusal::new(Why::MissingKey, "the token of metrics.token_file is needed")
                .into_response()
        }
        Ok(()) | Err(Denied::Token) => next.run(request).await,
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shared.telemetry.render()).into_response()
}

/// A side, as callers write it.
fn side<'de, D: Deserializer<'de>>(found: D) -> Result<Option<Side>, D::Error> {
    let name = Option::<String>::deserialize(found)?;
    name.map(|name| name.parse().map_err(de::Error::custom)).transpose()
}

/// Body of `POST /v1/credentials` and `POST /v1/tokens`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Of credentials alone: a token names nobody.
    pub(crate) user: Option<String>,
    pub(crate) lifetime_s: Option<u64>,
    #[serde(default, deserialize_with = "side")]
    pub(crate) side: Option<Side>,
    allocations: Option<NonZeroU32>,
    kbit_per_s: Option<NonZeroU32>,
    packets_per_s: Option<NonZeroU64>,
    #[serde(default)]
    peers: Vec<String>,
    #[serde(default)]
    ports: Vec<String>,
    traceparent: Option<String>,
}

impl Asked {
    /// Of a request's body.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body)
            .map_err(|error| Refusal::new(Why::BadBody, format!("the body: {error}")))
    }

    pub(crate) fn limits(&self) -> SealedLimits {
        let bytes = self.kbit_per_s.map(NonZeroU64::from);
        let bytes = bytes.and_then(|kbit| kbit.checked_mul(BYTES_PER_KBIT));
        SealedLimits {
            allocations: self.allocations.map(NonZeroU32::get),
            rates: Rates { bytes, packets: self.packets_per_s },
        }
    }

    /// The trace that the caller names.
    pub(crate) fn trace(&self) -> Result<Option<Trace>, Refusal> {
        let read = |text: &String| {
            text.parse().map_err(|error| {
                Refusal::new(Why::BadBody, format!("the body: `traceparent`: {error}"))
            })
        };
        self.traceparent.as_ref().map(read).transpose()
    }

    pub(crate) fn peers(&self) -> Result<SealedPeers, Refusal> {
        let wrong = |text: &str, what: &str| {
            Refusal::new(Why::BadBody, format!("the body: {text:?} is not {what}"))
        };
        let range = |text: &String| {
            ranges::addresses(text)
                .ok_or_else(|| wrong(text, "a range of addresses, such as 10.0.0.0/8"))
        };
        let ports = |text: &String| {
            ranges::ports(text).ok_or_else(|| wrong(text, "ports, such as 53 or 1024-65535"))
        };
        Ok(SealedPeers {
            ranges: self.peers.iter().map(range).collect::<Result<_, _>>()?,
            ports: self.ports.iter().map(ports).collect::<Result<_, _>>()?,
        })
    }
}

/// Answer of `POST /v1/credentials`: an `RTCConfiguration` with two members more, which browsers
/// ignore.
#[derive(Serialize)]
struct RtcConfiguration<'a> {
    #[serde(rename = "iceServers")]
    ice_servers: [IceServer<'a>; 1],
    /// Seconds since 1970.
    expires: u64,
    /// Seconds.
    ttl: u64,
}

#[derive(Serialize)]
struct IceServer<'a> {
    urls: Vec<&'a str>,
    username: &'a str,
    credential: &'a str,
}

async fn credentials(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, Refusal> {
    let live = shared.live();
    let caller = admit(&shared, &live, &request, None)?;
    if !has_type(request.headers(), "application/json") {
        return Err(Refusal::new(Why::MediaType, "send Content-Type: application/json"));
    }
    let body = Bytes::from_request(request, &())
        .await
        .map_err(|error| body_refusal(error.status(), &error.body_text(), Why::BadBody))?;
    let wanted = Asked::read(&body)?;
    let side = wanted.side;
    let (limits, peers, trace) = (wanted.limits(), wanted.peers()?, wanted.trace()?);
    let missing = || Refusal::new(Why::BadBody, "the body: missing field `user`");
    let user = Some(wanted.user.ok_or_else(missing)?);
    let wish = Wish { lifetime_s: wanted.lifetime_s, side, limits, peers, user, trace };
    let minted = mint_for(&live, caller, wish)?;
    let credential = &minted.credential;
    Ok(Json(RtcConfiguration {
        ice_servers: [IceServer {
            urls: live.config.issue.uris.of(side),
            username: &credential.username,
            credential: &credential.password,
        }],
        expires: minted.expires.0,
        ttl: minted.ttl_s,
    })
    .into_response())
}

/// Parameters of the TURN REST form; others are ignored, as the draft lets them grow.
#[derive(Debug, Default, Deserialize)]
struct TurnRestRequest {
    service: Option<String>,
    username: Option<String>,
    key: Option<String>,
    ttl: Option<u64>,
    #[serde(default, deserialize_with = "side")]
    side: Option<Side>,
}

/// Answer of the TURN REST form (§2.2 of the draft).
#[derive(Serialize)]
struct TurnRestAnswer<'a> {
    username: &'a str,
    password: &'a str,
    /// Seconds.
    ttl: u64,
    uris: Vec<&'a str>,
}

async fn turn_rest(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, Refusal> {
    let live = shared.live();
    let query = Query::<TurnRestRequest>::try_from_uri(request.uri());
    let key = query.as_ref().ok().and_then(|query| query.key.as_deref());
    let caller = admit(&shared, &live, &request, key)?;
    let form = request.method() == Method::POST
        && has_type(request.headers(), "application/x-www-form-urlencoded");
    let wanted = if form {
        let form = Form::<TurnRestRequest>::from_request(request, &()).await;
        form.map_err(|error| body_refusal(error.status(), &error.body_text(), Why::BadParameters))?
            .0
    } else {
        query.map_err(|error| Refusal::new(Why::BadParameters, error.body_text()))?.0
    };
    if wanted.service.as_deref() != Some("turn") {
        return Err(Refusal::new(Why::BadParameters, "service=turn is needed"));
    }
    let side = wanted.side;
    let user = wanted.username.filter(|user| !user.is_empty());
    let (limits, peers) = (SealedLimits::default(), SealedPeers::default());
    let wish = Wish { user, lifetime_s: wanted.ttl, side, limits, peers, trace: None };
    let minted = mint_for(&live, caller, wish)?;
    Ok(Json(TurnRestAnswer {
        username: &minted.credential.username,
        password: &minted.credential.password,
        ttl: minted.ttl_s,
        uris: live.config.issue.uris.of(side),
    })
    .into_response())
}

/// The caller of a request. A bearer key counts before a `key` parameter.
pub(crate) fn admit(
    shared: &Shared,
    live: &Live,
    request: &Request,
    parameter: Option<&str>,
) -> Result<CallerId, Refusal> {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let peer = request.extensions().get::<Peer>();
    let client: IpAddr = live.client(peer.map_or(nowhere, |peer| peer.addr), request.headers());
    shared.admit(live, client, bearer(request.headers()).or(parameter), || {
        known(request);
    })
}

/// Whoever sent a request is no stranger: nobody ends its connection for others.
fn known(request: &Request) {
    if let Some(seat) = request.extensions().get::<Peer>().and_then(|peer| peer.seat.as_ref()) {
        seat.is_known();
    }
}

/// Mints and counts.
fn mint_for(live: &Live, caller: CallerId, wish: Wish) -> Result<Minted, Refusal> {
    let side = wish.side;
    let minted = mint(&live.config.issue, wish, clock::now().unix)?;
    if let Some(counters) = live.counters.get(caller.index()) {
        counters.minted(side);
    }
    Ok(minted)
}

/// Whether the body is of this type, whatever its parameters.
pub(crate) fn has_type(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(wanted))
}

/// The refusal of a body that cannot be taken.
pub(crate) fn body_refusal(status: StatusCode, text: &str, otherwise: Why) -> Refusal {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let message = format!("a body may have at most {BODY_LIMIT_BYTES} bytes");
        return Refusal::new(Why::BodyTooLarge, message);
    }
    Refusal::new(otherwise, text)
}
