//! The PROXY protocol, version 2: who the client is, told by a balancer in front of us.
//!
//! Follows the specification of HAProxy (`doc/proxy-protocol.txt`, §2.2): sixteen bytes of
//! header, addresses, then fields of type, length and value. Only what a TCP listener can meet
//! is read: TCP over IPv4 and IPv6, LOCAL (the balancer's own checks) and UNSPEC. Fields are
//! skipped, but for the checksum, which must fit where it is given.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header starts with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header that is read: addresses, and room for the fields of today's balancers.
pub const LONGEST: usize = 4096;

/// The longest header that is written.
pub const WRITTEN: usize = START + 2 * (16 + 2);

/// Signature, version and command, family, length.
const START: usize = SIGNATURE.len() + 4;

/// Version 2 and the command LOCAL, PROXY.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Address family and transport.
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The field `PP2_TYPE_CRC32C`: a checksum of the whole header, itself taken as zero.
const CRC32C: u8 = 0x03;

/// Whom the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The one who connected: LOCAL or UNSPEC.
    Itself,
    /// A client behind it.
    Client {
        /// Where the client connected from.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}

/// What the bytes of a stream say about its PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// It is here.
    Complete {
        /// Whom the connection is for.
        origin: Origin,
        /// Bytes of the stream it took.
        wire: usize,
    },
    /// So many bytes are missing at least; with them the stream has no more than [`LONGEST`].
    NeedMore(usize),
    /// There is none, or none that can be believed.
    Broken(Broken),
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// The stream starts otherwise.
    Signature,
    /// Another version, or a command the specification does not know.
    Command,
    /// Addresses of something else than a TCP connection.
    Family,
    /// Longer than [`LONGEST`].
    TooLong,
    /// Addresses or fields run past the end.
    Length,
    /// The checksum does not fit.
    Checksum,
}

/// Reads the header that a stream starts with.
pub fn read(stream: &[u8]) -> Reading {
    if stream.iter().zip(&SIGNATURE).any(|(a, b)| a != b) {
        return Reading::Broken(Broken::Signature);
    }
    let Some((start, _)) = stream.split_first_chunk::<START>() else {
        return Reading::NeedMore(START.saturating_sub(stream.len()));
    };
    let [.., command, family, l0, l1] = *start;
    let wire = START.saturating_add(u16::from_be_bytes([l0, l1]).into());
    if wire > LONGEST {
        return Reading::Broken(Broken::TooLong);
    }
    let Some(header) = stream.get(..wire) else {
        return Reading::NeedMore(wire.saturating_sub(stream.len()));
    };
    match origin(header, command, family) {
        Ok(origin) => Reading::Complete { origin, wire },
        Err(why) => Reading::Broken(why),
    }
}

/// Judges a header that is complete.
fn origin(header: &[u8], command: u8, family: u8) -> Result<Origin, Broken> {
    let body = header.get(START..).unwrap_or_default();
    let (client, fields) = match (command, family) {
        // Both say nothing of a client; what else they carry is to be skipped.
        (LOCAL, _) | (PROXY, UNSPEC) => return Ok(Origin::Itself),
        (PROXY, TCP4) => {
            let (source, rest) = body.split_first_chunk::<4>().ok_or(Broken::Length)?;
            let (destination, rest) = rest.split_first_chunk::<4>().ok_or(Broken::Length)?;
            let (ports, fields) = ports(rest)?;
            (client(Ipv4Addr::from(*source), Ipv4Addr::from(*destination), ports), fields)
        }
        (PROXY, TCP6) => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(Broken::Length)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(Broken::Length)?;
            let (ports, fields) = ports(rest)?;
            (client(Ipv6Addr::from(*source), Ipv6Addr::from(*destination), ports), fields)
        }
        (PROXY, _) => return Err(Broken::Family),
        _ => return Err(Broken::Command),
    };
    check(header, fields)?;
    Ok(client)
}

/// Source and destination port, and what follows them.
fn ports(bytes: &[u8]) -> Result<([u16; 2], &[u8]), Broken> {
    let (&[s0, s1, d0, d1], rest) = bytes.split_first_chunk().ok_or(Broken::Length)?;
    Ok(([u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])], rest))
}

fn client<A>(source: A, destination: A, [from, to]: [u16; 2]) -> Origin
where
    SocketAddr: From<(A, u16)>,
{
    let (source, destination) = ((source, from).into(), (destination, to).into());
    Origin::Client { source, destination }
}

/// Walks the fields; compares the checksum, if one of them is it.
fn check(header: &[u8], mut fields: &[u8]) -> Result<(), Broken> {
    while let Some((&[kind, l0, l1], rest)) = fields.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Broken::Length)?;
        if kind == CRC32C {
            let told = value.try_into().map(u32::from_be_bytes).map_err(|_| Broken::Length)?;
            let behind = value.len().saturating_add(rest.len());
            let at = header.len().saturating_sub(behind);
            if crc32c(header, at) != told {
                return Err(Broken::Checksum);
            }
        }
        fields = rest;
    }
    if fields.is_empty() { Ok(()) } else { Err(Broken::Length) }
}

/// CRC-32C (RFC 3720 appendix B.4) of a header whose four bytes from `hole` count as zero.
///
/// Bit by bit: a header is short, and comes once in a connection.
fn crc32c(header: &[u8], hole: usize) -> u32 {
    /// The polynomial, reflected.
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let hole = hole..hole.saturating_add(4);
    let bytes = header.iter().enumerate();
    let bytes = bytes.map(|(at, &byte)| if hole.contains(&at) { 0 } else { byte });
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (if crc & 1 == 1 { POLYNOMIAL } else { 0 })
        })
    })
}

/// A header that names a client: its bytes are the first so many of the array.
///
/// Addresses of two families are both written as IPv6, IPv4-mapped.
pub fn write(source: SocketAddr, destination: SocketAddr) -> ([u8; WRITTEN], usize) {
    let mut buffer = [0; WRITTEN];
    let mut len = 0_usize;
    let mut put = |bytes: &[u8]| {
        let end = len.saturating_add(bytes.len());
        if let Some(place) = buffer.get_mut(len..end) {
            place.copy_from_slice(bytes);
            len = end;
        }
    };
    put(&SIGNATURE);
    if let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) {
        put(&[PROXY, TCP4, 0, 2 * (4 + 2)]);
        put(&source.ip().octets());
        put(&destination.ip().octets());
    } else {
        put(&[PROXY, TCP6, 0, 2 * (16 + 2)]);
        put(&wide(source).octets());
        put(&wide(destination).octets());
    }
    put(&source.port().to_be_bytes());
    put(&destination.port().to_be_bytes());
    (buffer, len)
}

/// An address as IPv6.
fn wide(address: SocketAddr) -> Ipv6Addr {
    match address {
        SocketAddr::V4(address) => address.ip().to_ipv6_mapped(),
        SocketAddr::V6(address) => *address.ip(),
    }
}
