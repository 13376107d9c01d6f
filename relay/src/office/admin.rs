//! The door of operators who come over TCP, with a browser for instance: the API behind proofs.
//!
//! Who reaches it on loopback may read, as may who shows a certificate; elsewhere reading wants the
//! token, but for the page itself, which asks for it. What changes something wants the token
//! everywhere, so that a page in somebody's browser cannot end calls: no browser sends a header of
//! another site's script unasked. Nor may such a page ask for anything else: it could not read the
//! answers, but use up what others need.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use guard::tls::Tls;
use guard::{Denied, NAMELESS};
use tokio::net::TcpListener;

use super::api::{Problem, Seats, is_asset};
use super::entry::Entry;
use super::guestbook::Page;
use super::visits;
use crate::config::Admin;
use crate::service::Observer;

/// The door, and whether who is not known may look in.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) entry: Arc<Entry>,
    local: bool,
}

impl Door {
    /// One with the access that the configuration grants.
    pub(super) fn new(config: &Admin, page: Page, observer: Observer) -> Self {
        let entry = Entry::new(page, config.access.clone(), observer);
        Self { entry: Arc::new(entry), local: !guard::needs_proof(config.address) }
    }

    /// Judges a request; what is wrong with it, if anything.
    fn judge(&self, request: &Request) -> Result<(), Problem> {
        let known = match self.entry.judge(request) {
            Err(Denied::Nameless) => {
                return Err(Problem::new(StatusCode::BAD_REQUEST, NAMELESS));
            }
            Err(Denied::Host) => {
                let detail = "this name is not in admin.hosts; addresses and localhost always are";
                return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
            }
            Err(Denied::Token) => false,
            Ok(()) => true,
        };
        let access = self.entry.access();
        if request.uri().path().starts_with("/v1/") && access.is_asked_elsewhere(request) {
            let detail = "a page of another site asks for this; only the page of this door may, \
                          and programs that are no browsers";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            let certified = access.tls().is_some_and(Tls::knows_clients);
            let open = self.local || is_asset(request.uri().path());
            return if known || certified || open { Ok(()) } else { Err(unknown()) };
        }
        if !access.has_token() {
            let detail = "what changes something wants a token, and none is configured here: set \
                          admin.token_file, or use the control socket of the host";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        if known { Ok(()) } else { Err(unknown()) }
    }
}

fn unknown() -> Problem {
    let detail = "the token of admin.token_file is needed, as Authorization: Bearer TOKEN";
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// Serves visitors for ever.
pub(super) async fn serve(listener: TcpListener, door: Arc<Door>, router: Router) {
    let router = router.layer(from_fn_with_state(Arc::clone(&door), admit));
    let router = router.layer(Extension(Seats::new()));
    Arc::clone(&door.entry).serve(listener, router).await;
}

async fn admit(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match door.judge(&request) {
        Ok(()) => {
            if !is_asset(request.uri().path()) {
                visits::grant(&request);
            }
            next.run(request).await
        }
        Err(problem) => {
            let mut response = problem.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let bearer = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
            }
            response
        }
    }
}
