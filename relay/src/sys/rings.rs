//! Sockets of `AF_XDP`: frames of one queue of an interface, through rings that the kernel shares
//! with us.
//!
//! Each worker has a socket at the queue, with rings of its own for what it receives and sends. The
//! memory for frames is one, cut into equal pieces. Half of them wait to be received into, or are
//! in our hands; half are for sending, each one worker's. A worker that is late holds as many of
//! them as fit its ring, and no more, so the others have theirs. Through two rings that all share
//! the kernel is given frames and gives back those that it has sent: a worker locks them for a
//! moment, once for many frames.
//!
//! A ring has one writer and one reader; each owns one of its two counters and sees the other's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::length;
use super::mapping::Mapping;

/// Frames of a queue that can wait in each direction, a power of two: a few milliseconds of a busy
/// core. Workers share them; of each worker so many at least.
const FRAMES: u32 = 2_048;
const FEWEST: u32 = 64;

/// Bytes of a frame for ordinary interfaces, and for those with larger packets.
const SIZES: [usize; 2] = [2_048, 4_096];

/// Bytes of a received frame that the kernel keeps for itself (`XDP_PACKET_HEADROOM`).
const KEPT: usize = 256;

/// Frames that a call gets sent at least, where the kernel copies.
const KICKED: u32 = 32;

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
    /// How many entries there are, a power of two.
    size: u32,
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
        (size, entry): (u32, usize),
    ) -> io::Result<Self> {
        let at = |offset: u64| usize::try_from(offset).map_err(|_| io::ErrorKind::Unsupported);
        let entries = at(offsets.desc)?;
        let bytes = entries + size as usize * entry;
        let place = libc::off_t::try_from(place).map_err(|_| io::ErrorKind::Unsupported)?;
        Ok(Self {
            memory: Mapping::shared(socket, place, bytes)?,
            producer: at(offsets.producer)?,
            consumer: at(offsets.consumer)?,
            flags: at(offsets.flags)?,
            entries,
            size,
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
        let room = |it: &Self| it.size - it.ours.wrapping_sub(it.theirs);
        if room(self) == 0 {
            self.theirs = self.memory.word(self.consumer).load(Ordering::Acquire);
        }
        room(self)
    }

    /// The offset of the next entry of so many bytes.
    fn next(&self, entry: usize) -> usize {
        self.entries + (self.ours & (self.size - 1)) as usize * entry
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

/// What the sockets of one queue share.
#[derive(Debug)]
struct Pool {
    /// First the frames to receive into, then those to send, as many.
    memory: Mapping,
    /// Bytes of a frame.
    size: usize,
    /// Frames of a socket, in each direction.
    each: u32,
    /// What the kernel may receive into.
    fill: Mutex<Ring>,
    sent: Mutex<Sent>,
    zero_copy: bool,
}

/// Frames that have left.
#[derive(Debug)]
struct Sent {
    /// Where the kernel says so.
    ring: Ring,
    /// Those that another socket took out, by the socket that sends them.
    back: Box<[Vec<u64>]>,
}

/// A worker's socket of one queue.
#[derive(Debug)]
pub(crate) struct FrameSocket {
    socket: OwnedFd,
    pool: Arc<Pool>,
    /// Its number in the pool.
    number: usize,
    received: Ring,
    sending: Ring,
    /// Frames to send in.
    free: Vec<u64>,
    /// Frames received and read, for the kernel to receive into again.
    read: Vec<u64>,
}

impl FrameSocket {
    /// Opens one for each worker at a queue of an interface with packets of at most so many bytes,
    /// link header included. The kernel moves frames without a copy where the driver can.
    pub(crate) fn open(
        (ifindex, queue): (u32, u32),
        largest: usize,
        workers: u16,
    ) -> io::Result<Vec<Self>> {
        let size = SIZES.into_iter().find(|size| largest + KEPT <= *size);
        let size = size.ok_or_else(|| {
            io::Error::other(format!("packets of more than {LARGEST_FRAME} bytes do not fit"))
        })?;
        let workers = u32::from(workers.max(1));
        let each = (FRAMES / workers.next_power_of_two()).max(FEWEST);
        let frames = each * workers;
        let memory = Mapping::anonymous(2 * frames as usize * size)?;
        let first = new_socket()?;
        tell(&first, libc::XDP_UMEM_REG, &memory_of(&memory, length(size)))?;
        let shared = frames.next_power_of_two();
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING] {
            tell(&first, ring, &shared)?;
        }
        let offsets = offsets(&first)?;
        let ring = |place: u64, offsets| Ring::open(first.as_fd(), place, offsets, (shared, 8));
        let mut fill = ring(libc::XDP_UMEM_PGOFF_FILL_RING, offsets.fr)?;
        let sent = ring(libc::XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr)?;
        for index in 0..frames {
            fill.put_frame(u64::from(index) * size as u64);
        }
        fill.submit();

        let mut sockets = vec![first];
        let others = (1..workers).map(|_| new_socket());
        sockets.extend(others.collect::<io::Result<Vec<_>>>()?);
        let mut rings = Vec::with_capacity(sockets.len());
        for (number, socket) in sockets.iter().enumerate() {
            rings.push(own_rings(socket, each)?);
            bind(socket, (ifindex, queue), (number > 0).then(|| sockets[0].as_fd()))?;
        }
        let options = ask(&sockets[0], libc::XDP_OPTIONS, libc::xdp_options { flags: 0 })?;
        let back = (0..workers).map(|_| Vec::with_capacity(each as usize)).collect();
        let pool = Arc::new(Pool {
            memory,
            size,
            each,
            fill: Mutex::new(fill),
            sent: Mutex::new(Sent { ring: sent, back }),
            zero_copy: options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0,
        });
        let all = sockets.into_iter().zip(rings).zip(0_u32..);
        let socket = |((socket, [received, sending]), number): ((OwnedFd, [Ring; 2]), u32)| {
            let first = frames + number * each;
            Self {
                socket,
                pool: Arc::clone(&pool),
                number: number as usize,
                received,
                sending,
                free: (first..first + each).map(|it| u64::from(it) * size as u64).collect(),
                read: Vec::with_capacity(each as usize),
            }
        };
        Ok(all.map(socket).collect())
    }

    /// Whether the driver reads and writes frames where they lie.
    pub(crate) fn is_zero_copy(&self) -> bool {
        self.pool.zero_copy
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
            // SAFETY: the kernel has put it into this ring, so it is nobody else's until it is
            // among those that the kernel may receive into.
            #[expect(unsafe_code, reason = "see SAFETY")]
            let frame = unsafe { self.pool.memory.lend(place, len as usize) };
            if let Some(frame) = frame {
                take(frame);
            }
            self.read.push(place - place % self.pool.size as u64);
        }
        if most > 0 {
            self.received.release();
            let mut fill = lock(&self.pool.fill);
            // It has room for all frames there are.
            self.read.drain(..).for_each(|frame| fill.put_frame(frame));
            fill.submit();
            let wants_call = fill.wants_call();
            drop(fill);
            if wants_call {
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
        let frame = *self.free.last()?;
        // SAFETY: it is one of our own to send, and not underway.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            self.pool.memory.lend(frame, self.pool.size)
        }
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
        let most = self.pool.each / KICKED;
        for calls in 0..most {
            let taken = self.sending.memory.word(self.sending.consumer).load(Ordering::Acquire);
            if taken == self.sending.ours || !self.sending.wants_call() {
                return calls;
            }
            if !self.call(libc::MSG_DONTWAIT, false) {
                return calls + 1;
            }
        }
        most
    }

    /// How many frames the kernel had no room for.
    pub(crate) fn losses(&self) -> u64 {
        let found = ask(&self.socket, libc::XDP_STATISTICS, NO_STATISTICS).unwrap_or(NO_STATISTICS);
        // Every socket is told what the queue as a whole has lost.
        let of_queue = if self.number == 0 { found.rx_fill_ring_empty_descs } else { 0 };
        found.rx_dropped + found.rx_ring_full + of_queue
    }

    /// Takes frames back that have left.
    fn reclaim(&mut self) {
        let mut sent = lock(&self.pool.sent);
        let Sent { ring, back } = &mut *sent;
        let each = u64::from(self.pool.each) * self.pool.size as u64;
        let first = each * back.len() as u64;
        for _ in 0..ring.waiting() {
            let frame = ring.take_frame();
            let number = frame.checked_sub(first).map(|it| it / each);
            let number = number.and_then(|it| usize::try_from(it).ok());
            if let Some(back) = number.and_then(|number| back.get_mut(number)) {
                back.push(frame);
            }
        }
        ring.release();
        self.free.append(&mut back[self.number]);
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

/// The value, also of somebody who panicked: a ring is right between any two of its entries.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A socket without anything.
fn new_socket() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor, and nobody else knows it.
    #[expect(unsafe_code, reason = "see SAFETY")]
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Where the parts of its rings are.
fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    ask(socket, libc::XDP_MMAP_OFFSETS, NO_OFFSETS)
}

/// The rings for what it receives and for what it sends.
fn own_rings(socket: &OwnedFd, size: u32) -> io::Result<[Ring; 2]> {
    for ring in [libc::XDP_RX_RING, libc::XDP_TX_RING] {
        tell(socket, ring, &size)?;
    }
    let offsets = offsets(socket)?;
    let ring = |place: libc::off_t, offsets| {
        Ring::open(socket.as_fd(), place.cast_unsigned(), offsets, (size, 16))
    };
    let received = ring(libc::XDP_PGOFF_RX_RING, offsets.rx)?;
    Ok([received, ring(libc::XDP_PGOFF_TX_RING, offsets.tx)?])
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

/// Gets a socket what a queue brings; all but the first share the first one's memory.
fn bind(
    socket: &OwnedFd,
    (ifindex, queue): (u32, u32),
    shared: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let flags = if shared.is_some() { libc::XDP_SHARED_UMEM } else { libc::XDP_USE_NEED_WAKEUP };
    #[expect(clippy::cast_possible_truncation, reason = "families are below 50")]
    let name = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: shared.map_or(0, |it| it.as_raw_fd().cast_unsigned()),
    };
    // SAFETY: the kernel reads as many bytes of `name` as it is told.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe {
        let size = length(size_of_val(&name));
        libc::bind(socket.as_raw_fd(), (&raw const name).cast(), size)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
