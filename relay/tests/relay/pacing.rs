//! Limits of bandwidth on TCP relays, over real sockets: as much as is allowed, and every byte.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use proto::framing::ms::{self as frames, HEADER_LEN};

use crate::framed::{self, Edge, accept, host};
use crate::site::pattern;
use crate::tcp_relay::{Caller, Over};
use crate::tls::Secure;

/// What may pass one way: bytes a second.
const RATE: f64 = 1_000_000.0;

/// What may pass at once.
const BURST: f64 = 100_000.0;

/// What may pass ahead of time, and is waited for afterwards: one read.
const READ: f64 = 65_536.0;

/// What is sent at a time.
const BYTES: usize = 2_000_000;

/// One direction of a relay.
struct Flow<'a> {
    from: Box<dyn Write + Send + 'a>,
    to: Box<dyn Read + Send + 'a>,
}

impl<'a> Flow<'a> {
    fn new(from: impl Write + Send + 'a, to: impl Read + Send + 'a) -> Self {
        Self { from: Box::new(from), to: Box::new(to) }
    }

    /// Carries so many bytes, all at the same time, and says how long each took.
    #[expect(clippy::disallowed_methods, reason = "a rate needs the time")]
    fn carry(flows: &mut [Self], bytes: usize) -> Vec<Duration> {
        let sent: Vec<_> = (0..flows.len()).map(|at| pattern(at, bytes)).collect();
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let mut readers = Vec::new();
            for (Self { from, to }, sent) in flows.iter_mut().zip(&sent) {
                scope.spawn(move || from.write_all(sent).unwrap());
                readers.push(scope.spawn(move || {
                    let mut found = vec![0; bytes];
                    to.read_exact(&mut found).unwrap();
                    let took = begin.elapsed();
                    assert!(found == *sent, "not what was sent");
                    took
                }));
            }
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        })
    }
}

/// By how much so many bytes took longer than their limit makes them take, the slowest of them;
/// panics if one took less.
fn excess(bytes: usize, took: &[Duration]) -> f64 {
    let bytes = f64::from(u32::try_from(bytes).unwrap());
    let (least, most) = ((bytes - BURST - READ) / RATE, bytes / RATE);
    let early = took.iter().any(|took| took.as_secs_f64() < 0.98 * least);
    assert!(!early, "{bytes} bytes came through in {took:?}, before {least} s");
    took.iter().map(|took| took.as_secs_f64() / most - 1.0).fold(0.0, f64::max)
}

/// Attempts until one is as fast as the limit lets it be, and says how many there were. A machine
/// so busy that a worker sleeps longer than a burst lasts loses part of the rate; virtual time
/// proves elsewhere that it is exact.
fn measure(mut attempt: impl FnMut() -> f64) -> u64 {
    let mut seen = Vec::new();
    while seen.len() < 3 && !seen.iter().any(|excess| *excess < 0.03) {
        seen.push(attempt());
    }
    println!("{seen:?} more time than the limit wants");
    assert!(seen.iter().any(|excess| *excess < 0.4), "{seen:?} more time than the limit wants");
    seen.len() as u64
}

/// Both directions of a connection.
fn both(near: &TcpStream, far: &TcpStream) -> [Flow<'static>; 2] {
    let clone = |stream: &TcpStream| stream.try_clone().unwrap();
    [Flow::new(clone(near), clone(far)), Flow::new(clone(far), clone(near))]
}

