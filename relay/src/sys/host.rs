//! The host: its addresses, its cores, how many descriptors it grants.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use socket2::Socket;
use tokio::io::unix::AsyncFd;

/// Every address of every interface, without scopes; and the addresses that stand for a network of
/// one: its first and its last, and the broadcast address that the interface was given.
pub(crate) fn interfaces() -> io::Result<(BTreeSet<IpAddr>, BTreeSet<IpAddr>)> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the call stores the head of a list it allocates in `list`.
    #[expect(unsafe_code, reason = "see SAFETY")]
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (mut found, mut networks) = (BTreeSet::new(), BTreeSet::new());
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is an element of the list that `freeifaddrs` below has not freed yet.
        // Its address, mask and (so the flag says) broadcast address, when not null, start with
        // the family and have that family's length; they are read unaligned.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            let element = &*next;
            let own = ip_of(element.ifa_addr);
            found.extend(own);
            if let (Some(own), Some(mask)) = (own, ip_of(element.ifa_netmask)) {
                networks.extend(ends_of(own, mask));
            }
            if element.ifa_flags & libc::IFF_BROADCAST.cast_unsigned() != 0 {
                networks.extend(ip_of(element.ifa_ifu));
            }
            next = element.ifa_next;
        }
    }
    // SAFETY: the list came from `getifaddrs`, is freed once, and nothing points into it.
    #[expect(unsafe_code, reason = "see SAFETY")]
    unsafe {
        libc::freeifaddrs(list);
    }
    networks.retain(|ip| !found.contains(ip));
    Ok((found, networks))
}

/// Lets the runtime that it is called in wait for a socket.
pub(crate) fn awaited(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: the socket owns its descriptor, always names the same, and keeps it open until the
    // returned value, which owns the socket and lends it out as a reference only, is dropped.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(io::Error::from)
}

/// The first and the last address of a network; none of one that has only two. IPv6 knows no
/// broadcast, but its first address is every router's (RFC 4291 §2.6.1).
fn ends_of(ip: IpAddr, mask: IpAddr) -> Vec<IpAddr> {
    match (ip, mask) {
        (IpAddr::V4(ip), IpAddr::V4(mask)) if mask.to_bits().count_zeros() > 1 => {
            let (ip, mask) = (ip.to_bits(), mask.to_bits());
            [ip & mask, ip | !mask].map(|bits| Ipv4Addr::from_bits(bits).into()).to_vec()
        }
        (IpAddr::V6(ip), IpAddr::V6(mask)) if mask.to_bits().count_zeros() > 1 => {
            vec![Ipv6Addr::from_bits(ip.to_bits() & mask.to_bits()).into()]
        }
        _ => Vec::new(),
    }
}

/// The IP address in a socket address, if it holds one.
///
/// SAFETY: `address` is null or points at a socket address as long as its family demands.
#[expect(unsafe_code, reason = "the caller keeps what SAFETY says")]
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: promised by the caller; the reads need no alignment.
    #[expect(unsafe_code, reason = "see SAFETY")]
    unsafe {
        match libc::c_int::from((*address).sa_family) {
            libc::AF_INET => {
                let v4 = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))))
            }
            libc::AF_INET6 => {
                let v6 = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)))
            }
            _ => None,
        }
    }
}

/// Whether something keeps the kernel's clock right; `None` if it does not say.
pub(crate) fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: `timex` is made of integers, for which all-zero is valid; without modes the call only
    // fills it.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let state = unsafe {
        let mut asked = std::mem::zeroed::<libc::timex>();
        libc::adjtimex(&raw mut asked)
    };
    (state >= 0).then_some(state != libc::TIME_ERROR)
}

/// Lets the allocator give back to the system what it keeps for later.
pub(crate) fn give_back_memory() {
    // SAFETY: the call may be made at any time; it locks what it touches.
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "see SAFETY")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The niceness of the calling thread, which threads that it begins inherit.
pub(crate) fn niceness() -> i32 {
    // SAFETY: numbers alone are passed. It cannot fail, as there is a calling thread.
    #[expect(unsafe_code, reason = "see SAFETY")]
    unsafe {
        libc::getpriority(libc::PRIO_PROCESS, 0)
    }
}

/// Changes it; a lower one wants `CAP_SYS_NICE` or a limit that permits it.
pub(crate) fn set_niceness(nice: i32) -> io::Result<()> {
    // SAFETY: numbers alone are passed.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds the calling thread to the `index`-th core it may use, counted round robin.
pub(crate) fn pin_to_core(index: usize) -> io::Result<()> {
    // SAFETY: `cpu_set_t` is a bit set for which all-zero is valid; both calls are told its
    // size; the macros index within it.
    #[expect(unsafe_code, reason = "see SAFETY")]
    unsafe {
        let mut allowed = std::mem::zeroed::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) != 0 {
            return Err(io::Error::last_os_error());
        }
        let cores = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
        let usable: Vec<_> = (0..cores).filter(|&core| libc::CPU_ISSET(core, &allowed)).collect();
        let Some(&core) = usable.get(index % usable.len().max(1)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut one = std::mem::zeroed::<libc::cpu_set_t>();
        libc::CPU_SET(core, &mut one);
        if libc::sched_setaffinity(0, size_of_val(&one), &raw const one) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
