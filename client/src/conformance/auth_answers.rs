//! AUTH-009… : what authenticated answers carry, the algorithms, the nonce, the owner.

use std::collections::BTreeSet;

use stun_rs::AlgorithmId;

use super::Case;
use super::message::{Draft, Mac};
use super::numbers::{
    ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, FAMILY, IPV6, NONCE, REALM, SHA256, TRANSPORT,
    UNASSIGNED, USERHASH, USERNAME,
};
use super::seat::{Scheme, key};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, fail, not_offered};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "AUTH-009",
        "RFC 8489 §9.2.4, §9.2.5",
        "Every answer to an authenticated request is signed, refusals too.",
        refusals_are_signed,
    ),
    Case::must(
        "AUTH-010",
        "RFC 8489 §9.2.4, §9.1.3",
        "Answers are signed by SHA-256 when the request named an algorithm, else by SHA-1.",
        answers_in_kind,
    ),
    Case::should(
        "AUTH-011",
        "RFC 8489 §9.2.4",
        "Answers to authenticated requests leave out USERNAME, USERHASH, REALM and NONCE.",
        nothing_repeated,
    ),
    Case::must(
        "AUTH-012",
        "RFC 8489 §14.5, §14.6",
        "Integrity covers the message up to itself, whatever attributes follow.",
        coverage,
    ),
    Case::must(
        "AUTH-013",
        "RFC 8489 §14.5, §14.6",
        "An integrity value of another length than its hash's is refused.",
        tag_lengths,
    ),
    Case::must(
        "AUTH-014",
        "RFC 8489 §9.2.2, §18.5.1.1",
        "The MD5 key of user, realm and password verifies.",
        md5_key,
    ),
    Case::must(
        "AUTH-015",
        "RFC 8489 §18.5.1.2, §9.2.2",
        "The SHA-256 key of user, realm and password verifies.",
        sha256_key,
    ),
    Case::must(
        "AUTH-016",
        "RFC 8489 §9.2.4; RFC 8656 §6",
        "PASSWORD-ALGORITHMS names SHA-256 before MD5.",
        strongest_first,
    ),
    Case::must(
        "AUTH-017",
        "RFC 8489 §9.2.4",
        "The nonce's feature bits say whether PASSWORD-ALGORITHMS is there.",
        feature_bits,
    ),
    Case::must(
        "AUTH-018",
        "RFC 8489 §9.2, §14.10",
        "A nonce starts with obMatJos2 and four base64 characters, and stays below 128.",
        nonce_cookie,
    ),
    Case::must(
        "AUTH-020",
        "RFC 8489 §9.2.4",
        "One client's nonce is worthless at another port: 438.",
        nonce_of_another,
    ),
    Case::should(
        "AUTH-021",
        "RFC 8489 §9.2, §9.2.1",
        "A nonce with any character altered is invalid: 438.",
        altered_nonce,
    ),
    Case::should(
        "AUTH-024",
        "RFC 8489 §14.4, §9.2.4",
        "Where user names may be hidden, USERHASH finds the user, and an unknown one gets 401.",
        userhash,
    ),
    Case::must(
        "AUTH-025",
        "RFC 8489 §9.2.4",
        "Where they may not, USERHASH alone is refused.",
        userhash_unsupported,
    ),
    Case::must(
        "AUTH-028",
        "RFC 8656 §5, §19",
        "Another user's request on an allocation gets a signed 441 and changes nothing.",
        another_user,
    ),
    Case::must(
        "AUTH-030",
        "RFC 8489 §9.2; RFC 8656 §5",
        "Integrity attributes in indications are neither needed nor judged.",
        indications_unjudged,
    ),
    Case::must(
        "AUTH-036",
        "RFC 8489 §14.8, §10",
        "Nobody is sent to another server before authentication.",
        no_early_redirect,
    ),
];

fn refusals_are_signed(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let [unknown, ..] = UNASSIGNED;
    let mut refusals = Vec::new();
    for (case, draft) in [
        ("no REQUESTED-TRANSPORT", Draft::new(ALLOCATE)),
        ("an unknown attribute", Draft::allocate().add(unknown, b"")),
        ("Refresh without allocation", Draft::refresh(600)),
        ("an unknown family", Draft::allocate().add(FAMILY, &[3, 0, 0, 0])),
        ("an unknown transport", Draft::new(ALLOCATE).add(TRANSPORT, &[132, 0, 0, 0])),
    ] {
        refusals.push((case, seat.request(draft)?));
    }
    seat.allocate(Draft::allocate())?.expect_success()?;
    let forbidden = (std::net::Ipv4Addr::UNSPECIFIED, 9).into();
    for (case, draft) in [
        ("a second Allocate", Draft::allocate()),
        ("a family the allocation has not", Draft::refresh(600).add(FAMILY, &IPV6)),
        ("ChannelBind without peer", Draft::new(CHANNEL_BIND).channel(0x4000)),
        ("a forbidden peer", Draft::bind(0x4000, forbidden)),
        ("CreatePermission without peer", Draft::new(CREATE_PERMISSION)),
    ] {
        refusals.push((case, seat.request(draft)?));
    }
    for (case, answer) in refusals {
        // Which code it must be is for other cases to say.
        if answer.code().is_some() {
            seat.demand_signed(&answer).at(case)?;
        }
    }
    Ok(())
}

