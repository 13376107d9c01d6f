//! `relay_load`: real media through a release relay and through coturn, in the same run.
//!
//! Builds a row of namespaces ([`site`]), starts both servers there on one core ([`server`]),
//! opens allocations ([`fleet`]) and loads them from the other core ([`traffic`]), server by
//! server in turn, window after window, because the machine is noisy. [`cpu`] reads what the
//! relay's core spent, [`report`] prints medians. Clients on TCP and TLS, and both ends of a TCP
//! relay, are streams that are read here ([`streams`]); those that only stay connected are weighed
//! ([`idle`]); the kernel path alone is saturated ([`saturate`]); packets are timed ([`delays`]);
//! requests are counted ([`requests`]). Everything made here is removed at the end, also after Ctrl-C or a
//! panic.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of packets are far below the 2^53 that a float holds exactly"
)]

mod clock;
mod cpu;
mod delays;
mod fleet;
mod floor;
mod idle;
mod report;
mod requests;
mod saturate;
mod server;
mod site;
mod streams;
mod traffic;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Uid;
use serde_json::json;

use cpu::{Calibration, Spent};
use fleet::Fleet;
use report::{Row, Window};
use server::{Carrier, Kernel, Kind, Mover, Order, Relay, Server};
use site::{Links, Site};
use traffic::{Counted, Direction, Generator, Media, Mode, Scenario};

/// Relay packets through our relay and through coturn, and compare what one core carries.
///
/// Needs root (network namespaces), two cores and Debian's packages coturn, ethtool and
/// iproute2. Build the relay first: cargo build --release.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Args {
    /// Length of each measured window, in seconds; each round has two a server.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Rounds; each measures every server once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Run only scenarios whose name contains this, as in voice, up or video-down-100.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Numbers of allocations.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000", value_parser = allocations)]
    allocations: Vec<usize>,
    /// How clients speak to the servers.
    #[arg(long, value_enum, default_value = "udp")]
    transport: Carrier,
    /// How the servers speak to peers; "tcp" wants --transport tcp or tls.
    #[arg(long, value_enum, default_value = "udp")]
    relay: Relay,
    /// Load nothing: connect this many clients, each with an allocation as far as descriptors
    /// reach, leave them idle, and print the memory of the servers, one after the other.
    #[arg(long, value_name = "CLIENTS", value_parser = clap::value_parser!(u16).range(1..=20_000))]
    idle: Option<u16>,
    /// Saturate the kernel path alone, with frames that the kernel makes, beside a program that only
    /// swaps addresses.
    #[arg(long)]
    saturate: bool,
    /// Load every server with half of what it carries and with twice as much, and print how late
    /// packets arrive, and how many; to clients on UDP.
    #[arg(long)]
    delays: bool,
    /// Relay nothing: let so many clients at once ask for their addresses, then allocate and leave,
    /// again and again, and print what that costs the servers; --only binding or call; on UDP.
    #[arg(long, value_name = "CLIENTS", value_parser = clap::value_parser!(u16).range(1..=1000))]
    requests: Option<u16>,
    /// Measure this server alone.
    #[arg(long, value_name = "ours|kernel|coturn", value_parser = kind)]
    server: Option<Kind>,
    /// How our relay moves media; to clients on streams, what goes to peers and comes from them.
    #[arg(long, value_enum, default_value = "sockets")]
    engine: Mover,
    /// Where the kernel relays.
    #[arg(long, value_enum, default_value = "native")]
    kernel: Kernel,
    /// Packets a second of paced voice. Default: 50000 to clients on UDP, 15000 on streams.
    #[arg(long, value_parser = rate)]
    voice_pps: Option<f64>,
    /// Packets a second of paced video.
    #[arg(long, default_value_t = 40_000.0, value_parser = rate)]
    video_pps: f64,
    /// Packets underway in a flood.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(16..=4096))]
    window: u64,
    /// Core of the servers and of their links' polling.
    #[arg(long, default_value_t = 1)]
    relay_core: usize,
    /// Core of the load.
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// Leave runs to the links to cut, as a card with UDP segmentation offload does.
    #[arg(long)]
    segmentation_offload: bool,
    /// Let servers and load run before everything else: for a machine that is not quiet.
    #[arg(long)]
    real_time: bool,
    /// Our binary; by default the av-edge beside this program.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Write every figure to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Args {
    /// What both servers carry with ease: single packets cost more on a stream.
    fn voice_pps(&self) -> f64 {
        self.voice_pps.unwrap_or(if self.transport == Carrier::Udp { 50_000.0 } else { 15_000.0 })
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    check_surroundings(args)?;
    let binary = binary(args)?;
    let stop = Stop::on_signals()?;
    let folder = tempfile::tempdir()?;
    let far_core = Some(args.load_core);
    let links = Links {
        relay_core: args.relay_core,
        far_core: args.requests.and(far_core),
        segmentation_offload: args.segmentation_offload,
    };
    if args.saturate {
        let site = Site::build("k", Links { far_core, ..links })?;
        site::sh(&format!("renice -n {} -p {}", server::PRIORITY, std::process::id()))?;
        return saturate::saturate(&site, args.load_core, args.rounds, args.seconds);
    }
    let datagrams = args.transport == Carrier::Udp && args.idle.is_none();
    let by_kernel = datagrams && args.requests.is_none();
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| args.server.is_none_or(|only| only == *kind))
        .filter(|kind| *kind != Kind::Kernel || by_kernel);
    let site = Site::build("", links)?;
    // A program at an interface makes everything dearer that goes on from there.
    let of_kernel = by_kernel.then(|| Site::build("k", Links { far_core, ..links })).transpose()?;
    let has_rings = args.engine == Mover::AfXdp;
    let of_rings = has_rings.then(|| Site::build("r", links)).transpose()?;
    let place = |kind| match kind {
        Kind::Ours => of_rings.as_ref().unwrap_or(&site),
        Kind::Kernel => of_kernel.as_ref().unwrap_or(&site),
        Kind::Coturn => &site,
    };
    let order = |kind| Order {
        kind,
        carrier: args.transport,
        relay: args.relay,
        engine: args.engine,
        kernel: args.kernel,
        allocations: most_allocations(args),
        core: args.relay_core,
        // What happens in an overload depends on it: there servers have what they take themselves.
        niceness: if args.delays { "0" } else { server::PRIORITY },
        binary: &binary,
        folder: folder.path(),
    };
    if let Some(clients) = args.idle {
        return idle::weigh(&site, kinds.map(order), clients);
    }
    let servers = kinds
        .map(|kind| Server::start(place(kind), order(kind)))
        .collect::<io::Result<Vec<_>>>()?;
    cpu::pin(args.load_core)?;
    site::sh(&format!("renice -n {} -p {}", server::PRIORITY, std::process::id()))?;
    if args.real_time {
        server::make_real_time(std::process::id())?;
        servers.iter().try_for_each(|server| server::make_real_time(server.id()))?;
    }
    let mut bench = Bench {
        args,
        servers: &servers,
        stop,
        calibration: Calibration::default(),
        next_port: FIRST_PORT,
    };

    if args.delays {
        return delays::measure(&mut bench);
    }
    if let Some(clients) = args.requests {
        return requests::measure(&bench, clients);
    }
    println!("{}", describe(args));
    if by_kernel && args.only.is_empty() {
        floor::measure(args, Links { far_core, ..links })?;
    }
    compare(&mut bench)
}

