//! What relays beside the server, as a kernel does.

use std::net::SocketAddr;

use proto::addr::AllocationId;
use proto::marks::{Datagram, Marks};
use proto::now::Now;
use proto::turn::Server;

use crate::books::Books;
use crate::world::{Target, World};

/// Relays what it has routes for. A world tells it of routes, and offers it what arrives.
pub trait Beside {
    /// Routes of an allocation may be others from now on; it may have ended.
    fn follow(&mut self, now: Now, id: AllocationId, server: &mut Server<Books>);

    /// A datagram has come to an address of the server. What leaves in its stead; `None` leaves it to
    /// the server.
    fn take(&mut self, from: SocketAddr, to: SocketAddr, datagram: Datagram<'_>) -> Option<Left>;
}

/// A datagram on its way out.
#[derive(Clone, Debug)]
pub struct Left {
    /// The server's address.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
    /// What its headers say.
    pub marks: Marks,
    /// What it carries.
    pub bytes: Vec<u8>,
}

impl World {
    /// Whether a datagram never reaches the server, because somebody relays it before.
    pub(crate) fn goes_by(
        &mut self,
        from: SocketAddr,
        to: Option<SocketAddr>,
        datagram: Datagram<'_>,
    ) -> bool {
        let (Some(beside), Some(to)) = (&mut self.beside, to) else { return false };
        let Some(Left { from, to, marks, bytes }) = beside.take(from, to, datagram) else {
            return false;
        };
        let client = self.clients.iter().find(|client| client.address == to);
        if let Some(listener) = client.map(|client| client.listener) {
            self.fly(&Target::Client { listener, at: to, bare: false }, marks, &bytes);
        } else {
            self.leave_relay(from, to, marks, &bytes);
        }
        true
    }
}
