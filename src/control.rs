//! `av-edge control`: asks a relay of this host, through its unix socket, in HTTP and JSON.

pub(crate) mod words;

use std::io;
use std::path::Path;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::cli::{ControlArgs, ControlCommand};
use crate::failure::Failure;
use crate::output::print;

/// Longer than a relay waits for its workers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer, in bytes: a page of allocations.
const ANSWER_LIMIT_BYTES: usize = 4 << 20;

/// Allocations asked for at a time.
const PAGE: usize = 500;

/// Asks, and prints what the relay says.
pub(crate) fn run(args: &ControlArgs) -> Result<(), Failure> {
    let ask = |method: Method, path: &str| ask(&args.socket, method, path);
    let (answer, words): (Value, fn(&Value) -> Vec<String>) = match &args.command {
        ControlCommand::Status => (ask(Method::GET, "/v1/state")?, words::state),
        ControlCommand::Allocations { limit } => return list(args, *limit),
        ControlCommand::End { id } => {
            (ask(Method::DELETE, &format!("/v1/allocations/{}", plain(id)?))?, words::ended)
        }
        ControlCommand::Drain => (ask(Method::POST, "/v1/drain")?, words::draining),
        ControlCommand::Reload => (ask(Method::POST, "/v1/reload")?, words::reloaded),
    };
    if args.json { print(&[answer.to_string()]) } else { print(&words(&answer)) }
}

/// Page after page, so that neither side holds them all.
fn list(args: &ControlArgs, limit: Option<usize>) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut behind = String::new();
    if !args.json {
        print(&[words::HEADING])?;
    }
    while left > 0 {
        let path = format!("/v1/allocations?limit={}{behind}", left.min(PAGE));
        let page = ask(&args.socket, Method::GET, &path)?;
        let rows = page["allocations"].as_array().map_or(&[][..], Vec::as_slice);
        let line = if args.json { Value::to_string } else { words::allocation };
        print(&rows.iter().map(line).collect::<Vec<_>>())?;
        left = left.saturating_sub(rows.len());
        match page["next"].as_str() {
            Some(next) => behind = format!("&behind={}", plain(next)?),
            None => break,
        }
    }
    Ok(())
}

/// A name that needs no escape in a URL.
pub(crate) fn plain(id: &str) -> Result<&str, Failure> {
    let good = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    good.then_some(id).ok_or_else(|| {
        Failure::setup(format!("{id:?}: not the id of an allocation, such as 0-12-3"))
    })
}

/// One request; what is refused is told in the relay's words.
pub(crate) fn ask(socket: &Path, method: Method, path: &str) -> Result<Value, Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::job(format!("{}: {error}", socket.display()));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|it| failed(&it))?;
    let work = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| failed(&hint(&error)))?;
        exchange(stream, method, path).await.map_err(|error| failed(&error))
    };
    let (status, body) = runtime.block_on(async {
        let late = |_| failed(&"the relay does not answer");
        timeout(PATIENCE, work).await.map_err(late)?
    })?;
    let answer: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).map_err(|_| failed(&"what answers there is no relay"))?
    };
    if status.is_success() {
        return Ok(answer);
    }
    let detail = answer["detail"].as_str().map_or_else(|| status.to_string(), str::to_owned);
    Err(failed(&detail))
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Vec<u8>), Box<dyn std::error::Error>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Body::empty())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), ANSWER_LIMIT_BYTES).await?;
    driver.abort();
    Ok((status, body.to_vec()))
}

/// What it means that nobody could be reached.
pub(crate) fn hint(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "no relay has opened it; is there a table [control] in its configuration?"
        }
        io::ErrorKind::ConnectionRefused => "the relay that opened it has ended",
        io::ErrorKind::PermissionDenied => {
            "its mode does not let this user in; see control.mode and control.group"
        }
        _ => return error.to_string(),
    };
    format!("{hint} ({error})")
}
