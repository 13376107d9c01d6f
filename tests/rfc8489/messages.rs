//! §5–§7: structure of messages, base procedures, FINGERPRINT.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::addr::ListenerId;
use proto::reject::DropReason;
use rig::kind::{self, method};
use rig::site::{self, LISTENERS};
use rig::{Draft, Heard, Scheme, World};

const REQUESTS: [u16; 5] = [
    method::BINDING,
    method::ALLOCATE,
    method::REFRESH,
    method::CREATE_PERMISSION,
    method::CHANNEL_BIND,
];

#[test]
fn stun_001_only_sound_headers_are_stun() {
    let sound = Draft::request(method::BINDING).raw(kind::SOFTWARE, b"test").encode();
    let changed = |at: usize, to: u8| {
        let mut bytes = sound.clone();
        bytes[at] = to;
        bytes
    };
    for (case, bytes) in [
        ("first bit set", changed(0, 0x80)),
        ("second bit set", changed(0, 0x40)),
        ("both bits set", changed(0, 0xC0)),
        ("cookie off by one", changed(7, 0x43)),
        ("length not a multiple of four", changed(3, 9)),
        ("length beyond the end", changed(3, 12)),
        ("length short of the end", changed(3, 4)),
        ("length zero", changed(3, 0)),
        ("19 bytes", sound[..19].to_vec()),
        ("4 bytes", sound[..4].to_vec()),
        ("1 byte", vec![0]),
        ("nothing", Vec::new()),
    ] {
        let mut world = World::seeded(1).with_client("alice");
        world.client("alice").send_bytes(&bytes);
        world.client("alice").expect_silence();
        assert_eq!(world.dropped_in_all(), 1, "{case}: dropped and counted");
        assert_eq!(world.server.poll_timeout(), None, "{case}: nothing remembered");
    }
    let mut world = World::seeded(1).with_client("alice");
    assert!(world.client("alice").exchange(Draft::request(method::BINDING)).is_some());
}

#[test]
fn stun_002_an_attribute_that_overruns_the_message_is_never_read() {
    for method in REQUESTS {
        for (case, tail) in [
            ("length beyond the end", &[0x80, 0x22, 0, 8, 1, 2, 3, 4][..]),
            ("largest length", &[0x80, 0x22, 0xFF, 0xFF]),
            ("padding is missing", &[0x80, 0x22, 0, 5, 1, 2, 3, 4]),
            ("no value at all", &[0, 6, 0, 4]),
        ] {
            let mut world = World::seeded(2).with_client("alice");
            let draft = Draft::request(method).raw(kind::SOFTWARE, b"test").bytes(tail);
            let code = world.client("alice").exchange(draft).map(|heard| heard.code());
            assert!(matches!(code, None | Some(Some(400))), "{case}, {method:#x}: {code:?}");
        }
    }
}

#[test]
fn stun_002_random_attributes_bring_no_nonsense() {
    let mut world = World::seeded(0x002).with_client("alice");
    for _ in 0..2000 {
        let words = world.dice.index(20) * 4;
        let body = world.dice.bytes(words);
        let kind = REQUESTS[world.dice.index(REQUESTS.len())];
        let kind = if world.dice.one_in_thousand(200) { kind | kind::INDICATION } else { kind };
        if let Some(heard) = world.client("alice").exchange(Draft::of_kind(kind).bytes(&body)) {
            assert!(matches!(heard.code(), None | Some(400 | 401 | 420)), "{:?}", heard.code());
        }
    }
    assert_eq!(world.server.tally().allocations, 0);
}

#[test]
fn stun_003_padding_is_ignored_when_heard_and_zero_when_sent() {
    // Everything a client hears is checked for zero padding by `Heard::read`.
    let spaces = [0x80, 0x22, 0, 5, b'h', b'e', b'l', b'l', b'o', b' ', b' ', b' '];
    let mut world = World::configured(3, |config| config.software = Some("seven c".to_owned()))
        .with_client("alice");
    let mut alice = world.client("alice");
    alice.bare(Draft::request(method::BINDING).bytes(&spaces)).expect_success();
    let heard = alice.allocate_with(Draft::allocate().bytes(&spaces));
    heard.expect_success();
    assert_eq!(heard.text(kind::SOFTWARE), Some("seven c"), "one byte of padding follows");
}

