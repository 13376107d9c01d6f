//! ATTR-… and OAUTH-002: encodings, and what is wrong with others.

use super::Case;
use super::message::{Draft, xor_address};
use super::numbers::{
    ACCESS_TOKEN, CREATE_PERMISSION, EVEN_PORT, FAMILY, LIFETIME, MD5, PEER, REFRESH, RESERVATION,
    SHA256, THIRD_PARTY, UNASSIGNED, UNKNOWN_ATTRIBUTES,
};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, not_offered};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "ATTR-001",
        "RFC 8489 §14.2; RFC 8656 §18.3",
        "The first byte of an address is ignored; other families and lengths get 400.",
        addresses,
    ),
    Case::must(
        "ATTR-002",
        "RFC 8656 §18.2",
        "LIFETIME of another length than four gets 400.",
        lifetime,
    ),
    Case::must(
        "ATTR-003",
        "RFC 8656 §18.1, §18.7–18.10",
        "EVEN-PORT, RESERVATION-TOKEN and DONT-FRAGMENT of a wrong length get 400.",
        lengths,
    ),
    Case::must(
        "ATTR-004",
        "RFC 8656 §18.6, §18.11",
        "Reserved bytes of an address family are ignored.",
        reserved_bytes,
    ),
    Case::must(
        "ATTR-006",
        "RFC 8489 §14.11",
        "PASSWORD-ALGORITHMS is a list of numbers, lengths and padded parameters.",
        algorithms,
    ),
    Case::must(
        "ATTR-007",
        "RFC 8489 §14.13",
        "UNKNOWN-ATTRIBUTES is two bytes an attribute, whatever their number.",
        unknown_attributes,
    ),
    Case::must(
        "ATTR-010",
        "RFC 8489 §14.9, §14.10",
        "REALM and NONCE have fewer than 128 characters.",
        texts,
    ),
    Case::must(
        "OAUTH-002",
        "RFC 7635 §7",
        "ACCESS-TOKEN gets 420 where third-party authorization is not offered.",
        access_token,
    ),
];

fn addresses(stage: &Stage<'_>) -> Finding {
    let peer = stage.peer()?.address();
    let mut seat = stage.allocated()?;
    let draft = Draft::new(CREATE_PERMISSION);
    let mut value = xor_address(peer, draft.id());
    if let Some(first) = value.first_mut() {
        *first = 0xFF;
    }
    seat.request(draft.add(PEER, &value))?.expect_success().at("first byte 0xff")?;
    for (case, value) in [
        ("family 0x03", &[0, 3, 0, 9, 1, 2, 3, 4][..]),
        ("family 0x00", &[0, 0, 0, 9, 1, 2, 3, 4]),
        ("IPv4 of five bytes", &[0, 1, 0, 9, 1, 2, 3, 4, 5]),
        ("IPv6 of four bytes", &[0, 2, 0, 9, 1, 2, 3, 4]),
    ] {
        let draft = Draft::new(CREATE_PERMISSION).add(PEER, value);
        seat.request(draft)?.expect(400).at(case)?;
    }
    Ok(())
}

fn lifetime(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    for value in [&[0, 9][..], &[], &[0, 0, 2, 88, 0]] {
        let case = format!("{} bytes", value.len());
        seat.request(Draft::new(REFRESH).add(LIFETIME, value))?.expect(400).at(case)?;
    }
    seat.request(Draft::refresh(600))?.expect_success().at("the allocation lives on")
}

fn lengths(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    for (case, kind, value) in [
        ("EVEN-PORT of no byte", EVEN_PORT, &[][..]),
        ("RESERVATION-TOKEN of four bytes", RESERVATION, &[1, 2, 3, 4]),
        ("REQUESTED-ADDRESS-FAMILY of one byte", FAMILY, &[1]),
    ] {
        let answer = seat.allocate(Draft::allocate().add(kind, value))?;
        answer.expect(400).at(case)?;
    }
    Ok(())
}

fn reserved_bytes(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let draft = Draft::allocate().add(FAMILY, &[1, 0xFF, 0xFF, 0xFF]);
    seat.allocate(draft)?.expect_success()
}

fn algorithms(stage: &Stage<'_>) -> Finding {
    let seat = stage.challenged()?;
    let Some(list) = seat.challenge.algorithms.clone() else {
        return Err(not_offered("the server offers no password algorithms"));
    };
    let known = list.chunks(4).all(|entry| entry == MD5 || entry == SHA256);
    demand(known && !list.is_empty(), "MD5 and SHA-256 without parameters", format!("{list:02x?}"))
}

fn unknown_attributes(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.seat()?;
    for count in 1..=UNASSIGNED.len() {
        let some = UNASSIGNED.iter().take(count);
        let draft = some.fold(Draft::binding(), |draft, kind| draft.add(*kind, b""));
        let answer = seat.ask(&draft)?;
        answer.expect(420)?;
        let len = answer.value(UNKNOWN_ATTRIBUTES).map(<[u8]>::len);
        equal("bytes of the list:", &len, &Some(2 * count))?;
    }
    Ok(())
}

fn texts(stage: &Stage<'_>) -> Finding {
    let seat = stage.challenged()?;
    for (name, text) in [("REALM", &seat.challenge.realm), ("NONCE", &seat.challenge.nonce)] {
        let short = std::str::from_utf8(text).is_ok_and(|text| text.chars().count() < 128);
        demand(short, format!("{name} of fewer than 128 characters"), "another")?;
    }
    Ok(())
}

fn access_token(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.seat()?;
    let challenge = seat.be_challenged()?;
    if challenge.has(THIRD_PARTY) {
        return Err(not_offered("the server offers third-party authorization"));
    }
    let answer = seat.request(Draft::allocate().add(ACCESS_TOKEN, &[7; 40]))?;
    answer.expect(420)?;
    demand(Stage::lists(&answer, ACCESS_TOKEN), "ACCESS-TOKEN in the list", "another list")
}
