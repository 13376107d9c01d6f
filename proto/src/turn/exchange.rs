//! Answers: the only place that sends responses, in the dialect of the request.
//!
//! An [`Exchange`] is what a response needs to know of its request; it outlives the request's
//! bytes while a relayed socket is being opened.

use std::net::SocketAddr;

use crate::addr::FiveTuple;
use crate::dialect::{Answer, Call, Signer};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::Reject;
use crate::request::{Challenge, Refusal, Reply};
use crate::turn::action::{Action, Verdict};
use crate::turn::notices::{Notice, Occurrence, Party};
use crate::turn::server::Server;
use crate::turn::tally::Procedure;

/// Room for the largest response: realm and SOFTWARE of 127 four-byte characters, or a realm and
/// the server name of access tokens.
const RESPONSE_MAX: usize = 1_280;

/// What a response needs to know of its request.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// Who asked, and through which listener.
    pub(crate) client: FiveTuple,
    /// What for.
    pub(crate) procedure: Procedure,
    /// What to repeat, and in which dialect.
    pub(crate) call: Call,
    /// How to sign; `None` until the request is authenticated.
    pub(crate) signer: Option<Signer>,
}

impl<L: Ledger> Server<L> {
    /// Queues a success response.
    pub(super) fn succeed(&mut self, exchange: &Exchange, reply: Reply<'_>) {
        self.succeed_in(&mut [0; RESPONSE_MAX], exchange, reply);
    }

    /// The same with room for a response that is longer than usual.
    pub(super) fn succeed_in(&mut self, buffer: &mut [u8], exchange: &Exchange, reply: Reply<'_>) {
        self.tally.succeeded[exchange.procedure as usize] += 1;
        self.respond(buffer, exchange, Answer::Success(reply));
    }

    /// Queues the error response a refusal demands.
    pub(super) fn refuse(&mut self, now: Now, exchange: &Exchange, reject: &Reject) -> Verdict {
        self.tally.rejected[reject.why.index()] += 1;
        let code = exchange.call.code(reject.why);
        if let Some(demand) = self.demand(exchange.client.listener) {
            demand.refuse(exchange.procedure, reject.why, code);
        }
        self.notices.tell(Notice {
            party: Party::Client(exchange.client),
            what: Occurrence::Refused {
                why: reject.why,
                procedure: exchange.procedure,
                code,
                proven: exchange.signer.is_some(),
                peer: reject.peer,
            },
            count: 1,
        });
        let config = self.config.clone();
        let transport = self.transport(exchange.client);
        let challenges = exchange.call.challenges(code);
        if challenges && exchange.procedure == Procedure::Allocate {
            self.arrivals.note(&self.digests, exchange.client, now.mono);
        }
        let nonce = challenges.then(|| self.nonces.issue(now, exchange.client.client, transport));
        let refusal = Refusal {
            code,
            unknown: &reject.unknown,
            challenge: nonce.as_ref().map(|nonce| Challenge {
                realm: &config.realm,
                nonce,
                authorization: config.authority.tokens.as_ref().map(|it| &*it.server_name),
                here: self.public_name(exchange.client),
            }),
            elsewhere: (code == 300).then(|| self.elsewhere(exchange)),
        };
        self.respond(&mut [0; RESPONSE_MAX], exchange, Answer::Error(&refusal));
        Verdict::Handled
    }

    /// What the listener of a client is called outside a NAT (MST-61). A client of MS-TURN goes
    /// there at once if it came by another address, so this is said only where the configuration
    /// knows better than the client; elsewhere the address it came by is the right one, and a NAT
    /// of which nobody told us would make ours a wrong one.
    fn public_name(&self, client: FiveTuple) -> Option<SocketAddr> {
        let listener = self.config.edge.listener(client.listener)?;
        listener.advertised.map(|_| listener.reachable())
    }

    fn respond(&mut self, buffer: &mut [u8], exchange: &Exchange, answer: Answer<'_>) {
        let software = self.config.software.as_deref();
        let written = exchange.call.write(answer, exchange.signer.as_ref(), software, buffer);
        let Ok(bytes) = written else {
            debug_assert!(false, "the buffer holds every response");
            return;
        };
        self.send_control(exchange.client, bytes.into());
    }

    /// Queues a control message.
    pub(super) fn send_control(&mut self, to: FiveTuple, bytes: Box<[u8]>) {
        if let Some(listener) = self.listeners.get_mut(to.listener.index()) {
            listener.control_out.add(bytes.len());
        }
        self.actions.push_back(Action::Send { to, bytes });
    }
}
