//! Tries a relay step by step, as a client would use it.
//!
//! Two allocations on the same relay send to one another, so nothing but the relay is needed:
//! what the first sends goes out of its relayed address, into the second's, back the same way.
//! The caller is told each step as it ends; a failed one ends the checkup, because the rest
//! would fail for the same reason.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{
    AllocateOptions, Allocation, ClientError, Credentials, Event, Options, Transport, TurnClient,
    clock,
};

/// Payload of a datagram of the checkup: that of a voice packet.
const PAYLOAD: usize = 160;

/// Pause between two datagrams, as in a call; shorter when there are many to send.
const PAUSE: Duration = Duration::from_millis(20);

/// How long all sending may take.
const SENDING_MAX: Duration = Duration::from_secs(10);

/// How thoroughly to try.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How to speak to the relay.
    pub transport: Transport,
    /// Datagrams to send through the relay and back.
    pub count: u32,
    /// How long to wait for an answer.
    pub timeout: Duration,
}

/// A step, in the order they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A Binding request.
    Binding,
    /// The first allocation.
    Allocation,
    /// A second one, to stand for the peer.
    Peer,
    /// Permissions for each other.
    Permission,
    /// Channels to each other.
    Channel,
    /// Data there and back.
    Relaying,
    /// The end of both allocations.
    Release,
}

/// What a step found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// This host, as the relay sees it, and its own local address.
    Mapped(SocketAddr, SocketAddr),
    /// An allocation.
    Allocated(Allocation),
    /// The peer that is permitted.
    Permitted(SocketAddr),
    /// A channel number and its peer.
    Bound(u16, SocketAddr),
    /// How the data travelled.
    Relayed(Path),
    /// Nothing worth telling.
    Done,
}

/// How data travelled from one allocation to the other and back.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// Datagrams sent.
    pub sent: u32,
    /// Of these, came to the other allocation.
    pub reached: u32,
    /// Of these, came back unharmed.
    pub returned: u32,
    /// Datagrams that came with other bytes, or from another sender, than they should.
    pub altered: u32,
    /// Times there and back, shortest first.
    pub round_trips: Vec<Duration>,
}

impl Path {
    /// The round trip that a share of all, 0 to 1, does not exceed.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a position in a short list"
    )]
    pub fn round_trip(&self, share: f64) -> Option<Duration> {
        let last = self.round_trips.len().checked_sub(1)?;
        self.round_trips.get((last as f64 * share).round() as usize).copied()
    }

    /// Whether everything came back unharmed.
    pub fn is_whole(&self) -> bool {
        self.returned == self.sent && self.altered == 0
    }
}

/// One step that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub step: Step,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub result: Result<Finding, ClientError>,
}

/// Takes the steps in order and tells each; without credentials, Binding alone. Returns whether
/// all succeeded; data that came back incomplete is a finding, which the caller judges.
pub fn run(
    server: SocketAddr,
    credentials: Option<&Credentials>,
    plan: &Plan,
    mut tell: impl FnMut(&Outcome),
) -> bool {
    let mut take = |step, work: &mut dyn FnMut() -> Result<Finding, ClientError>| {
        let start = clock::now();
        let result = work();
        let took = clock::now() - start;
        let outcome = Outcome { step, took, result };
        tell(&outcome);
        outcome.result.ok()
    };
    steps(server, credentials, plan, &mut take).is_some()
}

/// Takes one step and tells of it; `None` when it failed.
type Take<'a> =
    dyn FnMut(Step, &mut dyn FnMut() -> Result<Finding, ClientError>) -> Option<Finding> + 'a;

fn steps(
    server: SocketAddr,
    credentials: Option<&Credentials>,
    plan: &Plan,
    take: &mut Take<'_>,
) -> Option<()> {
    let unsigned = || Credentials::new("", "");
    let open = || {
        let options = Options {
            transport: plan.transport.clone(),
            timeout: plan.timeout,
            retransmit_after: (plan.timeout / 8).min(Duration::from_millis(250)),
            ..Options::default()
        };
        TurnClient::connect_with(server, credentials.cloned().unwrap_or_else(unsigned), options)
    };
    let mut first = None;
    take(Step::Binding, &mut || {
        let client = first.insert(open()?);
        Ok(Finding::Mapped(client.binding()?, client.local_addr()?))
    })?;
    let (Some(mut first), Some(_)) = (first, &credentials) else { return Some(()) };

    let allocate = |client: &mut TurnClient| client.allocate(&AllocateOptions::default());
    let at_first =
        allocated(take(Step::Allocation, &mut || allocate(&mut first).map(Finding::Allocated)))?;
    let mut second = None;
    let at_second = allocated(take(Step::Peer, &mut || {
        allocate(second.insert(open()?)).map(Finding::Allocated)
    }))?;
    let mut second = second?;
    take(Step::Permission, &mut || {
        first.permit(&[at_second.ip()])?;
        second.permit(&[at_first.ip()])?;
        Ok(Finding::Permitted(at_second))
    })?;
    let mut channels = (0, 0);
    take(Step::Channel, &mut || {
        channels = (first.bind_channel(at_second)?, second.bind_channel(at_first)?);
        Ok(Finding::Bound(channels.0, at_second))
    })?;
    take(Step::Relaying, &mut || {
        let (there, back) = (End(&mut first, channels.0), End(&mut second, channels.1));
        Ok(Finding::Relayed(travel(there, back, plan)?))
    })?;
    take(Step::Release, &mut || {
        first.release()?;
        second.release()?;
        Ok(Finding::Done)
    })?;
    Some(())
}