#[test]
fn stun_004_unexpected_methods_and_classes_are_dropped() {
    for (case, kind) in [
        ("Send as a request", 0x0006),
        ("Data indication from a client", 0x0017),
        ("Data request", 0x0007),
        ("Allocate indication", 0x0013),
        ("Refresh indication", 0x0014),
        ("CreatePermission indication", 0x0018),
        ("ChannelBind indication", 0x0019),
        ("stray Binding success", 0x0101),
        ("stray Binding error", 0x0111),
        ("stray Allocate success", 0x0103),
        ("stray Allocate error", 0x0113),
        ("unassigned method 5", 0x0005),
        ("unassigned method 0", 0x0000),
        ("method 0x08F", 0x021F & !0x10),
        ("method 0x0FF", 0x00FF),
        ("largest method that still looks like STUN", 0x03EF),
    ] {
        let mut world = World::seeded(4).with_client("alice");
        let heard = world.client("alice").exchange(Draft::of_kind(kind));
        assert!(heard.is_none(), "{case} is answered: {heard:?}");
        assert_eq!(world.dropped(DropReason::UnexpectedMessage), 1, "{case}");
    }
}

#[test]
fn stun_005_responses_echo_transaction_and_method() {
    let mut world = World::seeded(5).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    let mut alice = world.client("alice");
    alice.relay();
    let id = *b"twelve bytes";
    for (method, draft) in [
        (method::REFRESH, Draft::refresh(600)),
        (method::CREATE_PERMISSION, Draft::permit(&[bob])),
        (method::CHANNEL_BIND, Draft::bind(0x4000, bob)),
        (method::ALLOCATE, Draft::allocate()),
    ] {
        // The inbox is searched by transaction id, so an answer at all proves the echo.
        let heard = alice.ask(draft.clone().transaction(id));
        assert_eq!(heard.kind() & !kind::ERROR, method, "method of the answer");
        let class = if method == method::ALLOCATE { kind::ERROR } else { kind::SUCCESS };
        assert_eq!(heard.kind() & kind::ERROR, class, "class of the answer to {method:#x}");
        let heard = alice.bare(draft.transaction(id));
        assert_eq!(heard.kind(), method | kind::ERROR, "401 to {method:#x}");
    }
    let heard = alice.bare(Draft::request(method::BINDING).transaction(id));
    assert_eq!(heard.kind(), method::BINDING | kind::SUCCESS);
}

#[test]
fn stun_006_answers_leave_from_where_the_request_arrived() {
    // `World` fails when an answer names another listener than the request did.
    let mut world = World::seeded(6).with_client("alice").with_client("carol");
    world.client("carol").state().listener = ListenerId(2);
    for name in ["alice", "carol"] {
        let address = world.client(name).state().address;
        let heard = world.client(name).bare(Draft::request(method::BINDING));
        assert_eq!(heard.mapped(), Some(address), "and go to where it came from");
        world.client(name).relay();
    }
}

#[test]
fn stun_011_a_binding_indication_is_not_answered() {
    let mut world = World::seeded(11).with_client("alice");
    let heard = world.client("alice").exchange(Draft::of_kind(method::BINDING | kind::INDICATION));
    assert!(heard.is_none());
}

#[test]
fn stun_012_unknown_required_attributes_are_listed_once_each() {
    let demand = |draft: Draft| {
        draft.raw(0x7FFF, b"").raw(0x7FFE, b"value").raw(0x7FFF, b"again").raw(0x0011, b"")
    };
    let mut world = World::seeded(12).with_client("alice");
    let mut alice = world.client("alice");
    for heard in [
        alice.bare(demand(Draft::request(method::BINDING))),
        alice.ask(demand(Draft::allocate())),
        alice.ask(demand(Draft::refresh(600))),
    ] {
        heard.expect_code(420);
        let listed = heard.unknown().expect("420 has UNKNOWN-ATTRIBUTES");
        assert_eq!(BTreeSet::from_iter(&listed), BTreeSet::from([&0x0011, &0x7FFE, &0x7FFF]));
        assert_eq!(listed.len(), 3, "once each");
    }
}

#[test]
fn stun_013_unknown_attributes_are_judged_after_authentication() {
    let mut world = World::seeded(13).with_client("alice");
    let mut alice = world.client("alice");
    alice.bare(Draft::allocate().raw(0x7FFF, b"")).expect_code(401);
    // `ask` fails when the 420 is not signed.
    alice.ask(Draft::allocate().raw(0x7FFF, b"")).expect_code(420);
    alice.state().login.password = "wrong".to_owned();
    alice.ask(Draft::allocate().raw(0x7FFF, b"")).expect_code(401);
}

