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
    let limits = limits.iter().any(can_be_held);
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

/// Whether there are limits that the kernel can hold.
fn can_be_held(bandwidth: &Bandwidth) -> bool {
    *bandwidth != Bandwidth::UNLIMITED && bandwidth.worker == Rates::UNLIMITED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_for_as_many_workers_as_they_can_tell_apart() {
        let found = file::Offload { engine: Some("af_xdp".to_owned()), ..Default::default() };
        for (workers, taken) in [(1, true), (255, true), (256, false)] {
            let outcome = rings(&found, &[Mode::Native], workers);
            assert_eq!(outcome.is_ok(), taken, "{workers} workers");
        }
    }
}
