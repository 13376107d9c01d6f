//! STUN-…: messages and their handling, whatever they are about.

use std::net::UdpSocket;

use super::Case;
use super::message::{Draft, Message};
use super::numbers::{
    ALLOCATE, BINDING, CHANNEL_BIND, CREATE_PERMISSION, ERROR, ERROR_CODE, INDICATION, LIFETIME,
    REFRESH, SOFTWARE, SUCCESS, UNASSIGNED, XOR_MAPPED,
};
use super::seat::Arrival;
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, fail};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "STUN-001",
        "RFC 8489 §5, §6.3",
        "A datagram whose first bits, cookie or length are not STUN's is dropped silently.",
        broken_headers,
    ),
    Case::must(
        "STUN-002",
        "RFC 8489 §14, §6.3",
        "An attribute that overruns its message makes it malformed: dropped, or 400.",
        overrunning_attribute,
    ),
    Case::must(
        "STUN-003",
        "RFC 8489 §14",
        "Padding bytes of any value are ignored.",
        padding_ignored,
    ),
    Case::must(
        "STUN-004",
        "RFC 8489 §5, §6.3; RFC 8656 §17",
        "Unknown methods, and classes a method does not have, are dropped silently.",
        unknown_types,
    ),
    Case::must(
        "STUN-005",
        "RFC 8489 §5, §6.3.1.1",
        "Responses repeat the transaction id and the method.",
        transaction_echo,
    ),
    Case::must(
        "STUN-006",
        "RFC 8489 §6.3.1.2",
        "A response comes from the address and port the request went to.",
        answers_from_there,
    ),
    Case::must(
        "STUN-008",
        "RFC 8489 §6.3.1.1, §12",
        "A Binding request is answered with the source it was seen to come from.",
        mapped_address,
    ),
    Case::should(
        "STUN-009",
        "RFC 8489 §14.1–14.2",
        "An IPv4 client is told an IPv4 address, whatever kind of socket the server has.",
        mapped_family,
    ),
    Case::should("STUN-010", "RFC 8489 §12", "Binding needs no credentials.", binding_is_open),
    Case::must(
        "STUN-011",
        "RFC 8489 §6.3.2",
        "A Binding indication is never answered.",
        binding_indication,
    ),
    Case::must(
        "STUN-012",
        "RFC 8489 §6.3.1, §14.13",
        "420 lists every unknown comprehension-required attribute once.",
        unknown_attributes,
    ),
    Case::must(
        "STUN-013",
        "RFC 8489 §6.3, §9.2.4",
        "Unknown attributes are judged after authentication, and the 420 is signed.",
        unknown_after_authentication,
    ),
    Case::must(
        "STUN-014",
        "RFC 8489 §6.3.2",
        "An indication with an unknown comprehension-required attribute is dropped silently.",
        unknown_in_indication,
    ),
    Case::must(
        "STUN-015",
        "RFC 8489 §6.3",
        "Unknown comprehension-optional attributes change nothing.",
        optional_attributes,
    ),
    Case::should(
        "STUN-016",
        "RFC 8489 §6.3",
        "Known attributes that do not belong in a message are ignored.",
        misplaced_attributes,
    ),
    Case::must(
        "STUN-017",
        "RFC 8489 §14",
        "Of a repeated attribute the first counts.",
        repeated_attribute,
    ),
    Case::must(
        "STUN-018",
        "RFC 8489 §9",
        "What stands behind the integrity attribute is ignored.",
        behind_integrity,
    ),
    Case::must(
        "STUN-019",
        "RFC 8489 §7, §14.7",
        "FINGERPRINT is accepted and not required; the server's own is last and right.",
        fingerprint_optional,
    ),
    Case::should(
        "STUN-020",
        "RFC 8489 §6.3, §7",
        "A message with a wrong FINGERPRINT is dropped silently.",
        fingerprint_wrong,
    ),
    Case::must(
        "STUN-021",
        "RFC 8489 §14.8",
        "ERROR-CODE has a class from 3 to 6, a number below 100, and zeros before them.",
        error_layout,
    ),
    Case::must(
        "STUN-022",
        "RFC 8489 §6.3.1; RFC 8656 §5",
        "A retransmitted request leaves the same state as a single one.",
        retransmission,
    ),
    Case::should(
        "STUN-023",
        "RFC 8489 §6.1",
        "No response over UDP is longer than 548 bytes (IPv4) or 1232 (IPv6).",
        longest_response,
    )
    .last(),
    Case::should(
        "STUN-024",
        "RFC 8489 §14.14",
        "SOFTWARE, if present, is text of fewer than 128 characters.",
        software,
    ),
];

