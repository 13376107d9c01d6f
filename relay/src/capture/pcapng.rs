//! The format pcapng (draft-ietf-opsawg-pcapng): one section, an interface for each leg.
//!
//! Packets are what a wire would show of them, headers of IP and UDP made from their addresses; what
//! travelled on a connection or sealed is shown as a datagram of its own. Blocks that say how many
//! packets were not seen end the section.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use proto::media::Leg;
use proto::turn::tap::Sight;

use super::Batch;
use crate::clock::Calendar;
use crate::engine::{LONGEST_HEAD, head, padding};

/// Packets begin with a header of IP, version 4 or 6.
const LINKTYPE_RAW: u16 = 101;

/// Types of blocks.
const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// Codes of options, each in its block.
const END: u16 = 0;
const COMMENT: u16 = 1;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_DESCRIPTION: u16 = 3;
const INTERFACE_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const STATISTICS_RECEIVED: u16 = 4;
const STATISTICS_DROPPED: u16 = 5;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;

/// Writes it, piece by piece.
#[derive(Debug)]
pub(crate) struct Pcapng {
    /// By [`Leg`].
    seen: [u64; 2],
    missed: [u64; 2],
}

impl Pcapng {
    /// The beginning of a file: what it is of, and how the client is reached.
    pub(crate) fn begin(comment: &str, transport: &str) -> (Self, Vec<u8>) {
        let mut out = Vec::new();
        block(&mut out, SECTION, |body| {
            // Byte order, version, a length that nobody knows yet.
            body.extend(0x1A2B_3C4D_u32.to_le_bytes());
            body.extend([1, 0, 0, 0]);
            body.extend(u64::MAX.to_le_bytes());
            option(body, COMMENT, comment.as_bytes());
            let application = concat!("av-edge ", env!("CARGO_PKG_VERSION"));
            option(body, SECTION_APPLICATION, application.as_bytes());
            option(body, END, &[]);
        });
        for leg in Leg::BOTH {
            let description = match leg {
                Leg::Client => format!("between client and relay, over {transport}"),
                Leg::Peer => "between relay and peers, over UDP".to_owned(),
            };
            block(&mut out, INTERFACE, |body| {
                body.extend(LINKTYPE_RAW.to_le_bytes());
                body.extend([0; 6]);
                option(body, INTERFACE_NAME, leg.name().as_bytes());
                option(body, INTERFACE_DESCRIPTION, description.as_bytes());
                // Ten to the minus ninth.
                option(body, INTERFACE_RESOLUTION, &[9]);
                option(body, END, &[]);
            });
        }
        (Self { seen: [0; 2], missed: [0; 2] }, out)
    }

    /// What was seen in a turn.
    pub(crate) fn packets(&mut self, batch: &Batch) -> Vec<u8> {
        let calendar = Calendar::new();
        let mut out = Vec::new();
        for leg in Leg::BOTH {
            self.missed[leg as usize] += batch.missed[leg as usize];
        }
        for sight in &batch.seen {
            self.seen[sight.leg as usize] += 1;
            packet(&mut out, sight, calendar.ns(sight.at));
        }
        out
    }

    /// The end.
    pub(crate) fn end(&self, at: Instant) -> Vec<u8> {
        let ns = Calendar::new().ns(at);
        let mut out = Vec::new();
        for leg in Leg::BOTH {
            let (seen, missed) = (self.seen[leg as usize], self.missed[leg as usize]);
            block(&mut out, STATISTICS, |body| {
                body.extend((leg as u32).to_le_bytes());
                time(body, ns);
                option(body, STATISTICS_RECEIVED, &(seen + missed).to_le_bytes());
                option(body, STATISTICS_DROPPED, &missed.to_le_bytes());
                option(body, END, &[]);
            });
        }
        out
    }
}

/// A block: its type, its length at both ends.
fn block(out: &mut Vec<u8>, kind: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    write(out);
    let len = u32::try_from(out.len() - begin + 4).unwrap_or(u32::MAX).to_le_bytes();
    out.extend(len);
    out[begin + 4..begin + 8].copy_from_slice(&len);
}

/// An option, filled up to words.
fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend(code.to_le_bytes());
    out.extend(short(value.len()).to_le_bytes());
    out.extend(value);
    fill(out, value.len());
}

fn fill(out: &mut Vec<u8>, len: usize) {
    out.extend(&[0; 3][..len.next_multiple_of(4) - len]);
}

/// The upper half comes first.
fn time(out: &mut Vec<u8>, ns: u64) {
    let [high, low] = [ns >> 32, ns & u64::from(u32::MAX)];
    for half in [high, low] {
        out.extend(u32::try_from(half).unwrap_or(u32::MAX).to_le_bytes());
    }
}

fn packet(out: &mut Vec<u8>, sight: &Sight, ns: u64) {
    let mut dress = [0; LONGEST_HEAD];
    let dressed = head(sight.wrap, sight.len, &mut dress);
    let filled = padding(sight.wrap, sight.len);
    let payload = dressed + sight.len as usize + filled;
    let (ip, ip_len) = internet((sight.from, sight.to), payload);
    let is_whole = sight.bytes.len() == sight.len as usize;
    let tail = if is_whole { filled } else { 0 };
    let captured = ip_len + dressed + sight.bytes.len() + tail;
    block(out, PACKET, |body| {
        body.extend((sight.leg as u32).to_le_bytes());
        time(body, ns);
        for len in [captured, ip_len + payload] {
            body.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        }
        body.extend(&ip[..ip_len]);
        body.extend(&dress[..dressed]);
        body.extend(&sight.bytes);
        body.extend(&[0; 3][..tail]);
        fill(body, captured);
        let direction: u32 = if sight.sent { 2 } else { 1 };
        option(body, PACKET_FLAGS, &direction.to_le_bytes());
        option(body, END, &[]);
    });
}

