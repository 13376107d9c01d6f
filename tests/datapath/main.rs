//! The kernel path says what the server says, or leaves it to the server.
//!
//! One table of frames, valid, at the edge and hostile, and random ones, go through the kernel program by
//! `BPF_PROG_TEST_RUN`, through the server, and through what the engine on rings reads and writes. Needs root, or `CAP_BPF` and `CAP_NET_ADMIN`.

mod day;
mod frame;
mod hairpin;
mod limit;
mod room;
mod stage;

use std::cell::{Cell, RefCell};

use proptest::prelude::*;
use proto::addr::Family;
use relay::offload::{Mode, Outcome};
use rig::script::channel_data;

use frame::{ETHERNET, Frame, leave_partial, mend, mend_ip, tagged};
use stage::{CHANNEL, Did, MODES, MTU, OURS, Stage};

/// Families of client and peer.
const PAIRINGS: [[Family; 2]; 4] = [
    [Family::V4, Family::V4],
    [Family::V4, Family::V6],
    [Family::V6, Family::V4],
    [Family::V6, Family::V6],
];

/// Of IPv4, where UDP and where payload begins.
const UDP: usize = ETHERNET + 20;
const PAYLOAD: usize = UDP + 8;

/// Of IPv6.
const UDP6: usize = ETHERNET + 40;

/// Random frames when nobody asks for more (`FRAMES=1000000`).
const FRAMES: u32 = 20_000;

/// A call between each of these families, for each place of the program.
fn everywhere<const N: usize>(
    pairings: [[Family; 2]; N],
) -> impl Iterator<Item = ([Family; 2], Stage)> {
    let at = move |mode| pairings.into_iter().map(move |it| (it, Stage::new(mode, it)));
    MODES.into_iter().flat_map(at)
}

/// A payload that looks like RTP.
fn rtp(length: usize) -> Vec<u8> {
    let mut state = 0x80_u8;
    let mut next = || {
        state = state.wrapping_mul(37).wrapping_add(11);
        state
    };
    let mut bytes: Vec<u8> = (0..length).map(|_| next()).collect();
    bytes.iter_mut().take(1).for_each(|first| *first = 0x80);
    bytes
}

#[test]
fn channel_data_and_what_peers_send_go_on_as_the_server_says() {
    for (pairing, mut stage) in everywhere(PAIRINGS) {
        for length in [0, 1, 2, 3, 4, 5, 17, 18, 19, 160, 161, 1_200] {
            let payload = rtp(length);
            let frame = stage.of_client(&channel_data(CHANNEL, &payload));
            let case = format!("{pairing:?}: {length} bytes from the client");
            assert_eq!(stage.show(&case, &frame.bytes()), Did::Relayed, "{case}");
            let frame = stage.of_peer(&payload);
            let case = format!("{pairing:?}: {length} bytes from the peer");
            assert_eq!(stage.show(&case, &frame.bytes()), Did::Relayed, "{case}");
        }
    }
}

