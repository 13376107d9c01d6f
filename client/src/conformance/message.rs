//! Messages byte by byte, sound or not: a conformance case writes what no codec would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ring::hmac;

use super::numbers::{
    ALLOCATE, BINDING, CHANNEL_BIND, CHANNEL_NUMBER, COOKIE, CREATE_PERMISSION, DATA, DATA_METHOD,
    ERROR, ERROR_CODE, FINGERPRINT, INDICATION, INTEGRITY, INTEGRITY_SHA256, LIFETIME, PEER,
    REFRESH, SEND, SUCCESS, TRANSPORT, UDP, UNKNOWN_ATTRIBUTES,
};

/// A message under construction; nothing is checked, the length counts what stands so far.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    bytes: Vec<u8>,
}

/// Which integrity attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mac {
    Sha1,
    Sha256,
}

impl Mac {
    fn attribute(self) -> u16 {
        match self {
            Self::Sha1 => INTEGRITY,
            Self::Sha256 => INTEGRITY_SHA256,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Over the message as if it ended behind an integrity attribute with `len` bytes.
    fn tag(self, key: &[u8], message: &[u8], len: usize) -> Vec<u8> {
        let hash = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        };
        let mut covered = message.to_vec();
        set_length(&mut covered, 4 + len.next_multiple_of(4));
        hmac::sign(&hmac::Key::new(hash, key), &covered).as_ref().to_vec()
    }
}

impl Draft {
    /// A message of this 16-bit type with a random transaction id.
    pub(crate) fn new(kind: u16) -> Self {
        Self::with_id(kind, random())
    }

    pub(crate) fn with_id(kind: u16, id: [u8; 12]) -> Self {
        let bytes = [&kind.to_be_bytes()[..], &[0, 0], &COOKIE, &id].concat();
        Self { bytes }
    }

    pub(crate) fn binding() -> Self {
        Self::new(BINDING)
    }

    /// Asks for a UDP relay.
    pub(crate) fn allocate() -> Self {
        Self::new(ALLOCATE).add(TRANSPORT, &UDP)
    }

    pub(crate) fn refresh(seconds: u32) -> Self {
        Self::new(REFRESH).add(LIFETIME, &seconds.to_be_bytes())
    }

    pub(crate) fn permit(peers: &[IpAddr]) -> Self {
        let peers = peers.iter().map(|ip| SocketAddr::new(*ip, 9));
        peers.fold(Self::new(CREATE_PERMISSION), Self::peer)
    }

    pub(crate) fn bind(number: u16, peer: SocketAddr) -> Self {
        Self::new(CHANNEL_BIND).channel(number).peer(peer)
    }

    pub(crate) fn send(peer: SocketAddr, payload: &[u8]) -> Self {
        Self::new(SEND | INDICATION).peer(peer).add(DATA, payload)
    }

    /// Adds an attribute, padded with zeros.
    pub(crate) fn add(mut self, kind: u16, value: &[u8]) -> Self {
        append(&mut self.bytes, kind, value);
        self
    }

    pub(crate) fn channel(self, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        self.add(CHANNEL_NUMBER, &[high, low, 0, 0])
    }

    pub(crate) fn peer(self, peer: SocketAddr) -> Self {
        let value = xor_address(peer, self.id());
        self.add(PEER, &value)
    }

    /// Adds bytes as they are, whether an attribute or not.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        set_length(&mut self.bytes, 0);
        self
    }

    pub(crate) fn sign(self, key: &[u8], mac: Mac) -> Self {
        self.sign_in(key, mac, mac.len())
    }

    /// Signs with a tag cut, or lengthened with zeros, to `len` bytes.
    pub(crate) fn sign_in(self, key: &[u8], mac: Mac, len: usize) -> Self {
        let mut tag = mac.tag(key, &self.bytes, len);
        tag.resize(len, 0);
        self.add(mac.attribute(), &tag)
    }

    pub(crate) fn fingerprint(mut self) -> Self {
        set_length(&mut self.bytes, 8);
        let crc = crc32fast::hash(&self.bytes) ^ 0x5354_554E;
        self.add(FINGERPRINT, &crc.to_be_bytes())
    }

    pub(crate) fn id(&self) -> [u8; 12] {
        self.bytes.get(8..20).and_then(|id| id.try_into().ok()).unwrap_or_default()
    }

