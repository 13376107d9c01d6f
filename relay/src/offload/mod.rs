//! What the kernel relays by itself: a follower of the core's changes.
//!
//! When the relay starts, [`open`] loads the program of `relay/xdp/`, attaches it to the interfaces
//! of the configuration and hands each worker a [`Follower`]. That one asks the server for the
//! routes of an allocation after each change of it, and keeps two legs in the kernel for each,
//! once both next hops are known; legs that leave by the same way share it. A leg carries its own end and its own accounts; what the kernel
//! carried is added to the server's when somebody asks, and when a route ends. What an allocation
//! may carry, both hold. Without all this
//! every packet takes the way through the engine, which stays open for whatever the program
//! leaves.

mod accounts;
mod entry;
mod fitness;
mod follower;
mod hops;
mod legs;
mod life;
mod limits;
mod netlink;
mod program;
mod rings;
mod ways;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mio::Token;
use proto::addr::Transport;

pub use accounts::{OffloadTally, Reading};
pub use entry::{Entry, Hop, Terms};
pub(crate) use fitness::{Fitness, fitness};
pub(crate) use follower::Follower;
pub(crate) use hops::{Hops, below};
pub use legs::Legs;
pub use program::{Meter, Mode, Outcome, PASSED, Program, Room, Unable};
pub use proto::policy::bandwidth::Direction;
pub(crate) use rings::{Diverted, MOST_QUEUES};
pub use ways::ways_of;

use crate::clock::KernelClock;
use crate::config::Config;
use crate::engine::{FOREIGN, Gear};
use crate::sys::MOST_WAYS;
use follower::Parts;
use limits::{Commons, Limits};
use rings::RingRoom;

/// The token of news about next hops: no stream and no relayed TCP address has it.
pub(crate) const TOKEN: Token = Token(FOREIGN | 0x6000_0000);

/// What the operator wishes.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Where the program shall stand: the first of these that every interface has.
    pub(crate) modes: &'static [Mode],
    /// The interfaces; none named means those that have the relay's addresses.
    pub(crate) interfaces: Vec<String>,
    /// How many routes the kernel keeps.
    pub(crate) routes: u32,
    /// Whether allocations whose media is measured are left to the relay.
    pub(crate) keep_measured: bool,
    /// Whether media the kernel does not relay by itself comes by rings.
    pub(crate) rings: bool,
    /// How many limits of bandwidth may hold for an allocation, with its user's parts of them; zero for
    /// no room for any.
    pub(crate) limits: u32,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Offload {
    /// Detaches when it is dropped.
    pub(crate) program: Option<Program>,
    /// Where it stands, for those who look from outside.
    pub(crate) standing: Standing,
    /// One for each worker, in their order; none if the program stands nowhere.
    pub(crate) followers: Vec<Follower>,
    /// What the engine of each worker is made of, in their order; none if media comes by sockets.
    pub(crate) gear: Vec<Gear>,
}

/// Where the program stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Interfaces that shall have it, by name: how, and whether they do.
    pub(crate) interfaces: Vec<(String, Mode, bool)>,
    /// How many queues have rings, and of how many of those frames are not copied.
    pub(crate) rings: [usize; 2],
    meter: Option<Meter>,
}

impl Standing {
    /// What it counted, if it was loaded.
    pub(crate) fn meter(&self) -> Option<&Meter> {
        self.meter.as_ref()
    }
}

/// Loads and attaches the program, if that is wanted and possible, and says what came of it.
/// Wants the privileges that the relay gives up later.
pub(crate) fn open(config: &Config) -> Offload {
    let Some(wish) = &config.offload else { return Offload::default() };
    let mut standing = Standing::default();
    let mut launched = Err(Unable::Nowhere);
    for mode in wish.modes {
        launched = launch(config, wish, *mode, &mut standing);
        if !matches!(launched, Err(Unable::Driver | Unable::Cable)) {
            break;
        }
    }
    match launched {
        Ok((mut program, followers)) => {
            let gear = rings::open(config, wish, &mut program, &mut standing);
            Offload { program: Some(program), standing, followers, gear }
        }
        Err(error) => {
            tracing::warn!("the kernel relays nothing by itself: {error}");
            // The program is gone again.
            standing.interfaces.iter_mut().for_each(|(_, _, stands)| *stands = false);
            Offload { standing, ..Offload::default() }
        }
    }
}

