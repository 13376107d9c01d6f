//! The call: two clients, an allocation each, one voice stream there and back.
//!
//! The caller sends the clip in real time; it travels caller → relay → relay → far end. The far
//! end, a thread of its own, verifies and decrypts each packet, encrypts the voice anew under its
//! own key and sends it back the same way. Both relayed addresses belong to one relay, so the
//! default peer policy holds without an exception. Each end keeps a [`Ledger`] of every packet.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use client::{AllocateOptions, Allocation, ClientError, Credentials, Event, TurnClient};

use super::ledger::{Comparison, Ledger};
use super::srtp::{Key, Receiver, Sender, SrtpError};
use super::voice;
use crate::clock;

/// How long the last echoes may take; a busy machine delays packets without losing them.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the far end listens before it looks whether the call is over.
const GLANCE: Duration = Duration::from_millis(20);

/// Time between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Reports that a rate looks back.
const RATE_REPORTS: usize = 10;

/// What stopped a call.
#[derive(Debug)]
pub(crate) enum CallError {
    /// A request to the relay.
    Client {
        /// Whose.
        who: &'static str,
        /// What it wanted.
        what: &'static str,
        /// What came of it.
        error: ClientError,
    },
    /// A socket.
    Io(io::Error),
    /// The cipher.
    Srtp(SrtpError),
    /// The far end's thread ended early.
    FarEnd,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { who, what, error } => write!(f, "the {who} could not {what}: {error}"),
            Self::Io(error) => write!(f, "a socket of the call failed: {error}"),
            Self::Srtp(error) => error.fmt(f),
            Self::FarEnd => f.write_str("the far end's thread panicked"),
        }
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<SrtpError> for CallError {
    fn from(error: SrtpError) -> Self {
        Self::Srtp(error)
    }
}

/// One end: its client, its allocation, its channel to the other end.
pub(crate) struct End {
    who: &'static str,
    client: TurnClient,
    allocation: Allocation,
    channel: u16,
}

impl End {
    /// Allocates.
    fn open(
        who: &'static str,
        server: SocketAddr,
        credentials: Credentials,
    ) -> Result<Self, CallError> {
        let mut client = TurnClient::connect(server, credentials)?;
        let allocation = client
            .allocate(&AllocateOptions::default())
            .map_err(|error| CallError::Client { who, what: "get an allocation", error })?;
        Ok(Self { who, client, allocation, channel: 0 })
    }

    /// Binds a channel to the other end's relayed address; that also permits it to answer.
    fn reach(&mut self, other: SocketAddr) -> Result<(), CallError> {
        let bound = self.client.bind_channel(other);
        self.channel = bound.map_err(|error| CallError::Client {
            who: self.who,
            what: "bind a channel",
            error,
        })?;
        Ok(())
    }

    /// The relayed address.
    pub(crate) fn relayed(&self) -> SocketAddr {
        self.allocation.relayed
    }

    /// The client's address as the relay sees it.
    pub(crate) fn mapped(&self) -> SocketAddr {
        self.allocation.mapped
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.client.send_channel(self.channel, packet)
    }

    /// The next packet of the other end, if one comes in time. Anything else is ignored: it is
    /// not in a ledger, so it cannot pass for a packet.
    fn receive(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        match self.client.recv(timeout)? {
            Some(Event::Data { channel: Some(channel), payload, .. })
                if channel == self.channel =>
            {
                Ok(Some(payload))
            }
            Some(Event::Data { .. } | Event::Other(_)) | None => Ok(None),
        }
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Time since the first packet.
    pub(crate) elapsed: Duration,
    /// Packets the caller sent.
    pub(crate) sent: usize,
    /// Packets of the whole clip.
    pub(crate) of: usize,
    /// Packets that came back to the caller.
    pub(crate) returned: usize,
    /// Bits a second of SRTP toward the far end, over the last second.
    pub(crate) there_bit_s: f64,
    /// Bits a second of SRTP back.
    pub(crate) back_bit_s: f64,
    /// The latest round trip through the relay, four legs.
    pub(crate) round_trip: Option<Duration>,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Caller to far end.
    pub(crate) there: Comparison,
    /// Far end to caller.
    pub(crate) back: Comparison,
    /// Whether the voice the far end decrypted equals the clip.
    pub(crate) far_end_heard_clip: bool,
    /// Whether the voice the caller decrypted equals the clip.
    pub(crate) caller_heard_clip: bool,
    /// Packets that failed SRTP's own check, at either end.
    pub(crate) rejected: u32,
    /// Round trips, shortest first.
    pub(crate) round_trips: Vec<Duration>,
}

impl Outcome {
    /// Whether nothing was lost, altered or misheard.
    pub(crate) fn is_perfect(&self) -> bool {
        self.there.is_perfect()
            && self.back.is_perfect()
            && self.far_end_heard_clip
            && self.caller_heard_clip
            && self.rejected == 0
    }

