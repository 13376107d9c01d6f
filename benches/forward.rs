//! What relaying one packet costs the server, without sockets; and that it allocates nothing.
//!
//! Packets go to all allocations in turn, so that with 1,000 of them the tables are as cold as
//! many callers make them.

use std::hint::black_box;
use std::num::NonZeroU8;

use benches::{Call, Stage};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto::marks::{Datagram, Marks};
use proto::turn::{Verdict, Wrap};

/// Payload of a voice packet.
const PAYLOAD: [u8; 160] = [7; 160];

/// Packets over which allocations are counted.
const COUNTED: usize = 100_000;

struct Packets {
    stage: Stage,
    calls: Vec<(Call, Vec<u8>)>,
    next: usize,
    wrap: fn(Wrap) -> bool,
}

impl Packets {
    fn over(allocations: u32) -> Self {
        let mut stage = Stage::new();
        let calls = (0..allocations).map(|number| stage.call(number));
        let calls = calls.map(|call| (call.clone(), call.channel_data(&PAYLOAD))).collect();
        Self { stage, calls, next: 0, wrap: |wrap| matches!(wrap, Wrap::Channel(_)) }
    }

    /// Between MS-TURN clients and their active destinations.
    fn aimed(allocations: u32) -> Self {
        let mut stage = Stage::microsoft();
        let calls = (0..allocations).map(|number| (stage.aimed(number), PAYLOAD.to_vec()));
        let calls = calls.collect();
        Self { stage, calls, next: 0, wrap: |wrap| wrap == Wrap::Raw }
    }

    fn turn(&mut self) -> usize {
        let turn = self.next;
        self.next = if turn + 1 == self.calls.len() { 0 } else { turn + 1 };
        turn
    }

    /// One packet from a client.
    fn up(&mut self) -> Verdict {
        let turn = self.turn();
        let (call, bytes) = &self.calls[turn];
        self.stage.server.client_input(self.stage.now, call.client, datagram(bytes))
    }

    /// One packet from a peer.
    fn down(&mut self) -> Verdict {
        let turn = self.turn();
        let (call, _) = &self.calls[turn];
        self.stage.server.peer_input(self.stage.now, call.relay, call.peer, datagram(&PAYLOAD))
    }

    /// Every packet is forwarded, and none allocates.
    fn check(&mut self) {
        let counted = allocation_counter::measure(|| {
            for _ in 0..COUNTED {
                let up = self.up();
                assert!(matches!(up, Verdict::ToPeer { .. }), "not forwarded: {up:?}");
                let down = self.down();
                let forwarded = matches!(down, Verdict::ToClient { wrap, .. } if (self.wrap)(wrap));
                assert!(forwarded, "not forwarded: {down:?}");
            }
        });
        assert_eq!(counted.count_total, 0, "allocations over {COUNTED} packets each way");
        println!("{} allocations: none while {COUNTED} packets each way", self.calls.len());
    }
}

/// A voice packet from the next network.
fn datagram(bytes: &[u8]) -> Datagram<'_> {
    let marks = Marks { class: 0xB8, hops: NonZeroU8::new(57), dont_fragment: false };
    black_box(Datagram { marks, bytes })
}

fn forward(c: &mut Criterion) {
    let seen = allocation_counter::measure(|| drop(black_box(Box::new(1))));
    assert_eq!(seen.count_total, 1, "the counter counts");
    let mut group = c.benchmark_group("forward");
    group.throughput(Throughput::Elements(1));
    for allocations in [1, 1000] {
        for (name, mut packets) in
            [("", Packets::over(allocations)), (", bare", Packets::aimed(allocations))]
        {
            packets.check();
            let up = format!("client to peer{name}/{allocations}");
            group.bench_function(up, |b| b.iter(|| packets.up()));
            let down = format!("peer to client{name}/{allocations}");
            group.bench_function(down, |b| b.iter(|| packets.down()));
        }
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
