//! T6: between clients.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use client::{Event, TurnClient};

use super::dialogue::Dialogue;
use super::raw;
use super::target::{ATTACKER, FEW_PORTS, SOON, Target, VICTIM};
use super::{Attack, Outcome, judge, outcome};
use crate::site::PEER;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "send to a relayed address without a permission", run: uninvited },
    Attack { name: "inherit the port of a call that has ended", run: heir },
    Attack { name: "use a channel of somebody else", run: channel },
    Attack { name: "guess the number of a peer's connection", run: connection },
];

#[test]
fn perm_008_abuse_t6_nobody_reaches_into_the_call_of_another() {
    judge("T6 between clients", ATTACKS);
}

fn hears(client: &mut TurnClient) -> bool {
    matches!(client.recv(SOON).expect("the socket works"), Some(Event::Data { .. }))
}

/// A socket of the peer's machine that has another address than the peer.
fn stranger(target: &Target) -> UdpSocket {
    target.site.peer.address("relay", &["10.25.2.66/24"]);
    target.site.peer.enter(|| UdpSocket::bind("10.25.2.66:0")).expect("a port")
}

fn uninvited(target: &mut Target) -> Outcome {
    let (mut client, allocation) = target.tenant(ATTACKER, "tenant");
    client.permit(&[PEER.parse().expect("an address")]).expect("a permission");
    let stranger = stranger(target);
    for _ in 0..20 {
        stranger.send_to(b"let me in", allocation.relayed).expect("it is sent");
    }
    let heard = hears(&mut client);
    outcome(!heard, format!("the client heard it: {heard}"))
}

/// Of so few ports that a server which draws among all of them would hardly miss those that rest:
/// once in 4,845 times.
fn heir(target: &mut Target) -> Outcome {
    const GONE: usize = 4;
    let few = Target::start_with_few_ports(target.kind);
    let (peer, at) = few.peer();
    let mut ended = Vec::new();
    for _ in 0..GONE {
        let (mut first, allocation) = few.tenant(VICTIM, "first");
        first.bind_channel(at).expect("a channel");
        ended.push((first, allocation.relayed));
    }
    for (first, _) in &mut ended {
        first.release().expect("it ends");
    }
    let (mut heirs, mut ports) = (Vec::new(), HashSet::new());
    for number in 0..FEW_PORTS - GONE {
        let (client, own) = few.tenant(ATTACKER, &format!("heir-{}", number % 4));
        ports.insert(own.relayed.port());
        heirs.push(client);
    }
    for (_, relayed) in &ended {
        peer.send_to(b"are you still there?", relayed).expect("it is sent");
    }
    let heard = heirs.iter_mut().any(hears_quickly);
    let heard = heard || ended.iter_mut().any(|(first, _)| hears_quickly(first));
    let again = ended.iter().filter(|(_, relayed)| ports.contains(&relayed.port())).count();
    outcome(
        !heard && again == 0,
        format!("of {FEW_PORTS} ports, {again} of {GONE} were given out again; heard: {heard}"),
    )
}

fn hears_quickly(client: &mut TurnClient) -> bool {
    matches!(client.recv(SOON / 20).expect("the socket works"), Some(Event::Data { .. }))
}

fn channel(target: &mut Target) -> Outcome {
    let (mut owner, _) = target.tenant(ATTACKER, "owner-of-channel");
    let (peer, at) = target.peer();
    let channel = owner.bind_channel(at).expect("a channel");
    let (mut thief, _) = target.tenant(ATTACKER, "thief-of-channel");
    thief.send_channel(channel, b"as if I were you").expect("it is sent");
    let (count, _) = raw::drain(&peer);
    outcome(count == 0, format!("{count} packets of the thief reached the peer"))
}

