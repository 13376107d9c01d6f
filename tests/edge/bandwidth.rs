//! Limits of bandwidth (ED-51, ED-52): exact, by dropping, and nobody else's trouble.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use proto::addr::ConnectionId;
use proto::policy::bandwidth::{Allowance, Direction};
use proto::policy::{Bandwidth, Rates};
use proto::reject::DropReason;
use proto::turn::tally::{Flow, Usage};
use rig::site::{BEGIN, pool_key};
use rig::{Login, World, site};

const NONE: Bandwidth = Bandwidth::UNLIMITED;

/// ED-52 and ED-51: 3000 kbit/s for one allocation, 10000 for one user.
const PRODUCT: Bandwidth = Bandwidth { allocation: kbit(3_000), user: kbit(10_000), ..NONE };

const fn kbit(kbit_per_s: u64) -> Rates {
    Rates { bytes: NonZeroU64::new(kbit_per_s * 125), packets: None }
}

const fn packets(per_s: u64) -> Rates {
    Rates { bytes: None, packets: NonZeroU64::new(per_s) }
}

/// Clients of a world with these limits, each with an allocation and a channel to bob.
fn world(bandwidth: Bandwidth, clients: &[&str]) -> (World, Vec<SocketAddr>) {
    let world = World::configured(51, |config| config.terms.rfc.bandwidth = bandwidth);
    let world = clients.iter().fold(world, |world, client| world.with_client(client));
    let mut world = world.with_peer("bob");
    let relayed = clients.iter().map(|client| {
        let relayed = world.client(client).relay();
        world.client(client).bind(0x4000, "bob").expect_success();
        relayed
    });
    let relayed = relayed.collect();
    // Buckets are full, and the user's pot is as well.
    world.advance_s(1);
    (world, relayed)
}

/// Payload bytes that reached bob from each of the relayed addresses.
fn heard_by_bob(world: &mut World, relayed: &[SocketAddr]) -> Vec<usize> {
    let mut heard = vec![0; relayed.len()];
    while let Some((from, payload)) = world.peer("bob").take() {
        let place = relayed.iter().position(|it| *it == from).expect("from a relayed address");
        heard[place] += payload.len();
    }
    heard
}

/// Bytes in the client's inbox, without the header of ChannelData.
fn heard_by(world: &mut World, client: &str) -> usize {
    let mut client = world.client(client);
    client.state().inbox.drain(..).map(|it| it.len() - 4).sum()
}

/// For so many seconds, every client and bob send `len` bytes `per_s` times a second.
fn talk(
    world: &mut World,
    clients: &[(&str, SocketAddr)],
    (seconds, per_s): (u32, u32),
    len: usize,
) {
    let payload = vec![7; len];
    for _ in 0..seconds * per_s {
        for (client, relayed) in clients {
            world.client(client).send_channel(0x4000, &payload);
            world.peer("bob").send(*relayed, &payload);
        }
        world.advance(Duration::from_secs(1) / per_s);
    }
}

fn within_2_percent(case: &str, bytes: usize, expected: usize) {
    let off = bytes.abs_diff(expected);
    assert!(off * 50 <= expected, "{case}: {bytes} bytes passed, {expected} were allowed");
}

#[test]
fn ed_052_an_allocation_carries_its_rate_each_way_and_not_more() {
    let (mut world, relayed) = world(PRODUCT, &["alice"]);
    // 8 Mbit/s each way, for ten seconds.
    talk(&mut world, &[("alice", relayed[0])], (10, 1_000), 1_000);
    let rate = 3_000 * 125 * 10;
    within_2_percent("to the peer", heard_by_bob(&mut world, &relayed)[0], rate);
    within_2_percent("to the client", heard_by(&mut world, "alice"), rate);
    let lost = (2 * (10_000_000 - rate)).div_ceil(1_000);
    let counted = world.dropped(DropReason::AllocationBandwidth);
    assert!(counted.abs_diff(lost as u64) * 50 < lost as u64, "{counted} of {lost} are counted");
    assert_eq!(world.dropped_in_all(), counted, "for no other reason");
}

