//! ALLOC-009…017: families and ports of relayed addresses, reservations, dual allocations.

use std::net::SocketAddr;

use super::Case;
use super::message::{Draft, Message};
use super::numbers::{
    ADDITIONAL_FAMILY, ADDRESS_ERROR, EVEN_PORT, FAMILY, IPV4, IPV6, RELAYED, RESERVATION,
};
use super::seat::Seat;
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, fail, not_offered};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "ALLOC-009",
        "RFC 8656 §7.2 step 6",
        "Both address family attributes in one request get 400.",
        both_families,
    ),
    Case::must(
        "ALLOC-010",
        "RFC 8656 §7.2 step 7",
        "Without a family the relayed address is IPv4; an unknown or missing family gets 440.",
        families,
    ),
    Case::must(
        "ALLOC-011",
        "RFC 8656 §7.2 step 8",
        "A reserved pair together with an additional family gets 400.",
        pair_and_family,
    ),
    Case::must(
        "ALLOC-012",
        "RFC 8656 §7.2, §18.7, §18.10",
        "EVEN-PORT brings an even port, and with its flag a token for the next one.",
        even_port,
    ),
    Case::must(
        "ALLOC-013",
        "RFC 8656 §7.2",
        "The token brings the reserved port, to another client of the user.",
        reservation,
    ),
    Case::should(
        "ALLOC-014",
        "RFC 8656 §18.10",
        "A token is good once, and for its user alone.",
        token_is_spent,
    ),
    Case::must(
        "ALLOC-015",
        "RFC 8656 §7.2 step 9, §18.11",
        "ADDITIONAL-ADDRESS-FAMILY of IPv4 gets 400; of IPv6, one address of each.",
        additional_family,
    ),
    Case::must(
        "ALLOC-016",
        "RFC 8656 §7.2 step 9, §18.12",
        "A family that cannot be had is named in ADDRESS-ERROR-CODE beside the success.",
        half_a_pair,
    ),
    Case::must(
        "ALLOC-017",
        "RFC 8656 §6, §8.1",
        "The halves of a dual allocation live and die by themselves.",
        halves,
    ),
    Case::must(
        "MEDIA-007",
        "RFC 8656 §3.8, §18.7",
        "RTP and RTCP travel over a pair of ports, the even one and the next.",
        rtp_and_rtcp,
    ),
];

fn both_families(stage: &Stage<'_>) -> Finding {
    let draft = Draft::allocate().add(FAMILY, &IPV4).add(ADDITIONAL_FAMILY, &IPV6);
    stage.challenged()?.request(draft)?.expect(400)
}

fn families(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let unknown = Draft::allocate().add(FAMILY, &[3, 0, 0, 0]);
    seat.request(unknown)?.expect(440).at("family 0x03")?;
    if !stage.survey.ipv6 {
        let answer = seat.request(Draft::allocate().add(FAMILY, &IPV6))?;
        answer.expect(440).at("IPv6, which it has not")?;
    }
    seat.allocate(Draft::allocate())?.expect_success().at("no family")?;
    let relayed = seat.relayed()?;
    demand(relayed.is_ipv4(), "an IPv4 relayed address", relayed)?;
    if stage.survey.ipv6 {
        let seat = stage.allocated_by(Draft::allocate().add(FAMILY, &IPV6))?;
        let relayed = seat.relayed()?;
        demand(relayed.is_ipv6(), "an IPv6 relayed address", relayed)?;
    }
    Ok(())
}

fn pair_and_family(stage: &Stage<'_>) -> Finding {
    let draft = Draft::allocate().add(EVEN_PORT, &[0x80]).add(ADDITIONAL_FAMILY, &IPV6);
    stage.challenged()?.request(draft)?.expect(400)
}

/// An allocation on an even port with the next one reserved, and the token.
fn reserve<'a>(stage: &'a Stage<'a>) -> Finding<(Seat<'a>, [u8; 8])> {
    let mut seat = stage.challenged()?;
    let answer = seat.allocate(Draft::allocate().add(EVEN_PORT, &[0x80]))?;
    if Stage::lists(&answer, EVEN_PORT) || answer.code() == Some(508) {
        return Err(not_offered(format!("EVEN-PORT brings {}", answer.describe())));
    }
    answer.expect_success()?;
    let token = answer.value(RESERVATION).and_then(|token| token.try_into().ok());
    let token = token.ok_or_else(|| fail("a RESERVATION-TOKEN of 8 bytes", "none"))?;
    Ok((seat, token))
}

fn even_port(stage: &Stage<'_>) -> Finding {
    for flags in [0, 0x7F, 0x80, 0xFF] {
        let mut seat = stage.challenged()?;
        let answer = seat.allocate(Draft::allocate().add(EVEN_PORT, &[flags]))?;
        if Stage::lists(&answer, EVEN_PORT) {
            return Err(not_offered("the server does not know EVEN-PORT"));
        }
        let case = format!("flags {flags:#04x}");
        answer.expect_success().at(&case)?;
        let port = seat.relayed()?.port();
        demand(port % 2 == 0, format!("{case}: an even port"), port)?;
        equal("a token:", &answer.has(RESERVATION), &(flags & 0x80 != 0)).at(&case)?;
    }
    Ok(())
}

