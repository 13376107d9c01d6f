//! Captures of a call, read by Wireshark's own eyes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use client::transport::{Dtls, Tls, Transport, Trust};
use client::{Credentials, Event, Options, TurnClient};

use crate::harness::{Run, command};
use crate::relay::{Call, PASSWORD, Site, free_tcp};

/// Packets of RTP, each way.
const PACKETS: usize = 50;

/// What nobody may read.
const SECRET: &[u8] = b"what people say to each other";

/// A packet of RTP whose source is the number of its direction.
fn rtp(source: u8, number: usize) -> Vec<u8> {
    let number = u16::try_from(number).expect("few packets");
    let head = [
        &[0x80, 0][..],
        &number.to_be_bytes(),
        &u32::from(number).to_be_bytes(),
        &[0, 0, 0, source],
    ];
    [&head.concat()[..], SECRET].concat()
}

/// Media there and back.
fn talk(call: &mut Call) {
    let mut bytes = [0; 256];
    for number in 0..PACKETS {
        call.client.send_channel(call.channel, &rtp(1, number)).expect("it is sent");
        let (_, relayed) = call.peer.recv_from(&mut bytes).expect("it reaches the peer");
        call.peer.send_to(&rtp(2, number), relayed).expect("it is sent");
        let back = call.client.recv(Duration::from_secs(5)).expect("a working socket");
        assert!(matches!(back, Some(Event::Data { .. })), "{back:?}");
    }
}

fn begin(socket: &Path, out: &Path, words: &[&str]) -> Child {
    let mut command = command();
    command.arg("capture").args(words).arg("--socket").arg(socket).arg("--out").arg(out);
    command.stderr(Stdio::piped()).spawn().expect("the binary is built")
}

/// Waits until the capture has begun: its file has a head.
#[expect(clippy::disallowed_methods, reason = "a test waits for another process")]
fn await_begin(out: &Path) {
    let begun = Instant::now();
    while fs::metadata(out).map_or(0, |it| it.len()) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "no capture begins");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What tshark says of a file, a line a packet.
