//! IPHDR-… and ICMP-…: what a client and its peer can see of IP headers and errors.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use socket2::SockRef;

use super::Case;
use super::message::{Draft, Message};
use super::numbers::{DATA, DATA_METHOD, FAMILY, ICMP, INDICATION, IPV4, IPV6, PEER};
use super::peer::Peer;
use super::seat::{Arrival, Seat};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, fail, not_offered};

pub(super) const CASES: &[Case] = &[
    Case::should(
        "IPHDR-001",
        "RFC 8656 §14",
        "DSCP is copied between client and peer, or is best effort.",
        dscp,
    ),
    Case::should("IPHDR-002", "RFC 8656 §14", "ECN is copied with all its marks, or Not-ECT.", ecn),
    Case::must(
        "IPHDR-007",
        "RFC 8656 §13.1, §13.3",
        "Data passes between a client of one family and a relayed address of the other.",
        across_families,
    ),
    Case::must(
        "ICMP-003",
        "RFC 8656 §11.5, §18.13",
        "An unreachable port comes as a Data indication with ICMP, also on a channel.",
        unreachable,
    ),
    Case::must(
        "ICMP-004",
        "RFC 8656 §18.13",
        "The ICMP attribute is two zeros, type, code, and four bytes of error data.",
        layout,
    ),
    Case::must(
        "ICMP-006",
        "RFC 8656 §11.5",
        "ICMP ends neither the allocation nor a permission nor a channel.",
        goes_on,
    ),
];

/// The next datagram and the TOS byte it came with, if one comes within `wait`.
fn receive_marked(socket: &UdpSocket, wait: Duration) -> Finding<Option<(Vec<u8>, u8)>> {
    socket.set_read_timeout(Some(wait))?;
    let mut buffer = vec![0; 2048];
    let mut space = nix::cmsg_space!(u8, u32);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let received =
        recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty());
    let (len, tos) = match received {
        Err(nix::errno::Errno::EAGAIN) => return Ok(None),
        Err(error) => return Err(std::io::Error::from(error).into()),
        Ok(message) => {
            let control = message.cmsgs().map_err(std::io::Error::from)?;
            let tos = control.into_iter().find_map(|control| match control {
                ControlMessageOwned::Ipv4Tos(tos) => Some(tos),
                _ => None,
            });
            (message.bytes, tos)
        }
    };
    buffer.truncate(len);
    Ok(Some((buffer, tos.ok_or_else(|| fail("a TOS byte with a datagram", "none"))?)))
}

/// The TOS byte that exactly this datagram comes with; others, such as second answers, pass by.
fn tos_of(socket: &UdpSocket, wanted: &[u8], wait: Duration) -> Finding<u8> {
    loop {
        match receive_marked(socket, wait)? {
            Some((found, tos)) if found == wanted => return Ok(tos),
            Some(_) => {}
            None => return Err(fail("a datagram with this mark to arrive", "nothing")),
        }
    }
}

/// A client over UDP and IPv4 whose socket, like its peer's, tells TOS bytes.
fn marked<'a>(stage: &'a Stage<'a>) -> Finding<(Seat<'a>, Peer)> {
    stage.demand_udp()?;
    if stage.server.is_ipv6() {
        return Err(not_offered("about TOS bytes, which IPv6 has not"));
    }
    let (mut seat, peer) = stage.bound()?;
    SockRef::from(peer.socket()).set_recv_tos_v4(true)?;
    if let Some(socket) = seat.link().udp() {
        SockRef::from(socket).set_recv_tos_v4(true)?;
    }
    Ok((seat, peer))
}

/// What a TOS byte becomes on the way to the peer, and on the way back.
fn carried(seat: &mut Seat<'_>, peer: &Peer, tos: u8) -> Finding<[u8; 2]> {
    let (relayed, wait) = (seat.relayed()?, seat.stage.plan.timeout);
    SockRef::from(peer.socket()).set_tos_v4(tos.into())?;
    if let Some(socket) = seat.link().udp() {
        SockRef::from(socket).set_tos_v4(tos.into())?;
    }
    let frame = super::message::channel_data(0x4000, &[tos]);
    seat.send(&frame)?;
    let there = tos_of(peer.socket(), &[tos], wait)?;
    peer.send(relayed, &[tos])?;
    let socket = seat.link().udp().ok_or_else(|| fail("a socket", "none"))?;
    Ok([there, tos_of(socket, &frame, wait)?])
}

