//! DISC-… and NATB-…: ALPN, demultiplexing, NAT behaviour discovery.

use std::net::UdpSocket;

use super::Case;
use super::message::{Draft, Message};
use super::numbers::{
    CHANGE_REQUEST, MAPPED, OTHER_ADDRESS, PADDING, RESPONSE_ORIGIN, RESPONSE_PORT,
    TRANSMIT_COUNTER, XOR_MAPPED,
};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, fail, not_offered};
use crate::Transport;

pub(super) const CASES: &[Case] = &[
    Case::should(
        "DISC-004",
        "RFC 7443 §1–2",
        "A TLS client is served with ALPN stun.turn, and without ALPN.",
        alpn,
    ),
    Case::should(
        "DISC-005",
        "RFC 7443 §1",
        "A connection negotiated for NAT discovery gives no allocation.",
        alpn_of_discovery,
    ),
    Case::must(
        "DISC-007",
        "RFC 7983 §7; RFC 8656 §12",
        "A datagram with a first byte of neither STUN, DTLS nor a channel has no effect.",
        first_bytes,
    ),
    Case::must(
        "DISC-009",
        "RFC 7983 §3, §9.1",
        "Methods from 0x100 on are dropped silently.",
        high_methods,
    ),
    Case::should(
        "DISC-011",
        "RFC 7982 §3.3",
        "A transmission counter does no harm, and is echoed if it is answered.",
        transmission_counter,
    ),
    Case::must(
        "NATB-001",
        "RFC 5780 §6, §7.4",
        "Without a second address CHANGE-REQUEST gets 420.",
        no_second_address,
    ),
    Case::must(
        "NATB-002",
        "RFC 5780 §6.1",
        "With one, Binding tells MAPPED-ADDRESS, RESPONSE-ORIGIN and OTHER-ADDRESS.",
        what_binding_tells,
    ),
    Case::must(
        "NATB-003",
        "RFC 5780 §6.1, §7.2",
        "CHANGE-REQUEST is answered from the other address, the other port, or both.",
        changed_source,
    ),
    Case::must(
        "NATB-004",
        "RFC 5780 §6.1, §7.5",
        "RESPONSE-PORT is answered at that port; unsupported it gets 420; with PADDING 400.",
        response_port,
    ),
    Case::should(
        "NATB-007",
        "RFC 5780 §6.1",
        "CHANGE-REQUEST on a stream gets 420.",
        no_change_on_streams,
    ),
];

fn with_alpn<'a>(stage: &'a Stage<'a>, labels: &[&str]) -> Finding<super::seat::Seat<'a>> {
    match &stage.plan.transport {
        Transport::Tls(tls) => stage.seat_over(&Transport::Tls(tls.with_alpn(labels))),
        Transport::Udp | Transport::Tcp | Transport::Dtls(_) => {
            Err(not_offered("about TLS, and the URI names none"))
        }
    }
}

fn alpn(stage: &Stage<'_>) -> Finding {
    let offers: [&[&str]; 3] = [&["stun.turn"], &[], &["stun.turn", "http/1.1"]];
    for labels in offers {
        let mut seat = with_alpn(stage, labels).at(format!("{labels:?}"))?;
        seat.ask(&Draft::allocate())?.expect(401).at(format!("{labels:?}"))?;
    }
    Ok(())
}

fn alpn_of_discovery(stage: &Stage<'_>) -> Finding {
    if !matches!(stage.plan.transport, Transport::Tls(_)) {
        return Err(not_offered("about TLS, and the URI names none"));
    }
    let Ok(mut seat) = with_alpn(stage, &["stun.nat-discovery"]) else { return Ok(()) };
    // Closed at once is as good as refused.
    let Ok(Some(challenge)) = seat.exchange(&Draft::allocate()) else { return Ok(()) };
    if challenge.code() != Some(401) {
        return Ok(());
    }
    seat.learn(&challenge)?;
    let answer = seat.allocate(Draft::allocate())?;
    demand(!answer.is_success(), "a refusal", "an allocation")
}

fn first_bytes(stage: &Stage<'_>) -> Finding {
    stage.demand_datagrams()?;
    let mut seat = stage.allocated()?;
    let others = (0..=255_u8).filter(|first| !matches!(first, 0..=3 | 20..=79));
    let datagrams: Vec<Vec<u8>> =
        others.map(|first| Draft::binding().patched(0, &[first])).collect();
    for some in datagrams.chunks(32) {
        let first = some.first().and_then(|bytes| bytes.first()).copied().unwrap_or_default();
        seat.demand_silence(some).at(format!("first bytes from {first:#04x}"))?;
    }
    seat.request(Draft::refresh(600))?.expect_success().at("the allocation lives on")
}

