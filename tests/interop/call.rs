//! A browser's call through the relay.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::browser::Browser;
use crate::edge::{Home, RelayFile, start_auth, start_relay};
use crate::netns::Namespace;
use crate::site::Site;

/// The page of the call.
const PAGE: &str = include_str!("call.html");
/// Length of the call, seconds.
const SECONDS: u64 = 10;
/// Frames a receiver of ten seconds of video must have decoded at least. The fake camera makes 20 a second, but how
/// many of them are encoded and decoded says more about the machine than about the relay.
const FRAMES: u64 = 40;
/// Voice packets of 20 ms in ten seconds are 500; the first second may be spent on start-up.
const VOICE_PACKETS: u64 = 400;

#[test]
fn media_006_chromium_calls_itself_through_the_relay_with_minted_credentials() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _relay = start_relay(&site, &home, &RelayFile::default());
    let auth = start_auth(&site, &home);
    let servers = auth.ice_servers(&site.client, "alice");
    let page = serve_page(&site.client);
    let mut browser = Browser::open(&site.client, &format!("http://{page}/"));
    let limit = Duration::from_secs(SECONDS + 90);
    let ends = browser.value(&format!("call({servers}, {SECONDS})"), limit);
    for end in ends.as_array().expect("two ends") {
        assert_is_good(end);
    }
}

/// One end of the call went over the relay, both ways, and lost nothing.
pub(crate) fn assert_is_good(end: &Value) {
    assert_eq!((&end["local"], &end["remote"]), (&"relay".into(), &"relay".into()), "{end:#}");
    let inbound = end["inbound"].as_array().expect("inbound streams");
    for (kind, packets, frames) in [("audio", VOICE_PACKETS, None), ("video", 1, Some(FRAMES))] {
        let stream = inbound.iter().find(|stream| stream["kind"] == kind);
        let stream = stream.unwrap_or_else(|| panic!("no {kind} in {end:#}"));
        assert_eq!(stream["packetsLost"], 0, "{kind}: {end:#}");
        assert!(stream["packetsReceived"].as_u64() >= Some(packets), "{kind}: {end:#}");
        assert!(stream["framesDecoded"].as_u64() >= frames, "{kind}: {end:#}");
    }
}

/// Serves the page on a loopback port of the machine: browsers give microphones to localhost only.
pub(crate) fn serve_page(machine: &Namespace) -> SocketAddr {
    let listener = machine.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.expect("a loopback port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { continue };
            let mut request = BufReader::new(&connection);
            let mut line = String::new();
            while request.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let length = PAGE.len();
            let _ = write!(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{PAGE}"
            );
        }
    });
    address
}
