//! AUTH-001…008 and what goes with them: the checks of RFC 8489 §9.2.4, in their order.

use stun_rs::AlgorithmId;

use super::Case;
use super::message::{Draft, Mac, Message};
use super::numbers::{
    CREATE_PERMISSION, FINGERPRINT, INTEGRITY, INTEGRITY_SHA256, MD5, NONCE, REALM, SHA256,
    USERHASH, USERNAME,
};
use super::seat::{Scheme, key};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, not_offered};
use crate::Credentials;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "AUTH-001",
        "RFC 8489 §9.2.4",
        "A request without integrity gets 401 with REALM and NONCE and nothing of the user.",
        bare_requests,
    ),
    Case::must(
        "AUTH-002",
        "RFC 8489 §9.2.4",
        "Integrity without USERNAME, REALM or NONCE gets a 400 that challenges nobody.",
        incomplete_requests,
    ),
    Case::must(
        "AUTH-003",
        "RFC 8489 §9.2.4",
        "With a cookie nonce and no algorithm attributes, MD5 is understood.",
        implicit_md5,
    ),
    Case::must(
        "AUTH-004",
        "RFC 8489 §9.2.4",
        "A PASSWORD-ALGORITHMS that differs from the challenge, or half the pair, gets 400.",
        altered_algorithms,
    ),
    Case::must(
        "AUTH-005",
        "RFC 8489 §9.2.4",
        "An unknown user gets 401 with REALM and NONCE.",
        unknown_user,
    ),
    Case::must(
        "AUTH-006",
        "RFC 8489 §9.2.4",
        "A wrong password gets 401; of two integrity attributes the SHA-256 one decides.",
        wrong_password,
    ),
    Case::must(
        "AUTH-007",
        "RFC 8489 §9.2.4",
        "The nonce is judged last: 438 only when the integrity is right.",
        stale_nonce,
    ),
    Case::must(
        "AUTH-008",
        "RFC 8489 §9.2.2, §9.2.4",
        "A request for another realm fails as bad credentials: 401.",
        other_realm,
    ),
    Case::must(
        "AUTH-029",
        "RFC 8656 §5; RFC 8489 §6.3",
        "Authentication comes before the allocation: 401 unauthenticated, 437 authenticated.",
        before_allocation,
    ),
    Case::must(
        "AUTH-031",
        "RFC 8656 §5, §7.2",
        "Short-term credentials get 400 or 401, never an allocation.",
        short_term,
    ),
    Case::should("AUTH-032", "RFC 8656 §7.2", "Nobody relays without credentials.", no_open_relay),
    Case::should(
        "AUTH-033",
        "RFC 8489 §16.1.1",
        "An unknown user and a wrong password get the same answer.",
        same_refusal,
    ),
    Case::must(
        "AUTH-034",
        "RFC 8489 §9.2.1, §16.1.3",
        "A bid-down on the path is noticed: algorithms or feature bits that were removed.",
        bid_down,
    ),
];

/// Demands a challenge: REALM, NONCE, nothing of the user, no integrity.
fn demand_challenge(answer: &Message) -> Finding {
    for (kind, name) in [(REALM, "REALM"), (NONCE, "NONCE")] {
        demand(answer.has(kind), format!("{} with {name}", answer.describe()), "none")?;
    }
    demand_nothing_of(answer, &[USERNAME, USERHASH, INTEGRITY, INTEGRITY_SHA256])
}

fn demand_nothing_of(answer: &Message, kinds: &[u16]) -> Finding {
    let found: Vec<u16> = answer.kinds().into_iter().filter(|kind| kinds.contains(kind)).collect();
    let expected = format!("{} without {kinds:#06x?}", answer.describe());
    demand(found.is_empty(), expected.replace('\n', ""), format!("{found:#06x?}").replace('\n', ""))
}