fn dscp(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = marked(stage)?;
    for class in [0xB8, 0x88, 0x28] {
        let seen = carried(&mut seat, &peer, class)?;
        for (way, seen) in ["to the peer", "to the client"].into_iter().zip(seen) {
            let seen = seen & 0xFC;
            let expected = format!("{way}: {class:#04x} or best effort");
            demand([class, 0].contains(&seen), expected, format!("{seen:#04x}"))?;
        }
    }
    Ok(())
}

fn ecn(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = marked(stage)?;
    let mut seen = Vec::new();
    for mark in [1, 2, 3] {
        seen.push(carried(&mut seat, &peer, mark)?.map(|tos| tos & 3));
    }
    for (index, way) in ["to the peer", "to the client"].into_iter().enumerate() {
        let marks: Vec<u8> = seen.iter().filter_map(|both| both.get(index).copied()).collect();
        let holds = marks == [1, 2, 3] || marks == [0, 0, 0];
        demand(holds, format!("{way}: marks 1, 2, 3 or none"), format!("{marks:?}"))?;
    }
    Ok(())
}

fn across_families(stage: &Stage<'_>) -> Finding {
    let (peer, family) =
        if stage.server.is_ipv4() { (stage.peer6()?, &IPV6) } else { (stage.peer()?, &IPV4) };
    let mut seat = stage.allocated_by(Draft::allocate().add(FAMILY, family))?;
    let bind = Draft::bind(0x4000, peer.address());
    seat.request(bind)?.expect_success().at("ChannelBind")?;
    for len in [0, 1, 160, 1200] {
        let payload: Vec<u8> =
            super::message::random::<8>().into_iter().cycle().take(len).collect();
        seat.send(&super::message::channel_data(0x4000, &payload))?;
        peer.expect(seat.relayed()?, &payload)?;
        peer.send(seat.relayed()?, &payload)?;
        seat.expect_channel(0x4000, &payload)?;
    }
    Ok(())
}

/// The ICMP that comes when a permitted peer's port is closed.
fn icmp_of(stage: &Stage<'_>, seat: &mut Seat<'_>, by_channel: bool) -> Finding<Message> {
    // Its port is free again when the peer is dropped.
    let closed = stage.peer()?.address();
    seat.request(Draft::bind(0x4001, closed))?.expect_success().at("ChannelBind")?;
    let bytes = if by_channel {
        super::message::channel_data(0x4001, b"anybody there?")
    } else {
        Draft::send(closed, b"anybody there?").bytes().to_vec()
    };
    for _ in 0..3 {
        seat.send(&bytes)?;
        for arrival in seat.gather_at_least(1)? {
            let Arrival::Message(message) = arrival else { continue };
            if message.kind() == DATA_METHOD | INDICATION && message.has(ICMP) {
                equal("ICMP about", &message.address(PEER), &Some(closed))?;
                demand(!message.has(DATA), "ICMP without DATA", "both")?;
                return Ok(message);
            }
        }
    }
    Err(not_offered("no ICMP comes through: the server may not be given it"))
}

fn unreachable(stage: &Stage<'_>) -> Finding {
    for (case, by_channel) in [("after a Send indication", false), ("after ChannelData", true)] {
        let mut seat = stage.allocated()?;
        let message = icmp_of(stage, &mut seat, by_channel)?;
        let value = message.value(ICMP).unwrap_or_default();
        equal("type 3, code 3:", &value.get(2..4), &Some(&[3, 3][..])).at(case)?;
    }
    Ok(())
}

fn layout(stage: &Stage<'_>) -> Finding {
    let mut seat = stage.allocated()?;
    let message = icmp_of(stage, &mut seat, false)?;
    equal("the value", &message.value(ICMP), &Some(&[0, 0, 3, 3, 0, 0, 0, 0][..]))
}

fn goes_on(stage: &Stage<'_>) -> Finding {
    let (mut seat, peer) = stage.bound()?;
    match icmp_of(stage, &mut seat, false) {
        Ok(_) | Err(super::verdict::Miss::NotOffered(_)) => {}
        Err(miss) => return Err(miss),
    }
    seat.send(&super::message::channel_data(0x4000, b"still here"))?;
    peer.expect(seat.relayed()?, b"still here")?;
    peer.send(seat.relayed()?, b"here too")?;
    seat.expect_channel(0x4000, b"here too")?;
    seat.request(Draft::refresh(600))?.expect_success().at("Refresh")
}