/// Loads all servers with everything that was asked for.
fn compare(bench: &mut Bench<'_>) -> io::Result<()> {
    let args = bench.args;
    Row::print_heading();
    let mut rows = Vec::new();
    for count in &args.allocations {
        rows.extend(bench.stage(*count)?);
    }
    if let Some(path) = &args.json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        let whole = json!({ "how": describe(args), "rows": rows });
        std::fs::write(path, format!("{whole:#}\n"))?;
    }
    Ok(())
}

/// Says on a terminal what goes on, in place of what was said before.
fn live(words: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{words}");
    }
}

/// The most allocations a server must bear at a time.
fn most_allocations(args: &Args) -> usize {
    let others = args.idle.max(args.requests).unwrap_or(0).into();
    args.allocations.iter().copied().max().unwrap_or(0).max(others)
}

/// What the figures are, in a few lines.
fn describe(args: &Args) -> String {
    let cut = if args.segmentation_offload { "by the link" } else { "on the sender's core" };
    format!(
        "Clients on {}, ours by {}. One core for the relay and its links' polling, another for load and sinks. \
         Medians of {} rounds of {} s, servers in turn.\n\
         pps: flood, {} packets underway. ns/pkt: the relay core's time that is not idle, softirq \
         included, per packet that arrived, at {} voice or {} video packets/s in bursts of {}; \
         thread ns: run time of the server's threads and link pollers alone; kernel: the kernel's \
         part of ours, as a share of coturn's whole: what no code of ours can save with these \
         system calls; in kernel: the same of a relay with [offload], and its share of coturn's.\n\
         voice: 160 B, each packet of a burst to another allocation. video: 1,200 B, a burst to \
         one allocation (UDP_SEGMENT, cut {cut}; on a stream one write). pipe: peers on connections \
         too (RFC 6062), where a packet is as many bytes.",
        args.transport.name(),
        args.engine.name(),
        args.rounds,
        args.seconds,
        args.window,
        args.voice_pps(),
        args.video_pps,
        traffic::BURST,
    )
}

