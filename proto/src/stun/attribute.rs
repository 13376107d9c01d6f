//! Attribute types and what their values say (RFC 8489 §14, RFC 8656 §18).
//!
//! One type a kind of attribute; [`Value`] reads and writes it. Reading refuses impossible
//! lengths and values and ignores reserved bits; whether a possible value is acceptable (a
//! family, a transport, a channel number) is for the procedure to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::addr::Family;
use crate::stun::header::{MAGIC_COOKIE, TransactionId};
use crate::stun::integrity::PasswordAlgorithm;
use crate::stun::writer::Writer;

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u16);

macro_rules! types {
    ($($name:ident $value:literal $doc:literal;)*) => {
        impl AttributeType {
            $(#[doc = $doc] pub const $name: Self = Self($value);)*
        }
    };
}

types! {
    MAPPED_ADDRESS 0x0001 "RFC 8489 §14.1.";
    CHANGE_REQUEST 0x0003 "RFC 5780 §7.2.";
    USERNAME 0x0006 "RFC 8489 §14.3.";
    MESSAGE_INTEGRITY 0x0008 "RFC 8489 §14.5.";
    ERROR_CODE 0x0009 "RFC 8489 §14.8.";
    UNKNOWN_ATTRIBUTES 0x000A "RFC 8489 §14.13.";
    CHANNEL_NUMBER 0x000C "RFC 8656 §18.1.";
    LIFETIME 0x000D "RFC 8656 §18.2.";
    XOR_PEER_ADDRESS 0x0012 "RFC 8656 §18.3.";
    DATA 0x0013 "RFC 8656 §18.4.";
    REALM 0x0014 "RFC 8489 §14.9.";
    NONCE 0x0015 "RFC 8489 §14.10.";
    XOR_RELAYED_ADDRESS 0x0016 "RFC 8656 §18.5.";
    REQUESTED_ADDRESS_FAMILY 0x0017 "RFC 8656 §18.6.";
    EVEN_PORT 0x0018 "RFC 8656 §18.7.";
    REQUESTED_TRANSPORT 0x0019 "RFC 8656 §18.8.";
    DONT_FRAGMENT 0x001A "RFC 8656 §18.9.";
    ACCESS_TOKEN 0x001B "RFC 7635 §6.2.";
    MESSAGE_INTEGRITY_SHA256 0x001C "RFC 8489 §14.6.";
    PASSWORD_ALGORITHM 0x001D "RFC 8489 §14.12.";
    USERHASH 0x001E "RFC 8489 §14.4.";
    XOR_MAPPED_ADDRESS 0x0020 "RFC 8489 §14.2.";
    RESERVATION_TOKEN 0x0022 "RFC 8656 §18.10.";
    PADDING 0x0026 "RFC 5780 §7.6.";
    RESPONSE_PORT 0x0027 "RFC 5780 §7.5.";
    CONNECTION_ID 0x002A "RFC 6062 §6.2.1.";
    ADDITIONAL_ADDRESS_FAMILY 0x8000 "RFC 8656 §18.11.";
    ADDRESS_ERROR_CODE 0x8001 "RFC 8656 §18.12.";
    PASSWORD_ALGORITHMS 0x8002 "RFC 8489 §14.11.";
    ALTERNATE_DOMAIN 0x8003 "RFC 8489 §14.16.";
    ICMP 0x8004 "RFC 8656 §18.13.";
    SOFTWARE 0x8022 "RFC 8489 §14.14.";
    ALTERNATE_SERVER 0x8023 "RFC 8489 §14.15.";
    FINGERPRINT 0x8028 "RFC 8489 §14.7.";
    RESPONSE_ORIGIN 0x802B "RFC 5780 §7.3.";
    OTHER_ADDRESS 0x802C "RFC 5780 §7.4.";
    THIRD_PARTY_AUTHORIZATION 0x802E "RFC 7635 §6.1.";
    MOBILITY_TICKET 0x8030 "RFC 8016 §3.3.";
}

impl AttributeType {
    /// Whether a receiver must know it to understand the message (RFC 8489 §14).
    pub fn is_required(self) -> bool {
        self.0 < 0x8000
    }
}

/// What an attribute of one type says.
pub trait Value<'a>: Sized {
    /// The type.
    const TYPE: AttributeType;
    /// Reads the value; `None` if its length or content is impossible.
    fn read(value: &'a [u8], transaction: TransactionId) -> Option<Self>;
    /// Writes the value.
    fn write(&self, out: &mut Writer<'_>);
}

macro_rules! addresses {
    ($($(#[$doc:meta])* $name:ident $kind:ident $read:ident $write:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub SocketAddr);

        impl<'a> Value<'a> for $name {
            const TYPE: AttributeType = AttributeType::$kind;
            fn read(value: &'a [u8], transaction: TransactionId) -> Option<Self> {
                $read(value, transaction).map(Self)
            }
            fn write(&self, out: &mut Writer<'_>) {
                $write(self.0, out);
            }
        }
    )*};
}

addresses! {
    /// The client's address as the server sees it, in the clear; old servers only.
    MappedAddress MAPPED_ADDRESS read_clear write_clear;
    /// Another server (RFC 8489 §14.15); never masked.
    AlternateServer ALTERNATE_SERVER read_clear write_clear;
    /// Where a Binding response came from (RFC 5780 §7.3).
    ResponseOrigin RESPONSE_ORIGIN read_clear write_clear;
    /// Where a response comes from whose request asks for another host and port (RFC 5780 §7.4).
    OtherAddress OTHER_ADDRESS read_clear write_clear;
    /// The client's address as the server sees it.
    XorMappedAddress XOR_MAPPED_ADDRESS read_xored write_xored;
    /// A peer's address. IPv4-mapped IPv6 stays what it is: peer policy judges it.
    XorPeerAddress XOR_PEER_ADDRESS read_xored write_xored;
    /// The relayed address as peers see it.
    XorRelayedAddress XOR_RELAYED_ADDRESS read_xored write_xored;
}

/// `00 family port address`; the first byte is ignored.
fn read_clear(value: &[u8], _: TransactionId) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], address) = value.split_first_chunk::<4>()?;
    let ip = match Family::from_wire(family)? {
        Family::V4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        Family::V6 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([p0, p1])))
}

