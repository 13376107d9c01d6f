//! What deadlines cost with 100,000 allocations alive.
//!
//! Every wake-up asks when the next is due; a refresh re-arms; and when all end in the same
//! second, ending them must not hold the packets up for long.

use std::hint::black_box;
use std::time::Duration;

use benches::{Call, Stage};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ALLOCATIONS: u32 = 100_000;

/// A server full of allocations that end within the same minute, ten minutes from now.
fn full() -> (Stage, Vec<Call>) {
    let mut stage = Stage::new();
    let calls = (0..ALLOCATIONS)
        .map(|number| {
            if number % (ALLOCATIONS / 60) == 0 {
                stage.advance(Duration::from_secs(1));
            }
            stage.call(number)
        })
        .collect();
    assert_eq!(stage.server.tally().allocations, u64::from(ALLOCATIONS));
    (stage, calls)
}

fn expiry(c: &mut Criterion) {
    let mut group = c.benchmark_group("expiry");
    let (mut stage, calls) = full();
    group.bench_function("wake-up with nothing due", |b| {
        b.iter(|| {
            stage.server.timeout(black_box(stage.now));
            stage.server.poll_timeout()
        });
    });

    let nonces: Vec<_> = calls.iter().take(1000).map(|call| stage.challenge(call.client)).collect();
    let mut next = 0;
    group.bench_function("refresh, from request to response", |b| {
        b.iter(|| {
            next = (next + 1) % nonces.len();
            stage.refresh(&calls[next], &nonces[next], 600);
        });
    });

    group.sample_size(10).throughput(Throughput::Elements(ALLOCATIONS.into()));
    group.bench_function("all 100,000 end", |b| {
        b.iter_batched(
            || full().0,
            |mut stage| {
                stage.advance(Duration::from_secs(3_600));
                stage.carry_out();
                assert_eq!(stage.server.tally().allocations, 0);
                stage
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, expiry);
criterion_main!(benches);
