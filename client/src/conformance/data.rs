//! DATA-… and MEDIA-…: payload by indications, and that nothing happens to it on the way.

use super::Case;
use super::message::{Draft, channel_data, random};
use super::numbers::{BINDING, DATA, INDICATION, INTEGRITY, INTEGRITY_SHA256, PEER, SEND};
use super::peer::Peer;
use super::seat::{Arrival, Seat};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, fail, not_offered};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "DATA-001",
        "RFC 8656 §11.2",
        "Send needs a peer and DATA, which may be empty; else it is dropped silently.",
        incomplete_send,
    ),
    Case::must(
        "DATA-002",
        "RFC 8656 §5, §11.2",
        "Send to a peer without permission, or without an allocation, is dropped silently.",
        send_without_permission,
    ),
    Case::must(
        "DATA-003",
        "RFC 8656 §11.2",
        "The peer gets exactly the DATA, from the relayed address.",
        send_sizes,
    ),
    Case::must(
        "DATA-005",
        "RFC 8656 §11.3; RFC 8489 §5",
        "The client gets the peer's datagram in a Data indication with a fresh id, unsigned.",
        data_indication,
    ),
    Case::must(
        "DATA-006",
        "RFC 8656 §11.4, §12.6",
        "An empty datagram of a peer is relayed.",
        empty_datagram,
    ),
    Case::must(
        "DATA-007",
        "RFC 8656 §12.5",
        "Data of the bound peer comes as ChannelData, of its neighbour as an indication.",
        mixture,
    ),
    Case::must(
        "DATA-009",
        "RFC 8656 §11.3, §3.7",
        "What does not fit into a message is dropped, never cut.",
        too_long,
    ),
    Case::should(
        "IPHDR-012",
        "RFC 8656 §3.7",
        "Payloads of a whole Ethernet packet pass.",
        whole_packets,
    ),
    Case::must(
        "IPHDR-013",
        "RFC 8656 §13",
        "Fragmented datagrams pass whole or not at all.",
        fragmented,
    ),
    Case::must(
        "MEDIA-001",
        "RFC 8656 §11.2, §11.3, §12.6",
        "Bytes, lengths and boundaries of datagrams survive both ways.",
        both_ways,
    ),
    Case::must(
        "MEDIA-002",
        "RFC 8656 §11; RFC 7983 §7",
        "A STUN request from a peer is data for the client; the server does not answer it.",
        stun_is_data,
    ),
    Case::must(
        "MEDIA-003",
        "RFC 8656 §11.3",
        "A signed Allocate from a peer is data too, and changes nothing.",
        allocate_is_data,
    ),
    Case::should(
        "MEDIA-004",
        "RFC 3711 §3.3.2",
        "Datagrams of one flow are neither doubled nor reordered.",
        in_order,
    ),
    Case::must(
        "MEDIA-009",
        "RFC 6263 §4, §7; RFC 8445 §11",
        "Keepalives pass: empty datagrams, Binding indications, RTP of an unknown type.",
        keepalives,
    ),
    Case::must(
        "DISC-008",
        "RFC 9443 §2; RFC 7983 §7",
        "Payload may begin with any byte.",
        any_first_byte,
    ),
];

fn incomplete_send(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    let bare = || Draft::new(SEND | INDICATION);
    for (case, draft) in [
        ("no DATA", bare().peer(peer.address())),
        ("no XOR-PEER-ADDRESS", bare().add(DATA, b"to whom?")),
        ("a truncated address", bare().add(PEER, &[0, 1, 0, 0, 1]).add(DATA, b"to whom?")),
        ("family 0x03", bare().add(PEER, &[0, 3, 0, 9, 1, 2, 3, 4]).add(DATA, b"to whom?")),
    ] {
        seat.demand_silence(&[draft.bytes().to_vec()]).at(case)?;
        peer.demand_silence(&mut seat).at(case)?;
    }
    seat.send(Draft::send(peer.address(), b"").bytes())?;
    peer.expect(seat.relayed()?, b"").at("empty DATA")
}

