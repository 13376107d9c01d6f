//! Visits of operators: HTTP over whatever brings them, a few at a time.
//!
//! Nobody holds a door: a head that drips, a connection that idles and an answer that is not read
//! have deadlines, and where all places are taken the oldest visitor leaves for the newest. Who is
//! refused stands in the [`super::guestbook`].

use std::collections::VecDeque;
use std::time::Duration;
use std::{future, io};

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use guard::http::{self, BrokenHead, Wording};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::api::Problem;
use super::guestbook::{Page, Refusal};

/// Visitors at a time.
const VISITORS: usize = 32;

/// For a visit as a whole; scrapers connect again.
const VISIT_TIMEOUT: Duration = Duration::from_secs(300);

/// After a failed accept, because descriptors need time to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is inside.
pub(super) struct Visits {
    inside: VecDeque<AbortHandle>,
    page: Page,
}

impl Visits {
    /// Nobody is.
    pub(super) fn new(page: Page) -> Self {
        Self { inside: VecDeque::new(), page }
    }

    /// Lets a visitor in.
    pub(super) fn begin(&mut self, visit: impl Future<Output = ()> + Send + 'static) {
        self.inside.retain(|visit| !visit.is_finished());
        if self.inside.len() >= VISITORS
            && let Some(oldest) = self.inside.pop_front()
        {
            self.page.refused(Refusal::Crowded);
            oldest.abort();
        }
        self.inside.push_back(tokio::spawn(visit).abort_handle());
    }

    /// Waits, as a visitor could not be let in.
    pub(super) async fn rest(&self, error: &io::Error) {
        tracing::warn!(
            "no connection at the door of {} can be accepted: {error}",
            self.page.place()
        );
        self.page.refused(Refusal::Unaccepted);
        sleep(ACCEPT_PAUSE).await;
    }
}

/// What is behind a door, whose refusals are counted.
pub(super) fn counting(router: Router, page: Page) -> Router {
    let count = move |response: Response| {
        page.answered(response.status());
        future::ready(response)
    };
    router.layer(map_response(count))
}

/// Answers the requests of one visitor.
pub(super) async fn answer<S>(stream: S, router: Router, page: Page)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let refuse = |broken| refuse(broken, &page);
    if http::serve(stream, service, sleep(VISIT_TIMEOUT), refuse).await {
        page.refused(Refusal::Unread);
    }
}

fn refuse(broken: BrokenHead, page: &Page) -> Wording {
    tracing::debug!("a visitor of {} is refused: {}", page.place(), broken.words());
    page.answered(broken.status());
    Problem::new(broken.status(), broken.words()).wording()
}
