//! The kernel program: loaded, attached to interfaces, asked what it counted.
//!
//! Everything here needs privileges and happens before they are given up. Attachments are links of
//! the process: they end with it, however it ends.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{Map, MapData, MapError};
use aya::programs::{ProgramError, ProgramFd, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader, TestRun, TestRunOptions};
use nix::net::if_::if_nametoindex;
use proto::policy::Rates;
use proto::policy::bandwidth::{BURST, KEPT, LEAST};

use super::accounts::Reading;
use super::legs::Legs;
use super::rings::RingRoom;
use super::ways::Ways;
use crate::sys::{self, Counts, LEVELS, Limits, Place};

/// The object that `relay/xdp/build` makes.
const OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/xdp/relay.bpf.o"));

/// Slots before those of legs: what went up to the relay, by reason.
pub(super) const FIRST_LEG: u32 = 10;

/// The first index of limits that is one.
pub(super) const FIRST_LIMIT: u32 = 1;

/// Rows of counts at most: processors share them, so that a leg's memory does not grow with their
/// number.
const MOST_ROWS: usize = 4;

/// Why the program sends up what belongs to a leg, in order of its slots.
pub const PASSED: [&str; 10] = [
    "expired",
    "hop_limit",
    "too_large",
    "partial_checksum",
    "odd_length",
    "damaged",
    "no_room",
    "no_checksum",
    "other_client",
    "run",
];

/// Why the kernel relays nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unable {
    /// It lets only those with privileges.
    #[error(
        "that wants CAP_BPF and CAP_NET_ADMIN when the relay starts: start it as root, or see \
         deploy/systemd; a container may have to be given them as well"
    )]
    Privilege,
    /// It does not take the program or its maps.
    #[error("the kernel does not take the program: {}", whole(.0))]
    Load(EbpfError),
    /// It took another program than ours.
    #[error("the program lacks {0}")]
    Lacks(&'static str),
    /// It does not run the program.
    #[error("the kernel does not run the program: {}", whole(.0))]
    Program(ProgramError),
    /// An interface has no driver for it.
    #[error("its driver knows nothing of this; offload.mode = \"tc\" works with every one")]
    Driver,
    /// The kernel cannot attach it behind drivers.
    #[error("behind drivers it stands from Linux 6.6 on; offload.mode = \"native\" needs less")]
    Old,
    /// An interface is a virtual cable that nobody has vouched for.
    #[error(
        "it is one end of a virtual cable (veth): frames for the other end vanish unless that has \
         GRO on (`ethtool -K … gro on`). If it has, name the interface in offload.interfaces; \
         offload.mode = \"tc\" needs neither"
    )]
    Cable,
    /// An interface has another program.
    #[error("another program stands here already: `ip link` shows it")]
    Taken,
    /// No interface takes it.
    #[error("it stands at no interface")]
    Nowhere,
    /// Ways out are as many as there is room for.
    #[error(
        "legs lead by more next hops than there is room for beside offload.routes: raise it, or what \
         goes by these is relayed by sockets"
    )]
    Ways,
    /// Its maps cannot be used.
    #[error("its maps: {}", whole(.0))]
    Map(#[from] MapError),
    /// The operating system refused something else.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<EbpfError> for Unable {
    fn from(error: EbpfError) -> Self {
        if is_denied(&error) { Self::Privilege } else { Self::Load(error) }
    }
}

impl From<ProgramError> for Unable {
    fn from(error: ProgramError) -> Self {
        if is_denied(&error) { Self::Privilege } else { Self::Program(error) }
    }
}

/// An error and what was behind it.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Whether the kernel said that somebody else might.
fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let mut system = causes(error).filter_map(|error| error.downcast_ref::<io::Error>());
    system.any(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// All that is said about it.
fn whole(error: &(dyn Error + 'static)) -> String {
    let all: Vec<String> = causes(error).map(ToString::to_string).collect();
    all.join(": ")
}

/// Where in the path of a packet the program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// Behind it, for every driver and at a higher price.
    Tc,
    /// The program of drivers, behind one that knows nothing of it.
    Generic,
}

impl Mode {
    /// The name in configuration, logs and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Tc => "tc",
            Self::Generic => "generic",
        }
    }

    /// Which of the two programs stands there.
    fn program(self) -> &'static str {
        match self {
            Self::Native | Self::Generic => "relay_xdp",
            Self::Tc => "relay_tc",
        }
    }
}

/// The program, loaded.
pub struct Program {
    pub(super) ebpf: Ebpf,
    mode: Mode,
    links: Vec<OwnedFd>,
    /// Slots of a row.
    slots: u32,
    rows: u32,
    counts: Arc<Counts>,
    limits: Arc<Limits>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// What the program has room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Legs, two for each route.
    pub legs: u32,
    /// As many of them as may arrive over IPv4, and over IPv6.
    pub over: [u32; 2],
    /// Ways out: see [`ways_of`](super::ways_of).
    pub ways: u32,
    /// Limits, two for each allocation that has one, for what several share, and for their parts of it.
    pub limits: u32,
}

