//! `ConnectionBind` (RFC 6062 §5.4): a client's second connection claims one to a peer.

use crate::addr::{ConnectionId, Transport};
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::request::Reply;
use crate::stun::Message;
use crate::stun::attribute::ConnectionId as WireConnectionId;
use crate::turn::action::{Action, Verdict};
use crate::turn::connection::State;
use crate::turn::gate::Authenticated;
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// `ConnectionBind`: joins the connection that the request came by to the one it names.
    pub(super) fn connection_bind(
        &mut self,
        request: &Authenticated<'_>,
        message: &Message<'_>,
    ) -> Result<Verdict, Reject> {
        let client = request.exchange.client;
        match self.transport(client) {
            Transport::Tcp | Transport::Tls => {}
            Transport::Udp | Transport::Dtls => return Err(Why::StreamNeeded.into()),
        }
        if self.table.serves(client) {
            return Err(Why::ControlConnection.into());
        }
        let WireConnectionId(id) = message.require()?;
        let id = ConnectionId(id);
        // Another worker may have it; then the client's connection goes there.
        let (share, worker) = (self.config.share, id.worker(self.config.share.of));
        if worker != share.index {
            let bytes = request.bytes.into();
            self.actions.push_back(Action::HandOver { client, worker, bytes });
            return Ok(Verdict::Leaves);
        }
        let connection = self.connections.find(id).ok_or(Why::UnknownConnection)?;
        if !matches!(connection.state, State::Unclaimed { .. }) {
            return Err(Why::UnknownConnection.into());
        }
        let allocation = self.table.open(connection.allocation).ok_or(Why::UnknownConnection)?;
        if !request.owns(&allocation.owner) || !request.bears(&allocation.owner) {
            return Err(Why::OtherUser.into());
        }
        self.connections.advance(id, State::Bound);
        self.succeed(&request.exchange, Reply::Done);
        self.actions.push_back(Action::Join { connection: id, client });
        Ok(Verdict::Leaves)
    }
}
