//! `av-edge conformance`: against a relay of its own, and where there is none.

use std::net::UdpSocket;

use serde_json::Value;

use crate::harness::{Directory, Run, Running};

#[test]
fn requirements_are_listed_in_words_and_as_json() {
    let words = Run::of(&["conformance", "--list"]);
    assert_eq!((words.status, words.err.as_str()), (0, ""));
    assert!(words.out.contains("STUN-005") && words.out.contains("RFC 8656 §12"), "{}", words.out);
    let some = Run::of(&["conformance", "--list", "--json", "--only", "chan,AUTH-018"]);
    let list: Vec<Value> = serde_json::from_str(&some.out).expect("it is JSON");
    let ids: Vec<&str> = list.iter().filter_map(|case| case["id"].as_str()).collect();
    assert!(ids.contains(&"AUTH-018") && ids.contains(&"CHAN-001"), "{ids:?}");
    assert!(ids.iter().all(|id| id.starts_with("CHAN-") || *id == "AUTH-018"), "{ids:?}");
    assert!(words.out.lines().count() > 2 * ids.len(), "--only leaves most out");
}

#[test]
fn the_relay_itself_fails_no_requirement() {
    let directory = Directory::new();
    directory.key("pool.pem");
    let port = free_port();
    let text = format!(
        "realm = \"example.org\"\nworkers = 1\n[pool]\nkey = \"pool.pem\"\n\
         [[listen]]\naddress = \"127.0.0.1:{port}\"\ntransport = \"udp\"\nside = \"external\"\n\
         [relay]\naddresses = [{{ local = \"127.0.0.1\" }}]\nports = \"24000-24999\"\n\
         [peers]\nallow = [\"127.0.0.0/8\"]\n"
    );
    let file = directory.write("relay.toml", &text);
    let mut relay = Running::start("relay", &file);
    relay.wait_for(&port.to_string());
    let key = directory.path("pool.pem");
    let (uri, key) = (format!("turn:127.0.0.1:{port}"), key.to_str().expect("a text"));

    let run = Run::of(&["conformance", &uri, "--key", key, "--json", "--only", "STUN,PERM,DATA"]);
    let report: Value = serde_json::from_str(&run.out).expect("it is JSON");
    assert_eq!((run.status, &report["failed"]), (0, &0.into()), "{}", run.out);
    assert!(report["passed"].as_u64().expect("a number") > 30, "{}", run.out);

    let wrong = ["conformance", &uri, "--user", "9999999999:u", "--password", "p"];
    let run = Run::of(&wrong);
    assert_eq!(run.status, 1, "{}", run.out);
    assert!(run.err.contains("cannot begin") && run.err.contains("401"), "{}", run.err);
}

#[test]
fn where_nobody_listens_it_ends_with_status_1() {
    let uri = format!("turn:127.0.0.1:{}", free_port());
    let run = Run::of(&["conformance", &uri, "--user", "u", "--password", "p", "--timeout", "300"]);
    assert_eq!((run.status, run.out.as_str()), (1, ""), "{}", run.err);
    assert!(run.err.contains("cannot begin"), "{}", run.err);
}

fn free_port() -> u16 {
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    free.expect("loopback has free ports").port()
}
