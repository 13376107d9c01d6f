//! Control by operators of this host: the API on a unix socket.
//!
//! The mode of its file says who may come; whoever came may do everything.

use axum::Router;
use tokio::net::UnixListener;
use tokio::time::sleep;

use super::visits::{self, ACCEPT_PAUSE, Visits};

/// Serves visitors for ever.
pub(super) async fn serve(listener: UnixListener, router: Router) {
    let mut visits = Visits::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => visits.begin(visits::answer(stream, router.clone())),
            Err(error) => {
                tracing::warn!("no connection for control can be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
