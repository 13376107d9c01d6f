//! Every framing, in virtual time: what is said is what came, to the packet and the nanosecond.

use std::time::Duration;

use proto::addr::FiveTuple;
use proto::media::{Leg, LegSummary, StreamReport};
use proto::turn::config::Measured;
use rig::link::Link;
use rig::script::channel_data;
use rig::seen::What;
use rig::{Draft, World};

use crate::rtp::{Counted, Seen, Source};

/// Losses, duplicates, and a jitter of three packets.
const BAD: Link = Link {
    loss: 50,
    duplication: 20,
    delay: Duration::from_millis(40),
    jitter: Duration::from_millis(60),
};

/// A voice with a payload type that says its clock.
const VOICE: Source = Source {
    ssrc: 0x1111_2222,
    payload_type: 0,
    rate: 8_000,
    every: Duration::from_millis(20),
    first: 65_000,
};

/// What a peer sends meanwhile.
const ANSWER: Source = Source { ssrc: 0x3333_4444, payload_type: 8, ..VOICE };

/// How payload travels between client and relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Channel,
    Indication,
    Bare,
    Stream,
}

/// Packets sent each way.
const PACKETS: u64 = 1_000;

/// A call over bad links, and the packets that came to the relay, by leg.
fn call(framing: Framing, seed: u64) -> (World, [Vec<Seen>; 2]) {
    let world = World::configured(seed, |config| config.microsoft = framing == Framing::Bare);
    let mut world = match framing {
        Framing::Stream => world.with_tcp_client("alice"),
        Framing::Channel | Framing::Indication | Framing::Bare => world.with_client("alice"),
    }
    .with_peer("bob");
    let relayed = match framing {
        Framing::Bare => {
            let relayed = world.ms("alice").relay();
            world.ms("alice").aim("bob").expect_success();
            relayed
        }
        Framing::Channel | Framing::Stream => {
            let relayed = world.client("alice").relay();
            world.client("alice").bind(0x4000, "bob").expect_success();
            relayed
        }
        Framing::Indication => {
            let relayed = world.client("alice").relay();
            world.client("alice").permit(&["bob"]).expect_success();
            relayed
        }
    };
    world.link = BAD;
    world.record = Some(Vec::new());
    let begin = world.now().mono;
    let bob = world.peer_address("bob");
    for place in 0..PACKETS {
        let payload = VOICE.packet(place);
        let message = match framing {
            Framing::Bare => payload,
            Framing::Channel | Framing::Stream => channel_data(0x4000, &payload),
            Framing::Indication => {
                Draft::send(bob, &payload).transaction(world.dice.transaction()).encode()
            }
        };
        world.client("alice").send_bytes(&message);
        world.inject_at_relay(relayed, bob, &ANSWER.packet(place));
        world.advance(VOICE.every);
    }
    world.settle();
    let mut came = [Vec::new(), Vec::new()];
    for seen in world.record.take().unwrap_or_default() {
        let at = seen.now.duration_since(begin);
        let (leg, source, bytes) = match seen.what {
            What::FromClient(FiveTuple { .. }, bytes, _) => (Leg::Client, VOICE, bytes),
            What::FromPeer(_, _, bytes, _) => (Leg::Peer, ANSWER, bytes),
            _ => continue,
        };
        let payload = bytes.windows(172).find_map(|part| source.place(part));
        let place = payload.expect("nothing but media came");
        came[leg as usize].push(Seen { place, at });
    }
    (world, came)
}

fn assert_equal(said: &StreamReport, counted: &Counted, case: &str) {
    assert_eq!((said.received, said.lost()), (counted.received, counted.lost), "{case}");
    assert_eq!((said.duplicates, said.late), (counted.duplicates, counted.late), "{case}");
    for (said, counted) in [(said.jitter, counted.jitter), (said.mean_jitter, counted.mean_jitter)]
    {
        let off = (said.as_secs_f64() - counted).abs();
        assert!(off < 1e-6, "{case}: jitter {said:?}, not {counted}");
    }
}

