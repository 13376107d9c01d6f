//! MOB-…: an allocation that follows its client (RFC 8016).

use super::Case;
use super::message::{Draft, Message};
use super::numbers::{MOBILITY_TICKET, RELAYED};
use super::peer::Peer;
use super::seat::Seat;
use super::stage::Stage;
use super::verdict::{At, Finding, demand, equal, fail, not_offered};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "MOB-001",
        "RFC 8016 §3.1.2",
        "An empty ticket in Allocate brings a ticket, or 405 where mobility is forbidden.",
        asking,
    ),
    Case::must(
        "MOB-002",
        "RFC 8016 §3.1.2",
        "Allocate with a ticket that is not empty gets 400.",
        ticket_in_allocate,
    ),
    Case::must(
        "MOB-003",
        "RFC 8016 §3.2.2",
        "A broken ticket gets 400, one of an allocation that has ended 437.",
        broken_ticket,
    ),
    Case::must(
        "MOB-004",
        "RFC 8016 §3.2.2",
        "A ticket from where the client already is gets 400.",
        no_move,
    ),
    Case::must(
        "MOB-005",
        "RFC 8016 §3.2.2",
        "Another user's Refresh with the ticket gets 441.",
        stolen_ticket,
    ),
    Case::must(
        "MOB-006",
        "RFC 8016 §3.2.2",
        "A move brings a new ticket; relayed address, permissions and channels stay.",
        a_move,
    ),
    Case::must(
        "MOB-007",
        "RFC 8016 §3.2.2",
        "Data goes to the old place until the client sends from the new one.",
        handing_over,
    ),
    Case::must(
        "MOB-008",
        "RFC 8016 §3.2.2",
        "The old ticket repeats the old answer and moves nothing further.",
        old_ticket,
    ),
    Case::must(
        "MOB-009",
        "RFC 8016 §5, §3.1.2",
        "Tickets are sealed: short, and no two alike.",
        sealed,
    ),
    Case::should(
        "MOB-010",
        "RFC 8489 §9.2.4; RFC 8016 §3.2.2",
        "A nonce of the old place brings 438 at the new one, and then the move.",
        old_nonce,
    ),
];

fn ask_for_ticket() -> Draft {
    Draft::allocate().add(MOBILITY_TICKET, &[])
}

fn ticket_of(answer: &Message) -> Finding<Vec<u8>> {
    let ticket = answer.value(MOBILITY_TICKET).filter(|ticket| !ticket.is_empty());
    ticket.map(<[u8]>::to_vec).ok_or_else(|| fail("a MOBILITY-TICKET", "none"))
}

/// A client with an allocation that can move, and its ticket.
fn mobile<'a>(stage: &'a Stage<'a>) -> Finding<(Seat<'a>, Vec<u8>)> {
    let mut seat = stage.challenged()?;
    let answer = seat.allocate(ask_for_ticket())?;
    if answer.code() == Some(405) {
        return Err(not_offered("the server forbids mobility"));
    }
    answer.expect_success()?;
    if !answer.has(MOBILITY_TICKET) {
        return Err(not_offered("the server ignores mobility, which is allowed"));
    }
    Ok((seat, ticket_of(&answer)?))
}

fn refresh_with(ticket: &[u8]) -> Draft {
    Draft::refresh(600).add(MOBILITY_TICKET, ticket)
}

fn asking(stage: &Stage<'_>) -> Finding {
    let (seat, ticket) = mobile(stage)?;
    seat.relayed()?;
    demand(!ticket.is_empty(), "a ticket", "an empty one")
}

fn ticket_in_allocate(stage: &Stage<'_>) -> Finding {
    drop(mobile(stage)?);
    let draft = Draft::allocate().add(MOBILITY_TICKET, &[7]);
    stage.challenged()?.allocate(draft)?.expect(400)
}

fn broken_ticket(stage: &Stage<'_>) -> Finding {
    let (mut seat, ticket) = mobile(stage)?;
    let mut other = stage.challenged()?;
    for at in [0, ticket.len() / 2, ticket.len().saturating_sub(1)] {
        let mut broken = ticket.clone();
        if let Some(byte) = broken.get_mut(at) {
            *byte ^= 1;
        }
        let answer = other.request(refresh_with(&broken))?;
        answer.expect(400).at(format!("byte {at} of {}", ticket.len()))?;
    }
    seat.request(Draft::refresh(0))?.expect_success().at("the end of the allocation")?;
    seat.forget();
    other.request(refresh_with(&ticket))?.expect(437).at("its ticket afterwards")
}

fn no_move(stage: &Stage<'_>) -> Finding {
    let (mut seat, ticket) = mobile(stage)?;
    seat.request(refresh_with(&ticket))?.expect(400)?;
    seat.request(Draft::refresh(600))?.expect_success().at("the allocation lives on")
}

