//! Ranges as people write them: `10.0.0.0/8`, `fd00::1`, `53`, `1024-65535`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// A range of addresses, or a single one.
pub fn addresses(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A range of ports, or a single one.
pub fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (!range.is_empty()).then_some(range)
}
