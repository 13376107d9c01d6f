//! Clients whose datagrams arrive here although the listener's steering means another worker.
//!
//! A diversion is a socket on the listener's address, connected to the client: the kernel prefers
//! it to the shared sockets that the steering chooses among. It only receives; answers leave
//! through the listener, from the same address. How many there may be is for the server to bound.

use std::collections::HashMap;
use std::io;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use proto::addr::FiveTuple;

use crate::listen;

/// The clients of one worker.
#[derive(Default)]
pub(super) struct Diversions {
    by_client: HashMap<FiveTuple, usize>,
    places: Vec<Option<Diversion>>,
}

/// One client.
pub(super) struct Diversion {
    /// The client.
    pub(super) client: FiveTuple,
    /// A socket connected to it.
    pub(super) socket: UdpSocket,
    /// Whether it waits in the queue of ready sockets.
    pub(super) queued: bool,
}

impl Diversions {
    /// Opens a socket for a client of the listener at `local`; its token is `first` and its place.
    pub(super) fn open(
        &mut self,
        registry: &Registry,
        first: usize,
        client: FiveTuple,
        local: std::net::SocketAddr,
    ) -> io::Result<()> {
        if self.by_client.contains_key(&client) {
            return Ok(());
        }
        let socket = listen::open_beside(local)?;
        socket.connect(client.client.socket())?;
        let mut socket = UdpSocket::from_std(socket);
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        registry.register(&mut socket, Token(first + place), Interest::READABLE)?;
        self.places[place] = Some(Diversion { client, socket, queued: false });
        self.by_client.insert(client, place);
        Ok(())
    }

    /// Closes the socket of a client, if it has one.
    pub(super) fn close(&mut self, client: FiveTuple) {
        if let Some(place) = self.by_client.remove(&client) {
            self.places[place] = None;
        }
    }

    /// What is at a place.
    pub(super) fn find(&mut self, place: usize) -> Option<&mut Diversion> {
        self.places.get_mut(place)?.as_mut()
    }
}
