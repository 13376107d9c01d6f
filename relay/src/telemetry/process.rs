//! Facts about this process that operators graph beside its traffic.

use crate::sys;

/// Facts of one moment; what the system does not tell is absent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    /// Descriptors open.
    pub(crate) descriptors: Option<u64>,
    /// Descriptors it may have.
    pub(crate) descriptor_limit: Option<u64>,
    /// Bytes of memory in use.
    pub(crate) resident_bytes: Option<u64>,
}

impl Process {
    /// Looks.
    pub(crate) fn look() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64),
            descriptor_limit: sys::descriptor_limit().ok().map(|(now, _)| now),
            resident_bytes: resident_bytes(&status),
        }
    }
}

/// `VmRSS` of `proc_pid_status(5)`, which counts in kibibytes.
fn resident_bytes(status: &str) -> Option<u64> {
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
}
