//! seccomp: the system calls a service needs when its sockets are open.
//!
//! What is on no list fails with EPERM and goes on: a call that a new C library makes must not
//! end every call on the relay. What nobody but an intruder would ask for ends the process, and
//! the kernel logs it: there the calls are lost already.

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// Allowed, whatever their arguments: files and sockets that are open, memory, threads, time.
const ALLOWED: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getdents64,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setpriority,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_socketpair,
    libc::SYS_splice,
    libc::SYS_statx,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The same, of calls that newer architectures have under another name only.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Allowed to who writes files of its own.
const OF_FILES: &[c_long] = &[
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_pwrite64,
    libc::SYS_unlinkat,
];

/// The same, of calls that newer architectures have under another name only.
#[cfg(target_arch = "x86_64")]
const OLDER_OF_FILES: &[c_long] = &[libc::SYS_unlink];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_OF_FILES: &[c_long] = &[];

/// Said to be unknown to this kernel. Where a new thread's flags are in memory no filter sees them;
/// C libraries then start threads by the older call, whose flags are an argument.
const UNKNOWN: &[c_long] = &[libc::SYS_clone3];

/// New namespaces by `clone`, each of which ends the process as `unshare` does. That of time
/// is no flag of this call.
const NAMESPACES: [c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Ends the process: other programs, other processes' memory, the kernel itself.
const HOSTILE: &[c_long] = &[
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_reboot,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfiltered {
    /// It cannot be built for this machine.
    #[error("this architecture has none: {0}")]
    Machine(#[from] BackendError),
    /// The kernel does not take it.
    #[error("the kernel does not take it: {0}")]
    Kernel(#[from] seccompiler::Error),
}

/// What may be asked of `bpf(2)` by who holds maps open: to look at an element, to set it, to delete
/// it. Nothing of that loads a program or opens a map.
const OF_MAPS: [c_int; 3] = [1, 2, 3];

/// What a thread does beyond what all do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Nothing.
    Nothing,
    /// It uses maps of kernel programs that it holds open.
    Maps,
    /// It writes files, and removes what it wrote.
    Files,
}

/// Filters the system calls of the calling thread and of those it starts.
pub(crate) fn filter(beyond: Beyond) -> Result<(), Unfiltered> {
    for program in programs(beyond)? {
        apply_filter(&program)?;
    }
    Ok(())
}

/// The filters, in the order in which they are applied; the strictest verdict holds.
fn programs(beyond: Beyond) -> Result<Vec<BpfProgram>, BackendError> {
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    let error = |number: c_int| SeccompAction::Errno(number.cast_unsigned());
    let unknown = UNKNOWN.iter().map(|&call| (call, Vec::new())).collect();
    let filters = [
        (hostile(beyond)?, SeccompAction::Allow, SeccompAction::KillProcess),
        (unknown, SeccompAction::Allow, error(libc::ENOSYS)),
        (allowed(beyond)?, error(libc::EPERM), SeccompAction::Allow),
    ];
    let build =
        |(rules, others, these)| SeccompFilter::new(rules, others, these, machine)?.try_into();
    filters.into_iter().map(build).collect()
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn hostile(beyond: Beyond) -> Result<Rules, BackendError> {
    let mut rules: Rules = HOSTILE.iter().map(|&call| (call, Vec::new())).collect();
    if beyond == Beyond::Maps {
        let differs = |&command: &c_int| {
            let (wide, other) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Ne);
            SeccompCondition::new(0, wide, other, u64::from(command.cast_unsigned()))
        };
        let others = OF_MAPS.iter().map(differs).collect::<Result<Vec<_>, _>>()?;
        rules.insert(libc::SYS_bpf, vec![SeccompRule::new(others)?]);
    }
    let new = NAMESPACES.iter().map(|&flag| SeccompRule::new(vec![has_flag(flag)?]));
    rules.insert(libc::SYS_clone, new.collect::<Result<_, _>>()?);
    Ok(rules)
}

fn allowed(beyond: Beyond) -> Result<Rules, BackendError> {
    let calls = ALLOWED.iter().chain(OLDER).chain(UNKNOWN);
    let mut rules: Rules = calls.map(|&call| (call, Vec::new())).collect();
    // Threads, never processes.
    let thread = SeccompRule::new(vec![has_flag(libc::CLONE_THREAD)?])?;
    rules.insert(libc::SYS_clone, vec![thread]);
    // Sockets of the internet, and what tells the addresses of this host.
    let families = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    rules.insert(libc::SYS_socket, one_of(0, &families)?);
    let requests = [libc::FIONBIO, libc::FIONREAD, libc::TCGETS];
    let requests = requests.map(|it| c_int::try_from(it).unwrap_or_default());
    rules.insert(libc::SYS_ioctl, one_of(1, &requests)?);
    match beyond {
        Beyond::Nothing => {}
        Beyond::Maps => drop(rules.insert(libc::SYS_bpf, one_of(0, &OF_MAPS)?)),
        Beyond::Files => {
            rules.extend(OF_FILES.iter().chain(OLDER_OF_FILES).map(|&call| (call, Vec::new())));
        }
    }
    rules.insert(libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME])?);
    // Memory that can be written is never executed.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let execute = u64::try_from(libc::PROT_EXEC).unwrap_or_default();
        let never = SeccompCmpOp::MaskedEq(execute);
        let condition = SeccompCondition::new(2, SeccompCmpArgLen::Dword, never, 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
    }
    Ok(rules)
}

/// Holds of a `clone` with this flag, whatever else it has.
fn has_flag(flag: c_int) -> Result<SeccompCondition, BackendError> {
    let flag = u64::from(flag.cast_unsigned());
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag)
}

