//! The engine moves packets. It knows sockets and kernels and nothing of TURN.
//!
//! The worker asks it to wait, to fill a [`Batch`], and to send what became of it. An offload
//! is another implementation of the same few methods, wrapped around this one.

mod backlog;
mod batch;
mod departure;
mod diversions;
mod dress;
mod listeners;
mod relays;
mod rings;
mod sockets;

use std::io;
use std::time::Duration;

use mio::event::Event;
use proto::addr::{FiveTuple, RelayId, RelayedAddr};
use proto::turn::OpenFailure;

pub(crate) use batch::{Arrival, Batch, Origin, Way};
pub(crate) use dress::{LONGEST as LONGEST_HEAD, head, padding};
pub(crate) use listeners::InletTally;
pub use rings::frame;
pub(crate) use rings::{Gear, OCTETS_OF_ADDRESS, Outlet, Places, RingEngine, Stack};
pub(crate) use sockets::{FOREIGN, MioEngine};

/// Moves packets between sockets and batches.
pub(crate) trait Engine {
    /// Waits for packets, the inbox or a foreign socket, at most so long. Returns at once while
    /// sockets that were ready before have not been read empty. `foreign` is given the events of
    /// sockets whose token has [`FOREIGN`] set.
    fn wait(
        &mut self,
        at_most: Option<Duration>,
        foreign: &mut dyn FnMut(&Event),
    ) -> io::Result<Wake>;

    /// Fills an empty batch from the sockets that are ready.
    fn receive(&mut self, batch: &mut Batch);

    /// Sends what the worker put into the batch and empties it. What the kernel refuses is
    /// counted and gone.
    fn send(&mut self, batch: &mut Batch);

    /// Opens the socket of a relayed address.
    fn open_relay(&mut self, id: RelayId, at: RelayedAddr) -> Result<(), OpenFailure>;

    /// Closes it.
    fn close_relay(&mut self, id: RelayId);

    /// Closes all of them, ends every diversion, and forgets what was to be received there.
    fn close_relays(&mut self);

    /// Lets datagrams of a client arrive here, whatever the steering of its listener says; false
    /// if that is impossible.
    fn divert(&mut self, client: FiveTuple) -> bool;

    /// Leaves them to steering again.
    fn end_diversion(&mut self, client: FiveTuple);

    /// Reads those counters that only a system call tells.
    fn survey(&mut self);

    /// What happened below TURN so far.
    fn tally(&self) -> EngineTally;

    /// What happened at listeners so far, by id; those behind the last one with a socket are left out.
    fn inlets(&self) -> &[InletTally];
}

/// Why a wait ended, beside packets and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wake {
    /// Somebody put a command into the inbox.
    pub(crate) inbox: bool,
}

/// Counters of what happens below TURN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineTally {
    /// Receive calls that brought something.
    pub(crate) receives: u64,
    /// Send calls.
    pub(crate) sends: u64,
    /// Datagrams received, each of a run counted.
    pub(crate) datagrams_in: u64,
    /// Datagrams sent, each of a run counted.
    pub(crate) datagrams_out: u64,
    /// Runs sent as one.
    pub(crate) runs_out: u64,
    /// Datagrams lost because the send queue was full.
    pub(crate) send_queue_full: u64,
    /// Datagrams the kernel refused to send: no route, a firewall, too large.
    pub(crate) send_refused: u64,
    /// Datagrams for a relayed socket that was closed in the same turn.
    pub(crate) send_closed: u64,
    /// Datagrams larger than a buffer.
    pub(crate) truncated: u64,
    /// Datagrams that queues of relayed sockets had no room for: of those that are closed by now, and
    /// of all as long as more comes than is read.
    pub(crate) lost_at_relays: u64,
    /// How often more came than was read, for so long that queues were cut.
    pub(crate) overloads: u64,
    /// How often all relayed sockets were closed at once, because the worker began anew.
    pub(crate) restarts: u64,
    /// Clients that moved and whose datagrams could not be brought here: out of descriptors.
    pub(crate) diversions_failed: u64,
    /// Datagrams of those received that came by rings.
    pub(crate) ring_in: u64,
    /// Datagrams of those sent that left by rings.
    pub(crate) ring_out: u64,
    /// Datagrams that took the host's stack from or to a relayed port without a socket.
    pub(crate) strays: u64,
    /// Frames whose checksums were wrong.
    pub(crate) damaged: u64,
    /// Frames that claim to come from this host, or from nobody.
    pub(crate) forged: u64,
    /// Frames that a ring had no room for.
    pub(crate) lost_at_rings: u64,
}
