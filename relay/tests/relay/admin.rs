//! The admin endpoint: who may read there, and who may change something.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use client::{AllocateOptions, TurnClient};
use relay::{Config, Relay};
use serde_json::Value;
use tempfile::TempDir;

use crate::site::{PEER, client_of, configuration};

pub(crate) const TOKEN: &str = "0123456789abcdef0123";

/// A relay with an admin endpoint, from files.
pub(crate) struct Office {
    pub(crate) relay: Relay,
    pub(crate) server: SocketAddr,
    admin: SocketAddr,
    home: TempDir,
}

impl Office {
    pub(crate) fn open(number: u16, address: &str, keys: &str) -> Self {
        Self::try_open(number, address, keys).unwrap()
    }

    fn try_open(number: u16, address: &str, keys: &str) -> Result<Self, String> {
        let home = tempfile::tempdir().unwrap();
        write_token(&home, TOKEN);
        let text = configuration(number, 2, "");
        let file = home.path().join("relay.toml");
        fs::write(&file, format!("{text}\n[admin]\naddress = \"{address}\"\n{keys}")).unwrap();
        let config = Config::from_file(&file).map_err(|error| error.to_string())?;
        let admin: SocketAddr = address.parse().unwrap();
        let server = SocketAddr::from(([127, 0, 0, 1], 21_000 + number));
        Ok(Self { relay: relay::start(config).unwrap(), server, admin, home })
    }

