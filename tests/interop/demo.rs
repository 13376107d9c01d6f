//! `av-edge demo`: one command, a proven call, a page.

use std::time::Duration;

use serde_json::Value;

use crate::browser::Browser;
use crate::edge::{command, http_get};
use crate::netns::Namespace;
use crate::process::Process;
use crate::site::Site;

/// How long the demo's own call and its start may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Length of the page's call, seconds.
const SECONDS: u64 = 10;
/// Frames each end must have decoded by then.
const FRAMES: u64 = 100;

#[test]
fn media_005_srtp_passes_through_a_relayed_call_bit_for_bit() {
    let site = Site::new();
    let lone = Namespace::new("lone");
    for (case, machine) in [("a host of two networks", &site.relay), ("loopback alone", &lone)] {
        let mut demo = Process::start(&mut command(machine, &["demo", "--once"]));
        let status = demo.wait(LIMIT);
        let said = demo.output();
        assert_eq!(status.code(), Some(0), "{case}:\n{said}");
        for words in ["all arrived as sent", "Every byte came out as it went in."] {
            assert!(said.contains(words), "{case}: `{words}` in {said}");
        }
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
fn demo_page_shows_a_relayed_call_as_the_relay_counts_it() {
    let site = Site::new();
    let mut demo = Process::start(&mut command(&site.client, &["demo"]));
    let page = demo.until(LIMIT, "the address of the page", |demo| page_of(&demo.output()));
    let mut browser = Browser::open(&site.client, &format!("{page}?auto=1"));
    let done = format!("avedge.phase === 'failed' || avedge.seconds >= {SECONDS}");
    browser.until(&done, LIMIT);
    let state = browser.value("avedge", LIMIT);

    assert_eq!(state["phase"], "connected", "{state:#}");
    for pair in state["pairs"].as_array().expect("both ends' pairs") {
        assert_eq!(
            (&pair["local"], &pair["remote"]),
            (&"relay".into(), &"relay".into()),
            "{state:#}"
        );
    }
    assert_eq!(state["packetsLost"], 0, "{state:#}");
    assert!(state["framesDecoded"].as_u64() >= Some(FRAMES), "{state:#}");
    assert_figures_agree(&state);
    let metrics = site.client.enter(|| http_get("http://127.0.0.1:9641/metrics")).expect("metrics");
    assert_only_early_checks_dropped(&metrics);
    drop(browser);
    demo.terminate();
    assert_eq!(demo.wait(LIMIT).code(), Some(0), "{}", demo.output());
}

/// Browser and relay, asked at the same moment, tell of the same call.
fn assert_figures_agree(state: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number in {state:#}"));
    let relay = &state["relay"];
    let (entered, left) = (number(&relay["packetsIn"]), number(&relay["packetsOut"]));
    let received = number(&state["packetsReceived"]);
    assert_eq!(relay["dropped"], 0, "{state:#}");
    // What a client of this relay sends to another enters and leaves it once; the rest is under way.
    assert!((entered - left).abs() <= 0.02 * entered, "in and out: {state:#}");
    // Beside media the relay carries connectivity checks, DTLS and RTCP.
    assert!((received * 0.95..received * 1.5).contains(&left), "media and relayed: {state:#}");
    let (browser, relayed) = (number(&state["bitrate"]), number(&relay["bitrate"]));
    assert!((browser * 0.7..browser * 1.4).contains(&relayed), "bitrates: {state:#}");
}

/// Before a permission stands, a connectivity check of the other end is dropped; nothing else is.
fn assert_only_early_checks_dropped(metrics: &str) {
    let drops: Vec<&str> =
        metrics.lines().filter(|row| row.starts_with("av_edge_relay_dropped_total{")).collect();
    assert!(!drops.is_empty(), "every reason has a series: {metrics}");
    for row in drops {
        assert!(row.ends_with(" 0") || row.contains(r#"reason="no_permission""#), "{row}");
    }
}

/// The address of the page in what the demo prints.
fn page_of(output: &str) -> Option<String> {
    let row = output.lines().find(|line| line.trim_start().starts_with("page"))?;
    let address = &row[row.find("http://")?..];
    address.split_whitespace().next().map(str::to_owned)
}
