//! A batch: what was received in one turn, and what shall be sent of it.
//!
//! Payload never moves. A received slot holds one datagram, or a run of equal ones of one source
//! that the kernel merged. The worker judges each datagram and says where its payload goes; the
//! batch notes pieces (ranges of memory) and chains those that may leave as one run: same
//! socket, same destination, same marks, equal length, the last one possibly shorter. Headers toward a
//! client are written into the headroom before the payload, or, inside a run where there is
//! none, into a side memory. Streams read into a memory of their own, back to back, and payload
//! cut out of them goes to peers from where it lies, too.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use proto::addr::{ConnectionId, FiveTuple, ListenerId, PeerAddr, RelayId};
use proto::marks::{Datagram, Marks};
use proto::turn::{Span, Wrap};

use super::dress;
use crate::sys::{HEADROOM, Inbound, Undelivered};

/// Datagrams or runs received in one turn.
pub(super) const SLOTS: usize = 64;

/// ICMP messages taken in one turn.
const REPORTS: usize = 64;

/// The most datagrams in a run that is sent (`UDP_MAX_SEGMENTS` of kernels before 6.9).
const RUN_DATAGRAMS: u32 = 64;

/// The most payload in a run that is sent: what an IPv6 datagram of 65,535 bytes leaves.
const RUN_BYTES: u32 = 65_487;

/// How many runs back a datagram may join, so that a few interleaved flows still merge.
const LOOK_BACK: usize = 8;

/// Bytes that streams may bring in one turn: several reads of the most, thousands of voice frames.
const STREAM_MEMORY: usize = 512 * 1024;

const _: () = assert!(dress::LONGEST <= HEADROOM);

/// No piece.
const NONE: u32 = u32::MAX;

/// Where a datagram came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// At a listener, from a client.
    Listener(ListenerId),
    /// At a relayed address, from a peer.
    Relay(RelayId),
}

/// One received datagram: who sent it, and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Where it came in.
    pub(crate) origin: Origin,
    /// Its source.
    pub(crate) from: SocketAddr,
    /// What its network header said.
    marks: Marks,
    store: Store,
    /// Offset in the store.
    at: u32,
    /// Bytes.
    len: u32,
    /// Whether the bytes before it are free.
    headroom: bool,
}

/// A filled slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    origin: Origin,
    from: SocketAddr,
    marks: Marks,
    at: u32,
    len: u32,
    segment: u32,
}

/// A range of memory to send, and the one after it in the same run.
#[derive(Clone, Copy, Debug)]
struct Piece {
    store: Store,
    at: u32,
    len: u32,
    next: u32,
}

/// Where a piece lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    /// In the memory datagrams are received into.
    Slots,
    /// In the memory streams are read into.
    Streams,
    /// In the side memory.
    Side,
}

/// How a datagram leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The socket.
    pub(super) door: Origin,
    /// The destination.
    pub(super) to: SocketAddr,
    /// What the network header shall say.
    pub(super) marks: Marks,
    /// Whether more will go there, so that its next hop is worth to be looked for: answers to strangers
    /// are not.
    pub(super) lasts: bool,
}

/// Datagrams that leave together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Socket, destination and marks.
    pub(super) way: Way,
    /// Bytes of each datagram, but perhaps the last.
    pub(super) size: u32,
    /// How many datagrams.
    pub(super) datagrams: u32,
    bytes: u32,
    open: bool,
    first: u32,
    last: u32,
}

/// Received slots and the runs made of them.
pub(crate) struct Batch {
    inbound: Inbound,
    slots: Vec<Slot>,
    /// The first slot that came by the lane for requests.
    requests: usize,
    side: Vec<u8>,
    streams: Box<[u8]>,
    /// Bytes of `streams` that belong to this turn.
    read: usize,
    pieces: Vec<Piece>,
    runs: Vec<Run>,
    reports: Vec<(RelayId, Undelivered)>,
    chunks: Vec<(ConnectionId, Piece)>,
}

impl Batch {
    /// An empty batch with all memory it needs.
    pub(crate) fn new() -> Self {
        let datagrams = SLOTS * RUN_DATAGRAMS as usize;
        Self {
            inbound: Inbound::new(SLOTS),
            slots: Vec::with_capacity(SLOTS),
            requests: 0,
            side: Vec::with_capacity(datagrams * dress::LONGEST),
            streams: vec![0; STREAM_MEMORY].into_boxed_slice(),
            read: 0,
            pieces: Vec::with_capacity(datagrams * 3),
            runs: Vec::with_capacity(datagrams),
            reports: Vec::with_capacity(REPORTS),
            chunks: Vec::new(),
        }
    }

