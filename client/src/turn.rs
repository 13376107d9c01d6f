//! One client, one socket, one allocation (RFC 8656 from the client's chair).
//!
//! Every procedure is a blocking transaction: written once, retransmitted with doubling pauses,
//! repeated after a challenge. Data that arrives meanwhile waits in a bounded queue for
//! [`TurnClient::recv`].

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use stun_rs::attributes::stun::Software;
use stun_rs::attributes::turn::{
    AdditionalAddressFamily, ChannelNumber, DontFragment, EvenPort, LifeTime,
    RequestedAddressFamily, RequestedTrasport, ReservationToken, XorPeerAddress,
};
use stun_rs::methods::{ALLOCATE, BINDING, CHANNEL_BIND, CREATE_PERMMISSION, REFRESH};
use stun_rs::{
    AddressFamily, MessageClass, MessageMethod, StunAttribute, StunMessage, TransactionId,
};

use crate::session::Session;
use crate::transport::{Link, MESSAGE_ROOM, Start};
use crate::{ClientError, Credentials, Options, clock, wire};

/// Data that may wait while a transaction runs; the oldest goes first.
const QUEUE_MAX: usize = 4096;

/// Port unreachable messages from the server's host after which waiting is pointless.
const REFUSALS_MAX: u32 = 3;

/// An address family to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// One address of each, by ADDITIONAL-ADDRESS-FAMILY.
    Both,
}

impl Family {
    fn attribute(self) -> StunAttribute {
        match self {
            Self::V4 => RequestedAddressFamily::new(AddressFamily::IPv4).into(),
            Self::V6 => RequestedAddressFamily::new(AddressFamily::IPv6).into(),
            Self::Both => AdditionalAddressFamily::new(AddressFamily::IPv6).into(),
        }
    }
}

/// What to ask for in an Allocate request; the default asks for nothing in particular.
#[derive(Clone, Debug, Default)]
pub struct AllocateOptions {
    /// REQUESTED-ADDRESS-FAMILY; left out if `None`.
    pub family: Option<Family>,
    /// LIFETIME; left out if `None`.
    pub lifetime: Option<Duration>,
    /// EVEN-PORT, with the flag that also reserves the next port.
    pub even_port: Option<bool>,
    /// RESERVATION-TOKEN of an earlier reservation.
    pub reservation: Option<[u8; 8]>,
    /// DONT-FRAGMENT.
    pub dont_fragment: bool,
    /// SOFTWARE.
    pub software: Option<String>,
}

/// A granted allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The relayed transport address; peers send here.
    pub relayed: SocketAddr,
    /// A second one, of the other family, if it was asked for and granted.
    pub additional: Option<SocketAddr>,
    /// The client's address as the server sees it.
    pub mapped: SocketAddr,
    /// How long it lives unless refreshed.
    pub lifetime: Duration,
    /// The token of the reserved next port, if it was asked for.
    pub reservation: Option<[u8; 8]>,
}

/// Something that arrived on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Payload from a peer.
    Data {
        /// Who sent it.
        peer: SocketAddr,
        /// The channel it came through; `None`: a Data indication.
        channel: Option<u16>,
        /// The bytes, exactly as the peer sent them.
        payload: Vec<u8>,
    },
    /// A message nobody asked for; tests look at it.
    Other(Vec<u8>),
}

/// A TURN client.
#[derive(Debug)]
pub struct TurnClient {
    link: Link,
    options: Options,
    session: Session,
    channels: Vec<(u16, SocketAddr)>,
    waiting: VecDeque<Event>,
    overrun: u64,
    buffer: Box<[u8]>,
    scratch: Vec<u8>,
}

impl TurnClient {
    /// A client of `server` over UDP; sends nothing yet.
    pub fn connect(server: SocketAddr, credentials: Credentials) -> io::Result<Self> {
        Self::connect_with(server, credentials, Options::default())
    }

