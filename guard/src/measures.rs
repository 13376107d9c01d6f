//! What protects this process, as the kernel tells it.

use std::fs;

/// The measures, by their names in metrics and logs: the process is not root; its threads, the
/// reader of files apart, have no capability; nothing it could execute would give it more; its
/// memory is written to no file; it makes only the system calls it needs; it opens nothing but
/// its own files.
const NAMES: [&str; 6] =
    ["unprivileged", "no_capabilities", "no_new_privs", "no_core_dumps", "seccomp", "landlock"];

/// Which measures are in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures([bool; 6]);

impl Measures {
    /// What holds for the calling thread and those it starts. Core dumps and Landlock show
    /// nowhere; who asked for them knows.
    pub(crate) fn look(no_core_dumps: bool, landlock: bool) -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Self::read(&status, no_core_dumps, landlock)
    }

    /// What `proc_pid_status(5)` tells, and the two that it does not tell.
    fn read(status: &str, no_core_dumps: bool, landlock: bool) -> Self {
        let words = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().split_whitespace()
        };
        let first = |name: &str| words(name).next();
        let empty = |name: &str| first(name).is_some_and(|set| set.bytes().all(|b| b == b'0'));
        Self([
            // The second of four is the effective user.
            words("Uid:").nth(1).is_some_and(|uid| uid != "0"),
            empty("CapEff:") && empty("CapPrm:"),
            first("NoNewPrivs:") == Some("1"),
            no_core_dumps,
            first("Seccomp:") == Some("2"),
            landlock,
        ])
    }

    /// Each with its name in metrics and logs.
    pub fn named(self) -> [(&'static str, bool); 6] {
        std::array::from_fn(|index| (NAMES[index], self.0[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read_as_they_are_meant() {
        let free = "Uid:\t0\t0\t0\t0\nCapPrm:\t01ff\nCapEff:\t01ff\nNoNewPrivs:\t0\nSeccomp:\t0\n";
        assert_eq!(Measures::read(free, false, false), Measures::default());
        let held = "Uid:\t9\t9\t9\t9\nCapPrm:\t0000\nCapEff:\t0000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        let found = Measures::read(held, false, false);
        let named = found.named().map(|(_, holds)| holds);
        assert_eq!(named, [true, true, true, false, true, false]);
        assert_eq!(
            Measures::read("", false, false),
            Measures::default(),
            "what is not known does not hold"
        );
    }
}