fn bare_requests(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.seat()?;
    let peer = (std::net::Ipv4Addr::new(192, 0, 2, 1), 9).into();
    for (case, draft) in [
        ("Allocate", Draft::allocate()),
        ("Refresh", Draft::refresh(600)),
        ("CreatePermission", Draft::new(CREATE_PERMISSION).peer(peer)),
        ("ChannelBind", Draft::bind(0x4000, peer)),
    ] {
        let answer = seat.ask(&draft).at(case)?;
        answer.expect(401).at(case)?;
        demand_challenge(&answer).at(case)?;
    }
    Ok(())
}

fn incomplete_requests(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    for case in ["no REALM", "no NONCE", "no USERNAME"] {
        let mut dress = seat.dress()?;
        match case {
            "no REALM" => dress.realm = None,
            "no NONCE" => dress.nonce = None,
            _ => dress.username = None,
        }
        let answer = seat.ask(&dress.on(Draft::allocate()))?;
        answer.expect(400).at(case)?;
        let none = [USERNAME, USERHASH, REALM, NONCE, INTEGRITY, INTEGRITY_SHA256];
        demand_nothing_of(&answer, &none).at(case)?;
    }
    Ok(())
}

fn implicit_md5(stage: &Stage<'_>) -> Finding {
    stage.demand_sha256()?;
    let mut seat = stage.challenged()?;
    seat.scheme = Scheme::Legacy;
    seat.allocate(Draft::allocate())?.expect_success()
}

fn altered_algorithms(stage: &Stage<'_>) -> Finding {
    stage.demand_sha256()?;
    let mut seat = stage.challenged()?;
    let offered = seat.challenge.algorithms.clone().unwrap_or_default();
    let turned: Vec<u8> = offered.chunks(4).rev().flatten().copied().collect();
    let unknown = vec![0, 3, 0, 0];
    for (case, list, chosen) in [
        ("SHA-256 removed", Some(MD5.to_vec()), Some(MD5.to_vec())),
        ("the order turned round", Some(turned), Some(SHA256.to_vec())),
        ("the list alone", Some(offered.clone()), None),
        ("the choice alone", None, Some(SHA256.to_vec())),
        ("a choice not in the list", Some(offered), Some(unknown)),
    ] {
        let mut dress = seat.dress()?;
        if chosen.as_deref() == Some(&MD5) {
            dress.key = key(&seat.who, &seat.challenge.realm, AlgorithmId::MD5)?;
        }
        (dress.algorithms, dress.algorithm) = (list, chosen);
        seat.ask(&dress.on(Draft::allocate()))?.expect(400).at(case)?;
    }
    Ok(())
}

/// A user nobody knows, whose name has the form of one who is known.
fn stranger(known: &Credentials) -> Credentials {
    let username = match known.username.split_once(':') {
        Some((expiry, _)) => format!("{expiry}:nobody-knows-me"),
        None => "nobody-knows-me".to_owned(),
    };
    Credentials::new(username, "no-password-of-anybody")
}

fn unknown_user(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    for who in [stranger(&seat.who), Credentials::new("plain-stranger", "x")] {
        seat.who = who;
        let answer = seat.ask(&seat.dress()?.on(Draft::allocate()))?;
        answer.expect(401)?;
        demand_challenge(&answer)?;
    }
    Ok(())
}

fn wrong_password(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let right = seat.dress()?;
    seat.who.password.push('x');
    let wrong = seat.dress()?;
    let answer = seat.ask(&wrong.on(Draft::allocate()))?;
    answer.expect(401)?;
    demand_challenge(&answer)?;
    if !stage.survey.offers_sha256 {
        return Ok(());
    }
    let both = right.unsigned(Draft::allocate()).sign(&right.key, Mac::Sha1);
    let both = both.sign(&wrong.key, Mac::Sha256);
    seat.ask(&both)?.expect(401).at("right SHA-1 and wrong SHA-256")
}

/// The nonce with one character changed.
fn altered(nonce: &[u8], at: usize) -> Vec<u8> {
    let mut nonce = nonce.to_vec();
    if let Some(character) = nonce.get_mut(at) {
        *character = if *character == b'0' { b'1' } else { b'0' };
    }
    nonce
}

