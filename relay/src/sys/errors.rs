//! The error queue of a socket: ICMP messages about datagrams it sent.
//!
//! The kernel checks that a message quotes a datagram of this socket's address and port, and
//! keeps it within the socket's receive buffer, so that the queue is bounded. It also makes the
//! next call on the socket fail once, about nothing that this call did.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use proto::addr::Family;
use proto::stun::attribute::Icmp;

use super::control::{Control, Message, space};
use super::length;
use super::name::Name;

/// Bytes of `sock_extended_err` and of the offender's address behind it.
const REPORT: usize = size_of::<libc::sock_extended_err>() + Name::LENGTH;

/// Room for what comes with an error: class, hops, the report itself.
const CONTROL: usize = 2 * space(size_of::<libc::c_int>()) + space(REPORT);

/// What an error says, and about which destination; the port is 0 if it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undelivered {
    /// Where the datagram went.
    pub(crate) to: SocketAddr,
    /// Why it did not arrive.
    pub(crate) icmp: Icmp,
}

/// Takes the next error out of the queue, which must not be empty; `None` is one that is neither
/// ICMP nor about size.
pub(crate) fn next_error(
    socket: BorrowedFd<'_>,
    family: Family,
) -> io::Result<Option<Undelivered>> {
    let mut name = Name::EMPTY;
    let mut control = Control::<CONTROL>::EMPTY;
    let (room, room_len) = control.room();
    // SAFETY: a plain C structure for which all-zero is valid.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let mut header = unsafe { std::mem::zeroed::<libc::msghdr>() };
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_namelen = length(Name::LENGTH);
    header.msg_control = room;
    header.msg_controllen = room_len as _;
    // SAFETY: the header points at a name and a control buffer that live until after the call;
    // the kernel writes no more than the lengths given with each, and no payload at all.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe {
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags)
    };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    let len: usize = header.msg_controllen as _;
    let icmp = control.received(len).find_map(|it| told(family, &it));
    Ok(name.read().zip(icmp).map(|(to, icmp)| Undelivered { to, icmp }))
}

/// What the kernel reports, in the words of ICMP.
fn told(family: Family, message: &Message<'_>) -> Option<Icmp> {
    const LOCAL: u8 = libc::SO_EE_ORIGIN_LOCAL;
    const ICMP: u8 = libc::SO_EE_ORIGIN_ICMP;
    const ICMP6: u8 = libc::SO_EE_ORIGIN_ICMP6;
    if !matches!(
        (message.level, message.kind),
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    ) {
        return None;
    }
    // `sock_extended_err`: errno, origin, type, code, padding, information.
    let (&[e0, e1, e2, e3, origin, kind, code, _, i0, i1, i2, i3], _) =
        message.value.split_first_chunk::<12>()?;
    let errno = libc::c_int::from_ne_bytes([e0, e1, e2, e3]);
    let mtu = u32::from_ne_bytes([i0, i1, i2, i3]);
    match (origin, family) {
        (ICMP, Family::V4) => {
            Some(Icmp { kind, code, data: if (kind, code) == (3, 4) { mtu } else { 0 } })
        }
        (ICMP6, Family::V6) => Some(Icmp { kind, code, data: if kind == 2 { mtu } else { 0 } }),
        // Our own link is the narrow one: what a router there would have said.
        (LOCAL, Family::V4) if errno == libc::EMSGSIZE => {
            Some(Icmp { kind: 3, code: 4, data: mtu })
        }
        (LOCAL, Family::V6) if errno == libc::EMSGSIZE => {
            Some(Icmp { kind: 2, code: 0, data: mtu })
        }
        _ => None,
    }
}