#[test]
fn stun_014_an_indication_with_an_unknown_required_attribute_is_dropped() {
    let mut world = World::seeded(14).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    world.client("alice").relay();
    world.client("alice").permit(&["bob"]).expect_success();
    let draft = Draft::send(bob, b"hello").raw(0x7FFF, b"");
    assert!(world.client("alice").exchange(draft).is_none());
    world.peer("bob").expect_silence();
    assert_eq!(world.dropped(DropReason::BadIndication), 1);
    world.client("alice").send("bob", b"hello");
    world.peer("bob").expect(b"hello");
}

#[test]
fn stun_015_unknown_optional_attributes_are_ignored() {
    let mut world = World::seeded(15).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    let extra = |draft: Draft| draft.raw(0xC057, &[0, 1, 2, 3]).raw(0xFFFF, b"anything");
    let mut alice = world.client("alice");
    alice.bare(extra(Draft::request(method::BINDING))).expect_success();
    for draft in
        [Draft::allocate(), Draft::refresh(600), Draft::permit(&[bob]), Draft::bind(0x4000, bob)]
    {
        alice.ask(extra(draft)).expect_success();
    }
    assert!(alice.exchange(extra(Draft::send(bob, b"hello"))).is_none());
    world.peer("bob").expect(b"hello");
}

#[test]
fn stun_016_known_attributes_in_the_wrong_place_are_ignored() {
    let mut world = World::seeded(16).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    let mut alice = world.client("alice");
    let lifetime = 5u32.to_be_bytes();
    alice.bare(Draft::request(method::BINDING).raw(kind::LIFETIME, &lifetime)).expect_success();
    alice.ask(Draft::allocate().peer(bob)).expect_success();
    let channel = [0x40, 0, 0, 0];
    alice.ask(Draft::refresh(700).raw(kind::CHANNEL_NUMBER, &channel)).expect_success();
    alice.ask(Draft::permit(&[bob]).raw(kind::LIFETIME, &lifetime)).expect_success();
    assert_eq!(alice.refresh(900).expect_success().lifetime(), Some(900));
}

#[test]
fn stun_017_the_first_of_a_repeated_attribute_counts() {
    let mut world = World::seeded(17).with_client("alice").with_peer("bob").with_peer("eve");
    let (bob, eve) = (world.peer_address("bob"), world.peer_address("eve"));
    let mut alice = world.client("alice");
    alice.relay();
    let twice = Draft::refresh(1200).raw(kind::LIFETIME, &0u32.to_be_bytes());
    assert_eq!(alice.ask(twice).expect_success().lifetime(), Some(1200));
    alice.permit(&["bob", "eve"]).expect_success();
    let twice = Draft::send(bob, b"first").peer(eve).raw(kind::DATA, b"second");
    assert!(alice.exchange(twice).is_none());
    world.peer("bob").expect(b"first");
    world.peer("eve").expect_silence();
}

#[test]
fn stun_018_what_follows_the_integrity_attribute_does_not_count() {
    for scheme in Scheme::ALL {
        let mut world = World::seeded(18).with_client("alice");
        let mut alice = world.client("alice");
        alice.state().scheme = scheme;
        alice.relay();
        for (case, kind, value) in [
            ("release", kind::LIFETIME, &[0; 4][..]),
            ("unknown required", 0x7FFF, b"x"),
            ("other family", kind::FAMILY, &[2, 0, 0, 0]),
        ] {
            let signed = alice.state().sign(Draft::request(method::REFRESH));
            let heard = alice.bare(signed.clone().raw(kind, value));
            assert_eq!(heard.lifetime(), Some(600), "{scheme:?}, {case}: {:?}", heard.code());
            let heard = alice.bare(signed.raw(kind, value).fingerprint());
            assert_eq!(heard.lifetime(), Some(600), "{scheme:?}, {case}: {:?}", heard.code());
        }
        assert_eq!(world.server.tally().allocations, 1);
    }
}

#[test]
fn stun_018_between_the_two_integrity_attributes_nothing_counts() {
    let mut world = World::seeded(18).with_client("alice");
    let mut alice = world.client("alice");
    alice.relay();
    let key = alice.state().key();
    let draft = alice.state().credentials(Draft::request(method::REFRESH)).integrity(&key);
    let draft = draft.raw(kind::LIFETIME, &[0; 4]).raw(0x7FFF, b"").integrity_sha256(&key);
    assert_eq!(alice.bare(draft).expect_success().lifetime(), Some(600));
}

