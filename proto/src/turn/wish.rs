//! What an Allocate of RFC 8656 asks for (§7.2, steps 3 to 9).

use crate::addr::{Family, FiveTuple, Transport};
use crate::policy::Ledger;
use crate::reject::{Reject, Why};
use crate::request::{Parity, Wish};
use crate::stun::attribute::{
    AdditionalAddressFamily, EvenPort, Lifetime, PROTOCOL_TCP, PROTOCOL_UDP,
    RequestedAddressFamily, RequestedTransport, ReservationToken,
};
use crate::stun::{AttributeType, Message};
use crate::turn::server::Server;

impl<L: Ledger> Server<L> {
    /// Reads an Allocate, in the order of the RFC.
    pub(super) fn wish(&self, client: FiveTuple, message: &Message<'_>) -> Result<Wish, Reject> {
        let tcp = self.wants_tcp(client, message)?;
        let wish = wish(message, self.promises_whole(client, message))?;
        let supported = Family::ALL.map(|family| self.ports.serves(family));
        if wish.token.is_none() && !served(wish.families, supported) {
            return Err(Why::UnsupportedFamily.into());
        }
        Ok(Wish { tcp, mobile: self.wants_ticket(message)?, ..wish })
    }

    /// Whether an Allocate is for a TCP relay (RFC 6062 §5.1), or a UDP relay.
    fn wants_tcp(&self, client: FiveTuple, message: &Message<'_>) -> Result<bool, Reject> {
        let RequestedTransport(protocol) = message.require()?;
        match (protocol, self.transport(client)) {
            (PROTOCOL_UDP, _) if self.config.udp_relays => Ok(false),
            (PROTOCOL_UDP, _) => Err(Why::UdpForbidden.into()),
            (PROTOCOL_TCP, Transport::Tcp | Transport::Tls) if self.config.tcp_relays => {
                let of_udp = [
                    AttributeType::DONT_FRAGMENT,
                    AttributeType::EVEN_PORT,
                    AttributeType::RESERVATION_TOKEN,
                ];
                if of_udp.iter().any(|kind| message.has(*kind)) {
                    return Err(Why::UdpAttribute.into());
                }
                Ok(true)
            }
            (PROTOCOL_TCP, _) if self.config.tcp_relays => Err(Why::StreamNeeded.into()),
            _ => Err(Why::UnsupportedTransport.into()),
        }
    }

    /// Whether every datagram of the allocation could leave with DF set: IPv4 that was not
    /// translated, because user space cannot see DF on arrival (RFC 8656 §3.7).
    fn promises_whole(&self, client: FiveTuple, message: &Message<'_>) -> bool {
        let untranslated =
            client.client.family() == Family::V4 || self.transport(client).is_stream();
        let requested = message.read::<RequestedAddressFamily>().ok().flatten();
        let six = requested.is_some_and(|RequestedAddressFamily(byte)| byte != Family::V4 as u8)
            || message.has(AttributeType::ADDITIONAL_ADDRESS_FAMILY)
            // A token may stand for a port of either family.
            || message.has(AttributeType::RESERVATION_TOKEN) && self.ports.serves(Family::V6);
        untranslated && !six
    }
}

/// Steps 4 to 9 of RFC 8656 §7.2, as far as the request alone tells. `whole` says whether
/// DONT-FRAGMENT can be promised.
fn wish(message: &Message<'_>, whole: bool) -> Result<Wish, Reject> {
    // Step 4: where DF cannot be promised, the attribute is unknown to us.
    if !whole && message.has(AttributeType::DONT_FRAGMENT) {
        let unknown = vec![AttributeType::DONT_FRAGMENT.0];
        return Err(Reject::unknown(unknown));
    }
    // Step 5: a reservation excludes every wish about port and family.
    let token = message.read::<ReservationToken>()?.map(|ReservationToken(token)| token);
    let even = message.read::<EvenPort>()?;
    let requested = message.read::<RequestedAddressFamily>()?;
    let additional = message.read::<AdditionalAddressFamily>()?;
    let chooses = even.is_some() || requested.is_some() || additional.is_some();
    if token.is_some() && chooses {
        return Err(Why::FamilyConflict.into());
    }
    // Step 6: one family or both.
    if requested.is_some() && additional.is_some() {
        return Err(Why::FamilyConflict.into());
    }
    // Step 7: the family, IPv4 unless said otherwise.
    let family = match requested {
        None => Family::V4,
        Some(RequestedAddressFamily(byte)) => {
            Family::from_wire(byte).ok_or(Why::UnsupportedFamily)?
        }
    };
    // Step 8: a port whose successor is reserved too is of one family.
    let parity = match even {
        None => Parity::Any,
        Some(EvenPort(false)) => Parity::Even,
        Some(EvenPort(true)) if additional.is_some() => return Err(Why::FamilyConflict.into()),
        Some(EvenPort(true)) => Parity::Pair,
    };
    // Step 9: the additional family is IPv6.
    let mut families = Family::ALL.map(|each| each == family);
    if let Some(AdditionalAddressFamily(byte)) = additional {
        if Family::from_wire(byte) != Some(Family::V6) {
            return Err(Why::FamilyConflict.into());
        }
        families = [true; 2];
    }
    let lifetime = message.read::<Lifetime>()?.map(|Lifetime(seconds)| seconds);
    Ok(Wish { tcp: false, token, families, parity, lifetime, mobile: false })
}

/// Whether at least one wanted family exists; a request for two may get one (ALLOC-016).
fn served(wanted: [bool; 2], supported: [bool; 2]) -> bool {
    wanted.iter().zip(supported).any(|(wanted, supported)| *wanted && supported)
}