/// Fewer channels say nothing about what one costs.
const ENOUGH_CHANNELS: u32 = 400;

/// First port of clients and peers.
const FIRST_PORT: u16 = 2_000;

/// Everything a measurement needs.
struct Bench<'a> {
    args: &'a Args,
    servers: &'a [Server<'a>],
    stop: Stop,
    calibration: Calibration,
    next_port: u16,
}

impl Bench<'_> {
    /// All scenarios over one number of allocations.
    fn stage(&mut self, allocations: usize) -> io::Result<Vec<Row>> {
        let (carrier, relay) = (self.args.transport, self.args.relay);
        let scenarios: Vec<Scenario> = [Media::Voice, Media::Video]
            .into_iter()
            .flat_map(|media| {
                [Direction::Up, Direction::Down, Direction::Both].map(|direction| Scenario {
                    carrier,
                    relay,
                    media,
                    direction,
                    allocations,
                })
            })
            .filter(|it| it.is_measured() && it.name().contains(&self.args.only))
            .collect();
        if scenarios.is_empty() {
            return Ok(Vec::new());
        }
        let mut fleets = self.fleets(allocations)?;
        self.bind(&mut fleets)?;
        let mut rows = Vec::new();
        for scenario in scenarios {
            fleets.iter_mut().try_for_each(Fleet::renew)?;
            self.set_sinks(scenario, true)?;
            let row = self.row(scenario, &mut fleets);
            self.set_sinks(scenario, false)?;
            let row = row?;
            row.print();
            rows.push(row);
        }
        fleets.into_iter().for_each(Fleet::close);
        Ok(rows)
    }

    /// Clients of every server.
    fn fleets(&mut self, allocations: usize) -> io::Result<Vec<Fleet>> {
        let (relay, transport) = (self.args.relay, self.args.transport.transport()?);
        let mut fleets = Vec::new();
        for server in self.servers {
            let end = self.next_port.saturating_add(u16::try_from(allocations).unwrap_or(u16::MAX));
            let ports = self.next_port..end;
            let spent = || Spent::read(self.args.relay_core, server.id(), &[]);
            let before = spent()?;
            fleets.push(Fleet::open(server.site, (server.kind, relay), &transport, ports)?);
            let each = spent()?.since(before).tasks / u32::try_from(allocations).unwrap_or(1);
            let name = server.kind.name();
            println!("{name}: {} µs an allocation with its channel", each.as_micros());
            self.next_port = end;
        }
        Ok(fleets)
    }

    /// What a channel costs beside those that carry the load, its route in the kernel included.
    fn bind(&self, fleets: &mut [Fleet]) -> io::Result<()> {
        for (server, fleet) in self.servers.iter().zip(fleets) {
            let spent = || Spent::read(self.args.relay_core, server.id(), &[]);
            let before = spent()?;
            let bound = fleet.bind_more()?;
            if bound >= ENOUGH_CHANNELS {
                let each = spent()?.since(before).tasks.as_secs_f64() * 1e6 / f64::from(bound);
                println!("{}: {each:.1} µs a channel of {bound}", server.kind.name());
            }
        }
        Ok(())
    }

    fn set_sinks(&self, scenario: Scenario, dropping: bool) -> io::Result<()> {
        let mut sites = self.servers.iter().map(|server| server.site);
        sites.try_for_each(|site| site.set_sinks(scenario.deaf_rooms(), dropping))
    }

    fn row(&mut self, scenario: Scenario, fleets: &mut [Fleet]) -> io::Result<Row> {
        let mut row = Row { scenario, series: Default::default() };
        for round in 0..self.args.rounds {
            let mut turn: Vec<_> = self.servers.iter().zip(fleets.iter_mut()).collect();
            if round % 2 == 1 {
                turn.reverse();
            }
            for (server, fleet) in turn {
                self.stop.check()?;
                let of = self.args.rounds;
                live(&format!("{}, round {} of {of}", scenario.name(), round + 1));
                let window = self.window(scenario, server, fleet)?;
                row.series[server.kind as usize].0.push(window);
            }
        }
        live("");
        Ok(row)
    }

    /// Paced, then flooded.
    fn window(
        &mut self,
        scenario: Scenario,
        server: &Server<'_>,
        fleet: &mut Fleet,
    ) -> io::Result<Window> {
        let slowness = self.calibration.slowness(self.args.relay_core)?;
        let rate = match scenario.media {
            Media::Voice => self.args.voice_pps(),
            Media::Video => self.args.video_pps,
        };
        let mut generator =
            Generator::new(scenario, fleet, server.site.arrivals(scenario.sinks())?);
        let (paced, spent) = self.measure(&mut generator, Mode::Paced(rate), server)?;
        let flood = Mode::Flood(self.args.window);
        let (flooded, busy) = self.measure(&mut generator, flood, server)?;
        let arrived = paced.arrived.max(1) as f64;
        Ok(Window {
            flood_pps: flooded.arrived as f64 / flooded.took.as_secs_f64(),
            flood_busy: busy.core.as_secs_f64() / flooded.took.as_secs_f64(),
            core_ns: spent.core.as_nanos() as f64 / arrived,
            task_ns: spent.tasks.as_nanos() as f64 / arrived,
            user_share: spent.user.as_secs_f64() / spent.tasks.as_secs_f64().max(1e-9),
            paced_busy: spent.tasks.as_secs_f64() / paced.took.as_secs_f64(),
            loss: 1.0 - paced.arrived as f64 / paced.sent.max(1) as f64,
            slowness,
        })
    }

    fn measure(
        &self,
        generator: &mut Generator<'_>,
        mode: Mode,
        server: &Server<'_>,
    ) -> io::Result<(Counted, Spent)> {
        let spent = || Spent::read(self.args.relay_core, server.id(), &server.site.pollers);
        generator.run(mode, Duration::from_millis(150))?;
        let before = spent()?;
        let counted = generator.run(mode, Duration::from_secs_f64(self.args.seconds))?;
        Ok((counted, spent()?.since(before)))
    }
}

