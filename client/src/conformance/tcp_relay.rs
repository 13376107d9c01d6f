//! TCPA-…: TCP relays (RFC 6062).

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::Case;
use super::message::{Draft, Message};
use super::numbers::{
    CHANNEL_BIND, CONNECT, CONNECTION_ATTEMPT, CONNECTION_BIND, CONNECTION_ID, DONT_FRAGMENT,
    EVEN_PORT, INDICATION, LIFETIME, PEER, REFRESH, RESERVATION, TCP, TRANSPORT,
};
use super::peer::TcpPeer;
use super::permission::FORBIDDEN;
use super::seat::{Arrival, Seat};
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, fail, not_offered};
use crate::clock;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "TCPA-001",
        "RFC 6062 §5.1",
        "A TCP relay is given to TCP and TLS clients alone: over UDP 400.",
        for_streams_alone,
    ),
    Case::must(
        "TCPA-003",
        "RFC 6062 §5.1",
        "DONT-FRAGMENT, EVEN-PORT and RESERVATION-TOKEN exclude a TCP relay: 400.",
        excluded_attributes,
    ),
    Case::must(
        "TCPA-004",
        "RFC 6062 §5.1, §5.2",
        "The relayed address listens, and Connect comes from it.",
        relayed_address,
    ),
    Case::must(
        "TCPA-005",
        "RFC 6062 §5.2; RFC 8656 §10.2",
        "Connect without allocation gets 437, without peer 400, to a forbidden one 403.",
        refusals_of_connect,
    ),
    Case::must(
        "TCPA-006",
        "RFC 6062 §5.2",
        "A second Connect to the same peer gets 446, and the server goes on answering.",
        second_connect,
    ),
    Case::must("TCPA-007", "RFC 6062 §5.2", "A Connect that fails gets 447.", failed_connect),
    Case::must(
        "TCPA-008",
        "RFC 6062 §5.2, §6.2.1",
        "Each connection has an id of its own.",
        connection_ids,
    ),
    Case::must(
        "TCPA-010",
        "RFC 6062 §5.3",
        "A peer that connects is announced if it is permitted, and closed if it is not.",
        incoming,
    ),
    Case::must(
        "TCPA-011",
        "RFC 6062 §5.2, §5.3",
        "A peer's connection that nobody binds is closed after 30 seconds.",
        unclaimed,
    )
    .first(),
    Case::must(
        "TCPA-012",
        "RFC 6062 §5.4, §4.3",
        "ConnectionBind with an unknown, used or missing id gets 400, of another user 401 or 441.",
        refusals_of_bind,
    ),
    Case::must(
        "TCPA-013",
        "RFC 6062 §5.4",
        "Behind ConnectionBind the connection is a pipe of raw bytes, none lost, in order.",
        raw_bytes,
    ),
    Case::must(
        "TCPA-015",
        "RFC 6062 §5.5",
        "The two halves of a data connection close together, and with their allocation.",
        closing,
    ),
    Case::should(
        "TCPA-017",
        "RFC 6062 §3",
        "Channels mean nothing on a TCP relay: ChannelBind is refused.",
        no_channels,
    ),
    Case::should(
        "TCPA-018",
        "RFC 6062 §5.5",
        "What a peer sent before it closed still arrives.",
        half_close,
    ),
    Case::must(
        "MEDIA-011",
        "RFC 6062 §5.4",
        "Frames of RFC 4571 on a data connection are bytes like others.",
        frames_are_bytes,
    ),
];

/// How long a connection waits for its `ConnectionBind`, in seconds (RFC 6062 §5.2, §5.3).
const UNCLAIMED_S: u64 = 30;

fn ask_for_relay() -> Draft {
    Draft::new(super::numbers::ALLOCATE).add(TRANSPORT, &TCP)
}

fn without_relay(answer: &Message) -> Finding {
    match answer.code() {
        Some(403 | 442) => {
            Err(not_offered(format!("the server gives no TCP relay: {}", answer.describe())))
        }
        _ => Ok(()),
    }
}

/// A client with a TCP relay.
fn relay<'a>(stage: &'a Stage<'a>) -> Finding<Seat<'a>> {
    stage.demand_stream()?;
    let mut seat = stage.challenged()?;
    let answer = seat.allocate(ask_for_relay())?;
    without_relay(&answer)?;
    answer.expect_success().at("Allocate for TCP")?;
    Ok(seat)
}

