//! The two names of a relayed address: where it is bound, and what clients are told.

use std::net::SocketAddr;

use proto::addr::Family;

use crate::world::World;

impl World {
    /// Where an advertised address is bound.
    pub(crate) fn local_form(&self, advertised: SocketAddr) -> SocketAddr {
        let relays = Family::ALL.into_iter().flat_map(|f| self.config.edge.relays(f));
        let mut same = relays.filter(|relay| relay.advertised == advertised.ip());
        same.next().map_or(advertised, |relay| SocketAddr::new(relay.local, advertised.port()))
    }

    /// What a bound address is called outside.
    pub(crate) fn advertised_form(&self, local: SocketAddr) -> SocketAddr {
        let relays = Family::ALL.into_iter().flat_map(|f| self.config.edge.relays(f));
        let mut same = relays.filter(|relay| relay.local == local.ip());
        same.next().map_or(local, |relay| SocketAddr::new(relay.advertised, local.port()))
    }
}
