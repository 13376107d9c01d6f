//! What the server offers, found out once, before the cases.

use std::net::IpAddr;

use super::message::Draft;
use super::numbers::{FAMILY, IPV4, IPV6};
use super::peer::Peer;
use super::stage::Stage;
use super::verdict::{Finding, Miss};

/// What the server offers.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    /// Challenges list SHA-256.
    pub(super) offers_sha256: bool,
    /// IPv6 relayed addresses.
    pub(super) ipv6: bool,
    /// NAT behaviour discovery.
    pub(super) discovers_nats: bool,
    /// A peer that what is relayed reaches, or why there is none.
    pub(super) peer: Result<IpAddr, String>,
    /// One with another IPv4 address.
    pub(super) other_peer: Result<IpAddr, String>,
    /// One with an IPv6 address.
    pub(super) peer6: Result<IpAddr, String>,
}

impl Default for Survey {
    fn default() -> Self {
        let unknown = || Err("no peer was looked for".to_owned());
        Self {
            offers_sha256: false,
            ipv6: false,
            discovers_nats: false,
            peer: unknown(),
            other_peer: unknown(),
            peer6: unknown(),
        }
    }
}

/// Finds out; fails when the server does not give this user an allocation at all.
pub(super) fn take(stage: &Stage<'_>) -> Finding<Survey> {
    let mut survey = Survey::default();
    let binding = stage.seat()?.ask(&Draft::binding())?;
    survey.discovers_nats = Stage::has_other_address(&binding);
    let mut seat = stage.challenged()?;
    survey.offers_sha256 = seat.challenge.algorithms.is_some();
    seat.allocate(Draft::allocate())?.expect_success()?;
    drop(seat);
    survey.ipv6 = {
        let mut seat = stage.challenged()?;
        seat.allocate(Draft::allocate().add(FAMILY, &IPV6))?.is_success()
    };
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = stage.plan.peers.iter().partition(|ip| ip.is_ipv4());
    let mut usable = v4.iter().map(|ip| try_peer(stage, *ip));
    let none = |family| Err(format!("no {family} peer was given: see --peer"));
    survey.peer = usable.next().unwrap_or_else(|| none("IPv4"));
    survey.other_peer = usable.next().unwrap_or_else(|| none("second IPv4"));
    survey.peer6 = match v6.first() {
        _ if !survey.ipv6 => Err("the server gives no IPv6 relayed address".to_owned()),
        Some(ip) => try_peer(stage, *ip),
        None => none("IPv6"),
    };
    Ok(survey)
}

/// The address, if the server permits it and a datagram goes there and back.
fn try_peer(stage: &Stage<'_>, ip: IpAddr) -> Result<IpAddr, String> {
    let there_and_back = || -> Finding<Result<(), String>> {
        let peer = Peer::open(ip, stage.plan.timeout)?;
        let family = if ip.is_ipv4() { &IPV4 } else { &IPV6 };
        let mut seat = stage.challenged()?;
        seat.allocate(Draft::allocate().add(FAMILY, family))?.expect_success()?;
        let permission = seat.request(Draft::permit(&[ip]))?;
        if !permission.is_success() {
            let refusal = permission.describe();
            return Ok(Err(format!("the server refuses {ip} as a peer: {refusal}; see --peer")));
        }
        seat.send(Draft::send(peer.address(), b"is the way free?").bytes())?;
        let Some((relayed, _)) = peer.receive(stage.plan.timeout)? else {
            return Ok(Err(format!("what is relayed to {ip} does not arrive here; see --peer")));
        };
        peer.send(relayed, b"it is")?;
        let back = seat.arrival();
        Ok(back.map(drop).map_err(|_| format!("what {ip} sends to {relayed} does not come back")))
    };
    match there_and_back() {
        Ok(found) => found.map(|()| ip),
        Err(Miss::Fail { expected, seen }) => {
            Err(format!("{ip} cannot be a peer: expected {expected}, saw {seen}"))
        }
        Err(Miss::NotOffered(why)) => Err(why),
    }
}

/// Why a run cannot begin, in words.
pub(super) fn obstacle(miss: Miss) -> String {
    match miss {
        Miss::Fail { expected, seen } => {
            format!("the cases cannot begin: expected {expected}, saw {seen}")
        }
        Miss::NotOffered(why) => why,
    }
}
