//! Datagrams of ports that have no socket: those the host's network stack brings to one socket for
//! all of them, and those it is given to send as if each port had one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use proto::addr::Family;
use proto::marks::Marks;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::control::{Control, Message, space};
use super::name::Name;
use super::socket::{follow_path_mtu, relax_path_mtu, set, take_marks};
use super::{length, set_buffers};

/// Room for what is said of a datagram: class, hops, its address with a port or an interface.
const CONTROL: usize = 2 * space(size_of::<libc::c_int>()) + space(Name::LENGTH);

/// Instructions of filters: one that says how much of a packet is wanted, and two that look at it.
const RETURN: u16 = 0x06;
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_AT_LEAST: u16 = 0x35;

/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;

/// A datagram that the stack brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    /// Who sent it.
    pub(crate) from: SocketAddr,
    /// Where it came.
    pub(crate) to: SocketAddr,
    /// What its header said.
    pub(crate) marks: Marks,
    /// Bytes.
    pub(crate) len: usize,
}

/// The socket of a family that the kernel program gives datagrams for open ports.
pub(crate) fn open_receiver(family: Family, buffer: u32) -> io::Result<Socket> {
    let socket = Socket::new(domain(family), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    let nowhere: SocketAddr = match family {
        Family::V4 => ([127, 0, 0, 1], 0).into(),
        Family::V6 => {
            socket.set_only_v6(true)?;
            ([0, 0, 0, 0, 0, 0, 0, 1], 0).into()
        }
    };
    take_marks(socket.as_fd(), family)?;
    match family {
        Family::V4 => set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR, 1)?,
        Family::V6 => set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVORIGDSTADDR, 1)?,
    }
    set_buffers(socket.as_fd(), buffer);
    socket.bind(&nowhere.into())?;
    Ok(socket)
}

/// Takes the next one, if there is one; what it was sent to is always told.
pub(crate) fn receive_stray(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<Option<Stray>> {
    let mut name = Name::EMPTY;
    let mut control = Control::<CONTROL>::EMPTY;
    let (room, room_len) = control.room();
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a plain C structure for which all-zero is valid.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let mut header = unsafe { std::mem::zeroed::<libc::msghdr>() };
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_namelen = length(Name::LENGTH);
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = room;
    header.msg_controllen = room_len as _;
    // SAFETY: the header points at a name, a control buffer and one piece that live until after the
    // call; the kernel writes no more than the lengths given with each.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let len = usize::try_from(outcome).map_err(|_| io::Error::last_os_error())?;
    let (mut to, mut marks) = (None, Marks::PLAIN);
    let told: usize = header.msg_controllen as _;
    for message in control.received(told) {
        hear(&message, &mut to, &mut marks);
    }
    let whole = header.msg_flags & libc::MSG_TRUNC == 0;
    let stray = name.read().zip(to).filter(|_| whole);
    Ok(stray.map(|(from, to)| Stray { from, to, marks, len }))
}

fn hear(message: &Message<'_>, to: &mut Option<SocketAddr>, marks: &mut Marks) {
    match (message.level, message.kind) {
        (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR) | (libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR) => {
            *to = Name::of_bytes(message.value).read();
        }
        (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            marks.class = message.number().and_then(|it| u8::try_from(it).ok()).unwrap_or(0);
        }
        (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
            let hops = message.number().and_then(|it| u8::try_from(it).ok()).unwrap_or(0);
            marks.hops = NonZeroU8::new(hops.max(1));
        }
        _ => {}
    }
}

/// A socket that sends UDP of any address of this host, and receives nothing. What is too large for
/// the interface is fragmented, unless nobody shall.
pub(crate) fn open_sender(family: Family, dont_fragment: bool) -> io::Result<Socket> {
    let socket = Socket::new(domain(family), Type::RAW.nonblocking(), Some(Protocol::UDP))?;
    let nothing = SockFilter::new(RETURN, 0, 0, 0);
    socket.attach_filter(&[nothing])?;
    if dont_fragment && family == Family::V4 {
        let probe = libc::IP_PMTUDISC_PROBE;
        set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)?;
    } else if family == Family::V6 {
        follow_path_mtu(socket.as_fd())?;
    } else {
        relax_path_mtu(socket.as_fd(), family)?;
    }
    Ok(socket)
}

/// A socket that hears what ICMP says of datagrams that did not arrive: of IPv4 with the IP header.
pub(crate) fn open_icmp(family: Family) -> io::Result<Socket> {
    /// Of `linux/icmp.h`: types that are not wanted.
    const FILTER: libc::c_int = 1;
    const UNREACHABLE: u32 = 3;
    const EXCEEDED: u32 = 11;
    let protocol = match family {
        Family::V4 => Protocol::ICMPV4,
        Family::V6 => Protocol::ICMPV6,
    };
    let socket = Socket::new(domain(family), Type::RAW.nonblocking(), Some(protocol))?;
    match family {
        Family::V4 => {
            let wanted = 1_u32 << UNREACHABLE | 1 << EXCEEDED;
            set(socket.as_fd(), libc::SOL_RAW, FILTER, (!wanted).cast_signed())?;
        }
        // Errors, but none about parameters: types 1 to 3.
        Family::V6 => socket.attach_filter(&[
            SockFilter::new(LOAD_BYTE, 0, 0, 0),
            SockFilter::new(JUMP_IF_AT_LEAST, 1, 0, 4),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
            SockFilter::new(RETURN, 0, 0, 0),
        ])?,
    }
    Ok(socket)
}

/// Sends a UDP header, with the payload behind it, from an address of this host.
pub(crate) fn send_stray(
    socket: BorrowedFd<'_>,
    (from, to): (IpAddr, IpAddr),
    marks: Marks,
    datagram: &[u8],
) -> io::Result<()> {
    debug_assert!(datagram.len() >= UDP_HEADER, "a header and a payload");
    // Of these sockets the port is a protocol; none means their own.
    let (mut name, name_len) = Name::of(SocketAddr::new(to, 0));
    let mut control = Control::<CONTROL>::EMPTY;
    let (level, class, hops) = match from {
        IpAddr::V4(from) => {
            // `in_pktinfo`: interface, the address to send from, one that is not read.
            let octets = [&[0; 4][..], &from.octets(), &[0; 4]].concat();
            control.add_bytes(libc::IPPROTO_IP, libc::IP_PKTINFO, &octets);
            (libc::IPPROTO_IP, libc::IP_TOS, libc::IP_TTL)
        }
        IpAddr::V6(from) => {
            // `in6_pktinfo`: the address to send from, interface.
            let octets = [&from.octets()[..], &[0; 4]].concat();
            control.add_bytes(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &octets);
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, libc::IPV6_HOPLIMIT)
        }
    };
    if marks.class != Marks::PLAIN.class {
        control.add(level, class, marks.class.into());
    }
    if let Some(left) = marks.hops {
        control.add(level, hops, left.get().into());
    }
    let mut piece =
        libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    // SAFETY: a plain C structure for which all-zero is valid.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let mut header = unsafe { std::mem::zeroed::<libc::msghdr>() };
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_namelen = name_len;
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    let (told, told_len) = control.written();
    header.msg_control = told;
    header.msg_controllen = told_len as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points at a name, a control buffer and one piece that live until after the
    // call, which only reads them.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn domain(family: Family) -> Domain {
    match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    }
}
