//! The two kinds of load, and the two ways to apply it.
//!
//! *Voice* is single packets: each of a burst belongs to another allocation, as a card that
//! moderates interrupts hands over the packets of many callers. *Video* is runs: a frame of as
//! many packets to one allocation, sent with `UDP_SEGMENT`.
//!
//! *Paced* load has a rate both servers carry with ease: what a packet costs. *Flood* keeps a
//! fixed number of packets between sender and sink, so that the relay's core always has work
//! and nothing is lost to overload: how many packets it carries.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use client::load::{Burst, Lane};
use client::transport::Link;
use client::wire::CHANNEL_HEADER;

use crate::clock;
use crate::fleet::Fleet;
use crate::server::{Carrier, Relay};
use crate::site::{Arrivals, Room};
use crate::streams::Readers;

/// Packets of a burst of voice, and of a video frame.
pub(crate) const BURST: usize = 16;

/// Where in a payload stands when it was sent: what comes before could be taken for RTP.
pub(crate) const STAMP_AT: u32 = 8;

/// How long a flood waits for packets that do not come before it calls them lost.
const LOST_AFTER: Duration = Duration::from_millis(20);

/// How late a paced burst may be without changing those after it.
const LATE: Duration = Duration::from_millis(1);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// 160 bytes, one by one, to all allocations in turn.
    Voice,
    /// 1,200 bytes, a frame at a time, to all allocations in turn.
    Video,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Client to peer.
    Up,
    /// Peer to client.
    Down,
    /// A packet one way, a packet the other, of datagrams.
    Both,
}

/// How hard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    /// So many packets a second.
    Paced(f64),
    /// At most so many packets on their way.
    Flood(u64),
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// How clients speak to the server.
    pub(crate) carrier: Carrier,
    /// How the server speaks to peers.
    pub(crate) relay: Relay,
    /// What.
    pub(crate) media: Media,
    /// Which way.
    pub(crate) direction: Direction,
    /// Over how many allocations.
    pub(crate) allocations: usize,
}

impl Scenario {
    /// The name in tables, JSON and `--only`.
    pub(crate) fn name(self) -> String {
        let media = match self.media {
            Media::Voice => "voice",
            Media::Video => "video",
        };
        let direction = match self.direction {
            Direction::Up => "up",
            Direction::Down => "down",
            Direction::Both => "both",
        };
        let carrier = match self.carrier {
            Carrier::Udp => String::new(),
            Carrier::Tcp | Carrier::Tls => format!("{}-", self.carrier.name()),
        };
        let relay = match self.relay {
            Relay::Udp => "",
            Relay::Tcp => "pipe-",
        };
        format!("{carrier}{relay}{media}-{direction}-{}", self.allocations)
    }

    /// Where its packets arrive.
    pub(crate) fn sinks(self) -> &'static [Room] {
        match self.direction {
            Direction::Up => &[Room::Peers],
            Direction::Down => &[Room::Clients],
            Direction::Both => &[Room::Clients, Room::Peers],
        }
    }

    /// Whether it is measured: both ways at once only what costs most, and what no client reads.
    pub(crate) fn is_measured(self) -> bool {
        let plain = self.media == Media::Voice && self.carrier == Carrier::Udp;
        plain || self.direction != Direction::Both
    }

    /// Where packets may be dropped when they have been counted; a stream needs its answers.
    pub(crate) fn deaf_rooms(self) -> &'static [Room] {
        match (self.carrier, self.relay) {
            (_, Relay::Tcp) => &[],
            (Carrier::Udp, Relay::Udp) => &[Room::Clients, Room::Peers],
            (Carrier::Tcp | Carrier::Tls, Relay::Udp) => &[Room::Peers],
        }
    }

    /// Packets of a burst that go to one allocation.
    fn burst(self) -> usize {
        match self.media {
            Media::Voice => 1,
            Media::Video => BURST,
        }
    }

    fn payload_len(self) -> u16 {
        match self.media {
            Media::Voice => 160,
            Media::Video => 1200,
        }
    }
}

