//! What TLS grants to whom: how many handshakes, no tickets, no renegotiation.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::tls::{BOTH, Secure, expect_binding, handshake};

/// What `openssl s_client` prints when it is told this, with these arguments.
fn openssl(site: &Secure, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("timeout")
        .args(["10", "openssl", "s_client", "-connect", &site.server.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended before it reads.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn sec_009_handshakes_of_one_source_are_limited_and_counted() {
    let limits = "[limits]\nhandshakes_per_s = 1\nhandshakes_burst = 5\n";
    let site = Secure::open(63, limits);
    let pem = site.pem("turn.example.org");
    let shake = || handshake(site.server, &pem, "turn.example.org", &[], BOTH);
    let mut served: Vec<_> = (0..12).filter_map(|_| shake().ok()).collect();
    assert!((4..=8).contains(&served.len()), "{} of 12 shook hands", served.len());
    // Who is there stays, and whoever speaks plainly at the same port comes in.
    served.iter_mut().for_each(expect_binding);
    let mut plain = std::net::TcpStream::connect(site.server).unwrap();
    let mut binding = [0; 20];
    binding[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]);
    plain.write_all(&binding).unwrap();
    plain.read_exact(&mut [0; 32]).unwrap();
    let refused = site.metric("av_edge_relay_connections_refused_total", &["\"handshakes\""]);
    assert_eq!(refused, 12 - served.len() as u64);
    site.close();
}

#[test]
fn auth_039_there_are_no_tickets_whose_keys_could_be_stolen_and_nothing_is_renegotiated() {
    let site = Secure::open(64, "");
    for version in ["-tls1_2", "-tls1_3"] {
        let said = openssl(&site, &[version, "-ign_eof"], "");
        assert!(said.contains("Secure Renegotiation IS") || version == "-tls1_3", "{said}");
        for words in ["TLS session ticket:", "New Session Ticket arrived", "Session-ID: "] {
            let lines = said.lines().filter(|line| line.contains(words));
            let told = lines.filter(|line| line.trim() != "Session-ID:").count();
            assert_eq!(told, 0, "{version}: {words}\n{said}");
        }
    }
    let said = openssl(&site, &["-tls1_2"], "R\n");
    let refused = ["no renegotiation", "wrong version", "RENEGOTIATING"];
    assert!(refused.iter().any(|words| said.contains(words)), "{said}");
    let renewed = said.matches("Verification").count() > 1;
    assert!(!renewed && said.contains("error"), "renegotiated:\n{said}");
    site.close();
}