    /// The same with another transaction id, for a message without masked addresses.
    pub(crate) fn renewed(&self) -> Self {
        Self { bytes: self.patched(8, &random::<12>()) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes with some of them replaced.
    pub(crate) fn patched(&self, at: usize, with: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (to, from) in bytes.iter_mut().skip(at).zip(with) {
            *to = *from;
        }
        bytes
    }
}

fn append(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    set_length(message, 0);
}

/// Makes the header count what stands so far and `more` bytes.
fn set_length(message: &mut [u8], more: usize) {
    let length = (message.len() + more).saturating_sub(20);
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    for (to, from) in message.iter_mut().skip(2).zip(length) {
        *to = from;
    }
}

/// ChannelData without padding.
pub(crate) fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    [&number.to_be_bytes()[..], &len.to_be_bytes(), payload].concat()
}

/// An address as XOR-PEER-ADDRESS and its kin write it (RFC 8489 §14.2).
pub(crate) fn xor_address(address: SocketAddr, id: [u8; 12]) -> Vec<u8> {
    let port = (address.port() ^ 0x2112).to_be_bytes();
    let mask: Vec<u8> = [&COOKIE[..], &id].concat();
    let masked = |octets: &[u8]| -> Vec<u8> {
        octets.iter().zip(&mask).map(|(octet, mask)| octet ^ mask).collect()
    };
    match address.ip() {
        IpAddr::V4(ip) => [&[0, 1][..], &port, &masked(&ip.octets())].concat(),
        IpAddr::V6(ip) => [&[0, 2][..], &port, &masked(&ip.octets())].concat(),
    }
}

fn read_address(value: &[u8], mask: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], ip) = value.split_first_chunk::<4>()?;
    let (port_mask, _) = mask.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes([p0, p1]) ^ u16::from_be_bytes(*port_mask);
    let octets: Vec<u8> = ip.iter().zip(mask).map(|(octet, mask)| octet ^ mask).collect();
    let ip: IpAddr = match (family, ip.len()) {
        (1, 4) => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into(),
        (2, 16) => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// A message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Reads a STUN message whose attributes fill it exactly.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (&[first, _, l0, l1, c0, c1, c2, c3], _) = bytes.split_first_chunk::<8>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let sound = first < 4 && [c0, c1, c2, c3] == COOKIE && bytes.len() == 20 + length;
        let message = Self { bytes: bytes.to_vec() };
        let end = message
            .attributes()
            .last()
            .map_or(20, |(at, _, value)| at + 4 + value.len().next_multiple_of(4));
        (sound && end == bytes.len()).then_some(message)
    }

    /// Offset, type and value of each attribute.
    fn attributes(&self) -> Vec<(usize, u16, &[u8])> {
        let mut found = Vec::new();
        let mut at = 20;
        while let Some([k0, k1, l0, l1, tail @ ..]) = self.bytes.get(at..) {
            let len = usize::from(u16::from_be_bytes([*l0, *l1]));
            let Some(value) = tail.get(..len) else { break };
            found.push((at, u16::from_be_bytes([*k0, *k1]), value));
            at += 4 + len.next_multiple_of(4);
        }
        found
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn kind(&self) -> u16 {
        self.bytes.first_chunk::<2>().map_or(0, |kind| u16::from_be_bytes(*kind))
    }

    pub(crate) fn id(&self) -> [u8; 12] {
        self.bytes.get(8..20).and_then(|id| id.try_into().ok()).unwrap_or_default()
    }

    pub(crate) fn is_response(&self) -> bool {
        matches!(self.kind() & ERROR, SUCCESS | ERROR)
    }

    pub(crate) fn is_success(&self) -> bool {
        self.kind() & ERROR == SUCCESS
    }

    /// Types, in order.
    pub(crate) fn kinds(&self) -> Vec<u16> {
        self.attributes().into_iter().map(|(_, kind, _)| kind).collect()
    }

    /// Values of all attributes of a type.
    pub(crate) fn all(&self, kind: u16) -> Vec<&[u8]> {
        let of_kind = |(_, found, value)| (found == kind).then_some(value);
        self.attributes().into_iter().filter_map(of_kind).collect()
    }

    pub(crate) fn value(&self, kind: u16) -> Option<&[u8]> {
        self.all(kind).first().copied()
    }

    pub(crate) fn has(&self, kind: u16) -> bool {
        self.value(kind).is_some()
    }

    /// The code of an error response.
    pub(crate) fn code(&self) -> Option<u16> {
        match self.value(ERROR_CODE)? {
            [_, _, class, number, ..] if self.kind() & ERROR == ERROR => {
                Some(u16::from(class & 7) * 100 + u16::from(*number))
            }
            _ => None,
        }
    }

    /// An address that is masked with cookie and id.
    pub(crate) fn address(&self, kind: u16) -> Option<SocketAddr> {
        self.addresses(kind).first().copied()
    }

    /// All such addresses of a type.
    pub(crate) fn addresses(&self, kind: u16) -> Vec<SocketAddr> {
        let mask = self.bytes.get(4..20).unwrap_or_default();
        self.all(kind).into_iter().filter_map(|value| read_address(value, mask)).collect()
    }

    /// An address written in clear.
    pub(crate) fn plain_address(&self, kind: u16) -> Option<SocketAddr> {
        read_address(self.value(kind)?, &[0; 16])
    }

    pub(crate) fn number(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.value(kind)?.try_into().ok()?))
    }

    /// UNKNOWN-ATTRIBUTES, sorted.
    pub(crate) fn unknown(&self) -> Vec<u16> {
        let list = self.value(UNKNOWN_ATTRIBUTES).unwrap_or_default();
        let pairs = list.chunks_exact(2).filter_map(|pair| pair.first_chunk::<2>());
        let mut found: Vec<u16> = pairs.map(|pair| u16::from_be_bytes(*pair)).collect();
        found.sort_unstable();
        found
    }

    /// Whether the only integrity attribute is this one, and right.
    pub(crate) fn is_signed(&self, key: &[u8], mac: Mac) -> bool {
        let is_integrity = |kind: &u16| [INTEGRITY, INTEGRITY_SHA256].contains(kind);
        let signed = self.attributes().into_iter().find(|(_, kind, _)| *kind == mac.attribute());
        let Some((at, _, value)) = signed else { return false };
        let covered = self.bytes.get(..at).unwrap_or_default();
        self.kinds().iter().filter(|kind| is_integrity(kind)).count() == 1
            && mac.tag(key, covered, mac.len()) == value
    }

    /// Whether FINGERPRINT, if there is one, is last and right.
    pub(crate) fn fingerprint_holds(&self) -> bool {
        let attributes = self.attributes();
        let Some(index) = attributes.iter().position(|(_, kind, _)| *kind == FINGERPRINT) else {
            return true;
        };
        let Some((at, _, value)) = attributes.get(index) else { return false };
        let covered = self.bytes.get(..*at).unwrap_or_default();
        let crc = crc32fast::hash(covered) ^ 0x5354_554E;
        index + 1 == attributes.len() && *value == crc.to_be_bytes()
    }

    /// Whether all padding is zero.
    pub(crate) fn padding_is_zero(&self) -> bool {
        self.attributes().into_iter().all(|(at, _, value)| {
            let end = at + 4 + value.len();
            let padding = self.bytes.get(end..end.next_multiple_of(4)).unwrap_or_default();
            padding.iter().all(|byte| *byte == 0)
        })
    }

    /// What it is, in words.
    pub(crate) fn describe(&self) -> String {
        match (self.code(), self.kind() & ERROR) {
            (Some(code), _) => {
                let reason = self.value(ERROR_CODE).and_then(|value| value.get(4..));
                let reason = String::from_utf8_lossy(reason.unwrap_or_default()).into_owned();
                let reason = reason.trim_end_matches('\0').trim();
                if reason.is_empty() { code.to_string() } else { format!("{code} {reason}") }
            }
            (None, SUCCESS) => "success".to_owned(),
            (None, ERROR) => "an error without ERROR-CODE".to_owned(),
            (None, INDICATION) if self.kind() == DATA_METHOD | INDICATION => {
                let len = self.value(DATA).map_or(0, <[u8]>::len);
                format!("a Data indication with {len} bytes")
            }
            (None, INDICATION) => format!("an indication of type {:#06x}", self.kind()),
            _ => format!("a request of type {:#06x}", self.kind()),
        }
    }
}
