//! `av-edge auth` as a process: start, mint, roll the key, stop.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

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

/// Asks MRAS for a credential; gives user name and password, and the minutes granted.
fn ask_mras(addr: &str) -> ((String, String), String) {
    let body = "<request requestID=\"1\" version=\"1.0\" to=\"sip:x@example.com\" \
        from=\"sip:y@example.com\" xmlns=\"http://schemas.microsoft.com/2006/09/sip/mrasp\">\
        <credentialsRequest credentialsRequestID=\"1\"><identity>sip:a@example.com</identity>\
        </credentialsRequest></request>";
    let mut stream = TcpStream::connect(addr).expect("the service listens");
    write!(
        stream,
        "SERVICE sip:x SIP/2.0\r\nv: SIP/2.0/TCP a;branch=z9hG4bKa\r\nf: <sip:a>;tag=1\r\n\
         t: <sip:x>\r\ni: 1\r\nCSeq: 1 SERVICE\r\n\
         c: application/msrtc-media-relay-auth+xml\r\nl: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("an open connection");
    stream.shutdown(std::net::Shutdown::Write).expect("an open connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a text");
    let text = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>")).expect(&answer);
        rest.split_once('<').expect("an end").0.to_owned()
    };
    ((text("username"), text("password")), text("duration"))
}

#[test]
fn mras_t5_tokens_are_minted_by_the_new_key_and_rules_on_sighup() {
    let directory = Directory::new();
    for name in ["old.pem", "new.pem"] {
        directory.key(name);
    }
    let (_, text) = configuration("key = \"old.pem\"");
    let (addr, _) = configuration("");
    let text = format!(
        "{text}[mras]\nlisten = \"{addr}\"\nmax_lifetime_min = 480\n[[mras.relays]]\n\
         location = \"internet\"\nhost_name = \"av.example.com\"\nudp_port = 3478\n"
    );
    let file = directory.write("auth.toml", &text);
    let mut service = Running::start("auth", &file);
    assert!(service.wait_for("A/V authentication (MRAS) on").contains(&addr));
    let (first, duration) = ask_mras(&addr);
    assert!(verifies(&directory, "old.pem", &first));
    assert_eq!(duration, "480");

    let rolled = text
        .replace("\"old.pem\"", "\"new.pem\"\nprevious = [\"old.pem\"]")
        .replace("= 480", "= 60");
    fs::write(&file, rolled).expect("our own file");
    service.signal("HUP");
    service.wait_for("read again");
    let (second, duration) = ask_mras(&addr);
    assert!(verifies(&directory, "new.pem", &second));
    assert!(!verifies(&directory, "old.pem", &second));
    assert_eq!(duration, "60");
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
