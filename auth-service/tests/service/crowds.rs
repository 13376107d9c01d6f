//! Doors that are full: who is refused, who leaves, who stays, and what happens without descriptors.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::harness::{KEY, OTHER_KEY, Service, stranger, stranger_from, until};

const METRICS: &str = "[metrics]\naddress = \"127.0.0.1:0\"";

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks and stays connected; the status, none if the connection ended.
fn ask(stream: &mut TcpStream, target: &str, headers: &str) -> Option<u16> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").ok()?;
    let mut answer = Vec::new();
    loop {
        let mut piece = [0; 16_384];
        let count = stream.read(&mut piece).ok().filter(|&count| count > 0)?;
        answer.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.is_some_and(|length| length.parse::<usize>().expect("a number") <= body.len()) {
            return head.get(9..12).and_then(|status| status.parse().ok());
        }
    }
}

/// Asks for a credential.
fn mint(stream: &mut TcpStream, key: &str) -> Option<u16> {
    let key = format!("Authorization: Bearer {key}\r\n");
    ask(stream, "/turn?service=turn&username=u", &key)
}

#[test]
fn sec_009_strangers_keep_no_caller_out_and_end_nobody_who_has_shown_a_key() {
    let service = Service::start(&format!(
        "[limits]\nconnections = 8\nconnections_per_client = 2\n{METRICS}"
    ));
    let door = service.auth.addr();
    let mut strangers: Vec<_> = (0..8).map(|it| stranger(door, it / 2)).collect();
    for (number, stranger) in strangers.iter_mut().enumerate() {
        let asked = match number % 2 {
            0 => ask(stranger, "/healthz", ""),
            _ => mint(stranger, "a key that nobody has"),
        };
        assert!(matches!(asked, Some(200 | 401)), "{asked:?}");
    }
    let mut caller = TcpStream::connect(door).expect("the service listens");
    assert_eq!(mint(&mut caller, KEY), Some(200), "there is room for who has a key");
    assert_eq!(ask(&mut strangers[0], "/healthz", ""), None, "the oldest left for it");
    assert_eq!(ask(&mut strangers[1], "/healthz", ""), Some(200), "and nobody else");

    // A caller that asks too often has shown a key all the same.
    let mut hasty = TcpStream::connect(door).expect("the service listens");
    let often = [(); 3].map(|()| mint(&mut hasty, OTHER_KEY));
    assert_eq!(often, [Some(200), Some(200), Some(429)]);
    strangers.extend((8..40).map(|it| stranger(door, it / 2)));
    until("all but six strangers left", || service.turned_away("crowded") == 34);
    assert_eq!(mint(&mut caller, KEY), Some(200));
    assert_eq!(ask(&mut hasty, "/healthz", ""), Some(200));
}

#[test]
fn sec_009_callers_with_keys_that_fill_a_door_refuse_the_next() {
    let service = Service::start(&format!("[limits]\nconnections = 3\n{METRICS}"));
    let mut callers: Vec<_> = (0..3).map(|it| stranger(service.auth.addr(), it)).collect();
    for caller in &mut callers {
        assert_eq!(mint(caller, KEY), Some(200));
    }
    assert_eq!(mint(&mut stranger(service.auth.addr(), 3), KEY), None);
    assert_eq!((service.turned_away("total"), service.turned_away("crowded")), (1, 0));
    for caller in &mut callers {
        assert_eq!(mint(caller, KEY), Some(200));
    }
}

#[test]
fn sec_009_a_network_holds_a_quarter_of_all_places_or_what_is_configured() {
    for (limits, most) in [
        ("connections = 16\nconnections_per_client = 2", 4),
        ("connections = 16\nconnections_per_client = 6", 6),
        ("connections = 16\nconnections_per_client = 2\nconnections_per_network = 3", 3),
    ] {
        let service = Service::start(&format!("[limits]\n{limits}\n{METRICS}"));
        let connect = |host| stranger_from(service.auth.addr(), [127, 1, 1, host]);
        let mut held: Vec<_> = (0..most).map(|it| connect(1 + it / 2)).collect();
        for stream in &mut held {
            assert_eq!(ask(stream, "/healthz", ""), Some(200), "{limits}");
        }
        let mut caller = connect(200);
        assert_eq!(mint(&mut caller, KEY), Some(200), "{limits}: strangers keep no neighbour out");
        assert_eq!(ask(&mut held[0], "/healthz", ""), None, "{limits}: the oldest left for it");
        assert_eq!(service.turned_away("network"), 1, "{limits}");
        // Callers are not counted by network, so another has room beside it.
        assert_eq!(mint(&mut connect(201), KEY), Some(200), "{limits}");
        assert_eq!(mint(&mut connect(202), KEY), Some(200), "{limits}");
        assert_eq!(mint(&mut caller, KEY), Some(200), "{limits}");
        assert_eq!(ask(&mut held[1], "/healthz", ""), Some(200), "{limits}");
        let refused = (service.turned_away("network"), service.turned_away("crowded"));
        assert_eq!(refused, (1, 0), "{limits}");
        let mut beside = stranger_from(service.auth.addr(), [127, 1, 2, 1]);
        assert_eq!(ask(&mut beside, "/healthz", ""), Some(200), "{limits}");
    }
}

#[test]
fn sec_009_nobody_holds_the_door_of_the_metrics() {
    let service = Service::start(METRICS);
    let door = service.auth.metrics_addr().expect("metrics are configured");
    let mut held: Vec<_> = (0..100).map(|it| stranger(door, it % 3)).collect();
    // Nothing proves anything there on loopback.
    for stream in held.iter_mut().rev().take(50) {
        assert_eq!(ask(stream, "/metrics", ""), Some(200));
    }
    assert!(service.turned_away("crowded") >= 36);
    drop(held);
}

#[test]
fn sec_009_without_descriptors_a_door_waits_and_says_so_and_heals() {
    let service = Service::start(METRICS);
    let metrics = service.auth.metrics_addr().expect("metrics are configured");
    let mut scraper = TcpStream::connect(metrics).expect("the service listens");
    scraper.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    let mut paused = |door: &str| {
        scraper.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("open");
        let mut page = String::new();
        let end = "av_edge_auth_request_seconds_count";
        let name = format!("av_edge_auth_accept_paused{{door=\"{door}\"}} ");
        while !(page.contains(end) && page.contains(&name)) {
            let mut piece = [0; 8_192];
            let count = scraper.read(&mut piece).expect("an answer");
            page.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        let count = page.lines().find_map(|line| line.strip_prefix(&name)).expect("it is shown");
        count.trim() == "1"
    };
    assert!(!paused("api"));
    let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is one");
    assert_eq!(soft, hard, "the service has raised it");
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).expect("less is always allowed");
    waiting.connect(&service.auth.addr().into()).expect("the kernel takes it");
    until("the alarm", || paused("api"));
    assert!(!paused("metrics"), "nobody waits there");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("what it was");
    let mut waiting = TcpStream::from(waiting);
    assert_eq!(mint(&mut waiting, KEY), Some(200), "whoever waited is served");
    until("the end of the alarm", || !paused("api"));
    assert!(service.turned_away("exhausted") > 0);
}
