//! The checksum of the internet (RFC 1071), in the machine's order: sums and what they are made of
//! are read from memory and written there as they lie.

use std::net::IpAddr;

/// The sum of bytes, of which the first lies at an even place of what is summed; not folded.
#[inline]
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    sum + u64::from(u32::from_ne_bytes(last))
}

/// The sum of what stands before UDP in its checksum: addresses, protocol, length.
#[inline]
pub(super) fn pseudo(from: IpAddr, to: IpAddr, length: u16) -> u64 {
    let address = |ip| match ip {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    };
    address(from) + address(to) + u64::from(17_u16.to_be()) + u64::from(length.to_be())
}

/// A sum of 16 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "folded until it fits")]
pub(super) fn folded(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xFFFF_FFFF);
    let sum = (sum >> 16) + (sum & 0xFFFF);
    let sum = (sum >> 16) + (sum & 0xFFFF);
    ((sum >> 16) + (sum & 0xFFFF)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_rfc_1071_wherever_words_end() {
        // RFC 1071 §3: 0001 f203 f4f5 f6f7 give ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(folded(sum(&bytes)).to_ne_bytes(), [0xdd, 0xf2]);
        for len in 0..=bytes.len() {
            let slow = bytes[..len].chunks(2).fold(0_u32, |sum, pair| {
                sum + u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
            });
            let slow = u16::try_from((slow >> 16) + (slow & 0xFFFF)).unwrap();
            assert_eq!(folded(sum(&bytes[..len])), slow.to_be(), "{len}");
        }
        assert_eq!(folded(sum(&vec![0xFF; 70_000])), 0xFFFF, "nothing runs over");
    }
}