#[test]
fn both_legs_are_told_exactly_whatever_media_is_dressed_in() {
    for framing in [Framing::Channel, Framing::Indication, Framing::Bare, Framing::Stream] {
        for seed in 0..2 {
            let (mut world, came) = call(framing, seed);
            let now = world.now();
            let id = world.server.allocations(now).next().expect("it lives").id;
            let report = world.server.media(now, id).expect("it is measured");
            for (leg, source) in [(Leg::Client, VOICE), (Leg::Peer, ANSWER)] {
                let row = format!("{framing:?}, {}, seed {seed}", leg.name());
                let counted = source.count(&came[leg as usize]);
                let streams = &report.legs[leg as usize].streams;
                assert_eq!(streams.len(), 1, "{row}");
                assert_eq!(streams[0].ssrc, source.ssrc, "{row}");
                assert_equal(&streams[0], &counted, &row);
                // On a stream nothing is lost, only late; elsewhere the link did its work.
                let clean = framing == Framing::Stream && leg == Leg::Client;
                assert_eq!(counted.lost == 0, clean, "{row}: {counted:?}");
            }
        }
    }
}

#[test]
fn counters_of_all_media_are_the_sum_of_what_allocations_say_and_end_with_it() {
    let (mut world, _) = call(Framing::Channel, 9);
    let now = world.now();
    let view = world.server.allocations(now).next().expect("it lives");
    let legs: [LegSummary; 2] = view.media.expect("it is measured");
    let tally = world.server.tally().media;
    for (leg, summary) in legs.iter().enumerate() {
        assert_eq!(tally.expected[leg], summary.expected);
        assert_eq!(tally.received[leg], summary.received);
        assert_eq!(tally.kinds[leg], summary.kinds);
        assert_eq!(summary.nature(), Some("rtp"));
    }
    world.link = Link::default();
    world.client("alice").refresh(0).expect_success();
    let closed = world.changes.iter().find_map(|change| match change {
        proto::turn::Change::AllocationClosed { media, .. } => media.clone(),
        _ => None,
    });
    let last = closed.expect("what was measured is told at the end");
    assert_eq!(last.legs[0].summary.received, legs[0].received);
    assert_eq!(last.legs[1].summary.lost(), legs[1].lost());
    assert_eq!(world.server.tally().media, tally, "the sums stay");
}

#[test]
fn sampling_measures_one_of_so_many_and_switched_off_none() {
    for (every, expected) in [(None, 0), (Some(1), 8), (Some(2), 4), (Some(5), 2)] {
        let names: Vec<_> = (0..8).map(|number| format!("caller{number}")).collect();
        let world = World::configured(3, |config| {
            let every = every.and_then(std::num::NonZeroU32::new);
            config.measured = every.map(|every| Measured { every, whole: false });
        });
        let mut world =
            names.iter().fold(world.with_peer("bob"), |world, name| world.with_client(name));
        for name in &names {
            world.client(name).relay();
            world.client(name).bind(0x4000, "bob").expect_success();
            for place in 0..3 {
                world.client(name).send_channel(0x4000, &VOICE.packet(place));
            }
        }
        let views: Vec<_> = world.server.allocations(world.now()).collect();
        let measured = views.iter().filter_map(|view| view.media).collect::<Vec<_>>();
        assert_eq!(measured.len(), expected, "one of {every:?}");
        assert!(measured.iter().all(|legs| legs[0].received == 3));
        assert_eq!(world.server.tally().media.received, [3 * expected as u64, 0]);
        assert!(views.iter().all(|view| view.usage.to_peer.packets == 3), "all are counted");
    }
}

#[test]
fn what_the_relay_drops_is_lost_for_whoever_waits_for_it() {
    let rates = |packets| proto::policy::Rates {
        packets: std::num::NonZeroU64::new(packets),
        ..proto::policy::Rates::UNLIMITED
    };
    let world = World::configured(4, |config| config.terms.rfc.bandwidth.allocation = rates(50));
    let mut world = world.with_client("alice").with_peer("bob");
    world.client("alice").relay();
    world.client("alice").bind(0x4000, "bob").expect_success();
    // Twice as many as may pass.
    for place in 0..200 {
        world.client("alice").send_channel(0x4000, &VOICE.packet(place));
        world.advance(VOICE.every / 2);
    }
    let mut arrived = 0;
    while world.peer("bob").take().is_some() {
        arrived += 1;
    }
    let view = world.server.allocations(world.now()).next().expect("it lives");
    let [client, _] = view.media.expect("it is measured");
    assert_eq!(client.received, arrived);
    assert!((80..=110).contains(&client.lost()), "{client:?}");
}
