//! `av-edge auth` as a process: start, mint, roll the key, stop.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::harness::{Directory, Run, Running};

const KEY: &str = "0123456789abcdef";

/// A configuration on a port that is free now.
fn configuration(pool: &str) -> (String, String) {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let addr = free.expect("loopback has free ports").to_string();
    let text = format!(
        "listen = \"{addr}\"\nuris = [\"turn:turn.example.org\"]\n[pool]\n{pool}\n\
         [[callers]]\nname = \"web\"\nkey = \"{KEY}\"\n"
    );
    (addr, text)
}

/// Mints for a user over HTTP.
fn mint(addr: &str) -> (String, String) {
    let mut answer = ureq::get(format!("http://{addr}/turn?service=turn&username=u"))
        .header("Authorization", format!("Bearer {KEY}"))
        .call()
        .expect("an answer");
    let body = answer.body_mut().read_to_string().expect("a text");
    let object: Value = serde_json::from_str(&body).expect("it is JSON");
    let text = |name: &str| object[name].as_str().expect("a text").to_owned();
    (text("username"), text("password"))
}

fn verifies(directory: &Directory, key: &str, (username, password): &(String, String)) -> bool {
    let key = directory.path(key);
    let key = key.to_str().expect("a text");
    Run::of(&["credential", "inspect", username, "--key", key, "--password", password]).status == 0
}

#[test]
fn rest_009_the_pool_key_rolls_on_sighup_and_a_bad_file_changes_nothing() {
    let directory = Directory::new();
    for name in ["old.pem", "new.pem"] {
        directory.key(name);
    }
    let (addr, text) = configuration("key = \"old.pem\"");
    let file = directory.write("auth.toml", &text);
    let mut service = Running::start("auth", &file);
    assert!(service.wait_for("credential service on").contains(&addr));
    let first = mint(&addr);
    assert!(verifies(&directory, "old.pem", &first));
    assert!(!verifies(&directory, "new.pem", &first));

    fs::write(&file, text.replace("uris", "urls")).expect("our own file");
    service.signal("HUP");
    assert!(service.wait_for("the configuration in force stays").contains("urls"));
    assert!(verifies(&directory, "old.pem", &mint(&addr)), "a bad file changes nothing");

    let rolled = text.replace("\"old.pem\"", "\"new.pem\"\nprevious = [\"old.pem\"]");
    fs::write(&file, rolled).expect("our own file");
    service.signal("HUP");
    service.wait_for("read again");
    let second = mint(&addr);
    assert!(verifies(&directory, "new.pem", &second));
    assert!(!verifies(&directory, "old.pem", &second));

    service.signal("TERM");
    assert_eq!(service.end(), Some(0));
}

#[test]
fn an_occupied_port_exits_with_2_and_one_message() {
    let directory = Directory::new();
    directory.key("pool.pem");
    let (addr, text) = configuration("key = \"pool.pem\"");
    let _occupied = TcpListener::bind(&addr).expect("it was free a moment ago");
    let file = directory.write("auth.toml", &text);
    let run = Run::of(&["auth", "--config", file.to_str().expect("a text")]);
    let message = run.refusal();
    assert!(message.contains(&addr) && message.contains("another process"), "{message}");
}
