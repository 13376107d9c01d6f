//! Control by operators of this host: the API on a unix socket.
//!
//! The mode of its file says who may come; whoever came may do everything.

use axum::Router;
use tokio::net::UnixListener;

use super::guestbook::Page;
use super::visits::{self, Visits};

/// Serves visitors for ever.
pub(super) async fn serve(listener: UnixListener, router: Router, page: Page) {
    let mut visits = Visits::new(page.clone());
    let router = visits::counting(router, page.clone());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                visits.begin(visits::answer(stream, router.clone(), page.clone()));
            }
            Err(error) => visits.rest(&error).await,
        }
    }
}
