//! How late packets arrive, and what arrives when more is sent than a server carries.
//!
//! First each server is flooded, which tells its capacity. Then it gets half of that, and twice as
//! much, at an even pace. Links are polled first, as by interrupts, but in turn with the server while it
//! gets twice as much, as the kernel does from a certain load on; servers have the niceness they take. Each payload says when it was sent; a program at the far end reads that
//! and counts, so no socket and no thread adds to it. What it tells is the whole way: the call that
//! sends, both links, and the relay between them. The first of these links alone, to nobody who
//! listens, at the same pace, tells how much of it is none of the relay's.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use aya::maps::{Array, MapData};
use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use aya::{Ebpf, EbpfLoader};
use client::wire::CHANNEL_HEADER;

use crate::Bench;
use crate::fleet::Fleet;
use crate::server::{Carrier, Server};
use crate::site::{FAR, LISTEN, NEAR, RELAYED, Room, Site};
use crate::traffic::{BURST, Counted, Direction, Generator, Media, Mode, STAMP_AT, Scenario};

/// The object that `relay/xdp/build` makes of `delay.bpf.c`.
const OBJECT: &[u8] = aya::include_bytes_aligned!("delay.bpf.o");

/// Bytes of a frame before what UDP carries.
const IPV4_UDP: usize = 14 + 20 + 8;

/// A port of the relay's where nobody is.
const NOBODY: u16 = 9;

/// Rooms of a power of two, as `delay.bpf.c` has them.
const STEPS: u32 = 8;

/// What one load came to.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Packets a second, sent and arrived.
    sent: f64,
    arrived: f64,
    /// Of those that arrived, how late half of them were, and one of a hundred.
    middle: Duration,
    late: Duration,
}

/// A server in a round.
#[derive(Clone, Copy, Debug)]
struct Round {
    capacity: f64,
    /// How late one of a hundred packets is at the relay's link.
    link: Duration,
    half: Load,
    double: Load,
}

/// Measures every server in turn and prints a table.
pub(crate) fn measure(bench: &mut Bench<'_>) -> io::Result<()> {
    println!(
        "Voice of 160 B in bursts of 16, each packet to another allocation. pps: flood. Then half of \
         that and twice that, at an even pace: what arrived of it, and how long the median and the \
         99th percentile took from the sending call to the far end; link: the same to the relay's \
         own end of the first link. Medians of {} rounds of {} s, servers in turn.\n\
         {:<20}{:<8}{:>10}{:>12}{:>10}{:>10}{:>13}{:>14}{:>12}{:>10}{:>10}",
        bench.args.rounds,
        bench.args.seconds,
        "scenario",
        "server",
        "pps",
        "half: lost",
        "p50 µs",
        "p99 µs",
        "link: p99 µs",
        "twice: sent",
        "of pps",
        "p50 ms",
        "p99 ms"
    );
    for allocations in bench.args.allocations.clone() {
        let mut fleets = bench.fleets(allocations)?;
        for direction in [Direction::Up, Direction::Down] {
            let (carrier, relay) = (Carrier::Udp, crate::server::Relay::Udp);
            let scenario = Scenario { carrier, relay, media: Media::Voice, direction, allocations };
            if scenario.name().contains(&bench.args.only) {
                fleets.iter_mut().try_for_each(Fleet::renew)?;
                bench.set_sinks(scenario, true)?;
                let outcome = row(bench, scenario, &mut fleets);
                bench.set_sinks(scenario, false)?;
                outcome?;
            }
        }
        fleets.into_iter().for_each(Fleet::close);
    }
    Ok(())
}

fn row(bench: &mut Bench<'_>, scenario: Scenario, fleets: &mut [Fleet]) -> io::Result<()> {
    let mut rounds: Vec<Vec<Round>> = fleets.iter().map(|_| Vec::new()).collect();
    for _ in 0..bench.args.rounds {
        for ((server, fleet), rounds) in bench.servers.iter().zip(&mut *fleets).zip(&mut rounds) {
            bench.stop.check()?;
            rounds.push(round(bench, scenario, server, fleet)?);
        }
    }
    for (server, rounds) in bench.servers.iter().zip(&rounds) {
        let median = |figure: &dyn Fn(&Round) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        let lost = median(&|it| 100.0 * (1.0 - it.half.arrived / it.half.sent));
        let times = |load: fn(&Round) -> Load, unit: f64| {
            let times = [|it: &Load| it.middle, |it: &Load| it.late];
            times.map(|time| median(&|it| time(&load(it)).as_secs_f64() * unit))
        };
        let [half_middle, half_late] = times(|it| it.half, 1e6);
        let [middle, late] = times(|it| it.double, 1e3);
        println!(
            "{:<20}{:<8}{:>10.0}{lost:>10.2} %{half_middle:>10.0}{half_late:>10.0}{:>13.0}{:>14.0}{:>12.2}\
             {middle:>10.2}{late:>10.2}",
            scenario.name(),
            server.kind.name(),
            median(&|it| it.capacity),
            median(&|it| it.link.as_secs_f64() * 1e6),
            median(&|it| it.double.sent),
            median(&|it| it.double.arrived / it.capacity),
        );
    }
    Ok(())
}

