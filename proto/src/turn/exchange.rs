//! Answers: the only place that builds responses.
//!
//! An [`Exchange`] is what a response needs to know of its request; it outlives the request's
//! bytes while a relayed socket is being opened. Responses to authenticated requests are signed,
//! the others carry as little as the RFC allows: no words, no SOFTWARE (threat model T3).

use crate::addr::FiveTuple;
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::stun::attribute::{
    ErrorCode, Nonce, PasswordAlgorithms, Realm, Software, ThirdPartyAuthorization,
    UnknownAttributes,
};
use crate::stun::{Class, Integrity, MessageKey, Method, TransactionId, Writer};
use crate::turn::action::{Action, Verdict};
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
    pub(crate) method: Method,
    /// The transaction to repeat.
    pub(crate) transaction: TransactionId,
    /// How to sign; `None` until the request is authenticated.
    pub(crate) signer: Option<Signer>,
}

/// Key and attribute that protect the response to an authenticated request (AUTH-010).
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    /// The key that verified the request.
    pub(crate) key: MessageKey,
    /// The attribute.
    pub(crate) integrity: Integrity,
}

impl<L: Ledger> Server<L> {
    /// Queues a success response with the attributes that `fill` adds.
    pub(super) fn succeed(&mut self, exchange: &Exchange, fill: impl FnOnce(&mut Writer<'_>)) {
        self.succeed_in(&mut [0; RESPONSE_MAX], exchange, fill);
    }

    /// The same with room for a response that is longer than usual.
    pub(super) fn succeed_in(
        &mut self,
        buffer: &mut [u8],
        exchange: &Exchange,
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        if let Some(procedure) = Procedure::of(exchange.method) {
            self.tally.succeeded[procedure as usize] += 1;
        }
        self.respond(buffer, exchange, Class::Success, fill);
    }

    /// Queues the error response a refusal demands.
    pub(super) fn refuse(&mut self, now: Now, exchange: &Exchange, reject: &Reject) -> Verdict {
        self.tally.rejected[reject.why.index()] += 1;
        let code = reject.why.code().0;
        let error = ErrorCode { code, reason: "" };
        let elsewhere = (code == 300).then(|| self.elsewhere(exchange));
        if !reject.why.challenges() {
            self.respond(&mut [0; RESPONSE_MAX], exchange, Class::Error, |writer| {
                writer.add(&error);
                if !reject.unknown.is_empty() {
                    writer.add(&UnknownAttributes::new(&reject.unknown));
                }
                if let Some(elsewhere) = elsewhere {
                    elsewhere.write(writer);
                }
            });
            return Verdict::Handled;
        }
        // RFC 8489 §9.2.4: a challenge names realm, nonce and algorithms, and is not signed.
        let unsigned = Exchange { signer: None, ..exchange.clone() };
        let config = self.config.clone();
        let transport = self.transport(exchange.client);
        let nonce = self.nonces.issue(now, exchange.client.client, transport);
        self.respond(&mut [0; RESPONSE_MAX], &unsigned, Class::Error, |writer| {
            writer
                .add(&error)
                .add(&Realm(&config.realm))
                .add(&Nonce(&nonce))
                .add(&PasswordAlgorithms::OFFERED);
            if let Some(tokens) = &config.authority.tokens {
                writer.add(&ThirdPartyAuthorization(&tokens.server_name));
            }
        });
        Verdict::Handled
    }

    fn respond(
        &mut self,
        buffer: &mut [u8],
        exchange: &Exchange,
        class: Class,
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        let mut writer = Writer::new(buffer, class, exchange.method, exchange.transaction);
        fill(&mut writer);
        if let Some(Signer { key, integrity }) = &exchange.signer {
            let named = matches!(exchange.method, Method::ALLOCATE | Method::REFRESH);
            if let Some(software) = self.config.software.as_deref().filter(|_| named) {
                writer.add(&Software(software));
            }
            writer.sign(key, *integrity);
        }
        let Ok(bytes) = writer.finish() else {
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

impl Why {
    /// Whether the refusal invites the client to authenticate anew.
    fn challenges(self) -> bool {
        matches!(self.code().0, 401 | 438)
    }
}
