//! Floods, and good clients beside them.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;

use super::*;
use crate::addr::ListenerId;
use crate::now::tests::start;

const RATE: Rate = Rate { per_s: 50, burst: 100 };

fn client(host: u8, port: u16) -> ClientAddr {
    ClientAddr::new(SocketAddr::from(([192, 0, 2, host], port)))
}

/// A throttle that has begun, and how much it was asked.
struct Flood(Instant, Throttle, Cell<u32>);

impl Flood {
    fn new() -> Self {
        let begin = start().mono;
        Self(begin, Throttle::new(RATE, 1, begin), Cell::new(0))
    }

    /// How many of `n` questions, each another, are answered after `ms`.
    fn answers(&self, ms: u64, who: Standing, from: impl Fn(u32) -> ClientAddr, n: u32) -> u32 {
        let answered = (0..n).filter(|&n| {
            self.2.update(|asked| asked + 1);
            let transaction = self.2.get().to_be_bytes();
            self.asks(ms, who, (from(n), About::Login), &transaction)
        });
        u32::try_from(answered.count()).unwrap()
    }

    fn asks(
        &self,
        ms: u64,
        who: Standing,
        (client, about): (ClientAddr, About),
        transaction: &[u8],
    ) -> bool {
        let from = FiveTuple { listener: ListenerId(0), client };
        let now = self.0 + Duration::from_millis(ms);
        self.1.admits(now, who, &Question { from, transaction, about })
    }
}

#[test]
fn sec_007_a_source_gets_its_burst_and_then_its_rate() {
    let many_ports = |n: u32| client(1, 1_000 + u16::try_from(n).unwrap());
    let one_port = |_: u32| client(2, 1_000);
    for (case, from, at_once) in
        [("many ports", &many_ports as &dyn Fn(u32) -> ClientAddr, 70), ("one", &one_port, 60)]
    {
        let flood = Flood::new();
        let answers = |ms| flood.answers(ms, Standing::Unproven, from, 1_000);
        assert_eq!(answers(0), at_once, "{case}");
        assert_eq!(answers(1_000), 50, "{case}");
        assert_eq!(answers(1_010), 0, "{case}");
        assert_eq!(answers(60_000), at_once, "{case}");
    }
}

#[test]
fn sec_007_a_network_gets_four_times_as_much() {
    let flood = Flood::new();
    let hosts = |n: u32| client(n.to_le_bytes()[0], 1_000);
    assert_eq!(flood.answers(0, Standing::Unproven, hosts, 10_000), 280);
    assert_eq!(flood.answers(1_000, Standing::Unproven, hosts, 10_000), 200);
    let other = |_| ClientAddr::new(SocketAddr::from(([198, 51, 100, 1], 1)));
    assert_eq!(flood.answers(1_000, Standing::Unproven, other, 10), 10);
}

#[test]
fn sec_007_what_is_no_question_has_the_whole_of_it() {
    let begin = start().mono;
    let handshakes = Throttle::new(RATE, 1, begin);
    let lets = |ms, host: fn(u32) -> u8| {
        let now = begin + Duration::from_millis(ms);
        (0..10_000).filter(|&n| handshakes.lets(now, client(host(n), port(n)))).count()
    };
    assert_eq!(lets(0, |_| 1), 100);
    assert_eq!(lets(1_000, |_| 1), 50);
    assert_eq!(lets(60_000, |n| n.to_le_bytes()[0]), 400);
}

#[test]
fn sec_007_a_flood_costs_no_good_client_behind_the_same_address_or_network() {
    let flood = Flood::new();
    for ms in (0..2_000).step_by(10) {
        for host in [1, 10, 11, 12, 13, 14, 15, 16, 17] {
            flood.answers(ms, Standing::Unproven, |_| client(host, 1_000), 20);
        }
    }
    for (case, who, good) in [
        ("a new port of the flooding host", Standing::Unproven, client(1, 2_000)),
        ("a new host of the flooding network", Standing::Unproven, client(2, 1_000)),
        ("a connection of the flooding host", Standing::Connected, client(1, 1_000)),
        ("the password, from the same port", Standing::Knowing, client(1, 1_000)),
        ("an allocation, at the same port", Standing::Seated, client(1, 1_000)),
    ] {
        assert_eq!(flood.answers(2_000, who, |_| good, 5), 5, "{case}");
    }
}

/// Who floods: so many packets a second, each request sent at these times.
struct Attack {
    per_s: u64,
    from: fn(u32) -> ClientAddr,
    about: About,
    sent_at: &'static [u64],
}

/// When a client sends (RFC 8489 §6.2.1).
const PATIENT: [u64; 4] = [0, 500, 1_500, 3_500];