    /// The round trip below which this share of the packets stayed.
    pub(crate) fn round_trip(&self, share: f64) -> Option<Duration> {
        let last = self.round_trips.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a few hundred packets"
        )]
        let index = (last as f64 * share).round() as usize;
        self.round_trips.get(index).copied()
    }
}

/// A call that is set up and has not begun.
pub(crate) struct Call {
    caller: End,
    far_end: End,
}

impl Call {
    /// Makes both allocations and lets each end reach the other.
    pub(crate) fn set_up(
        server: SocketAddr,
        credentials: [Credentials; 2],
    ) -> Result<Self, CallError> {
        let [caller, far_end] = credentials;
        let mut caller = End::open("caller", server, caller)?;
        let mut far_end = End::open("far end", server, far_end)?;
        caller.reach(far_end.relayed())?;
        far_end.reach(caller.relayed())?;
        Ok(Self { caller, far_end })
    }

    /// The end that speaks first.
    pub(crate) fn caller(&self) -> &End {
        &self.caller
    }

    /// The end that answers.
    pub(crate) fn far_end(&self) -> &End {
        &self.far_end
    }

    /// Speaks the clip and listens to it coming back. The allocations stay.
    pub(crate) fn talk(&mut self, mut report: impl FnMut(&Progress)) -> Result<Outcome, CallError> {
        let [there, back] = [Key::generate()?, Key::generate()?];
        let sender = Sender::new(&there)?;
        let ear = Ear::new(&there, sender.next_sequence())?;
        let voice = Sender::new(&back)?;
        let caller_ear = Ear::new(&back, voice.next_sequence())?;
        let over = AtomicBool::new(false);
        let far_end = &mut self.far_end;
        let caller = Caller::new(&mut self.caller, sender, caller_ear);
        thread::scope(|scope| {
            let far_end = scope.spawn(|| echo(far_end, ear, voice, &over));
            let caller = caller.talk(&mut report);
            over.store(true, Ordering::Release);
            let (far_ear, far_sent) = far_end.join().map_err(|_| CallError::FarEnd)??;
            let caller = caller?;
            let mut round_trips = caller.round_trips;
            round_trips.sort_unstable();
            Ok(Outcome {
                there: caller.sent.compare(&far_ear.ledger),
                back: far_sent.compare(&caller.ear.ledger),
                far_end_heard_clip: far_ear.heard() == voice::CLIP,
                caller_heard_clip: caller.ear.heard() == voice::CLIP,
                rejected: far_ear.rejected + caller.ear.rejected,
                round_trips,
            })
        })
    }

    /// Gives both allocations back.
    pub(crate) fn hang_up(mut self) -> Result<(), CallError> {
        for end in [&mut self.caller, &mut self.far_end] {
            let released = end.client.release();
            let (who, what) = (end.who, "release its allocation");
            released.map_err(|error| CallError::Client { who, what, error })?;
        }
        Ok(())
    }
}

/// The receiving half of an end: verifies, decrypts, remembers.
struct Ear {
    receiver: Receiver,
    first: u16,
    ledger: Ledger,
    voice: Vec<Option<Vec<u8>>>,
    rejected: u32,
}

impl Ear {
    fn new(key: &Key, first: u16) -> Result<Self, SrtpError> {
        let voice = vec![None; voice::packets().len()];
        let receiver = Receiver::new(key)?;
        Ok(Self { receiver, first, ledger: Ledger::default(), voice, rejected: 0 })
    }

    /// Takes a packet; its place in the clip, if it is one of the call's.
    fn take(&mut self, packet: &[u8]) -> Option<usize> {
        self.ledger.add(packet);
        let opened = self.receiver.open(packet);
        let place = opened.ok().and_then(|opened| {
            let place = usize::from(opened.sequence.wrapping_sub(self.first));
            *self.voice.get_mut(place)? = Some(opened.voice);
            Some(place)
        });
        if place.is_none() {
            self.rejected += 1;
        }
        place
    }

