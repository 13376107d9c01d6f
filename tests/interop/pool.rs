//! One pool, many processes: a credential is good at every relay that holds the key, and at no other.

use std::net::{IpAddr, SocketAddr};

use client::{AllocateOptions, ClientError, Credentials};

use crate::edge::{Home, RelayFile, connect_to, mint, start_auth, start_relay};
use crate::process::Process;
use crate::site::{INTERNAL, Site};

#[test]
fn auth_credential_is_good_at_relays_of_its_pool_only() {
    let site = Site::new();
    let home = Home::with_pool_key();
    home.openssl_key("other.pem", &["-algorithm", "ed25519"]);
    let _one = start(&site, &home, 3478, &["pool.pem"]);
    let _two = start(&site, &home, 3479, &["pool.pem"]);
    let _other = start(&site, &home, 3480, &["other.pem"]);
    let auth = start_auth(&site, &home);
    let credential = auth.credential(&site.client, "alice");
    let outcomes = [3478, 3479, 3480].map(|port| allocate(&site, port, &credential));
    assert_eq!(outcomes, [Ok(()), Ok(()), Err(Some(401))]);
}

#[test]
fn auth_every_kind_of_key_openssl_makes_serves_a_pool() {
    let site = Site::new();
    let home = Home::new();
    for (name, kind) in [
        ("rsa.pem", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..]),
        ("p256.pem", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("ed25519.pem", &["-algorithm", "ed25519"]),
    ] {
        let key = home.openssl_key(name, kind);
        let relay = start(&site, &home, 3478, &[name]);
        assert_eq!(allocate(&site, 3478, &mint(&key, "alice")), Ok(()), "{name}");
        drop(relay);
    }
}

#[test]
fn auth_previous_key_still_verifies_while_a_pool_rolls() {
    let site = Site::new();
    let home = Home::new();
    for name in ["old.pem", "new.pem"] {
        home.openssl_key(name, &["-algorithm", "ed25519"]);
    }
    let [old, new] = ["old.pem", "new.pem"].map(|name| mint(&home.path(name), "alice"));
    for (case, port, keys, wanted) in [
        ("before the roll", 3478, &["old.pem"][..], [Ok(()), Err(Some(401))]),
        ("rolled", 3479, &["new.pem", "old.pem"], [Ok(()), Ok(())]),
        ("after the roll", 3480, &["new.pem"], [Err(Some(401)), Ok(())]),
    ] {
        let _relay = start(&site, &home, port, keys);
        let outcomes = [&old, &new].map(|credential| allocate(&site, port, credential));
        assert_eq!(outcomes, wanted, "{case}: old, new");
    }
}

/// A relay of its own ports; three fit on one host.
fn start(site: &Site, home: &Home, port: u16, keys: &[&'static str]) -> Process {
    let (ports, metrics) = match port {
        3478 => ("50000-50999", "127.0.0.1:9641"),
        3479 => ("51000-51999", "127.0.0.1:9644"),
        _ => ("52000-52999", "127.0.0.1:9643"),
    };
    let file = RelayFile { ports, metrics, keys: keys.to_vec(), ..RelayFile::on_port(port) };
    start_relay(site, home, &file)
}

/// An allocation, and the error code if it is refused.
fn allocate(site: &Site, port: u16, credential: &Credentials) -> Result<(), Option<u16>> {
    let host: IpAddr = INTERNAL.parse().expect("an address");
    let mut client = site.client.enter(|| connect_to(SocketAddr::new(host, port), credential));
    match client.allocate(&AllocateOptions::default()) {
        Ok(_) => client.release().map_err(|e| e.code()),
        Err(refused @ ClientError::Refused { .. }) => Err(refused.code()),
        Err(other) => panic!("port {port}: {other}"),
    }
}
