//! The quality of what is relayed, measured when its verdict has been given.
//!
//! What a verdict sends on is heard on the leg it came by; what is dropped here counts as lost, for
//! whoever waits for it never gets it. Bytes of TCP relays are no packets and are not looked at.

use crate::addr::AllocationId;
use crate::media::{Leg, Media, MediaReport};
use crate::now::Now;
use crate::policy::Ledger;
use crate::turn::action::Span;
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// What an allocation that opens is measured with: one of so many is.
    pub(super) fn begin_media(&self, now: Now) -> Option<Box<Media>> {
        let every = self.config.measured?;
        let chosen = self.tally.opened.is_multiple_of(u64::from(every.get()));
        chosen.then(|| Box::new(Media::new(now.mono)))
    }

    /// Takes in payload that goes on, as a part of the message that brought it.
    #[inline]
    pub(super) fn hear(
        &mut self,
        now: Now,
        id: AllocationId,
        leg: Leg,
        (message, part): (&[u8], Span),
    ) {
        let Some(allocation) = self.table.open(id) else { return };
        let Some(media) = &mut allocation.media else { return };
        let (start, len) = (part.start as usize, part.len as usize);
        let Some(payload) = message.get(start..start + len) else { return };
        let heard = media.hear(now.mono, leg, payload);
        self.tally.media.add(leg, heard, len);
    }

    /// How well the media of an allocation arrives, stream by stream; `None` if there is no such
    /// allocation, or it is not measured.
    pub fn media(&mut self, now: Now, id: AllocationId) -> Option<MediaReport> {
        let media = self.table.open(id)?.media.as_ref()?;
        Some(media.report(now.mono))
    }
}
