//! IPv4 addresses inside IPv6 ones: wherever a packet could come out as IPv4.
//!
//! One address may be read in several ways, of which the network picks one that we do not know:
//! all of them count.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// How an IPv6 address holds an IPv4 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// RFC 4291 §2.5.5.2.
    Mapped,
    /// RFC 4291 §2.5.5.1.
    Compatible,
    /// RFC 2765 §2.1.
    Translated,
    /// RFC 3056.
    SixToFour,
    /// RFC 4380 §4: the server.
    TeredoServer,
    /// RFC 4380 §4: the client, with every bit turned over.
    TeredoClient,
    /// RFC 6052 §2.1.
    Nat64,
    /// RFC 8215: any length of prefix that fits.
    Nat64Local,
    /// RFC 6052 §2.2: a prefix of the operator's network.
    Nat64Own,
    /// RFC 5214 §6.1.
    Isatap,
}

impl Form {
    /// What operators call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mapped => "IPv4-mapped",
            Self::Compatible => "IPv4-compatible",
            Self::Translated => "IPv4-translated",
            Self::SixToFour => "6to4",
            Self::TeredoServer => "Teredo server",
            Self::TeredoClient => "Teredo client",
            Self::Nat64 => "NAT64",
            Self::Nat64Local => "local-use NAT64",
            Self::Nat64Own => "NAT64 by peers.nat64",
            Self::Isatap => "ISATAP",
        }
    }
}

/// Lengths that a NAT64 prefix may have (RFC 6052 §2.2).
pub const NAT64_LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// The prefix of RFC 8215.
const LOCAL_USE: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48);

/// Every IPv4 address in an IPv6 one; `nat64` are the operator's own prefixes.
pub fn inside(ip: Ipv6Addr, nat64: &[Ipv6Net]) -> impl Iterator<Item = (Form, Ipv4Addr)> {
    let own = move || nat64.iter().filter(move |prefix| prefix.contains(&ip));
    let translated = own().map(move |prefix| (Form::Nat64Own, behind(ip, prefix.prefix_len())));
    // Without a word from the operator each length of a prefix that fits may be the one.
    let local = LOCAL_USE.contains(&ip) && own().next().is_none();
    let lengths = NAT64_LENGTHS.into_iter().filter(move |&length| local && length >= 48);
    let local = lengths.map(move |length| (Form::Nat64Local, behind(ip, length)));
    well_known(ip).into_iter().flatten().chain(translated).chain(local)
}

/// What the address says by itself.
fn well_known(ip: Ipv6Addr) -> [Option<(Form, Ipv4Addr)>; 3] {
    let low = at(ip, 96);
    let [first, second] = match ip.segments() {
        [0, 0, 0, 0, 0, 0, _, _] => [Some((Form::Compatible, low)), None],
        [0, 0, 0, 0, 0, 0xffff, _, _] => [Some((Form::Mapped, low)), None],
        [0, 0, 0, 0, 0xffff, 0, _, _] => [Some((Form::Translated, low)), None],
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => [Some((Form::Nat64, low)), None],
        [0x2002, ..] => [Some((Form::SixToFour, at(ip, 16))), None],
        [0x2001, 0, ..] => {
            let client = Ipv4Addr::from_bits(!low.to_bits());
            [Some((Form::TeredoServer, at(ip, 32))), Some((Form::TeredoClient, client))]
        }
        _ => [None, None],
    };
    let isatap = matches!(ip.segments(), [_, _, _, _, 0 | 0x0200, 0x5efe, _, _]);
    [first, second, isatap.then_some((Form::Isatap, low))]
}

/// The address behind a NAT64 prefix of this length: bits 64 to 71 are left out.
fn behind(ip: Ipv6Addr, prefix_len: u8) -> Ipv4Addr {
    match prefix_len {
        // The address ends before those bits, or begins behind them.
        96 => at(ip, 96),
        32 => at(ip, 32),
        64 => at(ip, 72),
        length => {
            let bits = ip.to_bits();
            let squeezed = bits >> 64 << 64 | (bits & (u128::MAX >> 72)) << 8;
            at(Ipv6Addr::from_bits(squeezed), length.into())
        }
    }
}

/// The 32 bits that begin at `bit`, at most 96.
#[expect(clippy::cast_possible_truncation, reason = "takes 32 bits out of 128")]
fn at(ip: Ipv6Addr, bit: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((ip.to_bits() >> (96_u32.saturating_sub(bit))) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ip: &str, nat64: &[&str]) -> Vec<String> {
        let nat64: Vec<Ipv6Net> = nat64.iter().map(|prefix| prefix.parse().unwrap()).collect();
        inside(ip.parse().unwrap(), &nat64)
            .map(|(form, ip)| format!("{} {ip}", form.name()))
            .collect()
    }

    #[test]
    fn sec_004_every_form_that_holds_an_ipv4_address_is_read() {
        for (ip, expected) in [
            ("::ffff:10.0.0.1", &["IPv4-mapped 10.0.0.1"][..]),
            ("::10.0.0.1", &["IPv4-compatible 10.0.0.1"]),
            ("::ffff:0:10.0.0.1", &["IPv4-translated 10.0.0.1"]),
            ("2002:a00:1::1", &["6to4 10.0.0.1"]),
            ("2001:0:a00:1:0:0:f5ff:fffd", &["Teredo server 10.0.0.1", "Teredo client 10.0.0.2"]),
            ("64:ff9b::10.0.0.1", &["NAT64 10.0.0.1"]),
            ("2a00:1:2:3:0:5efe:10.0.0.1", &["ISATAP 10.0.0.1"]),
            ("2a00:1:2:3:200:5efe:10.0.0.1", &["ISATAP 10.0.0.1"]),
            ("fe80::5efe:10.0.0.1", &["ISATAP 10.0.0.1"]),
            ("2002:a00:1::5efe:10.0.0.2", &["6to4 10.0.0.1", "ISATAP 10.0.0.2"]),
            ("2a00:1:2:3:4:5efe:10.0.0.1", &[]),
            ("2a00::10.0.0.1", &[]),
            (
                "64:ff9b:1:a00:0:100:0:0",
                &[
                    "local-use NAT64 10.0.0.1",
                    "local-use NAT64 0.0.1.0",
                    "local-use NAT64 0.1.0.0",
                    "local-use NAT64 0.0.0.0",
                ],
            ),
        ] {
            assert_eq!(found(ip, &[]), expected, "{ip}");
        }
    }

    /// The table of RFC 6052 §2.4, all of them 192.0.2.33.
    #[test]
    fn sec_004_a_configured_prefix_of_each_length_is_read() {
        for (prefix, ip) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b:1:2::/96", "64:ff9b:1:2::192.0.2.33"),
        ] {
            assert_eq!(found(ip, &[prefix]), ["NAT64 by peers.nat64 192.0.2.33"], "{prefix}");
        }
        assert_eq!(found("2001:db9::1", &["2001:db8::/32"]), [""; 0]);
    }
}