#[test]
fn stun_019_a_fingerprint_is_checked_and_never_demanded() {
    let mut world = World::seeded(19).with_client("alice");
    let mut alice = world.client("alice");
    alice.bare(Draft::request(method::BINDING)).expect_success();
    alice.bare(Draft::request(method::BINDING).fingerprint()).expect_success();
    alice.know_the_realm();
    let signed = alice.state().sign(Draft::allocate()).fingerprint();
    alice.bare(signed).expect_success();
    alice.refresh(600).expect_success();
}

#[test]
fn stun_020_a_wrong_fingerprint_drops_the_message() {
    let sound = Draft::request(method::BINDING).raw(kind::SOFTWARE, b"test").fingerprint().encode();
    for bit in [0, 7, 16, 31] {
        let mut world = World::seeded(20).with_client("alice");
        let mut bytes = sound.clone();
        let at = bytes.len() - 4 + bit / 8;
        bytes[at] ^= 1 << (bit % 8);
        world.client("alice").send_bytes(&bytes);
        world.client("alice").expect_silence();
        assert_eq!(world.dropped(DropReason::BadFingerprint), 1, "bit {bit}");
    }
}

#[test]
fn stun_021_error_codes_are_well_formed() {
    let mut world = World::seeded(21).with_client("alice").with_peer6("carol");
    let carol = world.peer_address("carol");
    let mut alice = world.client("alice");
    let mut heard = vec![
        alice.bare(Draft::allocate()),
        alice.ask(Draft::request(method::ALLOCATE)),
        alice.ask(Draft::allocate().raw(0x7FFF, b"")),
        alice.ask(Draft::request(method::ALLOCATE).raw(kind::TRANSPORT, &[132, 0, 0, 0])),
        alice.ask(Draft::allocate().raw(kind::FAMILY, &[3, 0, 0, 0])),
        alice.ask(Draft::allocate().raw(kind::RESERVATION, &[7; 8])),
        alice.refresh(600),
    ];
    alice.relay();
    heard.push(alice.permit_addresses(&[carol]));
    heard.push(alice.permit_addresses(&["10.0.0.1:9".parse().expect("an address")]));
    world.advance_s(601);
    let mut alice = world.client("alice");
    let signed = alice.state().sign(Draft::refresh(600));
    heard.push(alice.bare(signed));
    let codes: BTreeSet<_> = heard.iter().filter_map(Heard::code).collect();
    assert_eq!(codes, BTreeSet::from([400, 401, 403, 420, 437, 438, 440, 442, 443, 508]));
    for heard in &heard {
        let value = heard.value(kind::ERROR_CODE).expect("every error response has ERROR-CODE");
        let [r0, r1, class, number, reason @ ..] = value else { panic!("four bytes at least") };
        assert_eq!((*r0, *r1, *class & 0xF8), (0, 0, 0), "reserved bits");
        assert!((3..=6).contains(class) && *number < 100);
        assert!(std::str::from_utf8(reason).expect("UTF-8").chars().count() < 128);
    }
}

#[test]
fn stun_022_a_retransmission_leaves_the_state_of_one_request() {
    let mut world = World::seeded(22).with_client("alice").with_peer("bob");
    let bob = world.peer_address("bob");
    let mut alice = world.client("alice");
    alice.know_the_realm();
    for draft in
        [Draft::allocate(), Draft::refresh(1000), Draft::permit(&[bob]), Draft::bind(0x4000, bob)]
    {
        let id = alice_transaction(&draft);
        let signed = alice.state().sign(draft).transaction(id);
        let first = alice.bare(signed.clone());
        first.expect_success();
        let second = alice.bare(signed);
        assert_eq!(first.bytes(), second.bytes(), "the same answer again");
    }
    let tally = world.server.tally();
    assert_eq!((tally.allocations, tally.permissions, tally.channels), (1, 1, 1));
    assert_eq!(world.open_sockets().len(), 1);
}

/// A transaction id that is fixed before signing, because it is part of what is signed.
fn alice_transaction(draft: &Draft) -> [u8; 12] {
    let mut id = *b"retransmit..";
    id[11] = draft.encode()[1];
    id
}

#[test]
fn sec_008_unauthenticated_packets_leave_nothing_behind() {
    let mut world = World::seeded(0x5EC8);
    let listener = ListenerId(0);
    for n in 0..5000_u32 {
        let from = format!("81.{}.{}.7:{}", n % 200, n / 200, 1024 + n).parse().expect("address");
        let id = world.dice.transaction();
        let method = REQUESTS[world.dice.index(REQUESTS.len())];
        world.inject(listener, from, &Draft::request(method).transaction(id).encode());
        world.settle();
    }
    assert_eq!(world.server.poll_timeout(), None, "no timer");
    assert_eq!(world.server.tally().allocations, 0);
    assert_eq!((world.books.leases(), world.books.live()), (0, 0));
    assert!(world.changes.is_empty());
}