fn send_without_permission(stage: &Stage<'_>) -> Finding {
    let peer = stage.peer()?;
    let mut bare = stage.allocated()?;
    let send = Draft::send(peer.address(), b"not allowed").bytes().to_vec();
    bare.demand_silence(std::slice::from_ref(&send)).at("no permission")?;
    let mut nobody = stage.seat()?;
    nobody.demand_silence(&[send]).at("no allocation")?;
    let came = peer.receive(stage.grace())?;
    demand(came.is_none(), "nothing at the peer", "a datagram")?;
    let forbidden = (super::permission::FORBIDDEN, peer.address().port()).into();
    bare.demand_silence(&[Draft::send(forbidden, b"x").bytes().to_vec()]).at("a forbidden peer")
}

/// Payload of this length that no two calls share.
fn payload(len: usize) -> Vec<u8> {
    random::<16>().iter().copied().cycle().take(len).collect()
}

fn there(seat: &mut Seat<'_>, peer: &Peer, len: usize) -> Finding {
    let payload = payload(len);
    seat.send(Draft::send(peer.address(), &payload).bytes())?;
    peer.expect(seat.relayed()?, &payload).at(format!("{len} bytes to the peer"))
}

fn back(seat: &mut Seat<'_>, peer: &Peer, len: usize) -> Finding {
    let payload = payload(len);
    peer.send(seat.relayed()?, &payload)?;
    let data = seat.expect_data(peer.address(), &payload);
    data.map(drop).at(format!("{len} bytes to the client"))
}

fn send_sizes(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    for len in [1, 2, 3, 4, 5, 100, 1200] {
        there(&mut seat, &peer, len)?;
    }
    Ok(())
}

fn data_indication(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    let mut ids = Vec::new();
    for number in 0..4_u8 {
        peer.send(seat.relayed()?, &[number; 5])?;
        let indication = seat.expect_data(peer.address(), &[number; 5])?;
        let signed = indication.has(INTEGRITY) || indication.has(INTEGRITY_SHA256);
        demand(!signed, "no integrity in an indication", "some")?;
        demand(!ids.contains(&indication.id()), "a fresh transaction id", "one seen before")?;
        ids.push(indication.id());
    }
    Ok(())
}

fn empty_datagram(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    back(&mut seat, &peer, 0).at("as an indication")?;
    seat.request(Draft::bind(0x4000, peer.address()))?.expect_success()?;
    peer.send(seat.relayed()?, b"")?;
    seat.expect_channel(0x4000, b"").at("as ChannelData")
}

fn mixture(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    let neighbour = stage.peer_at(peer.address().ip())?;
    peer.send(seat.relayed()?, b"from the bound port")?;
    seat.expect_channel(0x4000, b"from the bound port")?;
    neighbour.send(seat.relayed()?, b"from another port")?;
    seat.expect_data(neighbour.address(), b"from another port")?;
    seat.send(Draft::send(peer.address(), b"by indication").bytes())?;
    peer.expect(seat.relayed()?, b"by indication")
}

fn too_long(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    let longest = vec![7; 65_507];
    if peer.send(seat.relayed()?, &longest).is_err() {
        return Err(not_offered("this host does not send datagrams of 65507 bytes"));
    }
    let came = seat.gather(stage.grace() * 2)?;
    for arrival in came {
        // On a stream it may fit, and then it must be whole.
        let whole = matches!(&arrival, Arrival::Message(m) if m.value(DATA) == Some(&longest[..]));
        demand(whole, "the whole datagram or none of it", arrival.describe())?;
    }
    back(&mut seat, &peer, 20).at("afterwards")
}

fn whole_packets(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    for len in [1200, 1372, 1432] {
        there(&mut seat, &peer, len)?;
        back(&mut seat, &peer, len)?;
    }
    Ok(())
}

fn fragmented(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    let datagrams: Vec<Vec<u8>> = [1473, 4000, 9000, 60_000].map(payload).to_vec();
    for datagram in &datagrams {
        seat.send(Draft::send(peer.address(), datagram).bytes())?;
        if let Some((_, found)) = peer.receive(stage.plan.timeout / 4)? {
            let seen = format!("{} bytes", found.len());
            demand(datagrams.contains(&found), "a datagram that was sent, or none", seen)?;
        }
        peer.send(seat.relayed()?, datagram)?;
        for arrival in seat.gather(stage.grace())? {
            let whole = matches!(&arrival, Arrival::Message(m)
                if m.value(DATA).is_some_and(|data| datagrams.iter().any(|datagram| datagram == data)));
            demand(whole, "a datagram that was sent, or none", arrival.describe())?;
        }
    }
    // What was late is no longer waited for.
    let (mut seat, peer) = stage.permitted()?;
    there(&mut seat, &peer, 20).at("afterwards")
}

