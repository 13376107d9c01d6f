//! What a whole message of SIP is answered with.

use std::time::Duration;

use crate::clock;
use crate::mras::MEDIA_TYPE;
use crate::mras::issue::{Mint, Server, issue};
use crate::mras::reason::Reason;
use crate::mras::request::Request;
use crate::mras::response;
use crate::shared::Shared;
use crate::sip::answer::{Answer, Status, can_answer, is_complete};
use crate::sip::framing::{Broken, Message};
use crate::sip::message::{Head, Start};

/// Work on a request ends by then (MRAS-19).
const WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// The response to a message; `None` if it gets none: a response, an ACK, or a request that does
/// not say where to.
pub(crate) fn answer(shared: &Shared, server: &Server, message: &Message) -> Option<Vec<u8>> {
    let Start::Request { method, known_version } = message.head.start() else { return None };
    if !can_answer(&message.head) {
        return None;
    }
    shared.telemetry.mras.begun();
    let answer = match refusal(&message.head, method, *known_version) {
        Some(answer) => {
            shared.telemetry.mras.refused(answer.status);
            answer
        }
        None if method == "OPTIONS" => Answer { headers: ABLE, ..Answer::bare(Status::Ok) },
        None => serve(shared, server, &message.body),
    };
    shared.telemetry.mras.done();
    Some(answer.to_bytes(&message.head, MEDIA_TYPE))
}

/// The last response on a connection that cannot go on, if one can be sent.
pub(crate) fn farewell(shared: &Shared, broken: &Broken) -> Option<Vec<u8>> {
    shared.telemetry.mras.broken();
    let (head, status) = match broken {
        Broken::HeadTooLong | Broken::NotSip(_) => return None,
        Broken::NoLength(head) => (head, Status::BadRequest),
        Broken::BodyTooLong(head) => (head, Status::EntityTooLarge),
    };
    shared.telemetry.mras.refused(status);
    can_answer(head).then(|| Answer::bare(status).to_bytes(head, MEDIA_TYPE))
}

/// What SIP refuses, without a body (MRAS-10, MRAS-11).
fn refusal(head: &Head, method: &str, known_version: bool) -> Option<Answer> {
    if !known_version {
        return Some(Answer::bare(Status::VersionNotSupported));
    }
    if !is_complete(head, method) {
        return Some(Answer::bare(Status::BadRequest));
    }
    match method {
        "OPTIONS" => None,
        "SERVICE" => (!is_ours(head)).then_some(Answer {
            headers: &[("Accept", MEDIA_TYPE)],
            ..Answer::bare(Status::UnsupportedMediaType)
        }),
        known if METHODS.contains(&known) => {
            Some(Answer { headers: ABLE, ..Answer::bare(Status::MethodNotAllowed) })
        }
        _ => Some(Answer { headers: ABLE, ..Answer::bare(Status::NotImplemented) }),
    }
}

/// Methods that are known, and not for this service.
const METHODS: [&str; 12] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "SUBSCRIBE",
    "NOTIFY",
    "MESSAGE",
    "INFO",
    "PRACK",
    "UPDATE",
    "REFER",
];

const ABLE: &[(&str, &str)] = &[("Allow", "SERVICE, OPTIONS"), ("Accept", MEDIA_TYPE)];

/// Whether the body is of our type, and is itself.
fn is_ours(head: &Head) -> bool {
    let kind = head.only("content-type").and_then(|value| value.split(';').next());
    let itself = |coding: &str| coding.eq_ignore_ascii_case("identity");
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(MEDIA_TYPE))
        && head.all("content-encoding").all(itself)
}

/// A request for credentials.
fn serve(shared: &Shared, server: &Server, body: &[u8]) -> Answer {
    let deadline = clock::now().mono + WORK_TIMEOUT;
    let live = shared.live();
    let (Some(mras), Some(asked)) = (&live.config.mras, &live.asked) else {
        return refused(shared, server, None, Reason::NotSupported);
    };
    // Whatever becomes of the request, it counts.
    let charged = asked.charge_server(server);
    let request = match Request::parse(body) {
        Ok(request) => request,
        Err(malformed) => {
            tracing::debug!("{server}: a request is malformed: {}", malformed.0);
            return refused(shared, server, None, Reason::RequestMalformed);
        }
    };
    let ring = &live.config.issue.ring;
    let granted =
        charged.and_then(|()| issue(&mras.rules, Mint::of(ring), asked, &request, deadline));
    match granted {
        Ok(granted) => {
            tracing::debug!("{server}: {}", Reason::Ok.phrase());
            shared.telemetry.mras.issued(granted.len());
            shared.telemetry.mras.answered(Reason::Ok);
            let body = response::granted(&request, &granted, mras.rules.realm.as_deref());
            Answer { status: Reason::Ok.status(), headers: &[], body }
        }
        Err(reason) => refused(shared, server, Some(&request), reason),
    }
}

fn refused(shared: &Shared, server: &Server, request: Option<&Request>, reason: Reason) -> Answer {
    tracing::debug!("{server}: {}", reason.phrase());
    shared.telemetry.mras.answered(reason);
    let body = response::refused(request, reason);
    Answer { status: reason.status(), headers: &[], body }
}