/// Turns Ctrl-C and SIGTERM into an error between two windows, so that all is removed.
struct Stop(SignalFd);

impl Stop {
    fn on_signals() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    fn check(&self) -> io::Result<()> {
        match self.0.read_signal()? {
            Some(_) => Err(io::Error::new(io::ErrorKind::Interrupted, "stopped by a signal")),
            None => Ok(()),
        }
    }
}

/// Whether this machine can measure at all; says what is missing.
fn check_surroundings(args: &Args) -> io::Result<()> {
    if !Uid::effective().is_root() {
        return Err(io::Error::other("needs root: it makes network namespaces and pins threads"));
    }
    let cores = std::thread::available_parallelism()?.get();
    if args.relay_core == args.load_core || args.relay_core.max(args.load_core) >= cores {
        return Err(io::Error::other(format!(
            "--relay-core {} and --load-core {} must be two of this machine's {cores} cores",
            args.relay_core, args.load_core
        )));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    for (tool, package) in [
        ("ip", "iproute2"),
        ("ethtool", "ethtool"),
        ("taskset", "util-linux"),
        ("chrt", "util-linux"),
        ("turnserver", "coturn"),
    ] {
        if !std::env::split_paths(&folders).any(|folder| folder.join(tool).is_file()) {
            return Err(io::Error::other(format!("no {tool} here: install the package {package}")));
        }
    }
    if args.delays && (args.transport != Carrier::Udp || args.idle.is_some()) {
        let wrong = "--delays wants --transport udp, and load: no --idle";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
    }
    if args.requests.is_some() && (args.transport != Carrier::Udp || args.idle.is_some()) {
        let wrong = "--requests wants --transport udp, and no --idle";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
    }
    if args.relay == Relay::Tcp && (args.transport == Carrier::Udp || args.idle.is_some()) {
        let wrong = "--relay tcp wants --transport tcp or tls, and load: no --idle";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Servers inherit it: a client on a stream costs them two descriptors.
    let wanted = 4 * most_allocations(args) as u64 + 1024;
    if soft < wanted {
        // Above the hard limit only where this process may raise that too.
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard))?;
    }
    Ok(())
}

fn binary(args: &Args) -> io::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("av-edge");
    let binary = args.binary.clone().unwrap_or(beside);
    if args.server != Some(Kind::Coturn) && !binary.is_file() {
        return Err(io::Error::other(format!(
            "no relay at {}: run `cargo build --release` first, or give --binary",
            binary.display()
        )));
    }
    Ok(binary)
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.1, 60.0)
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 100.0, 10_000_000.0)
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let fits = (least..=most).contains(&value);
    if fits { Ok(value) } else { Err(format!("must be from {least} to {most}")) }
}

fn allocations(text: &str) -> Result<usize, String> {
    let count: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1..=9000).contains(&count) { Ok(count) } else { Err("must be from 1 to 9000".to_owned()) }
}

fn kind(text: &str) -> Result<Kind, String> {
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == text);
    known.ok_or_else(|| "must be ours, kernel or coturn".to_owned())
}