fn write_clear(addr: SocketAddr, out: &mut Writer<'_>) {
    out.put(&[0, Family::of(addr.ip()) as u8]);
    out.put(&addr.port().to_be_bytes());
    match addr.ip() {
        IpAddr::V4(ip) => out.put(&ip.octets()),
        IpAddr::V6(ip) => out.put(&ip.octets()),
    }
}

fn read_xored(value: &[u8], transaction: TransactionId) -> Option<SocketAddr> {
    read_clear(value, transaction).map(|addr| xor(addr, transaction))
}

fn write_xored(addr: SocketAddr, out: &mut Writer<'_>) {
    write_clear(xor(addr, out.transaction()), out);
}

/// Port XOR the cookie's first half; address XOR cookie and transaction (RFC 8489 §14.2).
/// Its own inverse.
fn xor(addr: SocketAddr, transaction: TransactionId) -> SocketAddr {
    let [c0, c1, c2, c3] = MAGIC_COOKIE.to_be_bytes();
    let port = addr.port() ^ u16::from_be_bytes([c0, c1]);
    let ip = match addr.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip) ^ MAGIC_COOKIE)),
        IpAddr::V6(ip) => {
            let [t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11] = transaction.0;
            let mask = u128::from_be_bytes([
                c0, c1, c2, c3, t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11,
            ]);
            IpAddr::V6(Ipv6Addr::from(u128::from(ip) ^ mask))
        }
    };
    SocketAddr::new(ip, port)
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident $kind:ident $min:literal..=$max:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<'a>(pub &'a str);

        impl<'a> Value<'a> for $name<'a> {
            const TYPE: AttributeType = AttributeType::$kind;
            fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
                if !($min..=$max).contains(&value.len()) {
                    return None;
                }
                std::str::from_utf8(value).ok().map(Self)
            }
            fn write(&self, out: &mut Writer<'_>) {
                out.put(self.0.as_bytes());
            }
        }
    )*};
}

