//! Usage records, and the receivers that take them, or do not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use client::{AllocateOptions, Credentials, TurnClient};
use proto::auth::{Grant, KeyRing, mint};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::peers::pool_key;
use crate::site::{SOON, Site, configuration, move_to_own_network, peer, soon_to_expire};

/// A relay that keeps records.
fn open(number: u16, keys: &str) -> Site {
    Site::open_altered(number, 2, "[metrics]", &format!("[records]\n{keys}\n[metrics]"))
}

fn allocated(site: &Site) -> TurnClient {
    let mut client = site.client();
    client.allocate(&AllocateOptions::default()).unwrap();
    client
}

/// Sends so many datagrams of so many bytes to a peer and back, over a channel.
fn talk(client: &mut TurnClient, datagrams: usize, bytes: usize) {
    let peer = peer();
    let channel = client.bind_channel(peer.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 2_048];
    for _ in 0..datagrams {
        client.send_channel(channel, &vec![7; bytes]).unwrap();
        let (got, relayed) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!(got, bytes);
        peer.send_to(&buffer[..got], relayed).unwrap();
        assert!(client.recv(SOON).unwrap().is_some());
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Looks until something holds.
#[expect(clippy::disallowed_methods, reason = "a test waits for another thread")]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_sum_of_records_is_what_metrics_count() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    let site = open(94, &format!("file = {file:?}\nnode = \"here\""));
    let mut clients: Vec<_> = (0..3).map(|_| allocated(&site)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        talk(client, 10 * (number + 1), 100 + number);
    }
    for mut client in clients.drain(..2) {
        client.release().unwrap();
    }
    let counted = |direction: &str, unit: &str| {
        let label = format!("direction=\"{direction}\"");
        site.metric(&format!("av_edge_relay_relayed_{unit}_total"), &[&label])
    };
    let wanted: Vec<u64> = ["to_peer", "to_client"]
        .iter()
        .flat_map(|direction| ["packets", "bytes"].map(|unit| counted(direction, unit)))
        .collect();
    assert_eq!(wanted, [60, 6_080, 60, 6_080]);
    site.close();

    let records = lines(&file);
    let stops: Vec<_> = records.iter().filter(|it| it["record"] == "stop").collect();
    let sum = |direction: &str, unit: &str| {
        stops.iter().map(|it| it[direction][unit].as_u64().unwrap()).sum::<u64>()
    };
    let told: Vec<u64> = ["to_peer", "to_client"]
        .iter()
        .flat_map(|direction| ["packets", "bytes"].map(|unit| sum(direction, unit)))
        .collect();
    assert_eq!(told, wanted);
    let causes: Vec<_> = stops.iter().map(|it| it["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["released", "released", "shut_down"]);
    let ids: BTreeSet<_> = records.iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!((records.len(), ids.len()), (6, 3));
    for record in &records {
        let said = record.to_string();
        assert_eq!(record["node"], "here");
        assert!(!said.contains("alice") && said.contains("127.0.0.1"), "{said}");
    }
}

#[test]
fn an_allocation_that_goes_on_is_told_of_now_and_then() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    let site = open(95, &format!("file = {file:?}\ninterim_s = 1"));
    let mut client = allocated(&site);
    talk(&mut client, 4, 50);
    let interims = || lines(&file).into_iter().filter(|it| it["record"] == "interim").collect();
    until("two records in between", || Vec::len(&interims()) >= 2);
    let interims: Vec<Value> = interims();
    for (number, record) in interims.iter().enumerate() {
        assert_eq!(record["sequence"], number + 1);
        let sum = (&record["to_peer"]["bytes"], &record["to_client"]["packets"]);
        assert_eq!(sum, (&200.into(), &4.into()));
        assert!(record["duration_ms"].as_u64() >= Some(1_000 * (number as u64 + 1)), "{record}");
    }
    client.release().unwrap();
    until("the last record", || lines(&file).last().is_some_and(|it| it["record"] == "stop"));
    site.close();
}

/// What a receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// It takes what comes.
    Takes,
    /// It takes it and dies before it says so.
    Forgets,
    /// It answers 503.
    Refuses,
    /// It answers 400.
    Spurns,
    /// It says nothing for long.
    Sleeps,
}

/// A receiver over HTTP.
#[derive(Clone)]
struct Receiver(Arc<Mutex<State>>);

struct State {
    mood: Mood,
    /// What stands above what is taken, in small letters.
    heads: Vec<String>,
    taken: Vec<String>,
    visits: usize,
}

impl Receiver {
    /// One that nobody can reach yet.
    fn new() -> Self {
        let (heads, taken) = (Vec::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { mood: Mood::Takes, heads, taken, visits: 0 })))
    }

    /// Opens its door, over TLS or not.
    fn open(&self, port: u16, tls: Option<Arc<ServerConfig>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let receiver = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (receiver, stream, tls) = (receiver.clone(), stream.unwrap(), tls.clone());
                thread::spawn(move || match tls {
                    None => receiver.serve(stream),
                    Some(tls) => {
                        let session = ServerConnection::new(tls).unwrap();
                        receiver.serve(StreamOwned::new(session, stream));
                    }
                });
            }
        });
    }

    /// Serves requests until the connection is over.
    fn serve(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        while let Some((head, body)) = request(&mut stream) {
            let mut state = self.0.lock().unwrap();
            state.visits += 1;
            let mood = state.mood;
            if matches!(mood, Mood::Takes | Mood::Forgets) {
                state.heads.push(head);
                state.taken.extend(body.lines().map(str::to_owned));
            }
            drop(state);
            let answer = match mood {
                Mood::Takes => "204 No Content",
                Mood::Refuses => "503 Service Unavailable\r\nContent-Length: 0",
                Mood::Spurns => "400 Bad Request\r\nContent-Length: 0",
                Mood::Forgets => return,
                // Until the relay has had enough.
                Mood::Sleeps => return drop(stream.read(&mut [0])),
            };
            let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn feels(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    /// Waits until it has been asked so often again.
    fn is_asked(&self, times: usize) {
        let visits = || self.0.lock().unwrap().visits;
        let before = visits();
        until("the receiver to be asked", || visits() >= before + times);
    }

    fn taken(&self) -> Vec<String> {
        self.0.lock().unwrap().taken.clone()
    }
}

/// Head and body of the next request, which shows the token; `None` when the connection is over.
fn request(from: &mut impl BufRead) -> Option<(String, String)> {
    let (mut head, mut line, mut length) = (String::new(), String::new(), 0);
    loop {
        match from.read_line(&mut line).ok()? {
            0 => return None,
            // An empty one ends the headers.
            2 => break,
            _ => {}
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&lower);
        line.clear();
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    assert!(head.contains("authorization: bearer open-sesame\r\n"), "the token is shown");
    Some((head, String::from_utf8(body).unwrap()))
}

/// A folder with a spool and a token, and the keys that name them and a receiver of that name.
fn home(name: &str, url: &str, more: &str) -> (TempDir, String) {
    move_to_own_network();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("spool")).unwrap();
    fs::write(at("token"), "open-sesame\n").unwrap();
    fs::set_permissions(at("token"), Permissions::from_mode(0o600)).unwrap();
    let [file, spool, token] =
        ["records.jsonl", "spool", "token"].map(|name| at(name).display().to_string());
    let keys = format!(
        "file = {file:?}\nspool = {spool:?}\n\
         {name} = {{ url = {url:?}, token_file = {token:?}{more} }}"
    );
    (folder, keys)
}

/// Where receivers are.
const PORT: u16 = 21_999;

#[test]
fn a_receiver_behind_tls_is_known_by_its_authority() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let authority = tempfile::NamedTempFile::new().unwrap();
    fs::write(authority.path(), own.cert.pem()).unwrap();
    let more = format!(", ca_file = {:?}", authority.path());
    let (_folder, keys) = home("http", &format!("https://localhost:{PORT}/in"), &more);
    for (identity, known) in [(&other, false), (&own, true)] {
        let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert.der().clone()], key)
            .unwrap();
        let receiver = Receiver::new();
        // Another port for each: the first one stays open.
        let port = PORT + u16::from(!known);
        receiver.open(port, Some(Arc::new(tls)));
        let keys = keys.replace(&PORT.to_string(), &port.to_string());
        let site = open(97, &keys);
        allocated(&site).release().unwrap();
        if known {
            until("the record", || receiver.taken().len() >= 2);
        } else {
            until("refusals", || {
                site.metric("av_edge_relay_records_failures_total", &["http"]) >= 2
            });
            assert_eq!(receiver.taken(), Vec::<String>::new());
        }
        site.close();
    }
}