/// What the program did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went up to the relay.
    Up,
    /// It goes out by the interface it came by.
    Back,
    /// It goes out by another interface; from behind drivers, by any.
    Across,
    /// It was held back by a limit.
    Dropped,
    /// Anything else, which the program never says.
    Other(u32),
}

impl Program {
    /// Loads the program for a place.
    pub fn load(mode: Mode, room: Room) -> Result<Self, Unable> {
        Self::load_with(mode, room, &RingRoom::default())
    }

    /// The same, with room for rings.
    pub(super) fn load_with(mode: Mode, room: Room, rings: &RingRoom) -> Result<Self, Unable> {
        let Room { legs, over: [over_ipv4, over_ipv6], ways, limits } = room;
        let processors = aya::util::online_cpus().map_err(|(_, error)| error)?.len();
        let rows: u32 = if processors >= MOST_ROWS { 4 } else { 1 << (processors / 2) };
        let slots = FIRST_LEG.saturating_add(legs);
        let entries = slots.saturating_mul(rows);
        let limits = limits.saturating_add(FIRST_LIMIT);
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let [burst, kept] = [BURST, KEPT].map(nanoseconds);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("legs4", over_ipv4.max(1))
            .map_max_entries("legs6", over_ipv6.max(1))
            .map_max_entries("ways", ways.max(1))
            .map_max_entries("counts", entries)
            .map_max_entries("addresses", rings.addresses.max(1))
            .map_max_entries("ports", rings.port_words())
            .map_max_entries("rings", rings.rings())
            .map_max_entries("sockets", rings.sockets())
            .map_max_entries("diverted", rings.diverted())
            .override_global("ring_interfaces", &rings.interfaces, true)
            .override_global("workers", &rings.workers.max(1), true)
            .map_max_entries("limits", limits)
            .override_global("burst", &burst, true)
            .override_global("kept", &kept, true)
            .override_global("least", &LEAST, true)
            .override_global("slots", &slots, true)
            .override_global("last_row", &(rows - 1), true)
            .load(OBJECT)?;
        let array = |name| match ebpf.map(name) {
            Some(Map::Array(map)) => Ok(map.fd().as_fd()),
            _ => Err(Unable::Lacks(name)),
        };
        let counts = Arc::new(Counts::map(array("counts")?, entries as usize)?);
        let limits = Arc::new(Limits::map(array("limits")?, limits as usize)?);
        let name = mode.program();
        let program = ebpf.program_mut(name).ok_or(Unable::Lacks(name))?;
        match mode {
            Mode::Native | Mode::Generic => <&mut Xdp>::try_from(program)?.load()?,
            Mode::Tc => <&mut SchedClassifier>::try_from(program)?.load()?,
        }
        Ok(Self { ebpf, mode, links: Vec::new(), slots, rows, counts, limits })
    }

