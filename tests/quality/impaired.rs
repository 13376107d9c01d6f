//! A link in user space that loses, doubles, delays and reorders, by a seed.
//!
//! Datagrams of one direction come to a socket and leave from it toward the other end; media is
//! treated badly, everything else is passed on at once. What left when is written down: that is
//! what arrives behind the link.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rig::Link;
use rig::dice::Dice;

use crate::rtp::{Seen, Source};
use rig::clock;

/// A link at work. Whoever sends to [`Impaired::address`] reaches the other end, and is answered
/// from there.
pub(crate) struct Impaired {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Seen>>,
}

/// What a link knows.
pub(crate) struct Plan {
    pub(crate) link: Link,
    pub(crate) seed: u64,
    /// Where it leads.
    pub(crate) to: SocketAddr,
    /// What is treated badly on the way there.
    pub(crate) source: Source,
    /// When the test began.
    pub(crate) begin: Instant,
}

/// A datagram under way.
type Flight = Reverse<(Instant, u64, Vec<u8>)>;

impl Impaired {
    /// A link that begins at this address.
    pub(crate) fn begin(at: IpAddr, plan: Plan) -> Self {
        let socket = UdpSocket::bind((at, 0)).expect("a socket of the link");
        let address = socket.local_addr().expect("it is bound");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || Carrier::new(socket, plan).carry(&stopped));
        Self { address, stop, thread }
    }

    /// Ends the link once nothing is under way; what left it toward the other end, in order.
    pub(crate) fn end(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the link")
    }
}

struct Carrier {
    socket: UdpSocket,
    plan: Plan,
    dice: Dice,
    air: BinaryHeap<Flight>,
    /// Who begins at this end.
    near: Option<SocketAddr>,
    flights: u64,
    left: Vec<Seen>,
}

impl Carrier {
    fn new(socket: UdpSocket, plan: Plan) -> Self {
        let dice = Dice::seeded(plan.seed);
        let air = BinaryHeap::new();
        Self { socket, plan, dice, air, near: None, flights: 0, left: Vec::new() }
    }

    fn carry(mut self, stop: &AtomicBool) -> Vec<Seen> {
        let mut buffer = [0; 2_048];
        while !stop.load(Ordering::Relaxed) || !self.air.is_empty() {
            self.launch_due();
            let next = self.air.peek().map(|Reverse((at, ..))| *at);
            let idle = Duration::from_millis(20);
            let wait = next.map_or(idle, |at| at.saturating_duration_since(clock::now()).min(idle));
            let wait = wait.max(Duration::from_micros(50));
            self.socket.set_read_timeout(Some(wait)).expect("a timeout that is not zero");
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => self.take(&buffer[..len], from),
                Err(error) if is_late(&error) => {}
                Err(error) => panic!("the link: {error}"),
            }
        }
        self.left
    }

    fn take(&mut self, bytes: &[u8], from: SocketAddr) {
        if from == self.plan.to {
            let near = self.near.expect("nobody is answered who did not ask");
            self.socket.send_to(bytes, near).expect("the way back is open");
            return;
        }
        self.near = Some(from);
        if !self.is_media(bytes) {
            self.socket.send_to(bytes, self.plan.to).expect("the way there is open");
            return;
        }
        let now = clock::now();
        for time in self.plan.link.carry(&mut self.dice) {
            self.flights += 1;
            self.air.push(Reverse((now + time, self.flights, bytes.to_vec())));
        }
    }

    fn launch_due(&mut self) {
        while let Some(Reverse((at, ..))) = self.air.peek()
            && *at <= clock::now()
        {
            let Some(Reverse((_, _, bytes))) = self.air.pop() else { return };
            let at = clock::now().saturating_duration_since(self.plan.begin);
            self.socket.send_to(&bytes, self.plan.to).expect("the way there is open");
            let place = place(self.plan.source, &bytes).expect("only media is under way");
            self.left.push(Seen { place, at });
        }
    }

    fn is_media(&self, bytes: &[u8]) -> bool {
        place(self.plan.source, bytes).is_some()
    }
}

/// The place of a packet, bare or behind the header of ChannelData.
fn place(source: Source, bytes: &[u8]) -> Option<u64> {
    source.place(bytes).or_else(|| source.place(bytes.get(4..)?))
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
