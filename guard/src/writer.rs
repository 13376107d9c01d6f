//! The thread that writes files and connects to other services while the service runs.
//!
//! No other thread of the process may do what it does, and it hears no packet. It is confined
//! before it knows its work; threads that the work starts are confined alike.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// What one thread does that no other may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errands {
    /// The folders below which it makes, writes and removes files.
    pub folders: Vec<PathBuf>,
    /// The files beside which it reads.
    pub files: Vec<PathBuf>,
    /// Where it connects to, over TCP.
    pub ports: Vec<u16>,
}

/// Its work: all of it, until the end.
type Work = Box<dyn FnOnce() + Send>;

/// The thread, which waits for its work.
#[derive(Debug)]
pub struct Writer(SyncSender<Work>);

impl Writer {
    /// Starts it; returns when it has done what it does before any work, `first`.
    pub(crate) fn start(first: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (hand_in, wanted) = sync_channel::<Work>(1);
        let (at_work, started) = sync_channel(1);
        let run = move || {
            first();
            // Who waits for it is there.
            let _ = at_work.send(());
            if let Ok(work) = wanted.recv() {
                work();
            }
        };
        thread::Builder::new().name("writer".to_owned()).spawn(run)?;
        started.recv().map_err(io::Error::other)?;
        Ok(Self(hand_in))
    }

    /// Gives it its work.
    pub fn employ(self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.0.send(Box::new(work)).map_err(|_| io::Error::other("the thread for files has ended"))
    }
}
