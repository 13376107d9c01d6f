//! Mobility (RFC 8016): an allocation follows its client to another address. So it does in MS-TURN
//! (MST-75), by a connection instead of a ticket and at once, which is in `conduct::ms`.
//!
//! A client that asked for it holds a ticket. A Refresh that brings it from a new five-tuple
//! gives the allocation a second seat there: both five-tuples are served, and payload goes to the
//! old one, until payload comes from the new one or the old connection ends. Every move makes a
//! new ticket; the one before is good for repeating the very Refresh that used it up.
//!
//! A new address may be steered to another worker than the one that has the allocation. The
//! ticket says which that is: the request is handed over, and the shell is asked to let the
//! client's datagrams arrive there from now on. That costs the shell a socket for each such client,
//! and the kernel a comparison for each datagram at the listener's port, so there is a bound.

use std::time::{Duration, Instant};

use crate::addr::{AllocationId, Family, FiveTuple, Transport, steer};
use crate::dialect::Call;
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::stun::{AttributeType, Message};
use crate::turn::action::{Action, Change};
use crate::turn::config::MobilityPolicy;
use crate::turn::gate::Authenticated;
use crate::turn::server::Server;
use crate::turn::ticket::{Pass, Ticket};

/// How long the Refresh of a move may be repeated (RFC 8016 §3.2.2: at least 30 s): as long as
/// any client repeats a request (RFC 8489 §6.3.1).
const TICKET_REPEATS: Duration = Duration::from_secs(40);

/// How many clients of a worker may speak from where another worker would hear them.
pub const MOST_DIVERTED: usize = 1_024;

/// How an allocation follows its client.
#[derive(Debug)]
pub(crate) struct Mobility {
    /// The ticket in force.
    pub(crate) ticket: Ticket,
    /// How many went before it.
    serial: u32,
    /// Where the client is about to speak from.
    pub(crate) arriving: Option<FiveTuple>,
    /// The move before.
    last: Option<Move>,
}

/// The Refresh that moved an allocation, to know it again.
#[derive(Clone, Copy, Debug)]
struct Move {
    to: FiveTuple,
    call: Call,
    digest: u64,
    until: Instant,
}

/// Where a ticket leads.
#[derive(Debug)]
pub(super) enum Journey {
    /// To another worker, which will answer.
    HandedOver,
    /// To an allocation of this worker.
    Here(AllocationId, Travel),
}

/// What a Refresh with a ticket does to the allocation's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Travel {
    /// It moves to where the request came from.
    Move,
    /// Nothing: the request was answered before, and will be answered alike.
    Repeat,
}

impl<L: Ledger> Server<L> {
    /// Whether an Allocate asks for a ticket and may have one (RFC 8016 §3.1.2).
    pub(super) fn wants_ticket(&self, message: &Message<'_>) -> Result<bool, Why> {
        match self.presented(message)? {
            None => Ok(false),
            Some([]) => Ok(true),
            Some(_) => Err(Why::BadAttribute),
        }
    }

