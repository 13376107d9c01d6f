//! Connections: accepted within limits, secured, served, and ended in time.
//!
//! Nobody holds a connection by being slow: the TLS handshake, each request's head, each request
//! and the connection as a whole have deadlines that dripping bytes do not extend.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::config::Connections;
use crate::limits::{Network, OpenConnections};
use crate::shared::Shared;
use crate::web::Peer;

/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// For the head of a request; also how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// For a connection as a whole; callers connect again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);

/// For the answer under way when a connection or the service ends.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest head of a request, in bytes.
const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// After a failed accept, because descriptors need time to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One listening socket and what is behind it.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    pub(crate) shared: Arc<Shared>,
    /// Whether this is the callers' door, with the configured limits and certificate.
    pub(crate) callers: bool,
}

/// What the door of the metrics takes: a few scrapers.
const SCRAPERS: Connections = Connections { total: 64, per_client: 16 };

impl Door {
    /// Serves until told to stop, then lets the answers under way finish.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) {
        let open = OpenConnections::default();
        let mut tasks = JoinSet::new();
        let told = stop.clone();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(_) = tasks.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer, &open, (&mut tasks, &told)),
                    Err(error) => {
                        tracing::warn!("no connection can be accepted: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        while tasks.join_next().await.is_some() {}
    }

    /// Starts the task of a connection, if the limits allow another.
    fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        open: &OpenConnections,
        (tasks, stop): (&mut JoinSet<()>, &watch::Receiver<bool>),
    ) {
        let live = self.shared.live();
        let Connections { total, mut per_client } =
            if self.callers { live.config.connections } else { SCRAPERS };
        if live.is_proxy(peer.ip()) {
            per_client = total;
        }
        let ticket = match open.open(Network::of(peer.ip()), total, per_client) {
            Ok(ticket) => ticket,
            Err(why) => return self.shared.telemetry.turned_away(why),
        };
        let tls = live.config.tls.clone().filter(|_| self.callers).map(TlsAcceptor::from);
        let (shared, router, stop) = (Arc::clone(&self.shared), self.router.clone(), stop.clone());
        tasks.spawn(async move {
            shared.telemetry.opened();
            match tls {
                None => answer(stream, peer, router, stop).await,
                Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => answer(stream, peer, router, stop).await,
                    Ok(Err(_)) | Err(_) => shared.telemetry.tls_failed(),
                },
            }
            shared.telemetry.closed();
            drop(ticket);
        });
    }
}

/// Answers the requests of one connection.
async fn answer<S>(stream: S, peer: SocketAddr, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT_BYTES);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // An error is the client's doing: it went away, or it does not speak HTTP.
        _ = connection.as_mut() => return,
        () = sleep(CONNECTION_TIMEOUT) => {}
        () = stopped(&mut stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER_TIMEOUT, connection).await;
}

/// Waits until the service is told to stop, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The answer borrows the value; it must not be held over an await.
    let _ = stop.wait_for(|&stop| stop).await.map(|_| ());
}
