//! Workers go before other programs.
//!
//! Where more arrives than can be relayed, the kernel delivers it in threads of its own (ksoftirqd), which
//! share a core evenly with its worker: half of the time goes into what is dropped a moment later. So
//! workers have a lower niceness. They inherit it from the thread that begins them, because by then the
//! privilege is gone.

use std::io;

use crate::sys;

/// While it lasts, threads that begin go before other programs.
#[must_use]
pub(crate) struct Haste {
    /// Of the threads that begin.
    niceness: i32,
    /// The niceness to go back to, if it has changed.
    usual: Option<i32>,
}

impl Haste {
    /// Takes this niceness, or keeps a lower one. Where that may not be, everything goes on without.
    pub(crate) fn begin(nice: i32) -> Self {
        let usual = sys::niceness();
        let wanted = nice.min(usual);
        let (niceness, usual) = match sys::set_niceness(wanted) {
            Ok(()) => (wanted, (wanted != usual).then_some(usual)),
            Err(error) => {
                tracing::info!(
                    nice, %error,
                    "workers do not go before other programs: in a flood they may get too little time"
                );
                (usual, None)
            }
        };
        Self { niceness, usual }
    }

    /// Of the threads that begin while it lasts.
    pub(crate) fn niceness(&self) -> i32 {
        self.niceness
    }

    /// This thread, and those that it begins from now on, have time again.
    pub(crate) fn end(self) -> io::Result<()> {
        self.usual.map_or(Ok(()), sys::set_niceness)
    }
}