/// Numbers of the victim's connections, which wait for it to claim them: the thief knows some of
/// its own, tries what is near, what is not, and at last the right ones.
fn connection(target: &mut Target) -> Outcome {
    let listen = || target.site.peer.enter(|| TcpListener::bind((PEER, 0))).expect("a port");
    let [mut thief, mut victim] =
        [(ATTACKER, "thief-of-connection"), (VICTIM, "owner-of-connection")]
            .map(|(from, user)| Connected::open(target, from, user));
    let mut numbers = Vec::new();
    for _ in 0..2 {
        numbers.extend([&mut thief, &mut victim].map(|tenant| tenant.connect(&listen())));
    }
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    // Random numbers are that close once in 80,000 times.
    let guessable = sorted.windows(2).any(|pair| pair[1] - pair[0] < 4_096);
    let near = numbers.iter().flat_map(|number| {
        (1..=25).flat_map(|by| [number.wrapping_sub(by), number.wrapping_add(by)])
    });
    let far = (0..100_u32).map(|number| number.wrapping_mul(2_654_435_761));
    let right = [numbers[1], numbers[3]];
    let mut bind = Dialogue::open(target, ATTACKER, "thief-of-connection");
    let (mut granted, mut codes) = (0, BTreeMap::<_, usize>::new());
    for number in near.chain(far).chain(right) {
        let id = (raw::CONNECTION_ID, &number.to_be_bytes()[..]);
        let answer = bind.ask(raw::CONNECTION_BIND, &[id]).unwrap_or_default();
        if raw::kind(&answer) == Some(raw::CONNECTION_BIND | raw::SUCCESS) {
            granted += 1;
            bind = Dialogue::open(target, ATTACKER, "thief-of-connection");
        } else {
            *codes.entry(raw::code(&answer)).or_default() += 1;
        }
    }
    let served = victim.claim(target, right[0]);
    outcome(
        granted == 0 && served && !guessable,
        format!(
            "{granted} numbers were good, others {codes:?}; one tells the next: {guessable}; the \
             owner claims its own: {served}"
        ),
    )
}

/// An account with an allocation for TCP, and connections to a peer that it has not claimed.
struct Connected {
    control: Dialogue,
    from: &'static str,
    user: &'static str,
    peers: Vec<TcpStream>,
}

impl Connected {
    fn open(target: &Target, from: &'static str, user: &'static str) -> Self {
        let mut control = Dialogue::open(target, from, user);
        let answer = control.ask(raw::ALLOCATE, &[(raw::TRANSPORT, &raw::TCP)]);
        let kind = answer.as_deref().and_then(raw::kind);
        assert_eq!(kind, Some(raw::ALLOCATE | raw::SUCCESS), "an allocation for TCP");
        Self { control, from, user, peers: Vec::new() }
    }

    /// The number of one more connection, to another peer.
    fn connect(&mut self, listener: &TcpListener) -> u32 {
        let Ok(SocketAddr::V4(peer)) = listener.local_addr() else { panic!("no IPv4") };
        let at = raw::xor_address(peer);
        let answer = self.control.ask(raw::CONNECT, &[(raw::PEER, &at)]).expect("an answer");
        self.peers.push(listener.accept().expect("it is connected").0);
        let number = raw::value(&answer, raw::CONNECTION_ID).and_then(|id| id.try_into().ok());
        u32::from_be_bytes(number.expect("a number"))
    }

    /// Whether its first connection carries bytes once it is claimed.
    fn claim(&mut self, target: &Target, number: u32) -> bool {
        let mut data = Dialogue::open(target, self.from, self.user);
        let id = (raw::CONNECTION_ID, &number.to_be_bytes()[..]);
        let answer = data.ask(raw::CONNECTION_BIND, &[id]).unwrap_or_default();
        let mut heard = [0; 5];
        raw::kind(&answer) == Some(raw::CONNECTION_BIND | raw::SUCCESS)
            && data.line().write_all(b"hello").is_ok()
            && self.peers[0].read_exact(&mut heard).is_ok()
            && heard == *b"hello"
    }
}
