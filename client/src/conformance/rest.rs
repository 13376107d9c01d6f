//! REST-…: credentials limited in time, with a secret shared between server and service.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

use super::Case;
use super::message::Draft;
use super::seat::Seat;
use super::stage::Stage;
use super::verdict::{At, Finding, not_offered};
use crate::{Credentials, clock};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "REST-003",
        "draft-uberti-behave-turn-rest-00 §2.2, §4.2",
        "A user name that does not begin with a time stamp gets 401.",
        malformed,
    ),
    Case::must(
        "REST-004",
        "draft-uberti-behave-turn-rest-00 §2.2",
        "The password is the base64 of HMAC-SHA1 over the user name.",
        password,
    ),
    Case::should(
        "REST-006",
        "draft-uberti-behave-turn-rest-00 §4.2",
        "A time stamp in the past makes no allocation: 401.",
        expired,
    ),
    Case::must(
        "REST-008",
        "RFC 8656 §5; draft-uberti-behave-turn-rest-00 §3",
        "Renewed credentials are another user on an existing allocation: 441.",
        renewed,
    ),
    Case::should(
        "REST-011",
        "draft-uberti-behave-turn-rest-00 §2.2",
        "A time stamp ten years ahead gets 401.",
        too_far_ahead,
    ),
    Case::must("REST-014", "RFC 8489 §14.3", "A user id may hold colons.", colons),
];

/// A year, and an hour, in seconds.
const YEAR_S: u64 = 365 * 86_400;
const HOUR_S: u64 = 3600;

/// The credential of a user name: the TURN REST form.
pub fn credentials(secret: &str, username: &str) -> Credentials {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    Credentials::new(username, BASE64_STANDARD.encode(hmac::sign(&key, username.as_bytes())))
}

/// A client with the REST credential of this user name.
fn client<'a>(stage: &'a Stage<'a>, username: &str) -> Finding<Seat<'a>> {
    let Some(secret) = &stage.plan.secret else {
        return Err(not_offered("needs the shared secret: see --secret"));
    };
    let mut seat = stage.challenged()?;
    seat.who = credentials(secret, username);
    Ok(seat)
}

fn in_an_hour(user: &str) -> String {
    format!("{}:{user}", clock::unix_s() + HOUR_S)
}

fn malformed(stage: &Stage<'_>) -> Finding {
    for name in ["soon:u", ":u", "-1:u", "9007199254740993:u", "0x7fffffff:u", " 9999999999:u"] {
        let mut seat = client(stage, name)?;
        seat.request(Draft::allocate())?.expect(401).at(format!("{name:?}"))?;
    }
    Ok(())
}

fn password(stage: &Stage<'_>) -> Finding {
    let mut seat = client(stage, &in_an_hour("conformance-rest"))?;
    seat.allocate(Draft::allocate())?.expect_success()
}

fn expired(stage: &Stage<'_>) -> Finding {
    let name = format!("{}:conformance-rest", clock::unix_s().saturating_sub(2));
    client(stage, &name)?.request(Draft::allocate())?.expect(401)
}

fn renewed(stage: &Stage<'_>) -> Finding {
    let mut seat = client(stage, &in_an_hour("conformance-rest"))?;
    seat.allocate(Draft::allocate())?.expect_success()?;
    let owner = seat.who.clone();
    let later = format!("{}:conformance-rest", clock::unix_s() + 2 * HOUR_S);
    seat.who = client(stage, &later)?.who.clone();
    seat.request(Draft::refresh(600))?.expect(441)?;
    seat.who = owner;
    seat.request(Draft::refresh(600))?.expect_success().at("the owner's Refresh")
}

fn too_far_ahead(stage: &Stage<'_>) -> Finding {
    let name = format!("{}:conformance-rest", clock::unix_s() + 10 * YEAR_S);
    client(stage, &name)?.request(Draft::allocate())?.expect(401)
}

fn colons(stage: &Stage<'_>) -> Finding {
    let mut seat = client(stage, &in_an_hour("a:b:c"))?;
    seat.allocate(Draft::allocate())?.expect_success()
}
