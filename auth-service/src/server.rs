//! Connections: accepted within limits, secured, served, and ended in time.
//!
//! Nobody holds a connection by being slow: the TLS handshake, each request's head, each request
//! and the connection as a whole have deadlines that dripping bytes do not extend.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use guard::http::{self, BrokenHead, Wording};
use guard::tls::Tls;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::config::Connections;
use crate::limits::{Network, OpenConnections, TooMany};
use crate::mras::connection;
use crate::mras::issue::Server;
use crate::mras::trust::name_among;
use crate::refusal::{Refusal, Why};
use crate::shared::Shared;
use crate::web::Peer;

/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// For a connection as a whole; callers connect again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);

/// After a failed accept, because descriptors need time to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One listening socket and what is behind it.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) behind: Behind,
    pub(crate) shared: Arc<Shared>,
}

/// Who speaks at a door, and how.
#[derive(Clone)]
pub(crate) enum Behind {
    /// Callers, with the configured limits and certificate.
    Api(Router),
    /// A few scrapers of metrics.
    Monitoring(Router),
    /// Trusted servers, in SIP, with limits and certificate of their own.
    Mras,
}

/// What the door of the metrics takes: a few scrapers.
const SCRAPERS: Connections = Connections { total: 64, per_client: 64 };

/// From so many on, the oldest scraper leaves for the newest: nobody holds that door by idling.
const MANY_SCRAPERS: usize = 48;

impl Door {
    /// Serves until told to stop, then lets the answers under way finish.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) {
        let open = OpenConnections::default();
        let mut tasks = JoinSet::new();
        let mut scrapers = VecDeque::new();
        let told = stop.clone();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(_) = tasks.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let visit = self.admit(stream, peer, &open, (&mut tasks, &told));
                        if let Behind::Monitoring(_) = self.behind {
                            welcome(&mut scrapers, visit);
                        }
                    }
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
    ) -> Option<AbortHandle> {
        let live = self.shared.live();
        let (Connections { total, mut per_client }, tls) = match (&self.behind, &live.config.mras) {
            (Behind::Api(_), _) => (live.config.connections, live.config.tls.clone()),
            (Behind::Monitoring(_), _) => (SCRAPERS, live.config.access.tls().map(Tls::config)),
            (Behind::Mras, Some(mras)) => (mras.connections, mras.tls.clone()),
            (Behind::Mras, None) => return None,
        };
        if live.is_proxy(peer.ip()) {
            per_client = total;
        }
        let network = Network::of(peer.ip());
        let ticket = match open.open(network, total, per_client) {
            Ok(ticket) => ticket,
            Err(why) => {
                self.shared.telemetry.turned_away(why);
                return None;
            }
        };
        if tls.is_some() && !live.is_proxy(peer.ip()) && !self.shared.lets_shake(network) {
            self.shared.telemetry.turned_away(TooMany::Handshakes);
            return None;
        }
        let tls = tls.map(TlsAcceptor::from);
        let (shared, behind, stop) = (Arc::clone(&self.shared), self.behind.clone(), stop.clone());
        Some(tasks.spawn(async move {
            let _counted = Counted::of(&shared);
            match tls {
                None => behind.serve(stream, (peer, None), &shared, stop).await,
                Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let own = stream.get_ref().1.peer_certificates();
                        let own = own.and_then(<[_]>::first).map(|own| own.clone().into_owned());
                        behind.serve(stream, (peer, own), &shared, stop).await;
                    }
                    Ok(Err(_)) | Err(_) => shared.telemetry.tls_failed(),
                },
            }
            drop(ticket);
        }))
    }
}

/// Remembers a scraper, and has the oldest leave where there are many.
fn welcome(scrapers: &mut VecDeque<AbortHandle>, newest: Option<AbortHandle>) {
    scrapers.retain(|scraper| !scraper.is_finished());
    scrapers.extend(newest);
    if scrapers.len() > MANY_SCRAPERS
        && let Some(oldest) = scrapers.pop_front()
    {
        oldest.abort();
    }
}

/// A connection that is counted as long as it is open, however it ends.
struct Counted(Arc<Shared>);

impl Counted {
    fn of(shared: &Arc<Shared>) -> Self {
        shared.telemetry.opened();
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.telemetry.closed();
    }
}

impl Behind {
    /// Serves a connection of a peer, who may have shown a certificate.
    async fn serve<S>(
        self,
        stream: S,
        (peer, certificate): (SocketAddr, Option<CertificateDer<'static>>),
        shared: &Shared,
        stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            Self::Api(router) | Self::Monitoring(router) => {
                answer(stream, peer, router, (shared, stop)).await;
            }
            Self::Mras => {
                let live = shared.live();
                let Some(mras) = &live.config.mras else { return };
                let server = match certificate {
                    None => Some(Server::Local(Network::of(peer.ip()))),
                    Some(certificate) => {
                        let name = name_among(&certificate, &mras.trusted_servers);
                        name.map(|name| Server::Named(name.into()))
                    }
                };
                // No name: the configuration changed during the handshake.
                let Some(server) = server else { return };
                drop(live);
                connection::serve(stream, server, shared, stop).await;
            }
        }
    }
}

/// Answers the requests of one connection.
async fn answer<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    (shared, mut stop): (&Shared, watch::Receiver<bool>),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
    });
    let until = async {
        tokio::select! {
            () = sleep(CONNECTION_TIMEOUT) => {}
            () = stopped(&mut stop) => {}
        }
    };
    http::serve(stream, service, until, |broken| refuse(broken, shared)).await;
}

/// Words and counts the refusal of a request whose head never came to be one.
fn refuse(broken: BrokenHead, shared: &Shared) -> Wording {
    let why = match broken {
        BrokenHead::Malformed | BrokenHead::Cut | BrokenHead::Http2 => Why::BadHead,
        BrokenHead::TooLong => Why::HeadTooLarge,
        BrokenHead::TooSlow => Why::Timeout,
    };
    shared.telemetry.refused(why);
    Refusal::new(why, broken.words()).wording()
}

/// Waits until the service is told to stop, or is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The answer borrows the value; it must not be held over an await.
    let _ = stop.wait_for(|&stop| stop).await.map(|_| ());
}
