//! Why something happened, as a relay tells it that has seen it happen.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use client::{AllocateOptions, Credentials, TurnClient};
use proto::auth::Secret;
use proto::auth::credential::mint_rest;
use proto::now::UnixTime;
use proto::stun::Method;
use proto::stun::attribute::RequestedTransport;
use serde_json::Value;

use crate::raw::Speaker;
use crate::site::{PEER, SECRET, SOON, Site, client_of, credentials, soon_to_expire};

/// A relay that can be asked.
struct Witness {
    site: Site,
    admin: SocketAddr,
}

impl Witness {
    fn open(number: u16) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], 22_000 + number));
        let table = format!("[admin]\naddress = \"{admin}\"\n[metrics]");
        Self { site: Site::open_altered(number, 2, "[metrics]", &table), admin }
    }

    fn ask(&self, path: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    fn explain(&self, subject: &str) -> Value {
        let (status, answer) = self.ask(&format!("/v1/explain?subject={subject}"));
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// What is found about a subject.
    fn findings(&self, subject: &str) -> Vec<String> {
        list(&self.explain(subject)["findings"], "id")
    }
}

/// A field of each object in a list.
fn list(objects: &Value, field: &str) -> Vec<String> {
    let objects = objects.as_array().unwrap();
    objects.iter().map(|it| it[field].as_str().unwrap().to_owned()).collect()
}

fn address(client: &TurnClient) -> String {
    client.local_addr().unwrap().to_string()
}

#[test]
fn the_history_of_an_allocation_is_told_from_its_first_request_to_its_end() {
    let witness = Witness::open(130);
    let mut client = witness.site.client();
    client.allocate(&AllocateOptions::default()).unwrap();
    let own = address(&client);
    let page = witness.ask("/v1/allocations").1;
    let id = page["allocations"][0]["id"].as_str().unwrap().to_owned();
    let peer = SocketAddr::new(PEER, 9);
    client.bind_channel(peer).unwrap();
    for denied in ["10.0.0.7:80", "169.254.169.254:80"] {
        let refused = client.bind_channel(denied.parse().unwrap());
        assert_eq!(refused.unwrap_err().code(), Some(403));
    }
    client.send_channel(0x4FFF, b"nobody bound this").unwrap();
    client.refresh(Duration::from_secs(600)).unwrap();
    let live = witness.explain(&id);
    assert_eq!(live["kind"], "allocation");
    let what = list(&live["entries"], "what");
    assert_eq!(
        what,
        ["no_integrity", "opened", "channel", "peer_denied", "peer_denied", "no_channel"],
        "{live}"
    );
    assert_eq!(list(&live["findings"], "id"), ["denied_peer"]);
    assert!(live["findings"][0]["text"].as_str().unwrap().contains("10.0.0.7:80"), "{live}");
    assert!(live["summary"].as_str().unwrap().contains(" lives, "), "{live}");
    assert_eq!(live["entries"][3]["code"], 403);
    assert_eq!(live["entries"][3]["allocation"], *id);
    assert!(!live.to_string().contains("alice"), "users are hashes");
    let shown = witness.ask(&format!("/v1/allocations/{id}")).1;
    assert_eq!(list(&shown["history"], "what"), what, "{shown}");
    client.release().unwrap();
    let late = client.refresh(Duration::from_secs(600));
    assert_eq!(late.unwrap_err().code(), Some(437));
    let ended = witness.explain(&id);
    assert!(ended["summary"].as_str().unwrap().contains("the client released it"), "{ended}");
    let what = list(&ended["entries"], "what");
    assert_eq!(what[what.len() - 2..], ["closed", "no_allocation"], "{ended}");
    let same = witness.explain(&own);
    assert_eq!(list(&same["entries"], "what"), what, "the client is the allocation's");
    witness.site.close();
}

#[test]
fn a_client_that_is_refused_learns_why_from_its_operator() {
    let witness = Witness::open(131);
    let server = witness.site.server;
    let allocate = |credentials: Credentials| {
        let mut client = TurnClient::connect(server, credentials).unwrap();
        assert_eq!(client.allocate(&AllocateOptions::default()).unwrap_err().code(), Some(401));
        address(&client)
    };
    let wrong = Credentials { password: "wrong".to_owned(), ..credentials("bob") };
    let old = mint_rest(
        &Secret::new(SECRET.as_bytes().to_vec()),
        "bob",
        UnixTime(soon_to_expire().0 - 3_600),
    )
    .unwrap();
    for (case, credentials, expected) in [
        ("a wrong password", wrong, "wrong_password"),
        (
            "an old credential",
            Credentials::new(old.username, old.password.as_str()),
            "expired_credential",
        ),
        ("a name of nobody", Credentials::new("nobody", "x"), "unknown_user"),
    ] {
        let own = allocate(credentials);
        assert_eq!(witness.findings(&own), [expected], "{case}");
        let answer = witness.explain(expected);
        assert!(answer["summary"].as_str().unwrap().contains("counted 1 since"), "{answer}");
        assert_eq!(answer["entries"][0]["client"], *own, "{case}");
    }
    let host = witness.findings("127.0.0.1");
    assert_eq!(host, ["wrong_password", "unknown_user", "expired_credential"]);
    let unknown = witness.explain("192.0.2.77");
    assert_eq!(
        (&unknown["found"], &unknown["entries"]),
        (&Value::Bool(false), &Value::Array(vec![]))
    );
    witness.site.close();
}

#[test]
fn a_nat_that_changes_ports_and_a_stale_realm_are_recognised() {
    let witness = Witness::open(132);
    let server = witness.site.server;
    let ask = |socket: &UdpSocket, request: &[u8]| {
        socket.send_to(request, server).unwrap();
        let mut answer = [0; 2_000];
        let len = socket.recv(&mut answer).unwrap();
        answer[..len].to_vec()
    };
    let sockets = [(); 4].map(|()| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    });
    let mut speaker = Speaker::new("alice");
    let fill = |writer: &mut proto::stun::Writer<'_>| {
        writer.add(&RequestedTransport(17));
    };
    // Each answer comes to one port, and the next request leaves from another.
    for socket in &sockets {
        let answer = ask(socket, &speaker.request(Method::ALLOCATE, fill));
        speaker.learn(&answer);
    }
    assert_eq!(witness.findings("127.0.0.1"), ["moved_nat_port"]);
    let answer = witness.explain("127.0.0.1");
    let found = answer["findings"][0]["text"].as_str().unwrap();
    assert!(found.contains("another port each time"), "{found}");

    let mut client = client_of(server, "bob");
    client.allocate(&AllocateOptions::default()).unwrap();
    sockets[0].send_to(&[0x40, 0, 0, 4, 1, 2, 3, 4], server).unwrap();
    // When this is answered, what was sent before has arrived.
    ask(&sockets[0], &Speaker::new("dave").request(Method::BINDING, |_| ()));
    let found = witness.explain(&address(&client))["findings"][0].clone();
    let text = found["text"].as_str().unwrap();
    let stray = sockets[0].local_addr().unwrap().to_string();
    assert!(found["id"] == "moved_nat_port" && text.contains(&stray), "{found}");

    let mut other = Speaker::new("carol");
    let challenge = ask(&sockets[1], &other.request(Method::ALLOCATE, fill));
    other.learn(&challenge);
    other.believe("another.example");
    ask(&sockets[1], &other.request(Method::ALLOCATE, fill));
    let own = sockets[1].local_addr().unwrap().to_string();
    assert!(witness.findings(&own).contains(&"wrong_realm".to_owned()), "{own}");
    witness.site.close();
}