fn broken_headers(stage: &Stage<'_>) -> Finding {
    stage.demand_datagrams()?;
    // Allocate, because a Binding request without the cookie may be RFC 3489's.
    let sound = Draft::allocate();
    let mut seat = stage.seat()?;
    for (case, bytes) in [
        ("first bits 10", sound.patched(0, &[0x80])),
        ("first bits 11", sound.patched(0, &[0xC0])),
        ("cookie off by one", sound.patched(7, &[0x43])),
        ("length not a multiple of 4", sound.patched(3, &[9])),
        ("length beyond the datagram", sound.patched(3, &[12])),
        ("19 bytes", sound.bytes().get(..19).unwrap_or_default().to_vec()),
        ("empty datagram", Vec::new()),
    ] {
        // What it brings over DTLS is OLD-004.
        if case == "cookie off by one" && stage.demand_dtls().is_ok() {
            continue;
        }
        seat.demand_silence(&[bytes]).at(case)?;
    }
    Ok(())
}

fn overrunning_attribute(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.seat()?;
    for (case, tail) in [
        ("value cut short", &[0x80, 0x22, 0, 12, 1, 2, 3, 4][..]),
        ("length 65535", &[0x80, 0x22, 0xFF, 0xFF]),
    ] {
        let draft = Draft::binding().raw(tail);
        let came = seat.probe(&[draft.bytes().to_vec()]).at(case)?;
        for arrival in came {
            let Arrival::Message(answer) = &arrival else {
                return Err(fail("silence or 400", arrival.describe())).at(case);
            };
            answer.expect(400).at(case)?;
        }
    }
    Ok(())
}

fn padding_ignored(stage: &Stage<'_>) -> Finding {
    // SOFTWARE of one byte, padded with spaces as in RFC 5769 §2.1.
    let draft = Draft::binding().raw(&[0x80, 0x22, 0, 1, b'x', b' ', b' ', b' ']);
    stage.seat()?.ask(&draft)?.expect_success()?;
    let mut seat = stage.challenged()?;
    let padded = Draft::allocate().raw(&[0x80, 0x22, 0, 1, b'x', 0xFF, 0xFF, 0xFF]);
    seat.allocate(padded)?.expect_success().at("Allocate")
}

fn unknown_types(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    for (case, kind) in [
        ("Send as a request", 0x0006),
        ("Data from a client", 0x0017),
        ("a Binding success", 0x0101),
        ("a Binding error", 0x0111),
        ("method 0x005", 0x0005),
        ("an unknown indication", 0x00FF),
    ] {
        seat.demand_silence(&[Draft::new(kind).bytes().to_vec()]).at(case)?;
    }
    Ok(())
}

fn transaction_echo(stage: &Stage<'_>) -> Finding {
    // `ask` takes no answer with another id; methods and classes are compared here.
    let mut seat = stage.seat()?;
    let success = seat.ask(&Draft::binding())?;
    equal("a message of type", &success.kind(), &(BINDING | SUCCESS))?;
    for method in [ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND] {
        let refusal = seat.ask(&Draft::new(method))?;
        equal("a message of type", &refusal.kind(), &(method | ERROR))?;
    }
    Ok(())
}

fn answers_from_there(stage: &Stage<'_>) -> Finding {
    stage.demand_udp()?;
    // A socket that is not connected hears answers from anywhere.
    let any = if stage.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(stage.plan.timeout / 4))?;
    let mut buffer = [0; 2048];
    for _ in 0..4 {
        let request = Draft::binding();
        socket.send_to(request.bytes(), stage.server)?;
        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
            return equal("an answer from", &from, &stage.server);
        }
    }
    Err(fail("an answer", "silence"))
}

/// The answer to a Binding request and the address in it.
fn mapped(stage: &Stage<'_>) -> Finding<(Message, std::net::SocketAddr, std::net::SocketAddr)> {
    let mut seat = stage.seat()?;
    let answer = seat.ask(&Draft::binding())?;
    answer.expect_success()?;
    let mapped = answer.address(XOR_MAPPED);
    let mapped = mapped.ok_or_else(|| fail("XOR-MAPPED-ADDRESS", "none that can be read"))?;
    let local = seat.local()?;
    Ok((answer, mapped, local))
}

