//! Doors of operators under those who only take places, seats and handshakes.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use client::AllocateOptions;

use crate::doors::House;
use crate::site::client_of;

/// Longer than an event takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn connect(door: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until this was said; all that was said, if it ended before.
fn hear(line: &mut impl Read, words: &str) -> Result<(), String> {
    let (mut heard, mut piece) = (String::new(), [0; 4_096]);
    while !heard.contains(words) {
        match line.read(&mut piece) {
            Ok(count @ 1..) => heard.push_str(&String::from_utf8_lossy(&piece[..count])),
            Ok(0) | Err(_) => return Err(heard),
        }
    }
    Ok(())
}

/// Asks for something and stays connected.
fn ask(line: &mut impl Write, target: &str, headers: &str) {
    write!(line, "GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").unwrap();
}

/// Listens to events.
fn listen<L: Read + Write>(mut line: L) -> L {
    ask(&mut line, "/v1/events", "");
    hear(&mut line, "retry: 2000").unwrap();
    line
}

#[test]
fn sec_009_handshakes_at_an_operators_door_are_limited_before_a_byte_is_read() {
    let keys = "tls = { certificate = \"own.pem\", key = \"own.key\" }\n\
                [limits]\nhandshakes_per_s = 1\nhandshakes_burst = 5";
    let house = House::open(74, keys, |home| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        for (name, text) in [("own.pem", made.cert.pem()), ("own.key", key)] {
            fs::write(home.join(name), text).unwrap();
            fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
    });
    let mut lines: Vec<_> = (0..20).map(|_| connect(house.admin)).collect();
    for line in &mut lines {
        // What is no TLS is answered with an alert by who reads it.
        drop(line.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    let heard = |line: &mut TcpStream| matches!(line.read(&mut [0; 7]), Ok(7));
    let read = lines.iter_mut().map(heard).filter(|heard| *heard).count();
    assert!((4..=8).contains(&read), "{read} of 20 were read");
    assert_eq!(house.refused("admin", "handshakes"), 20 - read as u64);
    assert_eq!(house.refused("admin", "handshake"), read as u64);
    assert_eq!(house.refused("metrics", "handshakes"), 0, "who speaks plainly is not counted");
    house.close();
}

#[test]
fn pages_of_other_sites_are_refused_in_words_and_take_no_seat() {
    let house = House::open(75, "", |_| {});
    let (cross, neighbour) = ("Sec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-site\r\n");
    let script = "Origin: https://evil.example\r\n";
    for headers in [cross, neighbour, script, &format!("{cross}{script}")] {
        for target in ["/v1/events", "/v1/state", "/v1/explain?subject=nonce", "/v1/nothing"] {
            for _ in 0..5 {
                let mut line = connect(house.admin);
                ask(&mut line, target, headers);
                hear(&mut line, "a page of another site asks for this").expect(target);
            }
        }
    }
    assert_eq!(house.refused("admin", "forbidden"), 80);
    let port = house.admin.port();
    let own = format!("Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:{port}\r\n");
    let called = format!("Host: localhost:{port}\r\n");
    for headers in ["", "Sec-Fetch-Site: none\r\n", "Sec-Fetch-Site: same-origin\r\n", &own] {
        let mut line = connect(house.admin);
        write!(line, "GET /v1/state HTTP/1.1\r\n{called}{headers}\r\n").unwrap();
        hear(&mut line, "HTTP/1.1 200 ").expect(headers);
    }
    let mut page = connect(house.admin);
    ask(&mut page, "/", cross);
    hear(&mut page, "HTTP/1.1 200 ").expect("a link may lead to the page");
    house.close();
}

#[test]
fn sec_009_readers_over_tcp_take_no_seat_of_those_on_the_host() {
    let house = House::open(76, "", |_| {});
    let mut strangers: Vec<_> = (0..16).map(|_| listen(connect(house.admin))).collect();
    let mut one_more = connect(house.admin);
    ask(&mut one_more, "/v1/events", "");
    hear(&mut one_more, "HTTP/1.1 503 ").unwrap();
    let operators: Vec<_> = (0..16).map(|_| listen(house.control())).collect();
    let mut one_more = house.control();
    ask(&mut one_more, "/v1/events", "");
    hear(&mut one_more, "HTTP/1.1 503 ").unwrap();
    let mut client = client_of(house.server, "alice");
    client.allocate(&AllocateOptions::default()).unwrap();
    for mut line in operators {
        hear(&mut line, "event: opened").unwrap();
    }
    hear(strangers.last_mut().unwrap(), "event: opened").unwrap();
    house.close();
}

#[test]
fn sec_009_silent_connections_end_no_stream_and_nobody_who_was_granted_something() {
    let house = House::open(77, "", |_| {});
    let mut stream = listen(connect(house.admin));
    let mut known = connect(house.admin);
    ask(&mut known, "/v1/state", "");
    hear(&mut known, "\"allocations\":0").unwrap();
    let mut page = connect(house.admin);
    ask(&mut page, "/", "");
    hear(&mut page, "</html>").unwrap();
    let silent: Vec<_> = (0..100).map(|_| connect(house.admin)).collect();
    ask(&mut known, "/v1/state", "");
    hear(&mut known, "\"allocations\":0").expect("who was granted something stays");
    let mut client = client_of(house.server, "alice");
    client.allocate(&AllocateOptions::default()).unwrap();
    hear(&mut stream, "event: opened").expect("the stream goes on");
    drop(page.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert!(hear(&mut page, "</html>").is_err(), "everybody may have the page");
    assert_eq!(house.refused("admin", "crowded"), 3 + 100 - 32);

    // Where all are known, streams stay, and who asks for nothing leaves for the next.
    drop(silent);
    let streams: Vec<_> = (0..15).map(|_| listen(connect(house.admin))).collect();
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut line = connect(house.admin);
        ask(&mut line, "/v1/state", "");
        hear(&mut line, "\"allocations\":1").unwrap();
        idle.push(line);
    }
    client.release().unwrap();
    for mut line in streams.into_iter().chain([stream]) {
        hear(&mut line, "event: closed").unwrap();
    }
    house.close();
}
