//! Who gets in, and who is sent elsewhere.

use std::net::UdpSocket;

use client::{AllocateOptions, Credentials, TurnClient};
use relay::Config;

use crate::site::{SOON, Site, client_of, configuration};

#[test]
fn alloc_020_a_draining_relay_sends_newcomers_to_the_others() {
    let site = Site::open_with(50, 2, "redirect.alternates = [\"127.0.0.9:3478\"]");
    let mut client = site.client();
    client.allocate(&AllocateOptions::default()).unwrap();
    site.relay.drain();
    for _ in 0..4 {
        let answer = client_of(site.server, "bob").allocate(&AllocateOptions::default());
        assert_eq!(answer.unwrap_err().code(), Some(300));
        let answer = client_of(site.server_v6, "bob").allocate(&AllocateOptions::default());
        assert_eq!(answer.unwrap_err().code(), Some(403), "none of its family is named");
    }
    client.release().unwrap();
    site.relay.wait().unwrap();
}

#[test]
fn auth_014_a_named_user_logs_in_from_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, "# staff\nalice:a long password\n").unwrap();
    std::fs::set_permissions(&users, PermissionsExt::from_mode(0o600)).unwrap();
    let file = directory.path().join("relay.toml");
    let text = configuration(51, 2, "").replace("[auth]", "[auth]\nusers_file = \"users\"");
    std::fs::write(&file, text).unwrap();
    let relay = relay::start(Config::from_file(&file).unwrap()).unwrap();
    let server = "127.0.0.1:21051".parse().unwrap();
    for (password, code) in [("a long password", None), ("another password", Some(401))] {
        let credentials = Credentials::new("alice", password);
        let mut client = TurnClient::connect(server, credentials).unwrap();
        let outcome = client.allocate(&AllocateOptions::default());
        assert_eq!(outcome.as_ref().err().and_then(client::ClientError::code), code);
        assert_eq!(outcome.is_ok(), code.is_none());
    }
    relay.stop();
    relay.wait().unwrap();
}

#[test]
fn old_001_a_switch_lets_the_relay_answer_rfc_3489() {
    let mut request = *b"\x00\x01\x00\x00sixteen bytes id";
    for (number, keys, answered) in [(52, "", false), (53, "compat.rfc3489 = true", true)] {
        let site = Site::open_with(number, 2, keys);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(site.server).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send(&request).unwrap();
        // A modern request behind it is answered in any case.
        let mut modern = request;
        modern[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
        socket.send(&modern).unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        let (kind, id) = (&buffer[..2], &buffer[4..20]);
        assert_eq!(kind, b"\x01\x01");
        assert_eq!(id == &request[4..], answered, "{:02x?}", &buffer[..length]);
        request[19] ^= 1;
        site.close();
    }
}
