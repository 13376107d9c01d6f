//! The operating system: the only `unsafe` of the workspace.
//!
//! Every wrapper is small, takes and returns safe types, and knows nothing of TURN. What is
//! used, with the kernel it needs:
//!
//! | call | for | Linux |
//! |---|---|---|
//! | `recvmmsg` with `UDP_GRO` | many datagrams a call, runs as one | 5.0 |
//! | `sendmmsg` with `UDP_SEGMENT` | the same outward | 4.18 |
//! | `SO_ATTACH_REUSEPORT_CBPF` | our own steering of a shared port, by worker and lane | 4.5 |
//! | `IP_PMTUDISC_OMIT` | fragment rather than believe forged path MTUs | 3.15 |
//! | `IP_PMTUDISC_PROBE` | DF on datagrams whose sender asks for it | 2.6.22 |
//! | `IP_RECVERR` | ICMP messages about what a relayed socket sent | 2.2 |
//! | `IP_RECVTOS`, `IP_RECVTTL` and their like | what network headers say | any |
//! | `SO_MEMINFO` | datagrams a full receive queue lost | 4.12 |
//! | `BPF_LINK_CREATE` | the kernel program at an interface | 5.9 |
//! | `mmap` of a BPF array | what the kernel program counted, which ports are open | 5.5 |
//! | `AF_XDP` with `XDP_USE_NEED_WAKEUP` | frames past the network stack | 5.4 |
//! | `IP_RECVORIGDSTADDR` of UDP | one socket for all relayed ports | 4.15 |
//! | `getifaddrs`, `sched_setaffinity`, `setpriority`, `adjtimex` | the host | any |
//! | `malloc_trim` | memory given back when it is tight | none, it is glibc's |

mod control;
mod errors;
mod host;
mod inbound;
mod kernel;
mod mapping;
mod name;
mod outbound;
mod rings;
mod socket;
mod steering;
mod strays;

pub(crate) use errors::{Undelivered, next_error};
pub(crate) use host::{
    awaited, clock_is_synchronised, give_back_memory, interfaces, niceness, pin_to_core,
    set_niceness,
};
pub(crate) use inbound::{HEADROOM, Inbound};
pub(crate) use kernel::{
    BUFFER, BUFFER_JOINED, Counts, Key4, Key6, LEVELS, Leg, Limits, MOST_WAYS, Place, UNITS, Way,
    attach,
};
pub(crate) use mapping::Mapping;
pub(crate) use outbound::{Label, Messages, Outbound};
pub(crate) use rings::FrameSocket;
pub(crate) use socket::{
    follow_path_mtu, keep_errors, receive_losses, relax_path_mtu, set_buffers, set_marks,
    set_modest_buffers, set_receive_buffer, shut, take_marks, take_runs, waiting_bytes,
};
pub(crate) use steering::{Lane, Spoken, Steering, attach_steering};
pub(crate) use strays::{Stray, open_icmp, open_receiver, open_sender, receive_stray, send_stray};

/// A length as the kernel takes it; what is longer than it can say is cut, not wrapped.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