    /// Slots that are still free.
    pub(super) fn room(&self) -> usize {
        SLOTS - self.slots.len()
    }

    /// How many more ICMP messages it takes.
    pub(super) fn room_for_reports(&self) -> usize {
        REPORTS - self.reports.len()
    }

    /// Takes an ICMP message about what a relayed socket sent; one that says the same as the
    /// last one says nothing.
    pub(super) fn report(&mut self, about: RelayId, report: Undelivered) {
        if self.reports.last() != Some(&(about, report)) {
            self.reports.push((about, report));
        }
    }

    /// ICMP messages, in order of arrival.
    pub(crate) fn reports(&self) -> &[(RelayId, Undelivered)] {
        &self.reports
    }

    /// Receives into free slots, `most` at most. `Ok(n)` with `n < most` means that the socket
    /// is empty.
    pub(super) fn fill(
        &mut self,
        socket: BorrowedFd<'_>,
        origin: Origin,
        most: usize,
    ) -> io::Result<Filled> {
        let first = self.slots.len();
        let received = self.inbound.receive(socket, first, most.min(self.room()))?;
        let mut filled = Filled { slots: received, ..Filled::default() };
        for slot in first..first + received {
            let arrived = self.inbound.arrived(slot);
            // A truncated datagram keeps its slot, so that slots stay in step with memory.
            let (len, segment) =
                if arrived.truncated { (0, 0) } else { (arrived.len, arrived.segment) };
            if arrived.truncated {
                filled.truncated += 1;
            } else {
                filled.datagrams += len.div_ceil(segment.max(1)).max(1) as u64;
            }
            self.slots.push(Slot {
                origin,
                from: arrived.from,
                marks: arrived.marks,
                at: narrow(Inbound::start(slot)),
                len: narrow(len),
                segment: if arrived.truncated { NONE } else { narrow(segment) },
            });
        }
        Ok(filled)
    }

    /// Takes a datagram in that somebody else received, in a slot of its own; false if none is free.
    pub(super) fn take(
        &mut self,
        origin: Origin,
        from: SocketAddr,
        Datagram { marks, bytes }: Datagram<'_>,
    ) -> bool {
        if self.room() == 0 {
            return false;
        }
        let at = Inbound::start(self.slots.len());
        self.inbound.memory_mut()[at..][..bytes.len()].copy_from_slice(bytes);
        let (at, len) = (narrow(at), narrow(bytes.len()));
        self.slots.push(Slot { origin, from, marks, at, len, segment: len });
        true
    }

    /// How many slots were filled.
    pub(super) fn filled(&self) -> usize {
        self.slots.len()
    }

    /// What is filled from now on came by the lane for requests.
    pub(super) fn begin_requests(&mut self) {
        self.requests = self.slots.len();
    }

    /// The filled slots, in the order they are to be looked at. Requests were received last, so
    /// those that came before media are there with it; they come first, for a channel is bound
    /// when the data right behind its request is looked at (RFC 8656 §12).
    pub(crate) fn filled_slots(&self) -> impl Iterator<Item = usize> + use<> {
        (self.requests..self.slots.len()).chain(0..self.requests)
    }

    /// The datagrams of a slot, in order of arrival.
    pub(crate) fn arrivals(&self, slot: usize) -> impl Iterator<Item = Arrival> + use<> {
        let Slot { origin, from, marks, at, len, segment } = self.slots[slot];
        let count = match segment {
            NONE => 0,
            0 => 1,
            size => len.div_ceil(size),
        };
        (0..count).map(move |index| {
            let offset = index * segment;
            Arrival {
                origin,
                from,
                marks,
                store: Store::Slots,
                at: at + offset,
                len: segment.min(len - offset),
                headroom: index == 0,
            }
        })
    }

    /// The bytes of a datagram, or of a frame.
    pub(crate) fn bytes(&self, arrival: &Arrival) -> &[u8] {
        &self.store(arrival.store)[arrival.at as usize..][..arrival.len as usize]
    }

