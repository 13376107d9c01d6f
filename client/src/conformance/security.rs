//! SEC-…: whom a client may reach, and what a stranger can make the server do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Case;
use super::message::Draft;
use super::numbers::{ALLOCATE, FAMILY, IPV6, LIFETIME, TRANSPORT, UDP, UNASSIGNED};
use super::seat::{Arrival, Seat};
use super::stage::Stage;
use super::verdict::{At, Finding, demand};

pub(super) const CASES: &[Case] = &[
    Case::should(
        "SEC-001",
        "RFC 8656 §10.2, §21.1.4, §21.2.2",
        "Loopback, link-local, multicast and reserved addresses are nobody's peers.",
        denied,
    ),
    Case::must(
        "SEC-003",
        "RFC 8656 §21.4",
        "Teredo and 6to4 addresses are refused as peers.",
        tunnels,
    ),
    Case::should(
        "SEC-004",
        "RFC 8656 §21.2.2",
        "A forbidden IPv4 address is not reached by an IPv6 form of it.",
        disguises,
    ),
    Case::should(
        "SEC-005",
        "RFC 8656 §21.1.7",
        "The server's own listening port is nobody's peer, another relayed address is.",
        own_addresses,
    ),
    Case::should(
        "SEC-007",
        "RFC 8489 §16.1.2",
        "One datagram of a stranger brings one answer at most, and a short one.",
        amplification,
    ),
    Case::must("SEC-014", "RFC 8489 §14", "Padding the server writes is zero.", clean_padding)
        .last(),
    Case::should(
        "SEC-016",
        "RFC 8489 §6.3.1",
        "A known transaction id with another message is a new request.",
        same_id_other_body,
    ),
];

/// Addresses that are no peer for anybody, but for those the operator opened for these cases.
fn demand_denied(seat: &mut Seat<'_>, peers: &[IpAddr]) -> Finding {
    let allowed = seat.stage.plan.peers.clone();
    for ip in peers.iter().filter(|ip| !is_opened(&allowed, **ip)) {
        let peer = SocketAddr::new(*ip, 9);
        let permit = seat.request(Draft::permit(&[*ip]))?;
        permit.expect(403).at(format!("CreatePermission for {ip}"))?;
        let bind = seat.request(Draft::bind(0x4000, peer))?;
        bind.expect(403).at(format!("ChannelBind to {ip}"))?;
    }
    Ok(())
}

/// Whether a peer of ours lies in the same network of loopback.
fn is_opened(allowed: &[IpAddr], ip: IpAddr) -> bool {
    allowed.iter().any(|ours| ours == &ip || ours.is_loopback() && ip.is_loopback())
}

fn denied(stage: &Stage<'_>) -> Finding {
    let v4 = [
        [127, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [169, 254, 169, 254],
        [224, 0, 0, 1],
        [239, 255, 255, 250],
        [255, 255, 255, 255],
        [240, 0, 0, 1],
    ];
    let mut seat = stage.allocated()?;
    demand_denied(&mut seat, &v4.map(|octets| Ipv4Addr::from(octets).into()))?;
    if !stage.survey.ipv6 {
        return Ok(());
    }
    let v6 = ["::1", "::", "fe80::1", "ff02::1"];
    let v6 = v6.map(|text| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap_or(Ipv6Addr::LOCALHOST)));
    let mut seat = stage.allocated_by(Draft::allocate().add(FAMILY, &IPV6))?;
    demand_denied(&mut seat, &v6)
}

fn tunnels(stage: &Stage<'_>) -> Finding {
    stage.demand_ipv6_relay()?;
    let mut seat = stage.allocated_by(Draft::allocate().add(FAMILY, &IPV6))?;
    let peers = [
        Ipv6Addr::new(0x2002, 0x0808, 0x0808, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, 0xF7F7, 0xF7F7),
    ];
    demand_denied(&mut seat, &peers.map(IpAddr::V6))
}

fn disguises(stage: &Stage<'_>) -> Finding {
    stage.demand_ipv6_relay()?;
    let mut seat = stage.allocated_by(Draft::allocate().add(FAMILY, &IPV6))?;
    let peers = [
        // NAT64, IPv4-mapped and IPv4-compatible 127.0.0.1.
        Ipv6Addr::new(0x64, 0xFF9B, 0, 0, 0, 0, 0x7F00, 1),
        Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0x7F00, 1),
    ];
    demand_denied(&mut seat, &peers.map(IpAddr::V6))
}

fn own_addresses(stage: &Stage<'_>) -> Finding {
    let mut one = stage.allocated()?;
    let mut two = stage.allocated()?;
    if stage.server.is_ipv4() {
        let answer = one.request(Draft::bind(0x4000, stage.server))?;
        answer.expect(403).at("its listening port")?;
    }
    let (of_one, of_two) = (one.relayed()?, two.relayed()?);
    one.request(Draft::bind(0x4001, of_two))?.expect_success().at("a relayed address")?;
    two.request(Draft::bind(0x4001, of_one))?.expect_success().at("a relayed address")?;
    one.send(&super::message::channel_data(0x4001, b"from client to client"))?;
    two.expect_channel(0x4001, b"from client to client")
}

/// How much longer than the request an answer to a stranger may be, as bytes of UDP payload and
/// the headers below it (threat model: 2.7 times for errors, 1.35 for Binding).
const HEADERS: usize = 28;

fn amplification(stage: &Stage<'_>) -> Finding {
    stage.demand_udp()?;
    for (case, draft) in [
        ("Binding", Draft::binding()),
        ("Allocate", Draft::allocate()),
        ("Refresh", Draft::refresh(600)),
        ("an unknown attribute", Draft::binding().add(UNASSIGNED[0], b"")),
    ] {
        let mut seat = stage.seat()?;
        seat.send(draft.bytes())?;
        let came = seat.gather(stage.grace() * 2)?;
        demand(came.len() <= 1, format!("{case}: one answer"), format!("{} answers", came.len()))?;
        let out: usize = came.iter().map(length).sum();
        let (out, into) = (out + HEADERS * came.len(), draft.bytes().len() + HEADERS);
        let seen = format!("{out} bytes for {into}");
        demand(out <= 4 * into, format!("{case}: at most four times its size"), seen)?;
    }
    Ok(())
}

fn length(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Message(message) => message.bytes().len(),
        Arrival::Channel(_, payload) => payload.len() + 4,
        Arrival::Other(bytes) => bytes.len(),
    }
}

fn clean_padding(stage: &Stage<'_>) -> Finding {
    stage.allocated()?;
    let record = stage.record().clone();
    let expected = format!("zeros in {} responses", record.responses);
    match record.dirty {
        None => Ok(()),
        Some(message) => demand(false, expected, format!("other bytes in {message}")),
    }
}

fn same_id_other_body(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let first = Draft::allocate();
    let id = first.id();
    let request = seat.dress()?.on(first);
    let answer = seat.ask(&request)?;
    answer.expect_success()?;
    seat.note_allocation(&answer);
    let other = Draft::with_id(ALLOCATE, id).add(TRANSPORT, &UDP).add(LIFETIME, &[0, 0, 4, 0]);
    seat.ask(&seat.dress()?.on(other))?.expect(437)
}