fn high_methods(stage: &Stage<'_>) -> Finding {
    // Their first byte is above 3: on a stream that is STUN-027.
    stage.demand_datagrams()?;
    let mut seat = stage.seat()?;
    for kind in [0x0401_u16, 0x0801, 0x1001, 0x2003, 0x3EEF] {
        let draft = Draft::new(kind);
        seat.demand_silence(&[draft.bytes().to_vec()]).at(format!("type {kind:#06x}"))?;
    }
    Ok(())
}

fn transmission_counter(stage: &Stage<'_>) -> Finding {
    let draft = Draft::binding().add(TRANSMIT_COUNTER, &[0, 0, 2, 0]);
    let answer = stage.seat()?.ask(&draft)?;
    answer.expect_success()?;
    match answer.value(TRANSMIT_COUNTER) {
        Some(value) => equal("the request's count", &value.get(2), &Some(&2)),
        None => Ok(()),
    }
}

fn no_second_address(stage: &Stage<'_>) -> Finding {
    if stage.survey.discovers_nats {
        return Err(not_offered("the server has a second address"));
    }
    let draft = Draft::binding().add(CHANGE_REQUEST, &[0, 0, 0, 6]);
    let answer = stage.seat()?.ask(&draft)?;
    answer.expect(420)?;
    let seen = format!("{:#06x?}", answer.unknown()).replace('\n', "");
    demand(Stage::lists(&answer, CHANGE_REQUEST), "CHANGE-REQUEST in the list", seen)
}

/// The answer to a Binding request of a server that discovers NATs, over UDP.
fn discovering(stage: &Stage<'_>) -> Finding<Message> {
    stage.demand_udp()?;
    if !stage.survey.discovers_nats {
        return Err(not_offered("the server has no second address (no OTHER-ADDRESS)"));
    }
    stage.seat()?.ask(&Draft::binding())
}

fn what_binding_tells(stage: &Stage<'_>) -> Finding {
    let answer = discovering(stage)?;
    for (kind, name) in [
        (MAPPED, "MAPPED-ADDRESS"),
        (XOR_MAPPED, "XOR-MAPPED-ADDRESS"),
        (RESPONSE_ORIGIN, "RESPONSE-ORIGIN"),
        (OTHER_ADDRESS, "OTHER-ADDRESS"),
    ] {
        demand(answer.has(kind), name, "none")?;
    }
    equal("RESPONSE-ORIGIN", &answer.plain_address(RESPONSE_ORIGIN), &Some(stage.server))?;
    let other = answer.plain_address(OTHER_ADDRESS);
    let differs = other.is_some_and(|other| {
        other.ip() != stage.server.ip() && other.port() != stage.server.port()
    });
    demand(differs, "an OTHER-ADDRESS with another address and port", format!("{other:?}"))
}

fn changed_source(stage: &Stage<'_>) -> Finding {
    let answer = discovering(stage)?;
    let other = answer.plain_address(OTHER_ADDRESS);
    let other = other.ok_or_else(|| fail("an OTHER-ADDRESS that can be read", "none"))?;
    let own = stage.server;
    let any = if own.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    for (flags, wanted) in [
        (0, own),
        (2, (own.ip(), other.port()).into()),
        (4, (other.ip(), own.port()).into()),
        (6, other),
    ] {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(stage.plan.timeout))?;
        let request = Draft::binding().add(CHANGE_REQUEST, &[0, 0, 0, flags]);
        socket.send_to(request.bytes(), own)?;
        let came = socket.recv_from(&mut [0; 1024]).map(|(_, from)| from);
        let came = came.map_err(|error| fail(format!("an answer from {wanted}"), error))?;
        equal("an answer from", &came, &wanted).at(format!("flags {flags}"))?;
    }
    Ok(())
}

fn response_port(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.seat()?;
    let victim = stage.peer_at(seat.local()?.ip())?;
    let [high, low] = victim.address().port().to_be_bytes();
    let draft = || Draft::binding().add(RESPONSE_PORT, &[high, low, 0, 0]);
    if !stage.survey.discovers_nats || stage.is_stream() {
        seat.ask(&draft())?.expect(420)?;
        let came = victim.receive(stage.grace())?;
        return demand(came.is_none(), "nothing at that port", "an answer");
    }
    let both = draft().add(PADDING, &[0; 64]);
    seat.ask(&both)?.expect_any(&[400, 420]).at("with PADDING")?;
    seat.send(draft().bytes())?;
    let came = victim.receive(stage.plan.timeout)?;
    demand(came.is_some(), "an answer at that port", "nothing")
}

fn no_change_on_streams(stage: &Stage<'_>) -> Finding {
    stage.demand_stream()?;
    stage.seat()?.ask(&Draft::binding().add(CHANGE_REQUEST, &[0, 0, 0, 6]))?.expect(420)
}