    /// A datagram, or a frame, as the server judges it.
    pub(crate) fn datagram(&self, arrival: &Arrival) -> Datagram<'_> {
        Datagram { marks: arrival.marks, bytes: self.bytes(arrival) }
    }

    /// A part of a datagram.
    pub(crate) fn part(&self, arrival: &Arrival, part: Span) -> &[u8] {
        &self.bytes(arrival)[part.start as usize..][..part.len as usize]
    }

    /// The memory left for what streams bring in this turn.
    pub(crate) fn stream_room(&mut self) -> &mut [u8] {
        &mut self.streams[self.read..]
    }

    /// Keeps the first bytes of the room until the turn ends; says where they begin.
    pub(crate) fn keep(&mut self, bytes: usize) -> usize {
        let at = self.read;
        self.read += bytes;
        at
    }

    /// A frame cut out of kept bytes.
    pub(crate) fn frame(from: FiveTuple, at: usize, len: usize) -> Arrival {
        Arrival {
            origin: Origin::Listener(from.listener),
            from: from.client.socket(),
            marks: Marks::PLAIN,
            store: Store::Streams,
            at: narrow(at),
            len: narrow(len),
            headroom: false,
        }
    }

    /// A frame that lies nowhere yet: copied, and kept until the turn ends.
    pub(crate) fn copied_frame(&mut self, from: FiveTuple, frame: Datagram<'_>) -> Arrival {
        let Piece { store, at, len, .. } = self.put_aside(frame.bytes);
        let (origin, from) = (Origin::Listener(from.listener), from.client.socket());
        Arrival { origin, from, marks: frame.marks, store, at, len, headroom: false }
    }

    /// Sends a part of a datagram to a peer.
    pub(crate) fn send_to_peer(&mut self, arrival: &Arrival, way: Way, part: Span) {
        let piece = Piece::of(arrival.store, arrival.at + part.start, part.len);
        self.append(way, &[piece]);
    }

    /// Notes a part of a frame for the connection of a peer.
    pub(crate) fn send_to_connection(&mut self, arrival: &Arrival, to: ConnectionId, part: Span) {
        let piece = Piece::of(arrival.store, arrival.at + part.start, part.len);
        self.chunks.push((to, piece));
    }

    /// What is for connections of peers, in order of arrival.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (ConnectionId, &[u8])> {
        self.chunks.iter().map(|(to, piece)| (*to, self.piece_bytes(piece)))
    }

    /// They have left.
    pub(crate) fn forget_chunks(&mut self) {
        self.chunks.clear();
    }

    /// Sends a part of a datagram, dressed, to a client.
    pub(crate) fn send_to_client(&mut self, arrival: &Arrival, way: Way, wrap: Wrap, part: Span) {
        let mut head = [0; dress::LONGEST];
        let len = dress::head(wrap, part.len, &mut head);
        let head = &head[..len];
        let padding = dress::padding(wrap, part.len);
        let start = arrival.at + part.start;
        if arrival.headroom && part.start == 0 && padding == 0 {
            let at = start as usize - len;
            self.inbound.memory_mut()[at..start as usize].copy_from_slice(head);
            let whole = Piece::of(Store::Slots, narrow(at), narrow(len) + part.len);
            self.append(way, &[whole]);
            return;
        }
        let head = self.put_aside(head);
        let payload = Piece::of(arrival.store, start, part.len);
        if padding == 0 {
            self.append(way, &[head, payload]);
        } else {
            let padding = self.put_aside(&[0; 3][..padding]);
            self.append(way, &[head, payload, padding]);
        }
    }

    /// Sends a control message to a client, or to a stranger.
    pub(crate) fn reply(&mut self, to: FiveTuple, is_client: bool, bytes: &[u8]) {
        self.send_copied(Way::to_client(to, Marks::PLAIN).lasting(is_client), bytes);
    }

    /// Whether something leaves from a relayed address.
    pub(crate) fn leaves_by(&self, id: RelayId) -> bool {
        self.runs.iter().any(|run| run.way.door == Origin::Relay(id))
    }

    /// Sends bytes that lie nowhere yet.
    pub(crate) fn send_copied(&mut self, way: Way, bytes: &[u8]) {
        let piece = self.put_aside(bytes);
        self.append(way, &[piece]);
    }

    /// Everything to send, in order; runs of one socket and destination in order of arrival.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Takes out the runs that leave by another way.
    pub(super) fn hand_out(&mut self, mut leaves: impl FnMut(&Self, &Run) -> bool) {
        let mut runs = std::mem::take(&mut self.runs);
        runs.retain(|run| !leaves(self, run));
        self.runs = runs;
    }

    /// The memory ranges of a run, in order.
    pub(super) fn pieces(&self, run: &Run) -> impl Iterator<Item = &[u8]> {
        let mut next = run.first;
        std::iter::from_fn(move || {
            let piece = self.pieces.get(next as usize)?;
            next = piece.next;
            Some(self.piece_bytes(piece))
        })
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.requests = 0;
        self.side.clear();
        self.read = 0;
        self.pieces.clear();
        self.runs.clear();
        self.reports.clear();
        self.chunks.clear();
    }

    /// What was to be sent, datagram by datagram; the batch is empty then.
    #[cfg(test)]
    pub(crate) fn take_sent(&mut self) -> Vec<(Origin, SocketAddr, Vec<u8>)> {
        let mut sent = Vec::new();
        for run in &self.runs {
            let bytes: Vec<_> = self.pieces(run).flatten().copied().collect();
            let datagrams = bytes.chunks(run.size.max(1) as usize);
            sent.extend(datagrams.map(|it| (run.way.door, run.way.to, it.to_vec())));
        }
        self.clear();
        sent
    }

    fn piece_bytes(&self, piece: &Piece) -> &[u8] {
        &self.store(piece.store)[piece.at as usize..][..piece.len as usize]
    }

    fn store(&self, store: Store) -> &[u8] {
        match store {
            Store::Slots => self.inbound.memory(),
            Store::Streams => &self.streams,
            Store::Side => &self.side,
        }
    }

    fn put_aside(&mut self, bytes: &[u8]) -> Piece {
        let at = narrow(self.side.len());
        self.side.extend_from_slice(bytes);
        Piece { store: Store::Side, at, len: narrow(bytes.len()), next: NONE }
    }

    /// Adds one datagram: to the newest run of its way, or as a new run.
    fn append(&mut self, way: Way, pieces: &[Piece]) {
        let first = narrow(self.pieces.len());
        let mut size = 0;
        // Beside others, an empty piece says nothing.
        let pieces = pieces.iter().filter(|piece| piece.len > 0 || pieces.len() == 1);
        for (index, piece) in (first..).zip(pieces) {
            size += piece.len;
            self.pieces.push(Piece { next: index + 1, ..*piece });
        }
        let last = narrow(self.pieces.len()) - 1;
        self.pieces[last as usize].next = NONE;

        let newest = self.runs.iter_mut().rev().take(LOOK_BACK);
        if let Some(run) = newest.into_iter().find(|run| run.way.meets(&way))
            && run.takes(&way, size)
        {
            run.open = size == run.size;
            run.datagrams += 1;
            run.bytes += size;
            self.pieces[run.last as usize].next = first;
            run.last = last;
            return;
        }
        self.runs.push(Run { way, size, datagrams: 1, bytes: size, open: size > 0, first, last });
    }
}

