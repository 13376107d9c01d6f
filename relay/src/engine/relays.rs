//! The relayed sockets of one worker, found by the id that is also their event token.

use std::os::fd::AsFd;

use mio::net::UdpSocket;
use proto::addr::{Family, RelayId};
use proto::marks::Marks;

use crate::sys;

/// The socket of one relayed address.
pub(super) struct Relay {
    generation: u32,
    /// The socket; not connected, because peers are many.
    pub(super) socket: UdpSocket,
    /// Whether it waits in the queue of ready sockets.
    pub(super) queued: bool,
    /// Whether its error queue may hold something.
    pub(super) failing: bool,
    /// The largest datagram it has not yet refused in a run.
    pub(super) largest_run: u32,
    /// Bytes that its queue has room for.
    room: u32,
    /// Datagrams that its queue had no room for, as far as they were counted.
    lost: u32,
    /// The marks it is set to.
    pub(super) marks: Marks,
}

impl Relay {
    /// Sets the socket to these marks, unless it is; whether it is now.
    #[inline]
    pub(super) fn wears(&mut self, family: Family, marks: Marks) -> bool {
        self.marks == marks || self.change(family, marks)
    }

    /// Gives its queue room for so many bytes; false if it has that.
    #[inline]
    pub(super) fn keep(&mut self, room: u32) -> bool {
        let changes = self.room != room;
        if changes {
            self.room = room;
            sys::set_receive_buffer(self.socket.as_fd(), room);
        }
        changes
    }

    /// How many datagrams its queue had no room for since this was asked last.
    #[cold]
    pub(super) fn losses(&mut self) -> u64 {
        let lost = sys::receive_losses(self.socket.as_fd()).unwrap_or(self.lost);
        lost.wrapping_sub(std::mem::replace(&mut self.lost, lost)).into()
    }

    #[cold]
    fn change(&mut self, family: Family, marks: Marks) -> bool {
        let changed = sys::set_marks(self.socket.as_fd(), family, self.marks, marks);
        if changed.is_ok() {
            self.marks = marks;
        }
        changed.is_ok()
    }
}

/// Sockets by slot and family; a stale id finds nothing.
#[derive(Default)]
pub(super) struct Relays(Vec<[Option<Relay>; 2]>);

impl Relays {
    /// The socket of this id.
    pub(super) fn find(&mut self, id: RelayId) -> Option<&mut Relay> {
        self.0
            .get_mut(id.allocation.slot as usize)?
            .get_mut(id.family.index())?
            .as_mut()
            .filter(|relay| relay.generation == id.allocation.generation)
    }

    /// Takes a socket in, in place of whatever an older generation left.
    pub(super) fn insert(&mut self, id: RelayId, socket: UdpSocket, room: u32) {
        let slot = id.allocation.slot as usize;
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, Default::default);
        }
        self.0[slot][id.family.index()] = Some(Relay {
            generation: id.allocation.generation,
            socket,
            queued: false,
            failing: false,
            largest_run: u32::MAX,
            room,
            lost: 0,
            marks: Marks::PLAIN,
        });
    }

    /// Every socket.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Relay> {
        self.0.iter_mut().flatten().flatten()
    }

    /// Hands the socket of this id out.
    pub(super) fn remove(&mut self, id: RelayId) -> Option<Relay> {
        self.find(id)?;
        self.0[id.allocation.slot as usize][id.family.index()].take()
    }
}