#[test]
fn sec_010_a_rate_below_the_limit_loses_nothing_and_any_size_passes() {
    for (case, bandwidth) in [
        ("bits", Bandwidth { allocation: kbit(3_000), user: kbit(3_000), ..NONE }),
        ("packets", Bandwidth { allocation: packets(1_000), user: packets(1_000), ..NONE }),
    ] {
        let (mut world, relayed) = world(bandwidth, &["alice"]);
        let alice = [("alice", relayed[0])];
        talk(&mut world, &alice, (5, 340), 1_100);
        assert_eq!(world.dropped_in_all(), 0, "{case}");
        world.advance_s(1);
        for _ in 0..3 {
            talk(&mut world, &alice, (1, 1), 60_000);
        }
        assert_eq!(world.dropped_in_all(), 0, "{case}: a large datagram");
    }
}

#[test]
fn sec_010_datagrams_are_limited_as_well_and_indications_like_channels() {
    let limits = Bandwidth { allocation: packets(200), user: packets(300), ..NONE };
    let (mut world, relayed) = world(limits, &["alice"]);
    for _ in 0..5_000 {
        world.client("alice").send("bob", &[7; 10]);
        world.advance(Duration::from_millis(2));
    }
    within_2_percent("datagrams", heard_by_bob(&mut world, &relayed)[0], 10 * 200 * 10);
    assert_eq!(world.dropped_in_all(), world.dropped(DropReason::AllocationPackets));
}

#[test]
fn sec_010_what_passes_beside_the_server_is_part_of_the_same_limit() {
    let limits = Bandwidth { allocation: kbit(80), ..NONE };
    let (mut world, relayed) = world(limits, &["alice"]);
    let id = world.server.allocations(world.now()).next().expect("an allocation").id;
    let route = world.server.routes(id).next().expect("a route");
    let bounds = world.server.bounds(id);
    assert_eq!((bounds.len(), bounds[0].rates), (1, limits.allocation));
    let (mut beside, mut asked) = (0, 0);
    // The kernel carries half the rate, the client offers the server as much as the rate.
    for _ in 0..1_000 {
        world.client("alice").send_channel(0x4000, &[7; 100]);
        let to_peer = Flow { packets: 1, bytes: 50 };
        beside += 50;
        world.server.carried(id, &route, Usage { to_peer, ..Usage::default() });
        asked += world.server.even(world.now().mono, id).to_peer.bytes;
        world.advance(Duration::from_millis(10));
    }
    let by_server = heard_by_bob(&mut world, &relayed)[0];
    assert_eq!(asked, by_server as u64, "what the server carried is told once");
    within_2_percent("both together", beside + by_server, 100_000 + 1_000);
    let before = world.dropped(DropReason::AllocationBandwidth);
    let why = (Direction::ToPeer, DropReason::AllocationBandwidth);
    world.server.held_back(world.now().mono, (id, &route), why, 3);
    assert_eq!(world.dropped(DropReason::AllocationBandwidth), before + 3);
    let view = world.server.allocations(world.now()).next().expect("an allocation");
    assert!(view.pressure.above_peak, "it shows as any drop does");
}

#[test]
fn sec_010_every_limit_but_the_worker_s_can_be_held_beside_the_server() {
    let rates = kbit(80);
    let four = Bandwidth { allocation: rates, user: rates, client: rates, relay: rates, ..NONE };
    for (case, bandwidth, routes, reasons) in [
        ("none", NONE, 1, &[][..]),
        (
            "all that can",
            four,
            1,
            &[
                DropReason::AllocationBandwidth,
                DropReason::UserBandwidth,
                DropReason::ClientBandwidth,
                DropReason::RelayBandwidth,
            ],
        ),
        ("the user's", Bandwidth { user: rates, ..NONE }, 1, &[DropReason::UserBandwidth]),
        ("the worker's", Bandwidth { worker: rates, ..NONE }, 0, &[DropReason::WorkerBandwidth]),
    ] {
        let (world, _) = world(bandwidth, &["alice"]);
        let id = world.server.allocations(world.now()).next().expect("an allocation").id;
        assert_eq!(world.server.routes(id).count(), routes, "{case}");
        let bounds = world.server.bounds(id);
        let found: Vec<_> = bounds.iter().map(|bound| bound.reasons[0]).collect();
        assert_eq!(found, reasons, "{case}");
        assert!(bounds.iter().all(|bound| bound.rates == rates), "{case}");
    }
}