/// The id of the connection to this peer.
fn connect(seat: &mut Seat<'_>, peer: SocketAddr) -> Finding<[u8; 4]> {
    let answer = seat.request(Draft::new(CONNECT).peer(peer))?;
    answer.expect_success().at("Connect")?;
    seat.demand_signed(&answer).at("Connect")?;
    id_of(&answer)
}

fn id_of(message: &Message) -> Finding<[u8; 4]> {
    let id = message.value(CONNECTION_ID).and_then(|id| id.try_into().ok());
    id.ok_or_else(|| fail("a CONNECTION-ID of four bytes", "none"))
}

fn bind(id: &[u8]) -> Draft {
    Draft::new(CONNECTION_BIND).add(CONNECTION_ID, id)
}

/// A second connection to the server. It tries the nonce of the first, as clients do; where that
/// is bound to a port it gets 438 and a nonce of its own.
fn second_connection<'a>(control: &Seat<'a>) -> Finding<Seat<'a>> {
    let mut data = control.stage.seat()?;
    data.challenge = control.challenge.clone();
    data.scheme = control.scheme;
    Ok(data)
}

/// A second connection to the server, bound to the peer's.
fn data_connection<'a>(control: &Seat<'a>, id: [u8; 4]) -> Finding<Seat<'a>> {
    let mut data = second_connection(control)?;
    let answer = data.request(bind(&id))?;
    answer.expect_success().at("ConnectionBind")?;
    data.demand_signed(&answer).at("ConnectionBind")?;
    Ok(data)
}

/// A relay, a data connection, and the peer's end of it.
fn piped<'a>(stage: &'a Stage<'a>) -> Finding<(Seat<'a>, Seat<'a>, TcpStream)> {
    let peer = TcpPeer::open(stage)?;
    let mut seat = relay(stage)?;
    let id = connect(&mut seat, peer.address())?;
    let far = peer.accept()?;
    let data = data_connection(&seat, id)?;
    Ok((seat, data, far))
}

/// Demands these bytes from a peer's connection.
fn expect_at_peer(far: &mut TcpStream, wanted: &[u8]) -> Finding {
    let mut found = vec![0; wanted.len()];
    let read = far.read_exact(&mut found);
    let expected = format!("{} bytes at the peer", wanted.len());
    read.map_err(|error| fail(&expected, error))?;
    demand(found == wanted, expected, "other bytes")
}

/// Demands these bytes on a data connection.
fn expect_at_client(data: &mut Seat<'_>, wanted: &[u8]) -> Finding {
    let until = clock::now() + data.stage.plan.timeout;
    let mut found = Vec::new();
    let mut buffer = vec![0; 16_384];
    while found.len() < wanted.len() {
        match data.link().receive_raw(until, &mut buffer)? {
            Some(0) | None => break,
            Some(len) => found.extend_from_slice(buffer.get(..len).unwrap_or_default()),
        }
    }
    let seen = format!("{} bytes, or others", found.len());
    demand(found == wanted, format!("the {} bytes at the client", wanted.len()), seen)
}

/// Whether the server has closed a data connection.
fn is_closed(data: &mut Seat<'_>) -> bool {
    let until = clock::now() + data.stage.plan.timeout;
    let mut buffer = [0; 1024];
    loop {
        match data.link().receive_raw(until, &mut buffer) {
            Ok(Some(0)) | Err(_) => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
        }
    }
}

/// Whether the server has closed a peer's connection.
fn is_closed_at_peer(far: &mut TcpStream, wait: Duration) -> bool {
    if far.set_read_timeout(Some(wait)).is_err() {
        return true;
    }
    let mut buffer = [0; 1024];
    loop {
        match far.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !crate::transport::is_timeout(&error),
        }
    }
}

fn for_streams_alone(stage: &Stage<'_>) -> Finding {
    if stage.is_stream() {
        return relay(stage).map(drop);
    }
    let answer = stage.challenged()?.request(ask_for_relay())?;
    without_relay(&answer)?;
    answer.expect(400)
}

fn excluded_attributes(stage: &Stage<'_>) -> Finding {
    drop(relay(stage)?);
    let mut seat = stage.challenged()?;
    for (case, kind, value) in [
        ("DONT-FRAGMENT", DONT_FRAGMENT, &[][..]),
        ("EVEN-PORT", EVEN_PORT, &[0]),
        ("RESERVATION-TOKEN", RESERVATION, &[7; 8]),
    ] {
        seat.request(ask_for_relay().add(kind, value))?.expect(400).at(case)?;
    }
    Ok(())
}

