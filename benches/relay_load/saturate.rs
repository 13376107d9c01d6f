//! The kernel path alone, saturated: what one core pays for a packet, beside the least that an
//! answer can cost.
//!
//! Frames are made in the kernel on one core, as fast as it can, and sent over a link to the relay's
//! core, where a program stands at the interface: ours with some routes, or one that swaps
//! addresses and ports and sends back. What a frame costs is the run time of the kernel thread that polls the
//! link, for each frame that the program passed on. Programs take turns, round by round.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, TestRun, TestRunAttrs, TestRunOptions};
use nix::net::if_::if_nametoindex;
use proto::addr::{ClientAddr, FiveTuple, ListenerId, PeerAddr, RelayedAddr};
use proto::channel_data::{self, ChannelNumber};
use proto::turn::Route;
use relay::offload::{
    Direction, Entry, Hop, Mode, PASSED, Program, Reading, Room as Space, Terms, ways_of,
};

use crate::clock;
use crate::cpu;
use crate::site::{FAR, Room, Site};

/// The object that `relay/xdp/build` makes of `saturate.bpf.c`.
const OBJECT: &[u8] = aya::include_bytes_aligned!("saturate.bpf.o");

/// Numbers of routes, each frame by the next of them.
const ROUTES: [u16; 3] = [1, 1_000, MOST];
const MOST: u16 = 10_000;

/// The first port of clients and of relayed addresses: each route has the next.
const FIRST_PORT: u16 = 10_000;

/// Frames of one call that makes them, and at once.
const RUN: u32 = 1 << 16;
const BATCH: u32 = 64;

/// The relay's end of the link.
const NEAR: &str = "avlc";

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    direction: Direction,
    v6: bool,
    payload: u16,
}

/// What stands at the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Reflect,
    Relay(u16),
}

/// What cores and programs did in one window.
#[derive(Clone, Copy, Debug, Default)]
struct Did {
    /// Nanoseconds a frame that was passed on.
    ns: f64,
    /// Frames a second.
    pps: f64,
    /// Share of the core.
    busy: f64,
}

/// Measures all of it and prints a table.
pub(crate) fn saturate(site: &Site, load_core: usize, rounds: u16, seconds: f64) -> io::Result<()> {
    println!(
        "One core polls the link, another makes frames in the kernel. ns/pkt: run time of the \
         poller for a frame that was passed on; medians of {rounds} rounds of {seconds} s, programs in turn.\n\
         {:<24}{:>12}{:>20}{:>20}{:>20}{:>22}",
        "scenario", "reflect ns", "1 route", "1,000 routes", "10,000 routes", "pps, 10,000 (busy)"
    );
    for v6 in [false, true] {
        let scenario = Scenario { direction: Direction::ToPeer, v6, payload: 0 };
        let (program, _) = site.enter(Room::Relay, || relay_by(scenario, MOST))??;
        let bytes = program.memory().map_err(io::Error::other)? / u64::from(MOST);
        println!("A route over IPv{} takes {bytes} bytes.", if v6 { 6 } else { 4 });
    }
    for v6 in [false, true] {
        for payload in [160, 1_200] {
            for direction in [Direction::ToPeer, Direction::ToClient] {
                let scenario = Scenario { direction, v6, payload };
                row(site, scenario, load_core, (rounds, seconds))?;
            }
        }
    }
    Ok(())
}

fn row(
    site: &Site,
    scenario: Scenario,
    load_core: usize,
    (rounds, seconds): (u16, f64),
) -> io::Result<()> {
    let all = [Stands::Reflect].into_iter().chain(ROUTES.map(Stands::Relay));
    let mut windows: Vec<(Stands, Vec<Did>)> = all.map(|it| (it, Vec::new())).collect();
    for _ in 0..rounds {
        for (stands, windows) in &mut windows {
            windows.push(window(site, scenario, *stands, (load_core, seconds))?);
        }
    }
    let medians: Vec<Did> = windows.iter().map(|(_, windows)| median(windows)).collect();
    let [reflect, relays @ ..] = &medians[..] else { return Ok(()) };
    let name = format!(
        "{} IPv{} {} B",
        if scenario.direction == Direction::ToPeer { "up" } else { "down" },
        if scenario.v6 { 6 } else { 4 },
        scenario.payload
    );
    print!("{name:<24}{:>12.0}", reflect.ns);
    for relay in relays {
        print!("{:>20}", format!("{:.0} (x{:.2})", relay.ns, relay.ns / reflect.ns));
    }
    let most = relays.last().copied().unwrap_or_default();
    println!("{:>22}", format!("{:.0} ({:.0} %)", most.pps, most.busy * 100.0));
    Ok(())
}

