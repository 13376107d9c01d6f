//! What the relay and its kernel program tell each other: the twin of `relay/xdp/abi.h`; and what
//! brings the program to an interface.
//!
//! Addresses, ports and channels are octets in network order, so no machine's order enters here.

use std::io;
use std::mem::{offset_of, size_of};
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use proto::policy::Rates;

/// How a leg whose datagrams arrive over IPv4 is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub(crate) struct Key4 {
    pub(crate) remote: [u8; 4],
    pub(crate) local: [u8; 4],
    pub(crate) remote_port: [u8; 2],
    pub(crate) local_port: [u8; 2],
    pub(crate) channel: [u8; 2],
    pub(crate) zero: [u8; 2],
}

/// The same over IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub(crate) struct Key6 {
    pub(crate) remote: [u8; 16],
    pub(crate) local: [u8; 16],
    pub(crate) remote_port: [u8; 2],
    pub(crate) local_port: [u8; 2],
    pub(crate) channel: [u8; 2],
    pub(crate) zero: [u8; 2],
}

/// A way out, which many legs share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub(crate) struct Way {
    pub(crate) from: [u8; 16],
    pub(crate) ifindex: u32,
    pub(crate) from_mac: [u8; 6],
    pub(crate) to_mac: [u8; 6],
    pub(crate) mtu: u16,
    pub(crate) vlan: [u8; 2],
    pub(crate) family: u8,
    pub(crate) redirects: u8,
    pub(crate) zero: [u8; 2],
}

/// Where payload goes on, in what dress, until when and by which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Leg {
    pub(crate) to: [u8; 16],
    pub(crate) expires_way: u64,
    pub(crate) slot: u32,
    pub(crate) limit: u32,
    pub(crate) from_port: [u8; 2],
    pub(crate) to_port: [u8; 2],
    pub(crate) channel: [u8; 2],
    pub(crate) course: u8,
    pub(crate) mixed: u8,
}

/// How many ways there can be: so many of the last bits of a leg's end name its own.
pub(crate) const MOST_WAYS: u32 = 1 << 20;

/// What may be limited: bytes, and datagrams.
pub(crate) const UNITS: usize = 2;

/// How many limits hold for a leg: its allocation's own, and those that the allocation shares.
pub(crate) const LEVELS: usize = 4;

/// What may pass in one direction: of the legs of an allocation, or of several allocations. It lives
/// in memory that is [`Shared`] alone.
#[repr(C)]
struct Limit {
    due: [u64; UNITS],
    rate: [u64; UNITS],
    sharers: u64,
    above: [u32; LEVELS],
    part: [u32; LEVELS],
    dropped: [[u32; UNITS]; LEVELS],
}

/// Bytes of what a program sees of a buffer, and where among them stands how many each of several
/// datagrams in it has.
pub(crate) const BUFFER: usize = 192;
pub(crate) const BUFFER_JOINED: usize = 176;

const _: () = {
    assert!(size_of::<Key4>() == 16);
    assert!(offset_of!(Key4, local) == 4);
    assert!(offset_of!(Key4, remote_port) == 8);
    assert!(offset_of!(Key4, local_port) == 10);
    assert!(offset_of!(Key4, channel) == 12);
    assert!(size_of::<Key6>() == 40);
    assert!(offset_of!(Key6, local) == 16);
    assert!(offset_of!(Key6, remote_port) == 32);
    assert!(offset_of!(Key6, local_port) == 34);
    assert!(offset_of!(Key6, channel) == 36);
    assert!(size_of::<Way>() == 40);
    assert!(offset_of!(Way, ifindex) == 16);
    assert!(offset_of!(Way, from_mac) == 20);
    assert!(offset_of!(Way, to_mac) == 26);
    assert!(offset_of!(Way, mtu) == 32);
    assert!(offset_of!(Way, vlan) == 34);
    assert!(offset_of!(Way, family) == 36);
    assert!(offset_of!(Way, redirects) == 37);
    assert!(size_of::<Leg>() == 40);
    assert!(offset_of!(Leg, expires_way) == 16);
    assert!(offset_of!(Leg, slot) == 24);
    assert!(offset_of!(Leg, limit) == 28);
    assert!(offset_of!(Leg, from_port) == 32);
    assert!(offset_of!(Leg, to_port) == 34);
    assert!(offset_of!(Leg, channel) == 36);
    assert!(offset_of!(Leg, course) == 38);
    assert!(offset_of!(Leg, mixed) == 39);
    assert!(size_of::<Limit>() == 104);
    assert!(offset_of!(Limit, rate) == 16);
    assert!(offset_of!(Limit, sharers) == 32);
    assert!(offset_of!(Limit, above) == 40);
    assert!(offset_of!(Limit, part) == 56);
    assert!(offset_of!(Limit, dropped) == 72);
};

