//! What happens, told to those who listen.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use client::{AllocateOptions, Credentials, TurnClient};
use proto::stun::attribute::RequestedTransport;
use proto::stun::{Method, Writer};
use serde_json::Value;

use crate::raw::{Speaker, code, over_udp};
use crate::site::{SOON, Site, credentials};

/// A relay whose events can be heard.
struct Stage {
    site: Site,
    admin: SocketAddr,
}

/// Somebody who listens.
struct Listener {
    head: String,
    lines: BufReader<TcpStream>,
}

/// An event: its kind, its name, and what it says.
type Event = (String, String, Value);

impl Stage {
    fn open(number: u16) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], 22_000 + number));
        let table = format!("[admin]\naddress = \"{admin}\"\n[metrics]");
        Self { site: Site::open_altered(number, 2, "[metrics]", &table), admin }
    }

    /// Listens from now on, or behind an event.
    fn listen(&self, headers: &str) -> Listener {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        // What is wrong is looked for every few seconds.
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
        }
        Listener { head, lines }
    }
}

impl Listener {
    /// The next line of the body, whose pieces have a line with their length before them.
    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream ended");
        line.trim_end().to_owned()
    }

    /// The next event.
    fn next(&mut self) -> Event {
        let (mut event, mut id) = (String::new(), String::new());
        loop {
            let line = self.line();
            match line.split_once(": ") {
                Some(("event", kind)) => kind.clone_into(&mut event),
                Some(("id", name)) => name.clone_into(&mut id),
                Some(("data", data)) => {
                    return (event, id, serde_json::from_str(data).unwrap());
                }
                _ => {}
            }
        }
    }

    /// The next event of this kind; what is wrong with the host of the test does not matter.
    fn hear(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next();
            if event.0 != "problem" {
                assert_eq!(event.0, kind, "{event:?}");
                return event;
            }
        }
    }
}

#[test]
fn the_life_of_an_allocation_and_refusals_are_heard_as_they_happen() {
    let stage = Stage::open(140);
    let mut early = stage.site.client();
    early.allocate(&AllocateOptions::default()).unwrap();
    let mut listener = stage.listen("");
    assert!(listener.head.contains(" 200 ") && listener.head.contains("text/event-stream"));
    let mut client = stage.site.client();
    client.allocate(&AllocateOptions::default()).unwrap();
    let own = client.local_addr().unwrap().to_string();
    let (_, first, opened) = listener.hear("opened");
    assert_eq!((&opened["client"], &opened["what"]), (&own.into(), &"opened".into()), "{opened}");
    for _ in 0..3 {
        assert!(client.bind_channel("10.0.0.7:80".parse().unwrap()).is_err());
    }
    let (_, _, refused) = listener.hear("refused");
    assert_eq!((&refused["what"], &refused["code"]), (&"peer_denied".into(), &403.into()));
    assert_eq!(refused["allocation"], opened["allocation"]);
    client.release().unwrap();
    let (_, _, closed) = listener.hear("closed");
    assert_eq!(closed["allocation"], opened["allocation"], "told once, although refused thrice");
    let wrong = Credentials { password: "wrong".to_owned(), ..credentials("bob") };
    let mut stranger = TurnClient::connect(stage.site.server, wrong).unwrap();
    assert!(stranger.allocate(&AllocateOptions::default()).is_err());
    let (_, _, refused) = listener.hear("refused");
    assert_eq!(
        (&refused["what"], &refused["allocation"]),
        (&"wrong_password".into(), &Value::Null)
    );

    // Who comes back hears what it has missed.
    let mut again = stage.listen(&format!("Last-Event-ID: {first}\r\n"));
    for kind in ["refused", "closed", "refused"] {
        again.hear(kind);
    }
    stage.site.close();
}

#[test]
fn readers_are_few_and_those_that_do_not_read_keep_nobody_waiting() {
    let stage = Stage::open(141);
    let idle: Vec<_> = (0..15).map(|_| stage.listen("")).collect();
    let mut listener = stage.listen("");
    let refused = stage.listen("");
    assert!(refused.head.contains(" 503 "), "{}", refused.head);
    let mut client = stage.site.client();
    client.allocate(&AllocateOptions::default()).unwrap();
    listener.hear("opened");
    drop(idle);
    client.release().unwrap();
    listener.hear("closed");
    // A place is free again as soon as it is noticed that a reader has gone.
    let mut late = stage.listen("");
    while !late.head.contains(" 200 ") {
        late = stage.listen("");
    }
    stage.site.close();
}

#[test]
fn what_goes_wrong_over_and_over_is_told_as_a_problem() {
    let stage = Stage::open(143);
    let mut listener = stage.listen("");
    let sockets = [(); 2].map(|()| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.connect(stage.site.server).unwrap();
        socket
    });
    let mut speaker = Speaker::new("alice");
    let fill = |writer: &mut Writer<'_>| {
        writer.add(&RequestedTransport(17));
    };
    // What the first is told is no good from the second, however often it is tried there.
    let request = speaker.request(Method::ALLOCATE, fill);
    speaker.learn(&over_udp(&sockets[0])(&request));
    for _ in 0..8 {
        let request = speaker.request(Method::ALLOCATE, fill);
        assert_eq!(code(&over_udp(&sockets[1])(&request)), 438);
    }
    let problem = loop {
        let (kind, _, data) = listener.next();
        if kind == "problem" && data["id"] == "stale_nonce" {
            break data;
        }
    };
    let text = problem["text"].as_str().unwrap();
    assert!(text.contains("refused 8 times for an old nonce"), "{problem}");
    stage.site.close();
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let stage = Stage::open(142);
    let mut stream = TcpStream::connect(stage.admin).unwrap();
    write!(stream, "GET /v1/events?since=1 HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).unwrap();
    assert!(status.contains(" 400 "), "{status}");
    stage.site.close();
}
