//! Receiving: many datagrams a call, each run of one source as one.
//!
//! One piece of memory is cut into slots. A slot takes one datagram, or one run that the kernel
//! merged (`UDP_GRO`), behind a headroom in which a header can be put later. The kernel merges
//! only what has equal marks, so that those of a run are those of each datagram.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use proto::marks::Marks;

use super::control::{Control, space};
use super::length;
use super::name::Name;

/// Bytes free before what a slot received: a Data indication to an IPv6 peer needs 48.
pub(crate) const HEADROOM: usize = 64;

/// Bytes free behind it: the padding of an indication needs 3.
const TAILROOM: usize = 4;

/// The most that one receive returns, run or not.
const LARGEST: usize = 65_535;

/// Distance between slots: an odd number of cache lines, so that the first lines of all slots,
/// which are the only ones small packets touch, do not compete for the same cache sets.
const STRIDE: usize = 1_027 * 64;
const _: () = assert!(HEADROOM + LARGEST + TAILROOM <= STRIDE);

/// Bytes of the control messages of one slot: segment, class, hops.
const CONTROL: usize = 3 * space(size_of::<libc::c_int>());

/// What a slot received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// Who sent it.
    pub(crate) from: SocketAddr,
    /// Bytes received.
    pub(crate) len: usize,
    /// Bytes of each datagram of a run, the last may be shorter; equals `len` without a run.
    pub(crate) segment: usize,
    /// What the network headers said, as far as the socket asks for it.
    pub(crate) marks: Marks,
    /// More was sent than a slot holds: the content is useless.
    pub(crate) truncated: bool,
}

/// Slots to receive into, and the headers that `recvmmsg` wants.
pub(crate) struct Inbound {
    memory: Box<[u8]>,
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control<CONTROL>]>,
}

// SAFETY: the raw pointers inside `headers` and `iovecs` are written before each system call
// and never read back; between calls they are dead, so it does not matter which thread owns them.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl Send for Inbound {}