/// Of each figure the median.
fn median(windows: &[Did]) -> Did {
    let middle = |figure: fn(&Did) -> f64| {
        let mut figures: Vec<f64> = windows.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    Did { ns: middle(|it| it.ns), pps: middle(|it| it.pps), busy: middle(|it| it.busy) }
}

fn window(
    site: &Site,
    scenario: Scenario,
    stands: Stands,
    (load_core, seconds): (usize, f64),
) -> io::Result<Did> {
    let mut reflector = load(EbpfLoader::new())?;
    let ours = match stands {
        Stands::Reflect => {
            site.enter(Room::Relay, || attach(&mut reflector, "reflect", NEAR))??;
            None
        }
        Stands::Relay(routes) => Some(site.enter(Room::Relay, || relay_by(scenario, routes))??),
    };
    let flows = match stands {
        Stands::Reflect => 1,
        Stands::Relay(routes) => routes,
    };
    let mut sink = load(EbpfLoader::new())?;
    site.enter(Room::Clients, || attach(&mut sink, "arrive", FAR))??;
    let frame = scenario.frame();
    let generator = site.enter(Room::Clients, || scenario.generator(&frame, flows))??;
    let readings = || {
        let of = |(program, slots): &(Program, Range<u32>)| {
            let meter = program.meter();
            slots.clone().map(|slot| meter.reading(slot)).collect()
        };
        ours.as_ref().map_or_else(Vec::new, of)
    };
    let passed = |before: &[Reading]| match &ours {
        None => counted(&reflector),
        Some(_) => Ok(readings().iter().zip(before).map(|(it, was)| it.since(*was).packets).sum()),
    };
    let measured = site.enter(Room::Clients, || {
        cpu::pin(load_core)?;
        fire(&generator, &frame, Duration::from_millis(50))?;
        let first = readings();
        let before = (passed(&first)?, cpu::run_time_of(&site.pollers), clock::now());
        fire(&generator, &frame, Duration::from_secs_f64(seconds))?;
        Ok::<_, io::Error>((
            passed(&first)? - before.0,
            cpu::run_time_of(&site.pollers).saturating_sub(before.1),
            clock::now() - before.2,
        ))
    })?;
    let (frames, spent, took) = measured?;
    if frames == 0 {
        return Err(io::Error::other(format!("{scenario:?}: {stands:?} passed nothing on")));
    }
    Ok(Did {
        ns: spent.as_nanos() as f64 / frames as f64,
        pps: frames as f64 / took.as_secs_f64(),
        busy: spent.as_secs_f64() / took.as_secs_f64(),
    })
}

/// Makes frames for so long.
fn fire(generator: &Ebpf, frame: &[u8], lasting: Duration) -> io::Result<()> {
    let program = generator.program("generate").ok_or_else(lacks)?;
    let program: &Xdp = program.try_into().map_err(io::Error::other)?;
    let end = clock::now() + lasting;
    while clock::now() < end {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: RUN,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        program.test_run(options).map_err(io::Error::other)?;
    }
    Ok(())
}

impl Scenario {
    /// Who sends, and to which address of ours; of the first route.
    fn ends(self) -> [SocketAddr; 2] {
        let (client, listener, relayed, peer) = self.addresses(0);
        match self.direction {
            Direction::ToPeer => [client, listener],
            Direction::ToClient => [peer, relayed],
        }
    }

    /// Client, listener, relayed address and peer of a numbered route, all on one link.
    fn addresses(self, number: u16) -> (SocketAddr, SocketAddr, SocketAddr, SocketAddr) {
        let ip = |host: u8| {
            if self.v6 {
                IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(host)])
            } else {
                IpAddr::from([10, 77, 1, host])
            }
        };
        let [far, near] = [ip(2), ip(1)];
        let port = FIRST_PORT + number;
        ((far, port).into(), (near, 3_478).into(), (near, port).into(), (far, 5_000).into())
    }

    /// A frame of the first route.
    fn frame(self) -> Vec<u8> {
        let [from, to] = self.ends();
        let head = match self.direction {
            Direction::ToPeer => channel_data::header(number(), self.payload).to_vec(),
            Direction::ToClient => Vec::new(),
        };
        let length = if head.is_empty() { 8 } else { 12 } + self.payload;
        let payload = [head, vec![0x80; self.payload.into()]].concat();
        let mut ip = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut ip = [&[0x45, 0][..], &(20 + length).to_be_bytes()].concat();
                ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
                ip.extend([from.octets(), to.octets()].concat());
                let check = (!sum(&ip)).to_be_bytes();
                ip[10..12].copy_from_slice(&check);
                ip
            }
            (from, to) => {
                let octets = |ip| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                let mut ip = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[17, 64]].concat();
                ip.extend([octets(from), octets(to)].concat());
                ip
            }
        };
        let addresses = ip[if self.v6 { 8 } else { 12 }..].to_vec();
        let mut udp = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(payload);
        let pseudo = [&addresses[..], &[0, 17], &length.to_be_bytes(), &udp].concat();
        let check = (!sum(&pseudo)).to_be_bytes();
        udp[6..8].copy_from_slice(&check);
        let mut frame = [NEAR_MAC, FAR_MAC].concat();
        frame.extend(if self.v6 { [0x86, 0xDD] } else { [8, 0] });
        frame.append(&mut ip);
        frame.append(&mut udp);
        frame
    }

    /// The program that makes frames of so many routes.
    fn generator(self, frame: &[u8], flows: u16) -> io::Result<Ebpf> {
        let udp: u32 = 14 + if self.v6 { 40 } else { 20 };
        let head: [u8; 80] = *frame.first_chunk().ok_or_else(lacks)?;
        let port_at = udp + if self.direction == Direction::ToPeer { 0 } else { 2 };
        let leaves_by = if_nametoindex(FAR)?;
        let check_at = udp + 6;
        let flows = u32::from(flows);
        let mut loader = EbpfLoader::new();
        loader
            .override_global("head", &head, true)
            .override_global("port_at", &port_at, true)
            .override_global("check_at", &check_at, true)
            .override_global("flows", &flows, true)
            .override_global("leaves_by", &leaves_by, true);
        let mut generator = load(loader)?;
        xdp(&mut generator, "generate")?.load().map_err(io::Error::other)?;
        Ok(generator)
    }
}

