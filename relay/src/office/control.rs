//! Control by operators of this host: the API on a unix socket.
//!
//! The mode of its file says who may come; whoever came may do everything.

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Extension, Router};
use guard::descriptors::{Accepting, Exhausted};
use tokio::net::UnixListener;

use super::api::Seats;
use super::guestbook::{Page, Refusal};
use super::visits::{self, Visits};

/// Serves visitors for ever.
pub(super) async fn serve(listener: UnixListener, router: Router, page: Page) {
    let mut visits = Visits::new(page.clone());
    let mut accepting = Accepting::new(page.place());
    let router = router.layer(from_fn(welcome)).layer(Extension(Seats::new()));
    let router = visits::counting(router, page.clone());
    loop {
        match accepting.next(listener.accept()).await {
            Ok(Some((stream, _))) => visits
                .begin(|visitor| visits::answer(stream, router.clone(), page.clone(), visitor)),
            Ok(None) => {}
            Err(Exhausted) => page.refused(Refusal::Unaccepted),
        }
    }
}

async fn welcome(request: Request, next: Next) -> Response {
    visits::grant(&request);
    next.run(request).await
}