    /// Lets it see what an interface receives; the index of the interface.
    pub fn attach(&mut self, interface: &str) -> Result<u32, Unable> {
        let ifindex = if_nametoindex(interface).map_err(io::Error::from)?;
        let place = match self.mode {
            Mode::Native => Place::Driver,
            Mode::Generic => Place::Any,
            Mode::Tc => Place::Ingress,
        };
        let link = sys::attach(self.descriptor()?.as_fd(), ifindex, place);
        self.links.push(link.map_err(|error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Unable::Driver,
            Some(libc::EINVAL) if self.mode == Mode::Tc => Unable::Old,
            Some(libc::EBUSY | libc::EEXIST) => Unable::Taken,
            Some(libc::EPERM) => Unable::Privilege,
            _ => Unable::System(error),
        })?);
        Ok(ifindex)
    }

    /// A door to its legs, for one thread, which has these of the ways to itself.
    pub fn legs(&self, ways: Range<u32>) -> Result<Legs, Unable> {
        let again = |map: &MapData| {
            Ok::<_, Unable>(MapData::from_fd(map.fd().as_fd().try_clone_to_owned()?)?)
        };
        let legs = |name| match self.ebpf.map(name) {
            Some(Map::HashMap(legs)) => Ok(Map::HashMap(again(legs)?)),
            _ => Err(Unable::Lacks(name)),
        };
        let Some(Map::Array(table)) = self.ebpf.map("ways") else {
            return Err(Unable::Lacks("ways"));
        };
        let table = Map::Array(again(table)?);
        Ok(Legs {
            v4: legs("legs4")?.try_into()?,
            v6: legs("legs6")?.try_into()?,
            table: table.try_into()?,
            ways: Ways::new(ways),
        })
    }

    /// What others may call it by.
    pub fn descriptor(&self) -> Result<&ProgramFd, Unable> {
        let name = self.mode.program();
        let program = self.ebpf.program(name).ok_or(Unable::Lacks(name))?;
        Ok(match self.mode {
            Mode::Native | Mode::Generic => <&Xdp>::try_from(program)?.fd()?,
            Mode::Tc => <&SchedClassifier>::try_from(program)?.fd()?,
        })
    }

    /// Bytes of memory that the kernel charges for its tables.
    pub fn memory(&self) -> Result<u64, Unable> {
        let mut sum = 0;
        for (_, map) in self.ebpf.maps() {
            let (Map::HashMap(table) | Map::Array(table)) = map else { continue };
            let descriptor = table.fd().as_fd().as_raw_fd();
            let told = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
            let charged = told.lines().find_map(|line| line.strip_prefix("memlock:"));
            let bytes = charged.and_then(|bytes| bytes.trim().parse::<u64>().ok());
            sum += bytes.ok_or(Unable::Lacks("memory"))?;
        }
        Ok(sum)
    }

    /// A view of what it counted.
    pub fn meter(&self) -> Meter {
        Meter { counts: Arc::clone(&self.counts), slots: self.slots, rows: self.rows }
    }

    /// Sets a limit anew, which shares the others with these indices: nothing has passed.
    pub fn limit(&self, index: u32, rates: Rates, shared: &[u32]) {
        self.limit_in_part(index, rates, [shared, &[]]);
    }

    /// The same of an allocation whose user has parts of those, at these indices.
    pub fn limit_in_part(&self, index: u32, rates: Rates, shared: [&[u32]; 2]) {
        let shared = shared.map(|indices| {
            let mut levels = [0; LEVELS];
            levels.iter_mut().skip(1).zip(indices).for_each(|(level, index)| *level = *index);
            levels
        });
        self.limits.begin(index, rates, shared, 0);
    }

    /// Says how many users share a limit.
    pub fn share(&self, index: u32, sharers: u64) {
        self.limits.share(index, sharers);
    }

    /// How many datagrams a limit has held back, itself and by those it shares, and by what they were
    /// too much of: bytes, datagrams.
    pub fn held_back(&self, index: u32) -> [[u32; 2]; LEVELS] {
        [0, 1, 2, 3].map(|level| self.limits.dropped(index, level))
    }

    /// The limits of its legs.
    pub(super) fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }

    /// Runs it on a frame as if it had come by the loopback interface, so many times; what became of
    /// it, the frame it left, and the time of one run.
    pub fn run(&self, frame: &[u8], times: u32) -> Result<(Outcome, Vec<u8>, Duration), Unable> {
        self.run_as(frame, times, None)
    }

    /// The same behind a driver, on a frame that the kernel has put together of datagrams with so many
    /// bytes each.
    pub fn run_joined(&self, frame: &[u8], each: u32) -> Result<(Outcome, Vec<u8>), Unable> {
        let mut buffer = [0; sys::BUFFER];
        buffer[sys::BUFFER_JOINED..][..4].copy_from_slice(&each.to_ne_bytes());
        let (outcome, left, _) = self.run_as(frame, 1, Some(&buffer))?;
        Ok((outcome, left))
    }

    fn run_as(
        &self,
        frame: &[u8],
        times: u32,
        buffer: Option<&[u8]>,
    ) -> Result<(Outcome, Vec<u8>, Duration), Unable> {
        let name = self.mode.program();
        let program = self.ebpf.program(name).ok_or(Unable::Lacks(name))?;
        let mut left = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut left),
            ctx_in: buffer,
            repeat: times,
            ..TestRunOptions::new()
        };
        let (result, outcome) = if self.mode == Mode::Tc {
            let result = <&SchedClassifier>::try_from(program)?.test_run(options)?;
            let outcome = match result.return_value {
                2 => Outcome::Dropped,
                7 => Outcome::Across,
                u32::MAX => Outcome::Up,
                other => Outcome::Other(other),
            };
            (result, outcome)
        } else {
            let result = <&Xdp>::try_from(program)?.test_run(options)?;
            let outcome = match result.return_value {
                1 => Outcome::Dropped,
                2 => Outcome::Up,
                3 => Outcome::Back,
                4 => Outcome::Across,
                other => Outcome::Other(other),
            };
            (result, outcome)
        };
        left.truncate(result.data_size_out as usize);
        Ok((outcome, left, result.duration))
    }
}

/// What the program counted.
#[derive(Clone, Debug)]
pub struct Meter {
    counts: Arc<Counts>,
    slots: u32,
    rows: u32,
}

impl Meter {
    /// How often it sent up what belongs to a leg, by reason.
    pub fn passed(&self) -> [u64; PASSED.len()] {
        let mut slots = 0..;
        PASSED.map(|_| slots.next().map_or(0, |slot| self.sum(slot)))
    }

    /// What the leg of a slot has counted so far.
    pub fn reading(&self, slot: u32) -> Reading {
        Reading::of(self.sum(slot))
    }

    fn sum(&self, slot: u32) -> u64 {
        let rows = (0..self.rows).map(|row| self.counts.get((row * self.slots + slot) as usize));
        rows.fold(0, u64::wrapping_add)
    }
}