// SAFETY: `repr(C)` without padding (the sizes above are the sums of the fields), of integers only.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl aya::Pod for Key4 {}

// SAFETY: as above.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl aya::Pod for Key6 {}

// SAFETY: as above.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl aya::Pod for Leg {}

// SAFETY: as above.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl aya::Pod for Way {}

/// What `bpf(2)` is told to make a link of a program and an interface.
#[repr(C)]
struct LinkCreate {
    program: RawFd,
    ifindex: u32,
    place: u32,
    flags: u32,
}

/// Where a program sees what an interface receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the driver: XDP.
    Driver,
    /// Where every interface has a place for programs of drivers: generic XDP.
    Any,
    /// Behind the driver: TC.
    Ingress,
}

/// Attaches a program to an interface for as long as the descriptor is open: unlike what netlink
/// attaches, it ends with the process, however that ends.
pub(crate) fn attach(program: BorrowedFd<'_>, ifindex: u32, place: Place) -> io::Result<OwnedFd> {
    const LINK_CREATE: libc::c_long = 28;
    const XDP: u32 = 37;
    const TCX_INGRESS: u32 = 46;
    let (place, flags) = match place {
        Place::Driver => (XDP, 1 << 2),
        Place::Any => (XDP, 1 << 1),
        Place::Ingress => (TCX_INGRESS, 0),
    };
    let attributes = LinkCreate { program: program.as_raw_fd(), ifindex, place, flags };
    // SAFETY: the kernel reads as many bytes of `attributes` as are told, and writes none.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let made = unsafe {
        let (attributes, size) = (&raw const attributes, size_of::<LinkCreate>());
        libc::syscall(libc::SYS_bpf, LINK_CREATE, attributes, size)
    };
    let link = RawFd::try_from(made).unwrap_or(-1);
    if link < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor, and nobody else knows it.
    #[expect(unsafe_code, reason = "see SAFETY")]
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// The values of an array map, in memory that the kernel shares with us: using them costs no system
/// call.
#[derive(Debug)]
struct Shared {
    first: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is mapped until the value is dropped, and is used by atomic operations only.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl Send for Shared {}

// SAFETY: as above.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps so many words from the first value on.
    fn map(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let bytes = words * WORD;
        // SAFETY: the kernel chooses a place that nothing else uses; the descriptor is open.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let place =
            unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, map.as_raw_fd(), 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(place.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { first, words })
    }

    /// A word; `None` behind the last one.
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.words {
            return None;
        }
        // SAFETY: so many aligned words are mapped, and the index was compared with them. The
        // program, too, changes each of them in one instruction.
        #[expect(unsafe_code, reason = "see SAFETY")]
        Some(unsafe { self.first.add(index).as_ref() })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let bytes = self.words * WORD;
        // SAFETY: the memory was mapped with this length, and nobody refers to it any more.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let _ = unsafe { libc::munmap(self.first.as_ptr().cast(), bytes) };
    }
}

/// The counts of the kernel program.
#[derive(Debug)]
pub(crate) struct Counts(Shared);

impl Counts {
    /// Those of the first `entries` values of an array map of such.
    pub(crate) fn map(map: BorrowedFd<'_>, entries: usize) -> io::Result<Self> {
        Ok(Self(Shared::map(map, entries)?))
    }

    /// The value at an index; zero behind the last one.
    pub(crate) fn get(&self, index: usize) -> u64 {
        self.0.word(index).map_or(0, |it| it.load(Ordering::Relaxed))
    }
}

