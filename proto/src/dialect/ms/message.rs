//! Messages of MS-TURN: a validated view, and a writer (MST-30 to MST-34).
//!
//! A header of twenty bytes, all of whose last sixteen name the transaction; the magic cookie as
//! first attribute; attributes without padding; message integrity last.

use std::net::{IpAddr, SocketAddr};

use crate::addr::Family;
use crate::demux::MS_COOKIE;
use crate::dialect::ms::integrity::{SIZE, hash};
use crate::request::Numbered;
use crate::stun::integrity::equal;
use crate::stun::message::UNKNOWN_MAX;
use crate::stun::sheet::Sheet;
use crate::stun::{BufferFull, HEADER_LEN, Malformed, MessageKey};

/// The 128 bits that tie a response to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction(pub [u8; 16]);

/// What a message is: the 16-bit type field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// Opens, prolongs or ends an allocation.
    pub const ALLOCATE: Self = Self(0x0003);
    /// Payload from a client to a peer; never answered.
    pub const SEND: Self = Self(0x0004);
    /// Chooses the peer whose payload travels bare.
    pub const SET_ACTIVE_DESTINATION: Self = Self(0x0006);
    /// Payload from a peer to a client.
    pub const DATA: Self = Self(0x0115);

    /// The type of the success response.
    #[must_use]
    pub fn success(self) -> Self {
        Self(self.0 | 0x0100)
    }

    /// The type of the error response.
    #[must_use]
    pub fn error(self) -> Self {
        Self(self.0 | 0x0110)
    }
}

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Type(pub u16);

macro_rules! types {
    ($($name:ident $value:literal $doc:literal;)*) => {
        impl Type {
            $(#[doc = $doc] pub const $name: Self = Self($value);)*
        }
    };
}

types! {
    MAPPED_ADDRESS 0x0001 "The relayed address.";
    USERNAME 0x0006 "A token of MRAS, as bytes.";
    MESSAGE_INTEGRITY 0x0008 "The keyed hash.";
    ERROR_CODE 0x0009 "As in RFC 8489.";
    UNKNOWN_ATTRIBUTES 0x000A "Types of two bytes.";
    LIFETIME 0x000D "Seconds.";
    ALTERNATE_SERVER 0x000E "Another server, or this one by its public address.";
    MAGIC_COOKIE 0x000F "Begins every message.";
    BANDWIDTH 0x0010 "Kilobits a second.";
    DESTINATION_ADDRESS 0x0011 "The peer of a Send or of Set Active Destination.";
    REMOTE_ADDRESS 0x0012 "The peer of a Data indication.";
    DATA 0x0013 "Payload.";
    NONCE 0x0014 "What RFC 8489 calls REALM by number.";
    REALM 0x0015 "What RFC 8489 calls NONCE by number.";
    REQUESTED_ADDRESS_FAMILY 0x0017 "The family of the relayed address, from version 4 on.";
    VERSION 0x8008 "MS-Version.";
    XOR_MAPPED_ADDRESS 0x8020 "Where the client is.";
    ALTERNATE_MAPPED_ADDRESS 0x8090 "The relayed address of the other family.";
    SEQUENCE_NUMBER 0x8050 "Connection id and number.";
}

/// Types below 0x8000 that a request may have (MST-34).
const KNOWN: &[Type] = &[
    Type::MAPPED_ADDRESS,
    Type::USERNAME,
    Type::MESSAGE_INTEGRITY,
    Type::ERROR_CODE,
    Type::UNKNOWN_ATTRIBUTES,
    Type::LIFETIME,
    Type::ALTERNATE_SERVER,
    Type::MAGIC_COOKIE,
    Type::BANDWIDTH,
    Type::DESTINATION_ADDRESS,
    Type::REMOTE_ADDRESS,
    Type::DATA,
    Type::NONCE,
    Type::REALM,
    Type::REQUESTED_ADDRESS_FAMILY,
];

/// One attribute of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type.
    pub kind: Type,
    /// Its value.
    pub value: &'a [u8],
    /// Where the value starts in the message.
    pub offset: usize,
}