fn allocated(finding: Option<Finding>) -> Option<SocketAddr> {
    match finding? {
        Finding::Allocated(allocation) => Some(allocation.relayed),
        Finding::Mapped(..)
        | Finding::Permitted(_)
        | Finding::Bound(..)
        | Finding::Relayed(_)
        | Finding::Done => None,
    }
}

/// A client and the channel it sends through.
struct End<'a>(&'a mut TurnClient, u16);

/// Sends datagrams from one end; a thread at the other sends them back.
fn travel(there: End<'_>, back: End<'_>, plan: &Plan) -> io::Result<Path> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| send_back(back, &over));
        let path = send_out(there, plan);
        over.store(true, Ordering::Relaxed);
        let (reached, altered) = echo.join().map_err(|_| io::Error::other("echo thread"))??;
        let mut path = path?;
        path.reached = reached;
        path.altered += altered;
        path.round_trips.sort_unstable();
        Ok(path)
    })
}

fn send_out(End(client, channel): End<'_>, plan: &Plan) -> io::Result<Path> {
    let pause = PAUSE.min(SENDING_MAX / plan.count.max(1));
    let start = clock::now();
    let mut path = Path::default();
    let mut seen = vec![false; plan.count as usize];
    let mut sent_at = Vec::with_capacity(seen.len());
    while path.sent < plan.count {
        sent_at.push(clock::now());
        client.send_channel(channel, &payload(path.sent))?;
        path.sent += 1;
        let next = start + pause * path.sent;
        read_back(client, next, (&sent_at, &mut seen), &mut path)?;
    }
    read_back(client, clock::now() + plan.timeout, (&sent_at, &mut seen), &mut path)?;
    Ok(path)
}

/// Reads what comes back until `until`, or until all there is to come has come.
fn read_back(
    client: &mut TurnClient,
    until: std::time::Instant,
    (sent_at, seen): (&[std::time::Instant], &mut [bool]),
    path: &mut Path,
) -> io::Result<()> {
    let total = u32::try_from(seen.len()).unwrap_or(u32::MAX);
    while path.returned < total {
        let left = until.saturating_duration_since(clock::now());
        let Some(event) = client.recv(left)? else { return Ok(()) };
        let Event::Data { payload: bytes, .. } = event else { continue };
        let known = intact(&bytes)
            .and_then(|number| usize::try_from(number).ok())
            .and_then(|index| Some((sent_at.get(index)?, seen.get_mut(index)?)));
        match known {
            Some((_, seen)) if *seen => {}
            Some((sent_at, seen)) => {
                *seen = true;
                path.returned += 1;
                path.round_trips.push(clock::now() - *sent_at);
            }
            None => path.altered += 1,
        }
    }
    Ok(())
}

/// Sends every datagram back until it is over; how many came, and how many were altered.
fn send_back(End(client, channel): End<'_>, over: &AtomicBool) -> io::Result<(u32, u32)> {
    let (mut reached, mut altered) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        let Some(event) = client.recv(Duration::from_millis(50))? else { continue };
        let Event::Data { payload: bytes, channel: came, .. } = event else { continue };
        if came == Some(channel) && intact(&bytes).is_some() {
            reached += 1;
        } else {
            altered += 1;
        }
        client.send_channel(channel, &bytes)?;
    }
    Ok((reached, altered))
}

/// The payload with this number: the number, then bytes that follow from it.
fn payload(number: u32) -> [u8; PAYLOAD] {
    let mut bytes = [0; PAYLOAD];
    let mut state = u64::from(number).wrapping_add(0x9E37_79B9_7F4A_7C15);
    for chunk in bytes.chunks_mut(8) {
        state = (state ^ (state >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        chunk.copy_from_slice(&state.to_be_bytes());
    }
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number of a payload of ours, if not a bit of it changed.
fn intact(bytes: &[u8]) -> Option<u32> {
    let number = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
    (bytes == payload(number)).then_some(number)
}
