//! Answers: the only place that sends responses, in the dialect of the request.
//!
//! An [`Exchange`] is what a response needs to know of its request; it outlives the request's
//! bytes while a relayed socket is being opened.

use std::net::SocketAddr;

use crate::addr::{Family, FiveTuple, Transport};
use crate::dialect::{Answer, Call, Signer};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{DropReason, Reject};
use crate::request::{Challenge, Refusal, Reply};
use crate::turn::action::{Action, Verdict};
use crate::turn::nonce;
use crate::turn::notices::{Notice, Occurrence, Party};
use crate::turn::server::Server;
use crate::turn::tally::Procedure;
use crate::turn::throttle::{About, Question};

/// Room for the largest response: realm and SOFTWARE of 127 four-byte characters, or a realm and
/// the server name of access tokens.
const RESPONSE_MAX: usize = 1_280;

/// How much more than a request an error may weigh on the wire whose receiver may not be who asked:
/// a victim's address is easily written into a datagram (threat model T3).
const HEAVIEST: (usize, usize) = (8, 3);

/// The shortest Allocate that makes sense: a header and REQUESTED-TRANSPORT.
const SHORTEST_ALLOCATE: usize = 28;

/// Whether every client that wants an allocation over UDP can be told how to log in to this realm:
/// what tells it may not be much larger than what it asked.
pub fn can_challenge(realm: &str, server_name: Option<&str>) -> bool {
    let attribute = |len: usize| 4 + len.next_multiple_of(4);
    let server_name = server_name.map_or(0, |name| attribute(name.len()));
    let code_and_algorithms = attribute(4) + attribute(8);
    let told = 20 + code_and_algorithms + attribute(realm.len()) + attribute(nonce::LENGTH);
    is_modest(Family::V4, SHORTEST_ALLOCATE, told + server_name)
}

fn is_modest(family: Family, asked: usize, told: usize) -> bool {
    let headers = match family {
        Family::V4 => 20 + 8,
        Family::V6 => 40 + 8,
    };
    let (most, of) = HEAVIEST;
    (told + headers) * of <= (asked + headers) * most
}

/// What a response needs to know of its request.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// Who asked, and through which listener.
    pub(crate) client: FiveTuple,
    /// What for.
    pub(crate) procedure: Procedure,
    /// In so many bytes.
    pub(crate) asked: usize,
    /// What to repeat, and in which dialect.
    pub(crate) call: Call,
    /// How to sign, once a key is known.
    pub(crate) signer: Option<Signer>,
    /// Whether the request was authenticated. Clients of MS-TURN hear signed refusals before it was.
    pub(crate) proven: bool,
}

impl Exchange {
    /// The request as strangers' are counted.
    pub(crate) fn question(&self, about: About) -> Question<'_> {
        Question { from: self.client, transaction: self.call.transaction(), about }
    }
}

impl<L: Ledger> Server<L> {
    /// Queues a success response.
    pub(super) fn succeed(&mut self, exchange: &Exchange, reply: Reply<'_>) {
        self.succeed_in(&mut [0; RESPONSE_MAX], exchange, reply);
    }

    /// The same with room for a response that is longer than usual.
    pub(super) fn succeed_in(&mut self, buffer: &mut [u8], exchange: &Exchange, reply: Reply<'_>) {
        self.tally.succeeded[exchange.procedure as usize] += 1;
        if let Some(bytes) = self.written(buffer, exchange, Answer::Success(reply)) {
            self.send_control(exchange.client, bytes.into());
        }
    }

    /// Queues the error response a refusal demands, unless it could be turned against somebody.
    pub(super) fn refuse(&mut self, now: Now, exchange: &Exchange, reject: &Reject) -> Verdict {
        let code = exchange.call.code(reject.why);
        let config = self.config.clone();
        let transport = self.transport(exchange.client);
        let challenges = exchange.call.challenges(code);
        let nonce = challenges.then(|| self.nonces.issue(now, exchange.client.client, transport));
        let challenge = |authorization| {
            nonce.as_ref().map(|nonce| Challenge {
                realm: &config.realm,
                nonce,
                authorization,
                here: self.public_name(exchange.client),
            })
        };
        let server_name = config.authority.tokens.as_ref().map(|it| &*it.server_name);
        let mut refusal = Refusal {
            code,
            unknown: &reject.unknown,
            challenge: challenge(server_name),
            elsewhere: (code == 300).then(|| self.elsewhere(exchange)),
        };
        let family = Family::of(exchange.client.client.ip());
        let may_be_forged = transport == Transport::Udp && !exchange.proven;
        let fits = |told: usize| !may_be_forged || is_modest(family, exchange.asked, told);
        let (mut whole, mut short) = ([0; RESPONSE_MAX], [0; RESPONSE_MAX]);
        let Some(mut bytes) = self.written(&mut whole, exchange, Answer::Error(&refusal)) else {
            return Verdict::Handled;
        };
        if !fits(bytes.len()) && server_name.is_some() {
            // Who has tokens hears where to get others when it asks for an allocation.
            refusal.challenge = challenge(None);
            bytes = self.written(&mut short, exchange, Answer::Error(&refusal)).unwrap_or(bytes);
        }
        if !fits(bytes.len()) {
            return self.dropped(DropReason::Disproportionate);
        }
        self.tally.rejected[reject.why.index()] += 1;
        if let Some(demand) = self.demand(exchange.client.listener) {
            demand.refuse(exchange.procedure, reject.why, code);
        }
        self.notices.tell(Notice {
            party: Party::Client(exchange.client),
            what: Occurrence::Refused {
                why: reject.why,
                procedure: exchange.procedure,
                code,
                proven: exchange.proven,
                peer: reject.peer,
            },
            count: 1,
        });
        if challenges && exchange.procedure == Procedure::Allocate {
            self.arrivals.note(&self.digests, exchange.client, now.mono);
        }
        self.send_control(exchange.client, bytes.into());
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

    fn written<'b>(
        &self,
        buffer: &'b mut [u8],
        exchange: &Exchange,
        answer: Answer<'_>,
    ) -> Option<&'b [u8]> {
        let software = self.config.software.as_deref();
        let written = exchange.call.write(answer, exchange.signer.as_ref(), software, buffer);
        debug_assert!(written.is_ok(), "the buffer holds every response");
        written.ok()
    }

    /// Queues a control message.
    pub(super) fn send_control(&mut self, to: FiveTuple, bytes: Box<[u8]>) {
        if let Some(listener) = self.listeners.get_mut(to.listener.index()) {
            listener.control_out.add(bytes.len());
        }
        self.actions.push_back(Action::Send { to, bytes });
    }
}
