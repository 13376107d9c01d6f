//! Messages of MS-TURN, brought to the procedures that serve every dialect.
//!
//! Allocate opens an allocation, and on one that is open stands for Refresh, or with lifetime zero
//! for its release (MST-75, MST-76); with its connection, from anywhere. Send is a request by its name and an indication by its
//! nature: signed, never answered.

use crate::addr::{AllocationId, Family, FiveTuple, PeerAddr};
use crate::dialect::Call;
use crate::dialect::ms::{self, Kind, Message, Type};
use crate::marks::{Datagram, Marks};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{DropReason, Reject, Why};
use crate::turn::action::{Action, CloseReason, Verdict};
use crate::turn::conduct::Asks;
use crate::turn::exchange::Exchange;
use crate::turn::gate::Authenticated;
use crate::turn::guesses::Pretence;
use crate::turn::refresh::{granted, seconds};
use crate::turn::server::Server;
use crate::turn::session::Spoken;
use crate::turn::tally::Procedure;

impl<L: Ledger> Server<L> {
    /// A message of MS-TURN by its cookie.
    pub(in crate::turn) fn ms(
        &mut self,
        now: Now,
        from: FiveTuple,
        datagram: Datagram<'_>,
    ) -> Verdict {
        let Datagram { marks, bytes } = datagram;
        let Ok(message) = Message::parse(bytes) else {
            return self.dropped(DropReason::MalformedMs);
        };
        let procedure = match message.kind() {
            Kind::SEND => {
                return match self.send_ms(now, from, marks, &message) {
                    Ok(verdict) => verdict,
                    Err(reason) => self.dropped(reason),
                };
            }
            Kind::ALLOCATE => Procedure::Allocate,
            Kind::SET_ACTIVE_DESTINATION => Procedure::SetActiveDestination,
            _ => return self.dropped(DropReason::UnexpectedMessage),
        };
        if self.is_spoofed(from) {
            return self.dropped(DropReason::SpoofedSource);
        }
        if let Some(listener) = self.listeners.get_mut(from.listener.index()) {
            listener.control_in.add(bytes.len());
        }
        self.request_ms(now, from, &message, procedure)
    }

    /// A request is answered, or refused with a code.
    fn request_ms(
        &mut self,
        now: Now,
        from: FiveTuple,
        message: &Message<'_>,
        procedure: Procedure,
    ) -> Verdict {
        self.asked(from, procedure);
        let call = ms::Call { kind: message.kind(), transaction: message.transaction() };
        let exchange = Exchange {
            client: from,
            procedure,
            asked: message.bytes().len(),
            call: Call::Ms(call),
            signer: None,
            proven: false,
        };
        let opens = procedure == Procedure::Allocate
            && message.number(Type::LIFETIME) != Some(0)
            && self.spoken_of(from, message.numbered()) == Spoken::Nothing;
        self.conduct(now, exchange, &Demanded { message, opens })
    }

    /// An authenticated request goes to its procedure.
    fn serve_ms(
        &mut self,
        now: Now,
        request: &Authenticated<'_>,
        message: &Message<'_>,
    ) -> Result<Verdict, Reject> {
        // MST-57.
        let unknown = message.unknown_required();
        if !unknown.is_empty() {
            return Err(Reject::unknown(unknown));
        }
        if request.exchange.procedure == Procedure::SetActiveDestination {
            let peer = message.address(Type::DESTINATION_ADDRESS);
            return self.aim(now, request, peer, message.numbered());
        }
        let client = request.exchange.client;
        let stream = self.transport(client).is_stream();
        let wish = ms::translate::wish(message, stream);
        match self.spoken_of(client, message.numbered()) {
            Spoken::Here => {
                let id = self.owned(request)?;
                self.renew(now, id, request, wish.lifetime);
            }
            Spoken::Elsewhere(id) => {
                let left = self.follow(now, id, request)?;
                self.renew(now, id, request, wish.lifetime);
                if stream {
                    self.actions.push_back(Action::CloseClient(left));
                }
            }
            Spoken::OfWorker(worker) => {
                let bytes = request.bytes.into();
                self.actions.push_back(Action::HandOver { client, worker, bytes });
                return Ok(Verdict::Leaves);
            }
            Spoken::Nothing if wish.lifetime == Some(0) => {
                self.repeat_farewell(now, request);
            }
            Spoken::Nothing => self.allocate(now, request, |_| Ok(wish))?,
        }
        Ok(Verdict::Handled)
    }

