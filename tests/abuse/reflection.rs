//! T3: the server used against others.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::raw::{self, Forger};
use super::target::{ATTACKER, Target, VICTIM, server};
use super::{Attack, Outcome, judge, outcome};
use rig::clock;

/// Octets of the IPv4 and UDP headers that a datagram has on the wire.
pub(super) const HEADERS: usize = 28;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "have small requests answered with much", run: amplify },
    Attack { name: "have a victim's address flooded with answers", run: reflect },
    Attack { name: "begin a loop between two servers", run: ping_pong },
    Attack { name: "have answers sent to somewhere else", run: redirect },
];

#[test]
fn sec_007_abuse_t3_the_server_is_no_weapon_against_others() {
    judge("T3 the server against others", ATTACKS);
}

/// What anybody may ask, and how much longer than the question the answer may be.
fn questions() -> Vec<(&'static str, Vec<u8>, f64)> {
    let cookieless = {
        let mut message = raw::message(raw::BINDING, &[]);
        message[4..8].copy_from_slice(b"old!");
        message
    };
    vec![
        ("Binding", raw::message(raw::BINDING, &[]), 1.25),
        ("Binding of RFC 3489", cookieless, 1.25),
        ("Allocate", raw::message(raw::ALLOCATE, &[(raw::TRANSPORT, &raw::UDP)]), 2.67),
        ("bare Allocate", raw::message(raw::ALLOCATE, &[]), 2.67),
        ("Refresh", raw::message(raw::REFRESH, &[]), 2.67),
        ("CreatePermission", raw::message(raw::CREATE_PERMISSION, &[]), 2.67),
        ("ChannelBind", raw::message(raw::CHANNEL_BIND, &[]), 2.67),
        ("Connect", raw::message(raw::CONNECT, &[]), 2.67),
        ("an unknown method", raw::message(0x0155 & 0x3EEF, &[]), 2.67),
        ("unknown attributes", raw::message(raw::BINDING, &[(0x7001, b""), (0x7002, b"")]), 2.67),
        ("an unknown user", raw::message(raw::ALLOCATE, &[(raw::USERNAME, b"x")]), 2.67),
    ]
}

fn amplify(target: &mut Target) -> Outcome {
    let socket = target.socket(ATTACKER);
    let mut worst = Vec::new();
    let mut fits = true;
    for (name, question, most) in questions() {
        socket.send(&question).expect("it is sent");
        let (count, bytes) = raw::drain(&socket);
        let (asked, told) = (question.len() + HEADERS, bytes + count * HEADERS);
        #[expect(clippy::cast_precision_loss, reason = "lengths of datagrams")]
        let factor = told as f64 / asked as f64;
        fits &= factor <= most && count <= 1;
        worst.push((factor, name));
    }
    worst.sort_by(|one, other| other.0.total_cmp(&one.0));
    let worst: Vec<String> =
        worst.iter().take(3).map(|(factor, name)| format!("{name} ×{factor:.2}")).collect();
    outcome(fits, worst.join(", "))
}

fn reflect(target: &mut Target) -> Outcome {
    const FORGED: u32 = 20_000;
    let victim = target.bound(VICTIM);
    let SocketAddr::V4(from) = victim.local_addr().expect("it is bound") else {
        return Err("no IPv4".to_owned());
    };
    let forger = Forger::of(&target.site.client);
    let question = raw::message(raw::ALLOCATE, &[(raw::TRANSPORT, &raw::UDP)]);
    let begin = clock::now();
    for number in 0..FORGED {
        // Another port each, as a NAT's many clients would have.
        let port = if number % 2 == 0 { from.port() } else { 1_024 + (number % 60_000) as u16 };
        forger.send(SocketAddrV4::new(*from.ip(), port), server(), &question);
        if number % 100 == 0 {
            clock::rest_until(begin + Duration::from_micros(u64::from(number) * 50));
        }
    }
    let (answers, _) = raw::drain(&victim);
    let took = (clock::now() - begin).as_secs_f64();
    let honest = target.guest(VICTIM, "honest").binding().is_ok();
    #[expect(clippy::cast_precision_loss, reason = "a number of datagrams")]
    let held = answers as f64 <= 100.0 + 50.0 * took + 20.0;
    outcome(
        held && honest,
        format!("{answers} answers to one port of the victim; it is served itself: {honest}"),
    )
}

fn ping_pong(target: &mut Target) -> Outcome {
    let socket = target.socket(ATTACKER);
    let mapped = (0x0020, &[0, 1, 0x2D, 0x53, 0x2B, 0x0B, 0xA4, 0x43][..]);
    let error = (0x0009, &[0, 0, 4, 1][..]);
    let mut answered = Vec::new();
    for (name, message) in [
        ("a success response", raw::message(raw::BINDING | raw::SUCCESS, &[mapped])),
        ("an error response", raw::message(raw::ALLOCATE | raw::ERROR, &[error])),
        ("an indication", raw::message(raw::BINDING | raw::INDICATION, &[])),
        ("a Data indication", raw::message(0x0007 | raw::INDICATION, &[(0x0013, b"hello")])),
        ("ChannelData without a channel", b"\x40\x00\x00\x04loop".to_vec()),
        ("chargen", b"!\"#$%&'()*+,-./0123456789".to_vec()),
        (
            "DNS",
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01".to_vec(),
        ),
        ("an empty datagram", Vec::new()),
    ] {
        if raw::ask(&socket, &message).is_some() {
            answered.push(name);
        }
    }
    outcome(answered.is_empty(), format!("answered: {answered:?}"))
}

fn redirect(target: &mut Target) -> Outcome {
    let victim = target.bound(VICTIM);
    let SocketAddr::V4(at) = victim.local_addr().expect("it is bound") else {
        return Err("no IPv4".to_owned());
    };
    let address = [&[0, 1], &at.port().to_be_bytes()[..], &at.ip().octets()].concat();
    let mut hit = Vec::new();
    for cookie in [true, false] {
        for (name, attribute) in [
            ("CHANGE-REQUEST", (raw::CHANGE_REQUEST, &[0, 0, 0, 6][..])),
            ("RESPONSE-ADDRESS", (raw::RESPONSE_ADDRESS, &address[..])),
            ("RESPONSE-PORT", (raw::RESPONSE_PORT, &address[2..4])),
        ] {
            let mut question = raw::message(raw::BINDING, &[attribute]);
            if !cookie {
                question[4..8].copy_from_slice(b"old!");
            }
            let socket = target.bound(ATTACKER);
            socket.send_to(&question, server()).expect("it is sent");
            let mut buffer = [0; 2048];
            if let Ok((_, from)) = socket.recv_from(&mut buffer)
                && from != server()
            {
                hit.push(format!("{name}: an answer came from {from}"));
            }
        }
    }
    let (count, _) = raw::drain(&victim);
    if count > 0 {
        hit.push(format!("{count} answers at the victim"));
    }
    outcome(hit.is_empty(), format!("answers that went astray: {hit:?}"))
}

/// An address of the crowd that nobody is behind.
pub(super) fn anybody(number: u32) -> SocketAddrV4 {
    let [a, b] = super::target::CROWD;
    let [.., c, d] = number.to_be_bytes();
    let port = 1_024 + (number.wrapping_mul(2_654_435_761) >> 17) as u16 % 60_000;
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port)
}
