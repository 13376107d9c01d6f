//! Visits of operators: HTTP over whatever brings them, a few at a time.
//!
//! Nobody holds a door: a head that drips, a connection that idles and an answer that is not read
//! have deadlines, and where all places are taken a visitor leaves for the newest: the oldest that
//! was granted nothing yet, else the oldest that asks for nothing. Who reads a stream that was
//! granted stays. Who is refused stands in the [`super::guestbook`].

use std::collections::VecDeque;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::map_response;
use axum::response::Response;
use guard::http::{self, BrokenHead, Wording};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::{Service, service_fn};
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

/// Who is inside.
pub(super) struct Visits {
    inside: VecDeque<(AbortHandle, Visitor)>,
    page: Page,
}

impl Visits {
    /// Nobody is.
    pub(super) fn new(page: Page) -> Self {
        Self { inside: VecDeque::new(), page }
    }

    /// Lets a visitor in, if there is a place or somebody who leaves it.
    pub(super) fn begin<V>(&mut self, visit: impl FnOnce(Visitor) -> V)
    where
        V: Future<Output = ()> + Send + 'static,
    {
        self.inside.retain(|(visit, _)| !visit.is_finished());
        if self.inside.len() >= VISITORS {
            self.page.refused(Refusal::Crowded);
            // Of several that matter as little, the first is the oldest.
            let ranks = self.inside.iter().map(|(_, visitor)| visitor.rank()).enumerate();
            let Some((least, rank)) = ranks.min_by_key(|(_, rank)| *rank) else { return };
            if rank == Rank::Streaming {
                return;
            }
            if let Some((visit, _)) = self.inside.remove(least) {
                visit.abort();
            }
        }
        let visitor = Visitor::default();
        let task = tokio::spawn(visit(visitor.clone())).abort_handle();
        self.inside.push_back((task, visitor));
    }
}

/// How much it would matter if a visitor left for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nothing was granted to it.
    Stranger,
    /// It asks for nothing.
    Idle,
    /// An answer is on its way.
    Asking,
    /// It reads what is told as it happens, or captures.
    Streaming,
}

/// Somebody inside, as those who decide about requests know it.
#[derive(Clone, Debug, Default)]
pub(super) struct Visitor(Arc<Standing>);

#[derive(Debug, Default)]
struct Standing {
    known: AtomicBool,
    asking: AtomicBool,
    streaming: AtomicBool,
}

impl Visitor {
    fn rank(&self) -> Rank {
        let is = |what: &AtomicBool| what.load(Ordering::Relaxed);
        let Standing { known, asking, streaming } = &*self.0;
        match (is(known), is(streaming), is(asking)) {
            (false, ..) => Rank::Stranger,
            (true, true, _) => Rank::Streaming,
            (true, false, true) => Rank::Asking,
            (true, false, false) => Rank::Idle,
        }
    }

    fn asks(&self) {
        self.0.asking.store(true, Ordering::Relaxed);
    }

    /// An answer of unknown length is one that grows.
    fn is_told(&self, body: Body) -> Told {
        let streaming = body.size_hint().exact().is_none();
        self.0.streaming.store(streaming, Ordering::Relaxed);
        Told { body, visitor: self.clone() }
    }

    fn is_done(&self) {
        self.0.asking.store(false, Ordering::Relaxed);
        self.0.streaming.store(false, Ordering::Relaxed);
    }
}

/// Who sent a request may have what it asks for, which not everybody may.
pub(super) fn grant(request: &Request) {
    if let Some(visitor) = request.extensions().get::<Visitor>() {
        visitor.0.known.store(true, Ordering::Relaxed);
    }
}