    /// A client that behaves as told. Over TCP and TLS it is connected when this returns.
    pub fn connect_with(
        server: SocketAddr,
        credentials: Credentials,
        options: Options,
    ) -> io::Result<Self> {
        let start = Start {
            bind: options.bind,
            buffer_bytes: options.buffer_bytes,
            timeout: options.timeout,
        };
        Ok(Self {
            link: Link::open(&options.transport, server, start)?,
            session: Session::new(credentials, options.algorithms),
            options,
            channels: Vec::new(),
            waiting: VecDeque::new(),
            overrun: 0,
            buffer: vec![0; MESSAGE_ROOM].into_boxed_slice(),
            scratch: Vec::with_capacity(2048),
        })
    }

    /// The local address of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.link.local_addr()
    }

    /// The server this client speaks to.
    pub fn server_addr(&self) -> io::Result<SocketAddr> {
        self.link.server_addr()
    }

    /// The socket of a client over UDP, connected to the server: for batches, polling and
    /// hostile tests.
    pub fn socket(&self) -> Option<&UdpSocket> {
        self.link.udp()
    }

    /// The way to the server: for batches over a stream, and to close it rudely.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// The realm of the last challenge.
    pub fn realm(&self) -> Option<&str> {
        self.session.realm()
    }

    /// The nonce of the last challenge.
    pub fn nonce(&self) -> Option<&str> {
        self.session.nonce()
    }

    /// What requests are signed with, once the server has challenged.
    pub fn signature(&self) -> Option<&wire::Signature> {
        self.session.signature()
    }

    /// Events that were lost because nobody fetched them.
    pub fn overrun(&self) -> u64 {
        self.overrun
    }

    /// Asks for the client's address as the server sees it (RFC 8489 §12). Not signed.
    pub fn binding(&mut self) -> Result<SocketAddr, ClientError> {
        let transaction = TransactionId::default();
        let tail = (None, self.options.fingerprint);
        let request = wire::write(BINDING, MessageClass::Request, transaction, &[], tail)?;
        let (_, message) = self.transact(&request, transaction)?;
        match message.class() {
            MessageClass::SuccessResponse => {
                wire::mapped(&message).ok_or_else(|| missing("XOR-MAPPED-ADDRESS"))
            }
            _ => Err(refusal(&message, false)),
        }
    }

    /// Asks for an allocation (RFC 8656 §7.1).
    pub fn allocate(&mut self, wish: &AllocateOptions) -> Result<Allocation, ClientError> {
        let mut attributes: Vec<StunAttribute> = vec![RequestedTrasport::default().into()];
        attributes.extend(wish.family.map(Family::attribute));
        if let Some(lifetime) = wish.lifetime {
            attributes.push(LifeTime::new(whole_seconds(lifetime)).into());
        }
        if let Some(reserve) = wish.even_port {
            attributes.push(EvenPort::new(reserve).into());
        }
        if let Some(token) = wish.reservation {
            attributes.push(ReservationToken::from(token).into());
        }
        if wish.dont_fragment {
            attributes.push(DontFragment::default().into());
        }
        if let Some(software) = &wish.software {
            let software =
                Software::new(software).map_err(|e| ClientError::Unsendable(e.to_string()))?;
            attributes.push(software.into());
        }
        let message = self.request(ALLOCATE, &attributes)?;
        let mut relayed = wire::relayed(&message).into_iter();
        Ok(Allocation {
            relayed: relayed.next().ok_or_else(|| missing("XOR-RELAYED-ADDRESS"))?,
            additional: relayed.next(),
            mapped: wire::mapped(&message).ok_or_else(|| missing("XOR-MAPPED-ADDRESS"))?,
            lifetime: lifetime(&message)?,
            reservation: reservation(&message),
        })
    }

    /// Asks for a new lifetime; zero ends the allocation (RFC 8656 §8.1). Returns what was granted.
    pub fn refresh(&mut self, wish: Duration) -> Result<Duration, ClientError> {
        let message = self.request(REFRESH, &[LifeTime::new(whole_seconds(wish)).into()])?;
        lifetime(&message)
    }

    /// Ends the allocation.
    pub fn release(&mut self) -> Result<(), ClientError> {
        self.refresh(Duration::ZERO)?;
        self.channels.clear();
        Ok(())
    }

    /// Installs or renews permissions for these hosts, in one request (RFC 8656 §10.1).
    pub fn permit(&mut self, peers: &[IpAddr]) -> Result<(), ClientError> {
        let attributes: Vec<StunAttribute> =
            peers.iter().map(|ip| XorPeerAddress::from(SocketAddr::new(*ip, 0)).into()).collect();
        self.request(CREATE_PERMMISSION, &attributes).map(drop)
    }

    /// Binds the next free channel to a peer, or renews the one it has (RFC 8656 §12.1).
    pub fn bind_channel(&mut self, peer: SocketAddr) -> Result<u16, ClientError> {
        let known = self.channels.iter().find(|(_, bound)| *bound == peer).map(|(n, _)| *n);
        let next = self.channels.iter().map(|(n, _)| n + 1).max().unwrap_or(0x4000);
        self.bind_channel_as(known.unwrap_or(next), peer)
    }

    /// Binds this very channel number, whether or not that is wise.
    pub fn bind_channel_as(&mut self, number: u16, peer: SocketAddr) -> Result<u16, ClientError> {
        let attributes = [ChannelNumber::new(number).into(), XorPeerAddress::from(peer).into()];
        self.request(CHANNEL_BIND, &attributes)?;
        if !self.channels.contains(&(number, peer)) {
            self.channels.push((number, peer));
        }
        Ok(number)
    }

    /// Sends payload through a channel; one datagram.
    pub fn send_channel(&mut self, number: u16, payload: &[u8]) -> io::Result<()> {
        let len = u16::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.scratch.clear();
        self.scratch.extend_from_slice(&wire::channel_header(number, len));
        self.scratch.extend_from_slice(payload);
        self.link.send(&self.scratch)
    }

    /// Sends payload in a Send indication.
    pub fn send_indication(&mut self, peer: SocketAddr, payload: &[u8]) -> Result<(), ClientError> {
        let message = wire::send_indication(peer, payload)?;
        Ok(self.link.send(&message)?)
    }

    /// Sends bytes to the server as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.link.send_raw(bytes)
    }

    /// The next event, or `None` when `timeout` passes without one. A zero timeout only looks.
    pub fn recv(&mut self, timeout: Duration) -> io::Result<Option<Event>> {
        if let Some(event) = self.waiting.pop_front() {
            return Ok(Some(event));
        }
        let until = clock::now() + timeout;
        loop {
            let received = self.link.receive(until, &mut self.buffer)?;
            let Some(len) = received else { return Ok(None) };
            if let Some(event) = self.event(len) {
                return Ok(Some(event));
            }
        }
    }

    /// A signed request with these attributes; follows challenges; the success response.
    pub fn request(
        &mut self,
        method: MessageMethod,
        attributes: &[StunAttribute],
    ) -> Result<StunMessage, ClientError> {
        // First without credentials, then with; then once or twice more if the nonce is stale.
        for _ in 0..4 {
            let signature = self.session.signature().cloned();
            let (request, transaction) = self.draft(method, attributes)?;
            let (len, message) = self.transact(&request, transaction)?;
            let bytes = self.buffer.get(..len).unwrap_or_default();
            let signed = signature.as_ref().is_some_and(|by| wire::is_signed(bytes, &message, by));
            match (message.class(), wire::error_code(&message)) {
                (MessageClass::SuccessResponse, _) if signed || signature.is_none() => {
                    return Ok(message);
                }
                (MessageClass::SuccessResponse, _) => return Err(ClientError::Unverified),
                (MessageClass::ErrorResponse, Some((code @ (401 | 438), _))) => {
                    if !self.session.challenge(code, &message)? {
                        return Err(refusal(&message, signed));
                    }
                }
                _ => return Err(refusal(&message, signed)),
            }
        }
        Err(ClientError::Garbled("the server calls every nonce stale".to_owned()))
    }

    /// A request as it would be sent now, signed once the server has challenged, and its
    /// transaction.
    pub fn draft(
        &self,
        method: MessageMethod,
        attributes: &[StunAttribute],
    ) -> Result<(Vec<u8>, TransactionId), ClientError> {
        let mut dressed = attributes.to_vec();
        self.session.dress(&mut dressed)?;
        let transaction = TransactionId::default();
        let tail = (self.session.signature(), self.options.fingerprint);
        let request = wire::write(method, MessageClass::Request, transaction, &dressed, tail)?;
        Ok((request, transaction))
    }

    /// One transaction: writes, over UDP retransmits, returns the answer (its bytes stay in the
    /// buffer).
    fn transact(
        &mut self,
        request: &[u8],
        transaction: TransactionId,
    ) -> Result<(usize, StunMessage), ClientError> {
        let end = clock::now() + self.options.timeout;
        let reliable = self.link.is_stream();
        let mut pause = if reliable { self.options.timeout } else { self.options.retransmit_after };
        let mut refusals = 0;
        while clock::now() < end {
            let resend_at = (clock::now() + pause).min(end);
            let received =
                self.link.send(request).and_then(|()| self.answer(resend_at, transaction));
            match received {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => pause *= 2,
                Err(error) if !reliable && error.kind() == io::ErrorKind::ConnectionRefused => {
                    refusals += 1;
                    if refusals >= REFUSALS_MAX {
                        return Err(error.into());
                    }
                    // Somebody may be starting: wait out the pause before the next try.
                    self.answer(resend_at, transaction).ok();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ClientError::Silence(self.options.timeout))
    }

    /// Reads until the answer to `transaction` comes or `until` passes.
    fn answer(
        &mut self,
        until: Instant,
        transaction: TransactionId,
    ) -> io::Result<Option<(usize, StunMessage)>> {
        while let Some(len) = self.link.receive(until, &mut self.buffer)? {
            let bytes = self.buffer.get(..len).unwrap_or_default();
            let answer = wire::is_stun(bytes).then(|| wire::read(bytes).ok()).flatten();
            match answer {
                Some(message)
                    if *message.transaction_id() == transaction
                        && wire::fingerprint_holds(bytes, &message) =>
                {
                    return Ok(Some((len, message)));
                }
                _ => {
                    if let Some(event) = self.event(len) {
                        self.keep(event);
                    }
                }
            }
        }
        Ok(None)
    }

    /// What the message in the buffer tells; `None` for late answers.
    fn event(&self, len: usize) -> Option<Event> {
        let bytes = self.buffer.get(..len).unwrap_or_default();
        if let Some((number, payload)) = wire::channel_data(bytes) {
            let peer = self.channels.iter().find(|(bound, _)| *bound == number);
            return Some(match peer {
                Some((_, peer)) => {
                    Event::Data { peer: *peer, channel: Some(number), payload: payload.to_vec() }
                }
                None => Event::Other(bytes.to_vec()),
            });
        }
        let message = wire::is_stun(bytes).then(|| wire::read(bytes).ok()).flatten();
        match message {
            Some(message) => match wire::data_indication(&message) {
                Some((peer, payload)) => Some(Event::Data { peer, channel: None, payload }),
                // A second answer to a retransmitted request is no event.
                None if message.class() == MessageClass::SuccessResponse => None,
                None if message.class() == MessageClass::ErrorResponse => None,
                None => Some(Event::Other(bytes.to_vec())),
            },
            None => Some(Event::Other(bytes.to_vec())),
        }
    }

    fn keep(&mut self, event: Event) {
        if self.waiting.len() >= QUEUE_MAX {
            self.waiting.pop_front();
            self.overrun += 1;
        }
        self.waiting.push_back(event);
    }
}

fn refusal(message: &StunMessage, signed: bool) -> ClientError {
    match wire::error_code(message) {
        Some((code, reason)) => ClientError::Refused { code, reason, signed },
        None => ClientError::Garbled("an error without ERROR-CODE".to_owned()),
    }
}

fn missing(attribute: &str) -> ClientError {
    ClientError::Garbled(format!("success without {attribute}"))
}

fn lifetime(message: &StunMessage) -> Result<Duration, ClientError> {
    let seconds = wire::lifetime_s(message).ok_or_else(|| missing("LIFETIME"))?;
    Ok(Duration::from_secs(seconds.into()))
}

fn reservation(message: &StunMessage) -> Option<[u8; 8]> {
    message.get::<ReservationToken>()?.as_reservation_token().ok()?.token().try_into().ok()
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