#[test]
fn nothing_is_lost_by_a_receiver_that_fails_in_every_way_nor_by_a_relay_that_restarts() {
    let (folder, keys) = home("http", &format!("http://127.0.0.1:{PORT}/in"), "");
    // Nobody is there yet.
    let site = open(96, &keys);
    allocated(&site).release().unwrap();
    until("attempts that fail", || {
        site.metric("av_edge_relay_records_failures_total", &["http"]) >= 2
    });
    assert_eq!(site.metric("av_edge_relay_records_waiting", &["http"]), 2);
    let receiver = Receiver::new();
    receiver.open(PORT, None);
    until("what waited", || receiver.taken().len() == 2);
    for mood in [Mood::Refuses, Mood::Forgets] {
        receiver.feels(mood);
        allocated(&site).release().unwrap();
        receiver.is_asked(2);
    }
    receiver.feels(Mood::Sleeps);
    allocated(&site).release().unwrap();
    receiver.is_asked(1);
    // A slow receiver costs nobody anything, least of all clients.
    let mut client = allocated(&site);
    talk(&mut client, 10, 100);
    site.close();

    receiver.feels(Mood::Takes);
    let site = open(96, &keys);
    allocated(&site).release().unwrap();
    let unique = || receiver.taken().into_iter().collect::<BTreeSet<_>>().len();
    until("two records of six allocations", || unique() == 12);
    assert_eq!(site.metric("av_edge_relay_records_lost_total", &[]), 0);
    site.close();

    let written = fs::read_to_string(folder.path().join("records.jsonl")).unwrap();
    let written: Vec<_> = written.lines().collect();
    let mut seen = BTreeSet::new();
    let taken = receiver.taken();
    let first: Vec<_> = taken.iter().filter(|line| seen.insert(*line)).collect();
    assert_eq!(first, written, "each once and in order, but for repetitions");
    assert!(taken.len() > written.len(), "one was forgotten and came again");
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    for line in written {
        let record: Value = serde_json::from_str(line).unwrap();
        last.insert(record["id"].to_string(), record);
    }
    assert!(last.values().all(|record| record["record"] == "stop"), "{last:#?}");
}

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A client with an allocation, whose credential was minted in a trace.
fn traced(site: &Site) -> TurnClient {
    let grant = Grant::new("carol", soon_to_expire());
    let minted = mint(&pool_key(), &Grant { trace: TRACEPARENT.parse().ok(), ..grant }).unwrap();
    let credentials = Credentials::new(minted.username, minted.password.as_str());
    let mut client = TurnClient::connect(site.server, credentials).unwrap();
    client.allocate(&AllocateOptions::default()).unwrap();
    client
}

