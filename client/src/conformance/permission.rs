//! PERM-…: who may send to a relayed address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Case;
use super::message::Draft;
use super::numbers::{CREATE_PERMISSION, FAMILY, IPV6, PEER};
use super::stage::Stage;
use super::verdict::{At, Finding, demand};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "PERM-001",
        "RFC 8656 §9",
        "A permission is for an address, whatever its port.",
        any_port,
    ),
    Case::must(
        "PERM-003",
        "RFC 8656 §10.2",
        "CreatePermission without a peer, or with one that is malformed, gets 400.",
        malformed,
    ),
    Case::should(
        "PERM-004",
        "RFC 8656 §10.2",
        "CreatePermission installs all permissions it names, or none.",
        all_or_none,
    ),
    Case::must(
        "PERM-005",
        "RFC 8656 §10.2",
        "A peer of a family the allocation does not have gets 443.",
        other_family,
    ),
    Case::must(
        "PERM-006",
        "RFC 8656 §10.2, §21.1",
        "A peer the server's policy forbids gets 403.",
        forbidden,
    ),
    Case::must(
        "PERM-007",
        "RFC 8656 §5",
        "CreatePermission without an allocation gets 437.",
        no_allocation,
    ),
    Case::must("PERM-008", "RFC 8656 §10.2", "Success needs nothing but its signature.", success),
    Case::must(
        "PERM-009",
        "RFC 8656 §9, §11.3",
        "What comes from an address without permission is dropped silently.",
        not_permitted,
    ),
    Case::must(
        "PERM-010",
        "RFC 8656 §9",
        "Permissions of one allocation mean nothing to another.",
        per_allocation,
    ),
    Case::should(
        "PERM-011",
        "RFC 8656 §10.2",
        "An IPv4 address dressed as IPv6 is refused, not converted.",
        mapped,
    ),
];

/// An address no server lets its clients send to: "this host" (RFC 1122 §3.2.1.3).
pub(super) const FORBIDDEN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn any_port(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    let neighbour = stage.peer_at(peer.address().ip())?;
    for one in [&peer, &neighbour] {
        one.send(seat.relayed()?, b"from any port")?;
        seat.expect_data(one.address(), b"from any port")?;
    }
    Ok(())
}

fn malformed(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    seat.request(Draft::new(CREATE_PERMISSION))?.expect(400).at("no peer")?;
    for (case, value) in [
        ("a truncated address", &[0, 1, 0, 0, 1, 2][..]),
        ("IPv4 with sixteen bytes", &[0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6]),
        ("family 0x03", &[0, 3, 0, 0, 1, 2, 3, 4]),
        ("empty", &[]),
    ] {
        let draft = Draft::new(CREATE_PERMISSION).add(PEER, value);
        seat.request(draft)?.expect(400).at(case)?;
    }
    let Ok(peer) = &stage.survey.peer else { return Ok(()) };
    let both = Draft::permit(&[*peer]).add(PEER, &[0, 1, 0, 0, 1, 2]);
    seat.request(both)?.expect(400).at("a good one and a truncated one")
}

fn all_or_none(stage: &Stage<'_>) -> Finding {
    let peer = stage.peer()?;
    let mut seat = stage.allocated()?;
    seat.request(Draft::permit(&[peer.address().ip(), FORBIDDEN]))?
        .expect(403)
        .at("a good one and a forbidden one")?;
    peer.send(seat.relayed()?, b"let me in")?;
    let came = seat.gather(stage.grace())?;
    demand(came.is_empty(), "no permission for the good one", "its datagram")
}

fn other_family(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    let peer = IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888));
    seat.request(Draft::permit(&[peer]))?.expect(443)
}

fn forbidden(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    let answer = seat.request(Draft::permit(&[FORBIDDEN]))?;
    answer.expect(403)?;
    seat.demand_signed(&answer)
}

fn no_allocation(stage: &Stage<'_>) -> Finding {
    let peer = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
    stage.challenged()?.request(Draft::permit(&[peer]))?.expect(437)
}

fn success(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    let answer = seat.request(Draft::permit(&[peer.address().ip()]))?;
    answer.expect_success().at("renewed")?;
    seat.demand_signed(&answer)
}

fn not_permitted(stage: &Stage<'_>) -> Finding {
    let stranger = stage.other_peer()?;
    let (mut seat, peer) = stage.permitted()?;
    stranger.send(seat.relayed()?, b"let me in")?;
    peer.send(seat.relayed()?, b"I may")?;
    seat.expect_data(peer.address(), b"I may")?;
    let came = seat.gather(stage.grace())?;
    demand(came.is_empty(), "nothing from an address without permission", "its datagram")
}

fn per_allocation(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    let mut bare = stage.allocated()?;
    peer.send(bare.relayed()?, b"let me in")?;
    peer.send(seat.relayed()?, b"I may")?;
    seat.expect_data(peer.address(), b"I may")?;
    let came = bare.gather(stage.grace())?;
    demand(came.is_empty(), "nothing at the allocation without permission", "its datagram")
}

fn mapped(stage: &Stage<'_>) -> Finding {
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    if stage.survey.ipv6 {
        let mut seat = stage.allocated_by(Draft::allocate().add(FAMILY, &IPV6))?;
        seat.request(Draft::permit(&[mapped.into()]))?.expect(403).at("IPv6 allocation")?;
    }
    let mut seat = stage.allocated()?;
    let peer = SocketAddr::new(mapped.into(), 9);
    let draft = Draft::new(CREATE_PERMISSION).peer(peer);
    seat.request(draft)?.expect_any(&[403, 443]).at("IPv4 allocation")
}
