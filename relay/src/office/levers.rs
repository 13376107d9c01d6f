//! What operators can do with the relay from inside its process, as signals do from outside.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

/// Where the outcome of reading the configuration again is told: the keys that wait for a restart,
/// or what is wrong.
pub(super) type Outcome = oneshot::Sender<Result<Vec<String>, String>>;

/// The handles.
#[derive(Clone, Debug)]
pub(super) struct Levers {
    drain: Arc<Notify>,
    reload: mpsc::Sender<Outcome>,
}

/// Where it is felt that somebody pulled.
pub(super) struct Pulled {
    /// As SIGTERM.
    pub(super) drain: Arc<Notify>,
    /// As SIGHUP.
    pub(super) reload: mpsc::Receiver<Outcome>,
}

/// Both ends.
pub(super) fn levers() -> (Levers, Pulled) {
    let drain = Arc::new(Notify::new());
    // One may wait while another is obeyed.
    let (reload, pulled) = mpsc::channel(1);
    (Levers { drain: Arc::clone(&drain), reload }, Pulled { drain, reload: pulled })
}

impl Levers {
    /// Drains, as the first SIGTERM does; again, it changes nothing.
    pub(super) fn drain(&self) {
        self.drain.notify_one();
    }

    /// Has the configuration read again.
    pub(super) fn reload(
        &self,
        outcome: Outcome,
    ) -> Result<(), mpsc::error::TrySendError<Outcome>> {
        self.reload.try_send(outcome)
    }
}