/// What one receive brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    /// Slots filled.
    pub(super) slots: usize,
    /// Datagrams in them.
    pub(super) datagrams: u64,
    /// Datagrams that were larger than a slot.
    pub(super) truncated: u64,
}

impl Way {
    /// From a relayed address to a peer.
    pub(crate) fn to_peer(via: RelayId, peer: PeerAddr, marks: Marks) -> Self {
        Self { door: Origin::Relay(via), to: peer.socket(), marks, lasts: true }
    }

    /// From a listener to a client.
    pub(crate) fn to_client(to: FiveTuple, marks: Marks) -> Self {
        Self { door: Origin::Listener(to.listener), to: to.client.socket(), marks, lasts: true }
    }

    /// The same, and whether more will go there.
    pub(crate) fn lasting(self, lasts: bool) -> Self {
        Self { lasts, ..self }
    }

    /// Whether both lead from one socket to one destination: those datagrams stay in order.
    fn meets(&self, other: &Self) -> bool {
        self.to == other.to && self.door == other.door
    }
}

impl Run {
    /// Whether a datagram of this size, on a way that meets this one, may follow. An empty one
    /// may not: it would vanish.
    fn takes(&self, way: &Way, size: u32) -> bool {
        self.open
            && self.way.marks == way.marks
            && 0 < size
            && size <= self.size
            && self.datagrams < RUN_DATAGRAMS
            && self.bytes + size <= RUN_BYTES
    }
}

impl Piece {
    fn of(store: Store, at: u32, len: u32) -> Self {
        Self { store, at, len, next: NONE }
    }
}