fn reservation(stage: &Stage<'_>) -> Finding {
    let (first, token) = reserve(stage)?;
    let second = stage.allocated_by(Draft::allocate().add(RESERVATION, &token))?;
    let (first, second) = (first.relayed()?, second.relayed()?);
    let next = SocketAddr::new(first.ip(), first.port().saturating_add(1));
    equal("the reserved address", &second, &next)
}

fn token_is_spent(stage: &Stage<'_>) -> Finding {
    let (_first, token) = reserve(stage)?;
    let claim = || Draft::allocate().add(RESERVATION, &token);
    if let Some(other) = &stage.plan.other {
        let mut stranger = stage.challenged()?;
        stranger.who = other.clone();
        stranger.request(claim())?.expect(508).at("another user")?;
    }
    let _second = stage.allocated_by(claim())?;
    stage.challenged()?.request(claim())?.expect(508).at("a second use")
}

fn additional_family(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let wrong = Draft::allocate().add(ADDITIONAL_FAMILY, &IPV4);
    let answer = seat.allocate(wrong)?;
    if answer.is_success() && !answer.has(ADDRESS_ERROR) && !stage.survey.ipv6 {
        return Err(not_offered("the attribute is optional, and the server ignores it"));
    }
    answer.expect(400).at("IPv4")?;
    let answer = seat.allocate(Draft::allocate().add(ADDITIONAL_FAMILY, &IPV6))?;
    answer.expect_success().at("IPv6")?;
    if !stage.survey.ipv6 {
        return Ok(());
    }
    let relayed = answer.addresses(RELAYED);
    let both = relayed.len() == 2
        && relayed.iter().any(SocketAddr::is_ipv4)
        && relayed.iter().any(SocketAddr::is_ipv6);
    demand(both, "an IPv4 and an IPv6 relayed address", format!("{relayed:?}"))
}

fn half_a_pair(stage: &Stage<'_>) -> Finding {
    if stage.survey.ipv6 {
        return Err(not_offered("the server has both families"));
    }
    let mut seat = stage.challenged()?;
    let answer = seat.allocate(Draft::allocate().add(ADDITIONAL_FAMILY, &IPV6))?;
    answer.expect_success()?;
    let Some(error) = answer.value(ADDRESS_ERROR) else {
        return Err(not_offered("the attribute is optional, and the server ignores it"));
    };
    let (family, code) = address_error(error);
    demand(
        family == 2 && [440, 508].contains(&code),
        "ADDRESS-ERROR-CODE with family 2 and 440 or 508",
        format!("family {family} and {code}"),
    )
}

/// Family and code of ADDRESS-ERROR-CODE.
fn address_error(value: &[u8]) -> (u8, u16) {
    match value {
        [family, _, class, number, ..] => {
            (*family, u16::from(class & 7) * 100 + u16::from(*number))
        }
        _ => (0, 0),
    }
}

/// A client with a relayed address of each family.
fn dual<'a>(stage: &'a Stage<'a>) -> Finding<(Seat<'a>, Message)> {
    stage.demand_ipv6_relay()?;
    let mut seat = stage.challenged()?;
    let answer = seat.allocate(Draft::allocate().add(ADDITIONAL_FAMILY, &IPV6))?;
    answer.expect_success()?;
    if answer.addresses(RELAYED).len() < 2 {
        return Err(not_offered("the server gives no dual allocations"));
    }
    Ok((seat, answer))
}

fn halves(stage: &Stage<'_>) -> Finding {
    let (mut seat, _) = dual(stage)?;
    let of = |family, seconds| Draft::refresh(seconds).add(FAMILY, family);
    seat.request(of(&IPV6, 0))?.expect_success().at("the end of the IPv6 half")?;
    seat.request(of(&IPV6, 600))?.expect_any(&[437, 443]).at("the IPv6 half is gone")?;
    seat.request(of(&IPV4, 600))?.expect_success().at("the IPv4 half lives on")?;
    let Ok(peer) = stage.peer() else { return Ok(()) };
    seat.request(Draft::permit(&[peer.address().ip()]))?.expect_success().at("a permission on it")
}

fn rtp_and_rtcp(stage: &Stage<'_>) -> Finding {
    let peer = stage.peer()?;
    let (mut media, token) = reserve(stage)?;

    let mut reports = stage.allocated_by(Draft::allocate().add(RESERVATION, &token))?;
    for (seat, payload) in [(&mut media, &b"\x80media"[..]), (&mut reports, b"\x80\xC8report")] {
        let permit = Draft::permit(&[peer.address().ip()]);
        seat.request(permit)?.expect_success().at("CreatePermission")?;
        let relayed = seat.relayed()?;
        seat.send(Draft::send(peer.address(), payload).bytes())?;
        peer.expect(relayed, payload)?;
        peer.send(relayed, payload)?;
        seat.expect_data(peer.address(), payload)?;
    }
    Ok(())
}
