//! The door of operators on TCP, in TLS if that is configured: who may come in, whatever is behind.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use axum::Router;
use axum::extract::Request;
use guard::descriptors::{Accepting, Exhausted};
use guard::http::HEAD_TIMEOUT;
use guard::tls::Tls;
use guard::{Access, Denied};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::guestbook::{Page, Refusal};
use super::visits::{self, Visitor, Visits};
use crate::service::Observer;

/// One door. Its access may change while it is open.
#[derive(Debug)]
pub(super) struct Entry {
    page: Page,
    access: RwLock<Access>,
    observer: Observer,
}

impl Entry {
    /// One with the access that the configuration grants.
    pub(super) fn new(page: Page, access: Access, observer: Observer) -> Self {
        Self { page, access: RwLock::new(access), observer }
    }

    /// Changes who may come in.
    pub(super) fn grant(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = access;
    }

    /// Judges a request by its head.
    pub(super) fn judge(&self, request: &Request) -> Result<(), Denied> {
        self.access().judge(request)
    }

    /// Who may come in, now.
    pub(super) fn access(&self) -> RwLockReadGuard<'_, Access> {
        self.access.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves visitors for ever.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener, router: Router) {
        let mut visits = Visits::new(self.page.clone());
        let mut accepting = Accepting::new(self.page.place());
        let router = visits::counting(router, self.page.clone());
        loop {
            match accepting.next(listener.accept()).await {
                Ok(Some((stream, from))) => {
                    let tls = self.access().tls().cloned();
                    if tls.is_some() && !self.observer.lets_shake_hands(from) {
                        self.page.refused(Refusal::Handshakes);
                        continue;
                    }
                    let (router, page) = (router.clone(), self.page.clone());
                    visits.begin(|visitor| visit(stream, tls, (router, page), visitor));
                }
                Ok(None) => {}
                Err(Exhausted) => self.page.refused(Refusal::Unaccepted),
            }
        }
    }
}

/// Not a byte of HTTP is read of who fails the handshake.
async fn visit(
    stream: TcpStream,
    tls: Option<Tls>,
    (router, page): (Router, Page),
    visitor: Visitor,
) {
    let Some(tls) = tls else { return visits::answer(stream, router, page, visitor).await };
    let why = match timeout(HEAD_TIMEOUT, TlsAcceptor::from(tls.config()).accept(stream)).await {
        Ok(Ok(stream)) => return visits::answer(stream, router, page, visitor).await,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "too slow".to_owned(),
    };
    tracing::debug!("no handshake with a visitor of {}: {why}", page.place());
    page.refused(Refusal::Handshake);
}