/// Sends a scenario's packets and counts those that arrive.
#[derive(Debug)]
pub(crate) struct Generator<'a> {
    scenario: Scenario,
    /// In turn, each with what it sends.
    sources: Vec<(Source<'a>, Burst)>,
    next: usize,
    sink: Sink<'a>,
    /// Whether datagrams say when they were sent.
    stamped: bool,
}

/// Where packets come from.
#[derive(Debug)]
enum Source<'a> {
    Socket(&'a UdpSocket),
    Stream(&'a mut Link),
}

/// Where packets are counted.
#[derive(Debug)]
enum Sink<'a> {
    /// At the far ends of links.
    Devices(Vec<Arrivals>),
    /// Where clients read their streams.
    Readers(Readers<'a>),
}

/// What a window of load came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Packets sent.
    pub(crate) sent: u64,
    /// Packets that arrived.
    pub(crate) arrived: u64,
    /// How long it took.
    pub(crate) took: Duration,
}

impl<'a> Generator<'a> {
    /// Prepares every packet.
    pub(crate) fn new(scenario: Scenario, fleet: &'a mut Fleet, devices: Vec<Arrivals>) -> Self {
        let (sources, sink) = match fleet {
            Fleet::Datagrams(lanes) => datagrams(scenario, lanes, devices),
            Fleet::Pipes(pipes) => {
                let ends = pipes.iter_mut().map(|(pipe, far)| (&mut pipe.data, far));
                let (from, to): (Vec<_>, Vec<_>) = match scenario.direction {
                    Direction::Up => ends.unzip(),
                    Direction::Down | Direction::Both => {
                        ends.map(|(near, far)| (far, near)).unzip()
                    }
                };
                let burst = Burst::plain(scenario.payload_len(), scenario.burst());
                let sources = from.into_iter().map(|link| (Source::Stream(link), burst.clone()));
                let frame = usize::from(scenario.payload_len());
                (sources.collect(), Sink::Readers(Readers::new(to, frame)))
            }
        };
        Self { scenario, sources, next: 0, sink, stamped: false }
    }

    /// Load by these sockets, which nobody answers.
    pub(crate) fn of_sockets(scenario: Scenario, sockets: &'a [UdpSocket]) -> Self {
        let burst = Burst::plain(scenario.payload_len(), scenario.burst());
        let sources = sockets.iter().map(|socket| (Source::Socket(socket), burst.clone()));
        let sink = Sink::Devices(Vec::new());
        Self { scenario, sources: sources.collect(), next: 0, sink, stamped: false }
    }

    /// From now on datagrams of voice say when they were sent.
    pub(crate) fn stamp(&mut self) {
        self.stamped = true;
    }

    /// Sends one burst; returns its packets.
    fn burst(&mut self) -> io::Result<u64> {
        let mut sent = 0;
        while sent < BURST {
            let index = self.next % self.sources.len();
            self.next = index + 1;
            let Some((source, burst)) = self.sources.get_mut(index) else { break };
            if self.stamped {
                stamp(burst);
            }
            let packets = match (source, self.scenario.media) {
                (Source::Socket(socket), Media::Voice) => {
                    burst.message(0).map_or(Ok(0), |message| socket.send(message).map(|_| 1))?
                }
                (Source::Socket(socket), Media::Video) => burst.send_as_run(socket, None)?,
                (Source::Stream(link), _) => {
                    link.send_raw(burst.bytes()).map(|()| burst.count())?
                }
            };
            if let Sink::Readers(readers) = &mut self.sink {
                readers.expect(index, packets);
            }
            sent += packets;
        }
        Ok(sent as u64)
    }

    /// Packets that have arrived, ever.
    fn arrived(&mut self) -> io::Result<u64> {
        match &mut self.sink {
            Sink::Devices(devices) => devices.iter().map(Arrivals::packets).sum(),
            Sink::Readers(readers) => readers.read(),
        }
    }

