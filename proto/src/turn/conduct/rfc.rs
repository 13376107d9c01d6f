//! Messages of STUN and TURN as the RFCs have them, brought to the procedures.

use crate::addr::FiveTuple;
use crate::dialect::{Call, rfc};
use crate::marks::Datagram;
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{DropReason, Reject, Why};
use crate::stun::{AttributeType, Class, Fingerprint, Malformed, Message, Method};
use crate::turn::action::Verdict;
use crate::turn::conduct::Asks;
use crate::turn::exchange::Exchange;
use crate::turn::gate::Authenticated;
use crate::turn::guesses::Pretence;
use crate::turn::server::Server;
use crate::turn::tally::Procedure;
use crate::turn::throttle::About;

impl<L: Ledger> Server<L> {
    /// A message that looks like STUN.
    pub(in crate::turn) fn stun(
        &mut self,
        now: Now,
        from: FiveTuple,
        datagram: Datagram<'_>,
    ) -> Verdict {
        let Datagram { marks, bytes } = datagram;
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(Malformed::Cookie) => return self.classic(now, from, bytes),
            Err(_) => return self.dropped(DropReason::MalformedStun),
        };
        let is_send = message.class() == Class::Indication && message.method() == Method::SEND;
        let seat = if is_send { self.table.seat(from) } else { None };
        // Before anything that costs more the longer the message is.
        if is_send && seat.is_none() {
            return self.dropped(DropReason::NoAllocation);
        }
        if message.fingerprint() == Fingerprint::Wrong {
            return self.dropped(DropReason::BadFingerprint);
        }
        if let Some(seat) = seat {
            return self.send(now, (from, seat), marks, &message);
        }
        if self.is_spoofed(from) {
            return self.dropped(DropReason::SpoofedSource);
        }
        if let Some(listener) = self.listeners.get_mut(from.listener.index()) {
            listener.control_in.add(bytes.len());
        }
        match (message.class(), Procedure::of(message.method())) {
            (Class::Request, Some(procedure)) => self.request(now, from, &message, procedure),
            (Class::Indication, Some(Procedure::Binding)) => Verdict::Handled,
            _ => self.dropped(DropReason::UnexpectedMessage),
        }
    }

    /// A request is answered, or refused with a code.
    fn request(
        &mut self,
        now: Now,
        from: FiveTuple,
        message: &Message<'_>,
        procedure: Procedure,
    ) -> Verdict {
        self.asked(from, procedure);
        let call = rfc::Call { method: message.method(), transaction: message.transaction() };
        let exchange = Exchange {
            client: from,
            procedure,
            asked: message.bytes().len(),
            call: Call::Rfc(call),
            signer: None,
            proven: false,
        };
        match procedure {
            Procedure::Binding if !self.hears(now, &exchange.question(About::Address), false) => {
                self.dropped(DropReason::Throttled)
            }
            Procedure::Binding => match self.binding(&exchange, message) {
                Ok(()) => Verdict::Handled,
                Err(reject) => self.refuse(now, &exchange, &reject),
            },
            // Without the feature these are methods nobody heard of.
            Procedure::Connect | Procedure::ConnectionBind if !self.config.tcp_relays => {
                self.dropped(DropReason::UnexpectedMessage)
            }
            Procedure::SetActiveDestination => self.dropped(DropReason::UnexpectedMessage),
            Procedure::Allocate
            | Procedure::Refresh
            | Procedure::CreatePermission
            | Procedure::ChannelBind
            | Procedure::Connect
            | Procedure::ConnectionBind => self.conduct(now, exchange, message),
        }
    }

    /// An authenticated request goes to its procedure.
    fn serve(
        &mut self,
        now: Now,
        request: &Authenticated<'_>,
        message: &Message<'_>,
    ) -> Result<Verdict, Reject> {
        self.understood(message)?;
        let client = request.exchange.client;
        match request.exchange.procedure {
            Procedure::Allocate => {
                self.allocate(now, request, |server| server.wish(client, message))?;
            }
            Procedure::Refresh => return self.refresh(now, request, message),
            Procedure::CreatePermission => self.create_permission(now, request, message)?,
            Procedure::ChannelBind => self.channel_bind(now, request, message)?,
            Procedure::Connect => self.connect(now, request, message)?,
            Procedure::ConnectionBind => return self.connection_bind(request, message),
            Procedure::Binding => self.binding(&request.exchange, message)?,
            Procedure::SetActiveDestination => return Err(Why::BadAttribute.into()),
        }
        Ok(Verdict::Handled)
    }
}

impl<'a, L: Ledger> Asks<'a, L> for Message<'a> {
    fn pretence(&self, exchange: &Exchange) -> (Pretence<'a>, bool) {
        let field = |kind| self.first(kind);
        let name = field(AttributeType::USERNAME).or(field(AttributeType::USERHASH));
        let nonce = field(AttributeType::NONCE).unwrap_or_default();
        let who = Pretence { from: exchange.client, name: name.unwrap_or_default(), nonce };
        (who, self.integrity().is_some())
    }

    fn admit(
        &self,
        server: &Server<L>,
        now: Now,
        exchange: &mut Exchange,
    ) -> Result<Authenticated<'a>, Reject> {
        server.admit(now, exchange, self)
    }

    /// The nonce is looked at last.
    fn knows(&self, why: Why) -> bool {
        why == Why::StaleNonce
    }

    fn serve(
        &self,
        server: &mut Server<L>,
        now: Now,
        request: &Authenticated<'a>,
    ) -> Result<Verdict, Reject> {
        server.serve(now, request, self)
    }
}