/// Offsets of a batch fit into 32 bits: its memories are a few megabytes.
#[expect(clippy::cast_possible_truncation, reason = "the memory of a batch is a few megabytes")]
fn narrow(offset: usize) -> u32 {
    offset as u32
}

#[cfg(test)]
mod tests {
    use proto::addr::{AllocationId, ClientAddr, Family};

    use super::*;

    fn client(listener: u16, port: u16) -> FiveTuple {
        let client = ClientAddr::new(SocketAddr::from(([192, 0, 2, 1], port)));
        FiveTuple { listener: ListenerId(listener), client }
    }

    /// Datagrams of each run, when these sizes are sent to these clients in this order.
    fn runs_of(datagrams: &[(FiveTuple, usize)]) -> Vec<u32> {
        let mut batch = Batch::new();
        for &(to, size) in datagrams {
            batch.reply(to, true, &vec![7; size]);
        }
        for run in batch.runs() {
            let bytes: usize = batch.pieces(run).map(<[u8]>::len).sum();
            assert_eq!(bytes, run.bytes as usize);
        }
        batch.runs().iter().map(|run| run.datagrams).collect()
    }

    #[test]
    fn iphdr_001_datagrams_with_other_marks_never_share_a_run() {
        let mut batch = Batch::new();
        let marked = |class| Marks { class, ..Marks::PLAIN };
        for class in [0, 0, 0xB8, 0xB8, 0xBB, 0] {
            let piece = batch.put_aside(b"voice");
            batch.append(Way::to_client(client(0, 1), marked(class)), &[piece]);
        }
        let runs: Vec<_> = batch.runs().iter().map(|r| (r.way.marks.class, r.datagrams)).collect();
        assert_eq!(runs, [(0, 2), (0xB8, 2), (0xBB, 1), (0, 1)], "and they stay in order");
    }

    #[test]
    fn what_leaves_by_a_relayed_address_is_seen_until_it_has_left() {
        let id =
            |slot| RelayId { allocation: AllocationId { slot, generation: 1 }, family: Family::V4 };
        let mut batch = Batch::new();
        batch.reply(client(0, 1), false, b"answer");
        let piece = batch.put_aside(b"voice");
        let peer = PeerAddr::new("192.0.2.9:5000".parse().unwrap());
        batch.append(Way::to_peer(id(3), peer, Marks::PLAIN), &[piece]);
        assert!(batch.leaves_by(id(3)) && !batch.leaves_by(id(4)));
        let lasting: Vec<_> = batch.runs().iter().map(|run| run.way.lasts).collect();
        assert_eq!(lasting, [false, true], "strangers are not worth a look");
        batch.hand_out(|_, run| run.way.lasts);
        assert!(!batch.leaves_by(id(3)));
    }

    #[test]
    fn equal_neighbours_leave_as_one_run_and_only_the_last_may_be_shorter() {
        let (a, b) = (client(0, 1), client(0, 2));
        let elsewhere = client(1, 1);
        let many: Vec<_> = (0..9).map(|port| client(0, port)).collect();
        for (case, datagrams, expected) in [
            ("equal", vec![(a, 5), (a, 5), (a, 5)], vec![3]),
            ("shorter last", vec![(a, 5), (a, 5), (a, 2), (a, 5)], vec![3, 1]),
            ("shorter twice", vec![(a, 5), (a, 2), (a, 2)], vec![2, 1]),
            ("longer", vec![(a, 5), (a, 6), (a, 6)], vec![1, 2]),
            ("an empty one would vanish", vec![(a, 5), (a, 0), (a, 5)], vec![1, 1, 1]),
            ("empty ones", vec![(a, 0), (a, 0)], vec![1, 1]),
            ("two clients in turn", vec![(a, 5), (b, 5), (a, 5), (b, 5)], vec![2, 2]),
            ("two listeners", vec![(a, 5), (elsewhere, 5), (a, 5)], vec![2, 1]),
            ("order within a client", vec![(a, 5), (b, 5), (a, 9), (a, 5)], vec![1, 1, 2]),
            (
                "too far back",
                many.iter().chain(&many[..1]).map(|&to| (to, 5)).collect(),
                vec![1; 10],
            ),
            ("the most", vec![(a, 5); 65], vec![64, 1]),
            ("the most bytes", vec![(a, 30_000); 3], vec![2, 1]),
        ] {
            assert_eq!(runs_of(&datagrams), expected, "{case}");
        }
    }
}
