//! Binding (RFC 8489 §12): tells anybody the address its request came from.

use crate::addr::FiveTuple;
use crate::policy::Ledger;
use crate::reject::Reject;
use crate::request::Reply;
use crate::stun::Message;
use crate::turn::exchange::Exchange;
use crate::turn::gate::{KNOWN, all_known};
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// Binding needs no credentials and looks at none (STUN-010).
    pub(super) fn binding(
        &mut self,
        exchange: &Exchange,
        message: &Message<'_>,
    ) -> Result<(), Reject> {
        if let Some(corner) = self.config.edge.corner(exchange.client.listener) {
            return self.discovery(exchange, message, corner);
        }
        all_known(message, KNOWN)?;
        let FiveTuple { client, .. } = exchange.client;
        self.succeed(exchange, Reply::Mapped(client.socket()));
        Ok(())
    }
}
