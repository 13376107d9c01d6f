//! OLD-…: what older clients may count on, and what they may not.

use super::Case;
use super::message::{Draft, random};
use super::numbers::{ALLOCATE, BINDING, MAPPED, OTHER_ADDRESS, RESPONSE_ADDRESS, SHARED_SECRET};
use super::seat::{Arrival, Scheme};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, fail, not_offered};

pub(super) const CASES: &[Case] = &[
    Case::should(
        "OLD-001",
        "RFC 5389 §12.2",
        "A Binding request without cookie, if answered, gets its 16 bytes back and MAPPED-ADDRESS.",
        classic_binding,
    ),
    Case::should(
        "OLD-002",
        "RFC 8489 §14.1; RFC 5780 §6.1",
        "Modern clients get no MAPPED-ADDRESS, unless for NAT behaviour discovery.",
        no_plain_address,
    ),
    Case::must(
        "OLD-003",
        "RFC 5389 §12.2; RFC 5780 §6",
        "RESPONSE-ADDRESS redirects nothing: 420, or no answer at all.",
        no_redirection,
    ),
    Case::must(
        "OLD-005",
        "RFC 8656 §5",
        "Allocate without the magic cookie is dropped.",
        classic_allocate,
    ),
    Case::must("OLD-006", "RFC 8489 §18.2", "The Shared Secret method is gone.", shared_secret),
    Case::must(
        "OLD-007",
        "RFC 8489 §9.2.4, §19",
        "A client of RFC 5389 allocates and refreshes with MD5 and HMAC-SHA1.",
        old_client,
    ),
    Case::must(
        "OLD-008",
        "RFC 8489 §14.3",
        "A USERNAME of 763 bytes is read (and unknown: 401).",
        long_username,
    ),
    Case::must(
        "OLD-009",
        "RFC 8656 §12, §12.2; RFC 5766 §11",
        "Channel numbers from 0x5000 are refused, unless switched on for clients of RFC 5766.",
        old_channel_numbers,
    ),
];

/// A request of RFC 3489: no cookie, 16 random bytes.
pub(super) fn classic(method: u16, tail: &[u8]) -> (Vec<u8>, [u8; 16]) {
    let id: [u8; 16] = random();
    let len = u16::try_from(tail.len()).unwrap_or(0);
    let head = [method.to_be_bytes(), len.to_be_bytes()].concat();
    ([&head[..], &id, tail].concat(), id)
}

fn classic_binding(stage: &Stage<'_>) -> Finding {
    stage.demand_udp()?;
    let (request, id) = classic(BINDING, &[]);
    let mut seat = stage.seat()?;
    let came = seat.probe(&[request])?;
    let Some(arrival) = came.into_iter().next() else {
        return Err(not_offered("requests of RFC 3489 are not answered, which is allowed"));
    };
    let bytes = match &arrival {
        Arrival::Message(message) => message.bytes(),
        Arrival::Other(bytes) => bytes,
        Arrival::Channel(..) => return Err(fail("a Binding answer", arrival.describe())),
    };
    equal("its own bytes 4 to 19", &bytes.get(4..20), &Some(&id[..]))?;
    let attribute = bytes.get(20..22);
    equal("MAPPED-ADDRESS first:", &attribute, &Some(&MAPPED.to_be_bytes()[..]))
}

fn no_plain_address(stage: &Stage<'_>) -> Finding {
    let answer = stage.seat()?.ask(&Draft::binding())?;
    if answer.has(OTHER_ADDRESS) {
        return Err(not_offered("the server discovers NAT behaviour, which wants MAPPED-ADDRESS"));
    }
    demand(!answer.has(MAPPED), "XOR-MAPPED-ADDRESS alone", "MAPPED-ADDRESS beside it")
}

fn no_redirection(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.seat()?;
    let local = seat.local()?;
    // Another port of this host stands for the victim.
    let victim = stage.peer_at(local.ip())?;
    let port = victim.address().port().to_be_bytes();
    let value = match local.ip() {
        std::net::IpAddr::V4(ip) => [&[0, 1][..], &port, &ip.octets()].concat(),
        std::net::IpAddr::V6(ip) => [&[0, 2][..], &port, &ip.octets()].concat(),
    };
    let modern = Draft::binding().add(RESPONSE_ADDRESS, &value);
    seat.ask(&modern)?.expect(420).at("a modern request")?;
    if !stage.is_stream() {
        let tail = modern.bytes().get(20..).unwrap_or_default();
        let (request, _) = classic(BINDING, tail);
        seat.probe(&[request])?;
    }
    let hit = victim.receive(stage.grace())?;
    demand(hit.is_none(), "nothing at the address it names", "an answer there")
}

fn classic_allocate(stage: &Stage<'_>) -> Finding {
    stage.demand_udp()?;
    let tail = Draft::allocate();
    let (request, _) = classic(ALLOCATE, tail.bytes().get(20..).unwrap_or_default());
    stage.seat()?.demand_silence(&[request])
}

fn shared_secret(stage: &Stage<'_>) -> Finding {
    let request = Draft::new(SHARED_SECRET);
    let came = stage.seat()?.probe(&[request.bytes().to_vec()])?;
    let success = came.iter().find(|a| matches!(a, Arrival::Message(m) if m.is_success()));
    demand(success.is_none(), "no success", "success")
}

fn old_client(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    seat.scheme = Scheme::Legacy;
    let allocated = seat.allocate(Draft::allocate())?;
    allocated.expect_success().at("Allocate")?;
    seat.demand_signed(&allocated).at("Allocate")?;
    let refreshed = seat.request(Draft::refresh(600))?;
    refreshed.expect_success().at("Refresh")?;
    seat.demand_signed(&refreshed).at("Refresh")
}

fn long_username(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.challenged()?;
    let mut dress = seat.dress()?;
    dress.username = Some(vec![b'u'; 763]);
    seat.ask(&dress.on(Draft::allocate()))?.expect(401).at("763 bytes")?;
    dress.username = Some(vec![b'u'; 764]);
    // Nobody has such a name: 401 refuses it as well.
    seat.ask(&dress.on(Draft::allocate()))?.expect_any(&[400, 401]).at("764 bytes")
}

fn old_channel_numbers(stage: &Stage<'_>) -> Finding {
    let peer = stage.peer()?;
    let mut seat = stage.allocated()?;
    for number in [0x5000, 0x7FFF] {
        let answer = seat.request(Draft::bind(number, peer.address()))?;
        if answer.is_success() {
            return Err(not_offered("the server takes the channel numbers of RFC 5766"));
        }
        answer.expect(400).at(format!("{number:#06x}"))?;
    }
    Ok(())
}
