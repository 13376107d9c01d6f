//! OLD-004, AUTH-040: what is particular to DTLS.

use std::net::UdpSocket;

use super::Case;
use super::compatibility::classic;
use super::message::{Draft, random};
use super::numbers::{BINDING, ERROR, INDICATION};
use super::seat::Arrival;
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, fail};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "OLD-004",
        "RFC 8489 §11",
        "Over DTLS, a request without cookie gets 500, an indication nothing.",
        no_cookie_of_stun,
    ),
    Case::must(
        "AUTH-040",
        "RFC 8489 §13; RFC 6347 §4.2.1",
        "A first ClientHello gets one short answer, which asks for a cookie.",
        no_cookie_of_dtls,
    ),
];

fn no_cookie_of_stun(stage: &Stage<'_>) -> Finding {
    stage.demand_dtls()?;
    let mut seat = stage.seat()?;
    let (indication, _) = classic(BINDING | INDICATION, &[]);
    seat.demand_silence(&[indication]).at("an indication")?;
    let (request, id) = classic(BINDING, &[]);
    let came = seat.probe(&[request])?;
    let bytes = match came.first() {
        Some(Arrival::Message(message)) => message.bytes(),
        Some(Arrival::Other(bytes)) => bytes,
        Some(other @ Arrival::Channel(..)) => return Err(fail("an error", other.describe())),
        None => return Err(fail("an error", "silence")),
    };
    equal("its own bytes 4 to 19", &bytes.get(4..20), &Some(&id[..]))?;
    let kind = bytes.first_chunk().copied().map(u16::from_be_bytes);
    equal("a message of type", &kind, &Some(BINDING | ERROR))?;
    let code = bytes.get(20..28).unwrap_or_default();
    let is_500 = matches!(code, [0, 9, _, _, 0, 0, 5, 0]);
    demand(is_500, "ERROR-CODE 500", format!("{code:02x?}"))?;
    seat.ask(&Draft::binding())?.expect_success().at("the session lives on")
}

/// A ClientHello of DTLS 1.2 without a cookie.
fn hello() -> Vec<u8> {
    let suites = [0xC0, 0x2B, 0xC0, 0x2C, 0xC0, 0x2F, 0xC0, 0x30];
    // Groups, point formats, signatures.
    let extensions = [
        &[0, 10, 0, 6, 0, 4, 0, 0x17, 0, 0x18][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1],
    ]
    .concat();
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    let body = [
        &[0xFE, 0xFD][..],
        &random::<32>(),
        &[0, 0, 0, length(&suites)],
        &suites,
        &[1, 0, 0, length(&extensions)],
        &extensions,
    ]
    .concat();
    let message =
        [&[1, 0, 0, length(&body), 0, 0, 0, 0, 0, 0, 0, length(&body)][..], &body].concat();
    [&[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, length(&message)][..], &message].concat()
}

fn no_cookie_of_dtls(stage: &Stage<'_>) -> Finding {
    stage.demand_dtls()?;
    let any = if stage.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let mut buffer = [0; 2048];
    for turn in ["the first stranger", "the second", "the third"] {
        let socket = UdpSocket::bind(any)?;
        socket.connect(stage.server)?;
        let hello = hello();
        socket.send(&hello)?;
        socket.set_read_timeout(Some(stage.plan.timeout))?;
        let length = socket.recv(&mut buffer).map_err(|error| fail("an answer", error)).at(turn)?;
        let answer = buffer.get(..length).unwrap_or_default();
        let asks = matches!(answer, [22, _, _, _, _, _, _, _, _, _, _, _, _, 3, ..]);
        demand(asks, "a HelloVerifyRequest", format!("{:02x?}", answer.get(..14))).at(turn)?;
        let seen = format!("{length} bytes for {}", hello.len());
        demand(length <= hello.len(), "no longer an answer than the hello", seen).at(turn)?;
        socket.set_read_timeout(Some(stage.grace()))?;
        let more = socket.recv(&mut buffer).is_ok();
        demand(!more, "one answer", "two").at(turn)?;
    }
    Ok(())
}
