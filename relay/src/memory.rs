//! The memory budget: how much this process may hold before it takes no new allocations.
//!
//! The office looks now and then at what is resident. Above the budget the allocator is asked to
//! give back what it keeps for later; if that is not enough, memory is tight, and stays so until
//! it is a little below the budget, so that nothing flaps. Calls go on meanwhile.
//!
//! The file that tells what is resident is open from the start: what takes memory away often takes
//! descriptors first.

use std::fs::File;
use std::future;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::sys;
use crate::telemetry::process::{STATUS, resident_bytes};

/// How often the office looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Memory is no longer tight when so much of the budget, in sixteenths, is in use.
const RELAXED: u64 = 15;

/// Bytes of that file which are read: what is resident stands in the first thousand or two.
const READ: usize = 4096;

/// The budget, and whether it is used up. Clones speak of the same memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    budget: Option<u64>,
    tight: Arc<AtomicBool>,
    /// Tells what is resident; only with a budget.
    status: Option<Arc<File>>,
}

impl Memory {
    /// A budget in bytes; `None` is no limit.
    pub(crate) fn new(budget: Option<u64>) -> Self {
        let status = budget.and_then(|_| {
            let opened = File::open(STATUS).inspect_err(|error| {
                tracing::warn!("limits.memory_mib is not kept: {STATUS} cannot be read: {error}");
            });
            opened.ok().map(Arc::new)
        });
        Self { budget, tight: Arc::default(), status }
    }

    /// Whether the budget is used up.
    pub(crate) fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Relaxed)
    }

    /// Looks as long as the office is open.
    pub(crate) async fn watch(self) {
        if self.status.is_none() {
            return future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let memory = self.clone();
            if tokio::task::spawn_blocking(move || memory.look()).await.is_err() {
                tracing::error!("memory is no longer watched");
                return future::pending().await;
            }
        }
    }

    fn look(&self) {
        let Some(mut found) = self.resident() else { return };
        if self.judge(found) {
            sys::give_back_memory();
            found = self.resident().unwrap_or(found);
        }
        let tight = self.judge(found);
        let before = self.tight.swap(tight, Ordering::Relaxed);
        match (before, tight) {
            (false, true) => tracing::warn!(
                resident_bytes = found,
                "memory is tight: no new allocations until there is less than limits.memory_mib"
            ),
            (true, false) => tracing::info!(resident_bytes = found, "memory is no longer tight"),
            _ => {}
        }
    }

    /// Bytes in use now.
    fn resident(&self) -> Option<u64> {
        let mut text = [0; READ];
        let read = self.status.as_ref()?.read_at(&mut text, 0).ok()?;
        resident_bytes(&String::from_utf8_lossy(text.get(..read)?))
    }

    /// Whether so much is too much.
    fn judge(&self, resident: u64) -> bool {
        let Some(budget) = self.budget else { return false };
        let most = if self.is_tight() { budget / 16 * RELAXED } else { budget };
        resident > most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_tight_above_the_budget_until_it_is_well_below() {
        let memory = Memory::new(Some(1_600));
        for (resident, tight) in
            [(1_600, false), (1_601, true), (1_550, true), (1_500, false), (1_550, false)]
        {
            let judged = memory.judge(resident);
            memory.tight.store(judged, Ordering::Relaxed);
            assert_eq!(judged, tight, "{resident}");
        }
        assert!(!Memory::new(None).judge(u64::MAX), "no budget");
    }

    #[test]
    fn what_is_resident_is_known_again_and_again_and_nothing_is_opened_for_it() {
        let memory = Memory::new(Some(1 << 40));
        let first = memory.resident().unwrap();
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let second = memory.resident().unwrap();
        assert!(second > first + held.len() as u64 / 2, "{first} {second}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status");
        std::fs::write(&path, "VmRSS:\t 2 kB\n").unwrap();
        let status = Some(Arc::new(File::open(&path).unwrap()));
        let memory = Memory { status, ..Memory::new(Some(1_024)) };
        std::fs::remove_file(&path).unwrap();
        memory.look();
        assert!(memory.is_tight(), "by the file that is open");
    }
}
