//! SIGHUP: the relay reads its configuration again, and calls go on.

use std::time::Duration;

use client::AllocateOptions;

use crate::relay::{PASSWORD, Site, page};

/// How long is waited for what must not come.
const NEVER: Duration = Duration::from_millis(300);

const DONE: &str = "the configuration was read again";

fn reloads(site: &Site) -> [u64; 2] {
    let text = page(&site.metrics, "/metrics");
    ["done", "failed"].map(|result| {
        let series = format!("av_edge_relay_reloads_total{{result=\"{result}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&*series));
        value.expect("the series").parse().expect("a number")
    })
}

#[test]
fn credentials_and_quotas_change_and_the_call_goes_on() {
    let site = Site::new("");
    let mut relay = site.start();
    relay.wait_for("ready");
    let mut call = site.call("alice");
    let options = AllocateOptions::default();
    let refusal = |user: &str, password: &str| {
        site.client(user, password).allocate(&options).err().and_then(|error| error.code())
    };
    assert_eq!(refusal("carol", "another-password"), Some(401));

    site.directory.write("users", "alice:the-new-password\ncarol:another-password\n");
    site.rewrite("[peers]", "[limits]\nallocations_per_user = 1\n[peers]");
    relay.signal("HUP");
    relay.wait_for(DONE);
    call.exchange();
    assert_eq!(refusal("carol", "another-password"), None);
    assert_eq!(refusal("bob", PASSWORD), Some(401), "who is gone is unknown");
    assert_eq!(refusal("alice", PASSWORD), Some(401), "the old password is wrong");
    assert_eq!(refusal("alice", "the-new-password"), Some(486), "the call counts");
    call.exchange();
    assert_eq!(reloads(&site), [1, 0]);
}

#[test]
fn a_bad_file_keeps_what_is_in_force() {
    let site = Site::new("");
    let mut relay = site.start();
    relay.wait_for("ready");
    let mut call = site.call("alice");
    for (from, to, words) in [
        ("[peers]", "[piers]", "piers: there is no such key"),
        ("[piers]", "[peers]\ndeny = [\"nowhere\"]", "peers.deny[0] = \"nowhere\""),
        ("\ndeny = [\"nowhere\"]", "", "auth.users_file"),
    ] {
        site.rewrite(from, to);
        if words == "auth.users_file" {
            site.directory.write("users", "alice\n");
        }
        relay.signal("HUP");
        let line = relay.wait_for("The configuration in force stays");
        assert!(line.contains(words), "{line}");
        call.exchange();
        let mut bob = site.client("bob", PASSWORD);
        bob.allocate(&AllocateOptions::default()).expect("bob is still known");
        bob.release().expect("it ends");
    }
    assert_eq!(reloads(&site), [0, 3]);
}

#[test]
fn sec_002_a_peer_that_is_forbidden_now_is_reached_no_more_and_the_allocation_stays() {
    let site = Site::new("");
    let mut relay = site.start();
    relay.wait_for("ready");
    let mut call = site.call("alice");
    call.exchange();
    site.rewrite(
        "allow = [\"127.0.0.0/8\"]",
        "allow = [\"127.0.0.0/8\"]\ndeny = [\"127.0.0.2/32\"]",
    );
    relay.signal("HUP");
    relay.wait_for(DONE);
    assert!(!call.passes(NEVER), "a forbidden peer heard");
    let refused = call.client.bind_channel(call.peer.local_addr().expect("it is bound"));
    assert_eq!(refused.expect_err("it is forbidden").code(), Some(403));
    call.client.refresh(Duration::from_secs(600)).expect("the allocation is as it was");

    site.rewrite("\ndeny = [\"127.0.0.2/32\"]", "");
    relay.signal("HUP");
    relay.wait_for(DONE);
    call.client.bind_channel(call.peer.local_addr().expect("it is bound")).expect("allowed again");
}

#[test]
fn what_waits_for_a_restart_is_named() {
    let site = Site::new("");
    let mut relay = site.start();
    relay.wait_for("ready");
    site.rewrite("workers = 2", "workers = 3\nfeatures.tcp_relays = false");
    site.rewrite("[auth]", "[auth]\nmax_lifetime_s = 3600");
    relay.signal("HUP");
    let line = relay.wait_for("wait for a restart");
    assert!(line.ends_with("restart: features.tcp_relays, workers\n"), "{line}");
    relay.wait_for(DONE);
    site.rewrite("realm = \"example.org\"", "realm = \"example.net\"");
    relay.signal("HUP");
    let line = relay.wait_for("The configuration in force stays");
    assert!(line.contains("realm = \"example.net\": "), "{line}");
}
