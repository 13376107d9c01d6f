//! The thread that reads files again while the service runs.
//!
//! It alone may keep the capability to read what the service's user may not; it hears no packet.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use tokio::sync::oneshot;

/// Work that reads files.
type Job = Box<dyn FnOnce() + Send>;

/// Where such work is handed in.
#[derive(Clone, Debug)]
pub struct Reader(Sender<Job>);

impl Reader {
    /// Starts the thread; returns when it has done what it does before any work, `first`.
    pub(crate) fn start(first: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (jobs, work): (Sender<Job>, Receiver<Job>) = channel();
        let (at_work, started) = sync_channel(1);
        let run = move || {
            first();
            // Who waits for it is there.
            let _ = at_work.send(());
            for job in work {
                job();
            }
        };
        thread::Builder::new().name("reader".to_owned()).spawn(run)?;
        started.recv().map_err(io::Error::other)?;
        Ok(Self(jobs))
    }

    /// Does the work in that thread; `None` if it died.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, result) = oneshot::channel();
        let job = move || {
            // Who asked may be gone.
            drop(answer.send(work()));
        };
        self.0.send(Box::new(job)).ok()?;
        result.await.ok()
    }
}
