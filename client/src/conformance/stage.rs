//! What all cases share: the server, the credentials, what was found out before, what was noted.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Plan;
use super::message::{Draft, Message};
use super::numbers::OTHER_ADDRESS;
use super::peer::Peer;
use super::seat::Seat;
use super::survey::Survey;
use super::verdict::{At, Finding, not_offered};
use crate::Credentials;
use crate::transport::{Link, Start, Transport};

/// Everything a case needs.
pub(super) struct Stage<'a> {
    pub(super) server: SocketAddr,
    pub(super) plan: &'a Plan,
    pub(super) survey: Survey,
    record: Mutex<Record>,
}

/// What was noted of every message and allocation of the run.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) responses: u64,
    pub(super) codes: BTreeSet<u16>,
    pub(super) longest: usize,
    pub(super) dirty: Option<String>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(server: SocketAddr, plan: &'a Plan) -> Self {
        Self { server, plan, survey: Survey::default(), record: Mutex::default() }
    }

    /// How long what should not come is waited for.
    pub(super) fn grace(&self) -> Duration {
        (self.plan.timeout / 20).clamp(Duration::from_millis(20), Duration::from_millis(150))
    }

    pub(super) fn is_stream(&self) -> bool {
        self.plan.transport.is_stream()
    }

    /// For cases about messages that come as datagrams, whether inside DTLS or not.
    pub(super) fn demand_datagrams(&self) -> Finding {
        let why = "about datagrams, and the URI names a stream";
        if self.is_stream() { Err(not_offered(why)) } else { Ok(()) }
    }

    /// For cases about UDP with nothing around the messages.
    pub(super) fn demand_udp(&self) -> Finding {
        match self.plan.transport {
            Transport::Udp => Ok(()),
            _ => Err(not_offered("about plain UDP, and the URI names something else")),
        }
    }

    /// For cases about DTLS.
    pub(super) fn demand_dtls(&self) -> Finding {
        match self.plan.transport {
            Transport::Dtls(_) => Ok(()),
            _ => Err(not_offered("about DTLS, and the URI names something else")),
        }
    }

    /// For cases about streams.
    pub(super) fn demand_stream(&self) -> Finding {
        let why = "about streams, and the URI names datagrams";
        if self.is_stream() { Ok(()) } else { Err(not_offered(why)) }
    }

    /// A client that has sent nothing yet.
    pub(super) fn seat(&self) -> Finding<Seat<'_>> {
        self.seat_over(&self.plan.transport)
    }

    /// A client over another transport.
    pub(super) fn seat_over(&self, transport: &Transport) -> Finding<Seat<'_>> {
        let start = Start { bind: None, buffer_bytes: None, timeout: self.plan.timeout };
        Ok(Seat::new(self, Link::open(transport, self.server, start)?))
    }

    /// A client that knows realm and nonce.
    pub(super) fn challenged(&self) -> Finding<Seat<'_>> {
        let mut seat = self.seat()?;
        seat.be_challenged().at("a bare Allocate")?;
        Ok(seat)
    }

    /// A client with an allocation.
    pub(super) fn allocated(&self) -> Finding<Seat<'_>> {
        self.allocated_by(Draft::allocate())
    }

    /// A client with the allocation this request brings.
    pub(super) fn allocated_by(&self, draft: Draft) -> Finding<Seat<'_>> {
        let mut seat = self.challenged()?;
        seat.allocate(draft)?.expect_success().at("Allocate")?;
        Ok(seat)
    }

    /// A client with an allocation, and a peer it has a permission for.
    pub(super) fn permitted(&self) -> Finding<(Seat<'_>, Peer)> {
        let peer = self.peer()?;
        let mut seat = self.allocated()?;
        let permit = Draft::permit(&[peer.address().ip()]);
        seat.request(permit)?.expect_success().at("CreatePermission")?;
        Ok((seat, peer))
    }

    /// A client with an allocation, and the peer of its channel 0x4000.
    pub(super) fn bound(&self) -> Finding<(Seat<'_>, Peer)> {
        let peer = self.peer()?;
        let mut seat = self.allocated()?;
        let bind = Draft::bind(0x4000, peer.address());
        seat.request(bind)?.expect_success().at("ChannelBind")?;
        Ok((seat, peer))
    }

    /// A peer that the server may reach.
    pub(super) fn peer(&self) -> Finding<Peer> {
        self.peer_at(self.survey.peer.clone().map_err(not_offered)?)
    }

    /// A peer with another address than the first.
    pub(super) fn other_peer(&self) -> Finding<Peer> {
        self.peer_at(self.survey.other_peer.clone().map_err(not_offered)?)
    }

    /// A peer with an IPv6 address.
    pub(super) fn peer6(&self) -> Finding<Peer> {
        self.peer_at(self.survey.peer6.clone().map_err(not_offered)?)
    }

    pub(super) fn peer_at(&self, ip: IpAddr) -> Finding<Peer> {
        Peer::open(ip, self.plan.timeout)
    }

    /// A second user.
    pub(super) fn other_user(&self) -> Finding<Credentials> {
        let other = self.plan.other.clone();
        other.ok_or_else(|| not_offered("needs a second user: give one"))
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_message(&self, message: &Message) {
        let mut record = self.record();
        if message.is_response() {
            record.responses += 1;
            record.longest = record.longest.max(message.bytes().len());
            record.codes.extend(message.code());
        }
        if !message.padding_is_zero() {
            record.dirty.get_or_insert_with(|| message.describe());
        }
    }

    /// Whether the server listed this attribute as unknown to it, in this answer.
    pub(super) fn lists(answer: &Message, attribute: u16) -> bool {
        answer.code() == Some(420) && answer.unknown().contains(&attribute)
    }

    /// For cases about what another case's answer showed not to be there.
    pub(super) fn demand_sha256(&self) -> Finding {
        let why = "the server offers no password algorithms";
        if self.survey.offers_sha256 { Ok(()) } else { Err(not_offered(why)) }
    }

    pub(super) fn demand_ipv6_relay(&self) -> Finding {
        let why = "the server gives no IPv6 relayed address";
        if self.survey.ipv6 { Ok(()) } else { Err(not_offered(why)) }
    }

    pub(super) fn has_other_address(binding: &Message) -> bool {
        binding.has(OTHER_ADDRESS)
    }
}
