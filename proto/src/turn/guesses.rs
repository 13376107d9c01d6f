//! Guesses at passwords: counted, slowed, reported (threat model T2).

use crate::addr::{ClientAddr, FiveTuple};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{DropReason, Why};
use crate::turn::action::Verdict;
use crate::turn::server::Server;
use crate::turn::throttle::Guess;

/// What a request says of who sends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pretence<'a> {
    /// The five-tuple it came by.
    pub(super) from: FiveTuple,
    /// The name, or its hash; empty without one.
    pub(super) name: &'a [u8],
    /// The nonce; empty without one.
    pub(super) nonce: &'a [u8],
}

impl<L: Ledger> Server<L> {
    /// Whether too many wrong passwords came from this source or its network, for this name or for
    /// many. Who has an allocation has proved itself, as its user.
    pub(super) fn guesses_too_often(&self, now: Now, who: Pretence<'_>) -> bool {
        let Some(throttle) = &self.throttle else { return false };
        let owner = self.table.owner_of(who.from);
        if owner.is_some_and(|owner| *owner.username == *who.name) {
            return false;
        }
        let guess = Guess { client: who.from.client, name: who.name };
        !throttle.lets_guess(now.mono, guess, || self.is_at_home(now, who))
    }

    /// Counts a refusal, if it says that a password was wrong.
    pub(super) fn count_guess(&self, now: Now, who: Pretence<'_>, why: Why) {
        if let Some(throttle) = &self.throttle
            && why.is_failed_login()
        {
            let guess = Guess { client: who.from.client, name: who.name };
            throttle.guessed(now.mono, guess, self.is_at_home(now, who));
        }
    }

    /// A request that is not answered because strangers or guesses are too many.
    pub(super) fn ignore(&mut self, from: FiveTuple, guesses: bool) -> Verdict {
        if !guesses {
            return self.dropped(DropReason::Throttled);
        }
        self.suspect = Some(from.client);
        self.dropped(DropReason::Guessing)
    }

    /// Who guessed too often since this was asked last; one of them, if there are several.
    pub fn take_suspect(&mut self) -> Option<ClientAddr> {
        self.suspect.take()
    }

    /// Whether a nonce of ours shows that the source is where it says.
    fn is_at_home(&self, now: Now, who: Pretence<'_>) -> bool {
        self.nonces.is_good(now, who.nonce, who.from.client, self.transport(who.from))
    }
}