texts! {
    /// Fewer than 509 bytes of UTF-8 (RFC 8489 §14.3).
    Username USERNAME 0..=508;
    /// Fewer than 128 characters, so at most 763 bytes of UTF-8 (RFC 8489 §14.9).
    Realm REALM 0..=763;
    /// Fewer than 128 characters, so at most 763 bytes of UTF-8 (RFC 8489 §14.14).
    Software SOFTWARE 0..=763;
    /// The name in another server's certificate (RFC 8489 §14.16).
    AlternateDomain ALTERNATE_DOMAIN 0..=255;
    /// The server name of a third party's tokens (RFC 7635 §6.1).
    ThirdPartyAuthorization THIRD_PARTY_AUTHORIZATION 0..=65535;
}

macro_rules! bytes {
    ($($(#[$doc:meta])* $name:ident $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<'a>(pub &'a [u8]);

        impl<'a> Value<'a> for $name<'a> {
            const TYPE: AttributeType = AttributeType::$kind;
            fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
                Some(Self(value))
            }
            fn write(&self, out: &mut Writer<'_>) {
                out.put(self.0);
            }
        }
    )*};
}

bytes! {
    /// Payload; empty is a valid, empty datagram.
    Data DATA;
    /// Any bytes at all: what is no nonce of ours is stale, not malformed (AUTH-021).
    Nonce NONCE;
    /// A third party's token (RFC 7635 §6.2).
    AccessToken ACCESS_TOKEN;
    /// Bytes that mean nothing but their number (RFC 5780 §7.6).
    Padding PADDING;
    /// RFC 8016 §3.3.
    MobilityTicket MOBILITY_TICKET;
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident($inner:ty) $kind:ident $len:literal
        |$value:pat_param| $read:expr, |$this:pat_param| $write:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl<'a> Value<'a> for $name {
            const TYPE: AttributeType = AttributeType::$kind;
            fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
                let $value = <[u8; $len]>::try_from(value).ok()?;
                Some(Self($read))
            }
            fn write(&self, out: &mut Writer<'_>) {
                let Self($this) = *self;
                out.put(&$write);
            }
        }
    )*};
}

fixed! {
    /// Seconds.
    Lifetime(u32) LIFETIME 4 |bytes| u32::from_be_bytes(bytes), |seconds| seconds.to_be_bytes();
    /// A number a client wants to bind, in any range; two reserved bytes follow it.
    Channel(u16) CHANNEL_NUMBER 4 |[a, b, ..]| u16::from_be_bytes([a, b]),
        |number| (u32::from(number) << 16).to_be_bytes();
    /// IP protocol number; three reserved bytes follow it.
    RequestedTransport(u8) REQUESTED_TRANSPORT 4 |[a, ..]| a, |protocol| [protocol, 0, 0, 0];
    /// Family byte of the wire, perhaps of no known family; three reserved bytes follow it.
    RequestedAddressFamily(u8) REQUESTED_ADDRESS_FAMILY 4 |[a, ..]| a, |family| [family, 0, 0, 0];
    /// Family byte of the wire, perhaps of no known family; three reserved bytes follow it.
    AdditionalAddressFamily(u8) ADDITIONAL_ADDRESS_FAMILY 4 |[a, ..]| a, |family| [family, 0, 0, 0];
    /// Whether the next higher port shall be reserved too (the R bit).
    EvenPort(bool) EVEN_PORT 1 |[a]| a & 0x80 != 0, |next| [if next { 0x80 } else { 0 }];
    /// Names a reserved port.
    ReservationToken([u8; 8]) RESERVATION_TOKEN 8 |token| token, |token| token;
    /// Ask for datagrams that are not fragmented; has no value.
    DontFragment(()) DONT_FRAGMENT 0 |[]| (), |()| [];
    /// SHA-256 over `user:realm`.
    UserHash([u8; 32]) USERHASH 32 |hash| hash, |hash| hash;
    /// Names a TCP connection to a peer.
    ConnectionId(u32) CONNECTION_ID 4 |bytes| u32::from_be_bytes(bytes), |id| id.to_be_bytes();
}

