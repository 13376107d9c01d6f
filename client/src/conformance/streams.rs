//! STUN-025…029, MEDIA-010, AUTH-039: what a client over TCP and TLS may count on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Case;
use super::message::Draft;
use super::numbers::DATA;
use super::seat::Arrival;
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, not_offered};
use crate::{Transport, clock};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "STUN-025",
        "RFC 8489 §6.2.2, §6.3.1.2",
        "On a stream, messages are cut at their own length: in pieces, and several at once.",
        cuts,
    ),
    Case::should(
        "STUN-026",
        "RFC 8489 §6.2.2",
        "A connection stays open while its client is silent.",
        idle,
    ),
    Case::should(
        "STUN-027",
        "RFC 7983 §7; RFC 8656 §12",
        "A stream that goes on with a byte that starts no message is closed.",
        garbled,
    ),
    Case::must(
        "STUN-029",
        "RFC 8489 §12; RFC 8656 §5",
        "TCP at the port of UDP, where it is open, serves STUN and TURN as well.",
        tcp_beside_udp,
    ),
    Case::must(
        "AUTH-039",
        "RFC 8489 §6.2.3; RFC 8656 §3.1",
        "TLS before version 1.2 is refused.",
        old_tls,
    ),
    Case::should(
        "MEDIA-010",
        "RFC 8656 §5, §16",
        "A client that reads slowly loses whole datagrams, and the stream stays readable.",
        slow_reader,
    ),
];

fn cuts(stage: &Stage<'_>) -> Finding {
    stage.demand_stream()?;
    let mut seat = stage.seat()?;
    let request = Draft::binding();
    let (last, first) = request.bytes().split_last().unwrap_or((&0, &[]));
    for byte in first {
        seat.send_raw(&[*byte])?;
    }
    let early = seat.gather(stage.grace())?;
    demand(early.is_empty(), "no answer before the last byte", "an answer")?;
    seat.send_raw(&[*last])?;
    let answers = seat.gather_at_least(1)?;
    equal("answers to a request in single bytes:", &answers.len(), &1)?;
    let three = [Draft::binding(), Draft::binding(), Draft::binding()];
    seat.send_raw(&three.each_ref().map(Draft::bytes).concat())?;
    let answers = seat.gather_at_least(3)?;
    equal("answers to three requests in one segment:", &answers.len(), &3)
}

fn idle(stage: &Stage<'_>) -> Finding {
    stage.demand_stream()?;
    let mut seat = stage.allocated()?;
    let came = seat.gather(stage.plan.timeout)?;
    demand(came.is_empty(), "nothing", "something")?;
    seat.request(Draft::refresh(600))?.expect_success().at("after a silence")
}

fn garbled(stage: &Stage<'_>) -> Finding {
    stage.demand_stream()?;
    for first in [0xFF, 0x80, 0x20, 0x04] {
        let mut seat = stage.seat()?;
        seat.ask(&Draft::binding())?.expect_success()?;
        seat.send_raw(&[first; 64])?;
        let until = clock::now() + stage.plan.timeout;
        let mut buffer = [0; 256];
        // Closed in order, or by a reset: either will do.
        let open = matches!(seat.link().receive_raw(until, &mut buffer), Ok(None | Some(1..)));
        demand(!open, format!("{first:#04x} closes the connection"), "it stays open")?;
    }
    Ok(())
}

fn tcp_beside_udp(stage: &Stage<'_>) -> Finding {
    stage.demand_udp()?;
    let Ok(mut seat) = stage.seat_over(&Transport::Tcp) else {
        return Err(not_offered("no TCP at this port, which is the operator's choice"));
    };
    seat.ask(&Draft::binding())?.expect_success().at("Binding")?;
    seat.ask(&Draft::allocate())?.expect(401).at("Allocate")
}

/// A ClientHello that knows TLS 1.1 and nothing newer.
fn hello_of_tls_1_1() -> Vec<u8> {
    let suites = [0xC0, 0x13, 0xC0, 0x14, 0x00, 0x2F, 0x00, 0x35];
    // Groups and point formats, so that nothing but the version is amiss.
    let extensions = [0, 0x0A, 0, 6, 0, 4, 0, 0x17, 0, 0x18, 0, 0x0B, 0, 2, 1, 0];
    let body = [
        &[3, 2][..],
        &super::message::random::<32>(),
        &[0, 0, 8],
        &suites,
        &[1, 0, 0, 16],
        &extensions,
    ]
    .concat();
    let len = u8::try_from(body.len()).unwrap_or(u8::MAX);
    [&[0x16, 3, 1, 0, len + 4, 1, 0, 0, len][..], &body].concat()
}

fn old_tls(stage: &Stage<'_>) -> Finding {
    if !matches!(stage.plan.transport, Transport::Tls(_)) {
        return Err(not_offered("about TLS, and the URI names none"));
    }
    let mut stream = TcpStream::connect_timeout(&stage.server, stage.plan.timeout)?;
    stream.set_read_timeout(Some(stage.plan.timeout))?;
    stream.write_all(&hello_of_tls_1_1())?;
    let mut record = [0; 16];
    let answered = stream.read(&mut record).is_ok_and(|len| len > 0);
    // A handshake record would be the ServerHello; an alert, or the end, is a refusal.
    let accepted = answered && record.first() == Some(&0x16);
    demand(!accepted, "a refusal of TLS 1.1", "a ServerHello")
}

/// Datagrams for a client that does not read, and their length.
const FLOOD: u32 = 4000;
const LONG: usize = 1200;

fn slow_reader(stage: &Stage<'_>) -> Finding {
    stage.demand_stream()?;
    let (mut seat, peer) = stage.permitted()?;
    let relayed = seat.relayed()?;
    for number in 0..FLOOD {
        let payload: Vec<u8> = number.to_be_bytes().repeat(LONG / 4);
        peer.send(relayed, &payload)?;
        if number % 100 == 0 {
            clock::rest(Duration::from_millis(2));
        }
    }
    let mut came = seat.gather_at_least(1)?;
    came.extend(seat.gather(stage.grace() * 4)?);
    demand(!came.is_empty(), "some of the datagrams", "none")?;
    for arrival in &came {
        let whole = match arrival {
            Arrival::Message(message) => message.value(DATA).is_some_and(|data| {
                data.len() == LONG && data.chunks(4).all(|part| Some(part) == data.get(..4))
            }),
            Arrival::Channel(..) | Arrival::Other(_) => false,
        };
        demand(whole, "whole datagrams, unharmed", arrival.describe())?;
    }
    seat.request(Draft::refresh(600))?.expect_success().at("Refresh afterwards")
}
