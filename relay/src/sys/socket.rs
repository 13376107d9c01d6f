//! Socket options that `socket2` does not have.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use proto::addr::Family;
use proto::marks::Marks;
use socket2::{SockFilter, SockRef};

use super::length;

/// Asks the kernel to hand over runs of equal datagrams of one source as one (`UDP_GRO`).
pub(crate) fn take_runs(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Sends with DF clear and by the interface's MTU: what is larger is fragmented, and forged
/// ICMP cannot shrink anything (RFC 8656 §14, DF treated as 0).
pub(crate) fn relax_path_mtu(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
        Family::V6 => {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT)
        }
    }
}

/// Asks the kernel to tell class and hops of each datagram that arrives.
pub(crate) fn take_marks(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    let (level, class, hops) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_RECVTOS, libc::IP_RECVTTL),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, libc::IPV6_RECVHOPLIMIT),
    };
    set(socket, level, class, 1)?;
    set(socket, level, hops, 1)
}

/// Asks the kernel to keep ICMP messages about what the socket sends.
pub(crate) fn keep_errors(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    }
}

/// Gives everything the socket sends from now on the marks `next`; it has `present` so far.
pub(crate) fn set_marks(
    socket: BorrowedFd<'_>,
    family: Family,
    present: Marks,
    next: Marks,
) -> io::Result<()> {
    let (level, class, hops) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_TOS, libc::IP_TTL),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, libc::IPV6_UNICAST_HOPS),
    };
    if present.class != next.class {
        set(socket, level, class, next.class.into())?;
    }
    if present.hops != next.hops {
        // -1 stands for the system's default.
        set(socket, level, hops, next.hops.map_or(-1, |left| left.get().into()))?;
    }
    match (family, next.dont_fragment) {
        _ if present.dont_fragment == next.dont_fragment => Ok(()),
        // PROBE sets DF and still does not believe a path MTU that somebody may have forged.
        (Family::V4, true) => set(socket, level, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        (Family::V4, false) => relax_path_mtu(socket, family),
        (Family::V6, _) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Fragments by the path's MTU instead, as every sender of IPv6 must: only a socket that listens
/// to "packet too big" hears of it (RFC 8656 §13.2, the alternate behaviour, and §11.5). What is
/// forged cannot go below 1,280 bytes.
pub(crate) fn follow_path_mtu(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
}

/// Asks for queues of so many bytes in each direction, beyond the host's bound where the
/// process may; the kernel gives what it will, and that is no error.
pub(crate) fn set_buffers(socket: BorrowedFd<'_>, bytes: u32) {
    let bytes = bytes.cast_signed();
    for (force, ask) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        if set(socket, libc::SOL_SOCKET, force, bytes).is_err() {
            // The plain option is never refused for its value, only clamped.
            drop(set(socket, libc::SOL_SOCKET, ask, bytes));
        }
    }
}

/// The same within the host's bound, by a process that may not pass it: one call a direction.
pub(crate) fn set_modest_buffers(socket: BorrowedFd<'_>, bytes: u32) {
    set_receive_buffer(socket, bytes);
    // Never refused for its value, only clamped.
    drop(set(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes.cast_signed()));
}

/// Asks for a receive queue of so many bytes, of which the kernel gives twice as many, within the
/// host's bound.
pub(crate) fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: u32) {
    // Never refused for its value, only clamped.
    drop(set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes.cast_signed()));
}

/// Has the kernel drop all that comes for a socket, or again deliver it.
pub(crate) fn shut(socket: BorrowedFd<'_>, shut: bool) -> io::Result<()> {
    /// The instruction that says how much of a packet is wanted.
    const RETURN: u16 = 0x06;
    let socket = SockRef::from(&socket);
    if shut {
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])
    } else {
        socket.detach_filter()
    }
}

/// How many datagrams found the socket's receive queue full since it was opened.
pub(crate) fn receive_losses(socket: BorrowedFd<'_>) -> io::Result<u32> {
    memory(socket).map(|memory| memory[DROPS])
}

/// Bytes of the kernel's memory that wait in the receive queue.
pub(crate) fn waiting_bytes(socket: BorrowedFd<'_>) -> io::Result<u32> {
    memory(socket).map(|memory| memory[RECEIVED])
}

/// `SK_MEMINFO_RMEM_ALLOC` and `SK_MEMINFO_DROPS` of `linux/sock_diag.h`.
const RECEIVED: usize = 0;
const DROPS: usize = 8;

/// What the kernel says of a socket's memory.
fn memory(socket: BorrowedFd<'_>) -> io::Result<[u32; DROPS + 1]> {
    let mut memory = [0_u32; DROPS + 1];
    let mut len = length(size_of_val(&memory));
    // SAFETY: the kernel writes at most `len` bytes into `memory`, which is that long.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            memory.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if outcome == 0 { Ok(memory) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option that is a `c_int`.
pub(super) fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of_val(&value)` bytes at `value`, which outlives the call.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length(size_of_val(&value)),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
