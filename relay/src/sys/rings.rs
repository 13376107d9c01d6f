//! A socket of `AF_XDP`: frames of one queue of an interface, through rings that the kernel shares
//! with us.
//!
//! The memory for frames is cut into equal pieces. Half of them wait to be received into, or are
//! in our hands; half are for sending. A ring has one writer and one reader; each owns one of its
//! two counters and sees the other's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::Ordering;

use super::length;
use super::mapping::Mapping;

/// Frames that can wait in each direction, a power of two: a few milliseconds of a busy core.
const FRAMES: u32 = 2_048;

/// Bytes of a frame for ordinary interfaces, and for those with larger packets.
const SIZES: [usize; 2] = [2_048, 4_096];

/// Bytes of a received frame that the kernel keeps for itself (`XDP_PACKET_HEADROOM`).
const KEPT: usize = 256;

/// Calls to get sent what waits: each moves 32 frames at least where the kernel copies.
const KICKS: u32 = FRAMES / 32;

/// The largest frame that can be received.
const LARGEST_FRAME: usize = SIZES[1] - KEPT;

/// One ring: where its parts are in its memory, and how far we have come.
#[derive(Debug)]
struct Ring {
    memory: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    /// Our own counter.
    ours: u32,
    /// The kernel's, when we looked last.
    theirs: u32,
}

impl Ring {
    fn open(
        socket: BorrowedFd<'_>,
        place: u64,
        offsets: libc::xdp_ring_offset,
        entry: usize,
    ) -> io::Result<Self> {
        let at = |offset: u64| usize::try_from(offset).map_err(|_| io::ErrorKind::Unsupported);
        let entries = at(offsets.desc)?;
        let bytes = entries + FRAMES as usize * entry;
        let place = libc::off_t::try_from(place).map_err(|_| io::ErrorKind::Unsupported)?;
        Ok(Self {
            memory: Mapping::shared(socket, place, bytes)?,
            producer: at(offsets.producer)?,
            consumer: at(offsets.consumer)?,
            flags: at(offsets.flags)?,
            entries,
            ours: 0,
            theirs: 0,
        })
    }

