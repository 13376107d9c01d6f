//! What a tap sees of an allocation, and what others see of a tap: nothing.

use super::*;
use crate::addr::AllocationId;
use crate::media::Leg;
use crate::turn::tally::{Flow, Usage};
use crate::turn::tap::{Depth, Sights, Untapped};
use crate::turn::{Change, Wrap};

const PEER: &str = "93.184.216.40:4000";

/// A stage with a channel to the peer, and its allocation.
fn with_channel() -> (Stage, AllocationId) {
    let mut stage = Stage::new(&Shared::default(), Share { index: 0, of: 1 }, 5_000);
    stage.opened(|_| {});
    stage.others.clear();
    stage.ask(Method::CHANNEL_BIND, |writer| {
        writer.add(&Channel(0x4000)).add(&XorPeerAddress(PEER.parse().unwrap()));
    });
    stage.carry_out();
    let id = stage.server.allocations(stage.now).next().unwrap().id;
    stage.others.clear();
    (stage, id)
}

fn rtp(content: &[u8]) -> Vec<u8> {
    [&[0x80, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3][..], content].concat()
}

fn send(stage: &mut Stage, payload: &[u8]) {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let message = [&[0x40, 0][..], &len, payload].concat();
    let verdict = stage.server.client_input(stage.now, stage.client, &*message);
    assert!(matches!(verdict, Verdict::ToPeer { .. }), "{verdict:?}");
}

fn told(sights: &Sights) -> Vec<(Leg, bool, u32, usize)> {
    sights.seen.iter().map(|it| (it.leg, it.sent, it.len, it.bytes.len())).collect()
}

#[test]
fn both_legs_are_seen_and_content_only_if_it_is_asked_for() {
    let payload = rtp(&[7; 160]);
    for (depth, [framed, bare]) in [(Depth::Headers, [16, 12]), (Depth::Whole, [176, 172])] {
        let (mut stage, id) = with_channel();
        stage.server.tap(stage.now, id, depth).unwrap();
        send(&mut stage, &payload);
        let at = RelayId { allocation: id, family: Family::V4 };
        let peer = PeerAddr::new(PEER.parse().unwrap());
        let verdict = stage.server.peer_input(stage.now, at, peer, &*payload);
        assert!(matches!(verdict, Verdict::ToClient { .. }), "{verdict:?}");
        let sights = stage.server.sights();
        assert_eq!(
            told(&sights),
            [
                (Leg::Client, false, 176, framed),
                (Leg::Peer, true, 172, bare),
                (Leg::Peer, false, 172, bare),
                (Leg::Client, true, 172, bare),
            ]
        );
        assert!(matches!(sights.seen[3].wrap, Wrap::Channel(_)), "dressed by who writes it down");
        assert_eq!(sights.seen[0].from, stage.client.client.socket());
        assert_eq!(sights.seen[1].to, PEER.parse().unwrap());
        assert_eq!(sights.seen[1].from, sights.seen[2].to);
        assert_eq!(stage.server.sights().seen, []);
    }
}

#[test]
fn requests_are_seen_by_their_header_and_with_their_answers() {
    let (mut stage, id) = with_channel();
    stage.server.tap(stage.now, id, Depth::Headers).unwrap();
    stage.carry_out();
    stage.ask(Method::REFRESH, |writer| {
        writer.add(&Lifetime(600));
    });
    stage.carry_out();
    let sights = stage.server.sights();
    let heads: Vec<_> = sights.seen.iter().map(|it| (it.sent, it.bytes.len())).collect();
    assert_eq!(heads, [(false, 20), (true, 20)]);
    assert!(!sights.over);
    stage.ask(Method::REFRESH, |writer| {
        writer.add(&Lifetime(0));
    });
    stage.carry_out();
    let sights = stage.server.sights();
    assert_eq!((sights.seen.len(), sights.over), (2, true), "it was released, and answered");
}

#[test]
fn what_finds_no_room_is_counted() {
    let (mut stage, id) = with_channel();
    stage.server.tap(stage.now, id, Depth::Whole).unwrap();
    for _ in 0..300 {
        send(&mut stage, &rtp(&[7; 1_000]));
    }
    let sights = stage.server.sights();
    let seen = |leg| sights.seen.iter().filter(|it| it.leg == leg).count() as u64;
    for leg in Leg::BOTH {
        assert_eq!(seen(leg) + sights.missed[leg as usize], 300, "{leg:?}");
    }
    assert!(sights.seen.len() < 300, "{}", sights.seen.len());
    send(&mut stage, &rtp(&[]));
    assert_eq!(told(&stage.server.sights()).len(), 2, "there is room again");
}

#[test]
fn the_kernel_relays_nothing_of_what_is_measured_where_measuring_comes_first() {
    let (mut stage, id) = with_channel();
    let route = stage.server.routes(id).next().unwrap();
    let flow = Flow { packets: 3, bytes: 300 };
    stage.server.carried(id, &route, Usage { to_peer: flow, to_client: flow });
    let view = stage.server.allocation(stage.now, id).unwrap();
    assert_eq!((view.beside, view.usage.to_peer.packets), (6, 3));
    let measured = Some(Measured { every: NonZeroU32::MIN, whole: true });
    Arc::make_mut(&mut stage.server.config).measured = measured;
    assert_eq!(stage.server.routes(id).count(), 0);
    stage.server.table.open(id).unwrap().measured = false;
    assert_eq!(stage.server.routes(id).count(), 1, "the kernel relays what nobody measures");
}

#[test]
fn the_kernel_relays_nothing_of_what_is_looked_at() {
    let (mut stage, id) = with_channel();
    assert_eq!(stage.server.routes(id).count(), 1);
    stage.server.tap(stage.now, id, Depth::Headers).unwrap();
    assert_eq!(stage.server.routes(id).count(), 0);
    assert_eq!(stage.server.tap(stage.now, id, Depth::Headers), Err(Untapped::Busy));
    stage.server.untap();
    assert_eq!(stage.server.routes(id).count(), 1);
    stage.carry_out();
    let changed = Action::Changed(Change::RoutesChanged { id });
    let told = stage.others.iter().filter(|it| **it == changed).count();
    assert_eq!(told, 2, "followers are told both times");
    let gone = AllocationId { slot: 9, generation: 9 };
    assert_eq!(stage.server.tap(stage.now, gone, Depth::Headers), Err(Untapped::Gone));
}
