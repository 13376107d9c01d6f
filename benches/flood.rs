//! What one packet of a flood costs the server, without sockets; and that it keeps nothing of it.
//!
//! Forged sources are others every time; what one source sends beyond its rate is measured as well.
//! Each is told as a part of what a forwarded packet costs, too: both are measured in turns, and the
//! quickest turns compared, so that the machine's noise is left out.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use benches::{Call, Stage};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto::addr::{ClientAddr, FiveTuple, ListenerId};
use proto::stun::attribute::{Data, XorPeerAddress};
use proto::stun::{Class, Method, TransactionId, Writer};
use proto::turn::Verdict;

/// Allocations that are there meanwhile.
const CALLS: u32 = 1_000;

/// Packets over which memory is looked at.
const COUNTED: u32 = 50_000;

/// Turns that are measured, and packets in each.
const TURNS: (u32, u32) = (40, 5_000);

/// A flood of one kind of packet.
struct Flood {
    stage: Box<Stage>,
    calls: Vec<(Call, Vec<u8>)>,
    packet: Vec<u8>,
    forged: bool,
    sent: u32,
}

impl Flood {
    fn of(packet: impl FnOnce(&Stage) -> Vec<u8>, forged: bool) -> Self {
        let mut stage = Box::new(Stage::throttled());
        let calls = (0..CALLS).map(|number| stage.call(number));
        let calls = calls.map(|call| (call.clone(), call.channel_data(&[7; 160]))).collect();
        let packet = packet(&stage);
        Self { stage, calls, packet, forged, sent: 0 }
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

    /// One packet, whatever comes of it.
    fn receive(&mut self) {
        black_box(self.send());
    }

    /// A packet of a call.
    fn forward(&mut self, turn: u32) {
        let (call, bytes) = &self.calls[(turn % CALLS) as usize];
        let verdict = self.stage.server.client_input(self.stage.now, call.client, black_box(bytes));
        assert!(matches!(verdict, Verdict::ToPeer { .. }), "not forwarded");
    }

    /// How much of what a forwarded packet costs one of the flood does.
    fn compare(&mut self) -> f64 {
        let (turns, packets) = TURNS;
        let mut quickest = [Duration::MAX; 2];
        for _ in 0..turns {
            let took = [
                time(|| (0..packets).for_each(|_| self.receive())),
                time(|| (0..packets).for_each(|turn| self.forward(turn))),
            ];
            quickest = [quickest[0].min(took[0]), quickest[1].min(took[1])];
        }
        quickest[0].as_secs_f64() / quickest[1].as_secs_f64()
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
        let cost = self.compare();
        println!(
            "{name}: {cost:.1} × a forwarded packet; {answered} of the first 1000 answered, no memory kept"
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "this measures")]
fn time(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// A Send indication.
fn send(_: &Stage) -> Vec<u8> {
    let mut buffer = [0; 512];
    let id = TransactionId([7; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Indication, Method::SEND, id);
    writer.add(&XorPeerAddress(SocketAddr::from(([82, 0, 0, 1], 5_000)))).add(&Data(&[7; 160]));
    writer.finish().expect("an indication fits").to_vec()
}

fn flood(c: &mut Criterion) {
    let mut group = c.benchmark_group("flood");
    group.throughput(Throughput::Elements(1));
    let request = |method, pretends| move |stage: &Stage| stage.stranger(method, pretends);
    for (name, mut flood) in [
        ("noise", Flood::of(|_| vec![0xFF; 100], true)),
        ("ChannelData", Flood::of(|_| [&[0x40, 0, 0, 96][..], &[7; 96]].concat(), true)),
        ("Send", Flood::of(send, true)),
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
