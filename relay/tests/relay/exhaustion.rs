//! A relay that is out of descriptors or memory: calls go on, new ones hear so, and it heals.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use client::{AllocateOptions, Event, TurnClient};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::site::{SOON, Site, client_of, peer, sum};

/// A call that must lose nothing.
struct Call {
    client: TurnClient,
    channel: u16,
    peer: UdpSocket,
    relayed: SocketAddr,
}

impl Call {
    fn new(site: &Site) -> Self {
        let peer = peer();
        let mut client = site.client();
        let relayed = client.allocate(&AllocateOptions::default()).unwrap().relayed;
        let channel = client.bind_channel(peer.local_addr().unwrap()).unwrap();
        Self { client, channel, peer, relayed }
    }

    fn goes_on(&mut self) {
        let mut buffer = [0; 100];
        for word in 0..50_u8 {
            self.client.send_channel(self.channel, &[word]).unwrap();
            let (len, from) = self.peer.recv_from(&mut buffer).expect("nothing is lost");
            assert_eq!((&buffer[..len], from), (&[word][..], self.relayed));
            self.peer.send_to(&[word], self.relayed).unwrap();
            let heard = self.client.recv(SOON).unwrap();
            assert!(matches!(heard, Some(Event::Data { payload, .. }) if payload == [word]));
        }
    }
}

/// Waits until something is so.
#[expect(clippy::disallowed_methods, reason = "the office looks at memory by the clock")]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection to the metrics that stays.
struct Scraper(TcpStream);

impl Scraper {
    fn metric(&mut self, name: &str, label: &str) -> u64 {
        let mut request = String::new();
        write!(request, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        self.0.write_all(request.as_bytes()).unwrap();
        let mut seen = Vec::new();
        loop {
            let mut piece = [0; 8_192];
            let read = self.0.read(&mut piece).unwrap();
            assert!(read > 0, "the office hung up");
            seen.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&seen);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| length.parse::<usize>().unwrap() <= body.len()) {
                return sum(body, name, &[label]);
            }
        }
    }
}

#[test]
fn sec_009_without_descriptors_accept_pauses_udp_goes_on_and_all_heals() {
    let site = Site::open(65, 1);
    let mut call = Call::new(&site);
    let mut newcomer = client_of(site.server, "bob");
    let mut scraper = Scraper(TcpStream::connect(site.metrics).unwrap());
    scraper.0.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(scraper.metric("av_edge_relay_accept_paused", ""), 0);
    let waiting = socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    );
    let waiting = waiting.unwrap();

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    waiting.connect(&site.server.into()).expect("the kernel takes it");
    until("the alarm", || scraper.metric("av_edge_relay_accept_paused", "") == 1);
    let exhausted = scraper.metric("av_edge_relay_connections_refused_total", "\"exhausted\"");
    assert!(exhausted > 0);
    let refused = newcomer.allocate(&AllocateOptions::default());
    assert_eq!(refused.unwrap_err().code(), Some(508));
    assert_eq!(scraper.metric("av_edge_relay_rejected_total", "\"out_of_descriptors\""), 1);
    newcomer.binding().expect("UDP goes on");
    call.goes_on();

    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let mut waiting = TcpStream::from(waiting);
    waiting.set_read_timeout(Some(SOON)).unwrap();
    let binding = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    waiting.write_all(&binding).unwrap();
    waiting.read_exact(&mut [0; 32]).expect("whoever waited is served");
    assert_eq!(scraper.metric("av_edge_relay_accept_paused", ""), 0);
    newcomer.allocate(&AllocateOptions::default()).unwrap();
    call.goes_on();
    site.close();
}

#[test]
fn sec_009_above_the_memory_budget_calls_go_on_and_new_ones_wait_for_room() {
    let site = Site::open_with(66, 1, "limits.memory_mib = 256");
    let mut call = Call::new(&site);
    let mut newcomer = client_of(site.server, "bob");
    let tight = || site.metric("av_edge_relay_memory_tight", &[]);
    assert_eq!(tight(), 0);
    let hoard = vec![7_u8; 300 << 20];
    until("the alarm", || tight() == 1);
    let refused = newcomer.allocate(&AllocateOptions::default());
    assert_eq!(refused.unwrap_err().code(), Some(508));
    assert_eq!(site.metric("av_edge_relay_rejected_total", &["\"out_of_memory\""]), 1);
    call.goes_on();
    call.client.refresh(Duration::from_secs(600)).unwrap();
    assert!(hoard.iter().all(|byte| *byte == 7));
    drop(hoard);
    until("the all-clear", || tight() == 0);
    newcomer.allocate(&AllocateOptions::default()).unwrap();
    call.goes_on();
    site.close();
}
