//! Refresh (RFC 8656 §8.2).

use std::time::{Duration, Instant};

use crate::addr::{AllocationId, Family};
use crate::auth::Term;
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::request::Reply;
use crate::stun::Message;
use crate::stun::attribute::{Lifetime, RequestedAddressFamily};
use crate::turn::action::{CloseReason, Verdict};
use crate::turn::allocation::Allocation;
use crate::turn::gate::Authenticated;
use crate::turn::mobility::Journey;
use crate::turn::server::Server;

/// Lifetime of an allocation nobody asked more for (RFC 8656 §2: default 600 s), and the least
/// one that is granted.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(600);

impl<L: Ledger> Server<L> {
    /// The least and the greatest lifetime that the client of a request is granted.
    pub(super) fn lifetimes(&self, request: &Authenticated<'_>) -> (Duration, Duration) {
        let transport = self.transport(request.exchange.client);
        let dialect = request.exchange.call.dialect();
        let default = self.config.lifetime_default(dialect, transport);
        (default, self.config.lifetime_max)
    }

    /// Prolongs an allocation, or ends it with lifetime zero. With a ticket it is the one that the
    /// ticket names (RFC 8016 §3.2.2), and moves to where the request came from.
    pub(super) fn refresh(
        &mut self,
        now: Now,
        request: &Authenticated<'_>,
        message: &Message<'_>,
    ) -> Result<Verdict, Reject> {
        let (id, travel) = match self.presented(message)? {
            None => (self.owned(request)?, None),
            Some(ticket) => match self.travel(now, request, ticket)? {
                Journey::HandedOver => return Ok(Verdict::Leaves),
                Journey::Here(id, travel) => (id, Some(travel)),
            },
        };
        let wanted = message.read::<Lifetime>()?.map(|Lifetime(seconds)| seconds);
        let Some(allocation) = self.table.open(id) else { return Err(Why::NoAllocation.into()) };
        let families = selected(allocation, message)?;
        if wanted == Some(0) {
            for family in families {
                self.close_relay(now, id, family, CloseReason::Released);
            }
            self.succeed(&request.exchange, Reply::Refreshed { lifetime: 0, ticket: None });
            return Ok(Verdict::Handled);
        }
        // A credential opens nothing once it expired, but a call that runs may go on a little.
        if allocation.owner.last_refresh.is_some_and(|last| last <= now.mono) {
            return Err(Why::Expired.into());
        }
        if let (Some(key), Some(bearer)) = (request.bearer(), &mut allocation.owner.bearer) {
            bearer.key = key;
            bearer.until = request.identity.term.until(now);
            allocation.owner.username = request.username.as_ref().into();
        }
        let lifetime = granted(wanted, self.lifetimes(request), request.identity.term);
        self.prolong(now, id, families, lifetime);
        let ticket = travel.and_then(|travel| self.relocate(now, id, request, travel));
        let ticket = ticket.as_ref().map(|ticket| &ticket.0[..]);
        self.succeed(&request.exchange, Reply::Refreshed { lifetime: seconds(lifetime), ticket });
        Ok(Verdict::Handled)
    }

    /// When an allocation that is made with a credential now can no longer be refreshed: its
    /// requests all bring the same one.
    pub(super) fn last_refresh(&self, now: Now, term: Term) -> Option<Instant> {
        match term {
            Term::Until(expires) => {
                let left = Duration::from_secs(expires.seconds_since(now.unix));
                now.mono.checked_add(left + self.config.refresh_grace)
            }
            Term::Unlimited | Term::Token(_) => None,
        }
    }

    /// Lets relayed addresses of an allocation end so much later than now.
    pub(super) fn prolong(
        &mut self,
        now: Now,
        id: AllocationId,
        families: impl IntoIterator<Item = Family>,
        lifetime: Duration,
    ) {
        let Some(allocation) = self.table.open(id) else { return };
        for family in families {
            allocation.prolong(family, now.mono + lifetime);
        }
        self.arm_by(id, now.mono + lifetime);
        self.routes_changed(id);
    }
}

/// The families a Refresh speaks of: the one it names, or all (RFC 8656 §8.2).
fn selected(
    allocation: &Allocation,
    message: &Message<'_>,
) -> Result<impl Iterator<Item = Family> + use<>, Reject> {
    let named = message.read::<RequestedAddressFamily>()?;
    let wanted = named.map(|RequestedAddressFamily(byte)| Family::from_wire(byte));
    let chosen = Family::ALL.map(|family| {
        let served = allocation.relay(family).is_some();
        (served && wanted.is_none_or(|wanted| wanted == Some(family))).then_some(family)
    });
    if chosen == [None, None] {
        return Err(Why::PeerFamily.into());
    }
    Ok(chosen.into_iter().flatten())
}

/// The lifetime that is granted (RFC 8656 §7.2): at least the default, at most `max`.
/// A token bounds it, below the default too (RFC 7635 §9).
pub(super) fn granted(
    wanted: Option<u32>,
    (default, max): (Duration, Duration),
    term: Term,
) -> Duration {
    let wanted = wanted.map_or(default, |seconds| Duration::from_secs(seconds.into()));
    let granted = wanted.min(max).max(default);
    match term {
        // Zero would say that the allocation is gone.
        Term::Token(left) => granted.min(left).max(Duration::from_secs(1)),
        Term::Until(_) | Term::Unlimited => granted,
    }
}

/// Whole seconds for LIFETIME.
pub(super) fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refr_001_lifetimes_are_bounded_below_and_above() {
        let max = Duration::from_secs(3_600);
        for (wanted, expected) in [
            (None, 600),
            (Some(1), 600),
            (Some(599), 600),
            (Some(601), 601),
            (Some(3_600), 3_600),
            (Some(1_000_000_000), 3_600),
            (Some(u32::MAX), 3_600),
        ] {
            let bounds = (LIFETIME_DEFAULT, max);
            assert_eq!(granted(wanted, bounds, Term::Unlimited).as_secs(), expected, "{wanted:?}");
        }
        let low = (LIFETIME_DEFAULT, Duration::from_secs(60));
        assert_eq!(granted(Some(700), low, Term::Unlimited), LIFETIME_DEFAULT, "floor");
    }
}
