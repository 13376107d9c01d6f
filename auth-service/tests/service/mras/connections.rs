//! Framing and the life of connections.

use std::net::TcpStream;
use std::time::Duration;

use super::client::{Client, PATIENCE, SETTINGS, message, request, service, xml};
use crate::harness::{Service, instant};

#[test]
fn mras_004_requests_may_come_all_at_once() {
    let service = service();
    let mut client = Client::connect(&service);
    let numbered = |number: usize| {
        message("SERVICE", &request("")).replace("1 SERVICE", &format!("{number} SERVICE"))
    };
    client.send((1..=50).map(numbered).collect::<String>());
    for number in 1..=50 {
        let response = client.response();
        assert_eq!(response.all("CSeq"), [format!("{number} SERVICE")]);
        assert_eq!(response.reason(), "OK");
    }
}

#[test]
fn mras_005_requests_may_come_byte_by_byte() {
    let service = service();
    let mut client = Client::connect(&service);
    let body = request("");
    for byte in format!("\r\n\r\n{}", message("SERVICE", &body)).as_bytes() {
        client.send([*byte]);
    }
    client.expect(b"\r\n");
    assert_eq!(client.response().reason(), "OK");
}

#[test]
fn mras_023_a_message_too_large_ends_its_connection_alone() {
    let service = service();
    let mut others = Client::connect(&service);
    assert_eq!(others.ask(&request("")).reason(), "OK");
    let good = message("SERVICE", "");
    let length = |text: &str| good.replace("Content-Length: 0", text);
    for (case, bytes, status) in [
        ("a byte too long", length("Content-Length: 262145"), Some(413)),
        ("endless", length("Content-Length: 99999999999999999999999999"), Some(413)),
        ("no length", length("X: 0"), Some(400)),
        ("two lengths", length("Content-Length: 0\r\nl: 0"), Some(400)),
        ("negative length", length("Content-Length: -1"), Some(400)),
        ("no number", length("Content-Length: 1x"), Some(400)),
        ("a head too long", good.replace("69", &"x".repeat(16 * 1024)), None),
        ("an endless head", format!("SERVICE sip:a SIP/2.0\r\nX: {}", "x".repeat(20_000)), None),
        ("too many headers", good.replace("Max-", &"X: 1\r\n".repeat(200)), None),
        ("HTTP", "GET / HTTP/1.1\r\n\r\n".to_owned(), None),
        ("TLS", "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), None),
        ("a header without a name", good.replace("Max-Forwards: ", ": "), None),
        ("a line feed alone", good.replace("Max-Forwards: 69\r\n", "Max-Forwards: 69\n"), None),
        ("a zero byte", good.replace("69", "\0"), None),
        ("a folded first header", good.replacen("\r\nVia", "\r\n Via", 1), None),
        ("five words in front", good.replacen("sip:", "sip: ", 1), None),
    ] {
        let mut client = Client::connect(&service);
        // What stands behind is never read as a request.
        client.try_send(format!("{bytes}{}", message("OPTIONS", "").replace("sip:", "sip:sip:")));
        let answered = client.try_response().map(|response| response.status);
        assert_eq!(answered, status, "{case}");
        assert!(client.is_closed(), "{case}");
        assert_eq!(others.ask(&request("")).reason(), "OK", "{case}: others go on");
    }
}

#[test]
fn mras_023_the_largest_message_is_served() {
    let service = service();
    let mut client = Client::connect(&service);
    let entry = "<identity>sip:alice@example.com</identity>";
    let body = xml("version=\"1.0\"", &[entry]);
    let padding = " ".repeat(256 * 1024 - body.len());
    assert_eq!(client.ask(&format!("{body}{padding}")).reason(), "OK");
    assert_eq!(client.ask(&body).reason(), "OK");
}

#[test]
fn mras_023_connections_are_limited_and_credited() {
    let limits = "limits = { connections_per_server = 2, ";
    let service = Service::start(&SETTINGS.replace("limits = { ", limits));
    let mut held: Vec<_> = (0..2).map(|_| Client::connect(&service)).collect();
    for client in &mut held {
        assert_eq!(client.ask(&request("")).reason(), "OK");
    }
    assert!(Client::connect(&service).is_closed(), "a third one");
    assert_eq!(service.get("/healthz", &[]).status, 200, "HTTP has limits of its own");
    drop(held);
    let deadline = instant() + PATIENCE;
    loop {
        let mut client = Client::connect(&service);
        client.try_send(message("OPTIONS", ""));
        if client.try_response().is_some() {
            break;
        }
        assert!(instant() < deadline, "no place came free");
    }
}

#[test]
fn mras_023_a_message_must_arrive_in_time_however_it_drips() {
    let service = service();
    let addr = service.auth.mras_addr().expect("MRAS is configured");
    let started = instant();
    let whole = message("SERVICE", &request(""));
    let clients = [
        ("SERVICE sip:x SIP/2.0\r\nX: ".to_owned(), &b"x"[..]),
        (whole[..whole.len() - 2].to_owned(), b""),
    ]
    .map(|(text, drip)| {
        std::thread::spawn(move || {
            let stream = TcpStream::connect(addr).expect("the service listens");
            stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a valid timeout");
            super::tls::until_closed(stream, text.as_bytes(), drip);
        })
    });
    for client in clients {
        client.join().expect("no panic");
        let lived = instant() - started;
        assert!(lived >= Duration::from_secs(9), "ended after {lived:?} already");
        assert!(lived <= Duration::from_secs(14), "lived for {lived:?}");
    }
    let mut client = Client::connect(&service);
    assert_eq!(client.ask(&request("")).reason(), "OK");
}

#[test]
fn mras_004_stopping_ends_connections_that_rest() {
    let service = service();
    let mut client = Client::connect(&service);
    assert_eq!(client.ask(&request("")).reason(), "OK");
    let started = instant();
    service.auth.stop();
    assert!(instant() - started < Duration::from_secs(4), "nobody is waited for");
    assert!(client.is_closed());
}
