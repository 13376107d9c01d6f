//! Why something happened, asked at the command line.

use std::net::SocketAddr;

use client::{AllocateOptions, Credentials, Options, TurnClient};

use crate::harness::Run;
use crate::relay::{PASSWORD, Site};

#[test]
fn reasons_are_explained_without_a_relay() {
    for (name, words) in [
        ("stale_nonce", &["(refusal, code 438)", "What to do: nothing to do for a single one"][..]),
        ("throttled", &["(drop, in silence)", "limits.strangers_per_s"]),
        // It is both.
        ("peer_denied", &["code 403", "in silence", "av-edge check --peer"]),
    ] {
        let run = Run::of(&["explain", name]);
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{name}");
        for word in words {
            assert!(run.out.contains(word), "{name}: {word}: {}", run.out);
        }
        let json = Run::of(&["explain", name, "--json"]);
        let answer: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
        assert_eq!(answer["reasons"][0]["id"], name);
    }
    let list = Run::of(&["explain"]);
    assert!(list.out.lines().count() > 90, "{}", list.out);
    assert!(list.out.lines().any(|line| line.starts_with("wrong_password")), "{}", list.out);
    let json = Run::of(&["explain", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(list.out.lines().count()));
}

#[test]
fn a_word_that_is_no_subject_is_told_what_one_is() {
    for (word, near) in [("wrong_pasword", "wrong_password"), ("relay.example.org", "0-12-3")] {
        let run = Run::of(&["explain", word]);
        let refusal = run.refusal();
        assert!(refusal.contains(near) && refusal.contains("192.0.2.1:4321"), "{refusal}");
    }
    let run = Run::of(&["explain", "0-1-2", "--socket", "/nowhere/relay.sock"]);
    assert_eq!((run.status, run.out.as_str()), (1, ""));
    assert!(run.err.contains("[control]"), "{}", run.err);
}

#[test]
fn a_relay_says_why_a_client_was_refused_and_what_became_of_an_allocation() {
    let site = Site::new("[control]\npath = \"control.sock\"\n");
    let socket = site.directory.path("control.sock");
    let socket = socket.to_str().expect("a path in UTF-8");
    let mut relay = site.start();
    relay.wait_for("ready");
    let explain = |subject: &str| Run::of(&["explain", subject, "--socket", socket]);

    let mut stranger = site.client("alice", "not-her-password");
    let refused = stranger.allocate(&AllocateOptions::default());
    assert_eq!(refused.expect_err("it is wrong").code(), Some(401));
    let own = stranger.local_addr().expect("it is bound").to_string();
    let told = explain(&own);
    assert_eq!(told.status, 0, "{}", told.err);
    for words in
        ["wrong_password: The client at ", "What to do: Compare", "allocate refused with 401"]
    {
        assert!(told.out.contains(words), "{words}: {}", told.out);
    }
    assert!(!told.out.contains("alice") && !told.out.contains(PASSWORD), "{}", told.out);
    let told = explain("wrong_password");
    assert!(told.out.contains("counted 1 since") && told.out.contains(&own), "{}", told.out);

    let mut call = site.call("alice");
    call.exchange();
    let run = Run::of(&["control", "--socket", socket, "allocations", "--json"]);
    let row: serde_json::Value = serde_json::from_str(&run.out).expect("one allocation");
    let id = row["id"].as_str().expect("an id");
    let told = explain(id);
    for words in [" lives, for ", "opened by the client at ", "channel 0x4000 to peer 127.0.0.2:"] {
        assert!(told.out.contains(words), "{words}: {}", told.out);
    }
    call.client.release().expect("it ends");
    let json = Run::of(&["explain", id, "--socket", socket, "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    let entries = answer["entries"].as_array().expect("a list");
    assert_eq!(entries.last().expect("an end")["what"], "closed");

    let nobody = explain("198.51.100.1");
    assert_eq!(nobody.status, 1, "nothing is known");
    assert!(nobody.out.starts_with("Nothing is known"), "{}", nobody.out);
}

/// A client of this host's address that shows a credential minted with the relay's own key.
fn minted(site: &Site, host: u8, more: &[&str]) -> TurnClient {
    let key = site.directory.path("pool.pem");
    let key = key.to_str().expect("a path in UTF-8");
    let user = format!("user-{host}");
    let mint = ["credential", "mint", "--json", "--key", key, "--user", &user];
    let run = Run::of(&[&mint[..], more].concat());
    let minted: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
    let text = |name: &str| minted[name].as_str().expect("a text").to_owned();
    let bind = Some(SocketAddr::from(([127, 0, 0, host], 0)));
    let credentials = Credentials::new(text("username"), text("credential"));
    let options = Options { bind, ..Options::default() };
    TurnClient::connect_with(site.server, credentials, options).expect("a socket")
}

#[test]
fn a_wrong_side_and_clocks_that_differ_are_recognised() {
    let site = Site::new("[control]\npath = \"control.sock\"\n");
    let socket = site.directory.path("control.sock");
    let socket = socket.to_str().expect("a path in UTF-8");
    let mut relay = site.start();
    relay.wait_for("ready");
    let explain = |subject: &str| Run::of(&["explain", subject, "--socket", socket]).out;
    let refused = |client: &mut TurnClient, code: u16| {
        let refused = client.allocate(&AllocateOptions::default());
        assert_eq!(refused.expect_err("it is refused").code(), Some(code));
        client.local_addr().expect("it is bound").to_string()
    };
    let own = refused(&mut minted(&site, 11, &["--side", "internal"]), 403);
    let told = explain(&own);
    assert!(told.contains("wrong_side: The client at 127.0.0.11:"), "{told}");
    // A minting service whose clock is days ahead makes credentials that seem to live too long.
    let ahead = ["--lifetime", "900000"];
    for host in [12, 13] {
        let told = explain(&refused(&mut minted(&site, host, &ahead), 401));
        assert!(told.contains("expiry_too_far_ahead: ") && !told.contains("clock_skew"), "{told}");
    }
    let told = explain(&refused(&mut minted(&site, 14, &ahead), 401));
    assert!(told.contains("clock_skew: Credentials from 3 addresses"), "{told}");
    assert!(told.contains("What to do: Compare `date -u`"), "{told}");
}
