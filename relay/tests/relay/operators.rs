//! The door of operators: who comes in, and that nobody can hold it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::site::Site;

/// The status line and the rest of an answer.
fn ask(metrics: SocketAddr, path: &str, headers: &str) -> (String, String) {
    let mut stream = TcpStream::connect(metrics).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (status, rest) = answer.split_once("\r\n").unwrap();
    (status.to_owned(), rest.to_owned())
}

#[test]
fn pages_of_other_names_learn_nothing() {
    let site = Site::open(91, 1);
    for path in ["/metrics", "/healthz", "/readyz"] {
        for host in ["Host: localhost:9641\r\n", "Host: 127.0.0.1\r\n", "Host: [::1]:9641\r\n"] {
            assert!(ask(site.metrics, path, host).0.contains(" 200 "), "{path} {host}");
        }
        for host in ["Host: rebound.example.com\r\n", "Host: rebound.example.com:9641\r\n"] {
            let (status, rest) = ask(site.metrics, path, host);
            assert!(
                status.contains(" 421 ") && !rest.contains("av_edge"),
                "{path} {host} {status}"
            );
        }
    }
    site.close();
}

#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    fs::write(&file, "0123456789abcdef0123\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let keys = format!("[metrics]\ntoken_file = {file:?}\nhosts = [\"relay.test\"]");
    let site = Site::open_altered(92, 1, "[metrics]", &keys);
    for (case, headers, status) in [
        ("right", "Host: 127.0.0.1\r\nAuthorization: Bearer 0123456789abcdef0123\r\n", " 200 "),
        (
            "by name",
            "Host: relay.test:1\r\nAuthorization: Bearer 0123456789abcdef0123\r\n",
            " 200 ",
        ),
        ("wrong", "Host: 127.0.0.1\r\nAuthorization: Bearer 0123456789abcdef0124\r\n", " 401 "),
        ("none", "Host: 127.0.0.1\r\n", " 401 "),
    ] {
        let (found, rest) = ask(site.metrics, "/metrics", headers);
        assert!(found.contains(status), "{case}: {found}");
        assert_eq!(rest.contains("av_edge"), status == " 200 ", "{case}");
    }
    assert!(ask(site.metrics, "/readyz", "Host: 127.0.0.1\r\n").0.contains(" 200 "));
    site.close();
}

#[test]
fn visitors_that_idle_or_drip_or_do_not_read_cost_others_nothing() {
    let site = Site::open(93, 1);
    let mut held = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(site.metrics).unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /metrics HT").unwrap(),
            _ => {
                // Many answers, none of which is read. The door may have closed on it already.
                let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
                drop(stream.write_all(&request));
            }
        }
        held.push(stream);
    }
    for _ in 0..3 {
        let (status, rest) = ask(site.metrics, "/metrics", "Host: localhost\r\n");
        assert!(status.contains(" 200 ") && rest.contains("av_edge_relay_build_info"), "{status}");
    }
    site.client().binding().unwrap();
    drop(held);
    site.close();
}
