//! What one packet of a flood costs the server, without sockets; and that it keeps nothing of it.
//!
//! Forged sources are others every time; what one source sends beyond its rate is measured as well.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use benches::Stage;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto::addr::{ClientAddr, FiveTuple, ListenerId};
use proto::stun::Method;
use proto::turn::Verdict;

/// Allocations that are there meanwhile.
const CALLS: u32 = 1_000;

/// Packets over which memory is looked at.
const COUNTED: u32 = 50_000;

/// A flood of one kind of packet.
struct Flood {
    stage: Box<Stage>,
    packet: Vec<u8>,
    forged: bool,
    sent: u32,
}

impl Flood {
    fn of(packet: impl FnOnce(&Stage) -> Vec<u8>, forged: bool) -> Self {
        let mut stage = Box::new(Stage::throttled());
        for number in 0..CALLS {
            stage.call(number);
        }
        let packet = packet(&stage);
        Self { stage, packet, forged, sent: 0 }
    }

    /// One packet; whether it was answered.
    fn send(&mut self) -> bool {
        self.sent = self.sent.wrapping_add(1);
        if self.forged {
            // Each source has its time, however many there are.
            self.stage.now.mono += Duration::from_micros(10);
        }
        let source = if self.forged { self.sent.wrapping_mul(0x9E37_79B9) | 1 } else { 1 };
        let [_, a, b, c] = source.to_be_bytes();
        let from = SocketAddr::from((Ipv4Addr::new(100, a, b, c), 4_000));
        let from = FiveTuple { listener: ListenerId(0), client: ClientAddr::new(from) };
        let verdict = self.stage.server.client_input(self.stage.now, from, black_box(&self.packet));
        assert!(matches!(verdict, Verdict::Handled | Verdict::Dropped(_)), "forwarded");
        self.stage.carry_out().0.is_some()
    }

    /// Nothing is kept, and nothing is allocated for what is not answered.
    fn check(&mut self, name: &str) {
        // Bursts are over then, and queues have the size they need.
        let answered = (0..1_000).filter(|_| self.send()).count();
        let counted = allocation_counter::measure(|| {
            for _ in 0..COUNTED {
                self.send();
            }
        });
        assert_eq!(counted.count_current, 0, "{name}: memory is kept");
        assert!(self.forged || counted.count_total == 0, "{name}: memory for what is dropped");
        let tally = self.stage.server.tally();
        assert_eq!(tally.allocations, u64::from(CALLS), "{name}");
        println!("{name}: {answered} of the first 1000 answered, no memory kept");
    }
}

fn flood(c: &mut Criterion) {
    let mut group = c.benchmark_group("flood");
    group.throughput(Throughput::Elements(1));
    let request = |method, pretends| move |stage: &Stage| stage.stranger(method, pretends);
    for (name, mut flood) in [
        ("noise", Flood::of(|_| vec![0xFF; 100], true)),
        ("ChannelData", Flood::of(|_| [&[0x40, 0, 0, 96][..], &[7; 96]].concat(), true)),
        ("Binding", Flood::of(request(Method::BINDING, false), true)),
        ("Binding, one source", Flood::of(request(Method::BINDING, false), false)),
        ("Allocate", Flood::of(request(Method::ALLOCATE, false), true)),
        ("Allocate, one source", Flood::of(request(Method::ALLOCATE, false), false)),
        ("wrong password", Flood::of(request(Method::ALLOCATE, true), true)),
        ("wrong password, one source", Flood::of(request(Method::ALLOCATE, true), false)),
    ] {
        flood.check(name);
        group.bench_function(name, |b| b.iter(|| flood.send()));
    }
    group.finish();
}

criterion_group!(benches, flood);
criterion_main!(benches);
