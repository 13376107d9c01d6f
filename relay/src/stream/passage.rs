//! TLS for somebody else, passed on untouched in both directions.
//!
//! What one side sends is read when the other one takes it, so a slow side slows the other and
//! nothing piles up: at most one read waits in each direction. A passage ends with its sides, or
//! when nothing has moved on it for long: a client that says hello and no more holds nothing for
//! ever.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use proto::framing::proxy;
use socket2::{SockRef, TcpKeepalive};

use super::opening::PassThrough;

/// How long the other server may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// When a silent side is asked whether it still lives, and how often again.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Reads from one side in a turn.
const READS: usize = 4;

/// Names a passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PassageKey {
    index: usize,
    generation: u32,
}

/// The passages of one worker.
#[derive(Debug, Default)]
pub(super) struct Passages {
    places: Vec<(u32, Option<Passage>)>,
    free: Vec<usize>,
    /// Passages with something to do.
    ready: Vec<PassageKey>,
    /// When each passage is looked at, whether it is to be given up.
    alarms: BTreeSet<(Instant, PassageKey)>,
    /// Passages given up because nothing moved.
    idle: u64,
}

#[derive(Debug)]
struct Passage {
    /// The client, then the other server.
    sides: [Side; 2],
    /// Whom it counts for.
    client: IpAddr,
    ready: bool,
    /// When it began to wait for the other server.
    begun: Instant,
    /// When a side had something to say or to take last.
    stirred: Instant,
    /// How long nothing may move.
    patience: Duration,
    /// Where it stands in [`Passages::alarms`].
    alarm: Instant,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
struct Side {
    socket: TcpStream,
    readable: bool,
    writable: bool,
    /// Bytes read here that the other side has not taken.
    held: Vec<u8>,
    /// Whether it sends no more.
    finished: bool,
    /// Whether it was told that the other one sends no more.
    told: bool,
}

impl Passages {
    /// Begins to pass a client on. `token` makes the two tokens of a passage.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        client: (TcpStream, SocketAddr),
        pass: &PassThrough,
        enrol: (&Registry, impl Fn(usize) -> Token),
    ) -> io::Result<()> {
        let ((mut socket, from), (registry, token)) = (client, enrol);
        let mut held = Vec::new();
        if pass.proxy_header {
            let (header, len) = proxy::write(from, socket.local_addr()?);
            held.extend_from_slice(&header[..len]);
        }
        let mut server = TcpStream::connect(pass.to)?;
        let key = self.next();
        let tokens = [0, 1].map(|side| token(key.to_token(side)));
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.reregister(&mut socket, tokens[0], both)?;
        registry.register(&mut server, tokens[1], both)?;
        for socket in [&socket, &server] {
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
            // Without it a dead passage stays until the server ends it.
            drop(SockRef::from(socket).set_tcp_keepalive(&keepalive));
            drop(socket.set_nodelay(true));
        }
        let mut sides = [Side::new(socket), Side::new(server)];
        sides[0].held = held;
        (sides[0].readable, sides[0].writable) = (true, true);
        let passage = Passage {
            sides,
            client: from.ip(),
            ready: false,
            begun: now,
            stirred: now,
            patience: pass.idle,
            alarm: now + PATIENCE,
        };
        self.alarms.insert((passage.alarm, key));
        self.places[key.index].1 = Some(passage);
        self.free.pop();
        Ok(())
    }

    /// Takes in what the kernel says about a side.
    pub(super) fn wake(&mut self, token: usize, readable: bool, writable: bool) {
        let (key, side) = PassageKey::from_token(token);
        let Some(passage) = self.find(key) else { return };
        passage.sides[side].readable |= readable;
        passage.sides[side].writable |= writable;
        if !std::mem::replace(&mut passage.ready, true) {
            self.ready.push(key);
        }
    }

