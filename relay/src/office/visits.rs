//! Visits of operators: HTTP over whatever brings them, a few at a time.
//!
//! Nobody holds a door: a head that drips, a connection that idles and an answer that is not read
//! have deadlines, and where all places are taken the oldest visitor leaves for the newest.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Visitors at a time.
const VISITORS: usize = 32;

/// For the head of a request, and for a handshake; also how long a visitor may say nothing.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// For a visit as a whole; scrapers connect again.
const VISIT_TIMEOUT: Duration = Duration::from_secs(300);

/// Longest head of a request, in bytes.
const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// After a failed accept, because descriptors need time to come free.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is inside.
#[derive(Default)]
pub(super) struct Visits(VecDeque<AbortHandle>);

impl Visits {
    /// Lets a visitor in.
    pub(super) fn begin(&mut self, visit: impl Future<Output = ()> + Send + 'static) {
        self.0.retain(|visit| !visit.is_finished());
        if self.0.len() >= VISITORS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(tokio::spawn(visit).abort_handle());
    }
}

/// Answers the requests of one visitor.
pub(super) async fn answer<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT_BYTES);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    // An error is the visitor's doing: it went away, was too slow, or does not speak HTTP.
    drop(timeout(VISIT_TIMEOUT, connection).await);
}
