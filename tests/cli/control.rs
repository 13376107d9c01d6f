//! Control of a relay through its unix socket, as operators of its host have it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use client::AllocateOptions;

use crate::harness::{Run, Running, set_mode};
use crate::relay::{PASSWORD, Site, page};

/// Debian's user without rights, and its group's name.
const NOBODY: u32 = 65_534;
const NOGROUP: &str = "nogroup";

/// A relay with a socket.
fn site(more: &str) -> (Site, PathBuf) {
    let site = Site::new(&format!("[control]\npath = \"control.sock\"\n{more}"));
    let socket = site.directory.path("control.sock");
    (site, socket)
}

fn started(site: &Site) -> Running {
    let mut relay = site.start();
    relay.wait_for("ready");
    relay
}

/// `av-edge control`.
fn control(socket: &Path, words: &[&str]) -> Run {
    let socket = socket.to_str().expect("a path in UTF-8");
    Run::of(&[&["control", "--socket", socket][..], words].concat())
}

/// What it prints when all is well.
fn told(socket: &Path, words: &[&str]) -> String {
    let run = control(socket, words);
    assert_eq!(run.status, 0, "{words:?}: {}", run.err);
    run.out
}

/// What it says when it is refused.
fn refused(socket: &Path, words: &[&str]) -> String {
    let run = control(socket, words);
    assert_eq!((run.status, run.out.as_str()), (1, ""), "{words:?}: {}", run.err);
    run.err
}

/// What comes back for these bytes.
fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("a relay listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    // It may be refused before all is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).expect("HTTP is text")
}

fn request(line: &str, more: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n").into_bytes()
}