    /// Whether something is to be passed on now.
    pub(super) fn are_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When a passage may have to be given up.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// How many were given up because nothing moved.
    pub(super) fn idle(&self) -> u64 {
        self.idle
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Passes on what is ready. Gives the clients of passages that ended.
    pub(super) fn turn(&mut self, now: Instant, buffer: &mut [u8]) -> Vec<IpAddr> {
        let mut ended = Vec::new();
        for key in std::mem::take(&mut self.ready) {
            let Some(passage) = self.find(key) else { continue };
            passage.ready = false;
            passage.stirred = now;
            match passage.pump(buffer) {
                Ok(Pumped::Waits) => {}
                Ok(Pumped::More) => {
                    passage.ready = true;
                    self.ready.push(key);
                }
                Ok(Pumped::Done) | Err(_) => ended.extend(self.remove(key)),
            }
        }
        while let Some(&(at, key)) = self.alarms.first()
            && at <= now
        {
            self.alarms.pop_first();
            ended.extend(self.look_after(now, key));
        }
        ended
    }

    /// Gives a passage up whose alarm went off, or looks at it later. Gives its client if it ended.
    fn look_after(&mut self, now: Instant, key: PassageKey) -> Option<IpAddr> {
        let passage = self.find(key)?;
        let connected = passage.sides[1].is_connected();
        let end =
            if connected { passage.stirred + passage.patience } else { passage.begun + PATIENCE };
        if end <= now {
            self.idle += u64::from(connected);
            return self.remove(key);
        }
        passage.alarm = end;
        self.alarms.insert((end, key));
        None
    }

    /// Ends all of them. Gives their clients.
    pub(super) fn close_all(&mut self) -> Vec<IpAddr> {
        self.ready.clear();
        let indices = 0..self.places.len();
        let keys = indices.map(|index| PassageKey { index, generation: self.places[index].0 });
        keys.collect::<Vec<_>>().into_iter().filter_map(|key| self.remove(key)).collect()
    }

    fn next(&mut self) -> PassageKey {
        let index = self.free.last().copied().unwrap_or_else(|| {
            self.places.push((0, None));
            self.free.push(self.places.len() - 1);
            self.places.len() - 1
        });
        PassageKey { index, generation: self.places[index].0 }
    }

    fn find(&mut self, key: PassageKey) -> Option<&mut Passage> {
        let (generation, passage) = self.places.get_mut(key.index)?;
        passage.as_mut().filter(|_| *generation == key.generation)
    }

    fn remove(&mut self, key: PassageKey) -> Option<IpAddr> {
        let &mut Passage { client, alarm, .. } = self.find(key)?;
        self.alarms.remove(&(alarm, key));
        let (generation, passage) = &mut self.places[key.index];
        *generation = generation.wrapping_add(1);
        *passage = None;
        self.free.push(key.index);
        Some(client)
    }
}

impl PassageKey {
    fn to_token(self, side: usize) -> usize {
        (self.generation as usize) << 32 | self.index << 1 | side
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes the integer's halves apart")]
    fn from_token(token: usize) -> (Self, usize) {
        let low = token & u32::MAX as usize;
        (Self { index: low >> 1, generation: (token >> 32) as u32 }, low & 1)
    }
}

/// What came of passing on.
enum Pumped {
    /// Nothing more until somebody is ready again.
    Waits,
    /// There may be more at once.
    More,
    /// Both have sent everything, and know of each other.
    Done,
}

impl Passage {
    fn pump(&mut self, buffer: &mut [u8]) -> io::Result<Pumped> {
        if let Some(error) = self.sides[1].socket.take_error()? {
            return Err(error);
        }
        let mut more = false;
        let [client, server] = &mut self.sides;
        more |= pass_on(client, server, buffer)?;
        more |= pass_on(server, client, buffer)?;
        Ok(if client.told && server.told {
            Pumped::Done
        } else if more {
            Pumped::More
        } else {
            Pumped::Waits
        })
    }
}

/// Moves bytes from one side to the other; says whether there may be more at once.
fn pass_on(from: &mut Side, to: &mut Side, buffer: &mut [u8]) -> io::Result<bool> {
    for _ in 0..READS {
        if !from.held.is_empty() {
            let written = to.write(&from.held)?;
            from.held.drain(..written);
            if !from.held.is_empty() {
                return Ok(false);
            }
            from.held = Vec::new();
        }
        if from.finished {
            if !std::mem::replace(&mut to.told, true) {
                to.socket.shutdown(Shutdown::Write)?;
            }
            return Ok(false);
        }
        if !from.readable || !to.writable {
            return Ok(false);
        }
        let Some(read) = from.read(buffer)? else { return Ok(false) };
        let written = to.write(&buffer[..read])?;
        from.held.extend_from_slice(&buffer[written..read]);
    }
    Ok(true)
}

impl Side {
    fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            readable: false,
            writable: false,
            held: Vec::new(),
            finished: false,
            told: false,
        }
    }

    fn is_connected(&self) -> bool {
        self.socket.peer_addr().is_ok()
    }

    /// Reads once; `None` if nothing is there.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.socket.read(buffer) {
            Ok(bytes) => {
                self.finished = bytes == 0;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes as much as the kernel takes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        match self.socket.write(bytes) {
            Ok(written) => {
                self.writable = written == bytes.len();
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}
