//! What the network says of datagrams it did not deliver (RFC 8656 §11.5).
//!
//! A hint for the client, no more: anybody can forge such a message, so it ends nothing, changes
//! nothing, and each allocation hears of a few a second (§21.3). The client learns of it in a
//! Data indication without DATA, whether a channel is bound or not.

use crate::addr::{Family, PeerAddr, RelayId};
use crate::now::Now;
use crate::policy::Ledger;
use crate::reject::DropReason;
use crate::stun::attribute::{Icmp, XorPeerAddress};
use crate::stun::{Class, Method, Writer};
use crate::turn::action::Action;
use crate::turn::server::Server;
use crate::turn::throttle::Rate;

/// How many reports an allocation hears: enough for path MTU discovery toward several peers.
const REPORTS: Rate = Rate { per_s: 10, burst: 20 };

/// Room for the indication: header, an IPv6 address, the report.
const REPORT_MAX: usize = 20 + 24 + 12;

impl<L: Ledger> Server<L> {
    /// An ICMP message about a datagram that went from a relayed address to `peer`, whose port is
    /// 0 if it is not known.
    pub fn peer_unreachable(&mut self, now: Now, at: RelayId, peer: PeerAddr, icmp: Icmp) {
        if let Err(reason) = self.report(now, at, peer, icmp) {
            self.dropped(reason);
        }
    }

    fn report(
        &mut self,
        now: Now,
        at: RelayId,
        peer: PeerAddr,
        icmp: Icmp,
    ) -> Result<(), DropReason> {
        if !is_about_delivery(at.family, icmp) {
            return Err(DropReason::IrrelevantIcmp);
        }
        let allocation = self.table.open(at.allocation).ok_or(DropReason::StaleRelay)?;
        allocation.permission(peer.ip()).ok_or(DropReason::NoPermission)?;
        if !allocation.dialect.rules().hears_icmp {
            return Err(DropReason::IrrelevantIcmp);
        }
        if !REPORTS.admits(&mut allocation.owner.reports, now.mono) {
            return Err(DropReason::ThrottledIcmp);
        }
        let to = allocation.client;
        let peer = self.config.edge.present(peer);
        let mut buffer = [0; REPORT_MAX];
        let transaction = self.random.transaction();
        let mut writer = Writer::new(&mut buffer, Class::Indication, Method::DATA, transaction);
        writer.add(&XorPeerAddress(peer.socket())).add(&icmp);
        let Ok(bytes) = writer.finish() else {
            debug_assert!(false, "REPORT_MAX holds every report");
            return Ok(());
        };
        self.tally.icmp_reported += 1;
        if let Some(listener) = self.listeners.get_mut(to.listener.index()) {
            listener.control_out.add(bytes.len());
        }
        self.actions.push_back(Action::Send { to, bytes: bytes.into() });
        Ok(())
    }
}

/// Whether a message of this type is one of those the RFC names: destination unreachable, packet
/// too big, time exceeded.
fn is_about_delivery(family: Family, icmp: Icmp) -> bool {
    match family {
        Family::V4 => matches!(icmp.kind, 3 | 11),
        Family::V6 => matches!(icmp.kind, 1..=3),
    }
}
