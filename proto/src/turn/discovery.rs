//! NAT behaviour discovery (RFC 5780 §6.1): Binding that may be answered from elsewhere, to
//! another port of the same host, and with as much padding as it brought.
//!
//! Served at listeners that are a corner of four, and nowhere else. An answer never goes to
//! another host than the one that asked, and padding is never more than what was sent. Answers name three
//! addresses, though, which is twice what a bare request weighs on the wire: this is off until it is configured.

use std::net::SocketAddr;

use crate::addr::{ClientAddr, FiveTuple, ListenerId};
use crate::dialect::rfc::PADDING_MAX;
use crate::policy::discovery::{Change, Corner};
use crate::policy::{Ledger, Listener};
use crate::reject::{Reject, Why};
use crate::request::{Discovered, Reply};
use crate::stun::attribute::{ChangeRequest, Padding, ResponsePort};
use crate::stun::{AttributeType, Message};
use crate::turn::exchange::Exchange;
use crate::turn::gate::{KNOWN, all_known};
use crate::turn::server::Server;

/// The lowest port that an answer goes to on demand: below it are services, which did not ask.
const LOWEST_PORT: u16 = 1024;

/// Room for the largest answer: header, four IPv6 addresses, padding.
const ANSWER_MAX: usize = 20 + 4 * 24 + 4 + PADDING_MAX;

impl<L: Ledger> Server<L> {
    /// A Binding request at a corner.
    pub(super) fn discovery(
        &mut self,
        exchange: &Exchange,
        message: &Message<'_>,
        corner: Corner,
    ) -> Result<(), Reject> {
        let own =
            [AttributeType::CHANGE_REQUEST, AttributeType::RESPONSE_PORT, AttributeType::PADDING];
        all_known(message, &[KNOWN, &own].concat())?;
        let ChangeRequest { host, port } = message.read()?.unwrap_or_default();
        let change = Change { host, port };
        let port = message.read::<ResponsePort>()?.map(|ResponsePort(port)| port);
        let padding = message.read::<Padding<'_>>()?;
        // §6.1: a padded answer may be fragmented, and fragments have no port.
        if port.is_some_and(|port| port < LOWEST_PORT) || port.is_some() && padding.is_some() {
            return Err(Why::BadAttribute.into());
        }
        let client = exchange.client.client;
        let from = corner.changed(change);
        let to = SocketAddr::new(client.ip(), port.unwrap_or(client.port()));
        let (Some(origin), Some(other)) =
            (self.reachable(from), self.reachable(corner.changed(Change::BOTH)))
        else {
            return Err(Why::ServerError.into());
        };
        let to = FiveTuple { listener: from, client: ClientAddr::new(to) };
        let exchange = Exchange { client: to, ..exchange.clone() };
        let found = Discovered {
            mapped: client.socket(),
            origin,
            other,
            padding: padding.map(|Padding(padding)| padding.len().min(PADDING_MAX)),
        };
        self.succeed_in(&mut [0; ANSWER_MAX], &exchange, Reply::Discovered(&found));
        Ok(())
    }

    /// What a listener is called by clients.
    fn reachable(&self, listener: ListenerId) -> Option<SocketAddr> {
        self.config.edge.listener(listener).map(Listener::reachable)
    }
}
