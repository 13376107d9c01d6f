//! CHAN-…: binding channels, and data through them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::Case;
use super::message::{Draft, channel_data};
use super::numbers::{CHANNEL_BIND, CHANNEL_NUMBER, PEER};
use super::permission::FORBIDDEN;
use super::stage::Stage;
use super::verdict::{At, Finding};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "CHAN-001",
        "RFC 8656 §12.2, §18.1",
        "ChannelBind needs a number and a peer; missing or malformed gets 400.",
        malformed,
    ),
    Case::must(
        "CHAN-002",
        "RFC 8656 §12, §12.2",
        "A channel number outside 0x4000 to 0x4FFF gets 400.",
        numbers,
    ),
    Case::must(
        "CHAN-003",
        "RFC 8656 §12.2",
        "A number bound to another peer, or a peer to another number, gets 400.",
        collisions,
    ),
    Case::must(
        "CHAN-004",
        "RFC 8656 §12, §12.2",
        "Binding the same pair again renews it.",
        renewal,
    ),
    Case::must(
        "CHAN-005",
        "RFC 8656 §12.2, §5",
        "ChannelBind permits the peer; 443, 403 and 437 are as for CreatePermission.",
        as_permission,
    ),
    Case::must(
        "CHAN-008",
        "RFC 8656 §12.4, §12.6",
        "ChannelData of length zero is an empty datagram.",
        empty,
    ),
    Case::must(
        "CHAN-009",
        "RFC 8656 §12.5, §12.6",
        "Over UDP, ChannelData shorter than its length is dropped, padding behind it ignored.",
        datagram_lengths,
    ),
    Case::must(
        "CHAN-010",
        "RFC 8656 §12.5",
        "On a stream ChannelData is padded to four bytes, both ways.",
        stream_padding,
    ),
    Case::must(
        "CHAN-011",
        "RFC 8656 §5, §12.6",
        "ChannelData on a number that is not bound is dropped silently.",
        unbound,
    ),
    Case::must(
        "CHAN-012",
        "RFC 8656 §12.6",
        "Data of a channel leaves from the relayed address to the bound peer.",
        to_its_peer,
    ),
    Case::must(
        "CHAN-013",
        "RFC 8656 §12",
        "The same number in another allocation is another channel.",
        per_allocation,
    ),
    Case::should("CHAN-014", "RFC 8656 §12.2", "Port 0 is no peer's port: 400.", port_zero),
    Case::should(
        "CHAN-015",
        "RFC 8656 §12",
        "Data right behind its ChannelBind request is relayed.",
        right_behind,
    ),
];

fn malformed(stage: &Stage<'_>) -> Finding {
    let peer = stage.peer()?.address();
    let mut seat = stage.allocated()?;
    let bare = || Draft::new(CHANNEL_BIND);
    for (case, draft) in [
        ("no number", bare().peer(peer)),
        ("no peer", bare().channel(0x4000)),
        ("a number of two bytes", bare().add(CHANNEL_NUMBER, &[0x40, 0]).peer(peer)),
        ("a truncated address", bare().channel(0x4000).add(PEER, &[0, 1, 0, 9, 1])),
        ("family 0x03", bare().channel(0x4000).add(PEER, &[0, 3, 0, 9, 1, 2, 3, 4])),
    ] {
        seat.request(draft)?.expect(400).at(case)?;
    }
    let reserved = bare().add(CHANNEL_NUMBER, &[0x40, 0, 0xFF, 0xFF]).peer(peer);
    seat.request(reserved)?.expect_success().at("reserved bits set")
}

fn numbers(stage: &Stage<'_>) -> Finding {
    let ip = stage.peer()?.address().ip();
    let mut seat = stage.allocated()?;
    for number in [0, 0x3FFF, 0x5000, 0x7FFF, 0x8000, 0xFFFF] {
        let draft = Draft::bind(number, (ip, 9).into());
        seat.request(draft)?.expect(400).at(format!("{number:#06x}"))?;
    }
    for (number, port) in [(0x4000, 10), (0x4FFF, 11)] {
        let draft = Draft::bind(number, (ip, port).into());
        seat.request(draft)?.expect_success().at(format!("{number:#06x}"))?;
    }
    Ok(())
}

fn collisions(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    let other = (peer.address().ip(), 9).into();
    seat.request(Draft::bind(0x4000, other))?.expect(400).at("the number for another peer")?;
    seat.request(Draft::bind(0x4001, peer.address()))?.expect(400).at("another number")?;
    seat.send(&channel_data(0x4000, b"still here"))?;
    peer.expect(seat.relayed()?, b"still here")
}

