//! Refresh (RFC 8656 §8.2).

use std::time::Duration;

use crate::addr::Family;
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::stun::attribute::{Lifetime, RequestedAddressFamily};
use crate::turn::action::CloseReason;
use crate::turn::allocation::Allocation;
use crate::turn::gate::Authenticated;
use crate::turn::server::Server;

/// Lifetime of an allocation nobody asked more for (RFC 8656 §2: default 600 s), and the least
/// one that is granted.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(600);

impl<L: Ledger> Server<L> {
    /// Prolongs an allocation, or ends it with lifetime zero.
    pub(super) fn refresh(&mut self, now: Now, request: &Authenticated<'_>) -> Result<(), Reject> {
        let id = self.owned(request)?;
        let wanted = request.message.read::<Lifetime>()?.map(|Lifetime(seconds)| seconds);
        let Some(allocation) = self.table.open(id) else { return Err(Why::NoAllocation.into()) };
        let families = selected(allocation, request)?;
        if wanted == Some(0) {
            for family in families {
                self.close_relay(now, id, family, CloseReason::Released);
            }
            self.succeed(&request.exchange, |writer| {
                writer.add(&Lifetime(0));
            });
            return Ok(());
        }
        // A credential opens nothing once it expired, but a call that runs may go on a little.
        let last = request.identity.expires.plus(self.config.refresh_grace.as_secs());
        if now.unix >= last {
            return Err(Why::Expired.into());
        }
        let lifetime = granted(wanted, self.config.lifetime_max);
        for family in families {
            allocation.prolong(family, now.mono + lifetime);
        }
        self.arm_by(id, now.mono + lifetime);
        self.succeed(&request.exchange, |writer| {
            writer.add(&Lifetime(seconds(lifetime)));
        });
        Ok(())
    }
}

/// The families a Refresh speaks of: the one it names, or all (RFC 8656 §8.2).
fn selected(
    allocation: &Allocation,
    request: &Authenticated<'_>,
) -> Result<impl Iterator<Item = Family> + use<>, Reject> {
    let named = request.message.read::<RequestedAddressFamily>()?;
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
pub(super) fn granted(wanted: Option<u32>, max: Duration) -> Duration {
    let wanted = wanted.map_or(LIFETIME_DEFAULT, |seconds| Duration::from_secs(seconds.into()));
    wanted.min(max).max(LIFETIME_DEFAULT)
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
            assert_eq!(granted(wanted, max).as_secs(), expected, "{wanted:?}");
        }
        assert_eq!(granted(Some(700), Duration::from_secs(60)), LIFETIME_DEFAULT, "floor");
    }
}