    /// An allocation moves to where an Allocate with its connection came from (MST-75). Its nonce
    /// says that the client hears us there, so it is there at once, and nowhere else; returns where
    /// it was.
    fn follow(
        &mut self,
        now: Now,
        id: AllocationId,
        request: &Authenticated<'_>,
    ) -> Result<FiveTuple, Reject> {
        let client = request.exchange.client;
        let allocation = self.table.open(id).ok_or(Why::NoAllocation)?;
        if !request.owns(&allocation.owner) {
            return Err(Why::OtherUser.into());
        }
        self.welcome(client, &request.identity)?;
        self.has_room_for(client)?;
        let allocation = self.table.open(id).ok_or(Why::NoAllocation)?;
        if let (Some(session), Some(nonce)) = (&mut allocation.owner.session, request.lasting_nonce)
        {
            session.nonce = nonce.into();
        }
        self.resettle(now, id, client).ok_or_else(|| Why::NoAllocation.into())
    }

    /// Allocate on an allocation: prolongs it, or ends it with lifetime zero.
    fn renew(
        &mut self,
        now: Now,
        id: AllocationId,
        request: &Authenticated<'_>,
        wanted: Option<u32>,
    ) {
        if wanted == Some(0) {
            self.remember(now, id, request);
            self.announce(now, id, &request.exchange, Some(0));
            self.close(now, id, CloseReason::Released);
            return;
        }
        let lifetime = granted(wanted, self.lifetimes(request), request.identity.term);
        self.prolong(now, id, Family::ALL, lifetime);
        self.announce(now, id, &request.exchange, Some(seconds(lifetime)));
    }

    /// Send: payload for a peer, who may answer from then on (MST-85, MST-86).
    fn send_ms(
        &mut self,
        now: Now,
        from: FiveTuple,
        marks: Marks,
        message: &Message<'_>,
    ) -> Result<Verdict, DropReason> {
        let stream = self.transport(from).is_stream();
        let realm = message.first(Type::REALM);
        let is_ours = realm.is_none_or(|realm| realm == self.config.realm.as_bytes());
        let seat = self.table.seat(from).ok_or(DropReason::NoAllocation)?;
        let (id, allocation) = self.table.open_at(seat).ok_or(DropReason::NoAllocation)?;
        let owner = &mut *allocation.owner;
        let session = owner.session.as_mut().ok_or(DropReason::NoAllocation)?;
        let named = message.first(Type::USERNAME).is_some_and(|name| *name == *owner.username);
        if !is_ours || !named || !message.verify(&session.key) {
            return Err(DropReason::UnsignedMs);
        }
        if !message.unknown_required().is_empty() {
            return Err(DropReason::BadIndication);
        }
        // MST-93: old clients send no number.
        if let Some(numbered) = message.numbered() {
            // MST-92: libnice counts twice over one connection, whose bytes nobody repeats.
            if !session.is_of(numbered) || !stream && !session.is_fresh(numbered) {
                return Err(DropReason::Replayed);
            }
            session.take(numbered);
        }
        let peer = message.address(Type::DESTINATION_ADDRESS);
        let peer = peer.ok_or(DropReason::BadIndication)?;
        let data = message.attribute(Type::DATA).ok_or(DropReason::BadIndication)?;
        let marks = marks.carried().ok_or(DropReason::HopLimit)?;
        let (local, _) = self.config.edge.place(PeerAddr::new(peer));
        if allocation.permission(local.ip()).is_none() {
            self.permit(now, id, peer).map_err(|why| match why {
                Why::TooManyPermissions => DropReason::TooManyPermissions,
                Why::TooManyNewPeers => DropReason::TooManyNewPeers,
                Why::UserNewPeers => DropReason::UserNewPeers,
                Why::ClientNewPeers => DropReason::ClientNewPeers,
                Why::PeerFamily => DropReason::PeerFamily,
                _ => DropReason::PeerDenied,
            })?;
        }
        self.convey(now, (from, seat), marks, (peer, data.offset, data.value))
    }
}

/// A request.
struct Demanded<'m, 'a> {
    message: &'m Message<'a>,
    /// Whether it wants an allocation that is not there.
    opens: bool,
}

impl<'a, L: Ledger> Asks<'a, L> for Demanded<'_, 'a> {
    fn pretence(&self, exchange: &Exchange) -> (Pretence<'a>, bool) {
        let field = |kind| self.message.first(kind).unwrap_or_default();
        let (name, nonce) = (field(Type::USERNAME), field(Type::NONCE));
        (Pretence { from: exchange.client, name, nonce }, self.message.is_signed())
    }

    fn admit(
        &self,
        server: &Server<L>,
        now: Now,
        exchange: &mut Exchange,
    ) -> Result<Authenticated<'a>, Reject> {
        server.admit_ms(now, exchange, self.message, self.opens)
    }

    /// The integrity is looked at last (MST-56).
    fn knows(&self, _: Why) -> bool {
        false
    }

    fn serve(
        &self,
        server: &mut Server<L>,
        now: Now,
        request: &Authenticated<'a>,
    ) -> Result<Verdict, Reject> {
        server.serve_ms(now, request, self.message)
    }
}