#[test]
fn sec_010_what_passes_beside_the_server_leaves_others_of_the_user_less() {
    let limits = Bandwidth { user: kbit(80), ..NONE };
    let world = World::configured(51, |config| config.terms.rfc.bandwidth = limits);
    let mut world = world.with_client("alice").with_client("second").with_peer("bob");
    let login = world.client("alice").state().login.clone();
    let relayed = ["alice", "second"].map(|client| {
        world.client(client).state().login = login.clone();
        let relayed = world.client(client).relay();
        world.client(client).bind(0x4000, "bob").expect_success();
        relayed
    });
    world.advance_s(1);
    let id = world.server.allocations(world.now()).next().expect("an allocation").id;
    let route = world.server.routes(id).next().expect("a route");
    let taken = |world: &World| {
        let bounds = world.server.bounds(id);
        bounds[0].pot.as_ref().expect("it is shared").taken()[0][0]
    };
    let (before, mut beside) = (taken(&world), 0);
    for _ in 0..1_000 {
        world.client("second").send_channel(0x4000, &[7; 100]);
        let to_peer = Flow { packets: 1, bytes: 50 };
        beside += 50;
        world.server.carried(id, &route, Usage { to_peer, ..Usage::default() });
        world.server.even(world.now().mono, id);
        world.advance(Duration::from_millis(10));
    }
    let by_server = heard_by_bob(&mut world, &relayed)[1];
    within_2_percent("both together", beside + by_server, 100_000 + 1_000);
    // In nanoseconds at ten bytes a millisecond, give or take a slice.
    let told = usize::try_from(taken(&world) - before).expect("it fits") / 100_000;
    assert!(told.abs_diff(by_server) <= 100, "{told} of {by_server} are told to who holds it, too");
}

/// Streams of peers that give each of these connections whatever may pass, for so long; bytes of
/// each, and how often they had to wait.
fn stream(world: &mut World, connections: &[ConnectionId], seconds: u64) -> (Vec<usize>, u64) {
    let end = world.now().mono + Duration::from_secs(seconds);
    let mut carried = vec![0; connections.len()];
    let before = world.server.tally().paced;
    while world.now().mono < end {
        let now = world.now();
        let mut until = end;
        for (connection, carried) in connections.iter().zip(&mut carried) {
            loop {
                match world.server.allowance(now, *connection, Direction::ToClient) {
                    Allowance::Unlimited => panic!("it has a limit"),
                    Allowance::Bytes(bytes) => {
                        let bytes = bytes.min(8_192);
                        assert!(world.chunk(*connection, &vec![7; bytes]));
                        *carried += bytes;
                    }
                    Allowance::NotBefore(at) => {
                        until = until.min(at);
                        break;
                    }
                }
            }
        }
        // The kernel counts milliseconds.
        let rest = until.duration_since(now.mono).as_micros().div_ceil(1_000);
        world.advance(Duration::from_millis(u64::try_from(rest).expect("a short while").max(1)));
    }
    (carried, world.server.tally().paced - before)
}