    /// Whether the kernel wants to be told that there is something.
    fn wants_call(&self) -> bool {
        self.memory.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Of a ring that we read: how much waits.
    #[inline]
    fn waiting(&mut self) -> u32 {
        if self.theirs == self.ours {
            self.theirs = self.memory.word(self.producer).load(Ordering::Acquire);
        }
        self.theirs.wrapping_sub(self.ours)
    }

    /// Of a ring that we write: how much room is left.
    #[inline]
    fn room(&mut self) -> u32 {
        let room = |it: &Self| FRAMES - it.ours.wrapping_sub(it.theirs);
        if room(self) == 0 {
            self.theirs = self.memory.word(self.consumer).load(Ordering::Acquire);
        }
        room(self)
    }

    /// The offset of the next entry of so many bytes.
    fn next(&self, entry: usize) -> usize {
        self.entries + (self.ours & (FRAMES - 1)) as usize * entry
    }

    /// Takes the place of a frame out; [`Ring::waiting`] said that there is one.
    #[inline]
    fn take_frame(&mut self) -> u64 {
        let frame = self.memory.double(self.next(8)).load(Ordering::Relaxed);
        self.ours = self.ours.wrapping_add(1);
        frame
    }

    /// Puts one in; [`Ring::room`] said that there is room.
    #[inline]
    fn put_frame(&mut self, frame: u64) {
        self.memory.double(self.next(8)).store(frame, Ordering::Relaxed);
        self.ours = self.ours.wrapping_add(1);
    }

    /// Takes out the place and the length of what a frame holds.
    #[inline]
    fn take_content(&mut self) -> (u64, u32) {
        let at = self.next(16);
        let place = self.memory.double(at).load(Ordering::Relaxed);
        let len = self.memory.word(at + 8).load(Ordering::Relaxed);
        self.ours = self.ours.wrapping_add(1);
        (place, len)
    }

    /// Puts them in.
    #[inline]
    fn put_content(&mut self, place: u64, len: u32) {
        let at = self.next(16);
        self.memory.double(at).store(place, Ordering::Relaxed);
        self.memory.word(at + 8).store(len, Ordering::Relaxed);
        self.memory.word(at + 12).store(0, Ordering::Relaxed);
        self.ours = self.ours.wrapping_add(1);
    }

    /// Lets the kernel see what we took.
    fn release(&self) {
        self.memory.word(self.consumer).store(self.ours, Ordering::Release);
    }

    /// Lets it see what we put in.
    fn submit(&self) {
        self.memory.word(self.producer).store(self.ours, Ordering::Release);
    }
}

/// A socket of one queue.
#[derive(Debug)]
pub(crate) struct FrameSocket {
    socket: OwnedFd,
    memory: Mapping,
    /// Bytes of a frame.
    size: usize,
    fill: Ring,
    received: Ring,
    sending: Ring,
    sent: Ring,
    /// Frames to send in.
    free: Vec<u64>,
    zero_copy: bool,
}

impl FrameSocket {
    /// Opens one for a queue of an interface with packets of at most so many bytes, link header
    /// included. The kernel moves frames without a copy where the driver can.
    pub(crate) fn open(ifindex: u32, queue: u32, largest: usize) -> io::Result<Self> {
        let size = SIZES.into_iter().find(|size| largest + KEPT <= *size);
        let size = size.ok_or_else(|| {
            io::Error::other(format!("packets of more than {LARGEST_FRAME} bytes do not fit"))
        })?;
        // SAFETY: no memory is involved.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call made this descriptor, and nobody else knows it.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let memory = Mapping::anonymous(2 * FRAMES as usize * size)?;
        tell(&socket, libc::XDP_UMEM_REG, &memory_of(&memory, length(size)))?;
        for ring in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
            libc::XDP_TX_RING,
        ] {
            tell(&socket, ring, &FRAMES)?;
        }
        let offsets = ask(&socket, libc::XDP_MMAP_OFFSETS, NO_OFFSETS)?;
        let ring = |place: u64, offsets, entry| Ring::open(socket.as_fd(), place, offsets, entry);
        let mut fill = ring(libc::XDP_UMEM_PGOFF_FILL_RING, offsets.fr, 8)?;
        let sent = ring(libc::XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, 8)?;
        let received = ring(libc::XDP_PGOFF_RX_RING.cast_unsigned(), offsets.rx, 16)?;
        let sending = ring(libc::XDP_PGOFF_TX_RING.cast_unsigned(), offsets.tx, 16)?;
        let frame = |index: u32| u64::from(index) * size as u64;
        for index in 0..FRAMES {
            fill.put_frame(frame(index));
        }
        fill.submit();
        bind(&socket, ifindex, queue)?;
        let options = ask(&socket, libc::XDP_OPTIONS, libc::xdp_options { flags: 0 })?;
        Ok(Self {
            zero_copy: options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0,
            free: (FRAMES..2 * FRAMES).map(frame).collect(),
            socket,
            memory,
            size,
            fill,
            received,
            sending,
            sent,
        })
    }

    /// Whether the driver reads and writes frames where they lie.
    pub(crate) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether something has come.
    pub(crate) fn has_received(&mut self) -> bool {
        self.received.waiting() > 0
    }

    /// Shows frames that have come, until one is not wanted any more or none is left; whether some
    /// may be left.
    pub(crate) fn receive(&mut self, mut most: usize, take: &mut dyn FnMut(&[u8])) -> bool {
        let waiting = self.received.waiting() as usize;
        most = most.min(waiting);
        for _ in 0..most {
            let (place, len) = self.received.take_content();
            let at = usize::try_from(place).unwrap_or(usize::MAX);
            if let Some(frame) = self.memory.bytes_mut(at, len as usize) {
                take(frame);
            }
            // It has room: never more frames are in our hands than it has places.
            self.fill.put_frame(place - place % self.size as u64);
        }
        if most > 0 {
            self.received.release();
            self.fill.submit();
            if self.fill.wants_call() {
                self.call(libc::MSG_DONTWAIT, true);
            }
        }
        waiting > most
    }