fn relayed_address(stage: &Stage<'_>) -> Finding {
    let mut seat = relay(stage)?;
    let peer = TcpPeer::open(stage)?;
    connect(&mut seat, peer.address())?;
    let from = peer.accept()?.peer_addr()?;
    equal("Connect from", &from, &seat.relayed()?)?;
    peer.connect(seat.relayed()?).map(drop).at("a peer's connection to the relayed address")
}

fn refusals_of_connect(stage: &Stage<'_>) -> Finding {
    let mut seat = relay(stage)?;
    seat.request(Draft::new(CONNECT))?.expect(400).at("no peer")?;
    let forbidden = SocketAddr::new(FORBIDDEN, 9);
    let answer = seat.request(Draft::new(CONNECT).peer(forbidden))?;
    answer.expect(403).at("a forbidden peer")?;
    seat.demand_signed(&answer)?;
    let v6 = (std::net::Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888), 9).into();
    seat.request(Draft::new(CONNECT).peer(v6))?.expect(443).at("a peer of IPv6")?;
    let mut nobody = stage.challenged()?;
    let somebody = (std::net::Ipv4Addr::new(8, 8, 8, 8), 9).into();
    nobody.request(Draft::new(CONNECT).peer(somebody))?.expect(437).at("no allocation")
}

fn second_connect(stage: &Stage<'_>) -> Finding {
    let peer = TcpPeer::open(stage)?;
    let mut seat = relay(stage)?;
    connect(&mut seat, peer.address())?;
    let again = seat.request(Draft::new(CONNECT).peer(peer.address()))?;
    again.expect(446)?;
    seat.request(Draft::refresh(600))?.expect_success().at("Refresh afterwards")
}

fn failed_connect(stage: &Stage<'_>) -> Finding {
    let mut seat = relay(stage)?;
    let closed = TcpPeer::open(stage)?.address();
    let answer = seat.request(Draft::new(CONNECT).peer(closed))?;
    answer.expect(447).at("a port where nobody listens")?;
    seat.demand_signed(&answer)?;
    seat.request(Draft::refresh(600))?.expect_success().at("Refresh afterwards")
}

fn connection_ids(stage: &Stage<'_>) -> Finding {
    let mut seat = relay(stage)?;
    let mut ids = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..4 {
        let peer = TcpPeer::open(stage)?;
        let id = connect(&mut seat, peer.address())?;
        demand(!ids.contains(&id), "an id not in use", format!("{id:02x?} again"))?;
        ids.push(id);
        peers.push(peer);
    }
    Ok(())
}

/// The peer and the id that a `ConnectionAttempt` announces.
fn announced(seat: &mut Seat<'_>) -> Finding<(Option<SocketAddr>, [u8; 4])> {
    match seat.arrival()? {
        Arrival::Message(message) if message.kind() == CONNECTION_ATTEMPT | INDICATION => {
            Ok((message.address(PEER), id_of(&message)?))
        }
        other => Err(fail("a ConnectionAttempt", other.describe())),
    }
}

fn incoming(stage: &Stage<'_>) -> Finding {
    let peer = TcpPeer::open(stage)?;
    let mut seat = relay(stage)?;
    let mut early = peer.connect(seat.relayed()?).at("a peer without permission")?;
    let closed = is_closed_at_peer(&mut early, stage.plan.timeout);
    demand(closed, "a peer without permission closed", "its connection stays open")?;
    seat.request(Draft::permit(&[peer.address().ip()]))?.expect_success()?;
    let mut far = peer.connect(seat.relayed()?).at("a permitted peer")?;
    let (from, id) = announced(&mut seat)?;
    equal("an announcement of", &from, &Some(far.local_addr()?))?;
    let mut data = data_connection(&seat, id)?;
    far.write_all(b"hello")?;
    expect_at_client(&mut data, b"hello")?;
    data.send_raw(b"welcome")?;
    expect_at_peer(&mut far, b"welcome")
}

fn unclaimed(stage: &Stage<'_>) -> Finding {
    let peer = TcpPeer::open(stage)?;
    let mut seat = relay(stage)?;
    connect(&mut seat, peer.address())?;
    let mut far = peer.accept()?;
    let early = is_closed_at_peer(&mut far, Duration::from_secs(UNCLAIMED_S - 3));
    demand(!early, "a connection that waits for 30 s", "its end before")?;
    let closed = is_closed_at_peer(&mut far, Duration::from_secs(6));
    demand(closed, "its end after 30 s", "it stays open")
}

