//! What the office asks of a worker.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mio::Waker;
use proto::turn::tally::AllocationView;

/// Commands that may wait at a time.
const CAPACITY: usize = 32;

/// A command.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take no new allocation; end with the last one.
    Drain,
    /// End every allocation, then end.
    Stop,
    /// Bring the counters up to date and tell every allocation.
    Report(SyncSender<Vec<AllocationView>>),
}

/// Where commands are put in, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Letterbox {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
}

/// Where a worker takes them out.
pub(crate) type Inbox = Receiver<Command>;

/// Both ends; the waker wakes the worker that reads.
pub(crate) fn open(waker: Waker) -> (Letterbox, Inbox) {
    let (commands, inbox) = sync_channel(CAPACITY);
    (Letterbox { commands, waker: Arc::new(waker) }, inbox)
}

impl Letterbox {
    /// Puts a command in. A worker that has ended takes none, and needs none.
    pub(crate) fn put(&self, command: Command) {
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }
}