fn renewal(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    let answer = seat.request(Draft::bind(0x4000, peer.address()))?;
    answer.expect_success()?;
    seat.demand_signed(&answer)
}

fn as_permission(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    let neighbour = stage.peer_at(peer.address().ip())?;
    neighbour.send(seat.relayed()?, b"same address")?;
    seat.expect_data(neighbour.address(), b"same address")?;
    let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888));
    for (case, ip, code) in [("a peer of IPv6", v6, 443), ("a forbidden peer", FORBIDDEN, 403)] {
        let draft = Draft::bind(0x4001, SocketAddr::new(ip, 9));
        seat.request(draft)?.expect(code).at(case)?;
    }
    let mut nobody = stage.challenged()?;
    nobody.request(Draft::bind(0x4000, peer.address()))?.expect(437).at("no allocation")
}

fn empty(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    seat.send(&channel_data(0x4000, b""))?;
    peer.expect(seat.relayed()?, b"")
}

fn datagram_lengths(stage: &Stage<'_>) -> Finding {
    stage.demand_datagrams()?;
    let (mut seat, peer) = stage.bound()?;
    seat.send(&[0x40, 0, 0, 5, 1, 2, 3, 4])?;
    seat.send(&[0x40, 0, 0])?;
    peer.demand_silence(&mut seat).at("one byte short")?;
    seat.send(&[0x40, 0, 0, 5, 1, 2, 3, 4, 5, 9, 9, 9])?;
    peer.expect(seat.relayed()?, &[1, 2, 3, 4, 5]).at("three bytes of padding")
}

fn stream_padding(stage: &Stage<'_>) -> Finding {
    stage.demand_stream()?;
    let (mut seat, peer) = stage.bound()?;
    let relayed = seat.relayed()?;
    let frames: Vec<Vec<u8>> = (0..8_u8)
        .map(|len| {
            let mut frame = channel_data(0x4000, &vec![len; len.into()]);
            frame.resize(frame.len().next_multiple_of(4), 0);
            frame
        })
        .collect();
    seat.send_raw(&frames.concat())?;
    for len in 0..8_u8 {
        peer.expect(relayed, &vec![len; len.into()]).at("back to back")?;
    }
    for byte in frames.concat() {
        seat.send_raw(&[byte])?;
    }
    for len in 0..8_u8 {
        peer.expect(relayed, &vec![len; len.into()]).at("byte by byte")?;
    }
    // Were the server's frames not padded, the second would not be understood.
    for len in 0..8_u8 {
        peer.send(relayed, &vec![len; len.into()])?;
        seat.expect_channel(0x4000, &vec![len; len.into()]).at("to the client")?;
    }
    Ok(())
}

fn unbound(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    // A stream that goes on with a number nobody may use is garbled (STUN-027).
    let numbers: &[u16] =
        if stage.is_stream() { &[0x4001, 0x4FFF] } else { &[0x4001, 0x4FFF, 0x5000, 0x7FFF] };
    for &number in numbers {
        let case = format!("{number:#06x}");
        seat.demand_silence(&[channel_data(number, b"abcd")]).at(&case)?;
        peer.demand_silence(&mut seat).at(&case)?;
    }
    let mut nobody = stage.seat()?;
    nobody.demand_silence(&[channel_data(0x4000, b"abcd")]).at("no allocation")
}

fn to_its_peer(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    seat.send(&channel_data(0x4000, b"to whom it concerns"))?;
    peer.expect(seat.relayed()?, b"to whom it concerns")
}

fn per_allocation(stage: &Stage<'_>) -> Finding {
    let (mut one, peer_of_one) = stage.bound()?;
    let (mut two, peer_of_two) = stage.bound()?;
    one.send(&channel_data(0x4000, b"of one"))?;
    two.send(&channel_data(0x4000, b"of two"))?;
    peer_of_one.expect(one.relayed()?, b"of one")?;
    peer_of_two.expect(two.relayed()?, b"of two")
}

fn port_zero(stage: &Stage<'_>) -> Finding {
    let ip = stage.peer()?.address().ip();
    stage.allocated()?.request(Draft::bind(0x4000, (ip, 0).into()))?.expect(400)
}

fn right_behind(stage: &Stage<'_>) -> Finding {
    let peer = stage.peer()?;
    let mut seat = stage.allocated()?;
    let bind = seat.dress()?.on(Draft::bind(0x4000, peer.address()));
    let data = channel_data(0x4000, b"right behind");
    if stage.is_stream() {
        seat.send_raw(&[bind.bytes(), &data].concat())?;
    } else {
        seat.send(bind.bytes())?;
        seat.send(&data)?;
    }
    peer.expect(seat.relayed()?, b"right behind")
}
