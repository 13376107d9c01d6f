//! The quality of what is relayed: whose is measured, and what was found.
//!
//! What goes on is heard on the leg it came by, when limits have let it pass (`forward.rs`); what is
//! dropped here counts as lost, for whoever waits for it never gets it. Bytes of TCP relays are no
//! packets and are not looked at.

use std::time::Instant;

use crate::addr::AllocationId;
use crate::media::{LegSummary, Media, MediaReport};
use crate::now::Now;
use crate::policy::Ledger;
use crate::turn::allocation::Allocation;
use crate::turn::server::Server;

impl Allocation {
    /// What hears its packets; `None` if that is not measured. It begins with the first packet: what
    /// is kept of media is larger than all else that is kept of an allocation.
    #[inline]
    pub(super) fn listen(&mut self) -> Option<&mut Media> {
        if self.media.is_none() && self.measured {
            self.begin_to_listen();
        }
        self.media.as_deref_mut()
    }

    #[cold]
    fn begin_to_listen(&mut self) {
        self.media = Some(Box::new(Media::new(self.owner.opened)));
    }

    /// How well its media arrives, in a few numbers; `None` if that is not measured.
    pub(super) fn media_summary(&self, now: Instant) -> Option<[LegSummary; 2]> {
        let heard = self.media.as_ref();
        self.measured.then(|| heard.map(|media| media.summary(now)).unwrap_or_default())
    }

    /// The same, stream by stream.
    pub(super) fn media_report(&self, now: Instant) -> Option<MediaReport> {
        let heard = self.media.as_ref();
        self.measured.then(|| heard.map(|media| media.report(now)).unwrap_or_default())
    }
}

impl<L: Ledger> Server<L> {
    /// Whether an allocation that opens is measured: one of so many is.
    pub(super) fn measures_next(&self) -> bool {
        let opened = self.tally.opened;
        self.config.measured.is_some_and(|it| opened.is_multiple_of(u64::from(it.every.get())))
    }

    /// How well the media of an allocation arrives, stream by stream; `None` if there is no such
    /// allocation, or it is not measured.
    pub fn media(&mut self, now: Now, id: AllocationId) -> Option<MediaReport> {
        self.table.get(id)?.media_report(now.mono)
    }
}