    /// A frame to write into; `None` if the queue is full.
    pub(crate) fn blank(&mut self) -> Option<&mut [u8]> {
        if self.free.is_empty() || self.sending.room() == 0 {
            self.reclaim();
            if self.free.is_empty() {
                self.flush();
                self.reclaim();
            }
        }
        if self.sending.room() == 0 {
            return None;
        }
        let frame = usize::try_from(*self.free.last()?).ok()?;
        self.memory.bytes_mut(frame, self.size)
    }

    /// Sends the first bytes of the last [`FrameSocket::blank`], with the next flush.
    pub(crate) fn send(&mut self, len: usize) {
        if let Some(frame) = self.free.pop() {
            self.sending.put_content(frame, length(len));
        }
    }

    /// Gets sent what waits, and says with how many calls; what does not leave now leaves with the
    /// next one.
    pub(crate) fn flush(&mut self) -> u32 {
        self.sending.submit();
        for calls in 0..KICKS {
            let taken = self.sending.memory.word(self.sending.consumer).load(Ordering::Acquire);
            if taken == self.sending.ours || !self.sending.wants_call() {
                return calls;
            }
            if !self.call(libc::MSG_DONTWAIT, false) {
                return calls + 1;
            }
        }
        KICKS
    }

    /// How many frames the kernel had no room for.
    pub(crate) fn losses(&self) -> u64 {
        let found = ask(&self.socket, libc::XDP_STATISTICS, NO_STATISTICS).unwrap_or(NO_STATISTICS);
        found.rx_dropped + found.rx_ring_full + found.rx_fill_ring_empty_descs
    }

    /// Takes frames back that have left.
    fn reclaim(&mut self) {
        for _ in 0..self.sent.waiting() {
            let frame = self.sent.take_frame();
            self.free.push(frame);
        }
        self.sent.release();
    }

    /// Wakes the kernel to receive or to send; whether more may be to do.
    fn call(&self, flags: libc::c_int, to_receive: bool) -> bool {
        let socket = self.socket.as_raw_fd();
        // SAFETY: neither call is given memory.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let outcome = unsafe {
            if to_receive {
                libc::recvfrom(socket, ptr::null_mut(), 0, flags, ptr::null_mut(), ptr::null_mut())
            } else {
                libc::sendto(socket, ptr::null(), 0, flags, ptr::null(), 0)
            }
        };
        let more = [io::ErrorKind::WouldBlock, io::ErrorKind::ResourceBusy];
        outcome >= 0 || more.contains(&io::Error::last_os_error().kind())
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

const NO_OFFSET: libc::xdp_ring_offset =
    libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };

const NO_OFFSETS: libc::xdp_mmap_offsets =
    libc::xdp_mmap_offsets { rx: NO_OFFSET, tx: NO_OFFSET, fr: NO_OFFSET, cr: NO_OFFSET };

const NO_STATISTICS: libc::xdp_statistics = libc::xdp_statistics {
    rx_dropped: 0,
    rx_invalid_descs: 0,
    tx_invalid_descs: 0,
    rx_ring_full: 0,
    rx_fill_ring_empty_descs: 0,
    tx_ring_empty_descs: 0,
};

/// What the kernel is told of the memory for frames.
fn memory_of(memory: &Mapping, size: u32) -> libc::xdp_umem_reg {
    libc::xdp_umem_reg {
        addr: memory.address(),
        len: memory.len() as u64,
        chunk_size: size,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    }
}

/// Sets an option to a plain value.
fn tell<T: Copy>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes at `value`. Memory that an option speaks of is
    // a `Mapping` that lives as long as the socket.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe {
        let (value, size) = (ptr::from_ref(value).cast(), length(size_of::<T>()));
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, value, size)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option over a value made of integers.
fn ask<T: Copy>(socket: &OwnedFd, option: libc::c_int, mut value: T) -> io::Result<T> {
    let mut size = length(size_of::<T>());
    // SAFETY: the kernel writes at most `size` bytes of integers over `value`, which is that long.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe {
        let value = ptr::from_mut(&mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, value, &raw mut size)
    };
    if outcome == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn bind(socket: &OwnedFd, ifindex: u32, queue: u32) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "families are below 50")]
    let name = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: the kernel reads as many bytes of `name` as it is told.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe {
        let size = length(size_of_val(&name));
        libc::bind(socket.as_raw_fd(), (&raw const name).cast(), size)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
