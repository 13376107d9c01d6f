//! Visits of operators: HTTP over whatever brings them, a few at a time.
//!
//! Nobody holds a door: a head that drips, a connection that idles and an answer that is not read
//! have deadlines, and where all places are taken the oldest visitor leaves for the newest.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use guard::http::{self, BrokenHead, Wording};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::api::Problem;

/// Visitors at a time.
const VISITORS: usize = 32;

/// For a visit as a whole; scrapers connect again.
const VISIT_TIMEOUT: Duration = Duration::from_secs(300);

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
    let service = TowerToHyperService::new(router);
    http::serve(stream, service, sleep(VISIT_TIMEOUT), refuse).await;
}

fn refuse(broken: BrokenHead) -> Wording {
    tracing::debug!("a visitor is refused: {}", broken.words());
    Problem::new(broken.status(), broken.words()).wording()
}