/// A message whose header, cookie and attribute bounds were checked.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    kind: Kind,
    transaction: Transaction,
    /// Where the attributes end that count: before the integrity, if there is one (MST-32).
    end: usize,
    integrity: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Views the bytes as one message; they must end where it ends.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Malformed::Short)?;
        let [t0, t1, l0, l1, transaction @ ..] = *header;
        if t0 & 0xC0 != 0 {
            return Err(Malformed::NotStun);
        }
        if usize::from(u16::from_be_bytes([l0, l1])) != body.len() {
            return Err(Malformed::Length);
        }
        if !body.starts_with(&MS_COOKIE) {
            return Err(Malformed::Cookie);
        }
        let mut message = Self {
            bytes,
            kind: Kind(u16::from_be_bytes([t0, t1])),
            transaction: Transaction(transaction),
            end: bytes.len(),
            integrity: None,
        };
        let mut walk = Walk { rest: body, offset: HEADER_LEN };
        while let Some(attribute) = walk.step()? {
            if attribute.kind == Type::MESSAGE_INTEGRITY && message.integrity.is_none() {
                message.integrity = Some(attribute.value);
                message.end = attribute.offset.saturating_sub(4);
            }
        }
        Ok(message)
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its transaction.
    pub fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The attributes before the integrity, in wire order, the cookie among them.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let rest = self.bytes.get(HEADER_LEN..self.end).unwrap_or_default();
        let mut walk = Walk { rest, offset: HEADER_LEN };
        std::iter::from_fn(move || walk.step().ok().flatten())
    }

    /// The first attribute of this type.
    pub fn attribute(&self, kind: Type) -> Option<Attribute<'a>> {
        self.attributes().find(|attribute| attribute.kind == kind)
    }

    /// The value of the first attribute of this type.
    pub fn first(&self, kind: Type) -> Option<&'a [u8]> {
        self.attribute(kind).map(|attribute| attribute.value)
    }

    /// The number in the first attribute of this type; `None` if it is not of four bytes.
    pub fn number(&self, kind: Type) -> Option<u32> {
        self.first(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The address in the first attribute of this type; `None` if it is of no known family.
    pub fn address(&self, kind: Type) -> Option<SocketAddr> {
        read_address(self.first(kind)?)
    }

    /// The address in the first attribute of this type, which the transaction masks.
    pub fn masked(&self, kind: Type) -> Option<SocketAddr> {
        self.address(kind).map(|address| mask(address, self.transaction))
    }

    /// MS-Sequence Number.
    pub fn numbered(&self) -> Option<Numbered> {
        let (connection, number) = self.first(Type::SEQUENCE_NUMBER)?.split_first_chunk()?;
        let number = u32::from_be_bytes(number.try_into().ok()?);
        Some(Numbered { connection: *connection, number })
    }

    /// Types 0x0000–0x7FFF that no request has, each once, in order, and not without end.
    pub fn unknown_required(&self) -> Vec<u16> {
        let mut unknown = Vec::new();
        for Attribute { kind, .. } in self.attributes() {
            let is_known = kind.0 >= 0x8000 || KNOWN.contains(&kind);
            if !is_known && !unknown.contains(&kind.0) && unknown.len() < UNKNOWN_MAX {
                unknown.push(kind.0);
            }
        }
        unknown
    }

    /// Whether it carries an integrity, right or wrong.
    pub fn is_signed(&self) -> bool {
        self.integrity.is_some()
    }

    /// Whether its integrity was made with this key.
    pub fn verify(&self, key: &MessageKey) -> bool {
        let Some(value) = self.integrity.filter(|value| value.len() == SIZE) else { return false };
        let length = self.end.saturating_add(4 + SIZE).saturating_sub(HEADER_LEN);
        let Ok(length) = u16::try_from(length) else { return false };
        let (kind, rest) = (self.bytes.get(..2), self.bytes.get(4..self.end));
        let (Some(kind), Some(rest)) = (kind, rest) else { return false };
        equal(&hash(key, [kind, &length.to_be_bytes(), rest]), value)
    }
}

/// Steps over attributes: type, length, value.
struct Walk<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Walk<'a> {
    fn step(&mut self) -> Result<Option<Attribute<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (&[t0, t1, l0, l1], after) =
            self.rest.split_first_chunk::<4>().ok_or(Malformed::Attribute)?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (value, rest) = after.split_at_checked(length).ok_or(Malformed::Attribute)?;
        self.rest = rest;
        let offset = self.offset.saturating_add(4);
        self.offset = offset.saturating_add(length);
        Ok(Some(Attribute { kind: Type(u16::from_be_bytes([t0, t1])), value, offset }))
    }
}

/// `00 family port address`; the first byte is ignored.
fn read_address(value: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], address) = value.split_first_chunk::<4>()?;
    let ip = match Family::from_wire(family)? {
        Family::V4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        Family::V6 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([p0, p1])))
}