/// Where the answer to a Binding shall come from (RFC 5780 §7.2); other bits are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    /// The server's other address.
    pub host: bool,
    /// The server's other port.
    pub port: bool,
}

impl<'a> Value<'a> for ChangeRequest {
    const TYPE: AttributeType = AttributeType::CHANGE_REQUEST;
    fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
        let [.., flags] = <[u8; 4]>::try_from(value).ok()?;
        Some(Self { host: flags & 4 != 0, port: flags & 2 != 0 })
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.put(&[0, 0, 0, u8::from(self.host) << 2 | u8::from(self.port) << 1]);
    }
}

/// The port of the client's host that a Binding response shall go to (RFC 5780 §7.5). Two bytes
/// of padding follow, which some clients take for the attribute's and some for the value's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePort(pub u16);

impl<'a> Value<'a> for ResponsePort {
    const TYPE: AttributeType = AttributeType::RESPONSE_PORT;
    fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
        match *value {
            [a, b] | [a, b, _, _] => Some(Self(u16::from_be_bytes([a, b]))),
            _ => None,
        }
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.put(&self.0.to_be_bytes());
        out.put(&[0, 0]);
    }
}

/// IP protocol number of UDP, for [`RequestedTransport`].
pub const PROTOCOL_UDP: u8 = 17;

/// IP protocol number of TCP, for [`RequestedTransport`].
pub const PROTOCOL_TCP: u8 = 6;

/// What an ICMP message told (RFC 8656 §18.13); two reserved bytes come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The next-hop MTU if the type has one, otherwise zero.
    pub data: u32,
}

impl<'a> Value<'a> for Icmp {
    const TYPE: AttributeType = AttributeType::ICMP;
    fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
        let [_, _, kind, code, d0, d1, d2, d3] = <[u8; 8]>::try_from(value).ok()?;
        Some(Self { kind, code, data: u32::from_be_bytes([d0, d1, d2, d3]) })
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.put(&[0, 0, self.kind, self.code]);
        out.put(&self.data.to_be_bytes());
    }
}

/// An error code with its words (RFC 8489 §14.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// 300–699.
    pub code: u16,
    /// Fewer than 128 characters; may be empty.
    pub reason: &'a str,
}

impl<'a> Value<'a> for ErrorCode<'a> {
    const TYPE: AttributeType = AttributeType::ERROR_CODE;
    fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
        let (_, code, reason) = read_code(value)?;
        Some(Self { code, reason })
    }
    fn write(&self, out: &mut Writer<'_>) {
        write_code(0, self.code, self.reason, out);
    }
}

/// Why one of two wanted address families was not allocated (RFC 8656 §18.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressErrorCode<'a> {
    /// The family.
    pub family: Family,
    /// 300–699.
    pub code: u16,
    /// Fewer than 128 characters; may be empty.
    pub reason: &'a str,
}

impl<'a> Value<'a> for AddressErrorCode<'a> {
    const TYPE: AttributeType = AttributeType::ADDRESS_ERROR_CODE;
    fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
        let (family, code, reason) = read_code(value)?;
        Some(Self { family: Family::from_wire(family)?, code, reason })
    }
    fn write(&self, out: &mut Writer<'_>) {
        write_code(self.family as u8, self.code, self.reason, out);
    }
}

/// First byte, code, reason. Class 3–6 in the low three bits of the third byte, number below 100.
fn read_code(value: &[u8]) -> Option<(u8, u16, &str)> {
    let (&[first, _, class, number], reason) = value.split_first_chunk::<4>()?;
    let class = class & 7;
    if !(3..=6).contains(&class) || number > 99 || reason.len() > 763 {
        return None;
    }
    let code = u16::from(class).wrapping_mul(100).wrapping_add(u16::from(number));
    Some((first, code, std::str::from_utf8(reason).ok()?))
}

fn write_code(first: u8, code: u16, reason: &str, out: &mut Writer<'_>) {
    let [_, class] = (code / 100).to_be_bytes();
    let [_, number] = (code % 100).to_be_bytes();
    out.put(&[first, 0, class & 7, number]);
    out.put(reason.as_bytes());
}

