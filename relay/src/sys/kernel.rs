//! What the relay and its kernel program tell each other: the twin of `relay/xdp/abi.h`; and what
//! brings the program to an interface.
//!
//! Addresses, ports and channels are octets in network order, so no machine's order enters here.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Where payload goes on, in what dress and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Leg {
    pub(crate) from: [u8; 16],
    pub(crate) to: [u8; 16],
    pub(crate) expires: u64,
    pub(crate) ifindex: u32,
    pub(crate) slot: u32,
    pub(crate) from_mac: [u8; 6],
    pub(crate) to_mac: [u8; 6],
    pub(crate) from_port: [u8; 2],
    pub(crate) to_port: [u8; 2],
    pub(crate) channel: [u8; 2],
    pub(crate) mtu: u16,
    pub(crate) family: u8,
    pub(crate) course: u8,
    pub(crate) vlan: [u8; 2],
    pub(crate) mixed: u8,
    pub(crate) redirects: u8,
    pub(crate) zero: [u8; 6],
}

/// What passed, on some processors or on all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

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
    assert!(size_of::<Leg>() == 80);
    assert!(offset_of!(Leg, to) == 16);
    assert!(offset_of!(Leg, expires) == 32);
    assert!(offset_of!(Leg, ifindex) == 40);
    assert!(offset_of!(Leg, slot) == 44);
    assert!(offset_of!(Leg, from_mac) == 48);
    assert!(offset_of!(Leg, to_mac) == 54);
    assert!(offset_of!(Leg, from_port) == 60);
    assert!(offset_of!(Leg, to_port) == 62);
    assert!(offset_of!(Leg, channel) == 64);
    assert!(offset_of!(Leg, mtu) == 66);
    assert!(offset_of!(Leg, family) == 68);
    assert!(offset_of!(Leg, course) == 69);
    assert!(offset_of!(Leg, vlan) == 70);
    assert!(offset_of!(Leg, mixed) == 72);
    assert!(offset_of!(Leg, redirects) == 73);
    assert!(size_of::<Count>() == 16);
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

/// What `bpf(2)` is told to make a link of a program and an interface.
#[repr(C)]
struct LinkCreate {
    program: RawFd,
    ifindex: u32,
    place: u32,
    flags: u32,
}

/// Attaches a program to an interface, in its driver or behind it, for as long as the descriptor is
/// open: unlike what netlink attaches, it ends with the process, however that ends.
pub(crate) fn attach_xdp(
    program: BorrowedFd<'_>,
    ifindex: u32,
    in_driver: bool,
) -> io::Result<OwnedFd> {
    const LINK_CREATE: libc::c_long = 28;
    const XDP: u32 = 37;
    let flags = if in_driver { 1 << 2 } else { 1 << 1 };
    let attributes = LinkCreate { program: program.as_raw_fd(), ifindex, place: XDP, flags };
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

/// The counts of the kernel program, in memory that the kernel shares with us: reading them costs no
/// system call.
#[derive(Debug)]
pub(crate) struct Counts {
    first: NonNull<AtomicU64>,
    entries: usize,
}

// SAFETY: the memory is mapped until the value is dropped, and is read by atomic loads only.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl Send for Counts {}

// SAFETY: as above.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl Sync for Counts {}

impl Counts {
    /// Maps the first `entries` values of an array map of [`Count`]s.
    pub(crate) fn map(map: BorrowedFd<'_>, entries: usize) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        let bytes = entries * size_of::<Count>();
        // SAFETY: the kernel chooses a place that nothing else uses; the descriptor is open.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let place =
            unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, map.as_raw_fd(), 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(place.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { first, entries })
    }

    /// The value at an index; zero behind the last one.
    pub(crate) fn get(&self, index: usize) -> Count {
        if index >= self.entries {
            return Count::default();
        }
        let word = |at: usize| {
            // SAFETY: `2 * entries` aligned words are mapped, and the index was compared with them.
            // The program adds to them in one instruction each.
            #[expect(unsafe_code, reason = "see SAFETY")]
            let word = unsafe { self.first.add(2 * index + at).as_ref() };
            word.load(Ordering::Relaxed)
        };
        Count { packets: word(0), bytes: word(1) }
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        let bytes = self.entries * size_of::<Count>();
        // SAFETY: the memory was mapped with this length, and nobody refers to it any more.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let _ = unsafe { libc::munmap(self.first.as_ptr().cast(), bytes) };
    }
}