impl Inbound {
    /// Slots, empty.
    pub(crate) fn new(slots: usize) -> Self {
        // SAFETY: a plain C structure for which all-zero is valid.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let header = unsafe { std::mem::zeroed::<libc::mmsghdr>() };
        let iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            memory: vec![0; slots * STRIDE].into_boxed_slice(),
            headers: vec![header; slots].into_boxed_slice(),
            iovecs: vec![iovec; slots].into_boxed_slice(),
            names: vec![Name::EMPTY; slots].into_boxed_slice(),
            controls: vec![Control::EMPTY; slots].into_boxed_slice(),
        }
    }

    /// Where in [`Inbound::memory`] a slot's datagram starts.
    pub(crate) fn start(slot: usize) -> usize {
        slot * STRIDE + HEADROOM
    }

    /// The memory of all slots.
    pub(crate) fn memory(&self) -> &[u8] {
        &self.memory
    }

    /// The memory of all slots, to write headers into.
    pub(crate) fn memory_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// Receives without waiting into slots `first..first + most`; says how many were filled.
    ///
    /// Fewer than `most` means that the socket's queue was empty.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        first: usize,
        most: usize,
    ) -> io::Result<usize> {
        let slots = first..first + most;
        for slot in slots.clone() {
            let memory = &mut self.memory[Self::start(slot)..][..LARGEST];
            self.iovecs[slot] =
                libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: memory.len() };
            let header = &mut self.headers[slot].msg_hdr;
            header.msg_iov = &raw mut self.iovecs[slot];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut self.names[slot]).cast();
            header.msg_namelen = length(Name::LENGTH);
            let (control, room) = self.controls[slot].room();
            header.msg_control = control;
            header.msg_controllen = room as _;
        }
        let headers = &mut self.headers[slots];
        // SAFETY: `headers` are `headers.len()` initialised headers. Each points at one iovec,
        // one name and one control buffer of this object, which are exclusively borrowed for
        // the call; the kernel writes no more than the lengths given with each.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                length(headers.len()),
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// What the last [`Inbound::receive`] put into a slot it filled.
    pub(crate) fn arrived(&self, slot: usize) -> Arrived {
        let header = &self.headers[slot];
        let len = (header.msg_len as usize).min(LARGEST);
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let (segment, marks) = self.told(slot);
        Arrived {
            from: self.names[slot].read().unwrap_or(nobody),
            len,
            segment: segment.filter(|&size| 0 < size && size < len).unwrap_or(len),
            marks,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }

    /// Bytes of each datagram, if the slot holds a run, and the marks of all.
    fn told(&self, slot: usize) -> (Option<usize>, Marks) {
        let (mut segment, mut marks) = (None, Marks::PLAIN);
        let len: usize = self.headers[slot].msg_hdr.msg_controllen as _;
        for message in self.controls[slot].received(len) {
            let Some(number) = message.number() else { continue };
            match (message.level, message.kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => segment = usize::try_from(number).ok(),
                (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    marks.class = u8::try_from(number).unwrap_or(0);
                }
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    // One that arrives with none left is at its end like one with the last.
                    marks.hops = NonZeroU8::new(u8::try_from(number).unwrap_or(0).max(1));
                }
                _ => {}
            }
        }
        (segment, marks)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use proto::addr::Family;

    use super::*;
    use crate::sys::{Label, Outbound, set_marks, take_marks, take_runs};

    /// What a socket receives that is told everything; waits for it.
    fn arrivals(inbound: &mut Inbound, socket: &UdpSocket) -> Vec<Arrived> {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.peek(&mut [0]).unwrap();
        let count = inbound.receive(socket.as_fd(), 0, 4).unwrap();
        (0..count).map(|slot| inbound.arrived(slot)).collect()
    }

    fn marks(class: u8, hops: u8) -> Marks {
        Marks { class, hops: NonZeroU8::new(hops), dont_fragment: false }
    }

    #[test]
    fn iphdr_001_marks_arrive_as_they_were_sent_by_message_and_by_socket() {
        for (family, ip) in [(Family::V4, "127.0.0.1"), (Family::V6, "::1")] {
            let bind = || UdpSocket::bind((ip, 0)).unwrap();
            let (sender, receiver) = (bind(), bind());
            take_runs(receiver.as_fd()).unwrap();
            take_marks(receiver.as_fd(), family).unwrap();
            let to = receiver.local_addr().unwrap();
            let mut inbound = Inbound::new(4);
            let mut outbound = Outbound::with_capacity(1, 1);
            for sent in [marks(0, 63), marks(0xB8, 1), marks(0xFF, 255)] {
                for segment in [None, Some(2)] {
                    let mut messages = outbound.messages();
                    messages.push(to, sent, segment, Label { run: 0, datagrams: 1 });
                    messages.piece(b"odd");
                    messages.send(sender.as_fd()).unwrap();
                    let seen = arrivals(&mut inbound, &receiver);
                    let [seen] = seen[..] else { panic!("{seen:?}") };
                    assert_eq!((seen.marks, seen.len), (sent, 3), "{family:?} {segment:?}");
                    assert_eq!(seen.segment, usize::from(segment.unwrap_or(3)));
                }
            }
            let mut present = Marks::PLAIN;
            for sent in [marks(0xB8, 9), marks(0xB9, 9), marks(0, 10), Marks::PLAIN] {
                set_marks(sender.as_fd(), family, present, sent).unwrap();
                present = sent;
                sender.send_to(b"odd", to).unwrap();
                let seen = arrivals(&mut inbound, &receiver)[0].marks;
                assert_eq!(seen.class, sent.class);
                // The system's default is whatever this host has.
                assert!(sent.hops.is_none_or(|_| seen.hops == sent.hops), "{seen:?}");
                assert!(seen.hops > NonZeroU8::new(10) || sent.hops.is_some(), "{seen:?}");
            }
        }
    }
}