/// One rule for each value that an argument may have.
fn one_of(argument: u8, values: &[c_int]) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |&value: &c_int| {
        let value = u64::from(value.cast_unsigned());
        let (wide, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        SeccompRule::new(vec![SeccompCondition::new(argument, wide, equal, value)?])
    };
    values.iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    use seccompiler::sock_filter;

    use super::*;

    /// Runs in a thread of its own, which alone is filtered.
    fn filtered(work: impl FnOnce() + Send + 'static) {
        behind(Beyond::Nothing, work);
    }

    fn behind(beyond: Beyond, work: impl FnOnce() + Send + 'static) {
        let run = move || {
            filter(beyond).unwrap();
            work();
        };
        std::thread::spawn(run).join().unwrap();
    }

    #[test]
    fn who_writes_files_writes_and_removes_them_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        behind(Beyond::Files, move || {
            std::fs::write(&path, "text").unwrap();
            std::fs::File::open(&path).unwrap().sync_data().unwrap();
            std::fs::remove_file(&path).unwrap();
            let refused = std::fs::create_dir(&path).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "a new folder");
        });
    }

    #[test]
    fn what_a_service_does_works_behind_the_filter() {
        filtered(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            std::fs::read_to_string("/proc/self/status").unwrap();
            std::thread::spawn(|| vec![0_u8; 8 << 20]).join().unwrap();
        });
    }

    #[test]
    fn what_it_never_does_is_refused_and_goes_on() {
        filtered(|| {
            let refused = |error: std::io::Error| error.raw_os_error() == Some(libc::EPERM);
            assert!(UnixDatagram::unbound().is_err_and(refused), "a socket of another family");
            assert!(std::fs::create_dir("/tmp/never").is_err_and(refused), "a new folder");
            assert!(std::fs::remove_file("/tmp/never").is_err_and(refused), "a file's end");
        });
    }

    #[test]
    fn threads_start_behind_the_filter_and_processes_do_not() {
        filtered(|| {
            let below = std::thread::spawn(|| std::thread::spawn(|| 7).join().unwrap());
            assert_eq!(below.join().unwrap(), 7);
            let refused = std::process::Command::new("/bin/true").status().unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        });
    }

    /// What the kernel does of the filters, which are installed in this order.
    fn verdict(call: c_long, first: u64) -> u32 {
        let arch: u32 = if cfg!(target_arch = "x86_64") { 0xC000_003E } else { 0xC000_00B7 };
        let mut data = [0; 64];
        data[..4].copy_from_slice(&u32::try_from(call).unwrap().to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        data[16..24].copy_from_slice(&first.to_ne_bytes());
        let programs = programs(Beyond::Nothing).unwrap();
        let verdicts = programs.iter().rev().map(|program| run(program, &data));
        verdicts.min_by_key(|verdict| (verdict & 0xFFFF_0000).cast_signed()).unwrap()
    }

    /// The instructions of classic BPF that filters here are made of.
    fn run(program: &BpfProgram, data: &[u8; 64]) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = &program[at];
            at += 1;
            let taken = match code {
                0x06 => return *k,
                0x20 => {
                    let place = *k as usize;
                    word = u32::from_ne_bytes(data[place..place + 4].try_into().unwrap());
                    continue;
                }
                0x54 => {
                    word &= k;
                    continue;
                }
                0x05 => {
                    at += *k as usize;
                    continue;
                }
                0x15 => word == *k,
                0x25 => word > *k,
                0x35 => word >= *k,
                other => panic!("instruction {other:#x}"),
            };
            at += usize::from(if taken { *jt } else { *jf });
        }
    }

    #[test]
    fn clone_makes_threads_and_no_namespace() {
        const ALLOW: u32 = 0x7FFF_0000;
        const KILL: u32 = 0x8000_0000;
        let error = |number: c_int| 0x0005_0000 | number.cast_unsigned();
        let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
        let flags = |flags: c_int| u64::from(flags.cast_unsigned());
        for (case, call, first, expected) in [
            ("a thread", libc::SYS_clone, flags(thread), ALLOW),
            ("a process", libc::SYS_clone, flags(libc::SIGCHLD), error(libc::EPERM)),
            ("by memory", libc::SYS_clone3, 0x7000_1000, error(libc::ENOSYS)),
            ("another call", libc::SYS_getpid, 0, ALLOW),
            ("one on no list", libc::SYS_mkdirat, 0, error(libc::EPERM)),
            ("leaving namespaces", libc::SYS_unshare, 0, KILL),
        ] {
            assert_eq!(verdict(call, first), expected, "{case}");
        }
        for new in NAMESPACES {
            for others in [0, thread, libc::SIGCHLD | libc::CLONE_NEWUSER] {
                assert_eq!(verdict(libc::SYS_clone, flags(new | others)), KILL, "{new:#x}");
            }
        }
    }

    #[test]
    fn lists_do_not_contradict_each_other() {
        for call in HOSTILE {
            let lists = [ALLOWED, OLDER, OF_FILES, OLDER_OF_FILES, UNKNOWN];
            assert!(!lists.iter().any(|list| list.contains(call)), "{call} is on both lists");
        }
    }
}