const NEAR_MAC: [u8; 6] = [2, 0, 10, 77, 1, 1];
const FAR_MAC: [u8; 6] = [2, 0, 10, 77, 1, 2];

fn number() -> ChannelNumber {
    ChannelNumber::new(0x4001).expect("a channel")
}

/// Our program at the interface, with so many routes; and the slots they are counted in.
fn relay_by(scenario: Scenario, routes: u16) -> io::Result<(Program, Range<u32>)> {
    let legs = u32::from(routes) * 2;
    let over = if scenario.v6 { [0, legs] } else { [legs, 0] };
    let ways = ways_of(legs);
    let space = Space { legs, over, ways, limits: 0 };
    let mut program = Program::load(Mode::Native, space).map_err(io::Error::other)?;
    let ifindex = program.attach(NEAR).map_err(io::Error::other)?;
    let mut doors = program.legs(0..ways).map_err(io::Error::other)?;
    let hop = Hop {
        ifindex,
        from_mac: NEAR_MAC,
        to_mac: FAR_MAC,
        vlan: 0,
        // The other end has a program, so it is told.
        is_cable: false,
        mtu: 1_500,
    };
    // Before those of legs are those of reasons.
    let first = u32::try_from(PASSED.len()).map_err(io::Error::other)?;
    let mut slots = first..;
    for index in 0..routes {
        let (client, listener, relayed, peer) = scenario.addresses(index);
        let route = Route {
            client: FiveTuple { listener: ListenerId(0), client: ClientAddr::new(client) },
            channel: Some(number()),
            relayed: RelayedAddr::new(relayed),
            peer: PeerAddr::new(peer),
            hairpin: false,
            expires: far_away(),
        };
        for direction in [Direction::ToPeer, Direction::ToClient] {
            let slot = slots.next().ok_or_else(lacks)?;
            let terms = Terms { slot, limit: 0, expires: u64::MAX };
            let entry = Entry::new((&route, listener), direction, &hop, terms);
            doors.set(clock::now(), &mut None, Some(entry)).map_err(io::Error::other)?;
        }
    }
    Ok((program, first..first + legs))
}

fn far_away() -> Instant {
    clock::now() + Duration::from_secs(3_600)
}

fn load(mut loader: EbpfLoader<'_>) -> io::Result<Ebpf> {
    loader.load(OBJECT).map_err(io::Error::other)
}

fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> io::Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).ok_or_else(lacks)?;
    program.try_into().map_err(io::Error::other)
}

fn attach(ebpf: &mut Ebpf, name: &str, interface: &str) -> io::Result<()> {
    let program = xdp(ebpf, name)?;
    program.load().map_err(io::Error::other)?;
    program.attach(interface, XdpMode::Driver).map_err(io::Error::other)?;
    Ok(())
}

/// The program that sends back, at a device of the calling thread's namespace; gone when dropped.
#[derive(Debug)]
pub(crate) struct Reflector(Ebpf);

impl Reflector {
    /// Puts it there.
    pub(crate) fn at(device: &str) -> io::Result<Self> {
        let mut ebpf = load(EbpfLoader::new())?;
        attach(&mut ebpf, "reflect", device)?;
        Ok(Self(ebpf))
    }

    /// Frames that it has sent back.
    pub(crate) fn count(&self) -> io::Result<u64> {
        counted(&self.0)
    }
}

/// Frames that were reflected.
fn counted(ebpf: &Ebpf) -> io::Result<u64> {
    let map: &Map = ebpf.map("counts").ok_or_else(lacks)?;
    let counts: Array<&MapData, u64> = map.try_into().map_err(io::Error::other)?;
    counts.get(&0, 0).map_err(io::Error::other)
}

fn lacks() -> io::Error {
    io::Error::other("saturate.bpf.o lacks a part: run relay/xdp/build")
}

/// The ones' complement sum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let word = |word: &[u8]| {
        let [high, low] = [word.first(), word.get(1)].map(|octet| octet.copied().unwrap_or(0));
        u64::from(u16::from_be_bytes([high, low]))
    };
    let sum: u64 = bytes.chunks(2).map(word).sum();
    // Folded as often as it takes, the sum is its remainder.
    match u16::try_from(sum % 0xFFFF) {
        Ok(0) if sum > 0 => 0xFFFF,
        Ok(sum) => sum,
        Err(_) => 0,
    }
}
