//! Facts about this process that operators graph beside its traffic.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The file that tells how much memory is in use.
pub(crate) const STATUS: &str = "/proc/self/status";

/// Facts of one moment; what the system does not tell is absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    /// Descriptors open.
    pub(crate) descriptors: Option<u64>,
    /// Descriptors it may have.
    pub(crate) descriptor_limit: Option<u64>,
    /// Bytes of memory in use.
    pub(crate) resident_bytes: Option<u64>,
    /// Processor time of each worker's thread, by its number.
    pub(crate) workers: Vec<(u16, Duration)>,
}

impl Process {
    /// Looks.
    pub(crate) fn look() -> Self {
        let status = fs::read_to_string(STATUS).unwrap_or_default();
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64),
            descriptor_limit: guard::descriptors::limit().ok().map(|(now, _)| now),
            resident_bytes: resident_bytes(&status),
            workers: workers(),
        }
    }
}

/// What the name of a worker's thread begins with; its number follows.
pub(crate) const WORKER: &str = "worker-";

/// Processor time of each worker's thread, by its number.
pub(crate) fn workers() -> Vec<(u16, Duration)> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut found: Vec<_> = threads.filter_map(|thread| worker(&thread.path())).collect();
    found.sort_unstable();
    found
}

/// The number and the processor time of a thread, if it is a worker's. The first word of
/// `schedstat` is time on a processor, in nanoseconds.
fn worker(thread: &Path) -> Option<(u16, Duration)> {
    let name = fs::read_to_string(thread.join("comm")).ok()?;
    let number = name.trim_end().strip_prefix(WORKER)?.parse().ok()?;
    let times = fs::read_to_string(thread.join("schedstat")).ok()?;
    let on_cpu = times.split_whitespace().next()?.parse().ok()?;
    Some((number, Duration::from_nanos(on_cpu)))
}

/// `VmRSS` of `proc_pid_status(5)`, which counts in kibibytes.
pub(crate) fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1024 kB\n"), Some(1_048_576));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        assert!(Process::look().resident_bytes.is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn time_of_workers_is_told_by_their_number() {
        let work = || {
            let (mut sum, own) = (0_u64, || Process::look().workers);
            while own().iter().all(|(_, spent)| *spent < Duration::from_millis(1)) {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
            own()
        };
        let thread = std::thread::Builder::new().name(format!("{WORKER}7")).spawn(work);
        let seen = thread.expect("a thread").join().expect("it ends");
        assert!(matches!(seen[..], [(7, _)]), "{seen:?}");
    }
}