    /// The ticket of a request, if this server heeds tickets.
    pub(super) fn presented<'a>(&self, message: &Message<'a>) -> Result<Option<&'a [u8]>, Why> {
        match (message.first(AttributeType::MOBILITY_TICKET), self.config.mobility) {
            (None, _) | (Some(_), MobilityPolicy::Ignored) => Ok(None),
            (Some(_), MobilityPolicy::Forbidden) => Err(Why::MobilityForbidden),
            (Some(ticket), MobilityPolicy::Allowed) => Ok(Some(ticket)),
        }
    }

    /// The mobility of a new allocation, with its first ticket.
    pub(super) fn mobility(&mut self, id: AllocationId) -> Mobility {
        Mobility { ticket: self.ticket(id, 0), serial: 0, arriving: None, last: None }
    }

    /// Finds what a ticket names, and checks that it may go where the request came from
    /// (RFC 8016 §3.2.2, in its order).
    pub(super) fn travel(
        &mut self,
        now: Now,
        request: &Authenticated<'_>,
        ticket: &[u8],
    ) -> Result<Journey, Reject> {
        let pass = self.tickets.open(ticket).ok_or(Why::BadTicket)?;
        let client = request.exchange.client;
        let seat = self.table.seat(client);
        let share = self.config.share;
        if pass.worker != share.index && pass.worker < share.of {
            // Its connection would go with it.
            if seat.is_some() {
                return Err(Why::AllocationExists.into());
            }
            let bytes = request.bytes.into();
            self.actions.push_back(Action::HandOver { client, worker: pass.worker, bytes });
            return Ok(Journey::HandedOver);
        }
        if (pass.worker, pass.instance) != (share.index, self.instance) {
            return Err(Why::NoAllocation.into());
        }
        let digest = self.digest(request.bytes);
        let id = pass.allocation;
        let allocation = self.table.open(id).ok_or(Why::NoAllocation)?;
        let mobility = allocation.owner.mobility.as_ref().ok_or(Why::BadTicket)?;
        let travel = if mobility.repeats(now, &pass, request, digest) {
            Travel::Repeat
        } else if pass.serial != mobility.serial {
            return Err(Why::SpentTicket.into());
        } else if allocation.newest() == Some(client) {
            return Err(Why::NotMoved.into());
        } else {
            Travel::Move
        };
        if !request.owns(&allocation.owner) {
            return Err(Why::OtherUser.into());
        }
        if seat.is_some() && !allocation.seats().any(|seat| seat == client) {
            return Err(Why::AllocationExists.into());
        }
        self.welcome(client, &request.identity)?;
        if travel == Travel::Move {
            self.has_room_for(client)?;
        }
        Ok(Journey::Here(id, travel))
    }

    /// Moves an allocation to where the request came from; returns the ticket for its answer.
    pub(super) fn relocate(
        &mut self,
        now: Now,
        id: AllocationId,
        request: &Authenticated<'_>,
        travel: Travel,
    ) -> Option<Ticket> {
        let mobility = self.table.open(id)?.owner.mobility.as_mut()?;
        if travel == Travel::Repeat {
            return Some(mobility.ticket);
        }
        let (given_up, serial) = (mobility.arriving.take(), mobility.serial.wrapping_add(1));
        if let Some(given_up) = given_up {
            self.leave(given_up);
        }
        let client = request.exchange.client;
        let ticket = self.ticket(id, serial);
        let last = Move {
            to: client,
            call: request.exchange.call,
            digest: self.digest(request.bytes),
            until: now.mono + TICKET_REPEATS,
        };
        let allocation = self.table.open(id)?;
        let returns = !allocation.away && allocation.client == client;
        let arriving = !allocation.away && !returns;
        if allocation.away {
            allocation.client = client;
            allocation.away = false;
        }
        let mobility = allocation.owner.mobility.as_mut()?;
        **mobility =
            Mobility { ticket, serial, arriving: arriving.then_some(client), last: Some(last) };
        if !returns {
            self.table.sit(client, id, arriving);
            self.divert(client);
        }
        self.actions.push_back(Action::Changed(Change::ClientMoved { id, client }));
        // It may stand on the other side of the edge now.
        self.judge_again(now, id);
        Some(ticket)
    }

    /// Whether a client may have its allocation here, although its datagrams arrive elsewhere.
    pub(super) fn has_room_for(&self, client: FiveTuple) -> Result<(), Why> {
        let full = self.diverted.len() >= MOST_DIVERTED && !self.diverted.contains(&client);
        if full && self.is_astray(client) { Err(Why::TooManyMoved) } else { Ok(()) }
    }

    /// A client is somewhere else from now on, and no more where it was, which is returned. What was
    /// under way on its old stream is lost, so its peers' streams have holes and end.
    pub(super) fn resettle(
        &mut self,
        now: Now,
        id: AllocationId,
        client: FiveTuple,
    ) -> Option<FiveTuple> {
        let allocation = self.table.open(id)?;
        let left = std::mem::replace(&mut allocation.client, client);
        self.table.sit(client, id, false);
        self.leave(left);
        self.divert(client);
        for family in Family::ALL {
            self.close_connections(now, id, family);
        }
        self.actions.push_back(Action::Changed(Change::ClientMoved { id, client }));
        self.judge_again(now, id);
        Some(left)
    }

    /// Payload came from where the client was expected: it is there, and nowhere else.
    #[cold]
    pub(super) fn arrive(&mut self, client: FiveTuple) {
        let Some((id, allocation)) = self.table.open_of(client) else { return };
        let Some(mobility) = &mut allocation.owner.mobility else { return };
        mobility.arriving = None;
        let left = std::mem::replace(&mut allocation.client, client);
        self.table.sit(client, id, false);
        self.leave(left);
        self.routes_changed(id);
    }

    /// The connection of a client ended: whether its allocation goes on, for its ticket's sake.
    pub(super) fn departs(&mut self, client: FiveTuple) -> bool {
        let Some((id, allocation)) = self.table.open_of(client) else { return false };
        let Some(mobility) = &mut allocation.owner.mobility else { return false };
        match mobility.arriving {
            Some(arriving) if arriving != client => self.arrive(arriving),
            Some(_) => {
                mobility.arriving = None;
                self.leave(client);
            }
            None => {
                allocation.away = true;
                self.leave(client);
                self.routes_changed(id);
            }
        }
        true
    }

    /// A five-tuple finds its allocation no more.
    fn leave(&mut self, client: FiveTuple) {
        self.table.rise(client);
        self.end_diversion(client);
    }

    /// Sees to it that a client's packets arrive at this worker.
    pub(super) fn divert(&mut self, client: FiveTuple) {
        if self.is_astray(client) && self.diverted.insert(client) {
            self.actions.push_back(Action::Divert(client));
        }
    }

    /// The inverse of [`Server::divert`].
    pub(super) fn end_diversion(&mut self, client: FiveTuple) {
        if self.diverted.remove(&client) {
            self.actions.push_back(Action::EndDiversion(client));
        }
    }

    /// Whether steering brings a client's datagrams to another worker.
    fn is_astray(&self, client: FiveTuple) -> bool {
        let share = self.config.share;
        match self.transport(client) {
            Transport::Udp | Transport::Dtls => steer(client.client, share.of) != share.index,
            Transport::Tcp | Transport::Tls => false,
        }
    }

    fn ticket(&mut self, allocation: AllocationId, serial: u32) -> Ticket {
        let (instance, worker) = (self.instance, self.config.share.index);
        let pass = Pass { instance, worker, allocation, serial };
        self.tickets.seal(&pass, &mut self.random)
    }
}

impl Mobility {
    /// Whether a request is the one that moved the allocation last, once more.
    fn repeats(&self, now: Now, pass: &Pass, request: &Authenticated<'_>, digest: u64) -> bool {
        self.last.is_some_and(|last| {
            pass.serial.wrapping_add(1) == self.serial
                && last.to == request.exchange.client
                && last.call == request.exchange.call
                && last.digest == digest
                && now.mono < last.until
        })
    }
}
