//! Clients that speak DTLS, against a whole relay: OpenSSL's.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use client::AllocateOptions;

use crate::site::{SOON, Site};

/// A Binding request with nothing in it.
const BINDING: [u8; 20] =
    [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// Bytes of its answer: a header and an IPv4 address.
const ANSWER: usize = 20 + 12;

/// Keys for a relay that speaks DTLS at the address where it speaks UDP, with a new certificate.
pub(crate) fn keys(home: &tempfile::TempDir, port: u16) -> String {
    let made = rcgen::generate_simple_self_signed(["turn.example.org".to_owned()]).unwrap();
    let (certificate, key) = (home.path().join("certificate.pem"), home.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    format!(
        "[tls]\ncertificates = [{{ certificate = '{}', key = '{}' }}]\n\
         [[listen]]\naddress = \"127.0.0.1:{port}\"\ntransport = \"dtls\"\n",
        certificate.display(),
        key.display()
    )
}

/// `openssl s_client`, ended after ten seconds at the latest.
fn openssl(server: std::net::SocketAddr, options: &[&str]) -> Child {
    Command::new("timeout")
        .args(["10", "openssl", "s_client", "-quiet", "-connect", &server.to_string()])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn stun_029_openssl_is_answered_over_dtls_beside_udp() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::open_with(26, 2, &keys(&home, 21_026));
    for options in [&["-dtls1_2"][..], &["-dtls"], &["-dtls1_2", "-mtu", "600"]] {
        let mut client = openssl(site.server, options);
        client.stdin.as_mut().unwrap().write_all(&BINDING).unwrap();
        let mut answer = [0; ANSWER];
        client.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        assert_eq!((&answer[..2], &answer[8..20]), (&[1, 1][..], &BINDING[8..]), "{options:?}");
        client.kill().unwrap();
        client.wait().unwrap();
    }
    // Clients on UDP notice nothing of it.
    site.client().allocate(&AllocateOptions::default()).unwrap();
    assert_eq!(site.metric("av_edge_relay_dtls_handshakes_total", &[]), 3);
    assert_eq!(site.metric("av_edge_relay_dtls_hellos_total", &["reason=\"taken\""]), 3);
    site.close();
}

#[test]
fn auth_040_a_flood_of_hellos_from_everywhere_leaves_nothing() {
    const HELLO: &[u8] = include_bytes!("../../../tests/fuzz/corpus/dtls/openssl_first");
    let home = tempfile::tempdir().unwrap();
    let site = Site::open_with(27, 1, &keys(&home, 21_027));
    let asked = || site.metric("av_edge_relay_dtls_hellos_total", &["reason=\"cookie_asked\""]);
    let sources = (0..1_000_u16).map(|n| {
        let [a, b] = n.to_be_bytes();
        UdpSocket::bind((Ipv4Addr::new(127, 9, a, b.max(1)), 0)).unwrap()
    });
    let sources: Vec<_> = sources.collect();
    for source in &sources {
        source.send_to(HELLO, site.server).unwrap();
    }
    for source in &sources {
        source.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = [0; 2_000];
        let length = source.recv(&mut answer).unwrap();
        assert!(length <= HELLO.len());
    }
    assert_eq!(asked(), 1_000);
    assert_eq!(site.metric("av_edge_relay_connections", &["transport=\"dtls\""]), 0);
    site.close();
}