fn answers_in_kind(stage: &Stage<'_>) -> Finding {
    let schemes: &[Scheme] = if stage.survey.offers_sha256 {
        &[Scheme::Legacy, Scheme::Sha256, Scheme::ExplicitMd5]
    } else {
        &[Scheme::Legacy]
    };
    for scheme in schemes {
        let mut seat = stage.challenged()?;
        seat.scheme = *scheme;
        let answer = seat.allocate(Draft::allocate())?;
        answer.expect_success().at(format!("{scheme:?}"))?;
        seat.demand_signed(&answer).at(format!("{scheme:?}"))?;
    }
    Ok(())
}

fn nothing_repeated(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let answers = [seat.allocate(Draft::allocate())?, seat.request(Draft::refresh(600))?];
    for answer in answers {
        answer.expect_success()?;
        for (kind, name) in
            [(USERNAME, "USERNAME"), (USERHASH, "USERHASH"), (REALM, "REALM"), (NONCE, "NONCE")]
        {
            demand(!answer.has(kind), format!("no {name}"), "one")?;
        }
    }
    Ok(())
}

fn coverage(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let old = key(&seat.who, &seat.challenge.realm, AlgorithmId::MD5)?;
    let dress = seat.dress()?;
    let mut legacy = dress.clone();
    (legacy.algorithms, legacy.algorithm) = (None, None);
    let sha1 = legacy.unsigned(Draft::allocate()).sign(&old, Mac::Sha1).fingerprint();
    let answer = seat.ask(&sha1)?;
    answer.expect_success().at("MESSAGE-INTEGRITY, then FINGERPRINT")?;
    seat.note_allocation(&answer);
    if dress.algorithms.is_none() {
        return Ok(());
    }
    let both = dress.unsigned(Draft::refresh(600)).sign(&dress.key, Mac::Sha1);
    let both = both.sign(&dress.key, Mac::Sha256).fingerprint();
    seat.ask(&both)?.expect_success().at("both integrity attributes, then FINGERPRINT")
}

fn tag_lengths(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let old = key(&seat.who, &seat.challenge.realm, AlgorithmId::MD5)?;
    let mut dress = seat.dress()?;
    if stage.survey.offers_sha256 {
        for len in [12, 16, 31, 33] {
            let tagged = dress.unsigned(Draft::allocate()).sign_in(&dress.key, Mac::Sha256, len);
            let answer = seat.ask(&tagged)?;
            answer.expect_any(&[400, 401]).at(format!("SHA-256 of {len} bytes"))?;
        }
    }
    (dress.algorithms, dress.algorithm) = (None, None);
    for len in [16, 19, 24] {
        let tagged = dress.unsigned(Draft::allocate()).sign_in(&old, Mac::Sha1, len);
        let answer = seat.exchange(&tagged)?;
        let Some(answer) = answer else { continue };
        answer.expect_any(&[400, 401]).at(format!("SHA-1 of {len} bytes"))?;
    }
    Ok(())
}

fn md5_key(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    seat.scheme = Scheme::Legacy;
    seat.request(Draft::refresh(600))?.expect(437).at("Refresh without allocation")
}

fn sha256_key(stage: &Stage<'_>) -> Finding {
    stage.demand_sha256()?;
    let mut seat = stage.challenged()?;
    seat.scheme = Scheme::Sha256;
    seat.request(Draft::refresh(600))?.expect(437).at("Refresh without allocation")
}

fn strongest_first(stage: &Stage<'_>) -> Finding {
    stage.demand_sha256()?;
    let seat = stage.challenged()?;
    let offered = seat.challenge.algorithms.clone().unwrap_or_default();
    equal("a first algorithm of", &offered.get(..4), &Some(&SHA256[..]))
}

/// The four characters of feature bits of a nonce.
fn features(nonce: &[u8]) -> Option<&[u8]> {
    nonce.strip_prefix(b"obMatJos2")?.get(..4)
}

/// Feature bits with "password algorithms" set, and with "username anonymity" set, in either
/// reading of the bit order.
const PASSWORD_ALGORITHMS_BIT: [&[u8]; 4] = [b"AAAB", b"AAAD", b"gAAA", b"wAAA"];
const ANONYMITY_BIT: [&[u8]; 4] = [b"AAAC", b"AAAD", b"QAAA", b"wAAA"];

