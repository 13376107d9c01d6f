//! One test from many seeds: which, on how many threads, and what says which one failed.
//!
//! `SEEDS=5000` plays more of them, `SEED=0x51` replays one.

use std::sync::atomic::{AtomicU64, Ordering};

/// Plays `run` once for each seed, on every core, and returns how many there were with what they
/// came to: each thread sums up its own, `add` puts those together.
pub fn play<T: Default + Send>(
    test: &str,
    seeds: u64,
    run: impl Fn(u64, &mut T) + Sync,
    add: impl Fn(T, T) -> T,
) -> (u64, T) {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(seeds),
    };
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut totals = T::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return totals;
            }
            let guard = SayOnPanic { test, seed };
            run(seed, &mut totals);
            std::mem::forget(guard);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let totals = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let each = workers.into_iter().map(|it| it.join().expect("a seed failed, see above"));
        each.fold(T::default(), add)
    });
    (seeds.end - seeds.start, totals)
}

/// Whether one seed is replayed, which proves nothing about how much happens in many.
pub fn is_replay() -> bool {
    number("SEED").is_some()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

/// Names the seed when its run panics.
struct SayOnPanic<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for SayOnPanic<'_> {
    fn drop(&mut self) {
        eprintln!("replay: SEED={:#x} cargo nextest run {}", self.seed, self.test);
    }
}