    /// The decrypted voice in order.
    fn heard(&self) -> Vec<u8> {
        self.voice.iter().flatten().flatten().copied().collect()
    }
}

/// The far end: every packet that verifies is said back, under another key.
fn echo(
    end: &mut End,
    mut ear: Ear,
    mut voice: Sender,
    over: &AtomicBool,
) -> Result<(Ear, Ledger), CallError> {
    let mut sent = Ledger::default();
    loop {
        // Read before listening, so that what had arrived by then is still heard.
        let last = over.load(Ordering::Acquire);
        let Some(packet) = end.receive(if last { Duration::ZERO } else { GLANCE })? else {
            if last {
                return Ok((ear, sent));
            }
            continue;
        };
        let Some(heard) = ear.take(&packet).and_then(|place| ear.voice.get(place)?.as_ref()) else {
            continue;
        };
        let reply = voice.protect(heard)?;
        sent.add(&reply);
        end.send(&reply)?;
    }
}

/// The caller's side of a running call.
struct Caller<'a> {
    end: &'a mut End,
    sender: Sender,
    ear: Ear,
    sent: Ledger,
    departures: Vec<Instant>,
    round_trips: Vec<Duration>,
    marks: VecDeque<Mark>,
}

/// What had been sent and returned at a report.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    sent_bytes: u64,
    returned_bytes: u64,
}

impl<'a> Caller<'a> {
    fn new(end: &'a mut End, sender: Sender, ear: Ear) -> Self {
        Self {
            end,
            sender,
            ear,
            sent: Ledger::default(),
            departures: Vec::new(),
            round_trips: Vec::new(),
            marks: VecDeque::new(),
        }
    }

    fn talk(mut self, report: &mut impl FnMut(&Progress)) -> Result<Self, CallError> {
        let start = clock::now().mono;
        self.marks.push_back(Mark { at: start, sent_bytes: 0, returned_bytes: 0 });
        for (index, part) in (0_u32..).zip(voice::packets()) {
            self.listen_until(start + voice::PACKET_INTERVAL * index)?;
            let packet = self.sender.protect(part)?;
            self.sent.add(&packet);
            self.departures.push(clock::now().mono);
            self.end.send(&packet)?;
            self.report(start, report);
        }
        let end = clock::now().mono + PATIENCE;
        while self.ear.ledger.packets() < self.sent.packets() && clock::now().mono < end {
            self.listen_until((clock::now().mono + GLANCE).min(end))?;
        }
        Ok(self)
    }

    fn listen_until(&mut self, deadline: Instant) -> Result<(), CallError> {
        loop {
            let left = deadline.saturating_duration_since(clock::now().mono);
            if left.is_zero() {
                return Ok(());
            }
            if let Some(packet) = self.end.receive(left)?
                && let Some(departure) =
                    self.ear.take(&packet).and_then(|place| self.departures.get(place))
            {
                self.round_trips.push(clock::now().mono.saturating_duration_since(*departure));
            }
        }
    }

    fn report(&mut self, start: Instant, report: &mut impl FnMut(&Progress)) {
        let now = clock::now().mono;
        let complete = self.sent.packets() == voice::packets().len();
        let (Some(oldest), Some(latest)) = (self.marks.front(), self.marks.back()) else { return };
        if now.saturating_duration_since(latest.at) < REPORT_INTERVAL && !complete {
            return;
        }
        let span = now.saturating_duration_since(oldest.at);
        let (sent, returned) = (self.sent.bytes(), self.ear.ledger.bytes());
        report(&Progress {
            elapsed: now.saturating_duration_since(start),
            sent: self.sent.packets(),
            of: voice::packets().len(),
            returned: self.ear.ledger.packets(),
            there_bit_s: bit_s(sent - oldest.sent_bytes, span),
            back_bit_s: bit_s(returned - oldest.returned_bytes, span),
            round_trip: self.round_trips.last().copied(),
        });
        self.marks.push_back(Mark { at: now, sent_bytes: sent, returned_bytes: returned });
        if self.marks.len() > RATE_REPORTS {
            self.marks.pop_front();
        }
    }
}

/// Bits a second.
fn bit_s(bytes: u64, span: Duration) -> f64 {
    let bits = f64::from(u32::try_from(bytes * 8).unwrap_or(u32::MAX));
    if span.is_zero() { 0.0 } else { bits / span.as_secs_f64() }
}