    /// The status of an answer, its head, and its body.
    pub(crate) fn ask(&self, line: &str, headers: &str) -> (u16, String, String) {
        let port = self.admin.port();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        write!(stream, "{line} HTTP/1.1\r\nConnection: close\r\n{host}{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    fn status(&self, line: &str, headers: &str) -> u16 {
        self.ask(line, headers).0
    }

    /// The id of the only allocation.
    fn only(&self) -> String {
        let (status, _, body) = self.ask("GET /v1/allocations", &bearer(TOKEN));
        assert_eq!(status, 200, "{body}");
        let page: Value = serde_json::from_str(&body).unwrap();
        page["allocations"][0]["id"].as_str().unwrap().to_owned()
    }

    fn client(&self) -> TurnClient {
        let mut client = client_of(self.server, "alice");
        client.allocate(&AllocateOptions::default()).unwrap();
        client
    }

    pub(crate) fn close(self) {
        self.relay.stop();
        self.relay.wait().unwrap();
    }
}

fn write_token(home: &TempDir, token: &str) {
    let path = home.path().join("token");
    fs::write(&path, token).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn reading_is_free_on_loopback_and_changing_wants_the_token() {
    let office = Office::open(61, "127.0.0.1:22061", "token_file = \"token\"");
    let mut client = office.client();
    let (status, _, state) = office.ask("GET /v1/state", "");
    assert!(status == 200 && state.contains("\"allocations\":1"), "{status} {state}");
    let id = office.only();
    let end = format!("DELETE /v1/allocations/{id}");
    for (case, line, headers, expected) in [
        ("no token", &*end, String::new(), 401),
        ("a wrong one", &*end, bearer("0123456789abcdef0124"), 401),
        ("no token", "POST /v1/drain", String::new(), 401),
        ("no token", "POST /v1/reload", String::new(), 401),
        ("reading with a wrong one", "GET /v1/state", bearer("x"), 200),
        ("no such resource", "GET /v1/secrets", String::new(), 404),
        ("a long page", "GET /v1/allocations?limit=1001", String::new(), 400),
        ("a name of somebody else", "GET /v1/state", "Host: rebound.example\r\n".to_owned(), 421),
    ] {
        let (status, head, body) = office.ask(line, &headers);
        assert_eq!(status, expected, "{case}: {line}: {body}");
        let problem = head.to_lowercase().contains("application/problem+json");
        assert_eq!(problem, expected != 200, "{case}: {head}");
        let asks = head.to_lowercase().contains("www-authenticate: bearer");
        assert_eq!(asks, expected == 401, "{case}: {head}");
    }
    client.refresh(Duration::from_secs(600)).unwrap();
    assert_eq!(office.status(&end, &bearer(TOKEN)), 204);
    let over = client.refresh(Duration::from_secs(600));
    assert_eq!(over.unwrap_err().code(), Some(437), "it was ended");
    office.close();
}

#[test]
fn without_a_token_nothing_can_be_changed() {
    let office = Office::open(62, "127.0.0.1:22062", "");
    let mut client = office.client();
    let end = format!("DELETE /v1/allocations/{}", office.only());
    for line in [&*end, "POST /v1/drain", "POST /v1/reload"] {
        for headers in [String::new(), bearer(TOKEN)] {
            let (status, _, body) = office.ask(line, &headers);
            assert!(status == 403 && body.contains("admin.token_file"), "{line}: {status} {body}");
        }
    }
    client.refresh(Duration::from_secs(600)).unwrap();
    assert!(!office.relay.observer().is_draining());
    office.close();
}

#[test]
fn off_loopback_reading_wants_the_token_too() {
    let refused = Office::try_open(63, "0.0.0.0:22063", "").err().unwrap();
    assert!(refused.contains("admin.address") && refused.contains("admin.token_file"), "{refused}");
    let office = Office::open(63, "0.0.0.0:22063", "token_file = \"token\"");
    let _client = office.client();
    for (headers, expected) in [(String::new(), 401), (bearer("x"), 401), (bearer(TOKEN), 200)] {
        let (status, _, body) = office.ask("GET /v1/allocations", &headers);
        assert_eq!(status, expected, "{headers}");
        assert_eq!(body.contains("\"client\""), expected == 200, "{headers} {body}");
    }
    office.close();
}

#[test]
fn another_token_is_in_force_when_the_configuration_was_read_again() {
    let office = Office::open(64, "127.0.0.1:22064", "token_file = \"token\"");
    let other = "fedcba9876543210fedc";
    write_token(&office.home, other);
    assert_eq!(office.status("POST /v1/reload", &bearer(other)), 401, "not yet");
    assert_eq!(office.status("POST /v1/reload", &bearer(TOKEN)), 200);
    assert_eq!(office.status("POST /v1/reload", &bearer(TOKEN)), 401);
    assert_eq!(office.status("POST /v1/reload", &bearer(other)), 200);
    office.close();
}

#[test]
fn a_file_that_moves_the_door_to_loopback_does_not_open_the_old_one() {
    let office = Office::open(65, "0.0.0.0:22065", "token_file = \"token\"");
    let file = office.home.path().join("relay.toml");
    let text = fs::read_to_string(&file).unwrap();
    let moved = text.replace("0.0.0.0:22065", "127.0.0.1:22065");
    fs::write(&file, moved.replace("token_file = \"token\"", "")).unwrap();
    let (status, _, body) = office.ask("POST /v1/reload", &bearer(TOKEN));
    assert!(status == 200 && body.contains("admin.address"), "{status} {body}");
    assert_eq!(office.status("GET /v1/state", ""), 401);
    assert_eq!(office.status("GET /v1/state", &bearer(TOKEN)), 200);
    office.close();
}

#[test]
fn no_peer_is_reached_at_the_door() {
    let office = Office::open(66, &format!("{PEER}:22066"), "token_file = \"token\"");
    let mut client = office.client();
    client.bind_channel(SocketAddr::new(PEER, 22_067)).unwrap();
    let refused = client.bind_channel(SocketAddr::new(PEER, 22_066)).unwrap_err();
    assert_eq!(refused.code(), Some(403));
    office.close();
}

#[test]
fn what_is_no_good_request_is_refused_in_words() {
    let office = Office::open(68, "127.0.0.1:22068", "token_file = \"token\"");
    let body = format!("{}Content-Length: 5000\r\n", bearer(TOKEN));
    let chunked = format!("{}Transfer-Encoding: chunked\r\n", bearer(TOKEN));
    let long = format!("X: {}\r\n", "y".repeat(20_000));
    for (line, headers, expected) in [
        ("POST /v1/drain", &*body, 413),
        ("POST /v1/drain", &chunked, 413),
        ("GET /v1/overview", "Content-Length: 5000\r\n", 413),
        ("PUT /v1/state", &bearer(TOKEN), 405),
        ("DELETE /v1/allocations/..", &bearer(TOKEN), 400),
        ("DELETE /v1/allocations/%00", &bearer(TOKEN), 400),
        ("GET /v1/allocations?limit=9999999999999999999999", "", 400),
        ("GET /v1/explain?subject=%ff%fe", "", 400),
        ("GET /v1/state", &long, 431),
    ] {
        let (status, head, answer) = office.ask(line, headers);
        assert_eq!(status, expected, "{line}: {answer}");
        let problem = head.to_lowercase().contains("application/problem+json");
        assert!(problem, "{line}: {head}");
    }
    assert!(!office.relay.observer().is_draining(), "nothing was done");
    office.close();
}

#[test]
fn browsers_that_idle_or_drip_or_do_not_read_cost_calls_and_others_nothing() {
    let office = Office::open(69, "127.0.0.1:22069", "");
    let mut client = office.client();
    let mut held = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(office.admin).unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /v1/over").unwrap(),
            _ => {
                // Many answers, none of which is read. The door may have closed on it already.
                let request = b"GET /overview.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
                drop(stream.write_all(&request));
            }
        }
        held.push(stream);
    }
    for _ in 0..3 {
        let (status, _, body) = office.ask("GET /v1/overview", "");
        assert!(status == 200 && body.contains("\"allocations\":1,"), "{status} {body}");
    }
    client.refresh(Duration::from_secs(600)).unwrap();
    drop(held);
    office.close();
}

#[test]
fn an_address_that_somebody_else_has_is_refused() {
    for (address, word) in [
        ("127.0.0.1:21067", "clients are served"),
        ("127.0.0.1:21167", "metrics are served"),
        ("127.0.0.1:0", "9643"),
    ] {
        let refused = Office::try_open(67, address, "").err().unwrap();
        assert!(refused.contains("admin.address") && refused.contains(word), "{refused}");
    }
}