    /// Applies load for some time.
    pub(crate) fn run(&mut self, mode: Mode, lasting: Duration) -> io::Result<Counted> {
        let before = self.arrived()?;
        let start = clock::now();
        let end = start + lasting;
        let sent = match mode {
            Mode::Paced(rate) => self.paced(rate, end)?,
            Mode::Flood(window) => self.flood(window, end)?,
        };
        let took = clock::now() - start;
        Ok(Counted { sent, arrived: self.arrived()? - before, took })
    }

    fn paced(&mut self, rate: f64, end: Instant) -> io::Result<u64> {
        let pause = Duration::from_secs_f64(BURST as f64 / rate);
        let mut due = clock::now();
        let mut sent = 0;
        while due < end {
            let mut now = clock::now();
            while now < due {
                self.pass_time()?;
                now = clock::now();
            }
            sent += self.burst()?;
            // What could not be sent in time is not made up for: that would be another load.
            due = if now - due > LATE { now } else { due + pause };
        }
        self.settle()?;
        Ok(sent)
    }

    /// Until the next burst: clients on streams read.
    fn pass_time(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Devices(_) => std::hint::spin_loop(),
            Sink::Readers(readers) => drop(readers.read()?),
        }
        Ok(())
    }

    /// Gives what is under way to readers the time to arrive.
    fn settle(&mut self) -> io::Result<()> {
        let until = clock::now() + LOST_AFTER;
        while matches!(&self.sink, Sink::Readers(readers) if readers.waits())
            && clock::now() < until
        {
            self.pass_time()?;
        }
        Ok(())
    }

    fn flood(&mut self, window: u64, end: Instant) -> io::Result<u64> {
        let base = self.arrived()?;
        let (mut sent, mut lost, mut arrived) = (0, 0, 0);
        let mut moved = clock::now();
        loop {
            let now = clock::now();
            if now >= end {
                return Ok(sent);
            }
            let seen = self.arrived()? - base;
            if seen != arrived {
                (arrived, moved) = (seen, now);
            } else if now - moved > LOST_AFTER {
                lost = sent.saturating_sub(arrived);
                moved = now;
            }
            let underway = sent.saturating_sub(arrived + lost);
            if underway + BURST as u64 <= window {
                sent += self.burst()?;
            }
        }
    }
}

/// Writes the time into the payloads.
fn stamp(burst: &mut Burst) {
    let now = clock::since_boot_ns().to_ne_bytes();
    for payload in burst.payloads_mut() {
        if let Some(place) = payload.get_mut(STAMP_AT as usize..STAMP_AT as usize + now.len()) {
            place.copy_from_slice(&now);
        }
    }
}

/// Load on allocations that relay datagrams.
fn datagrams(
    scenario: Scenario,
    lanes: &mut [(Lane, UdpSocket)],
    devices: Vec<Arrivals>,
) -> (Vec<(Source<'_>, Burst)>, Sink<'_>) {
    let (count, len) = (scenario.burst(), scenario.payload_len());
    let streams = scenario.carrier != Carrier::Udp;
    let mut sources = Vec::new();
    let mut links = Vec::new();
    for (lane, peer) in lanes {
        if scenario.direction != Direction::Up {
            sources.push((Source::Socket(peer), Burst::plain(len, count)));
        }
        let burst = Burst::channel(lane.channel, len, count);
        if scenario.direction == Direction::Down {
            links.push(lane.client.link());
        } else if streams {
            sources.push((Source::Stream(lane.client.link()), burst));
        } else if let Some(socket) = lane.client.socket() {
            sources.push((Source::Socket(socket), burst));
        }
    }
    let sink = if streams && scenario.direction == Direction::Down {
        let frame = (CHANNEL_HEADER + usize::from(len)).next_multiple_of(4);
        Sink::Readers(Readers::new(links, frame))
    } else {
        Sink::Devices(devices)
    };
    (sources, sink)
}
