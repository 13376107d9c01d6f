//! The door of operators: metrics and health over HTTP, in TLS if that is configured.
//!
//! One look at the workers is taken at a time, whatever the number of visitors.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use guard::tls::Tls;
use guard::{Access, Denied};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::visits::{self, ACCEPT_PAUSE, HEAD_TIMEOUT, Visits};
use crate::config::Metrics;
use crate::service::Observer;
use crate::telemetry::exposition;

/// What is behind the door.
#[derive(Debug)]
pub(super) struct Desk {
    observer: Observer,
    metrics: Metrics,
    access: RwLock<Access>,
    looks: Arc<Semaphore>,
}

impl Desk {
    /// One with the access that the configuration grants.
    pub(super) fn new(observer: Observer, metrics: Metrics) -> Self {
        let access = RwLock::new(metrics.access.clone());
        Self { observer, metrics, access, looks: Arc::new(Semaphore::new(1)) }
    }

    /// Changes who may come in.
    pub(super) fn grant(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = access;
    }

    fn tls(&self) -> Option<Tls> {
        self.access.read().unwrap_or_else(PoisonError::into_inner).tls().cloned()
    }

    fn judge(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let value = |name| headers.get(name).map(HeaderValue::as_bytes);
        let (host, token) = (value(header::HOST), value(header::AUTHORIZATION));
        self.access.read().unwrap_or_else(PoisonError::into_inner).judge(host, token)
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
    let mut visits = Visits::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => visits.begin(visit(stream, desk.tls(), router.clone())),
            Err(error) => {
                tracing::warn!("no connection for metrics can be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Not a byte of HTTP is read of who fails the handshake.
async fn visit(stream: TcpStream, tls: Option<Tls>, router: Router) {
    let Some(tls) = tls else { return visits::answer(stream, router).await };
    match timeout(HEAD_TIMEOUT, TlsAcceptor::from(tls.config()).accept(stream)).await {
        Ok(Ok(stream)) => visits::answer(stream, router).await,
        Ok(Err(error)) => tracing::debug!("no handshake with a visitor of metrics: {error}"),
        Err(_) => tracing::debug!("no handshake with a visitor of metrics: too slow"),
    }
}

/// Only those who may know get further; health is everybody's, as a load balancer has no token.
async fn admit(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let verdict = desk.judge(request.headers());
    let open = request.uri().path() != "/metrics";
    match verdict {
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