fn both_ways(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    let neighbour = stage.peer_at(peer.address().ip())?;
    for len in [0, 1, 2, 3, 4, 5, 6, 7, 8, 63, 64, 65, 160, 500, 1000, 1199, 1200] {
        // Zeros at the end must not be taken for padding.
        let payload: Vec<u8> = payload(len).iter().map(|byte| byte & 0xFE).collect();
        seat.send(&channel_data(0x4000, &payload))?;
        peer.expect(seat.relayed()?, &payload).at("ChannelData to the peer")?;
        peer.send(seat.relayed()?, &payload)?;
        seat.expect_channel(0x4000, &payload).at("ChannelData to the client")?;
        there(&mut seat, &neighbour, len)?;
        back(&mut seat, &neighbour, len)?;
        let zeros = vec![0; len];
        seat.send(&channel_data(0x4000, &zeros))?;
        peer.expect(seat.relayed()?, &zeros).at("zeros")?;
    }
    Ok(())
}

fn stun_is_data(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    let request = Draft::binding().fingerprint();
    peer.send(seat.relayed()?, request.bytes())?;
    seat.expect_data(peer.address(), request.bytes())?;
    let answer = peer.receive(stage.grace())?;
    demand(answer.is_none(), "no answer from the relayed address", "one")
}

fn allocate_is_data(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.permitted()?;
    for request in [seat.dress()?.on(Draft::allocate()), seat.dress()?.on(Draft::refresh(0))] {
        peer.send(seat.relayed()?, request.bytes())?;
        seat.expect_data(peer.address(), request.bytes())?;
    }
    let answer = peer.receive(stage.grace())?;
    demand(answer.is_none(), "no answer from the relayed address", "one")?;
    seat.request(Draft::refresh(600))?.expect_success().at("the allocation lives on")
}

/// Datagrams of a numbered flow, and how many are sent before it is looked who came.
const FLOW: u32 = 1000;
const BURST: u32 = 20;

/// Demands that a datagram's number is above the last one's.
fn follows(last: &mut Option<u32>, payload: &[u8], way: &str) -> Finding {
    let number = payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let number = number.ok_or_else(|| fail("a numbered datagram", "another"))?;
    let expected = format!("{way}: each number once, in order");
    demand(last.is_none_or(|last| last < number), expected, format!("{number} after {last:?}"))?;
    *last = Some(number);
    Ok(())
}

fn in_order(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    let relayed = seat.relayed()?;
    let (mut last_there, mut last_back) = (None, None);
    for burst in 0..FLOW / BURST {
        let numbers = burst * BURST..(burst + 1) * BURST;
        for number in numbers.clone() {
            seat.send(&channel_data(0x4000, &number.to_be_bytes().repeat(20)))?;
        }
        for _ in numbers {
            // What is lost under way is no reordering.
            let Some((_, payload)) = peer.receive(stage.plan.timeout / 2)? else { break };
            follows(&mut last_there, &payload, "to the peer")?;
            peer.send(relayed, &payload)?;
            let Ok(Arrival::Channel(_, payload)) = seat.arrival() else { continue };
            follows(&mut last_back, &payload, "to the client")?;
        }
    }
    let most = last_back.unwrap_or(0);
    demand(most + BURST >= FLOW, format!("a flow of {FLOW}"), format!("its end at {most}"))
}

fn keepalives(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    let indication = Draft::new(BINDING | INDICATION);
    for (case, payload) in [
        ("an empty datagram", &b""[..]),
        ("a Binding indication", indication.bytes()),
        ("RTP of type 20", &[0x80, 20, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
    ] {
        seat.send(&channel_data(0x4000, payload))?;
        peer.expect(seat.relayed()?, payload).at(case)?;
        peer.send(seat.relayed()?, payload)?;
        seat.expect_channel(0x4000, payload).at(case)?;
    }
    Ok(())
}

fn any_first_byte(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    for first in 0..=255_u8 {
        let payload = [first, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, first];
        seat.send(&channel_data(0x4000, &payload))?;
        peer.expect(seat.relayed()?, &payload).at(format!("{first:#04x} to the peer"))?;
        peer.send(seat.relayed()?, &payload)?;
        seat.expect_channel(0x4000, &payload).at(format!("{first:#04x} to the client"))?;
    }
    Ok(())
}
