//! What the relay says of a browser's call, beside what the browser counted itself.
//!
//! Between the browser and the relay one datagram of media in twenty is taken away. Each end of the
//! call knows what it sent and what came; the relay must have seen the same of every stream, on the leg
//! where it was lost.

use std::time::Duration;

use serde_json::Value;

use crate::browser::Browser;
use crate::call::serve_page;
use crate::edge::{Home, RelayFile, http_get, start_auth, start_relay};
use crate::netns::must;
use crate::site::Site;

/// Length of the call, seconds.
const SECONDS: u64 = 15;

/// How long the browser may take for a step beside that.
const PATIENCE: Duration = Duration::from_secs(60);

const API: &str = "http://127.0.0.1:9643/v1/allocations";

/// Takes one ChannelData of twenty from clients of the relay: its first two bits are 01.
const THIEF: &str = "table inet thief {
  chain input {
    type filter hook prerouting priority raw;
    udp dport 3478 @th,64,2 1 numgen random mod 20 == 7 counter drop
  }
}
";

/// The streams of all allocations that came from clients, in the relay's words.
fn streams(site: &Site) -> Vec<Value> {
    let look = |url: &str| -> Value {
        let text = site.relay.enter(|| http_get(url)).expect("the relay answers");
        serde_json::from_str(&text).expect("JSON")
    };
    let list = look(API);
    let ids = list["allocations"].as_array().expect("a list").iter();
    let ids = ids.map(|row| row["id"].as_str().expect("a name").to_owned());
    let all = ids.flat_map(|id| {
        let allocation = look(&format!("{API}/{id}"));
        allocation["streams"].as_array().expect("a list").clone()
    });
    all.filter(|stream| stream["leg"] == "client" && stream["kind"] == "rtp").collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn media_statistics_of_the_relay_are_those_of_the_browser() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let file = RelayFile { tables: "[admin]\n".to_owned(), ..RelayFile::default() };
    let _relay = start_relay(&site, &home, &file);
    let auth = start_auth(&site, &home);
    let servers = auth.ice_servers(&site.client, "alice");
    let page = serve_page(&site.client);
    let mut browser = Browser::open(&site.client, &format!("http://{page}/"));
    browser.value(&format!("connectInSilence({servers})"), PATIENCE);
    let rules = home.write("thief.nft", THIEF);
    must(site.relay.command("nft").arg("-f").arg(rules));
    let limit = PATIENCE + Duration::from_secs(SECONDS);
    let ends = browser.value(&format!("talk({SECONDS})"), limit);
    let relayed = streams(&site);

    let all = |what: &str| -> Vec<Value> {
        let ends = ends.as_array().expect("two ends").iter();
        ends.flat_map(|end| end[what].as_array().expect("a list").clone()).collect()
    };
    let (sent, received) = (all("sent"), all("received"));
    let of = |list: &[Value], ssrc: &Value| {
        let found = list.iter().find(|it| it["ssrc"] == *ssrc).cloned();
        found.unwrap_or_else(|| panic!("nothing of {ssrc}: {ends:#} {relayed:#?}"))
    };
    assert_eq!(sent.len(), 4, "two of sound, two of video: {ends:#}");
    for it in &sent {
        let (seen, came) = (of(&relayed, &it["ssrc"]), of(&received, &it["ssrc"]));
        let all = format!("sent {it}, relayed {seen}, received {came}");
        let (expected, lost) = (number(&seen["expected"]), number(&seen["lost"]));
        assert!(lost > 0, "one in twenty is taken: {all}");
        assert_eq!(lost, number(&came["packetsLost"]), "{all}");
        // Of video the browser counts repairs and padding in the same sums, which are streams of their own.
        if it["kind"] == "audio" {
            assert_eq!(expected - lost, number(&came["packetsReceived"]), "{all}");
            // Nobody knows of the last packets, if those were taken.
            let sent = number(&it["packetsSent"]);
            assert!((sent - 2..=sent).contains(&expected), "{all}");
            let heard = came["jitter"].as_f64().expect("a number");
            let seen = seen["jitter_s"].as_f64().expect("the clock of sound is known");
            assert!((heard - seen).abs() < 0.005, "jitter: {all}");
        }
    }
}