#[test]
fn ed_052_streams_wait_for_their_rate_and_get_all_of_it() {
    for (case, limits, rate) in [
        ("one", PRODUCT, 3_000),
        ("all of a user", Bandwidth { user: kbit(4_000), ..NONE }, 4_000),
        ("one of them", Bandwidth { allocation: kbit(4_000), user: kbit(7_000), ..NONE }, 7_000),
    ] {
        let clients = if case == "one" { &["tina"][..] } else { &["tina", "tilda"] };
        let world = World::configured(52, |config| {
            config.microsoft = true;
            config.terms.ms.bandwidth = limits;
        });
        let world = clients.iter().fold(world, |world, client| world.with_ms_tcp_client(client));
        let mut world = world.with_peer("bob");
        for client in clients {
            world.ms(client).state().log_in(&pool_key(), "tina", BEGIN + 3_600);
            world.ms(client).relay();
            world.ms(client).send("bob", b"hello");
        }
        let connections: Vec<_> = world.dials.open.iter().copied().collect();
        assert_eq!(connections.len(), clients.len());
        world.advance_s(1);
        let (carried, pauses) = stream(&mut world, &connections, 10);
        within_2_percent(case, carried.iter().sum(), rate * 125 * 10);
        let most = 10 * 40 * clients.len() as u64;
        assert!((most / 4..most * 5 / 4).contains(&pauses), "{case}: {pauses} pauses");
        assert_eq!(world.dropped_in_all(), 0, "{case}: nothing of a stream is dropped");
    }
}

#[test]
fn ed_051_all_allocations_of_a_user_share_one_rate_and_another_user_is_not_hurt() {
    let limits = Bandwidth { user: kbit(4_000), ..NONE };
    let (mut world, _) = world(limits, &["alice", "carol"]);
    // Two more allocations of alice.
    let login = world.client("alice").state().login.clone();
    let mut world = world.with_client("alice2").with_client("alice3");
    for client in ["alice2", "alice3"] {
        world.client(client).state().login = login.clone();
    }
    let mut clients = Vec::new();
    for client in ["alice", "alice2", "alice3", "carol"] {
        if world.client(client).state().relayed.is_none() {
            world.client(client).relay();
            world.client(client).bind(0x4000, "bob").expect_success();
        }
        clients.push((client, world.client(client).state().relayed.expect("an allocation")));
    }
    world.advance_s(1);
    let (alices, carol) = clients.split_at(3);
    let relayed: Vec<_> = clients.iter().map(|(_, relayed)| *relayed).collect();
    let payload = [7; 1_000];
    for round in 0..5_000_u32 {
        // Each allocation of alice: 4 Mbit/s. Carol: 2 Mbit/s, half of what she may.
        for (client, relayed) in alices {
            world.client(client).send_channel(0x4000, &payload);
            world.peer("bob").send(*relayed, &payload);
        }
        if round % 2 == 0 {
            world.client("carol").send_channel(0x4000, &payload);
            world.peer("bob").send(carol[0].1, &payload);
        }
        world.advance(Duration::from_millis(2));
    }
    let heard = heard_by_bob(&mut world, &relayed);
    let rate = 4_000 * 125 * 10;
    within_2_percent("alice to bob", heard[..3].iter().sum(), rate);
    let heard_by_alices: usize =
        alices.iter().map(|(client, _)| heard_by(&mut world, client)).sum();
    within_2_percent("bob to alice", heard_by_alices, rate);
    assert_eq!(heard[3], 2_500 * 1_000, "carol to bob");
    assert_eq!(heard_by(&mut world, "carol"), 2_500 * 1_000, "bob to carol");
    assert_eq!(world.dropped_in_all(), world.dropped(DropReason::UserBandwidth));
}

/// A client at a port of an address, with an allocation and a channel to bob.
fn join(world: World, name: &str, address: &str) -> World {
    let mut world = world.with_client_at(name, address.parse().expect("an address"));
    world.client(name).relay();
    world.client(name).bind(0x4000, "bob").expect_success();
    world
}

