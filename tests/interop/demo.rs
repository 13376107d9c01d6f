//! The demonstration, as a newcomer meets it: no configuration, then a browser on the same machine.

use std::time::Duration;

use serde_json::Value;

use crate::browser::Browser;
use crate::edge::{command, http_get};
use crate::netns::Namespace;
use crate::process::Process;
use crate::site::Site;

/// The call at start takes under five seconds; a busy machine more.
const LIMIT: Duration = Duration::from_secs(60);
/// Frames the page's call must have decoded at each end.
const FRAMES: u64 = 100;

#[test]
fn demo_once_needs_nothing_but_a_loopback_and_says_how_it_went_by_its_status() {
    let machine = Namespace::new("alone");
    let mut demo = Process::start(&mut command(&machine, &["demo", "--once"]));
    let status = demo.wait(LIMIT);
    let said = demo.output();
    assert!(status.success(), "{status}: {said}");
    for words in ["127.0.0.1:3478", "all arrived as sent", "Every byte came out as it went in."] {
        assert!(said.contains(words), "`{words}` in {said}");
    }
}

#[test]
fn demo_takes_other_ports_where_the_usual_ones_are_occupied_and_says_so() {
    let machine = Namespace::new("busy");
    let taken = machine.enter(|| {
        let udp = std::net::UdpSocket::bind("127.0.0.1:3478").expect("port 3478");
        let tcp = std::net::TcpListener::bind("127.0.0.1:9641").expect("port 9641");
        (udp, tcp)
    });
    let mut demo = Process::start(&mut command(&machine, &["demo", "--once"]));
    let status = demo.wait(LIMIT);
    drop(taken);
    let said = demo.output();
    assert!(status.success(), "{status}: {said}");
    for words in ["taking 3479 instead", "taking 9642 instead", "127.0.0.1:3479"] {
        assert!(said.contains(words), "`{words}` in {said}");
    }
}

#[test]
fn demo_page_calls_itself_in_chromium_and_shows_the_relays_figures_beside_its_own() {
    let site = Site::new();
    let mut demo = Process::start(&mut command(&site.client, &["demo"]));
    demo.until(LIMIT, "the page's address", |demo| demo.output().contains("Ctrl-C").then_some(()));
    let said = demo.output();
    assert!(said.contains("Every byte came out as it went in."), "{said}");
    assert!(said.contains(r#""urls": ["#) && said.contains("turn:10.25.1.2:3478"), "{said}");
    for url in ["http://127.0.0.1:9641/metrics", "http://127.0.0.1:8080/"] {
        assert!(said.contains(url), "{url} in {said}");
        assert!(!site.client.enter(|| http_get(url)).expect("it is served").is_empty(), "{url}");
    }

    let mut browser = Browser::open(&site.client, "http://127.0.0.1:8080/?auto=1");
    let done = format!("avedge.phase === 'failed' || avedge.framesDecoded >= {FRAMES}");
    browser.until(&done, LIMIT);
    let state = browser.value("avedge", LIMIT);
    assert_page_is_good(&state);

    demo.terminate();
    assert!(demo.wait(LIMIT).success(), "{}", demo.output());
}

/// The page's call went over the relay at both ends, lost nothing, and the relay saw it.
fn assert_page_is_good(state: &Value) {
    assert_eq!(state["phase"], "connected", "{state:#}");
    let pairs = state["pairs"].as_array().expect("a pair for each end");
    assert_eq!(pairs.len(), 2, "{state:#}");
    for pair in pairs {
        assert_eq!((&pair["local"], &pair["remote"]), (&"relay".into(), &"relay".into()));
    }
    assert_eq!(state["verdict"], "relay/relay, 0 lost", "{state:#}");
    assert_eq!(state["packetsLost"], 0, "{state:#}");
    assert!(state["audioPackets"].as_u64() > Some(0), "{state:#}");
    let number = |path: &str| state.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    // Both were read at about the same moment; the relay also counts checks and keys.
    let (relay, browser) = (number("/relay/packetsOut"), number("/packetsReceived"));
    assert!(browser > 0 && relay * 10 > browser * 9, "{state:#}");
    assert!(state["roundTripMs"].as_f64() > Some(0.0), "{state:#}");
}