#[test]
fn frames_come_by_one_vlan_and_go_by_another() {
    for (pairing, mut stage) in everywhere(PAIRINGS) {
        for vlans in [[0, 0], [0, 7], [0x123, 0xFFE]] {
            stage.vlans = vlans;
            stage.install(u64::MAX);
            // Of a buffer the kernel has taken the tag off before; one that is left is a second one.
            let tags = if stage.mode == Mode::Tc { &[0][..] } else { &[0, 5] };
            for &arrives in tags {
                for length in [0, 160] {
                    let up = stage.of_client(&channel_data(CHANNEL, &rtp(length)));
                    for frame in [up, stage.of_peer(&rtp(length))] {
                        let case = format!("{pairing:?} in {arrives}, out {vlans:?}: {length}");
                        let frame = tagged(&frame.bytes(), arrives);
                        assert_eq!(stage.show(&case, &frame), Did::Relayed, "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn bare_payload_is_relayed_where_nobody_could_take_it_for_a_message() {
    for mode in MODES {
        let mut stage = Stage::aimed(mode);
        assert_eq!(stage.route.channel, None);
        for first in 0..=255_u8 {
            let payload = [&[first][..], &rtp(40)].concat();
            let expected = if first & 0xC0 == 0x80 { Did::Relayed } else { Did::PassedUp };
            let frame = stage.of_client(&payload);
            assert_eq!(stage.show("from the client", &frame.bytes()), expected, "{first:02x}");
            let frame = stage.of_peer(&payload);
            assert_eq!(stage.show("from the peer", &frame.bytes()), Did::Relayed, "{first:02x}");
        }
        for (length, expected) in [(0, Did::PassedUp), (1, Did::Relayed), (1_372, Did::Relayed)] {
            let frame = stage.of_client(&rtp(length));
            assert_eq!(stage.show("from the client", &frame.bytes()), expected, "{length}");
        }
        let frame = stage.of_peer(&[]);
        assert_eq!(stage.show("nothing from the peer", &frame.bytes()), Did::Relayed);
    }
}

/// A change of a good frame.
type Edit = fn(&mut Vec<u8>);

/// Changes of headers of IPv4, and what the program does then.
const HEADERS: &[(&str, Did, Edit)] = &[
    ("no class", Did::Relayed, |bytes| {
        bytes[ETHERNET + 1] = 0;
        mend(bytes);
    }),
    ("congestion experienced", Did::Relayed, |bytes| {
        bytes[ETHERNET + 1] = 0xBB;
        mend(bytes);
    }),
    ("two hops", Did::Relayed, |bytes| {
        bytes[ETHERNET + 8] = 2;
        mend(bytes);
    }),
    ("255 hops", Did::Relayed, |bytes| {
        bytes[ETHERNET + 8] = 255;
        mend(bytes);
    }),
    ("one hop", Did::PassedUp, |bytes| {
        bytes[ETHERNET + 8] = 1;
        mend(bytes);
    }),
    ("no hop", Did::PassedUp, |bytes| {
        bytes[ETHERNET + 8] = 0;
        mend(bytes);
    }),
    ("may be fragmented", Did::Relayed, |bytes| {
        bytes[ETHERNET + 6] = 0;
        mend(bytes);
    }),
    ("padding of Ethernet", Did::Relayed, |bytes| bytes.extend([0xEE; 9])),
    ("no checksum", Did::Relayed, |bytes| bytes[UDP + 6..PAYLOAD].fill(0)),
    ("checksum left to the hardware", Did::PassedUp, |bytes| leave_partial(bytes)),
    ("a damaged IP header", Did::PassedUp, |bytes| bytes[ETHERNET + 11] ^= 1),
    ("a first fragment", Did::PassedUp, |bytes| {
        bytes[ETHERNET + 6] = 0x20;
        mend_ip(bytes);
    }),
    ("a later fragment", Did::PassedUp, |bytes| {
        bytes[ETHERNET + 7] = 1;
        mend_ip(bytes);
    }),
    ("the evil bit", Did::PassedUp, |bytes| {
        bytes[ETHERNET + 6] |= 0x80;
        mend_ip(bytes);
    }),
    ("an option", Did::PassedUp, |bytes| {
        bytes[ETHERNET] = 0x46;
        drop(bytes.splice(UDP..UDP, [1, 1, 1, 1]));
    }),
    ("a header that is too short", Did::PassedUp, |bytes| {
        bytes[ETHERNET] = 0x44;
        mend_ip(bytes);
    }),
    ("another protocol", Did::PassedUp, |bytes| {
        bytes[ETHERNET + 9] = 6;
        mend_ip(bytes);
    }),
    ("IPv6 by its type", Did::PassedUp, |bytes| bytes[12..14].copy_from_slice(&[0x86, 0xDD])),
    ("two VLAN tags", Did::PassedUp, |bytes| *bytes = tagged(&tagged(bytes, 5), 6)),
    ("a tag and no more", Did::PassedUp, |bytes| {
        *bytes = tagged(bytes, 5);
        bytes.truncate(ETHERNET + 4);
    }),
    ("a tag of a provider", Did::PassedUp, |bytes| {
        *bytes = tagged(bytes, 5);
        bytes[12..14].copy_from_slice(&[0x88, 0xA8]);
    }),
    ("to a group", Did::PassedUp, |bytes| bytes[0] = 0x33),
    ("to all", Did::PassedUp, |bytes| bytes[..6].fill(0xFF)),
    ("longer than the frame", Did::PassedUp, |bytes| {
        let end = bytes.len() - 1;
        bytes.truncate(end);
    }),
    ("UDP longer than IP", Did::PassedUp, |bytes| bytes[UDP + 5] += 1),
    ("UDP shorter than IP", Did::PassedUp, |bytes| bytes[UDP + 5] -= 1),
    ("UDP without room for its header", Did::PassedUp, |bytes| {
        bytes[UDP + 4..UDP + 6].copy_from_slice(&[0, 7]);
    }),
    ("another port of the sender", Did::PassedUp, |bytes| {
        bytes[UDP + 1] ^= 1;
        mend(bytes);
    }),
    ("another address of the sender", Did::PassedUp, |bytes| {
        bytes[ETHERNET + 15] ^= 1;
        mend(bytes);
    }),
    ("another port of ours", Did::PassedUp, |bytes| {
        bytes[UDP + 3] ^= 1;
        mend(bytes);
    }),
    ("an Ethernet header and no more", Did::PassedUp, |bytes| bytes.truncate(ETHERNET)),
    ("cut within UDP", Did::PassedUp, |bytes| bytes.truncate(PAYLOAD - 1)),
];

/// The same of IPv6.
const HEADERS6: &[(&str, Did, Edit)] = &[
    ("every class", Did::Relayed, |bytes| {
        (bytes[ETHERNET], bytes[ETHERNET + 1]) = (0x6F, 0xF0);
    }),
    ("a flow label", Did::Relayed, |bytes| bytes[ETHERNET + 3] = 0x77),
    ("two hops", Did::Relayed, |bytes| bytes[ETHERNET + 7] = 2),
    ("one hop", Did::PassedUp, |bytes| bytes[ETHERNET + 7] = 1),
    ("padding of Ethernet", Did::Relayed, |bytes| bytes.extend([0xEE; 9])),
    ("no checksum", Did::PassedUp, |bytes| bytes[UDP6 + 6..UDP6 + 8].fill(0)),
    ("checksum left to the hardware", Did::PassedUp, |bytes| leave_partial(bytes)),
    ("an extension header", Did::PassedUp, |bytes| bytes[ETHERNET + 6] = 0),
    ("a fragment", Did::PassedUp, |bytes| bytes[ETHERNET + 6] = 44),
    ("another version", Did::PassedUp, |bytes| bytes[ETHERNET] = 0x46),
    ("to a group", Did::PassedUp, |bytes| bytes[..2].fill(0x33)),
    ("longer than the frame", Did::PassedUp, |bytes| bytes.truncate(bytes.len() - 1)),
    ("UDP longer than IP", Did::PassedUp, |bytes| bytes[UDP6 + 5] += 1),
    ("UDP shorter than IP", Did::PassedUp, |bytes| bytes[UDP6 + 5] -= 1),
    ("another address of the sender", Did::PassedUp, |bytes| {
        bytes[ETHERNET + 23] ^= 1;
        mend(bytes);
    }),
    ("cut within IP", Did::PassedUp, |bytes| bytes.truncate(UDP6 - 1)),
    ("cut within UDP", Did::PassedUp, |bytes| bytes.truncate(UDP6 + 7)),
];

#[test]
fn headers_are_carried_on_or_go_up() {
    for (pairing, edits) in [(PAIRINGS[0], HEADERS), (PAIRINGS[3], HEADERS6)] {
        headers(pairing, edits);
    }
}

fn headers(pairing: [Family; 2], edits: &[(&str, Did, Edit)]) {
    for (_, mut stage) in everywhere([pairing]) {
        for (case, expected, edit) in edits {
            let frames =
                [stage.of_client(&channel_data(CHANNEL, &rtp(160))), stage.of_peer(&rtp(160))];
            for (side, frame) in ["client", "peer"].iter().zip(frames) {
                let mut bytes = frame.bytes();
                edit(&mut bytes);
                // The kernel tests no buffer without a whole header of IP.
                if stage.mode == Mode::Tc && bytes.len() < frame.udp() {
                    continue;
                }
                let case = format!("{case}, from the {side}");
                assert_eq!(stage.show(&case, &bytes), *expected, "{case}");
            }
        }
    }
}

#[test]
fn what_has_no_checksum_is_given_none_by_the_kernel() {
    for (pairing, mut stage) in everywhere([PAIRINGS[1], PAIRINGS[2]]) {
        let frames = [stage.of_client(&channel_data(CHANNEL, &rtp(160))), stage.of_peer(&rtp(160))];
        for frame in frames {
            let mut bytes = frame.bytes();
            let udp = frame.udp();
            bytes[udp + 6..udp + 8].fill(0);
            let (case, before) = (format!("{pairing:?}"), stage.passed());
            assert_eq!(stage.show(&case, &bytes), Did::PassedUp, "{case}");
            assert_eq!(stage.passed()[7], before[7] + 1, "counted by reason");
        }
    }
}

#[test]
fn what_is_no_payload_of_the_call_goes_up() {
    for (_, mut stage) in everywhere([PAIRINGS[0]]) {
        let good = channel_data(CHANNEL, &rtp(20));
        let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
        for (case, payload) in [
            ("a Binding request", binding),
            ("another channel", channel_data(CHANNEL + 1, &rtp(20))),
            ("a channel of RFC 5766", channel_data(0x7FFE, &rtp(20))),
            ("bare payload", rtp(20)),
            ("nothing", Vec::new()),
            ("half a head", good[..3].to_vec()),
            ("too long by its head", good[..good.len() - 1].to_vec()),
            ("padded", [&good[..], &[0; 2]].concat()),
        ] {
            let frame = stage.of_client(&payload);
            assert_eq!(stage.show(case, &frame.bytes()), Did::PassedUp, "{case}");
        }
    }
}

#[test]
fn payload_of_peers_may_look_like_anything() {
    for (_, mut stage) in everywhere([PAIRINGS[0]]) {
        for payload in [
            channel_data(CHANNEL, &rtp(20)),
            channel_data(CHANNEL, &rtp(20))[..6].to_vec(),
            [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat(),
            vec![0x7F, 0xFF],
            vec![22, 0xFE, 0xFD, 0],
        ] {
            let frame = stage.of_peer(&payload);
            assert_eq!(stage.show("any payload", &frame.bytes()), Did::Relayed, "{payload:02x?}");
        }
    }
}

#[test]
fn what_does_not_fit_the_next_link_goes_up() {
    for (pairing, mut stage) in everywhere(PAIRINGS) {
        let [to_client, to_peer] = pairing.map(|family| 8 + [20, 40][family.index()]);
        let [most_to_peer, most_to_client] = MTU.map(usize::from);
        let most = most_to_peer - to_peer;
        for (length, did) in [(most, Did::Relayed), (most + 1, Did::PassedUp)] {
            let frame = stage.of_client(&channel_data(CHANNEL, &rtp(length)));
            assert_eq!(stage.show("to the peer", &frame.bytes()), did, "{pairing:?} {length}");
        }
        let most = most_to_client - to_client - 4;
        for (length, did) in [(most, Did::Relayed), (most + 1, Did::PassedUp)] {
            let frame = stage.of_peer(&rtp(length));
            assert_eq!(stage.show("to the client", &frame.bytes()), did, "{pairing:?} {length}");
        }
        assert_eq!(stage.passed()[2], 2, "counted by reason");
    }
}

#[test]
fn what_the_kernel_has_put_together_goes_up() {
    for pairing in PAIRINGS {
        let stage = Stage::new(Mode::Tc, pairing);
        let data = channel_data(CHANNEL, &rtp(160));
        let client = stage.of_client(&data.repeat(3)).bytes();
        let peer = stage.of_peer(&rtp(160).repeat(3)).bytes();
        for (frame, each) in [(client, data.len()), (peer, 160)] {
            let each = u32::try_from(each).expect("short");
            let (outcome, left) = stage.program.run_joined(&frame, each).expect("it can be run");
            assert_eq!((outcome, left), (Outcome::Up, frame), "{pairing:?}");
        }
        let passed = stage.passed();
        assert_eq!((passed.iter().sum::<u64>(), passed[9]), (2, 2), "counted by reason");
    }
}

#[test]
fn a_leg_ends_by_itself_and_when_it_is_taken_out() {
    for mode in MODES {
        leg_ends(Stage::new(mode, PAIRINGS[0]));
    }
}

fn leg_ends(mut stage: Stage) {
    let frames = |stage: &Stage| -> [Frame; 2] {
        [stage.of_client(&channel_data(CHANNEL, &rtp(160))), stage.of_peer(&rtp(160))]
    };
    let all = |stage: &mut Stage, did| {
        for frame in frames(stage) {
            assert_eq!(stage.show("a leg's end", &frame.bytes()), did);
        }
    };
    // Nobody renews it: a nanosecond after boot is long ago.
    stage.install(1);
    all(&mut stage, Did::PassedUp);
    assert_eq!(stage.passed()[0], 2, "counted by reason");
    stage.install(u64::MAX);
    all(&mut stage, Did::Relayed);
    stage.remove();
    all(&mut stage, Did::PassedUp);
}

/// A frame to be, with what is done to it.
#[derive(Clone, Debug)]
struct Any {
    /// Whether it comes from the client.
    up: bool,
    payload: Vec<u8>,
    /// Places and bytes that are put there.
    damage: Vec<(usize, u8)>,
    class: u8,
    hops: u8,
    /// Whether checksums are mended then.
    mends: bool,
}

/// Frames of all kinds, good ones above all.
fn any_frame() -> impl Strategy<Value = Any> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        prop::collection::vec(any::<u8>(), 1_200..1_420),
    ];
    let damage = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec((0..80_usize, any::<u8>()), 1..4),
    ];
    let all = (any::<bool>(), payload, damage, any::<u8>(), any::<u8>(), any::<bool>());
    all.prop_map(|(up, payload, damage, class, hops, mends)| Any {
        up,
        payload,
        damage,
        class,
        hops,
        mends,
    })
}

#[test]
fn random_frames_are_relayed_as_the_server_says_or_go_up() {
    let cases = std::env::var("FRAMES").ok().and_then(|n| n.parse().ok()).unwrap_or(FRAMES);
    for (pairing, stage) in everywhere(PAIRINGS) {
        random(pairing, stage, cases / 8);
    }
}

fn random(pairing: [Family; 2], stage: Stage, cases: u32) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let stage = RefCell::new(stage);
    let relayed = Cell::new(0_u32);
    let outcome = runner.run(&any_frame(), |any| {
        let Any { up, payload, damage, class, hops, mends } = any;
        let mut stage = stage.borrow_mut();
        let frame = if up {
            stage.of_client(&channel_data(CHANNEL, &payload))
        } else {
            stage.of_peer(&payload)
        };
        let frame = Frame { class, hops, macs: [OURS, [6; 6]], ..frame };
        let (mut bytes, udp) = (frame.bytes(), frame.udp());
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        // Some damage shall reach what stands behind the checks of checksums.
        let is_v4 = bytes[12..14] == [8, 0];
        if mends && is_v4 == frame.to.is_ipv4() {
            mend_ip(&mut bytes);
            if udp + usize::from(frame::half(&bytes, udp + 4)) == bytes.len() {
                mend(&mut bytes);
            }
        }
        if frame::delivered(&bytes).is_none() {
            stage.show_undeliverable(&bytes);
        } else if stage.show("random", &bytes) == Did::Relayed {
            relayed.set(relayed.get() + 1);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{pairing:?}: {error}"));
    assert!(relayed.get() > cases / 4, "{pairing:?}: {} of {cases} relayed", relayed.get());
}
