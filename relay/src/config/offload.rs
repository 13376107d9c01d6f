//! What the kernel shall relay by itself.

use nix::net::if_::if_nametoindex;
use proto::policy::{Bandwidth, Rates};

use super::check;
use super::error::Problem;
use super::file;
use crate::offload::{Mode, Wish};

/// The most routes that can be kept: of each, a few hundred bytes of the kernel's memory.
const MOST_ROUTES: u64 = 4_000_000;

/// The most workers that rings can be told apart for.
const MOST_WORKERS: u16 = 255;

/// The `[offload]` table. Without a word there is room for a route of each allocation.
pub(super) fn offload(
    found: &file::Offload,
    allocations: u32,
    limits: &[Bandwidth],
    workers: u16,
) -> Result<Option<Wish>, Problem> {
    let modes: &[Mode] = match found.mode.as_deref() {
        None | Some("off") => &[],
        Some("native") => &[Mode::Native],
        Some("tc") => &[Mode::Tc],
        // Behind drivers there are no rings.
        Some("auto") if found.engine.as_deref() == Some("af_xdp") => &[Mode::Native],
        Some("auto") => &[Mode::Native, Mode::Tc],
        Some("generic") => &[Mode::Generic],
        Some(other) => {
            let why = "not a place in the kernel. \"native\" is in the driver, \"tc\" works with \
                       every driver and gains less, \"auto\" is \"native\" where that is possible \
                       and else \"tc\", \"off\" leaves everything to the relay.";
            return Err(Problem::text("offload.mode", other, why));
        }
    };
    for (index, name) in found.interfaces.iter().enumerate() {
        if if_nametoindex(&**name).is_err() {
            let why = "not an interface of this host. `ip link` lists them.";
            return Err(Problem::text(&format!("offload.interfaces[{index}]"), name, why));
        }
    }
    let rings = rings(found, modes, workers)?;
    let fewest = if rings { 0 } else { 16 };
    let routes =
        check::number("offload.routes", found.routes, allocations.into(), fewest..=MOST_ROUTES)?;
    let routes = u32::try_from(routes).unwrap_or(u32::MAX);
    let limits = limits.iter().map(held).max().unwrap_or_default();
    let (interfaces, keep_measured) = (found.interfaces.clone(), found.keep_measured);
    let wish = Wish { modes, interfaces, routes, keep_measured, rings, limits };
    Ok((!modes.is_empty()).then_some(wish))
}

/// Whether media comes by rings.
fn rings(found: &file::Offload, modes: &[Mode], workers: u16) -> Result<bool, Problem> {
    const KEY: &str = "offload.engine";
    let Some(engine) = found.engine.as_deref() else { return Ok(false) };
    let why = match engine {
        "sockets" => return Ok(false),
        "af_xdp" if modes.is_empty() => {
            "the kernel program brings what rings get: say with offload.mode where it shall stand. \
             offload.routes = 0 keeps it from relaying by itself."
        }
        "af_xdp" if modes == [Mode::Tc] => {
            "rings get their packets from the driver, and offload.mode = \"tc\" stands behind it. Say \
             \"native\"."
        }
        "af_xdp" if workers > MOST_WORKERS => {
            "rings are for 255 workers at most. Set workers = 255: a worker relays several times \
             what it does by sockets."
        }
        "af_xdp" => return Ok(true),
        _ => "not an engine. \"sockets\" works everywhere, \"af_xdp\" takes media by rings.",
    };
    Err(Problem::text(KEY, engine, why))
}

/// How many limits may hold for an allocation that the kernel can hold, with its user's parts of those
/// that users share.
fn held(bandwidth: &Bandwidth) -> u32 {
    if *bandwidth == Bandwidth::UNLIMITED || bandwidth.worker != Rates::UNLIMITED {
        return 0;
    }
    let is_limited = |rates| u32::from(rates != Rates::UNLIMITED);
    // Its own, and its user's, which a credential may bring; the client's and a part of it; a part of the
    // relay's.
    2 + 2 * is_limited(bandwidth.client) + is_limited(bandwidth.relay)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn sec_010_there_is_room_for_every_limit_that_may_hold_for_an_allocation() {
        let (none, some) =
            (Bandwidth::UNLIMITED, Rates { bytes: NonZeroU64::new(1), packets: None });
        for (case, bandwidth, expected) in [
            ("none", none, 0),
            ("the allocation's", Bandwidth { allocation: some, ..none }, 2),
            ("the user's", Bandwidth { user: some, ..none }, 2),
            ("the client's", Bandwidth { client: some, ..none }, 4),
            ("the relay's", Bandwidth { relay: some, ..none }, 3),
            ("all but", Bandwidth { worker: some, client: some, ..none }, 0),
        ] {
            assert_eq!(held(&bandwidth), expected, "{case}");
        }
    }

    #[test]
    fn rings_are_for_as_many_workers_as_they_can_tell_apart() {
        let found = file::Offload { engine: Some("af_xdp".to_owned()), ..Default::default() };
        for (workers, taken) in [(1, true), (255, true), (256, false)] {
            let outcome = rings(&found, &[Mode::Native], workers);
            assert_eq!(outcome.is_ok(), taken, "{workers} workers");
        }
    }
}