/// The limits of the kernel program. What lies behind the last one is none.
#[derive(Debug)]
pub(crate) struct Limits(Shared);

impl Limits {
    /// The first `entries` values of an array map of limits.
    pub(crate) fn map(map: BorrowedFd<'_>, entries: usize) -> io::Result<Self> {
        Ok(Self(Shared::map(map, entries * (size_of::<Limit>() / WORD))?))
    }

    /// Sets one anew, which shares these, and has these parts of them: what passed is paid for at that
    /// time of the program's clock.
    pub(crate) fn begin(&self, index: u32, rates: Rates, shared: [[u32; LEVELS]; 2], due: u64) {
        let Rates { bytes, packets } = rates;
        let rate = [bytes, packets].map(|rate| rate.map_or(0, NonZeroU64::get));
        let [above, part] = shared.map(halves);
        let words = [due; UNITS].into_iter().chain(rate).chain([1]).chain(above).chain(part);
        let dropped = [0; LEVELS];
        for (at, value) in words.chain(dropped).enumerate() {
            self.word(index, at).inspect(|it| it.store(value, Ordering::Relaxed));
        }
    }

    /// Has be paid for what passed by others since a moment of the program's clock.
    pub(crate) fn charge(&self, index: u32, since: u64, passed: [u64; UNITS]) {
        self.charge_at_most(index, [since, u64::MAX], passed);
    }

    /// The same between two moments, and no more than all the time between them.
    pub(crate) fn charge_at_most(
        &self,
        index: u32,
        [since, until]: [u64; 2],
        passed: [u64; UNITS],
    ) {
        for (unit, passed) in passed.into_iter().enumerate() {
            let rate = self.word(index, offset_of!(Limit, rate) / WORD + unit);
            let rate = rate.map_or(0, |it| it.load(Ordering::Relaxed));
            if rate > 0 {
                let time = u128::from(passed) * 1_000_000_000 / u128::from(rate);
                let time = u64::try_from(time).unwrap_or(u64::MAX / 4);
                self.pay(index, since, (unit, time.min(until.saturating_sub(since))));
            }
        }
    }

    /// The same of so much time.
    pub(crate) fn pay(&self, index: u32, since: u64, (unit, time): (usize, u64)) {
        if let Some(due) = self.word(index, unit).filter(|_| time > 0) {
            due.fetch_max(since, Ordering::Relaxed);
            due.fetch_add(time, Ordering::Relaxed);
        }
    }

    /// Forgets what is to be paid after these times of the program's clock.
    pub(crate) fn forgive(&self, index: u32, most: [u64; UNITS]) {
        for (unit, most) in most.into_iter().enumerate() {
            self.word(index, unit).inspect(|due| _ = due.fetch_min(most, Ordering::Relaxed));
        }
    }

    /// Says how many users share one.
    pub(crate) fn share(&self, index: u32, sharers: u64) {
        let word = self.word(index, offset_of!(Limit, sharers) / WORD);
        word.inspect(|it| it.store(sharers, Ordering::Relaxed));
    }

    /// How many datagrams were held back at a level, by what they were too much of: bytes, datagrams.
    pub(crate) fn dropped(&self, index: u32, level: usize) -> [u32; UNITS] {
        let word = self.word(index, offset_of!(Limit, dropped) / WORD + level);
        let word = word.map_or(0, |it| it.load(Ordering::Relaxed)).to_ne_bytes();
        let (halves, _) = word.as_chunks();
        [0, 1].map(|unit| u32::from_ne_bytes(halves[unit]))
    }

    fn word(&self, index: u32, at: usize) -> Option<&AtomicU64> {
        self.0.word(index as usize * (size_of::<Limit>() / WORD) + at)
    }
}

/// Bytes of what is changed at once.
const WORD: usize = size_of::<u64>();

/// Pairs of halves as whole words, as they lie in memory.
fn halves(halves: [u32; LEVELS]) -> [u64; 2] {
    let bytes = halves.map(u32::to_ne_bytes);
    let (words, _) = bytes.as_flattened().as_chunks();
    [words[0], words[1]].map(u64::from_ne_bytes)
}
