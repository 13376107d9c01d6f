//! ALTERNATE-SERVER: clients that are not taken here are sent elsewhere (RFC 8489 §10).
//!
//! Only Allocate redirects, after its checks, so whoever hears it has authenticated and the
//! answer is signed (AUTH-036).

use std::hash::BuildHasher;

use crate::addr::{Family, FiveTuple, Transport};
use crate::policy::Ledger;
use crate::reject::Why;
use crate::request::Elsewhere;
use crate::stun::Integrity;
use crate::turn::exchange::Exchange;
use crate::turn::server::Server;

/// What makes a relay send clients elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// They came to an address that it shares with others.
    Anycast,
    /// It drains.
    Draining,
    /// It holds as many allocations as it may.
    Full,
}

impl<L: Ledger> Server<L> {
    /// The refusal that sends a client elsewhere for this cause, if that is wanted and a relay of
    /// its family can be named, as RFC 8489 §10 demands.
    pub(super) fn redirected(&self, client: FiveTuple, cause: Cause) -> Option<Why> {
        let redirect = &self.config.redirect;
        let (wanted, why) = match cause {
            Cause::Anycast => (true, Why::RedirectedAnycast),
            Cause::Draining => (redirect.when_draining, Why::RedirectedDraining),
            Cause::Full => (redirect.when_full, Why::RedirectedFull),
        };
        let family = Family::of(client.client.ip());
        (wanted && !redirect.alternates[family.index()].is_empty()).then_some(why)
    }

    /// Where this client is sent: always to the same relay of its family, and as a second choice
    /// to one of the other. The domain is of use only to clients that can trust it.
    pub(super) fn elsewhere(&self, exchange: &Exchange) -> Elsewhere {
        let redirect = &self.config.redirect;
        let own = Family::of(exchange.client.client.ip()).index();
        let choose = |family: usize| {
            let choices = redirect.alternates.get(family)?;
            let digest = self.digests.hash_one(exchange.client.client.socket());
            let count = u64::try_from(choices.len()).ok().filter(|&count| count > 0)?;
            choices.get(usize::try_from(digest % count).ok()?).copied()
        };
        let secure = matches!(self.transport(exchange.client), Transport::Tls | Transport::Dtls);
        let strong =
            exchange.signer.as_ref().is_some_and(|signer| signer.integrity == Integrity::Sha256);
        Elsewhere {
            servers: [choose(own), choose(1 - own)],
            domain: redirect.domain.clone().filter(|_| secure && strong),
        }
    }
}
