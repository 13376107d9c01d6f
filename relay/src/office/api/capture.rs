//! `/v1/allocations/ID/capture`: what one sends and gets, as a file of pcapng, while it happens.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::turn::tap::{Depth, Untapped};
use serde::Deserialize;
use tokio::time::{Sleep, sleep};

use super::allocation::id_of;
use super::growing::growing;
use super::{Desk, Problem};
use crate::capture::{Pcapng, Recording};
use crate::clock::Clock;

/// How long it is looked, without a word; and at most, which is shorter than a visit.
const SECONDS: u64 = 60;
const MOST_SECONDS: u64 = 240;

/// How long, and how closely.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    seconds: Option<u64>,
    payload: Option<String>,
}

/// The answer to who wants to see.
pub(super) async fn capture(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Wanted { seconds, payload }) = wanted.map_err(Problem::of_query)?;
    let id = id_of(&id)?;
    let seconds = seconds.unwrap_or(SECONDS);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        let detail = format!("seconds={seconds}: a capture takes 1 to {MOST_SECONDS}");
        return Err(Problem::bad_request(detail));
    }
    let depth = match payload.as_deref() {
        None | Some("headers") => Depth::Headers,
        Some("whole") => Depth::Whole,
        Some(other) => {
            let detail = format!(
                "payload={other:?}: \"headers\" shows no content, \"whole\" all that is sent"
            );
            return Err(Problem::bad_request(detail));
        }
    };
    let refused = move |why: Untapped| match why {
        Untapped::Gone => {
            Problem::new(StatusCode::NOT_FOUND, format!("no allocation {id}: it is over"))
        }
        Untapped::Streams => Problem::new(
            StatusCode::CONFLICT,
            format!("allocation {id} relays TCP connections: there are no datagrams to capture"),
        ),
        Untapped::Busy => Problem::new(
            StatusCode::CONFLICT,
            "another capture goes on in the same worker; wait for its end",
        ),
    };
    let (recording, transport) = desk
        .look(move |desk| {
            let views = desk.observer.these(&[id])?;
            let transport = views.first().map_or("", |session| session.view.transport.name());
            Some((desk.observer.capture(id, depth)?, transport))
        })
        .await?;
    let recording = recording.map_err(refused)?;
    tracing::warn!(
        allocation = %id,
        seconds,
        payload = if depth == Depth::Whole { "whole" } else { "headers" },
        "an operator captures an allocation"
    );
    let (file, begin) = Pcapng::begin(&format!("allocation {id} of a relay"), transport);
    let end = Box::pin(sleep(Duration::from_secs(seconds)));
    let mut stream = Stream { recording: Some(recording), file, begin: Some(begin), end };
    let name = format!("attachment; filename=\"{id}.pcapng\"");
    let headers = [
        (header::CONTENT_TYPE, "application/x-pcapng"),
        (header::CONTENT_DISPOSITION, name.as_str()),
    ];
    Ok((headers, growing(move |context| stream.next(context))).into_response())
}

/// The file, as it grows.
struct Stream {
    /// `None` behind its end.
    recording: Option<Recording>,
    file: Pcapng,
    begin: Option<Vec<u8>>,
    end: Pin<Box<Sleep>>,
}

impl Stream {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let piece = |bytes: Vec<u8>| Poll::Ready(Some(bytes.into()));
        if let Some(begin) = self.begin.take() {
            return piece(begin);
        }
        let Some(recording) = &mut self.recording else { return Poll::Ready(None) };
        let batch = match self.end.as_mut().poll(context) {
            Poll::Ready(()) => None,
            Poll::Pending => ready!(recording.poll_next(context)),
        };
        if let Some(batch) = batch {
            return piece(self.file.packets(&batch));
        }
        self.recording = None;
        piece(self.file.end(Clock::new().last().mono))
    }
}
