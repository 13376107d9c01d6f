//! Credentials expire by this host's clock: one that nobody sets right refuses good ones.

use super::{Finding, Level};
use crate::sys;

/// Looks at what the kernel says of its clock.
pub(super) fn look() -> Finding {
    judge(sys::clock_is_synchronised())
}

fn judge(is_synchronised: Option<bool>) -> Finding {
    match is_synchronised {
        Some(true) => Finding::good("clock", "the clock is kept right by another one"),
        Some(false) => Finding::new(
            Level::Warning,
            "clock",
            "nothing keeps the clock of this host right",
            "run a time service (chrony, systemd-timesyncd): credentials expire by this clock and by \
             that of the service that mints them. In a container or virtual machine the host's may \
             do it unseen.",
        ),
        None => Finding::new(
            Level::Note,
            "clock",
            "the kernel does not say whether something keeps the clock right",
            "see to it that a time service runs on this host.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_is_a_warning() {
        assert_eq!(judge(Some(true)).level, Level::Good);
        assert_eq!(judge(Some(false)).level, Level::Warning);
        assert_eq!(judge(None).level, Level::Note);
        assert!(look().subject == "clock");
    }
}
