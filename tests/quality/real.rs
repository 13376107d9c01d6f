//! A relay at work behind bad links: its figures, and those of its metrics, are what was sent and
//! what came.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{AllocateOptions, Credentials, TurnClient};
use nix::sched::{CloneFlags, unshare};
use proto::auth::Secret;
use proto::auth::credential::mint_rest;
use proto::media::{Leg, StreamReport};
use proto::now::UnixTime;
use relay::{Config, Observer};
use rig::Link;

use crate::impaired::{Impaired, Plan};
use crate::rtp::{Counted, Seen, Source};
use rig::clock;

const SECRET: &str = "a secret of more than sixteen bytes";
const RELAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3_478);
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const LINKS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// A voice; its payload type says nothing, so the relay has to find out what a tick is.
const VOICE: Source = Source {
    ssrc: 0xA11C_E000,
    payload_type: 111,
    rate: 48_000,
    every: Duration::from_millis(10),
    first: 65_300,
};
const ANSWER: Source = Source { ssrc: 0x0B0B_0000, payload_type: 0, rate: 8_000, ..VOICE };

/// Packets sent each way.
const PACKETS: u64 = 600;

/// Toward the relay: packets overtake one another by up to six. The jitter is so large that what
/// a busy machine adds is small beside it.
const BAD: Link = Link {
    loss: 40,
    duplication: 15,
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(60),
};

/// How far jitter may be off: sockets are read some time after packets came.
const TOLERANCE: f64 = 0.05;

#[test]
fn a_relay_behind_bad_links_says_what_was_lost_to_the_packet_and_jitter_within_five_percent() {
    own_network();
    let relay = relay::start(Config::from_toml(&configuration(), "test.toml", None).unwrap());
    let relay = relay.expect("the relay starts");
    let observer = relay.observer();

    let begin = clock::now();
    let plan = |seed, to, source| Plan { link: BAD, seed, to, source, begin };
    let near = Impaired::begin(LINKS, plan(1, RELAY, VOICE));
    let mut alice = TurnClient::connect(near.address, credentials()).unwrap();
    let relayed = alice.allocate(&AllocateOptions::default()).unwrap().relayed;
    let far = Impaired::begin(LINKS, plan(2, relayed, ANSWER));
    let number = alice.bind_channel(far.address).unwrap();
    let bob = UdpSocket::bind((PEER, 0)).unwrap();
    // So that the link knows where the peer is.
    bob.send_to(b"hello", far.address).unwrap();
    bob.set_read_timeout(Some(Duration::from_secs(1))).unwrap();

    let hears = bob.try_clone().unwrap();
    let hears = thread::spawn(move || listen(&hears));
    let start = clock::now();
    for place in 0..PACKETS {
        let step = u32::try_from(place).expect("a few packets");
        clock::rest_until(start + VOICE.every * step);
        alice.send_channel(number, &VOICE.packet(place)).unwrap();
        bob.send_to(&ANSWER.packet(place), far.address).unwrap();
    }
    let came = [near.end(), far.end()];
    let at_bob = hears.join().expect("the peer listens");

    let counted = [VOICE.count(&came[0]), ANSWER.count(&came[1])];
    let said = await_all(&observer, counted);
    for (leg, (said, counted)) in Leg::BOTH.into_iter().zip(said.iter().zip(&counted)) {
        compare(leg.name(), said, counted);
        // Chance was at work, or this shows nothing.
        let Counted { lost, duplicates, late, .. } = *counted;
        assert!(lost > 5 && duplicates > 1 && late > 50, "{counted:?}");
    }
    // And the receiver behind the relay got exactly what the relay says it did.
    assert_eq!(VOICE.count(&at_bob).received, counted[0].received);
    assert_eq!(said[0].clock_rate, Some(48_000));
    relay.stop();
    relay.wait().unwrap();
}

/// Until the last packets are through.
fn await_all(observer: &Observer, counted: [Counted; 2]) -> [StreamReport; 2] {
    let mut last = None;
    let look = || {
        let sessions = observer.sessions();
        let media = observer.media(sessions.first()?)?;
        let [client, peer] = media.legs.map(|leg| leg.streams);
        let both = [*client.first()?, *peer.first()?];
        last = Some(both);
        let all = both.iter().zip(counted).all(|(said, counted)| {
            said.received + said.duplicates == counted.received + counted.duplicates
        });
        all.then_some(both)
    };
    let found = clock::look_until(Duration::from_secs(5), look);
    found.unwrap_or_else(|| panic!("not all packets came: {last:?}, {counted:?}"))
}

fn compare(leg: &str, said: &StreamReport, counted: &Counted) {
    assert_eq!((said.received, said.lost()), (counted.received, counted.lost), "{leg}");
    assert_eq!((said.duplicates, said.late), (counted.duplicates, counted.late), "{leg}");
    let off = (said.mean_jitter.as_secs_f64() / counted.mean_jitter - 1.0).abs();
    println!("{leg}: {counted:?}, off by {:.2} %", off * 100.0);
    assert!(off < TOLERANCE, "{leg}: jitter {:?}, not {}", said.mean_jitter, counted.mean_jitter);
}

/// What comes to a receiver until nothing does.
fn listen(socket: &UdpSocket) -> Vec<Seen> {
    let mut buffer = [0; 2_048];
    let mut came = Vec::new();
    while let Ok((len, _)) = socket.recv_from(&mut buffer) {
        came.extend(VOICE.place(&buffer[..len]).map(|place| Seen { place, at: Duration::ZERO }));
    }
    came
}

fn configuration() -> String {
    format!(
        "realm = \"example.org\"\nworkers = 1\n[auth]\nrest_secrets = [\"{SECRET}\"]\n[[listen]]\n\
         address = \"{RELAY}\"\n[relay]\naddresses = [{{ local = \"127.0.0.1\" }}]\n[peers]\n\
         allow = [\"127.0.0.0/8\"]"
    )
}

fn credentials() -> Credentials {
    #[expect(clippy::disallowed_methods, reason = "credentials expire on the wall clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let secret = Secret::new(SECRET.as_bytes().to_vec());
    let minted = mint_rest(&secret, "alice", UnixTime(now + 600)).unwrap();
    Credentials::new(minted.username, minted.password.as_str())
}

/// Gives this thread, and those it starts, a loopback of their own.
fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own; only root can make one");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "ip (iproute2) brings up the loopback");
}
