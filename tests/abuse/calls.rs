//! Honest calls that go on while a server is attacked: one over UDP, one over TCP.
//!
//! Each sends a numbered packet through its channel every [`PACE`], and its peer sends it back.
//! What has not come back when the attacks are over, and a moment later, is lost.

use std::collections::HashSet;
use std::fmt::{Display, Formatter};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::{AllocateOptions, Event, TurnClient};

use super::target::Target;
use rig::clock;

/// Time between packets, as in voice with short frames.
const PACE: Duration = Duration::from_millis(10);

/// How long a packet may take that is not lost.
const GRACE: Duration = Duration::from_secs(1);

/// How long they go on at least, however soon the work is done.
const LEAST: Duration = Duration::from_secs(2);

/// After how many packets permission, channel and allocation are renewed.
const RENEWAL: u32 = 6_000;

/// The lifetime that is asked for.
const LIFETIME: Duration = Duration::from_secs(600);

/// Calls that are set up, and carry nothing yet.
pub(super) struct Calls(Vec<Call>);

/// A client with a channel to a peer.
struct Call {
    client: TurnClient,
    peer: UdpSocket,
    channel: u16,
}

impl Calls {
    /// Those of an honest client through a server.
    pub(super) fn through(target: &Target) -> Self {
        let over_udp = target.guest("10.25.1.2", "honest");
        let over_tcp = target.caller("10.25.1.2", "honest");
        let call = |mut client: TurnClient| {
            client.allocate(&AllocateOptions::default()).expect("an allocation");
            let (peer, at) = target.peer();
            let channel = client.bind_channel(at).expect("a channel");
            Call { client, peer, channel }
        };
        Self([over_udp, over_tcp].map(call).into())
    }
}

/// What became of the calls' packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    sent: usize,
    lost: usize,
}

impl Lost {
    fn and(self, other: Self) -> Self {
        Self { sent: self.sent + other.sent, lost: self.lost + other.lost }
    }

    /// Whether calls went on, and lost nothing.
    pub(super) fn is_proof(self) -> bool {
        self.sent >= 100 && self.lost == 0
    }
}

impl Display for Lost {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} packets lost", self.lost, self.sent)
    }
}

/// Ends calls, even where the work beside them fails.
struct HangUp<'a>(&'a AtomicBool);

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does some work while calls go on.
pub(super) fn beside<T>(calls: Calls, work: impl FnOnce() -> T) -> (T, Lost) {
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let calls: Vec<_> =
            calls.0.into_iter().map(|call| scope.spawn(move || call.talk(over))).collect();
        let enough = clock::now() + LEAST;
        let hang_up = HangUp(over);
        let done = work();
        clock::rest_until(enough);
        drop(hang_up);
        let lost = calls.into_iter().map(|call| call.join().expect("a call ends"));
        (done, lost.fold(Lost::default(), Lost::and))
    })
}

impl Call {
    /// Goes on until it is over.
    fn talk(mut self, over: &AtomicBool) -> Lost {
        let hung_up = AtomicBool::new(false);
        let peer = self.peer.try_clone().expect("a second handle");
        thread::scope(|scope| {
            scope.spawn(|| echo(&peer, &hung_up));
            let (mut sent, mut underway) = (0_u32, HashSet::new());
            let mut due = clock::now();
            while !over.load(Ordering::Relaxed) {
                if sent % RENEWAL == RENEWAL - 1 {
                    self.renew();
                }
                underway.insert(sent);
                // What could not even be sent never comes back, and is lost.
                drop(self.client.send_channel(self.channel, &sent.to_be_bytes()));
                sent += 1;
                due = (due + PACE).max(clock::now());
                self.hear(due, &mut underway);
            }
            let end = clock::now() + GRACE;
            while !underway.is_empty() && clock::now() < end {
                self.hear(clock::now() + PACE, &mut underway);
            }
            hung_up.store(true, Ordering::Relaxed);
            Lost { sent: sent as usize, lost: underway.len() }
        })
    }

    fn renew(&mut self) {
        let at = self.peer.local_addr().expect("it is bound");
        self.client.bind_channel(at).expect("the channel is renewed");
        self.client.refresh(LIFETIME).expect("the allocation is renewed");
    }

    /// Strikes off what comes back until a moment.
    fn hear(&mut self, until: Instant, underway: &mut HashSet<u32>) {
        loop {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return;
            }
            match self.client.recv(left) {
                Ok(Some(Event::Data { payload, .. })) => {
                    if let Ok(number) = <[u8; 4]>::try_from(&payload[..]) {
                        underway.remove(&u32::from_be_bytes(number));
                    }
                }
                Ok(Some(Event::Other(_))) => {}
                Ok(None) => return,
                Err(_) => return clock::rest_until(until),
            }
        }
    }
}

/// Sends back what comes.
fn echo(peer: &UdpSocket, hung_up: &AtomicBool) {
    let mut bytes = [0; 2048];
    while !hung_up.load(Ordering::Relaxed) {
        if let Ok((length, from)) = peer.recv_from(&mut bytes) {
            drop(peer.send_to(&bytes[..length], from));
        }
    }
}