/// Port and address XOR the first bytes of the transaction. Its own inverse.
fn mask(address: SocketAddr, Transaction(id): Transaction) -> SocketAddr {
    let [m0, m1, m2, m3, ..] = id;
    let ip = match address.ip() {
        IpAddr::V4(ip) => {
            IpAddr::from((ip.to_bits() ^ u32::from_be_bytes([m0, m1, m2, m3])).to_be_bytes())
        }
        IpAddr::V6(ip) => IpAddr::from((ip.to_bits() ^ u128::from_be_bytes(id)).to_be_bytes()),
    };
    SocketAddr::new(ip, address.port() ^ u16::from_be_bytes([m0, m1]))
}

/// Writes a message into a lent buffer; what does not fit is reported by [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<'b> {
    sheet: Sheet<'b>,
    transaction: Transaction,
}

impl<'b> Writer<'b> {
    /// Starts a message with its header and the cookie.
    pub fn new(buffer: &'b mut [u8], kind: Kind, transaction: Transaction) -> Self {
        let mut sheet = Sheet::new(buffer);
        sheet.put(&kind.0.to_be_bytes());
        sheet.put(&[0, 0]);
        sheet.put(&transaction.0);
        sheet.put(&MS_COOKIE);
        sheet.end_behind(0);
        Self { sheet, transaction }
    }

    /// Appends bytes under a type.
    pub fn append(&mut self, kind: Type, value: &[u8]) -> &mut Self {
        let start = self.sheet.len();
        self.sheet.put(&kind.0.to_be_bytes());
        self.sheet.put(&[0, 0]);
        self.sheet.put(value);
        self.sheet.set(start.saturating_add(2), value.len());
        self.sheet.end_behind(0);
        self
    }

    /// Appends a number of four bytes.
    pub fn number(&mut self, kind: Type, number: u32) -> &mut Self {
        self.append(kind, &number.to_be_bytes())
    }

    /// Appends an address.
    pub fn address(&mut self, kind: Type, address: SocketAddr) -> &mut Self {
        let [p0, p1] = address.port().to_be_bytes();
        let head = [0, Family::of(address.ip()) as u8, p0, p1];
        let mut value = [0; 20];
        let (first, rest) = value.split_at_mut(head.len());
        first.copy_from_slice(&head);
        let size = match address.ip() {
            IpAddr::V4(ip) => fill(rest, &ip.octets()),
            IpAddr::V6(ip) => fill(rest, &ip.octets()),
        };
        self.append(kind, value.get(..size).unwrap_or_default())
    }

    /// Appends an address that the transaction masks.
    pub fn masked(&mut self, kind: Type, address: SocketAddr) -> &mut Self {
        self.address(kind, mask(address, self.transaction))
    }

    /// Appends MS-Sequence Number.
    pub fn numbered(&mut self, numbered: Numbered) -> &mut Self {
        let mut value = [0; 24];
        let (connection, number) = value.split_at_mut(20);
        connection.copy_from_slice(&numbered.connection);
        number.copy_from_slice(&numbered.number.to_be_bytes());
        self.append(Type::SEQUENCE_NUMBER, &value)
    }

    /// Appends an error code with its words.
    pub fn error(&mut self, code: u16, reason: &str) -> &mut Self {
        let ([_, class], [_, number]) = ((code / 100).to_be_bytes(), (code % 100).to_be_bytes());
        let mut value = [0; 64];
        let (head, words) = value.split_at_mut(4);
        head.copy_from_slice(&[0, 0, class, number]);
        let size = fill(words, reason.as_bytes());
        self.append(Type::ERROR_CODE, value.get(..size).unwrap_or_default())
    }

    /// Appends the integrity over everything so far; must come last.
    pub fn sign(&mut self, key: &MessageKey) -> &mut Self {
        self.sheet.end_behind(4 + SIZE);
        let (head, rest) = self.sheet.written().split_at_checked(4).unwrap_or_default();
        let (kind, length) = head.split_at_checked(2).unwrap_or_default();
        let value = hash(key, [kind, length, rest]);
        self.append(Type::MESSAGE_INTEGRITY, &value)
    }

    /// The finished message.
    pub fn finish(self) -> Result<&'b [u8], BufferFull> {
        self.sheet.finish()
    }
}

/// Copies what fits behind a head of four bytes; the length of both.
fn fill(room: &mut [u8], bytes: &[u8]) -> usize {
    let mut size = 4_usize;
    for (to, from) in room.iter_mut().zip(bytes) {
        *to = *from;
        size = size.saturating_add(1);
    }
    size
}