/// The body of an answer; the visitor has it when this is dropped.
struct Told {
    body: Body,
    visitor: Visitor,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.visitor.is_done();
    }
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
pub(super) async fn answer<S>(stream: S, router: Router, page: Page, visitor: Visitor)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let visitor = visitor.clone();
        visitor.asks();
        request.extensions_mut().insert(visitor.clone());
        let answer = router.call(request);
        async move { answer.await.map(|response| response.map(|body| visitor.is_told(body))) }
    });
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::runtime::Builder;
    use tokio::task::yield_now;

    use super::super::guestbook::{Guestbook, Place};
    use super::*;

    /// A full house, and those in it.
    fn full() -> (Visits, Vec<Visitor>, Guestbook) {
        let book = Guestbook::default();
        let mut visits = Visits::new(book.page(Place::Admin));
        for _ in 0..VISITORS {
            visits.begin(|_| pending());
        }
        let visitors = visits.inside.iter().map(|(_, visitor)| visitor.clone()).collect();
        (visits, visitors, book)
    }

    /// Who is no longer there when somebody has come, and whether that one is.
    async fn one_comes(visits: &mut Visits, visitors: &[Visitor]) -> (Vec<usize>, bool) {
        let mut newest = None;
        visits.begin(|visitor| {
            newest = Some(visitor);
            pending()
        });
        yield_now().await;
        let is_in = |one: &Visitor| visits.inside.iter().any(|(_, it)| Arc::ptr_eq(&it.0, &one.0));
        let left = visitors.iter().enumerate().filter(|(_, one)| !is_in(one));
        (left.map(|(number, _)| number).collect(), newest.is_some_and(|newest| is_in(&newest)))
    }

    fn run(test: impl Future<Output = ()>) {
        Builder::new_current_thread().build().unwrap().block_on(test);
    }

    fn is(what: &AtomicBool) {
        what.store(true, Ordering::Relaxed);
    }

    #[test]
    fn sec_009_who_was_granted_nothing_leaves_first_and_of_those_the_oldest() {
        run(async {
            let (mut visits, visitors, book) = full();
            for known in [0, 1, 3] {
                is(&visitors[known].0.known);
            }
            // Asking makes nobody known.
            visitors[2].asks();
            assert_eq!(one_comes(&mut visits, &visitors).await, (vec![2], true));
            assert_eq!(one_comes(&mut visits, &visitors).await, (vec![2, 4], true));
            let crowded = |(_, why, count)| (why == Refusal::Crowded).then_some(count);
            assert_eq!(book.counts().filter_map(crowded).sum::<u64>(), 2);
        });
    }

    #[test]
    fn sec_009_where_all_are_known_the_oldest_idle_one_leaves_and_streams_stay() {
        run(async {
            let (mut visits, visitors, _) = full();
            for visitor in &visitors {
                is(&visitor.0.known);
            }
            for stream in &visitors[..VISITORS - 2] {
                is(&stream.0.streaming);
            }
            let (asking, idle) = (VISITORS - 2, VISITORS - 1);
            visitors[asking].asks();
            assert_eq!(one_comes(&mut visits, &visitors).await, (vec![idle], true));
            let newest = visits.inside.back().map(|(_, it)| it.clone()).unwrap();
            is(&newest.0.known);
            is(&newest.0.streaming);
            assert_eq!(one_comes(&mut visits, &visitors).await, (vec![asking, idle], true));
            let newest = visits.inside.back().map(|(_, it)| it.clone()).unwrap();
            is(&newest.0.known);
            is(&newest.0.streaming);
            let (left, came) = one_comes(&mut visits, &visitors).await;
            assert_eq!((left, came), (vec![asking, idle], false), "all are streams");
        });
    }

    #[test]
    fn an_answer_that_grows_is_a_stream_until_it_is_over() {
        let visitor = Visitor::default();
        is(&visitor.0.known);
        for (body, rank) in [
            (Body::from("a whole"), Rank::Asking),
            (Body::empty(), Rank::Asking),
            (super::super::api::growing(|_| Poll::Pending), Rank::Streaming),
        ] {
            visitor.asks();
            let told = visitor.is_told(body);
            assert_eq!(visitor.rank(), rank);
            drop(told);
            assert_eq!(visitor.rank(), Rank::Idle);
        }
    }
}
