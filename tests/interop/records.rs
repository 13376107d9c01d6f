//! Usage records of a confined relay in a real Redis, at a receiver found by name and as spans, while they,
//! and the relay, come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use client::Event;
use serde_json::Value;
use tempfile::TempDir;

use crate::edge::{Home, METRICS, RelayFile, http_get, start_relay};
use crate::line::Line;
use crate::netns::{Namespace, must};
use crate::process::Process;
use crate::site::Site;
use rig::clock;

/// How long what waits may take to arrive: pauses between attempts are up to 30 s.
const SOON: Duration = Duration::from_secs(60);
/// The words of each call, there and back.
const WORDS: u64 = 500;
/// Their length.
const WORD: u64 = 900;
/// What is not payload in a frame of a peer: Ethernet, IPv4, UDP.
const HEADERS: u64 = 14 + 20 + 8;
/// Other frames there may be meanwhile: ARP, neighbours of IPv6.
const NOISE: u64 = 4_000;
/// Whom a relay of root becomes here.
const NOBODY: u32 = 65_534;

/// A Redis whose data outlives it.
fn start_redis(machine: &Namespace, folder: &Path) -> Process {
    let mut redis = Process::start(
        machine
            .command("redis-server")
            .args(["--bind", "127.0.0.1", "--requirepass", "swordfish", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(folder),
    );
    redis.until(SOON, "Redis", |it| {
        it.output().contains("Ready to accept connections").then_some(())
    });
    redis
}

/// What is in the stream.
fn stream(machine: &Namespace) -> Vec<String> {
    let output = must(machine.command("redis-cli").args([
        "--no-auth-warning",
        "-a",
        "swordfish",
        "XRANGE",
        "av-edge:records",
        "-",
        "+",
    ]));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect()
}

/// Takes what is sent to a port of a machine.
fn receive(machine: &Namespace, port: u16) -> Arc<Mutex<Vec<String>>> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let listener = machine.enter(|| TcpListener::bind(("127.0.0.1", port))).expect("a port");
    let lines = Arc::clone(&taken);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            while let Some(body) = request(&mut stream) {
                lines.lock().expect("no panic").extend(body.lines().map(str::to_owned));
                let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                stream.get_mut().write_all(answer).expect("it listens");
            }
        }
    });
    taken
}

