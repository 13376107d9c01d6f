//! REFR-…: lifetimes, the end of an allocation, families.

use super::Case;
use super::allocate::demand_lifetime;
use super::message::Draft;
use super::numbers::{ADDITIONAL_FAMILY, FAMILY, IPV4, IPV6, LIFETIME, REFRESH};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, not_offered};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "REFR-001",
        "RFC 8656 §8.2",
        "The lifetime is at least 600 s and at most what was asked for and the server's maximum.",
        lifetimes,
    ),
    Case::must(
        "REFR-002",
        "RFC 8656 §8.1, §8.2",
        "A lifetime of zero ends the allocation at once.",
        the_end,
    ),
    Case::must(
        "REFR-003",
        "RFC 8656 §5, §8.2",
        "Refresh without an allocation gets 437.",
        nothing_to_refresh,
    ),
    Case::must(
        "REFR-004",
        "RFC 8656 §8.2",
        "A family the allocation does not have gets 443.",
        other_family,
    ),
    Case::must(
        "REFR-005",
        "RFC 8656 §8.1",
        "Without a family, Refresh means both halves of a dual allocation.",
        both_halves,
    ),
    Case::must("REFR-007", "RFC 8656 §6, §8.3", "A 438 leaves the allocation alone.", stale_nonce),
];

fn lifetimes(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    for asked in [None, Some(1), Some(599), Some(601), Some(1_000_000_000)] {
        let draft = asked.map_or_else(|| Draft::new(REFRESH), Draft::refresh);
        let answer = seat.request(draft)?;
        answer.expect_success()?;
        demand_lifetime(asked, &answer).at(format!("asked for {asked:?}"))?;
    }
    Ok(())
}

fn the_end(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    let relayed = seat.relayed()?;
    let peer = stage.peer();
    if let Ok(peer) = &peer {
        let permit = Draft::permit(&[peer.address().ip()]);
        seat.request(permit)?.expect_success().at("CreatePermission")?;
    }
    let answer = seat.request(Draft::refresh(0))?;
    answer.expect_success()?;
    seat.forget();
    equal("a lifetime of", &answer.number(LIFETIME), &Some(0))?;
    if let Ok(peer) = &peer {
        // The port may be unreachable by now.
        peer.send(relayed, b"too late").ok();
        let came = seat.gather(stage.grace())?;
        demand(came.is_empty(), "nothing relayed after the end", "a datagram")?;
    }
    seat.allocate(Draft::allocate())?.expect_success().at("a new allocation on the five-tuple")
}

fn nothing_to_refresh(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    seat.request(Draft::refresh(600))?.expect(437).at("a fresh client")?;
    seat.allocate(Draft::allocate())?.expect_success()?;
    seat.request(Draft::refresh(0))?.expect_success()?;
    seat.forget();
    seat.request(Draft::refresh(0))?.expect(437).at("ended twice")
}

fn other_family(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    seat.request(Draft::refresh(600).add(FAMILY, &IPV6))?.expect(443)?;
    seat.request(Draft::refresh(600).add(FAMILY, &IPV4))?.expect_success().at("its own family")
}

fn both_halves(stage: &Stage<'_>) -> Finding {
    stage.demand_ipv6_relay()?;
    let mut seat = stage.allocated_by(Draft::allocate().add(ADDITIONAL_FAMILY, &IPV6))?;
    seat.request(Draft::refresh(0))?.expect_success()?;
    seat.forget();
    for (case, family) in [("IPv4", &IPV4), ("IPv6", &IPV6)] {
        seat.request(Draft::refresh(600).add(FAMILY, family))?.expect(437).at(case)?;
    }
    Ok(())
}

fn stale_nonce(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    let mut dress = seat.dress()?;
    match dress.nonce.as_mut().and_then(|nonce| nonce.last_mut()) {
        Some(last) => *last = if *last == b'0' { b'1' } else { b'0' },
        None => return Err(not_offered("the nonce is empty")),
    }
    seat.ask(&dress.on(Draft::refresh(0)))?.expect(438)?;
    seat.request(Draft::refresh(600))?.expect_success().at("the allocation lives on")
}