fn refusals_of_bind(stage: &Stage<'_>) -> Finding {
    let peer = TcpPeer::open(stage)?;
    let mut seat = relay(stage)?;
    let id = connect(&mut seat, peer.address())?;
    let _far = peer.accept()?;
    let [first, second, third, last] = id;
    let unknown = [first, second, third, last ^ 0xFF];
    let mut data = second_connection(&seat)?;
    data.request(Draft::new(CONNECTION_BIND))?.expect(400).at("no id")?;
    second_connection(&seat)?.request(bind(&unknown))?.expect(400).at("an unknown id")?;
    if let Some(other) = &stage.plan.other {
        let mut stranger = second_connection(&seat)?;
        stranger.who = other.clone();
        stranger.request(bind(&id))?.expect_any(&[401, 441]).at("another user")?;
    }
    let _data = data_connection(&seat, id)?;
    second_connection(&seat)?.request(bind(&id))?.expect(400).at("a used id")
}

fn raw_bytes(stage: &Stage<'_>) -> Finding {
    let peer = TcpPeer::open(stage)?;
    let mut seat = relay(stage)?;
    let id = connect(&mut seat, peer.address())?;
    let mut far = peer.accept()?;
    far.write_all(b"sent before the bind;")?;
    let mut data = second_connection(&seat)?;
    let mut answer = data.ask(&data.dress()?.on(bind(&id)))?;
    if answer.code() == Some(438) {
        // Now that the nonce is known to be good, payload may follow in the same segment.
        data.learn(&answer)?;
        let bind = data.dress()?.on(bind(&id));
        data.send_raw(&[bind.bytes(), b"right behind the bind"].concat())?;
        answer = match data.arrival()? {
            Arrival::Message(answer) if answer.id() == bind.id() => answer,
            other => return Err(fail("the answer to ConnectionBind first", other.describe())),
        };
    } else {
        data.send_raw(b"right behind the bind")?;
    }
    answer.expect_success().at("ConnectionBind")?;
    data.demand_signed(&answer).at("ConnectionBind")?;
    expect_at_peer(&mut far, b"right behind the bind")?;
    far.write_all(b"sent after it")?;
    expect_at_client(&mut data, b"sent before the bind;sent after it")?;
    // What looks like STUN, ChannelData or padding is none here.
    let lookalikes = [Draft::binding().bytes(), &[0x40, 0, 0, 1, 7], &[0xFF; 3]].concat();
    data.send_raw(&lookalikes)?;
    expect_at_peer(&mut far, &lookalikes)?;
    let long: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    let (part, _) = long.split_at(300_000);
    data.send_raw(part)?;
    expect_at_peer(&mut far, part)?;
    far.write_all(part)?;
    expect_at_client(&mut data, part)
}

fn closing(stage: &Stage<'_>) -> Finding {
    let (_seat, mut data, far) = piped(stage)?;
    drop(far);
    demand(is_closed(&mut data), "the client's half to close", "it stays open")?;
    let (_seat, data, mut far) = piped(stage)?;
    drop(data);
    let closed = is_closed_at_peer(&mut far, stage.plan.timeout);
    demand(closed, "the peer's half to close", "it stays open")?;
    let (mut seat, mut data, mut far) = piped(stage)?;
    let end = seat.request(Draft::new(REFRESH).add(LIFETIME, &[0; 4]))?;
    end.expect_success().at("the end of the allocation")?;
    seat.forget();
    let closed = is_closed_at_peer(&mut far, stage.plan.timeout) && is_closed(&mut data);
    demand(closed, "both halves to close with the allocation", "one stays open")
}

fn no_channels(stage: &Stage<'_>) -> Finding {
    let peer = TcpPeer::open(stage)?;
    let mut seat = relay(stage)?;
    let bind = Draft::new(CHANNEL_BIND).channel(0x4000).peer(peer.address());
    seat.request(bind)?.expect_any(&[400, 403])
}

fn half_close(stage: &Stage<'_>) -> Finding {
    let (_seat, mut data, mut far) = piped(stage)?;
    let last = vec![7; 100_000];
    far.write_all(&last)?;
    far.shutdown(Shutdown::Write)?;
    expect_at_client(&mut data, &last)?;
    demand(is_closed(&mut data), "then the end", "the connection stays open")
}

fn frames_are_bytes(stage: &Stage<'_>) -> Finding {
    let (_seat, mut data, mut far) = piped(stage)?;
    let frames: Vec<u8> =
        (1..=5_u8).flat_map(|len| [vec![0, len], vec![0x80; len.into()]].concat()).collect();
    data.send_raw(&frames)?;
    expect_at_peer(&mut far, &frames)?;
    far.write_all(&frames)?;
    expect_at_client(&mut data, &frames)
}
