//! The quality of what is relayed: whose is measured, and what was found.
//!
//! What goes on is heard on the leg it came by, when limits have let it pass (`forward.rs`); what is
//! dropped here counts as lost, for whoever waits for it never gets it. Bytes of TCP relays are no
//! packets and are not looked at.

use crate::addr::AllocationId;
use crate::media::{Media, MediaReport};
use crate::now::Now;
use crate::policy::Ledger;
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// What an allocation that opens is measured with: one of so many is.
    pub(super) fn begin_media(&self, now: Now) -> Option<Box<Media>> {
        let every = self.config.measured?.every;
        let chosen = self.tally.opened.is_multiple_of(u64::from(every.get()));
        chosen.then(|| Box::new(Media::new(now.mono)))
    }

    /// How well the media of an allocation arrives, stream by stream; `None` if there is no such
    /// allocation, or it is not measured.
    pub fn media(&mut self, now: Now, id: AllocationId) -> Option<MediaReport> {
        let media = self.table.open(id)?.media.as_ref()?;
        Some(media.report(now.mono))
    }
}