#[test]
fn an_operator_looks_at_a_confined_relay_and_ends_an_allocation() {
    let (site, socket) = site("");
    let _relay = started(&site);
    assert_eq!(fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o600);
    let metrics = page(&site.metrics, "/metrics");
    for measure in ["unprivileged", "no_capabilities", "seccomp", "landlock"] {
        let line = format!("av_edge_relay_hardening{{measure=\"{measure}\"}} 1");
        assert!(metrics.contains(&line), "{line}");
    }
    let (mut alice, mut bob) = (site.call("alice"), site.call("bob"));
    alice.exchange();
    bob.exchange();
    let status = told(&socket, &["status"]);
    for words in ["version      ", "state        serving", "workers      2", "allocations  2"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    let json = told(&socket, &["status", "--json"]);
    assert!(json.contains("\"draining\":false") && json.contains("\"uptime_s\":"), "{json}");

    let list = told(&socket, &["allocations"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    let own = alice.client.local_addr().expect("it is bound").to_string();
    let line = list.lines().find(|line| line.contains(&own)).expect("alice's allocation");
    let id = line.split_whitespace().next().expect("an id").to_owned();
    assert!(line.contains("5 B"), "{line}");
    let rows = told(&socket, &["allocations", "--json"]);
    assert_eq!(rows.lines().count(), 2, "{rows}");
    for name in ["id", "user", "client", "relayed", "expires_in_s", "bytes_to_peer"] {
        assert!(rows.lines().all(|row| row.contains(&format!("\"{name}\":"))), "{name}: {rows}");
    }
    assert!(!rows.contains("alice") && !list.contains("alice"), "users are hashes");
    assert_eq!(told(&socket, &["allocations", "--limit", "1", "--json"]).lines().count(), 1);

    assert_eq!(told(&socket, &["end", &id]), "ended\n");
    let refresh = alice.client.refresh(Duration::from_secs(600));
    assert_eq!(refresh.expect_err("it is over").code(), Some(437));
    bob.exchange();
    assert!(refused(&socket, &["end", &id]).contains("it is over"));
    assert!(refused(&socket, &["end", "9-0-0"]).contains("it is over"), "a worker that is none");
    let metrics = page(&site.metrics, "/metrics");
    let ended = |line: &&str| {
        line.starts_with("av_edge_relay_allocations_closed_total") && line.contains("\"ended\"")
    };
    let ended: u32 = metrics
        .lines()
        .filter(ended)
        .map(|line| line.rsplit(' ').next().and_then(|it| it.parse::<u32>().ok()).expect("a count"))
        .sum();
    assert_eq!(ended, 1);
}

#[test]
fn pages_show_every_allocation_once() {
    let (site, socket) =
        site("[limits]\nallocations_per_user = 100\nallocations_per_client = 100\n");
    let _relay = started(&site);
    let clients: Vec<_> = (0..25)
        .map(|_| {
            let mut client = site.client("alice", PASSWORD);
            client.allocate(&AllocateOptions::default()).expect("an allocation");
            client
        })
        .collect();
    let (mut seen, mut behind) = (Vec::new(), String::new());
    loop {
        let line = format!("GET /v1/allocations?limit=7{behind}");
        let answer = raw(&socket, &request(&line, ""));
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        let page: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let rows = page["allocations"].as_array().expect("a list");
        assert!(rows.len() <= 7);
        seen.extend(rows.iter().map(|row| row["client"].as_str().expect("an address").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        behind = format!("&behind={next}");
    }
    let mut expected: Vec<_> =
        clients.iter().map(|it| it.local_addr().expect("it is bound").to_string()).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn an_operator_reloads_and_drains() {
    let (site, socket) = site("");
    let mut relay = started(&site);
    let mut call = site.call("alice");
    site.rewrite("workers = 2", "workers = 3");
    let told_of = told(&socket, &["reload"]);
    assert!(told_of.contains("wait for a restart: workers"), "{told_of}");
    site.rewrite("[peers]", "[piers]");
    let error = refused(&socket, &["reload"]);
    assert!(error.contains("piers: there is no such key"), "{error}");
    assert!(error.contains("What is in force stays"), "{error}");
    call.exchange();
    assert!(told(&socket, &["drain"]).contains("30 s"));
    relay.wait_for("draining");
    assert!(told(&socket, &["status"]).contains("draining"));
    let newcomer = site.client("bob", PASSWORD).allocate(&AllocateOptions::default());
    assert!(newcomer.expect_err("it drains").code().is_some());
    call.exchange();
    call.client.release().expect("it ends");
    assert_eq!(relay.end(), Some(0), "with the last allocation");
    let gone = refused(&socket, &["status"]);
    assert!(gone.contains("has ended"), "{gone}");
}

#[test]
fn whom_the_mode_does_not_let_in_is_refused() {
    let ask = |site: &Site, socket: &Path| {
        let binary = site.directory.path("av-edge");
        fs::copy(env!("CARGO_BIN_EXE_av-edge"), &binary).expect("the binary is built");
        set_mode(&binary, 0o755);
        set_mode(socket.parent().expect("a folder"), 0o755);
        let mut command = Command::new(binary);
        command.uid(NOBODY).gid(NOBODY).args(["control", "status", "--socket"]).arg(socket);
        command.output().expect("it runs")
    };
    let (closed, socket) = site("");
    let _relay = started(&closed);
    let output = ask(&closed, &socket);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("its mode does not let this user in"), "{said}");

    let (open, socket) = site(&format!("mode = \"0660\"\ngroup = \"{NOGROUP}\"\n"));
    let _relay = started(&open);
    let output = ask(&open, &socket);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_no_good_request_is_refused_and_the_relay_serves_on() {
    let (site, socket) = site("");
    let _relay = started(&site);
    let mut call = site.call("alice");
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    let body = "content-length: 5000\r\n";
    for (case, bytes, status) in [
        ("no such path", request("GET /v1/secrets", ""), 404),
        ("no such method", request("PUT /v1/state", ""), 405),
        ("no id", request("DELETE /v1/allocations/..", ""), 400),
        ("an empty page", request("GET /v1/allocations?limit=0", ""), 400),
        ("a long page", request("GET /v1/allocations?limit=1001", ""), 400),
        ("no number", request("GET /v1/allocations?limit=x", ""), 400),
        ("a word nobody knows", request("GET /v1/allocations?all=1", ""), 400),
        ("behind nothing", request("GET /v1/allocations?behind=x", ""), 400),
        ("a body", request("POST /v1/drain", body), 413),
        ("a chunked body", request("POST /v1/drain", "transfer-encoding: chunked\r\n"), 413),
        ("a long head", request("GET /v1/state", &long), 431),
        ("no HTTP", b"\x16\x03\x01 hello\r\n\r\n".to_vec(), 400),
    ] {
        let answer = raw(&socket, &bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {answer}");
        assert!(answer.contains("application/problem+json"), "{case}: {answer}");
        assert!(answer.contains("\"detail\":"), "{case}: {answer}");
    }
    // Who says nothing holds no place.
    let _idle: Vec<_> = (0..64).map(|_| UnixStream::connect(&socket)).collect();
    assert!(told(&socket, &["status"]).contains("serving"), "nothing was drained");
    call.exchange();
}

#[test]
fn a_crash_leaves_nothing_in_the_way_and_a_second_relay_is_refused() {
    let (site, socket) = site("");
    let relay = started(&site);
    relay.signal("KILL");
    assert_eq!(relay.end(), None, "a signal ended it");
    assert!(socket.exists(), "what the crash left");
    assert!(refused(&socket, &["status"]).contains("has ended"));
    let _relay = started(&site);
    told(&socket, &["status"]);

    let (other, _) = self::site("");
    other.rewrite("\"control.sock\"", &format!("{:?}", socket.to_str().expect("UTF-8")));
    let second = Run::of(&["relay".as_ref(), "--config".as_ref(), other.config.as_os_str()]);
    assert_eq!(second.status, 2, "{}", second.err);
    let message = second.err.lines().last().expect("a message");
    assert!(message.contains("control.path = ") && message.contains("another process answers"));
    told(&socket, &["status"]);

    other.rewrite("control.sock", "no-socket");
    let precious = socket.with_file_name("no-socket");
    fs::write(&precious, "precious").expect("a writable folder");
    let third = Run::of(&["relay".as_ref(), "--config".as_ref(), other.config.as_os_str()]);
    assert!(third.err.contains("no socket. Take it away"), "{}", third.err);
    assert_eq!(fs::read(&precious).expect("it is there"), b"precious");
}