/// The spans of one delivery of traces, whose relay has a name.
fn spans(text: &str, node: &str) -> Vec<Value> {
    let traces: Value = serde_json::from_str(text).unwrap();
    let [resource] = &traces["resourceSpans"].as_array().unwrap()[..] else { panic!("{traces}") };
    let instance = &resource["resource"]["attributes"][1];
    assert_eq!(instance["key"], "service.instance.id");
    assert_eq!(instance["value"]["stringValue"], node);
    resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

#[test]
fn allocations_are_spans_of_their_traces_as_soon_as_the_receiver_takes_them() {
    let (folder, keys) = home("otlp", &format!("http://127.0.0.1:{PORT}/v1/traces"), "");
    let receiver = Receiver::new();
    receiver.feels(Mood::Refuses);
    receiver.open(PORT, None);
    let table = format!("[records]\nnode = \"edge-1\"\n{keys}\n[metrics]");
    let text = configuration(98, 2, "").replacen("[metrics]", &table, 1);
    let ring = KeyRing { current: pool_key(), previous: Vec::new() };
    let site = Site::of(98, &text, Some(ring));
    let mut first = traced(&site);
    talk(&mut first, 3, 100);
    first.release().unwrap();
    until("attempts that fail", || {
        site.metric("av_edge_relay_records_failures_total", &["otlp"]) >= 2
    });
    let waiting = || site.metric("av_edge_relay_records_waiting", &["otlp"]);
    assert!(waiting() >= 1);
    receiver.feels(Mood::Takes);
    until("what waited", || waiting() == 0);
    assert_eq!(site.metric("av_edge_relay_records_delivered_total", &["otlp"]), 2);
    let begun = allocated(&site);
    until("a record of which nothing is sent", || {
        site.metric("av_edge_relay_records_delivered_total", &["otlp"]) == 3
    });
    assert_eq!(receiver.taken().len(), 1);
    site.close();
    drop(begun);

    for head in &receiver.0.lock().unwrap().heads {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    }
    let spans: Vec<_> = receiver.taken().iter().flat_map(|text| spans(text, "edge-1")).collect();
    let [first, second] = &spans[..] else { panic!("{spans:#?}") };
    let attribute = |span: &Value, key: &str| {
        let attributes = span["attributes"].as_array().unwrap();
        attributes.iter().find(|it| it["key"] == key).unwrap()["value"].clone()
    };
    let records = lines(&folder.path().join("records.jsonl"));
    let stops = records.iter().filter(|it| it["record"] == "stop");
    for (span, stop) in spans.iter().zip(stops) {
        let nanoseconds = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        let (start, end) = (nanoseconds("startTimeUnixNano"), nanoseconds("endTimeUnixNano"));
        assert_eq!(stop["started_ms"], start / 1_000_000);
        assert_eq!(stop["duration_ms"], (end - start) / 1_000_000);
        assert_eq!(attribute(span, "user.hash")["stringValue"], stop["user"]);
        assert_eq!(attribute(span, "client.address")["stringValue"], "127.0.0.1");
        assert_eq!((&span["name"], &span["kind"]), (&"allocation".into(), &2.into()));
        assert!(span["status"].is_null(), "{span}");
    }
    assert_eq!(first["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(first["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(attribute(first, "av_edge.cause")["stringValue"], "released");
    assert_eq!(attribute(first, "av_edge.to_peer.bytes")["intValue"], "300");
    assert_eq!(attribute(first, "av_edge.to_client.packets")["intValue"], "3");
    assert_eq!(second["traceId"].as_str().map(str::len), Some(32));
    assert_ne!(second["spanId"], first["spanId"]);
    assert!(second["parentSpanId"].is_null(), "{second}");
    assert_eq!(attribute(second, "av_edge.cause")["stringValue"], "shut_down");
}

#[test]
fn what_a_receiver_of_traces_spurns_is_lost_and_counted_and_lines_wait_longer() {
    let url = |path: &str| format!("http://127.0.0.1:{PORT}/{path}");
    let (folder, keys) = home("otlp", &url("v1/traces"), "");
    let token = folder.path().join("token");
    let keys = format!("{keys}\nhttp = {{ url = {:?}, token_file = {token:?} }}", url("in"));
    let receiver = Receiver::new();
    receiver.feels(Mood::Spurns);
    receiver.open(PORT, None);
    let site = open(99, &keys);
    allocated(&site).release().unwrap();
    let lost = |to: &str| site.metric("av_edge_relay_records_lost_total", &[to, "refused"]);
    until("spans that are lost", || lost("otlp") >= 1);
    until("lines that are refused", || {
        site.metric("av_edge_relay_records_failures_total", &["http"]) >= 3
    });
    assert_eq!(site.metric("av_edge_relay_records_waiting", &["otlp"]), 0);
    receiver.feels(Mood::Takes);
    until("lines", || receiver.taken().iter().filter(|it| it.contains("\"record\"")).count() == 2);
    assert_eq!(lost("http"), 0, "ten refusals take minutes");
    allocated(&site).release().unwrap();
    until("a span", || receiver.taken().iter().any(|it| it.contains("resourceSpans")));
    assert_eq!(site.metric("av_edge_relay_records_failures_total", &["otlp"]), 1);
    site.close();
}
