//! What the relay's core did.
//!
//! Two figures, because each has a blind spot. The core's time that was not idle (`/proc/stat`)
//! holds everything, interrupts included, and also whatever else runs there. The run time of
//! the server's threads and of the threads that poll its links (`schedstat`) is free of
//! strangers; softirqs they run are in it, interrupts that wake an idle core are not. How much of
//! that the server's own code took is sampled by the kernel a hundred times a second.

use std::fs;
use std::hint::black_box;
use std::io;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::clock;

/// Unit of `/proc/stat`: a hundredth of a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Pins the calling thread.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Time spent up to now, by the core and by the server's threads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// The core, not idle.
    pub(crate) core: Duration,
    /// The threads.
    pub(crate) tasks: Duration,
    /// The part of it outside of the kernel.
    pub(crate) user: Duration,
}

impl Spent {
    /// Reads both: for a core, for all threads of `process` and for the kernel threads `pollers`.
    pub(crate) fn read(core: usize, process: u32, pollers: &[u32]) -> io::Result<Self> {
        let mut tasks = run_time_of(pollers);
        let mut user = Duration::ZERO;
        for entry in fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
            let folder = entry.path();
            tasks += run_time(&folder.to_string_lossy());
            user += user_time(&folder.to_string_lossy());
        }
        Ok(Self { core: busy(core)?, tasks, user })
    }

    /// What was spent since an earlier reading.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            core: self.core.saturating_sub(earlier.core),
            tasks: self.tasks.saturating_sub(earlier.tasks),
            user: self.user.saturating_sub(earlier.user),
        }
    }
}

/// Run time of some threads.
pub(crate) fn run_time_of(threads: &[u32]) -> Duration {
    threads.iter().map(|id| run_time(&format!("/proc/{id}"))).sum()
}

/// First field of `schedstat`; a thread that has ended counts nothing more.
fn run_time(folder: &str) -> Duration {
    let text = fs::read_to_string(format!("{folder}/schedstat")).unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// `utime` of `stat`, the twelfth field after the name in parentheses.
fn user_time(folder: &str) -> Duration {
    let text = fs::read_to_string(format!("{folder}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = fields.split(' ').nth(11).and_then(|ticks| ticks.parse().ok());
    TICK * ticks.unwrap_or(0)
}

/// User, nice, system, irq and softirq time of a core.
fn busy(core: usize) -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{core}");
    let fields: Vec<u32> = text
        .lines()
        .find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))
        .ok_or_else(|| io::Error::other(format!("no {name} in /proc/stat")))?
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq …
    let ticks = [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum::<u32>();
    Ok(TICK * ticks)
}

/// Tells windows in which the core was slower than it can be: a virtual machine's neighbour, or
/// a compiler beside us.
#[derive(Debug, Default)]
pub(crate) struct Calibration {
    best: Option<Duration>,
}

impl Calibration {
    /// How many times longer a fixed piece of work took on this core than at its best.
    pub(crate) fn slowness(&mut self, core: usize) -> io::Result<f64> {
        let took = std::thread::scope(|scope| {
            let worker = scope.spawn(|| pin(core).map(|()| fixed_work()));
            worker.join().map_err(|_| io::Error::other("calibration failed"))?
        })?;
        let best = self.best.map_or(took, |best| best.min(took));
        self.best = Some(best);
        Ok(took.as_secs_f64() / best.as_secs_f64())
    }
}

/// A few milliseconds of arithmetic; the median of several, so that one interrupt is no news.
fn fixed_work() -> Duration {
    let mut times = [0; 7].map(|_: u32| {
        let start = clock::now();
        let mut state = 1_u64;
        for step in 0..400_000_u64 {
            state = black_box(state.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ step);
        }
        black_box(state);
        clock::now() - start
    });
    times.sort_unstable();
    times[times.len() / 2]
}