/// The attribute types a server did not understand: two bytes each, no padding of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAttributes<'a>(List<'a>);

/// Types to write, or types as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List<'a> {
    Given(&'a [u16]),
    Wire(&'a [u8]),
}

impl<'a> UnknownAttributes<'a> {
    /// A list to write.
    pub fn new(types: &'a [u16]) -> Self {
        Self(List::Given(types))
    }

    /// The types, in order.
    pub fn types(self) -> impl Iterator<Item = u16> + use<'a> {
        let (given, wire): (&[u16], &[u8]) = match self.0 {
            List::Given(types) => (types, &[]),
            List::Wire(bytes) => (&[], bytes),
        };
        let wire = wire.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair));
        given.iter().copied().chain(wire)
    }
}

impl<'a> Value<'a> for UnknownAttributes<'a> {
    const TYPE: AttributeType = AttributeType::UNKNOWN_ATTRIBUTES;
    fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
        value.len().is_multiple_of(2).then_some(Self(List::Wire(value)))
    }
    fn write(&self, out: &mut Writer<'_>) {
        for kind in self.types() {
            out.put(&kind.to_be_bytes());
        }
    }
}

/// One password algorithm as a client chose it (RFC 8489 §14.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChosenAlgorithm<'a> {
    /// Its number, perhaps of no known algorithm.
    pub number: u16,
    /// Its parameters; none for MD5 and SHA-256.
    pub parameters: &'a [u8],
}

impl ChosenAlgorithm<'_> {
    /// The algorithm, if it is one of ours and has the parameters it should: none.
    pub fn known(&self) -> Option<PasswordAlgorithm> {
        PasswordAlgorithm::from_wire(self.number).filter(|_| self.parameters.is_empty())
    }

    /// Splits the first algorithm off a list.
    fn split(list: &[u8]) -> Option<(ChosenAlgorithm<'_>, &[u8])> {
        let (&[n0, n1, l0, l1], rest) = list.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let parameters = rest.get(..length)?;
        // Of the last one an encoder may leave the padding to the attribute.
        let rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((ChosenAlgorithm { number: u16::from_be_bytes([n0, n1]), parameters }, rest))
    }
}

impl From<PasswordAlgorithm> for ChosenAlgorithm<'_> {
    fn from(algorithm: PasswordAlgorithm) -> Self {
        Self { number: algorithm.number(), parameters: &[] }
    }
}

impl<'a> Value<'a> for ChosenAlgorithm<'a> {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHM;
    fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
        let (algorithm, rest) = ChosenAlgorithm::split(value)?;
        rest.is_empty().then_some(algorithm)
    }
    fn write(&self, out: &mut Writer<'_>) {
        let [.., l0, l1] = self.parameters.len().to_be_bytes();
        out.put(&self.number.to_be_bytes());
        out.put(&[l0, l1]);
        out.put(self.parameters);
    }
}

/// The password algorithms a server offers, best first (RFC 8489 §14.11), as bytes of the wire:
/// a server compares the client's copy with what it sent, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordAlgorithms<'a>(&'a [u8]);

impl<'a> PasswordAlgorithms<'a> {
    /// SHA-256, then MD5 (AUTH-016).
    pub const OFFERED: PasswordAlgorithms<'static> = PasswordAlgorithms(&[0, 2, 0, 0, 0, 1, 0, 0]);

    /// The value on the wire.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The algorithms, in order.
    pub fn algorithms(self) -> impl Iterator<Item = ChosenAlgorithm<'a>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (algorithm, after) = ChosenAlgorithm::split(rest)?;
            rest = after;
            Some(algorithm)
        })
    }
}

impl<'a> Value<'a> for PasswordAlgorithms<'a> {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHMS;
    fn read(value: &'a [u8], _: TransactionId) -> Option<Self> {
        let mut rest = value;
        while !rest.is_empty() {
            (_, rest) = ChosenAlgorithm::split(rest)?;
        }
        Some(Self(value))
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.put(self.0);
    }
}