#[test]
fn stun_023_answers_fit_the_smallest_path() {
    let mut world = World::configured(23, |config| {
        config.realm = "r".repeat(40);
        config.software = Some("s".repeat(127));
    })
    .with_client("alice")
    .with_client6("carol");
    for (name, limit) in [("alice", 548), ("carol", 1232)] {
        let mut client = world.client(name);
        let challenge = client.bare(Draft::allocate());
        let both = Draft::allocate().raw(kind::ADDITIONAL_FAMILY, &[2, 0, 0, 0]);
        let unknown = (0x7F00..0x7F20).fold(Draft::allocate(), |draft, kind| draft.raw(kind, b""));
        for heard in [challenge, client.ask(unknown), client.allocate_with(both)] {
            assert!(heard.bytes().len() <= limit, "{name}: {} bytes", heard.bytes().len());
        }
    }
}

#[test]
fn stun_024_software_is_named_only_when_configured_and_only_to_the_authenticated() {
    for software in [None, Some("rig 1.0")] {
        let mut world = World::configured(24, |config| {
            config.software = software.map(str::to_owned);
        })
        .with_client("alice");
        let mut alice = world.client("alice");
        assert!(!alice.bare(Draft::request(method::BINDING)).has(kind::SOFTWARE));
        assert!(!alice.bare(Draft::allocate()).has(kind::SOFTWARE));
        assert_eq!(alice.allocate().expect_success().text(kind::SOFTWARE), software);
        assert_eq!(alice.refresh(600).expect_success().text(kind::SOFTWARE), software);
    }
}

#[test]
fn stun_028_sources_that_no_client_can_have_are_dropped() {
    for source in [
        "81.2.69.7:0",
        "224.0.0.1:5000",
        "239.255.255.250:1900",
        "255.255.255.255:5000",
        "[ff02::1]:5000",
        LISTENERS[0],
        LISTENERS[1],
    ] {
        let mut world = World::seeded(28).with_client_at("spoof", source.parse().expect("address"));
        let heard = world.client("spoof").exchange(Draft::request(method::BINDING));
        assert!(heard.is_none(), "{source}");
        assert_eq!(world.dropped(DropReason::SpoofedSource), 1, "{source}");
    }
}

#[test]
fn disc_007_only_stun_and_channel_data_have_any_effect() {
    let mut world = World::seeded(7983).with_client("alice").with_peer("bob");
    let mut alice = world.client("alice");
    alice.relay();
    alice.bind(0x4000, "bob").expect_success();
    for first in 0..=u8::MAX {
        for len in [1, 4, 20, 60] {
            let mut bytes = Draft::request(method::BINDING).raw(0x8022, &[9; 36]).encode();
            bytes[0] = first;
            bytes.truncate(len);
            alice.send_bytes(&bytes);
            if first == 0 && len == 60 {
                assert!(alice.hear().is_some(), "the one sound message");
            }
            alice.expect_silence();
        }
    }
    world.peer("bob").expect_silence();
    assert_eq!(world.server.tally().allocations, 1);
    assert_eq!(world.dropped(DropReason::Unrecognised), 4 * (256 - 4 - 16));
}

#[test]
fn disc_009_methods_beyond_0x0ff_are_dropped() {
    for kind in [0x0400, 0x0801, 0x2001, 0x3E0F] {
        let mut world = World::seeded(9).with_client("alice");
        assert!(world.client("alice").exchange(Draft::of_kind(kind)).is_none(), "{kind:#06x}");
        assert_eq!(world.dropped_in_all(), 1);
    }
}

#[test]
fn sec_017_lifetimes_follow_the_monotonic_clock_and_credentials_the_wall() {
    let mut world = World::seeded(17).with_client("alice").with_client("carol");
    world.client("carol").state().login = site::pool_login("carol", site::BEGIN + 1800);
    world.client("alice").relay();
    world.advance(Duration::from_secs(10));
    world.step_wall_clock(3600);
    world.client("carol").allocate().expect_code(401);
    world.client("alice").refresh(600).expect_success();
    world.step_wall_clock(-7200);
    world.client("carol").allocate().expect_success();
    world.advance_s(599);
    assert_eq!(world.server.tally().allocations, 2, "an hour back and forth ends nothing");
    world.advance_s(1);
    assert_eq!(world.server.tally().allocations, 0, "and prolongs nothing");
}