#[test]
fn what_is_wrong_below_turn_is_told_of_the_client_too() {
    let witness = Witness::open(134);
    let mut stray = TcpStream::connect(witness.site.server).unwrap();
    stray.set_read_timeout(Some(SOON)).unwrap();
    stray.write_all(&[0xFF; 20]).unwrap();
    // The relay closes it; with what was not read, that is a reset.
    let _ = stray.read_to_end(&mut Vec::new());
    let own = stray.local_addr().unwrap().to_string();
    let answer = witness.explain(&own);
    let entry = &answer["entries"][0];
    assert_eq!((&entry["kind"], &entry["what"]), (&"connection".into(), &"garbled".into()));
    assert!(witness.explain("garbled")["summary"].as_str().unwrap().contains("counted 1 since"));
    witness.site.close();
}

#[test]
fn the_catalogue_is_complete_and_wrong_subjects_are_refused() {
    let witness = Witness::open(133);
    let (status, reasons) = witness.ask("/v1/reasons");
    assert_eq!(status, 200);
    assert_eq!(reasons.as_array().unwrap().len(), relay::reasons().count());
    let first = &reasons[0];
    assert_eq!((&first["id"], &first["code"]), (&"no_integrity".into(), &401.into()));
    for (case, query) in [
        ("nothing", ""),
        ("no subject", "?subject="),
        ("no such thing", "?subject=relay.example.org"),
        ("a word more", "?subject=wrong_password&all=1"),
    ] {
        let (status, problem) = witness.ask(&format!("/v1/explain{query}"));
        assert_eq!((status, &problem["status"]), (400, &400.into()), "{case}: {problem}");
    }
    let (status, over) = witness.ask("/v1/explain?subject=7-1-1");
    assert_eq!((status, &over["found"]), (200, &Value::Bool(false)), "{over}");
    witness.site.close();
}
