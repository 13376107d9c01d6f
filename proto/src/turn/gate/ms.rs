//! The gate for clients of MS-TURN (MST-48, MST-50 to MST-56), in the order of their table.
//!
//! The user name is looked at first: a token that no key of the pool signed, or that is good on the
//! other side of the edge, is an unknown user, whatever else the request says (MST-52, ED-47). From then on the key is
//! known, and refusals are signed with it. That they differ tells nobody who exists: nobody can guess a token.

use std::borrow::Cow;

use subtle::ConstantTimeEq;

use crate::dialect::Signer;
use crate::dialect::ms::{Message, Type};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::stun::{Integrity, PasswordAlgorithm};
use crate::turn::exchange::Exchange;
use crate::turn::gate::Authenticated;
use crate::turn::server::Server;
use crate::turn::tally::Procedure;

impl<L: Ledger> Server<L> {
    /// Checks credentials, nonce and integrity. `exchange` learns how its answer is signed, be it a
    /// refusal. Whether the token is still good matters if `opens` an allocation (MST-82).
    pub(in crate::turn) fn admit_ms<'a>(
        &self,
        now: Now,
        exchange: &mut Exchange,
        message: &Message<'a>,
        opens: bool,
    ) -> Result<Authenticated<'a>, Reject> {
        let (config, authority) = (&self.config, &self.config.authority);
        // MST-50, MST-51.
        if !message.is_signed() {
            return Err(Why::NoIntegrity.into());
        }
        let username = message.first(Type::USERNAME).ok_or(Why::MissingUsername)?;
        // MST-52: a token of ours, in its time. The key is wanted before it is known to fit.
        let token = authority.derive_ms(username);
        let verified = token.authenticate(&config.realm, PasswordAlgorithm::Md5, |_| true)?;
        if opens {
            authority.in_time(&verified.identity, now.unix)?;
            self.on_its_side(exchange.client, &verified.identity)?;
        }
        let signer = Signer { key: verified.key, integrity: Integrity::Sha1 };
        exchange.signer = Some(signer.clone());
        // MST-53: other requests than Allocate may leave out the realm (MST-43).
        let allocates = exchange.procedure == Procedure::Allocate;
        match message.first(Type::REALM) {
            None if allocates => return Err(Why::MissingRealm.into()),
            Some(realm) if realm != config.realm.as_bytes() => return Err(Why::WrongRealm.into()),
            None | Some(_) => {}
        }
        // MST-54, MST-55: and they know no nonce (MST-48).
        let nonce = message.first(Type::NONCE);
        if allocates && !self.is_good_ms(now, exchange, nonce.ok_or(Why::MissingNonce)?) {
            return Err(Why::StaleNonce.into());
        }
        // MST-56.
        if !message.verify(&signer.key) {
            return Err(Why::WrongPassword.into());
        }
        exchange.proven = true;
        Ok(Authenticated {
            exchange: exchange.clone(),
            bytes: message.bytes(),
            username: Cow::Borrowed(username),
            identity: verified.identity,
            lasting_nonce: nonce,
            _gate: (),
        })
    }

    /// Whether a nonce is young, or opened the very allocation that it is brought for (MST-77).
    fn is_good_ms(&self, now: Now, exchange: &Exchange, nonce: &[u8]) -> bool {
        let owner = self.table.owner_of(exchange.client);
        let session = owner.and_then(|owner| owner.session.as_ref());
        let client = exchange.client;
        session.is_some_and(|session| bool::from(session.nonce.ct_eq(nonce)))
            || self.nonces.is_good(now, nonce, client.client, self.transport(client))
    }
}
