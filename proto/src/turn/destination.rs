//! Set Active Destination (MST-95 to MST-100): one peer's payload travels bare, both ways.
//!
//! A route like a channel without number: [`Way::Bare`]. The states that the draft had for the
//! time between two destinations are left out, as MST-97 wants: the new one holds at once.

use std::net::SocketAddr;

use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{DropReason, Reject, Why};
use crate::request::{Numbered, Reply};
use crate::turn::action::{Action, Change, Verdict};
use crate::turn::brake::Turn;
use crate::turn::channel::Way;
use crate::turn::gate::Authenticated;
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// Makes a peer the active destination.
    pub(super) fn aim(
        &mut self,
        now: Now,
        request: &Authenticated<'_>,
        peer: Option<SocketAddr>,
        numbered: Option<Numbered>,
    ) -> Result<Verdict, Reject> {
        // MST-100: the allocation (437, 441), then the destination (400).
        let id = self.owned(request)?;
        let (call, digest) = (request.exchange.call, self.digest(request.bytes));
        let counts = !self.transport(request.exchange.client).is_stream();
        let Some(allocation) = self.table.open(id) else { return Err(Why::NoAllocation.into()) };
        let session = allocation.owner.session.as_ref().ok_or(Why::NoAllocation)?;
        if let Some((last, bytes, answer)) = session.answered
            && (last, bytes) == (call, digest)
        {
            self.succeed(&request.exchange, Reply::Aimed(answer));
            return Ok(Verdict::Handled);
        }
        if numbered.is_some_and(|numbered| !session.is_of(numbered)) {
            return Err(Why::NoAllocation.into());
        }
        if counts && numbered.is_some_and(|numbered| !session.is_fresh(numbered)) {
            return Ok(self.dropped(DropReason::Replayed));
        }
        let peer = peer.filter(|peer| peer.port() != 0).ok_or(Why::BadAttribute)?;
        // The old destination stays if this one cannot be (MST-96).
        let peer = self.permit(now, id, peer).map_err(|why| Reject::about(why, peer))?;
        let Some(allocation) = self.table.open(id) else { return Err(Why::NoAllocation.into()) };
        if allocation.way_to(peer.addr()) != Some(Way::Bare) {
            let turn = Turn { hosts: 0, address: Some(peer.addr()), at: now.mono };
            let limits = &self.config.limits;
            allocation.owner.turns_to(turn, &mut self.ledger, limits).map_err(Why::from)?;
            let first = allocation.channel(Way::Bare).is_none();
            allocation.bind(now.mono, Way::Bare, peer);
            self.tally.channels += u64::from(first);
            let peer = peer.addr();
            self.actions.push_back(Action::Changed(Change::DestinationSet { id, peer }));
        }
        let Some(allocation) = self.table.open(id) else { return Err(Why::NoAllocation.into()) };
        let Some(session) = &mut allocation.owner.session else { return Ok(Verdict::Handled) };
        if let Some(numbered) = numbered {
            session.take(numbered);
        }
        let answer = numbered.unwrap_or(session.numbered());
        session.answered = Some((call, digest, answer));
        self.succeed(&request.exchange, Reply::Aimed(answer));
        Ok(Verdict::Handled)
    }
}