fn mapped_address(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let answer = seat.ask(&Draft::binding())?;
    answer.expect_success()?;
    let mapped = answer.address(XOR_MAPPED);
    let mapped = mapped.ok_or_else(|| fail("XOR-MAPPED-ADDRESS", "none that can be read"))?;
    // Behind a NAT the local address says nothing; what Allocate is told must agree anyhow.
    let allocated = seat.allocate(Draft::allocate())?;
    equal("the address that Allocate tells,", &Some(mapped), &allocated.address(XOR_MAPPED))?;
    let local = seat.local()?;
    if local.ip() == mapped.ip() {
        equal("the source port", &mapped.port(), &local.port())?;
    }
    Ok(())
}

fn mapped_family(stage: &Stage<'_>) -> Finding {
    let (answer, ..) = mapped(stage)?;
    let family = answer.value(XOR_MAPPED).and_then(|value| value.get(1)).copied();
    let wanted = if stage.server.is_ipv4() { 1 } else { 2 };
    equal("family", &family, &Some(wanted))
}

fn binding_is_open(stage: &Stage<'_>) -> Finding {
    stage.seat()?.ask(&Draft::binding())?.expect_success()
}

fn binding_indication(stage: &Stage<'_>) -> Finding {
    let indication = Draft::new(BINDING | INDICATION);
    stage.seat()?.demand_silence(&[indication.bytes().to_vec()])
}

fn unknown_attributes(stage: &Stage<'_>) -> Finding {
    let [first, second, _] = UNASSIGNED;
    let with_both = |draft: Draft| draft.add(first, b"abcd").add(second, b"").add(first, b"x");
    let list = |answer: &Message| {
        answer.expect(420)?;
        equal("a list of", &answer.unknown(), &vec![second, first])
    };
    let mut seat = stage.challenged()?;
    list(&seat.ask(&with_both(Draft::binding()))?).at("Binding")?;
    list(&seat.request(with_both(Draft::allocate()))?).at("Allocate")
}

fn unknown_after_authentication(stage: &Stage<'_>) -> Finding {
    let [unknown, ..] = UNASSIGNED;
    let mut seat = stage.challenged()?;
    let draft = || Draft::allocate().add(unknown, b"abcd");
    seat.ask(&draft())?.expect(401).at("without credentials")?;
    let answer = seat.request(draft())?;
    answer.expect(420).at("with credentials")?;
    seat.demand_signed(&answer)
}

fn unknown_in_indication(stage: &Stage<'_>) -> Finding {
    let [unknown, ..] = UNASSIGNED;
    let binding = Draft::new(BINDING | INDICATION).add(unknown, b"abcd");
    stage.seat()?.demand_silence(&[binding.bytes().to_vec()])?;
    let (mut seat, peer) = stage.permitted()?;
    let send = Draft::send(peer.address(), b"not this").add(unknown, b"abcd");
    seat.demand_silence(&[send.bytes().to_vec()])?;
    peer.demand_silence(&mut seat)
}

fn optional_attributes(stage: &Stage<'_>) -> Finding {
    let dressed = |draft: Draft| draft.add(0xC057, b"abcd").add(0xFFFF, b"");
    let mut seat = stage.challenged()?;
    seat.ask(&dressed(Draft::binding()))?.expect_success().at("Binding")?;
    seat.allocate(dressed(Draft::allocate()))?.expect_success().at("Allocate")?;
    seat.request(dressed(Draft::refresh(600)))?.expect_success().at("Refresh")?;
    if let Ok(peer) = &stage.survey.peer {
        let permit = seat.request(dressed(Draft::permit(&[*peer])))?;
        permit.expect_success().at("CreatePermission")?;
    }
    Ok(())
}

fn misplaced_attributes(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let binding = Draft::binding().add(LIFETIME, &[0, 0, 2, 88]);
    seat.ask(&binding)?.expect_success().at("LIFETIME in Binding")?;
    seat.allocate(Draft::allocate())?.expect_success()?;
    let refresh = Draft::refresh(600).channel(0x4000);
    seat.request(refresh)?.expect_success().at("CHANNEL-NUMBER in Refresh")
}

fn repeated_attribute(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    let refresh = Draft::refresh(700).add(LIFETIME, &900_u32.to_be_bytes());
    let answer = seat.request(refresh)?;
    answer.expect_success()?;
    equal("a lifetime of", &answer.number(LIFETIME), &Some(700))
}