fn tshark(file: &Path, words: &[&str]) -> Vec<String> {
    let output = Command::new("tshark").arg("-r").arg(file).args(words).output();
    let output = output.expect("tshark is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

fn site() -> (Site, PathBuf) {
    let site = Site::new("[control]\npath = \"control.sock\"\n");
    site.rewrite("workers = 2", "workers = 1");
    let socket = site.directory.path("control.sock");
    (site, socket)
}

/// A site that takes clients sealed as well, where those are, and its control socket.
fn sealed_site() -> (Site, SocketAddr, PathBuf) {
    let server = free_tcp();
    let listener = |transport: &str| {
        format!("[[listen]]\naddress = \"{server}\"\ntransport = \"{transport}\"\n")
    };
    let tables = format!(
        "[control]\npath = \"control.sock\"\n{}{}\
         [tls]\ncertificates = [{{ certificate = \"own.pem\", key = \"own.key\" }}]\n",
        listener("tls"),
        listener("dtls")
    );
    let site = Site::new(&tables);
    site.rewrite("workers = 2", "workers = 1");
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
    site.directory.write("own.pem", &own.cert.pem());
    site.directory.write("own.key", &own.signing_key.serialize_pem());
    let socket = site.directory.path("control.sock");
    (site, server.parse().expect("an address"), socket)
}

#[test]
fn a_capture_shows_both_legs_of_a_call_and_nothing_that_people_say() {
    let (site, sealed, socket) = sealed_site();
    let mut relay = site.start();
    relay.wait_for("ready");
    let tls = Tls::new("localhost", &Trust::Anything, &[]).expect("a name");
    let dtls = Dtls::new("localhost", &Trust::Anything).expect("a name");
    for (generation, name, transport, server) in [
        (0, "udp", Transport::Udp, site.server),
        (1, "tls", Transport::Tls(tls), sealed),
        (2, "dtls", Transport::Dtls(dtls), sealed),
    ] {
        let options = Options { transport, ..Options::default() };
        let client = Credentials::new("alice", PASSWORD);
        let client = TurnClient::connect_with(server, client, options).expect("it connects");
        let id = format!("0-0-{generation}");
        captured(&site, &socket, Call::begin(client), &id, name);
    }
}

/// A call is captured to its end: what a capture shows of it, whatever its client speaks.
fn captured(site: &Site, socket: &Path, mut call: Call, id: &str, transport: &str) {
    let out = site.directory.path(&format!("{transport}.pcapng"));
    let server = call.client.server_addr().expect("it is connected").port();
    let mut capture = begin(socket, &out, &[id, "--seconds", "60"]);
    await_begin(&out);
    let other = Run::of(&[
        "capture",
        id,
        "--out",
        "/dev/null",
        "--socket",
        socket.to_str().expect("UTF-8"),
    ]);
    assert_eq!(other.status, 1, "one at a time");
    assert!(other.err.contains("another capture"), "{}", other.err);
    talk(&mut call);
    let peer = call.peer.local_addr().expect("it is bound").port();
    // Its end is the capture's.
    call.client.release().expect("the allocation ends");
    assert!(capture.wait().expect("it ends").success());

    let bytes = fs::read(&out).expect("a file");
    assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET), "payload in the file");
    assert!(!bytes.windows(5).any(|part| part == b"alice"), "a name in the file");
    let peers = format!("udp.port=={peer},rtp");
    let clients = format!("udp.port=={server},stun");
    let decode = ["-d", &peers, "-d", &clients, "--enable-heuristic", "rtp_stun"];
    let look = |filter: &str, field: &str| {
        let fields = ["-Y", filter, "-T", "fields", "-e", "frame.interface_name", "-e", field];
        tshark(&out, &[&decode[..], &fields].concat())
    };
    let legs = look("frame", "frame.interface_description");
    let described = format!("client\tbetween client and relay, over {transport}");
    assert!(legs.contains(&described), "{legs:?}");
    let media = look("rtp", "rtp.ssrc");
    for leg in ["client", "peer"] {
        for source in [1, 2] {
            let wanted = format!("{leg}\t0x{source:08x}");
            let of = media.iter().filter(|it| **it == wanted).count();
            assert_eq!(of, PACKETS, "{wanted}: {media:?}");
        }
    }
    assert_eq!(look("stun.channel", "stun.channel").len(), 2 * PACKETS);
    let requests = look("stun.type.method == 4", "stun.type.class");
    assert_eq!(
        requests,
        ["client\t0x0000", "client\t0x0010"],
        "the Refresh that ends it, its answer"
    );
    let wrong = tshark(&out, &["-o", "ip.check_checksum:TRUE", "-Y", "ip.checksum.status == 0"]);
    assert!(wrong.is_empty(), "{wrong:?}");
    let mut capinfos = Command::new("capinfos");
    let told = capinfos.arg("-c").arg(&out).output().expect("it comes with tshark");
    assert!(String::from_utf8_lossy(&told.stdout).contains("202"), "{told:?}");
}

#[test]
fn payload_is_shown_to_who_asks_for_it_and_time_ends_a_capture() {
    let (site, socket) = site();
    let mut relay = site.start();
    relay.wait_for("ready");
    let mut call = site.call("alice");
    let out = site.directory.path("call.pcapng");
    let mut capture = begin(&socket, &out, &["0-0-0", "--seconds", "2", "--payload", "whole"]);
    await_begin(&out);
    talk(&mut call);
    assert!(capture.wait().expect("it ends").success());
    let bytes = fs::read(&out).expect("a file");
    let seen = bytes.windows(SECRET.len()).filter(|part| *part == SECRET).count();
    assert_eq!(seen, 4 * PACKETS, "each on two legs, both ways");
    // Nobody looks any more: another may.
    let mut capture = begin(&socket, &out, &["0-0-0", "--seconds", "1"]);
    assert!(capture.wait().expect("it ends").success());
    call.exchange();
}

#[test]
fn what_cannot_be_captured_is_told() {
    let (site, socket) = site();
    let mut relay = site.start();
    relay.wait_for("ready");
    let socket = socket.to_str().expect("UTF-8");
    for (words, status, expected) in [
        (&["0-9-9"][..], 1, "it is over"),
        (&["7-0-0"], 1, "it is over"),
        (&["all"], 2, "not the id of an allocation"),
        (&["0-0-0", "--seconds", "0"], 2, "0 is not in 1..=240"),
        (&["0-0-0", "--payload", "some"], 2, "headers, whole"),
    ] {
        let more = [&["capture", "--socket", socket, "--out", "/dev/null"][..], words].concat();
        let run = Run::of(&more);
        assert_eq!(run.status, status, "{words:?}: {}", run.err);
        assert!(run.err.contains(expected), "{words:?}: {}", run.err);
    }
    let asked = Run::of(&["capture", "0-0-0", "--socket", "/none"]);
    assert!(asked.err.contains("no relay has opened it"), "{}", asked.err);
}
