//! ALLOC-…: the procedure of Allocate, its refusals, its lifetimes.

use super::Case;
use super::message::{Draft, Message, random};
use super::numbers::{
    ADDITIONAL_FAMILY, ALLOCATE, CODES, DONT_FRAGMENT, EVEN_PORT, FAMILY, IPV4, IPV6, LIFETIME,
    RELAYED, RESERVATION, TRANSPORT, XOR_MAPPED,
};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, not_offered};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "ALLOC-001",
        "RFC 8656 §7.2",
        "A success carries the relayed address, the lifetime and the client's own address.",
        what_success_carries,
    ),
    Case::must(
        "ALLOC-002",
        "RFC 8656 §2, §5, §6",
        "Two clients of one user have two independent allocations.",
        two_clients,
    ),
    Case::must(
        "ALLOC-003",
        "RFC 8656 §7.2 step 2",
        "A second Allocate on the same five-tuple gets 437 and leaves the first alone.",
        second_allocate,
    ),
    Case::must(
        "ALLOC-004",
        "RFC 8656 §7.2; RFC 8489 §6.3.1",
        "A retransmitted Allocate gets the same success again.",
        retransmitted_allocate,
    ),
    Case::must(
        "ALLOC-005",
        "RFC 8656 §7.2 step 3, §18.8",
        "REQUESTED-TRANSPORT missing or malformed gets 400, an unknown protocol 442.",
        requested_transport,
    ),
    Case::must(
        "ALLOC-006",
        "RFC 8656 §7.2 step 4, §18.9",
        "DONT-FRAGMENT is accepted, or listed in a 420.",
        dont_fragment,
    ),
    Case::must(
        "ALLOC-007",
        "RFC 8656 §7.2 step 5",
        "RESERVATION-TOKEN beside EVEN-PORT or an address family gets 400.",
        token_combinations,
    ),
    Case::must(
        "ALLOC-008",
        "RFC 8656 §7.2 step 5, §19",
        "An unknown RESERVATION-TOKEN gets 508.",
        unknown_token,
    ),
    Case::should(
        "ALLOC-018",
        "RFC 8656 §5, §7.2 step 10",
        "A user who holds as many allocations as allowed gets 486 until one is released.",
        quota,
    )
    .last(),
    Case::must(
        "ALLOC-021",
        "RFC 8656 §6, §7.2",
        "Relayed ports are above 1023 and do not follow one another.",
        ports_are_random,
    )
    .last(),
    Case::should(
        "ALLOC-022",
        "RFC 8656 §6, §21",
        "A relayed port that was released is not given out again at once.",
        ports_rest,
    ),
    Case::must(
        "ALLOC-024",
        "RFC 8656 §7.2, §6",
        "The lifetime is at least 600 s and at most what was asked for and the server's maximum.",
        lifetimes,
    ),
    Case::must(
        "ALLOC-027",
        "RFC 8656 §7.2",
        "Nobody has a permission on a fresh allocation.",
        no_permissions_yet,
    ),
    Case::should(
        "ALLOC-028",
        "RFC 8489 §18.4; RFC 8656 §19",
        "Only error codes of the registry are sent.",
        known_codes,
    )
    .last(),
];

fn what_success_carries(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let mapped = seat.ask(&Draft::binding())?.address(XOR_MAPPED);
    let success = seat.allocate(Draft::allocate())?;
    success.expect_success()?;
    let relayed = success.address(RELAYED);
    let sound = relayed.is_some_and(|addr| addr.port() > 0 && !addr.ip().is_unspecified());
    demand(sound, "XOR-RELAYED-ADDRESS with address and port", format!("{relayed:?}"))?;
    let lifetime = success.number(LIFETIME);
    demand(lifetime.is_some_and(|s| s > 0), "LIFETIME", format!("{lifetime:?}"))?;
    equal("XOR-MAPPED-ADDRESS", &success.address(XOR_MAPPED), &mapped)?;
    demand(!success.has(RESERVATION), "no RESERVATION-TOKEN unasked", "one")
}

fn two_clients(stage: &Stage<'_>) -> Finding {
    let mut one = stage.allocated()?;
    let mut two = stage.allocated()?;
    demand(one.relayed()? != two.relayed()?, "two relayed addresses", "the same twice")?;
    one.request(Draft::refresh(0))?.expect_success().at("the end of the first")?;
    one.forget();
    two.request(Draft::refresh(600))?.expect_success().at("the second lives on")
}

fn second_allocate(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    let answer = seat.request(Draft::allocate())?;
    answer.expect(437)?;
    seat.demand_signed(&answer)?;
    seat.request(Draft::refresh(600))?.expect_success().at("the first lives on")
}

fn retransmitted_allocate(stage: &Stage<'_>) -> Finding {
    stage.demand_datagrams()?;
    let mut seat = stage.challenged()?;
    let request = seat.dress()?.on(Draft::allocate());
    let first = seat.ask(&request)?;
    first.expect_success()?;
    seat.note_allocation(&first);
    for turn in ["sent again", "sent a third time"] {
        let again = seat.ask(&request)?;
        again.expect_success().at(turn)?;
        equal("the same relayed address", &again.addresses(RELAYED), &first.addresses(RELAYED))
            .at(turn)?;
    }
    Ok(())
}