/// Floods for ten seconds, while `good` clients begin one after the other. Which of their sends
/// each of them hears an answer to; `None` if to none of four.
fn beside(attack: &Attack, good: fn(u32) -> (ClientAddr, About)) -> Vec<Option<usize>> {
    let flood = Flood::new();
    let requests = attack.per_s * 10 / attack.sent_at.len() as u64;
    let forged = (0..requests).flat_map(|n| {
        let id = u32::try_from(n).unwrap();
        let sends = attack.sent_at.iter();
        let at = n * 10_000 / requests;
        sends.map(move |after| (at + after, (attack.from)(id), attack.about, id, None))
    });
    let clients = (0..15).flat_map(|n| {
        let (from, about) = good(n);
        let at = 2_000 + u64::from(n) * 237;
        (0..).zip(PATIENT).map(move |(try_, after)| (at + after, from, about, n, Some(try_)))
    });
    let mut events: Vec<_> = forged.chain(clients).collect();
    events.sort_by_key(|(at, ..)| *at);
    let mut heard = vec![None; 15];
    let mut referees: HashMap<IpAddr, Option<Instant>> = HashMap::new();
    for (at, from, about, id, good) in events {
        let place = usize::try_from(id).unwrap();
        if good.is_some() && heard[place].is_some() {
            continue;
        }
        let transaction = [u8::from(good.is_some()).into(), id].map(u32::to_be_bytes);
        let question = (from, about);
        if !flood.asks(at, Standing::Unproven, question, transaction.as_flattened()) {
            continue;
        }
        if good.is_some() {
            heard[place] = good;
        }
        let now = flood.0 + Duration::from_millis(at);
        for (whose, rate) in [(from.ip(), RATE), (surroundings(from.ip()), RATE.times(4))] {
            let referee = referees.entry(whose).or_default();
            assert!(rate.admits(referee, now), "{whose} got too much at {at} ms");
        }
    }
    heard
}

#[test]
fn sec_007_a_flood_over_ports_and_hosts_keeps_nobody_from_hearing_a_challenge() {
    let ports = |n: u32| client(1, 1_000 + u16::try_from(n % 600).unwrap());
    let hosts = |n: u32| client(10 + u8::try_from(n % 80).unwrap(), 1_000);
    let anywhere = |n: u32| client(1, port(n.wrapping_mul(0x9E37_79B9) >> 8));
    let (address, login) = (About::Address, About::Login);
    let once = &[0][..];
    for (case, per_s, from, about, sent_at, send) in [
        ("600 ports", 3_000, ports as fn(u32) -> _, login, once, 2),
        ("80 hosts", 3_000, hosts, login, once, 2),
        ("fewer packets", 400, ports, login, once, 2),
        ("Binding", 3_000, ports, address, once, 1),
        ("Binding, repeated as clients do", 3_000, ports, address, &PATIENT, 2),
        ("one port", 3_000, |_| client(1, 7), login, once, 1),
        ("any port", 80_000, anywhere, login, once, 2),
        ("each twice at once", 3_000, ports, login, &[0, 0], 2),
        ("each twice", 3_000, ports, login, &[0, 500], 3),
        ("each three times", 3_000, ports, login, &PATIENT[..3], 4),
        ("80 hosts, each three times", 3_000, hosts, login, &PATIENT[..3], 4),
    ] {
        let attack = Attack { per_s, from, about, sent_at };
        let heard = beside(&attack, |n| {
            // Others behind the address, and others in the network.
            (client(if n % 3 == 0 { 200 } else { 1 }, 40_000 + port(n)), About::Login)
        });
        let late = heard.iter().filter(|try_| try_.is_none_or(|try_| try_ >= send));
        assert_eq!(late.count(), 0, "{case}: {heard:?}");
    }
}

#[test]
fn sec_007_logins_that_flood_keep_nobody_from_hearing_his_address() {
    let ports = |n: u32| client(1, 1_000 + u16::try_from(n % 600).unwrap());
    let attack = Attack { per_s: 3_000, from: ports, about: About::Login, sent_at: &[0] };
    let heard = beside(&attack, |n| (client(1, 40_000 + port(n)), About::Address));
    assert!(heard.iter().all(|try_| try_.is_some_and(|try_| try_ < 2)), "{heard:?}");
}

#[test]
fn sec_007_a_flood_that_repeats_everything_gets_no_more_than_any_other() {
    let ports = |n: u32| client(1, 1_000 + u16::try_from(n % 600).unwrap());
    let attack = Attack { per_s: 3_000, from: ports, about: About::Login, sent_at: &PATIENT };
    let heard = beside(&attack, |_| (client(2, 1), About::Login));
    assert!(heard.iter().all(|try_| *try_ == Some(0)), "another source: {heard:?}");
}