fn behind_integrity(stage: &Stage<'_>) -> Finding {
    let [unknown, ..] = UNASSIGNED;
    let mut seat = stage.allocated()?;
    for (case, kind, value) in [
        ("LIFETIME of zero behind it", LIFETIME, &[0; 4]),
        ("an unknown attribute behind it", unknown, b"abcd"),
    ] {
        let refresh = seat.dress()?.on(Draft::new(REFRESH)).add(kind, value);
        let answer = seat.ask(&refresh)?;
        answer.expect_success().at(case)?;
        let lifetime = answer.number(LIFETIME);
        demand(
            lifetime != Some(0),
            format!("{case}: it is not looked at"),
            "the end of the allocation",
        )?;
    }
    seat.request(Draft::refresh(600))?.expect_success().at("the allocation lives on")
}

fn fingerprint_optional(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    for draft in [Draft::binding(), Draft::binding().fingerprint()] {
        let answer = seat.ask(&draft)?;
        answer.expect_success()?;
        demand(answer.fingerprint_holds(), "a FINGERPRINT that is last and right", "another")?;
    }
    let allocate = seat.dress()?.on(Draft::allocate()).fingerprint();
    let answer = seat.ask(&allocate)?;
    answer.expect_success().at("a signed request with FINGERPRINT")?;
    seat.note_allocation(&answer);
    demand(answer.fingerprint_holds(), "a FINGERPRINT that is last and right", "another")
}

fn fingerprint_wrong(stage: &Stage<'_>) -> Finding {
    let sound = Draft::binding().fingerprint();
    let last = sound.bytes().len() - 1;
    let flipped = sound.bytes().last().map_or(0, |byte| byte ^ 1);
    stage.seat()?.demand_silence(&[sound.patched(last, &[flipped])])
}

fn error_layout(stage: &Stage<'_>) -> Finding {
    let [unknown, ..] = UNASSIGNED;
    let mut seat = stage.challenged()?;
    let refusals = [
        seat.ask(&Draft::allocate())?,
        seat.ask(&Draft::binding().add(unknown, b""))?,
        seat.request(Draft::refresh(600))?,
        seat.request(Draft::new(ALLOCATE))?,
    ];
    for refusal in refusals {
        let value = refusal.value(ERROR_CODE).unwrap_or_default();
        let Some((&[zero0, zero1, class, number], reason)) = value.split_first_chunk::<4>() else {
            return Err(fail("an error response with ERROR-CODE", refusal.describe()));
        };
        let sound = [zero0, zero1] == [0, 0] && (3..=6).contains(&class) && number < 100;
        let expected = "reserved bits zero, class 3 to 6, number below 100";
        demand(sound, expected, format!("{zero0:#04x} {zero1:#04x} {class:#04x} {number}"))?;
        let short = std::str::from_utf8(reason).is_ok_and(|text| text.chars().count() < 128);
        demand(short, "a reason of fewer than 128 characters of UTF-8", "another")?;
    }
    Ok(())
}

fn retransmission(stage: &Stage<'_>) -> Finding {
    stage.demand_datagrams()?;
    let mut seat = stage.allocated()?;
    let mut requests = vec![seat.dress()?.on(Draft::refresh(600))];
    if let Ok(peer) = &stage.survey.peer {
        requests.push(seat.dress()?.on(Draft::permit(&[*peer])));
        requests.push(seat.dress()?.on(Draft::bind(0x4000, (*peer, 9).into())));
    }
    for request in requests {
        for turn in ["sent once", "sent again", "sent a third time"] {
            seat.ask(&request)?.expect_success().at(turn)?;
        }
    }
    Ok(())
}

fn longest_response(stage: &Stage<'_>) -> Finding {
    stage.demand_datagrams()?;
    // Something to look at, if no other case ran.
    stage.allocated()?;
    let longest = stage.record().longest;
    let most = if stage.server.is_ipv4() { 548 } else { 1232 };
    demand(longest <= most, format!("at most {most} bytes"), format!("{longest} bytes"))
}

fn software(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let answers = [seat.allocate(Draft::allocate())?, seat.request(Draft::refresh(600))?];
    let texts = answers.iter().filter_map(|answer| answer.value(SOFTWARE));
    for text in texts {
        let short = std::str::from_utf8(text).is_ok_and(|text| text.chars().count() < 128);
        demand(short, "fewer than 128 characters of UTF-8", format!("{} bytes", text.len()))?;
    }
    Ok(())
}
