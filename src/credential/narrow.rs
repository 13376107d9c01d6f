//! What a credential carries beside its user: fewer peers, lower limits.

use std::num::NonZeroU64;

use proto::auth::claims::Claims;
use proto::policy::bandwidth::BYTES_PER_KBIT;
use proto::policy::{Rates, SealedLimits, SealedPeers, ranges};

use crate::cli::MintArgs;
use crate::failure::Failure;

/// The limits that arguments ask for.
pub(super) fn limits(args: &MintArgs) -> Result<SealedLimits, Failure> {
    let mut limits = SealedLimits { allocations: args.allocations, rates: Rates::default() };
    for limit in &args.limit {
        let wrong = || {
            Failure::setup(format!(
                "--limit {limit}: write kbit_per_s=COUNT, packets_per_s=COUNT or \
                 allocations=COUNT, with a COUNT of 1 or more"
            ))
        };
        let (name, count) = limit.split_once('=').ok_or_else(wrong)?;
        let count: NonZeroU64 = count.parse().map_err(|_| wrong())?;
        match name {
            "kbit_per_s" => {
                let bytes = count.checked_mul(BYTES_PER_KBIT).ok_or_else(wrong)?;
                limits.rates.bytes = Some(bytes);
            }
            "packets_per_s" => limits.rates.packets = Some(count),
            "allocations" => {
                limits.allocations = Some(u32::try_from(count.get()).map_err(|_| wrong())?);
            }
            _ => return Err(wrong()),
        }
    }
    Ok(limits)
}

/// The peers that arguments ask for.
pub(super) fn peers(args: &MintArgs) -> Result<SealedPeers, Failure> {
    let range = |text: &String| {
        ranges::addresses(text).ok_or_else(|| {
            Failure::setup(format!(
                "--peers {text}: not a range of addresses, such as 10.0.0.0/8 or fd00::/8"
            ))
        })
    };
    let ports = |text: &String| {
        ranges::ports(text).ok_or_else(|| {
            Failure::setup(format!("--ports {text}: not ports, such as 53 or 1024-65535"))
        })
    };
    Ok(SealedPeers {
        ranges: args.peers.iter().map(range).collect::<Result<_, _>>()?,
        ports: args.ports.iter().map(ports).collect::<Result<_, _>>()?,
    })
}

/// What a name says of them; nothing where the relay decides.
pub(super) fn lines(claims: &Claims<'_>) -> Vec<String> {
    let SealedPeers { ranges, ports } = claims.peers();
    let Rates { bytes, packets } = claims.limits.rates;
    let list = |words: Vec<String>| (!words.is_empty()).then(|| words.join(", "));
    let ranges = list(ranges.iter().map(ToString::to_string).collect());
    let ports = list(ports.iter().map(|it| format!("{}-{}", it.start(), it.end())).collect());
    let rates = list(
        [
            bytes.map(|bytes| format!("{} kbit/s", bytes.get() / BYTES_PER_KBIT)),
            packets.map(|packets| format!("{packets} packets/s")),
        ]
        .into_iter()
        .flatten()
        .collect(),
    );
    [
        rates.map(|rates| format!("rates        at most {rates}, each way")),
        ranges.map(|ranges| format!("peers        {ranges}")),
        ports.map(|ports| format!("ports        {ports}")),
        claims.trace.map(|trace| format!("traceparent  {trace}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}