/// The body of the next request.
fn request(from: &mut impl BufRead) -> Option<String> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        match from.read_line(&mut line).ok()? {
            0 => return None,
            // An empty one ends the headers.
            2 => break,
            _ => {}
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

/// Bytes an interface of a machine sent and received.
fn interface(machine: &Namespace, name: &str) -> [u64; 2] {
    let output = must(machine.command("ip").args(["-s", "-j", "link", "show", "dev", name]));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    ["tx", "rx"].map(|way| value[0]["stats64"][way]["bytes"].as_u64().expect("a number"))
}

/// A call of many words.
fn call(site: &Site, home: &Home) -> Line {
    let mut line = Line::open(site, home);
    let word = vec![b'w'; usize::try_from(WORD).expect("it is short")];
    let mut bytes = [0; 2_048];
    for _ in 0..WORDS {
        line.client.send_channel(line.channel, &word).expect("it is sent");
        let (length, relayed) = line.peer.recv_from(&mut bytes).expect("it reaches the peer");
        line.peer.send_to(&bytes[..length], relayed).expect("it is sent");
        let back = line.client.recv(Duration::from_secs(5)).expect("the socket works");
        assert!(matches!(back, Some(Event::Data { payload, .. }) if payload == word));
    }
    line
}

/// The relay's own word for what was relayed, by direction: packets and bytes.
fn counted(site: &Site) -> [u64; 4] {
    let page = site.relay.enter(|| http_get(&format!("http://{METRICS}/metrics")));
    let page = page.expect("metrics");
    let sum = |name: &str, direction: &str| {
        let rows = page.lines().filter(|row| row.starts_with(name) && row.contains(direction));
        rows.filter_map(|row| row.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    let (packets, bytes) =
        ("av_edge_relay_relayed_packets_total{", "av_edge_relay_relayed_bytes_total{");
    [
        sum(packets, "to_peer"),
        sum(bytes, "to_peer"),
        sum(packets, "to_client"),
        sum(bytes, "to_client"),
    ]
}

/// The same, as the last records of all allocations have it.
fn told(lines: &BTreeSet<String>) -> [u64; 4] {
    let mut sum = [0; 4];
    for line in lines {
        let record: Value = serde_json::from_str(line).expect("JSON");
        if record["record"] == "stop" {
            let ways =
                ["/to_peer/packets", "/to_peer/bytes", "/to_client/packets", "/to_client/bytes"];
            for (sum, way) in sum.iter_mut().zip(ways) {
                *sum += record.pointer(way).and_then(Value::as_u64).expect("a number");
            }
        }
    }
    sum
}

/// The ids of spans, and the bytes that each had to its peer.
fn spans(traces: &[String]) -> BTreeMap<String, u64> {
    let spans = traces.iter().flat_map(|text| {
        let traces: Value = serde_json::from_str(text).expect("JSON");
        let spans = &traces["resourceSpans"][0]["scopeSpans"][0]["spans"];
        spans.as_array().expect("spans").clone()
    });
    let told = |span: Value| {
        let attributes = span["attributes"].as_array().expect("attributes");
        let bytes = attributes.iter().find(|it| it["key"] == "av_edge.to_peer.bytes");
        let bytes = bytes.and_then(|it| it["value"]["intValue"].as_str()?.parse().ok());
        (span["spanId"].to_string(), bytes.expect("a number"))
    };
    spans.map(told).collect()
}

#[test]
fn records_reach_redis_and_a_receiver_by_name_whatever_restarts_and_add_up() {
    let site = Site::new();
    let home = Home::with_pool_key();
    home.write("password", "swordfish\n");
    // The relay becomes somebody who cannot enter its home.
    let spool = TempDir::new().expect("a temporary directory");
    let data = TempDir::new().expect("a temporary directory");
    fs::set_permissions(spool.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
    chown(spool.path(), Some(NOBODY), Some(NOBODY)).expect("we are root");
    let place = spool.path().display();
    let file = RelayFile {
        tables: format!(
            "[hardening]\nuser = \"nobody\"\n\
             [records]\nnode = \"edge-1\"\ninterim_s = 1\nspool = \"{place}\"\n\
             file = \"{place}/all.jsonl\"\n\
             http = {{ url = \"http://localhost:8080/in\" }}\n\
             otlp = {{ url = \"http://127.0.0.1:4318/v1/traces\" }}\n\
             redis = {{ address = \"127.0.0.1:6379\", stream = \"av-edge:records\", \
             password_file = \"password\" }}\n"
        ),
        ..RelayFile::default()
    };
    let mut relay = start_relay(&site, &home, &file);
    let before = interface(&site.relay, "external");
    // Nobody is there to take them.
    let mut first = call(&site, &home);
    let mut redis = start_redis(&site.relay, data.path());
    let taken = receive(&site.relay, 8_080);
    let traces = receive(&site.relay, 4_318);
    clock::await_some(SOON, "records in Redis", || (!stream(&site.relay).is_empty()).then_some(()));
    redis.kill();
    let mut second = call(&site, &home);
    first.client.release().expect("the allocation ends");
    second.client.release().expect("the allocation ends");
    let of_first_life = counted(&site);
    let after = interface(&site.relay, "external");
    relay.terminate();
    assert!(relay.wait(SOON).success(), "{}", relay.output());
    assert!(relay.output().contains("landlock") && relay.output().contains("seccomp"));

    let _redis = start_redis(&site.relay, data.path());
    let mut relay = start_relay(&site, &home, &file);
    let mut third = call(&site, &home);
    third.client.release().expect("the allocation ends");
    let of_second_life = counted(&site);

    let all: Vec<u64> = of_first_life.iter().zip(of_second_life).map(|(a, b)| a + b).collect();
    let words = 3 * WORDS;
    assert_eq!(all, [words, words * WORD, words, words * WORD]);
    for (which, look) in [
        ("Redis", &(|| stream(&site.relay)) as &dyn Fn() -> Vec<String>),
        ("the receiver", &|| taken.lock().expect("no panic").clone()),
    ] {
        let unique = || look().into_iter().collect::<BTreeSet<_>>();
        clock::await_some(SOON, which, || (told(&unique()) == *all).then_some(()));
    }
    let spans = || spans(&traces.lock().expect("no panic"));
    clock::await_some(SOON, "spans", || (spans().len() == 3).then_some(()));
    assert_eq!(spans().values().sum::<u64>(), all[1], "as spans have it");
    relay.terminate();
    assert!(relay.wait(SOON).success(), "{}", relay.output());

    let written = fs::read_to_string(spool.path().join("all.jsonl")).expect("a file");
    let written: Vec<_> = written.lines().map(str::to_owned).collect();
    for (which, lines) in
        [("Redis", stream(&site.relay)), ("the receiver", taken.lock().expect("no panic").clone())]
    {
        let mut seen = BTreeSet::new();
        let first: Vec<_> = lines.into_iter().filter(|line| seen.insert(line.clone())).collect();
        assert_eq!(first, written, "{which}: each, in order");
    }
    // The wire agrees: what crossed the cable to the peer is payload and headers.
    for (way, index) in [("to the peer", 0), ("from the peer", 1)] {
        let frames = 2 * WORDS;
        let payload = after[index] - before[index] - frames * HEADERS;
        let recorded = of_first_life[2 * index + 1];
        assert!(
            (recorded..recorded + NOISE).contains(&payload),
            "{way}: {payload} on the wire, {recorded} in records"
        );
    }
}
