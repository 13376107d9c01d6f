//! HTTP at the doors of both services, where a head that is none is refused in the service's words.
//!
//! hyper answers such a head by itself, with a bare status. What it writes while no answer of the
//! service is on its way is therefore not sent: it tells the status, and the service words the
//! refusal. The connection ends behind it, at leisure, because a reset would take back what the
//! client has not read. Nobody holds a connection by being slow: head, last answer and refusal
//! have deadlines that dripping bytes do not extend.

mod line;

use std::time::{Duration, SystemTime};

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use line::{Line, Watched};

/// For the head of a request; also how long a connection may idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest head of a request, in bytes.
const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// For the answer under way when a connection must end.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// For a refusal to be sent, and for its reader to hang up.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of what follows a broken head is read, and forgotten, so that no reset overtakes the refusal.
const REST_LIMIT_BYTES: u64 = 1 << 20;

/// What is wrong with the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenHead {
    /// It is not HTTP, or not well-formed.
    Malformed,
    /// It is too long as a whole, or has too many fields.
    TooLong,
    /// It did not arrive in time.
    TooSlow,
    /// The client hung up in the middle of it.
    Cut,
    /// It is the beginning of HTTP/2.
    Http2,
}

impl BrokenHead {
    /// The status of its refusal.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::Cut => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Http2 => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// What its sender should know.
    pub fn words(self) -> &'static str {
        match self {
            Self::Malformed => "the head of the request is not well-formed HTTP/1.1",
            Self::TooLong => {
                "the head of the request is too long: at most 16 KiB and 100 fields are taken"
            }
            Self::TooSlow => "the head of the request did not arrive within 10 seconds",
            Self::Cut => "the request ended in the middle of its head",
            Self::Http2 => "HTTP/2 is not spoken here; use HTTP/1.1",
        }
    }

    /// What hyper made of a head, by the status that it would have answered.
    fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => Self::TooLong,
            _ => Self::Malformed,
        }
    }
}

/// How a service words a refusal.
#[derive(Clone, Debug)]
pub struct Wording {
    /// The media type of the body.
    pub kind: &'static str,
    /// The body.
    pub body: String,
}

/// Answers the requests of one connection until it ends, or until something else does; whether its
/// last answer was given up because nobody read it.
pub async fn serve<S, V, B>(
    stream: S,
    service: V,
    until: impl Future<Output = ()>,
    refuse: impl FnOnce(BrokenHead) -> Wording,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Service<Request<Incoming>, Response = Response<B>>,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut line = Line::new(stream);
    let watched = Watched::new(service, line.progress());
    let ended = {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_LIMIT_BYTES);
        let connection = builder.serve_connection(TokioIo::new(&mut line), watched);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = until => None,
        };
        if let Some(ended) = ended {
            ended
        } else {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    // Any other error is the client's doing, and nobody is left to hear of it.
    let Err(error) = ended else { return line.is_unread() };
    let Some(broken) = line.broken(&error) else { return false };
    let refusal = written(broken.status(), &refuse(broken));
    let _ = timeout(REFUSAL_TIMEOUT, farewell(line.into_stream(), refusal)).await;
    false
}

/// Sends the last answer of a connection, and waits until the client has hung up.
async fn farewell<S>(mut stream: S, answer: String) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(REST_LIMIT_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

fn written(status: StatusCode, Wording { kind, body }: &Wording) -> String {
    #[expect(clippy::disallowed_methods, reason = "the date of an answer decides nothing")]
    let date = httpdate::fmt_http_date(SystemTime::now());
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\
         date: {date}\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use hyper::service::service_fn;
    use tokio::runtime::Builder;
    use tokio::time::sleep;

    use super::*;

    /// Bytes of the answer's head.
    const HEAD: usize = "HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n".len() + DATE;
    const DATE: usize = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n".len();

    /// Whether a visitor who reads so much of his answer leaves some of it unread.
    fn leaves_unread(reads: usize) -> bool {
        let runtime =
            Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut visitor, ours) = tokio::io::duplex(64);
            let answer =
                service_fn(|_| ready(Ok::<_, hyper::Error>(Response::new("x".repeat(1 << 20)))));
            let wording = |_| unreachable!("the head is good");
            let served = tokio::spawn(async move {
                serve(ours, answer, sleep(Duration::from_secs(300)), wording).await
            });
            visitor.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            visitor.read_exact(&mut vec![0; reads]).await.unwrap();
            let unread = served.await.unwrap();
            drop(visitor);
            unread
        })
    }

    #[test]
    fn an_answer_that_nobody_reads_is_given_up_and_told_from_a_visit_that_ends() {
        assert!(leaves_unread(0));
        assert!(leaves_unread(1 << 19));
        // Head and body: nothing is left when the visit ends.
        assert!(!leaves_unread((1 << 20) + HEAD));
    }
}
