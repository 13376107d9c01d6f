//! How a request goes in any dialect: through its gate, to its procedure, and what of a refusal is
//! heard.
//!
//! A dialect says how its requests prove who asks, in which order, and which procedures they know
//! ([`Asks`]). That guesses are counted, that a five-tuple waits for its sockets, and that
//! strangers do not hear everything is the same for all, and stands here alone. What each dialect
//! says lies below: [`rfc`] and [`ms`].

mod ms;
mod rfc;

use crate::addr::FiveTuple;
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{DropReason, Reject, Why};
use crate::turn::action::Verdict;
use crate::turn::exchange::Exchange;
use crate::turn::gate::Authenticated;
use crate::turn::guesses::Pretence;
use crate::turn::server::Server;
use crate::turn::tally::Procedure;
use crate::turn::throttle::{About, Standing};

/// A request as its dialect reads it.
pub(super) trait Asks<'a, L> {
    /// Who it says it is from, and whether it is signed.
    fn pretence(&self, exchange: &Exchange) -> (Pretence<'a>, bool);

    /// Checks its credentials. `exchange` may learn how even a refusal is signed.
    fn admit(
        &self,
        server: &Server<L>,
        now: Now,
        exchange: &mut Exchange,
    ) -> Result<Authenticated<'a>, Reject>;

    /// Whether the gate refuses for this reason only who knows the password.
    fn knows(&self, why: Why) -> bool;

    /// Brings it to its procedure.
    fn serve(
        &self,
        server: &mut Server<L>,
        now: Now,
        request: &Authenticated<'a>,
    ) -> Result<Verdict, Reject>;
}

impl<L: Ledger> Server<L> {
    /// Counts what a client wants, whatever will come of it.
    fn asked(&mut self, from: FiveTuple, procedure: Procedure) {
        if let Some(demand) = self.demand(from.listener) {
            demand.requests[procedure as usize] += 1;
        }
    }

    /// A request is answered, or refused with a code, or not heard.
    pub(super) fn conduct<'a>(
        &mut self,
        now: Now,
        mut exchange: Exchange,
        asks: &impl Asks<'a, L>,
    ) -> Verdict {
        let from = exchange.client;
        let (who, signed) = asks.pretence(&exchange);
        if signed && self.guesses_too_often(now, who) {
            return self.ignore(from, true);
        }
        let outcome = match asks.admit(self, now, &mut exchange) {
            Err(reject) => {
                let why = reject.why;
                self.count_guess(now, who, why);
                let question = exchange.question(About::Login);
                let heard = if asks.knows(why) {
                    self.admits(now, &question, Standing::Knowing)
                } else {
                    self.hears(now, &question, why != Why::NoIntegrity)
                };
                if !heard {
                    return self.ignore(from, why.is_failed_login());
                }
                Err(reject)
            }
            Ok(_) if self.table.opening_of(from).is_some() => {
                return self.dropped(DropReason::AwaitingSocket);
            }
            Ok(request) => {
                exchange.signer.clone_from(&request.exchange.signer);
                exchange.proven = true;
                asks.serve(self, now, &request)
            }
        };
        outcome.unwrap_or_else(|reject| self.refuse(now, &exchange, &reject))
    }
}
