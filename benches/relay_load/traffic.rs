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
use std::time::Duration;

use client::load::Burst;

use crate::clock;
use crate::fleet::Fleet;
use crate::site::{Arrivals, Room};

/// Packets of a burst of voice, and of a video frame.
pub(crate) const BURST: usize = 16;

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
        };
        format!("{media}-{direction}-{}", self.allocations)
    }

    /// Where its packets arrive.
    pub(crate) fn sink(self) -> Room {
        match self.direction {
            Direction::Up => Room::Peers,
            Direction::Down => Room::Clients,
        }
    }

    fn payload_len(self) -> u16 {
        match self.media {
            Media::Voice => 160,
            Media::Video => 1200,
        }
    }
}

/// Sends a scenario's packets.
#[derive(Debug)]
pub(crate) struct Generator<'a> {
    scenario: Scenario,
    /// Sockets in turn, each with what it sends.
    sources: Vec<(&'a UdpSocket, Burst)>,
    next: usize,
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
    pub(crate) fn new(scenario: Scenario, fleet: &'a Fleet) -> Self {
        let count = match scenario.media {
            Media::Voice => 1,
            Media::Video => BURST,
        };
        let len = scenario.payload_len();
        let sources =
            fleet.lanes.iter().zip(&fleet.peers).map(|(lane, peer)| match scenario.direction {
                Direction::Up => (
                    lane.client.socket().expect("lanes speak UDP"),
                    Burst::channel(lane.channel, len, count),
                ),
                Direction::Down => (peer, Burst::plain(len, count)),
            });
        Self { scenario, sources: sources.collect(), next: 0 }
    }

    /// Sends one burst; returns its packets.
    fn burst(&mut self) -> io::Result<u64> {
        let mut sent = 0;
        while sent < BURST {
            let index = self.next % self.sources.len();
            self.next = index + 1;
            let Some((socket, burst)) = self.sources.get(index) else { break };
            sent += match self.scenario.media {
                Media::Voice => {
                    burst.message(0).map_or(Ok(0), |message| socket.send(message).map(|_| 1))?
                }
                Media::Video => burst.send_as_run(socket, None)?,
            };
        }
        Ok(sent as u64)
    }

    /// Applies load for some time.
    pub(crate) fn run(
        &mut self,
        mode: Mode,
        sink: &Arrivals,
        lasting: Duration,
    ) -> io::Result<Counted> {
        let before = sink.packets()?;
        let start = clock::now();
        let end = start + lasting;
        let sent = match mode {
            Mode::Paced(rate) => self.paced(rate, end)?,
            Mode::Flood(window) => self.flood(window, sink, end)?,
        };
        let took = clock::now() - start;
        Ok(Counted { sent, arrived: sink.packets()? - before, took })
    }

    fn paced(&mut self, rate: f64, end: std::time::Instant) -> io::Result<u64> {
        let pause = Duration::from_secs_f64(BURST as f64 / rate);
        let mut due = clock::now();
        let mut sent = 0;
        while due < end {
            let mut now = clock::now();
            while now < due {
                std::hint::spin_loop();
                now = clock::now();
            }
            sent += self.burst()?;
            // What could not be sent in time is not made up for: that would be another load.
            due = if now - due > LATE { now } else { due + pause };
        }
        Ok(sent)
    }

    fn flood(&mut self, window: u64, sink: &Arrivals, end: std::time::Instant) -> io::Result<u64> {
        let base = sink.packets()?;
        let (mut sent, mut lost, mut arrived) = (0, 0, 0);
        let mut moved = clock::now();
        loop {
            let now = clock::now();
            if now >= end {
                return Ok(sent);
            }
            let seen = sink.packets()? - base;
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
