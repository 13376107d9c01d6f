//! What hyper writes, told apart: answers of the service go out, its own words for a broken head do not.
//!
//! While an answer is made or on its way everything passes. When it has been flushed the next
//! thing written can only be another answer, which begins with a call of the service, or hyper's
//! own. In doubt the bytes pass.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::BrokenHead;

/// Every answer was sent, or none was asked for.
const IDLE: u8 = 0;

/// The service has been asked.
const ANSWERING: u8 = 1;

/// The answer is complete, but perhaps not sent.
const ANSWERED: u8 = 2;

/// How far the answer to the last request is.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    fn is(&self, step: u8) -> bool {
        self.0.load(Ordering::Relaxed) == step
    }

    fn go(&self, step: u8) {
        self.0.store(step, Ordering::Relaxed);
    }
}

/// A connection that keeps to itself what hyper says unasked.
pub(super) struct Line<S> {
    stream: S,
    progress: Progress,
    /// Whether a head has begun.
    heard: bool,
    /// The status that hyper would have answered.
    held: Option<StatusCode>,
}

impl<S> Line<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, progress: Progress::default(), heard: false, held: None }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Whether an answer is complete, and not all of it was sent.
    pub(super) fn is_unread(&self) -> bool {
        self.progress.is(ANSWERED)
    }

    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// What was wrong with the head at which the connection ended, if that was why, and nobody was told.
    pub(super) fn broken(&self, error: &hyper::Error) -> Option<BrokenHead> {
        if let Some(status) = self.held {
            return Some(BrokenHead::of_status(status));
        }
        if !self.progress.is(IDLE) || !self.heard {
            return None;
        }
        if error.is_parse_version_h2() {
            Some(BrokenHead::Http2)
        } else if error.is_timeout() {
            Some(BrokenHead::TooSlow)
        } else if error.is_incomplete_message() {
            Some(BrokenHead::Cut)
        } else {
            None
        }
    }

    /// Keeps what hyper says unasked; otherwise nothing.
    fn hold(&mut self, said: &[u8]) -> bool {
        if self.held.is_none() && self.progress.is(IDLE) {
            let status = said.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
            self.held = status.and_then(|status| StatusCode::from_bytes(status).ok());
        }
        self.held.is_some()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.progress.is(IDLE) && buffer.filled().len() > before {
            self.heard = true;
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.hold(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.hold(slices.first().map_or(&[], |first| first)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all it had.
        if self.progress.is(ANSWERED) {
            self.progress.go(IDLE);
            self.heard = false;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A service whose answers are followed to their end.
pub(super) struct Watched<V> {
    service: V,
    progress: Progress,
}

impl<V> Watched<V> {
    pub(super) fn new(service: V, progress: Progress) -> Self {
        Self { service, progress }
    }
}

impl<V, B> Service<Request<Incoming>> for Watched<V>
where
    V: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<Followed<B>>;
    type Error = V::Error;
    type Future = Answering<V::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.progress.go(ANSWERING);
        Answering { answer: Box::pin(self.service.call(request)), progress: self.progress.clone() }
    }
}

/// An answer that is being made.
pub(super) struct Answering<F> {
    answer: Pin<Box<F>>,
    progress: Progress,
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Followed<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let progress = self.progress.clone();
        let follow = |response: Response<B>| response.map(|body| Followed { body, progress });
        self.answer.as_mut().poll(cx).map_ok(follow)
    }
}

/// A body whose end is noted.
pub(super) struct Followed<B> {
    body: B,
    progress: Progress,
}

impl<B: Body + Unpin> Body for Followed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Followed<B> {
    fn drop(&mut self) {
        self.progress.go(ANSWERED);
    }
}