fn stale_nonce(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let mut right = seat.dress()?;
    let last = seat.challenge.nonce.len().saturating_sub(1);
    right.nonce = Some(altered(&seat.challenge.nonce, last));
    let answer = seat.ask(&right.on(Draft::allocate()))?;
    answer.expect(438).at("an invalid nonce and the right password")?;
    for (kind, name) in [(REALM, "REALM"), (NONCE, "NONCE")] {
        demand(answer.has(kind), format!("438 with {name}"), "none")?;
    }
    demand(answer.value(NONCE) != right.nonce.as_deref(), "a fresh NONCE", "the same")?;
    let mut wrong = right;
    wrong.key = vec![7; wrong.key.len()];
    seat.ask(&wrong.on(Draft::allocate()))?.expect(401).at("an invalid nonce and a wrong password")
}

fn other_realm(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let right = seat.challenge.realm.clone();
    seat.challenge.realm = b"somebody.else.example".to_vec();
    let answer = seat.ask(&seat.dress()?.on(Draft::allocate()))?;
    answer.expect(401)?;
    equal("the server's own REALM", &answer.value(REALM), &Some(&right[..]))
}

fn before_allocation(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    seat.ask(&Draft::refresh(600))?.expect(401).at("unauthenticated, no allocation")?;
    seat.request(Draft::refresh(600))?.expect(437).at("authenticated, no allocation")?;
    seat.allocate(Draft::allocate())?.expect_success()?;
    seat.ask(&Draft::refresh(600))?.expect(401).at("unauthenticated, with an allocation")
}

fn short_term(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let mut dress = seat.dress()?;
    dress.key = seat.who.password.clone().into_bytes();
    dress.mac = Mac::Sha1;
    (dress.realm, dress.nonce, dress.algorithms, dress.algorithm) = (None, None, None, None);
    seat.ask(&dress.on(Draft::allocate()))?.expect_any(&[400, 401])
}

fn no_open_relay(stage: &Stage<'_>) -> Finding {
    stage.seat()?.ask(&Draft::allocate())?.expect(401)
}

fn same_refusal(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let known = seat.who.clone();
    let shape = |answer: &Message| {
        let texts =
            answer.kinds().into_iter().filter(|kind| *kind != NONCE && *kind != FINGERPRINT);
        let texts: Vec<_> =
            texts.map(|kind| (kind, answer.value(kind).map(<[u8]>::to_vec))).collect();
        (answer.code(), answer.bytes().len(), texts)
    };
    let mut refusal = |who: Credentials| {
        seat.who = who;
        let dress = seat.dress()?;
        seat.ask(&dress.on(Draft::allocate())).map(|answer| shape(&answer))
    };
    let wrong = refusal(Credentials::new(known.username.clone(), "wrong"))?;
    let unknown = refusal(stranger(&known))?;
    demand(
        wrong == unknown,
        format!("the same {:?} for both", wrong.0),
        format!("{:?} and another", unknown.0),
    )
}

fn bid_down(stage: &Stage<'_>) -> Finding {
    stage.demand_sha256()?;
    let mut seat = stage.challenged()?;
    // The list is gone, the client believes it: it asks as RFC 5389 did, but with clear bits.
    let mut dress = seat.dress()?;
    let bits = dress.nonce.as_mut().and_then(|nonce| nonce.get_mut(9..13));
    let Some(bits) = bits else { return Err(not_offered("the nonce has no feature bits")) };
    bits.copy_from_slice(b"AAAA");
    (dress.algorithms, dress.algorithm) = (None, None);
    dress.key = key(&seat.who, &seat.challenge.realm, AlgorithmId::MD5)?;
    dress.mac = Mac::Sha1;
    seat.ask(&dress.on(Draft::allocate()))?.expect_any(&[400, 438]).at("feature bits cleared")?;
    let mut dress = seat.dress()?;
    (dress.algorithms, dress.algorithm) = (Some(MD5.to_vec()), Some(MD5.to_vec()));
    dress.key = key(&seat.who, &seat.challenge.realm, AlgorithmId::MD5)?;
    seat.ask(&dress.on(Draft::allocate()))?.expect_any(&[400, 438]).at("SHA-256 removed")
}
