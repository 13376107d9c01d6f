//! Binding for clients of RFC 3489 (RFC 8489 §11), off unless the configuration wants it; so do
//! clients of MS-TURN ask for their address (MST-60), which are served where that is.
//!
//! The answer goes where the request came from, whatever RESPONSE-ADDRESS or CHANGE-REQUEST say.

use crate::addr::{FiveTuple, Transport};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{DropReason, Why};
use crate::stun::attribute::{ErrorCode, MappedAddress, UnknownAttributes};
use crate::stun::{Class, ClassicBinding};
use crate::turn::action::{Action, Verdict};
use crate::turn::gate::KNOWN;
use crate::turn::server::Server;
use crate::turn::tally::Procedure;
use crate::turn::throttle::{About, Question};

/// Room for the largest answer: a 420 with as many types as are ever listed.
const ANSWER_MAX: usize = 256;

impl<L: Ledger> Server<L> {
    /// A message that looks like STUN but for the magic cookie.
    pub(super) fn classic(&mut self, now: Now, from: FiveTuple, bytes: &[u8]) -> Verdict {
        let Ok(request) = ClassicBinding::parse(bytes) else {
            return self.dropped(DropReason::MalformedStun);
        };
        let wrong = match self.transport(from) {
            Transport::Udp if self.config.compat.rfc3489 => None,
            // MST-60: clients of MS-TURN ask so, in frames of theirs too.
            Transport::Udp | Transport::Tcp | Transport::Tls if self.config.microsoft => None,
            Transport::Dtls => Some(Why::ClassicDtls),
            Transport::Udp | Transport::Tcp | Transport::Tls => {
                return self.dropped(DropReason::ClassicStun);
            }
        };
        if self.is_spoofed(from) {
            return self.dropped(DropReason::SpoofedSource);
        }
        if let Some(listener) = self.listeners.get_mut(from.listener.index()) {
            listener.control_in.add(bytes.len());
        }
        let transaction = &request.transaction().0;
        let question = Question { from, transaction, about: About::Address };
        if !self.hears(now, &question, false) {
            return self.dropped(DropReason::Throttled);
        }
        let unknown = request.unknown_required(KNOWN);
        let wrong = wrong.or_else(|| (!unknown.is_empty()).then_some(Why::UnknownAttribute));
        let mut buffer = [0; ANSWER_MAX];
        let answer = match wrong {
            None => {
                self.tally.succeeded[Procedure::Binding as usize] += 1;
                let mut writer = request.answer(&mut buffer, Class::Success);
                writer.add(&MappedAddress(from.client.socket()));
                writer.finish()
            }
            Some(why) => {
                self.tally.rejected[why.index()] += 1;
                let mut writer = request.answer(&mut buffer, Class::Error);
                writer.add(&ErrorCode { code: why.code().0, reason: "" });
                if why == Why::UnknownAttribute {
                    writer.add(&UnknownAttributes::new(&unknown));
                }
                writer.finish()
            }
        };
        let Ok(bytes) = answer else {
            debug_assert!(false, "ANSWER_MAX holds every answer");
            return Verdict::Handled;
        };
        if let Some(listener) = self.listeners.get_mut(from.listener.index()) {
            listener.control_out.add(bytes.len());
        }
        self.actions.push_back(Action::Send { to: from, bytes: bytes.into() });
        Verdict::Handled
    }
}