fn launch(
    config: &Config,
    wish: &Wish,
    mode: Mode,
    standing: &mut Standing,
) -> Result<(Program, Vec<Follower>), Unable> {
    let names = if wish.interfaces.is_empty() { ours(config)? } else { wish.interfaces.clone() };
    let names = below(names)?;
    standing.interfaces = names.into_iter().map(|name| (name, mode, false)).collect();
    let legs = wish.routes.saturating_mul(2);
    let addresses = config.listeners.iter().map(|it| it.local.ip());
    let addresses = || addresses.clone().chain(config.relays.iter().map(|it| it.local));
    let room = |wanted| if wanted { legs } else { 0 };
    let rooms = [addresses().any(|ip| ip.is_ipv4()), addresses().any(|ip| ip.is_ipv6())].map(room);
    let room = RingRoom::of(config, wish, standing)?;
    let each = legs / u32::from(config.workers.max(1));
    // A pair for each route, should each be an allocation, and for whatever holds for it; and one for
    // what all share.
    let each_limits = if wish.limits > 0 { each & !1 } else { 0 };
    let own_limits = each_limits * u32::from(config.workers);
    let limits = own_limits.saturating_mul(wish.limits).saturating_add(2);
    let each_ways = ways_of(each).min(MOST_WAYS / u32::from(config.workers.max(1)));
    let ways = each_ways * u32::from(config.workers);
    let mut program = Program::load_with(mode, Room { legs, over: rooms, ways, limits }, &room)?;
    let mut indices = Vec::new();
    for (interface, _, stands) in &mut standing.interfaces {
        let is_vouched = !wish.interfaces.is_empty() || mode != Mode::Native;
        let attached = if is_vouched || !hops::is_cable(interface)? {
            program.attach(interface)
        } else {
            Err(Unable::Cable)
        };
        // From a driver a frame goes on to drivers alone: either all interfaces have one, or none.
        let is_last = wish.modes.last() == Some(&mode);
        let mode = mode.name();
        match attached {
            Err(why @ (Unable::Driver | Unable::Cable)) if !is_last => return Err(why),
            Ok(index) => {
                let (routes, does) =
                    (wish.routes, if wish.routes == 0 { "listens" } else { "relays" });
                tracing::info!(interface, mode, routes, "the kernel {does}");
                indices.push(index);
                *stands = true;
            }
            Err(error) => {
                tracing::warn!(interface, mode, "the kernel relays nothing here: {error}");
            }
        }
    }
    if indices.is_empty() {
        return Err(Unable::Nowhere);
    }
    let listeners: Arc<[SocketAddr]> = config.listeners.iter().map(|it| it.local).collect();
    let workers = if wish.routes == 0 { 0 } else { config.workers };
    let clock = KernelClock::look()?;
    let shared = program::FIRST_LIMIT + own_limits..program::FIRST_LIMIT + limits;
    let commons = Arc::new(Commons::new(program.limits(), clock, shared));
    let follower = |worker: u16| {
        let first = program::FIRST_LEG + u32::from(worker) * each;
        let first_way = u32::from(worker) * each_ways;
        let first_limit = program::FIRST_LIMIT + u32::from(worker) * each_limits;
        Ok(Follower::new(Parts {
            legs: program.legs(first_way..first_way + each_ways)?,
            meter: program.meter(),
            slots: first..first + each,
            limits: Limits::new(&commons, first_limit..first_limit + each_limits),
            hops: Hops::new(&indices)?,
            listeners: Arc::clone(&listeners),
            clock,
        }))
    };
    let followers = (0..workers).map(follower).collect::<Result<_, Unable>>()?;
    standing.meter = Some(program.meter());
    Ok((program, followers))
}

/// The interfaces that have the addresses of UDP listeners and relays; never loopback.
pub(crate) fn ours(config: &Config) -> Result<Vec<String>, Unable> {
    let listeners = config.listeners.iter().filter(|it| it.transport == Transport::Udp);
    let wanted: BTreeSet<IpAddr> = listeners
        .map(|it| it.local.ip())
        .chain(config.relays.iter().map(|it| it.local))
        .filter(|ip| !ip.is_loopback())
        .collect();
    let all = nix::ifaddrs::getifaddrs().map_err(std::io::Error::from)?;
    let has = |it: &nix::ifaddrs::InterfaceAddress| {
        let address = it.address.as_ref();
        let v4 = address.and_then(|it| it.as_sockaddr_in()).map(|it| IpAddr::from(it.ip()));
        let v6 = address.and_then(|it| it.as_sockaddr_in6()).map(|it| IpAddr::from(it.ip()));
        v4.or(v6).is_some_and(|ip| wanted.contains(&ip))
    };
    let names: BTreeSet<String> = all.filter(has).map(|it| it.interface_name).collect();
    Ok(names.into_iter().collect())
}
