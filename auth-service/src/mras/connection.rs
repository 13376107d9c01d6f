//! One connection of a trusted server: many transactions, one after the other (MRAS-4).
//!
//! A connection may rest between messages; a message that has begun must arrive in time, and an
//! answer must be taken in time. What cannot be followed ends this connection and no other.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::crowd::Seat;
use crate::mras::issue::Server;
use crate::mras::service;
use crate::server::stopped;
use crate::shared::Shared;
use crate::sip::framing::{Framer, Item};

/// Between two messages; double CRLFs keep a connection open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(900);

/// For a message from its first byte to its last, which dripping does not extend; and for the
/// peer to take an answer.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// For the peer to read our last words.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes read at a time.
const CHUNK: usize = 16 * 1024;

/// A connection and what is under way on it.
struct Connection<'a, S> {
    stream: S,
    server: Server,
    shared: &'a Shared,
    seat: &'a Seat,
    framer: Framer,
    chunk: Vec<u8>,
}

/// Serves until the peer goes, breaks the rules, or the service stops.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server: Server,
    (shared, seat): (&Shared, &Seat),
    mut stop: watch::Receiver<bool>,
) {
    let (framer, chunk) = (Framer::default(), vec![0; CHUNK]);
    let mut connection = Connection { stream, server, shared, seat, framer, chunk };
    loop {
        let item = tokio::select! {
            () = stopped(&mut stop) => break,
            item = connection.receive() => item,
        };
        let Some(item) = item else { break };
        if !connection.answer(item).await {
            break;
        }
    }
    let _ = timeout(FAREWELL_TIMEOUT, connection.part()).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Answers; whether the connection goes on.
    async fn answer(&mut self, item: Item) -> bool {
        let (answer, goes_on) = match item {
            Item::KeepAlive => (Some(b"\r\n".to_vec()), true),
            Item::Message(message) => {
                // Whom the configuration no longer names is not served on old connections either.
                if !self.is_trusted() {
                    return false;
                }
                // In clear there is nothing to show but that one speaks as servers do.
                self.seat.is_known();
                (service::answer(self.shared, &self.server, &message), true)
            }
            Item::Broken(broken) => {
                tracing::debug!("{}: connection closed: {broken}", self.server);
                (service::farewell(self.shared, &broken), false)
            }
        };
        let Some(answer) = answer else { return goes_on };
        matches!(timeout(MESSAGE_TIMEOUT, self.write(&answer)).await, Ok(Ok(()))) && goes_on
    }

    fn is_trusted(&self) -> bool {
        let Server::Named(name) = &self.server else { return true };
        let live = self.shared.live();
        live.config.mras.as_ref().is_some_and(|mras| mras.trusts(name))
    }

    /// The next item; `None` if the peer went or took too long.
    async fn receive(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.framer.next_item() {
                return Some(item);
            }
            if self.framer.is_between() {
                timeout(IDLE_TIMEOUT, self.read()).await.ok()??;
            } else {
                return timeout(MESSAGE_TIMEOUT, self.rest()).await.ok()?;
            }
        }
    }

    /// The item that has begun.
    async fn rest(&mut self) -> Option<Item> {
        loop {
            self.read().await?;
            if let Some(item) = self.framer.next_item() {
                return Some(item);
            }
        }
    }

    /// Some bytes; `None` at the end.
    async fn read(&mut self) -> Option<()> {
        let count = self.stream.read(&mut self.chunk).await.ok().filter(|&count| count > 0)?;
        self.framer.push(self.chunk.get(..count)?);
        Some(())
    }

    async fn write(&mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.write_all(answer).await?;
        self.stream.flush().await
    }

    /// Says that nothing more will come, and reads what is under way: closing on unread bytes
    /// would take our last answer back.
    async fn part(&mut self) {
        if self.stream.shutdown().await.is_ok() {
            while self.stream.read(&mut self.chunk).await.is_ok_and(|count| count > 0) {}
        }
    }
}