fn requested_transport(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    for (case, draft, code) in [
        ("missing", Draft::new(ALLOCATE), 400),
        ("one byte long", Draft::new(ALLOCATE).add(TRANSPORT, &[17]), 400),
        ("eight bytes long", Draft::new(ALLOCATE).add(TRANSPORT, &[17, 0, 0, 0, 0, 0, 0, 0]), 400),
        ("protocol 132", Draft::new(ALLOCATE).add(TRANSPORT, &[132, 0, 0, 0]), 442),
    ] {
        seat.request(draft)?.expect(code).at(case)?;
    }
    let reserved = Draft::new(ALLOCATE).add(TRANSPORT, &[17, 0xFF, 0xFF, 0xFF]);
    seat.allocate(reserved)?.expect_success().at("reserved bits set")
}

fn dont_fragment(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let answer = seat.allocate(Draft::allocate().add(DONT_FRAGMENT, &[]))?;
    let listed = Stage::lists(&answer, DONT_FRAGMENT);
    demand(answer.is_success() || listed, "success, or 420 that lists 0x001a", answer.describe())
}

fn token_combinations(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    for (case, kind, value) in [
        ("EVEN-PORT", EVEN_PORT, &[0][..]),
        ("REQUESTED-ADDRESS-FAMILY", FAMILY, &IPV4),
        ("ADDITIONAL-ADDRESS-FAMILY", ADDITIONAL_FAMILY, &IPV6),
    ] {
        let draft = Draft::allocate().add(RESERVATION, &[7; 8]).add(kind, value);
        seat.request(draft)?.expect(400).at(case)?;
    }
    Ok(())
}

fn unknown_token(stage: &Stage<'_>) -> Finding {
    let token: [u8; 8] = random();
    stage.challenged()?.request(Draft::allocate().add(RESERVATION, &token))?.expect(508)
}

/// More allocations than a user is expected to be allowed.
const MANY: usize = 40;

fn quota(stage: &Stage<'_>) -> Finding {
    let mut seats = Vec::new();
    for _ in 0..MANY {
        let mut seat = stage.challenged()?;
        let answer = seat.request(Draft::allocate())?;
        if answer.is_success() {
            seat.note_allocation(&answer);
            seats.push(seat);
            continue;
        }
        answer.expect(486)?;
        seat.demand_signed(&answer)?;
        demand(seats.len() > 1, "room for two allocations", format!("486 after {}", seats.len()))?;
        seats.pop();
        let again = seat.request(Draft::allocate())?;
        if again.is_success() {
            seat.note_allocation(&again);
        }
        return again.expect_success().at("after one was released");
    }
    Err(not_offered(format!("a user may hold {MANY} allocations and more")))
}

fn ports_are_random(stage: &Stage<'_>) -> Finding {
    let mut seats = Vec::new();
    for _ in 0..6 {
        seats.push(stage.allocated()?);
    }
    let ports: Vec<u16> =
        seats.iter().filter_map(|seat| seat.relayed().ok()).map(|addr| addr.port()).collect();
    demand(ports.iter().all(|port| *port > 1023), "ports above 1023", format!("{ports:?}"))?;
    let steps: Vec<i32> =
        ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
    let sequential = steps.iter().all(|step| (1..=2).contains(step));
    demand(!sequential, "ports nobody can foretell", format!("{ports:?}"))
}

fn ports_rest(stage: &Stage<'_>) -> Finding {
    for _ in 0..3 {
        let mut seat = stage.allocated()?;
        let before = seat.relayed()?;
        seat.request(Draft::refresh(0))?.expect_success().at("the end of the allocation")?;
        seat.forget();
        let after = stage.allocated()?.relayed()?;
        demand(before != after, "another port", format!("{before} again"))?;
    }
    Ok(())
}

/// Least lifetime of an allocation, and the most a server should give (RFC 8656 §7.2).
const LEAST: u32 = 600;
const MOST: u32 = 3600;

/// Whether a lifetime may be granted to a request for another.
pub(super) fn demand_lifetime(asked: Option<u32>, answer: &Message) -> Finding {
    let granted = answer.number(LIFETIME);
    let most = asked.unwrap_or(LEAST).clamp(LEAST, MOST);
    // The server's maximum may be lower than the request, but the floor holds.
    let holds = granted.is_some_and(|granted| (LEAST..=most).contains(&granted));
    demand(holds, format!("a lifetime from {LEAST} to {most} s"), format!("{granted:?}"))
}

fn lifetimes(stage: &Stage<'_>) -> Finding {
    for asked in [None, Some(0), Some(30), Some(600), Some(1200), Some(3600), Some(u32::MAX)] {
        let draft = Draft::allocate();
        let draft = match asked {
            Some(seconds) => draft.add(LIFETIME, &seconds.to_be_bytes()),
            None => draft,
        };
        let answer = stage.challenged().and_then(|mut seat| seat.allocate(draft))?;
        answer.expect_success()?;
        demand_lifetime(asked, &answer).at(format!("asked for {asked:?}"))?;
    }
    Ok(())
}

fn no_permissions_yet(stage: &Stage<'_>) -> Finding {
    let peer = stage.peer()?;
    let mut seat = stage.allocated()?;
    peer.send(seat.relayed()?, b"let me in")?;
    let came = seat.gather(stage.grace())?;
    demand(came.is_empty(), "nothing from a peer without permission", "its datagram")
}

fn known_codes(stage: &Stage<'_>) -> Finding {
    stage.seat()?.ask(&Draft::allocate())?;
    let codes = stage.record().codes.clone();
    let strange: Vec<_> = codes.into_iter().filter(|code| !CODES.contains(code)).collect();
    demand(strange.is_empty(), "codes of the registry", format!("{strange:?}"))
}