#[test]
fn ed_052_a_pipe_carries_its_allocation_s_rate_each_way_and_loses_nothing() {
    let keys = "[features]\ntcp_relays = true\n[limits]\nkbit_per_s_per_allocation = 8000\n";
    let site = Secure::open(76, keys);
    let mut callers = ["alice", "bob"].map(|user| Caller::of(&site, user, Over::Tcp));
    let pipes = callers.each_mut().map(Caller::pipe);
    let mut hidden = ["carol", "dave"].map(|user| Caller::of(&site, user, Over::Tls));
    let [(mut carols, to_carol), (mut daves, to_dave)] = hidden.each_mut().map(Caller::pipe);
    let mut flows: Vec<_> = pipes.iter().flat_map(|(near, far)| both(near.socket(), far)).collect();
    flows.push(Flow::new(&mut carols, to_carol));
    flows.push(Flow::new(to_dave, &mut daves));
    let rounds = measure(|| excess(BYTES, &Flow::carry(&mut flows, BYTES)));
    // Forty a second at most, and none where nothing waits.
    let pauses = site.metric("av_edge_relay_paced_total", &[]);
    let most = rounds * 6 * 2 * 40;
    assert!((most / 8..most * 5 / 4).contains(&pauses), "{pauses} pauses of {most}");
    drop(flows);
    site.close();
}

#[test]
fn ed_051_pipes_of_a_user_share_his_rate_and_another_user_has_his_own() {
    let keys = "[features]\ntcp_relays = true\n[limits]\nkbit_per_s_per_user = 8000\n";
    let site = Secure::open(77, keys);
    let mut callers = ["alice", "alice", "bob"].map(|user| Caller::of(&site, user, Over::Tcp));
    let pipes = callers.each_mut().map(Caller::pipe);
    let mut flows: Vec<_> = pipes.iter().flat_map(|(near, far)| both(near.socket(), far)).collect();
    measure(|| {
        let took = Flow::carry(&mut flows, BYTES / 2);
        let [one, back, other, other_back, bobs, bobs_back] = took[..] else { panic!() };
        let alices = [one.max(other), back.max(other_back)];
        excess(BYTES, &alices).max(excess(BYTES / 2, &[bobs, bobs_back]))
    });
    drop(flows);
    site.close();
}

/// Bytes as end-to-end frames.
struct Framed(TcpStream);

impl Write for Framed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(1_400)];
        let header = frames::header(frames::Kind::Data, part.len()).unwrap();
        self.0.write_all(&[&header, part].concat())?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The bytes of end-to-end frames.
struct Unframed {
    line: TcpStream,
    left: usize,
}

impl Read for Unframed {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let mut header = [0; HEADER_LEN];
            self.line.read_exact(&mut header)?;
            let [kind, _, l0, l1] = header;
            assert_eq!(frames::Kind::starting(kind), Some(frames::Kind::Data));
            self.left = usize::from(u16::from_be_bytes([l0, l1]));
        }
        let most = room.len().min(self.left);
        let read = self.line.read(&mut room[..most])?;
        self.left -= read;
        Ok(read)
    }
}

#[test]
fn ed_052_chunks_of_the_microsoft_dialect_are_paced_and_none_is_lost() {
    let edge = Edge::limited(78, 8_000);
    let mut clients = ["alice", "bob"].map(|user| framed::Client::of(&edge, user, false));
    let mut flows = Vec::new();
    for client in &mut clients {
        let (listener, peer) = host();
        client.send(peer, b"!");
        let mut far = accept(&listener, client.relayed);
        far.read_exact(&mut [0; 1]).unwrap();
        client.aim(peer);
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        let near = Unframed { line: clone(&client.line), left: 0 };
        flows.push(Flow::new(Framed(clone(&client.line)), clone(&far)));
        flows.push(Flow::new(far, near));
    }
    let rounds = measure(|| excess(BYTES, &Flow::carry(&mut flows, BYTES)));
    let pauses = edge.site.metric("av_edge_relay_paced_total", &[]);
    let most = rounds * 4 * 2 * 40;
    assert!((most / 8..most * 5 / 4).contains(&pauses), "{pauses} pauses of {most}");
    let lost = edge.site.metric("av_edge_relay_stream_dropped_packets_total", &[]);
    assert_eq!(lost, 0);
    drop(flows);
    edge.site.close();
}
