//! A log that cannot be written: a call loses nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, pipe};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{AllocateOptions, Credentials, Event, TurnClient};
use proto::auth::Secret;
use proto::auth::credential::mint_rest;
use proto::now::UnixTime;

use crate::harness::{Directory, command};

const SECRET: &str = "a secret of more than sixteen bytes";

/// Lines that a client makes a relay write at its most talkative: far more than a pipe holds.
const LINES: usize = 1_500;

/// A relay that a failed test does not leave behind.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        // It has ended already, when the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Relay {
    fn start(directory: &Directory, server: SocketAddr, log: Stdio) -> Self {
        let text = format!(
            "realm = \"example.org\"\nworkers = 1\n[auth]\nrest_secrets = [\"{SECRET}\"]\n\
             [[listen]]\naddress = \"{server}\"\n\
             [relay]\naddresses = [{{ local = \"127.0.0.1\" }}]\nports = \"23000-23999\"\n\
             [peers]\nallow = [\"127.0.0.2/32\"]\n"
        );
        let file = directory.write("relay.toml", &text);
        let mut command = command();
        command.arg("relay").arg("--config").arg(file).env("AV_EDGE_LOG", "debug").stderr(log);
        Self(command.spawn().expect("the binary is built"))
    }

    fn end(mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        let kill = std::process::Command::new("sh").args(["-c", "kill \"$0\"", &pid]).status();
        assert!(kill.expect("there is a shell").success());
        self.0.wait().expect("it is our child").code()
    }
}

#[expect(clippy::disallowed_methods, reason = "credentials expire on the wall clock")]
fn credentials() -> Credentials {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let secret = Secret::new(SECRET.as_bytes().to_vec());
    let minted = mint_rest(&secret, "alice", UnixTime(now + 600)).expect("a good name");
    Credentials::new(minted.username, minted.password.as_str())
}

/// A client of a relay that is about to listen.
fn client(server: SocketAddr) -> TurnClient {
    for _ in 0..100 {
        let mut client = TurnClient::connect(server, credentials()).expect("a socket");
        if client.binding().is_ok() {
            return client;
        }
        pause();
    }
    panic!("the relay never answers");
}

#[expect(clippy::disallowed_methods, reason = "nothing tells that a silent process listens")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn lines_are_json_unless_people_read_them() {
    let directory = Directory::new();
    for (arguments, json) in [(&[][..], true), (&["--log-format", "text"], false)] {
        let text = "realm = \"example.org\"\nworkers = 1\n[auth]\nrest_secrets = [\"0123456789abcdef\"]\n\
                    [[listen]]\naddress = \"127.0.0.1:22860\"\n[relay]\naddresses = [{ local = \"127.0.0.1\" }]\n";
        let file = directory.write("relay.toml", text);
        let mut command = command();
        command.arg("relay").arg("--config").arg(&file).args(arguments).stderr(Stdio::piped());
        let mut relay = command.spawn().expect("the binary is built");
        let log = BufReader::new(relay.stderr.take().expect("it is piped"));
        let mut lines = log.lines().map(|line| line.expect("text"));
        let ready = lines.find(|line| line.contains("ready")).expect("it gets ready");
        let read: Result<serde_json::Value, _> = serde_json::from_str(&ready);
        assert_eq!(read.is_ok(), json, "{ready}");
        if let Ok(read) = read {
            assert_eq!((&read["message"], &read["level"]), (&"ready".into(), &"INFO".into()));
            assert_eq!(read["workers"], 1, "fields keep their types: {ready}");
        }
        relay.kill().expect("it is our child");
        relay.wait().expect("it is our child");
    }
}

/// A call, while a line is logged for each of its packets.
fn call(server: SocketAddr) {
    let peer = UdpSocket::bind("127.0.0.2:0").expect("loopback");
    peer.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    let at = peer.local_addr().expect("bound");
    let mut client = client(server);
    client.allocate(&AllocateOptions::default()).expect("an allocation");
    let channel = client.bind_channel(at).expect("a channel");
    let mut buffer = [0; 16];
    for number in 0..LINES {
        client.permit(&[at.ip()]).expect("a permission, and a line of the log");
        let word = number.to_be_bytes();
        client.send_channel(channel, &word).expect("it is sent");
        let (len, from) = peer.recv_from(&mut buffer).expect("nothing is lost");
        assert_eq!(&buffer[..len], word);
        peer.send_to(&word, from).expect("it is sent");
        let heard = client.recv(Duration::from_secs(2)).expect("a working socket");
        assert!(matches!(heard, Some(Event::Data { payload, .. }) if payload == word));
    }
    client.release().expect("the same allocation as in the beginning");
}

#[test]
fn a_log_on_a_full_disk_or_that_nobody_reads_costs_a_call_nothing() {
    let free = || UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let full = File::options().write(true).open("/dev/full").expect("there is /dev/full");
    let (mut reader, writer) = pipe().expect("a pipe");
    for (case, log) in [("full", Stdio::from(full)), ("unread", Stdio::from(writer))] {
        let directory = Directory::new();
        let server = free().expect("loopback has free ports");
        let relay = Relay::start(&directory, server, log);
        call(server);
        assert_eq!(relay.end(), Some(0), "{case}");
    }
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("a log is text");
    assert!(said.contains("allocation opened"), "{said}");
    assert!(said.lines().count() < LINES, "the pipe held everything: this proves nothing");
}
