//! Connections: accepted within limits, secured, served, and ended in time.
//!
//! Nobody holds a connection by being slow: the TLS handshake, each request's head, each request
//! and the connection as a whole have deadlines that dripping bytes do not extend. Nor does
//! anybody hold a door: where it is full, who has shown nothing leaves first ([`crate::crowd`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use guard::descriptors::{Accepting, Exhausted};
use guard::http::{self, BrokenHead, Wording};
use guard::tls::Tls;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::config::{Connections, SCRAPERS};
use crate::crowd::{Crowd, Seat, TooMany};
use crate::limits::Network;
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

/// Which door it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Api,
    Metrics,
    Mras,
}

impl Place {
    /// Every door, in order.
    pub(crate) const ALL: [Self; 3] = [Self::Api, Self::Metrics, Self::Mras];

    /// The label of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Metrics => "metrics",
            Self::Mras => "mras",
        }
    }
}

impl Door {
    /// Serves until told to stop, then lets the answers under way finish.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) {
        let (place, telemetry) = (self.behind.place(), &self.shared.telemetry);
        let (crowd, mut accepting) = (Crowd::default(), Accepting::new(place.name()));
        let mut tasks = JoinSet::new();
        let told = stop.clone();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(_) = tasks.join_next() => {}
                came = accepting.next(self.listener.accept()) => {
                    telemetry.accepting_pauses(place, accepting.is_paused());
                    match came {
                        Ok(Some((stream, peer))) => {
                            if let Err(why) = self.admit(stream, peer, &crowd, (&mut tasks, &told)) {
                                telemetry.turned_away(why);
                            }
                        }
                        Ok(None) => {}
                        Err(Exhausted) => telemetry.turned_away(TooMany::Exhausted),
                    }
                }
            }
        }
        drop(self.listener);
        while tasks.join_next().await.is_some() {}
    }

    /// Starts the task of a connection, if there is a place for it.
    fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        crowd: &Crowd,
        (tasks, stop): (&mut JoinSet<()>, &watch::Receiver<bool>),
    ) -> Result<(), TooMany> {
        let live = self.shared.live();
        let (bounds, tls): (Connections, _) = match (&self.behind, &live.config.mras) {
            (Behind::Api(_), _) => (live.config.connections, live.config.tls.clone()),
            (Behind::Monitoring(_), _) => (SCRAPERS, live.config.access.tls().map(Tls::config)),
            (Behind::Mras, Some(mras)) => (mras.connections, mras.tls.clone()),
            (Behind::Mras, None) => return Ok(()),
        };
        let whence = (!live.is_proxy(peer.ip())).then(|| Network::of(peer.ip()));
        let may_shake = || match whence {
            Some(client) if tls.is_some() && !self.shared.lets_shake(client) => {
                Err(TooMany::Handshakes)
            }
            _ => Ok(()),
        };
        let (seat, left) = crowd.admit(whence, bounds, may_shake)?;
        for why in left {
            self.shared.telemetry.turned_away(why);
        }
        let tls = tls.map(TlsAcceptor::from);
        let (shared, behind, stop) = (Arc::clone(&self.shared), self.behind.clone(), stop.clone());
        let whose = Arc::clone(&seat);
        let task = tasks.spawn(async move {
            let _counted = Counted::of(&shared);
            match tls {
                None => behind.serve(stream, (peer, None), (&shared, whose), stop).await,
                Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let own = stream.get_ref().1.peer_certificates();
                        let own = own.and_then(<[_]>::first).map(|own| own.clone().into_owned());
                        behind.serve(stream, (peer, own), (&shared, whose), stop).await;
                    }
                    Ok(Err(_)) | Err(_) => shared.telemetry.tls_failed(),
                },
            }
        });
        seat.is_served_by(task);
        Ok(())
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
    fn place(&self) -> Place {
        match self {
            Self::Api(_) => Place::Api,
            Self::Monitoring(_) => Place::Metrics,
            Self::Mras => Place::Mras,
        }
    }

    /// Serves a connection of a peer, who may have shown a certificate.
    async fn serve<S>(
        self,
        stream: S,
        (peer, certificate): (SocketAddr, Option<CertificateDer<'static>>),
        (shared, seat): (&Shared, Arc<Seat>),
        stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            Self::Api(router) | Self::Monitoring(router) => {
                // No certificate gets through the handshake but one that is known.
                if certificate.is_some() {
                    seat.is_known();
                }
                answer(stream, Peer { addr: peer, seat: Some(seat) }, router, (shared, stop)).await;
            }
            Self::Mras => {
                let live = shared.live();
                let Some(mras) = &live.config.mras else { return };
                let server = match certificate {
                    None => Some(Server::Local(Network::of(peer.ip()))),
                    Some(certificate) => {
                        let name = name_among(&certificate, &mras.trusted_servers);
                        name.map(|name| {
                            seat.is_known();
                            Server::Named(name.into())
                        })
                    }
                };
                // No name: the configuration changed during the handshake.
                let Some(server) = server else { return };
                drop(live);
                connection::serve(stream, server, (shared, &seat), stop).await;
            }
        }
    }
}

/// Answers the requests of one connection.
async fn answer<S>(
    stream: S,
    peer: Peer,
    router: Router,
    (shared, mut stop): (&Shared, watch::Receiver<bool>),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
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