fn stolen_ticket(stage: &Stage<'_>) -> Finding {
    let other = stage.other_user()?;
    let (mut seat, ticket) = mobile(stage)?;
    let mut thief = stage.challenged()?;
    thief.who = other;
    thief.request(refresh_with(&ticket))?.expect(441)?;
    seat.request(Draft::refresh(600))?.expect_success().at("the owner's allocation lives on")
}

/// Moves an allocation to a new client; that client and the answer.
fn moved<'a>(old: &mut Seat<'a>, ticket: &[u8]) -> Finding<(Seat<'a>, Message)> {
    let stage = old.stage;
    let mut new = stage.challenged()?;
    let answer = new.request(refresh_with(ticket))?;
    answer.expect_success().at("Refresh with the ticket from another port")?;
    new.demand_signed(&answer)?;
    let relayed = old.relayed()?;
    old.forget();
    new.take_over(relayed);
    Ok((new, answer))
}

/// A mobile client with a channel to a peer.
fn bound<'a>(stage: &'a Stage<'a>) -> Finding<(Seat<'a>, Vec<u8>, Peer)> {
    let peer = stage.peer()?;
    let (mut seat, ticket) = mobile(stage)?;
    seat.request(Draft::bind(0x4000, peer.address()))?.expect_success().at("ChannelBind")?;
    Ok((seat, ticket, peer))
}

fn a_move(stage: &Stage<'_>) -> Finding {
    let (mut old, ticket, peer) = bound(stage)?;
    let relayed = old.relayed()?;
    let (mut new, answer) = moved(&mut old, &ticket)?;
    demand(ticket_of(&answer)? != ticket, "a new ticket", "the same")?;
    if let Some(told) = answer.address(RELAYED) {
        equal("the same relayed address", &told, &relayed)?;
    }
    new.send(&super::message::channel_data(0x4000, b"from the new place"))?;
    peer.expect(relayed, b"from the new place")?;
    peer.send(relayed, b"to the new place")?;
    new.expect_channel(0x4000, b"to the new place")
}

fn handing_over(stage: &Stage<'_>) -> Finding {
    let (mut old, ticket, peer) = bound(stage)?;
    let relayed = old.relayed()?;
    let (mut new, _) = moved(&mut old, &ticket)?;
    peer.send(relayed, b"still to the old place")?;
    old.expect_channel(0x4000, b"still to the old place")?;
    old.send(&super::message::channel_data(0x4000, b"still from the old place"))?;
    peer.expect(relayed, b"still from the old place")?;
    new.send(Draft::send(peer.address(), b"from the new place").bytes())?;
    peer.expect(relayed, b"from the new place")?;
    peer.send(relayed, b"to the new place")?;
    new.expect_channel(0x4000, b"to the new place")?;
    old.send(&super::message::channel_data(0x4000, b"too late")).ok();
    let came = peer.receive(stage.grace())?;
    demand(came.is_none(), "nothing more from the old place", "a datagram")
}

fn old_ticket(stage: &Stage<'_>) -> Finding {
    let (mut old, ticket) = mobile(stage)?;
    let mut new = stage.challenged()?;
    let request = new.dress()?.on(refresh_with(&ticket));
    let answer = new.ask(&request)?;
    answer.expect_success().at("Refresh with the ticket from another port")?;
    new.take_over(old.relayed()?);
    old.forget();
    if !stage.is_stream() {
        let again = new.ask(&request)?;
        again.expect_success().at("the same Refresh again")?;
        equal("the same ticket again", &ticket_of(&again)?, &ticket_of(&answer)?)?;
    }
    let mut third = stage.challenged()?;
    let answer = third.request(refresh_with(&ticket))?;
    demand(!answer.is_success(), "no further move by the old ticket", answer.describe())
}

fn sealed(stage: &Stage<'_>) -> Finding {
    let (_one, first) = mobile(stage)?;
    let (_two, second) = mobile(stage)?;
    demand(first != second, "two tickets that differ", "the same twice")?;
    demand(first.len() < 300, "fewer than 300 bytes", first.len())
}

fn old_nonce(stage: &Stage<'_>) -> Finding {
    let (mut old, ticket) = mobile(stage)?;
    let relayed = old.relayed()?;
    let mut new = stage.seat()?;
    new.challenge = old.challenge.clone();
    new.scheme = old.scheme;
    let refusal = new.ask(&new.dress()?.on(refresh_with(&ticket)))?;
    refusal.expect(438).at("the old place's nonce")?;
    new.learn(&refusal)?;
    let answer = new.ask(&new.dress()?.on(refresh_with(&ticket)))?;
    answer.expect_success().at("the new nonce")?;
    old.forget();
    new.take_over(relayed);
    Ok(())
}
