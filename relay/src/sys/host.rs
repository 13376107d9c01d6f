//! The host: its addresses, its cores, how many descriptors it grants.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// Every address of every interface, without scopes.
pub(crate) fn interface_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the call stores the head of a list it allocates in `list`.
    #[expect(unsafe_code, reason = "see SAFETY")]
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = BTreeSet::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is an element of the list that `freeifaddrs` below has not freed yet.
        // Its address, when not null, starts with the family and has that family's length; it
        // is read unaligned.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            let element = &*next;
            found.extend(ip_of(element.ifa_addr));
            next = element.ifa_next;
        }
    }
    // SAFETY: the list came from `getifaddrs`, is freed once, and nothing points into it.
    #[expect(unsafe_code, reason = "see SAFETY")]
    unsafe {
        libc::freeifaddrs(list);
    }
    Ok(found)
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

/// How many descriptors this process may have: now, and at most.
pub(crate) fn descriptor_limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills `limit`.
    #[expect(unsafe_code, reason = "see SAFETY")]
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Raises the limit to the most this process may have, and says it.
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let (now, most) = descriptor_limit()?;
    if now < most {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: the call reads `limit`.
        #[expect(unsafe_code, reason = "see SAFETY")]
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(most)
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