#[test]
fn sec_007_of_an_ipv6_host_all_its_addresses_count_together() {
    let flood = Flood::new();
    let within = |n: u32| {
        let ip = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, n.to_le_bytes()[0].into());
        ClientAddr::new(SocketAddr::from((ip, 1_000)))
    };
    assert_eq!(flood.answers(0, Standing::Unproven, within, 1_000), 70);
    let site = |n: u32| {
        let [a, b, ..] = n.to_le_bytes();
        let subnet = u16::from_le_bytes([a, b]);
        let ip = Ipv6Addr::new(0x2001, 0xDB8, 1, subnet, 0, 0, 0, 1);
        ClientAddr::new(SocketAddr::from((ip, 1_000)))
    };
    assert_eq!(flood.answers(0, Standing::Unproven, site, 1_000), 280);
}

impl Flood {
    /// How many of so many wrong passwords are looked at after `ms`.
    fn looks(&self, ms: u64, of: impl Fn(u32) -> (ClientAddr, u32, bool), n: u32) -> u32 {
        let now = self.0 + Duration::from_millis(ms);
        let looks = (0..n).filter(|&n| {
            let (client, name, at_home) = of(n);
            let name = name.to_be_bytes();
            let guess = Guess { client, name: &name };
            let looks = self.1.lets_guess(now, guess, || at_home);
            if looks {
                self.1.guessed(now, guess, at_home);
            }
            looks
        });
        u32::try_from(looks.count()).unwrap()
    }
}

/// A source's port, among as many as there are.
fn port(n: u32) -> u16 {
    1_000 + u16::try_from(n % 60_000).unwrap()
}

/// A host of the network, of those that no test looks at apart.
fn neighbour(n: u32) -> u8 {
    10 + u8::try_from(n % 64).unwrap()
}

#[test]
fn auth_033_guesses_are_held_for_a_name_for_a_source_and_for_its_network() {
    type Guesser = fn(u32) -> (ClientAddr, u32, bool);
    let rows: [(&str, Guesser, [u32; 2]); 6] = [
        ("one name, one port", |_| (client(1, 1), 1, true), [100, 50]),
        ("one name, many ports", |n| (client(1, port(n)), 1, true), [100, 50]),
        ("many names, one port", |n| (client(1, 1), n, true), [370, 200]),
        ("many names, many ports", |n| (client(1, port(n)), n, true), [400, 200]),
        ("many names, many hosts", |n| (client(neighbour(n), 1), n, true), [1_600, 800]),
        ("the same, forged", |n| (client(neighbour(n), port(n)), n, false), [1_600, 800]),
    ];
    for (case, guesser, [at_once, a_second]) in rows {
        let flood = Flood::new();
        let near = |seen: u32, right: u32| seen.abs_diff(right) <= right / 8;
        let seen = flood.looks(0, guesser, 20_000);
        assert!(near(seen, at_once), "{case}: {seen}, not {at_once}, at once");
        let seen = flood.looks(1_000, guesser, 20_000);
        assert!(near(seen, a_second), "{case}: {seen}, not {a_second}, in a second");
    }
}

#[test]
fn auth_033_guesses_over_many_names_cost_no_good_client_around_them() {
    type Guesser = fn(u32) -> (ClientAddr, u32, bool);
    let one_port: Guesser = |n| (client(1, 1), n, true);
    let a_few_hosts: Guesser = |n| (client(10 + port(n).to_le_bytes()[0] % 5, port(n)), n, true);
    let forged: Guesser = |n| (client(neighbour(n), port(n)), n, false);
    for (case, guesser, good) in [
        ("behind the same address", one_port, client(1, 2)),
        ("in the same network", one_port, client(2, 1)),
        ("in a network where several hosts guess", a_few_hosts, client(2, 1)),
        ("whose address is forged", forged, client(neighbour(1), 1_001)),
        ("in another network", a_few_hosts, ClientAddr::new("198.51.100.1:1".parse().unwrap())),
    ] {
        let flood = Flood::new();
        for ms in (0..3_000).step_by(10) {
            flood.looks(ms, guesser, 200);
        }
        let login = |n| (good, 1_000_000 + n, true);
        assert_eq!(flood.looks(3_000, login, 3), 3, "{case}");
    }
}

#[test]
fn auth_033_of_guesses_an_ipv6_host_and_its_site_count_together() {
    let at = |subnet: u32, host: u32| {
        let [low, high, ..] = subnet.to_le_bytes();
        let subnet = u16::from_le_bytes([low, high]);
        let host = u16::try_from(host % 60_000).unwrap();
        let ip = Ipv6Addr::new(0x2001, 0xDB8, 0, subnet, 0, 0, 0, host);
        ClientAddr::new(SocketAddr::from((ip, 1)))
    };
    let flood = Flood::new();
    assert_eq!(flood.looks(0, |n| (at(0, n), n, true), 20_000), 400);
    let seen = flood.looks(0, |n| (at(n, 1), n, true), 20_000);
    assert!((1_000..=1_200).contains(&seen), "{seen} more of the site");
}