#[test]
fn sec_010_each_level_of_the_tree_is_exact_with_its_own_reason_and_stops_at_nobody_else() {
    let (bits, count) = (kbit(4_000), packets(500));
    let rate = 4_000 * 125 * 10;
    for (case, limits, reason, shared) in [
        ("client", Bandwidth { client: bits, ..NONE }, DropReason::ClientBandwidth, 2),
        ("client", Bandwidth { client: count, ..NONE }, DropReason::ClientPackets, 2),
        ("worker", Bandwidth { worker: bits, ..NONE }, DropReason::WorkerBandwidth, 3),
        ("worker", Bandwidth { worker: count, ..NONE }, DropReason::WorkerPackets, 3),
        ("relay", Bandwidth { relay: bits, ..NONE }, DropReason::RelayBandwidth, 3),
        ("relay", Bandwidth { relay: count, ..NONE }, DropReason::RelayPackets, 3),
    ] {
        let mut world =
            World::configured(51, |config| config.terms.rfc.bandwidth = limits).with_peer("bob");
        // Two users behind one address, and one elsewhere.
        for (name, address) in
            [("alice", "81.2.69.10:4000"), ("carol", "81.2.69.10:4001"), ("dave", "81.2.69.11:1")]
        {
            world = join(world, name, address);
        }
        world.advance_s(1);
        let names = ["alice", "carol", "dave"];
        let relayed = names.map(|name| world.client(name).state().relayed.expect("allocated"));
        let clients: Vec<_> = names.into_iter().zip(relayed).collect();
        // 3.2 Mbit/s each.
        talk(&mut world, &clients, (10, 400), 1_000);
        let heard = heard_by_bob(&mut world, &relayed);
        within_2_percent(case, heard[..shared].iter().sum(), rate);
        let heard = names.map(|name| heard_by(&mut world, name));
        within_2_percent(case, heard[..shared].iter().sum(), rate);
        if shared == 2 {
            assert_eq!(heard[2], 400 * 10 * 1_000, "{case}: the other address lost something");
        }
        assert_eq!(world.dropped_in_all(), world.dropped(reason), "{case}: the only reason");
    }
}

#[test]
fn sec_010_who_floods_what_users_share_silences_nobody() {
    for (case, limits) in [
        ("client", Bandwidth { client: kbit(1_000), ..NONE }),
        ("client, datagrams", Bandwidth { client: packets(200), ..NONE }),
        ("worker", Bandwidth { worker: kbit(1_000), ..NONE }),
        ("relay", Bandwidth { relay: kbit(1_000), ..NONE }),
        ("relay, datagrams", Bandwidth { relay: packets(200), ..NONE }),
    ] {
        let mut world =
            World::configured(51, |config| config.terms.rfc.bandwidth = limits).with_peer("bob");
        // Of alice two allocations flood; carol speaks.
        for (name, address) in [("alice", "81.2.69.10:4000"), ("carol", "81.2.69.10:4001")] {
            world = join(world, name, address);
        }
        let login = world.client("alice").state().login.clone();
        world = world.with_client_at("alice2", "81.2.69.10:4002".parse().expect("an address"));
        world.client("alice2").state().login = login;
        world.client("alice2").relay();
        world.client("alice2").bind(0x4000, "bob").expect_success();
        world.advance_s(1);
        let names = ["alice", "alice2", "carol"];
        let relayed = names.map(|name| world.client(name).state().relayed.expect("allocated"));
        for round in 0..3_000 {
            for (name, relayed) in names.into_iter().zip(relayed).take(2) {
                world.client(name).send_channel(0x4000, &[7; 1_000]);
                world.peer("bob").send(relayed, &[7; 1_000]);
            }
            if round % 10 == 0 {
                world.client("carol").send_channel(0x4000, &[7; 160]);
                world.peer("bob").send(relayed[2], &[7; 160]);
            }
            world.advance(Duration::from_millis(2));
        }
        assert_eq!(heard_by_bob(&mut world, &relayed)[2], 300 * 160, "{case}: carol to bob");
        assert_eq!(heard_by(&mut world, "carol"), 300 * 160, "{case}: bob to carol");
    }
}

