//! What the kernel shall relay by itself.

use nix::net::if_::if_nametoindex;

use super::check;
use super::error::Problem;
use super::file;
use crate::offload::{Mode, Wish};

/// The most routes that can be kept: of each, a few hundred bytes of the kernel's memory.
const MOST_ROUTES: u64 = 4_000_000;

/// The `[offload]` table. Without a word there is room for a route of each allocation.
pub(super) fn offload(found: &file::Offload, allocations: u32) -> Result<Option<Wish>, Problem> {
    let mode = match found.mode.as_deref() {
        None | Some("off") => None,
        Some("native") => Some(Mode::Native),
        Some("generic") => Some(Mode::Generic),
        Some(other) => {
            let why = "not a place in the kernel. \"native\" is in the driver, \"generic\" works \
                       with every driver and gains less, \"off\" leaves everything to the relay.";
            return Err(Problem::text("offload.mode", other, why));
        }
    };
    for (index, name) in found.interfaces.iter().enumerate() {
        if if_nametoindex(&**name).is_err() {
            let why = "not an interface of this host. `ip link` lists them.";
            return Err(Problem::text(&format!("offload.interfaces[{index}]"), name, why));
        }
    }
    let routes =
        check::number("offload.routes", found.routes, allocations.into(), 16..=MOST_ROUTES)?;
    let routes = u32::try_from(routes).unwrap_or(u32::MAX);
    let (interfaces, keep_measured) = (found.interfaces.clone(), found.keep_measured);
    Ok(mode.map(|mode| Wish { mode, interfaces, routes, keep_measured }))
}
