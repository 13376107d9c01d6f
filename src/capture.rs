//! `av-edge capture`: writes down what one allocation sends and gets, as the relay sees it.
//!
//! The relay makes the file; it is passed on as it comes, so that Wireshark can look while it grows.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IsTerminal, Write};
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::time::{Instant, timeout};

use crate::cli::{CaptureArgs, Payload};
use crate::control::{hint, plain};
use crate::failure::Failure;

/// How long the relay may take to begin, and to go on behind the end of its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a terminal is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Longest refusal, in bytes.
const REFUSAL_LIMIT_BYTES: usize = 64 << 10;

/// Captures, and says how much.
pub(crate) fn run(args: &CaptureArgs) -> Result<(), Failure> {
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => {
            let wrong = |error: io::Error| Failure::setup(format!("{}: {error}", path.display()));
            Box::new(File::create(path).map_err(wrong)?)
        }
        None if io::stdout().is_terminal() => {
            let why = "a capture is no text: name a file with --out, or pipe it to \
                       `wireshark -k -i -`";
            return Err(Failure::setup(why));
        }
        None => Box::new(io::stdout().lock()),
    };
    let payload = match args.payload {
        Payload::Headers => "headers",
        Payload::Whole => "whole",
    };
    let (id, seconds) = (plain(&args.allocation)?, args.seconds);
    let path = format!("/v1/allocations/{id}/capture?seconds={seconds}&payload={payload}");
    let failed =
        |error: &dyn std::fmt::Display| Failure::job(format!("{}: {error}", args.socket.display()));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|it| failed(&it))?;
    let bytes = runtime.block_on(async {
        let late = |_| failed(&"the relay does not answer");
        let begin = async {
            let stream = UnixStream::connect(&args.socket).await;
            let stream = stream.map_err(|error| failed(&hint(&error)))?;
            ask(stream, &path).await.map_err(|error| failed(&error))
        };
        let answer = timeout(PATIENCE, begin).await.map_err(late)??;
        if !answer.status().is_success() {
            return Err(failed(&refusal(answer).await));
        }
        let most = Duration::from_secs(u64::from(seconds)) + PATIENCE;
        timeout(most, pass(answer.into_body(), &mut out, seconds)).await.map_err(late)?
    })?;
    if let Some(path) = &args.out {
        eprintln!("{bytes} bytes in {}", path.display());
    }
    Ok(())
}

async fn ask(
    stream: UnixStream,
    path: &str,
) -> Result<Response<Incoming>, Box<dyn std::error::Error>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer.
    drop(tokio::spawn(connection));
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("host", "localhost")
        .body(Body::empty())?;
    Ok(sender.send_request(request).await?)
}

/// The relay's words.
async fn refusal(answer: Response<Incoming>) -> String {
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), REFUSAL_LIMIT_BYTES).await;
    let said: Option<Value> = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
    let detail = said.and_then(|said| said["detail"].as_str().map(str::to_owned));
    detail.unwrap_or_else(|| status.to_string())
}

/// Passes the file on, and tells a terminal how it grows; its length.
async fn pass(mut body: Incoming, out: &mut dyn Write, seconds: u16) -> Result<u64, Failure> {
    let shows = io::stderr().is_terminal();
    let (begun, mut told, mut bytes) = (Instant::now(), None::<Instant>, 0_u64);
    loop {
        let frame = timeout(TELL_EVERY, poll_fn(|it| Pin::new(&mut body).poll_frame(it))).await;
        match frame {
            Err(_) => {}
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(Failure::job(format!("the relay broke off: {error}")));
            }
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                let written = out.write_all(&data).and_then(|()| out.flush());
                written.map_err(|error| Failure::job(format!("cannot be written: {error}")))?;
                bytes += data.len() as u64;
            }
        }
        if shows && told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            eprint!("\r{} of {seconds} s, {bytes} bytes ", begun.elapsed().as_secs());
            told = Some(Instant::now());
        }
    }
    if shows {
        eprintln!();
    }
    Ok(bytes)
}