fn round(
    bench: &Bench<'_>,
    scenario: Scenario,
    server: &Server<'_>,
    fleet: &mut Fleet,
) -> io::Result<Round> {
    let mut generator = Generator::new(scenario, fleet, server.site.arrivals(scenario.sinks())?);
    let lasting = Duration::from_secs_f64(bench.args.seconds);
    let flood = Mode::Flood(bench.args.window);
    generator.run(flood, lasting / 4)?;
    let flooded = generator.run(flood, lasting)?;
    let capacity = flooded.arrived as f64 / flooded.took.as_secs_f64();
    generator.stamp();
    let [room] = scenario.sinks() else { return Err(io::Error::other("it arrives at two places")) };
    let head = if scenario.direction == Direction::Down { CHANNEL_HEADER } else { 0 };
    let mut load = |share: f64| {
        let pace = Mode::Paced(capacity * share);
        // Queues have found their length by then.
        generator.run(pace, lasting)?;
        let watch = Watch::at(server.site, (*room, FAR), head)?;
        watch.load(generator.run(pace, lasting)?)
    };
    let half = load(0.5)?;
    server.site.poll_first(false)?;
    let double = load(2.0);
    server.site.poll_first(true)?;
    let double = double?;
    let link = link(server.site, scenario, (Mode::Paced(capacity / 2.0), lasting))?;
    Ok(Round { capacity, link, half, double })
}

/// How late one of a hundred packets is that are sent to a port of the relay's where nobody is, when
/// they come to its link.
fn link(
    site: &Site,
    scenario: Scenario,
    (pace, lasting): (Mode, Duration),
) -> io::Result<Duration> {
    let (from, near, to) = match scenario.direction {
        Direction::Up | Direction::Both => (Room::Clients, NEAR[0], LISTEN),
        Direction::Down => (Room::Peers, NEAR[1], RELAYED),
    };
    let open = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((to, NOBODY)).map(|()| socket)
    };
    let sockets =
        site.enter(from, || (0..BURST).map(|_| open()).collect::<io::Result<Vec<_>>>())??;
    let mut generator = Generator::of_sockets(scenario, &sockets);
    generator.stamp();
    let watch = Watch::at(site, (Room::Relay, near), 0)?;
    Ok(watch.load(generator.run(pace, lasting)?)?.late)
}

/// The program at the end of a link; gone when dropped.
struct Watch(Ebpf);

impl Watch {
    /// Looks at what arrives at a device from now on: so many bytes of a head before the payload.
    fn at(site: &Site, (room, device): (Room, &str), head: usize) -> io::Result<Self> {
        let head = u32::try_from(IPV4_UDP + head).map_err(io::Error::other)?;
        let stamp_at = head + STAMP_AT;
        let mut loader = EbpfLoader::new();
        let loader = loader.override_global("stamp_at", &stamp_at, true);
        let mut ebpf = loader.load(OBJECT).map_err(io::Error::other)?;
        let program = ebpf.program_mut("arrive").ok_or_else(lacks)?;
        let program: &mut SchedClassifier = program.try_into().map_err(io::Error::other)?;
        program.load().map_err(io::Error::other)?;
        let attach = || program.attach(device, TcAttachType::Ingress).map_err(io::Error::other);
        site.enter(room, attach)??;
        Ok(Self(ebpf))
    }

    /// What a window came to that began with it.
    fn load(&self, counted: Counted) -> io::Result<Load> {
        let map = self.0.map("delays").ok_or_else(lacks)?;
        let counts: Array<&MapData, u64> = map.try_into().map_err(io::Error::other)?;
        let counts: Vec<u64> = counts.iter().collect::<Result<_, _>>().map_err(io::Error::other)?;
        let all: u64 = counts.iter().sum();
        if all == 0 {
            return Err(io::Error::other("nothing that was stamped has arrived"));
        }
        let percentile = |share: f64| {
            let (mut seen, wanted) = (0, (all as f64 * share).ceil());
            let reached = |count: &u64| {
                seen += count;
                seen as f64 >= wanted
            };
            let room = counts.iter().position(reached).unwrap_or_default();
            upper_end(u32::try_from(room).unwrap_or_default())
        };
        let took = counted.took.as_secs_f64();
        Ok(Load {
            sent: counted.sent as f64 / took,
            arrived: counted.arrived as f64 / took,
            middle: percentile(0.5),
            late: percentile(0.99),
        })
    }
}

/// The longest time that a room counts.
fn upper_end(room: u32) -> Duration {
    let (power, step) = (room / STEPS, room % STEPS);
    let nanoseconds = (f64::from(STEPS + step + 1) / f64::from(STEPS)) * 2_f64.powf(power.into());
    Duration::from_secs_f64(nanoseconds / 1e9)
}

fn lacks() -> io::Error {
    io::Error::other("delay.bpf.o lacks a part: run relay/xdp/build")
}