/// Headers of IP and UDP before so many bytes. Checksums of UDP say that nobody made one, because
/// not all that they are about is here.
fn internet(
    (from, to): (SocketAddr, SocketAddr),
    payload: usize,
) -> ([u8; IPV6_HEADER + UDP_HEADER], usize) {
    let mut out = [0; IPV6_HEADER + UDP_HEADER];
    let udp = UDP_HEADER + payload;
    let ip = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out[0] = 0x45;
            out[2..4].copy_from_slice(&short(IPV4_HEADER + udp).to_be_bytes());
            // Not in pieces, 64 hops.
            out[6..10].copy_from_slice(&[0x40, 0, 64, UDP]);
            out[12..16].copy_from_slice(&from.octets());
            out[16..20].copy_from_slice(&to.octets());
            let sum = checksum(&out[..IPV4_HEADER]);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
            IPV4_HEADER
        }
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            out[0] = 0x60;
            out[4..6].copy_from_slice(&short(udp).to_be_bytes());
            out[6..8].copy_from_slice(&[UDP, 64]);
            out[8..24].copy_from_slice(&octets(from));
            out[24..40].copy_from_slice(&octets(to));
            IPV6_HEADER
        }
    };
    out[ip..ip + 2].copy_from_slice(&from.port().to_be_bytes());
    out[ip + 2..ip + 4].copy_from_slice(&to.port().to_be_bytes());
    out[ip + 4..ip + 6].copy_from_slice(&short(udp).to_be_bytes());
    (out, ip + UDP_HEADER)
}

/// Of a header whose own is still zero (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let (words, _) = header.as_chunks::<2>();
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xFFFF) + (sum >> 16);
    !short((folded & 0xFFFF) as usize + (folded >> 16) as usize)
}

/// A message on a connection may be longer than a datagram can say.
fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proto::turn::Wrap;

    use super::*;

    fn sight(from: &str, to: &str, bytes: &[u8], len: u32) -> Sight {
        Sight {
            at: crate::clock::Clock::new().last().mono,
            leg: Leg::Peer,
            sent: true,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            wrap: Wrap::Raw,
            len,
            bytes: bytes.into(),
        }
    }

    /// Type and body of each block.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |at: &[u8]| u32::from_le_bytes(at[..4].try_into().unwrap());
        let mut found = Vec::new();
        while !file.is_empty() {
            let len = word(&file[4..]) as usize;
            assert_eq!(len % 4, 0);
            assert_eq!(word(&file[len - 4..]) as usize, len, "both ends agree");
            found.push((word(file), file[8..len - 4].to_vec()));
            file = &file[len..];
        }
        found
    }

    #[test]
    fn a_file_has_a_section_two_interfaces_packets_and_statistics() {
        let (mut file, begin) = Pcapng::begin("allocation 0-1-2", "UDP");
        let seen = vec![
            sight("192.0.2.1:1000", "192.0.2.2:2000", b"abc", 3),
            sight("[2001:db8::1]:1000", "[2001:db8::2]:2000", b"abc", 300),
        ];
        let packets = file.packets(&Batch { seen, missed: [0, 5] });
        let end = file.end(crate::clock::Clock::new().last().mono);
        let blocks = blocks(&[begin, packets, end].concat());
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION, INTERFACE, INTERFACE, PACKET, PACKET, STATISTICS, STATISTICS]);
        let lens = |index: usize| {
            let body = &blocks[index].1;
            [12, 16].map(|at| u32::from_le_bytes(body[at..at + 4].try_into().unwrap()))
        };
        assert_eq!((lens(3), lens(4)), ([31, 31], [51, 348]));
        let dropped = STATISTICS_DROPPED.to_le_bytes();
        let said = [&dropped[..], &[8, 0], &5_u64.to_le_bytes()].concat();
        assert!(blocks[6].1.windows(said.len()).any(|part| part == said), "{:?}", blocks[6]);
    }

    #[test]
    fn headers_are_those_of_the_addresses() {
        let place = |text: &str| text.parse().unwrap();
        let (ip, len) = internet((place("192.0.2.1:1000"), place("198.51.100.2:2000")), 172);
        assert_eq!(len, 28);
        // With its own checksum the sum of a good header is all ones.
        assert_eq!(checksum(&ip[..IPV4_HEADER]), 0);
        assert_eq!(&ip[2..4], &200_u16.to_be_bytes());
        assert_eq!(&ip[20..28], &[3, 232, 7, 208, 0, 180, 0, 0]);
        let (ip, len) = internet((place("[2001:db8::1]:1"), place("[2001:db8::2]:2")), 10);
        assert_eq!((len, ip[0], ip[39], ip[47]), (48, 0x60, 2, 0));
        assert_eq!(&ip[40..46], &[0, 1, 0, 2, 0, 18]);
    }
}