#[test]
fn sec_010_what_one_level_drops_is_charged_at_no_other() {
    let limits = Bandwidth {
        allocation: kbit(1_000),
        user: kbit(1_500),
        client: kbit(2_500),
        worker: kbit(2_500),
        relay: kbit(2_500),
    };
    let world =
        World::configured(51, |config| config.terms.rfc.bandwidth = limits).with_peer("bob");
    let mut world = join(world, "alice", "81.2.69.10:4000")
        .with_client_at("alice2", "81.2.69.10:4001".parse().expect("an address"));
    world.client("alice2").state().login = world.client("alice").state().login.clone();
    world.client("alice2").relay();
    world.client("alice2").bind(0x4000, "bob").expect_success();
    let mut world = join(world, "carol", "81.2.69.10:4002");
    world.advance_s(1);
    let names = ["alice", "alice2", "carol"];
    let relayed = names.map(|name| world.client(name).state().relayed.expect("allocated"));
    for round in 0..10_000_u32 {
        // 8 Mbit/s, 400 kbit/s and 900 kbit/s: of the first, one passes, so that all levels above
        // the allocation have room.
        for (name, every, len) in [("alice", 1, 1_000), ("alice2", 10, 500), ("carol", 10, 1_125)] {
            if round % every == 0 {
                world.client(name).send_channel(0x4000, &vec![7; len]);
            }
        }
        world.advance(Duration::from_millis(1));
    }
    let heard = heard_by_bob(&mut world, &relayed);
    within_2_percent("the flood", heard[0], 1_000 * 125 * 10);
    assert_eq!(heard[1..], [500_000, 1_125_000], "others of its user, address and relay");
    assert_eq!(world.dropped_in_all(), world.dropped(DropReason::AllocationBandwidth));
}

#[test]
fn sec_010_a_credential_narrows_what_its_user_may_carry_and_cannot_widen_it() {
    for (claims, configured, expected) in [
        ("b=2000", NONE, 2_000),
        ("b=2000", Bandwidth { user: kbit(4_000), ..NONE }, 2_000),
        ("b=8000", Bandwidth { user: kbit(4_000), ..NONE }, 4_000),
        ("r=250", NONE, 2_000),
    ] {
        let mut world = World::configured(51, |config| config.terms.rfc.bandwidth = configured)
            .with_peer("bob")
            .with_client("alice");
        let key_id = site::KEY_ID;
        let name = format!("{}:{key_id}:{claims}:alice", site::BEGIN + 3_600);
        world.client("alice").state().login = Login::pool(site::POOL_SECRET, &name);
        let relayed = world.client("alice").relay();
        world.client("alice").bind(0x4000, "bob").expect_success();
        world.advance_s(1);
        talk(&mut world, &[("alice", relayed)], (10, 1_000), 1_000);
        let heard = heard_by_bob(&mut world, &[relayed])[0];
        within_2_percent(claims, heard, expected * 125 * 10);
    }
}

#[test]
fn ed_051_ending_and_beginning_anew_gains_nothing() {
    let limits = Bandwidth { user: kbit(1_000), ..NONE };
    let (mut world, _) = world(limits, &["alice"]);
    let mut heard = 0;
    for _ in 0..50 {
        world.client("alice").refresh(0).expect_success();
        let relayed = world.client("alice").relay();
        world.client("alice").permit(&["bob"]).expect_success();
        for _ in 0..20 {
            world.client("alice").send("bob", &[7; 1_000]);
        }
        world.advance(Duration::from_millis(20));
        heard += heard_by_bob(&mut world, &[relayed])[0];
    }
    // One datagram for each of them: it is owed by a pot that is forgotten.
    let rate = 1_000 * 125;
    assert!(heard <= rate, "{heard} bytes in a second of {rate}");
}

#[test]
fn ed_055_an_observer_sees_who_exceeds_average_and_peak() {
    let (mut world, relayed) = world(PRODUCT, &["alice"]);
    let alice = [("alice", relayed[0])];
    let seen = |world: &World| {
        let view = world.server.allocations(world.now()).next().expect("an allocation");
        (view.pressure.above_average, view.pressure.above_peak)
    };
    assert_eq!(seen(&world), (false, false), "at rest");
    talk(&mut world, &alice, (1, 300), 1_000);
    assert_eq!(seen(&world), (false, false), "below the limit");
    for _ in 0..30 {
        world.peer("bob").send(relayed[0], &[7; 1_000]);
    }
    assert_eq!(seen(&world), (true, false), "a burst that it may have");
    for _ in 0..30 {
        world.peer("bob").send(relayed[0], &[7; 1_000]);
    }
    assert_eq!(seen(&world), (true, true), "more than that");
    world.advance_s(2);
    assert_eq!(seen(&world), (false, false), "long after");
}