fn feature_bits(stage: &Stage<'_>) -> Finding {
    let seat = stage.challenged()?;
    let Some(bits) = features(&seat.challenge.nonce) else {
        return Err(not_offered("the nonce has no feature bits (AUTH-018)"));
    };
    let promised = PASSWORD_ALGORITHMS_BIT.contains(&bits);
    let listed = seat.challenge.algorithms.is_some();
    equal("the bit of PASSWORD-ALGORITHMS to be", &promised, &listed)
}

fn nonce_cookie(stage: &Stage<'_>) -> Finding {
    let seat = stage.challenged()?;
    let nonce = &seat.challenge.nonce;
    let text = String::from_utf8_lossy(nonce).into_owned();
    let sound = features(nonce).is_some_and(|bits| {
        bits.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
    });
    demand(sound, "a nonce that begins with obMatJos2 and four of base64", &text)?;
    let printable = nonce.iter().all(|byte| (0x20..0x7F).contains(byte));
    demand(printable && nonce.len() < 128, "fewer than 128 printable characters", &text)
}

fn nonce_of_another(stage: &Stage<'_>) -> Finding {
    let one = stage.challenged()?;
    let mut other = stage.challenged()?;
    let own = other.challenge.nonce.clone();
    demand(one.challenge.nonce != own, "two clients with two nonces", "the same nonce")?;
    other.challenge.nonce.clone_from(&one.challenge.nonce);
    let answer = other.ask(&other.dress()?.on(Draft::refresh(600)))?;
    answer.expect(438).at("the nonce of another port")
}

fn altered_nonce(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let nonce = seat.challenge.nonce.clone();
    let last = nonce.len().saturating_sub(1);
    let places: BTreeSet<usize> = [0, 9, 12, 13, last / 2, last].into_iter().collect();
    for at in places.into_iter().filter(|at| *at <= last) {
        let mut dress = seat.dress()?;
        let character = dress.nonce.as_mut().and_then(|nonce| nonce.get_mut(at));
        let Some(character) = character else { continue };
        *character = if *character == b'0' { b'1' } else { b'0' };
        let answer = seat.ask(&dress.on(Draft::refresh(600)))?;
        answer.expect(438).at(format!("character {at} of {}", nonce.len()))?;
    }
    Ok(())
}

/// SHA-256 of `user:realm`.
fn hash_of(user: &str, realm: &[u8]) -> Vec<u8> {
    let text = [user.as_bytes(), b":", realm].concat();
    ring::digest::digest(&ring::digest::SHA256, &text).as_ref().to_vec()
}

fn userhash(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    if !features(&seat.challenge.nonce).is_some_and(|bits| ANONYMITY_BIT.contains(&bits)) {
        return Err(not_offered("the nonce's bits do not offer anonymous user names"));
    }
    let mut dress = seat.dress()?;
    dress.username = None;
    dress.userhash = Some(hash_of(&seat.who.username, &seat.challenge.realm));
    let refresh = seat.ask(&dress.on(Draft::refresh(600)))?;
    refresh.expect(437).at("the user's hash, without allocation")?;
    dress.userhash = Some(vec![7; 32]);
    seat.ask(&dress.on(Draft::refresh(600)))?.expect(401).at("an unknown hash")
}

fn userhash_unsupported(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    if features(&seat.challenge.nonce).is_some_and(|bits| ANONYMITY_BIT.contains(&bits)) {
        return Err(not_offered("the nonce's bits offer anonymous user names"));
    }
    let mut dress = seat.dress()?;
    dress.username = None;
    dress.userhash = Some(hash_of(&seat.who.username, &seat.challenge.realm));
    // 401 by RFC 8489 §9.2.4; who does not know the attribute has reasons for the others.
    seat.ask(&dress.on(Draft::refresh(600)))?.expect_any(&[400, 401, 420])
}

fn another_user(stage: &Stage<'_>) -> Finding {
    let other = stage.other_user()?;
    let peer = (std::net::Ipv4Addr::new(192, 0, 2, 1), 9).into();
    let mut seat = stage.allocated()?;
    let owner = std::mem::replace(&mut seat.who, other);
    for (case, draft) in [
        ("Refresh", Draft::refresh(0)),
        ("CreatePermission", Draft::new(CREATE_PERMISSION).peer(peer)),
        ("ChannelBind", Draft::bind(0x4000, peer)),
    ] {
        let answer = seat.request(draft)?;
        answer.expect(441).at(case)?;
        seat.demand_signed(&answer).at(case)?;
    }
    seat.who = owner;
    seat.request(Draft::refresh(600))?.expect_success().at("the owner's Refresh")
}

fn indications_unjudged(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    let send = Draft::send(peer.address(), b"as it is").sign(b"nobody's key", Mac::Sha1);
    seat.send(send.bytes())?;
    peer.expect(seat.relayed()?, b"as it is")
}

fn no_early_redirect(stage: &Stage<'_>) -> Finding {
    let answer = stage.seat()?.ask(&Draft::allocate())?;
    match answer.code() {
        Some(300) => Err(fail("401 before anything else", "300")),
        _ => Ok(()),
    }
}
