//! The listeners of one worker: each has a socket for media and one for requests.
//!
//! They wait in queues of their own when they are ready, so that the engine can empty those for
//! media first. What is sent leaves through the socket for media.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use proto::addr::ListenerId;

use super::batch::SLOTS;
use crate::listen::Inlets;
use crate::sys::{self, Lane};

/// The fewest slots a listener asks for.
pub(super) const FEWEST: usize = 4;

/// How many tokens listeners take.
pub(super) const TOKENS: usize = Lane::ALL.len() << u16::BITS;

/// Counters of one listener's sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InletTally {
    /// How many sockets there are: one for each lane, one if the kernel knows no lanes, none where
    /// no datagrams are taken.
    pub(crate) lanes: u64,
    /// Datagrams received, by lane.
    pub(crate) received: [u64; Lane::ALL.len()],
    /// Datagrams lost because the receive queue was full, by lane.
    pub(crate) lost: [u64; Lane::ALL.len()],
}

/// A socket clients speak to.
pub(super) struct Inlet {
    /// It.
    pub(super) socket: UdpSocket,
    /// Whether it waits in the queue of ready sockets.
    pub(super) queued: bool,
    /// Slots the next receive is likely to need: asking for all of them costs when few come.
    pub(super) hope: usize,
    /// Whether it takes nothing more for a while. It waits in the queue of ready sockets then.
    shut: bool,
}

/// Where clients speak to us.
pub(super) struct Listener {
    /// For media, and for what is sent; for everything if there is no other.
    pub(super) media: Inlet,
    /// For requests.
    requests: Option<Inlet>,
    /// The largest datagram it has not yet refused in a run.
    pub(super) largest_run: u32,
    /// Indices of the batch's runs that leave here; empty between turns.
    pub(super) outgoing: Vec<u32>,
}

/// By id; a listener that is served elsewhere has no socket here.
pub(super) struct Listeners {
    places: Vec<Option<Listener>>,
    ready: [VecDeque<ListenerId>; Lane::ALL.len()],
    tallies: Vec<InletTally>,
}

impl Inlet {
    fn new(socket: std::net::UdpSocket, registry: &Registry, token: usize) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let mut socket = UdpSocket::from_std(socket);
        registry.register(&mut socket, Token(token), Interest::READABLE)?;
        Ok(Self { socket, queued: false, hope: FEWEST, shut: false })
    }

    /// Takes nothing more while more bytes wait than may, until half of them are read; all that comes,
    /// if that does not matter.
    #[inline]
    pub(super) fn hold(&mut self, most: Option<u32>) {
        if most.is_some() || self.shut {
            self.hold_to(most);
        }
    }

    #[cold]
    fn hold_to(&mut self, most: Option<u32>) {
        let waiting = sys::waiting_bytes(self.socket.as_fd()).unwrap_or(0);
        let shut = match most {
            None => false,
            Some(most) if self.shut => self.queued && waiting > most / 2,
            Some(most) => self.queued && waiting > most,
        };
        if shut != self.shut && sys::shut(self.socket.as_fd(), shut).is_ok() {
            self.shut = shut;
        }
    }
}

impl Listener {
    /// The socket of a lane, if it has one of its own.
    fn inlet(&mut self, lane: Lane) -> Option<&mut Inlet> {
        match lane {
            Lane::Media => Some(&mut self.media),
            Lane::Requests => self.requests.as_mut(),
        }
    }
}

impl Listeners {
    /// Registers all sockets, with tokens from `first` on.
    pub(super) fn new(all: Vec<Inlets>, registry: &Registry, first: usize) -> io::Result<Self> {
        let count = all.iter().map(|it| it.listener.index() + 1).max().unwrap_or(0);
        let mut places: Vec<_> = (0..count).map(|_| None).collect();
        let mut tallies = vec![InletTally::default(); count];
        for Inlets { listener, media, requests } in all {
            let inlet = |socket, lane| Inlet::new(socket, registry, first + token(listener, lane));
            let requests = requests.map(|it| inlet(it, Lane::Requests)).transpose()?;
            tallies[listener.index()].lanes = 1 + u64::from(requests.is_some());
            places[listener.index()] = Some(Listener {
                media: inlet(media, Lane::Media)?,
                requests,
                largest_run: u32::MAX,
                outgoing: Vec::with_capacity(SLOTS),
            });
        }
        let ready = Lane::ALL.map(|_| VecDeque::with_capacity(count));
        Ok(Self { places, ready, tallies })
    }

    /// Every listener that has a socket here.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Listener> {
        self.places.iter_mut().flatten()
    }

    /// Where they are.
    pub(super) fn addresses(&self) -> Vec<(ListenerId, SocketAddr)> {
        let ids = (0..).map(ListenerId);
        let address = |(id, place): (ListenerId, &Option<Listener>)| {
            Some((id, place.as_ref()?.media.socket.local_addr().ok()?))
        };
        ids.zip(&self.places).filter_map(address).collect()
    }

    /// A listener, if it has a socket here.
    pub(super) fn find(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.places.get_mut(id.index())?.as_mut()
    }

    /// A socket of a listener.
    pub(super) fn inlet(&mut self, id: ListenerId, lane: Lane) -> Option<&mut Inlet> {
        self.find(id)?.inlet(lane)
    }

    /// Whether a socket of a lane is ready.
    pub(super) fn is_ready(&self, lane: Lane) -> bool {
        !self.ready[lane as usize].is_empty()
    }

    /// How many sockets are ready.
    pub(super) fn waiting(&self) -> usize {
        self.ready.iter().map(VecDeque::len).sum()
    }

    /// The socket of this token is ready; `token` counts from the first.
    pub(super) fn wake(&mut self, token: usize) {
        let (id, lane) = of_token(token);
        if let Some(inlet) = self.inlet(id, lane)
            && !std::mem::replace(&mut inlet.queued, true)
        {
            self.put_back(id, lane);
        }
    }

    /// The next listener of a lane that is ready.
    pub(super) fn next(&mut self, lane: Lane) -> Option<ListenerId> {
        self.ready[lane as usize].pop_front()
    }

    /// More may wait at a listener.
    pub(super) fn put_back(&mut self, id: ListenerId, lane: Lane) {
        self.ready[lane as usize].push_back(id);
    }

    /// Counts what was received.
    pub(super) fn count(&mut self, id: ListenerId, lane: Lane, datagrams: u64) {
        if let Some(tally) = self.tallies.get_mut(id.index()) {
            tally.received[lane as usize] += datagrams;
        }
    }

    /// Reads what the kernel counts.
    pub(super) fn survey(&mut self) {
        for (listener, tally) in self.places.iter_mut().zip(&mut self.tallies) {
            for lane in Lane::ALL {
                let inlet = listener.as_mut().and_then(|it| it.inlet(lane));
                let lost = inlet.and_then(|it| sys::receive_losses(it.socket.as_fd()).ok());
                tally.lost[lane as usize] = lost.map_or(0, u64::from);
            }
        }
    }

    /// Counters, by id.
    pub(super) fn tallies(&self) -> &[InletTally] {
        &self.tallies
    }
}

fn token(id: ListenerId, lane: Lane) -> usize {
    id.index() * Lane::ALL.len() + lane as usize
}

#[expect(clippy::cast_possible_truncation, reason = "ids have 16 bits")]
fn of_token(token: usize) -> (ListenerId, Lane) {
    let lane = if token.is_multiple_of(Lane::ALL.len()) { Lane::Media } else { Lane::Requests };
    (ListenerId((token / Lane::ALL.len()) as u16), lane)
}
