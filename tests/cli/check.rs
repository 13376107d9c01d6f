//! `av-edge check`, and what both services do with a bad configuration.

use std::fs;
use std::path::Path;

use crate::harness::{Directory, RELAY, Run};

const AUTH: &str = "listen = \"127.0.0.1:22701\"
uris = [\"turn:turn.example.org\"]
[pool]
key = \"pool.pem\"
[[callers]]
name = \"web\"
key = \"0123456789abcdef\"
";

#[test]
fn each_kind_of_file_is_recognised_and_summed_up() {
    let directory = Directory::new();
    directory.key("pool.pem");
    for (case, text, kind, words) in [
        ("auth", AUTH, None, &["valid", "credential service on http://127.0.0.1:22701", "web"][..]),
        ("auth, said", AUTH, Some("auth"), &["valid", "no metrics"]),
        ("relay", RELAY, None, &["valid", "127.0.0.1:22702/udp", "22800-23299", "example.org"]),
        ("relay, said", RELAY, Some("relay"), &["valid", "no metrics"]),
    ] {
        let file = directory.write("edge.toml", text);
        let mut arguments = vec!["check", "--config", file.to_str().expect("a text")];
        arguments.extend(kind.iter().flat_map(|kind| ["--kind", kind]));
        let run = Run::of(&arguments);
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{case}");
        for word in words {
            assert!(run.out.contains(word), "{case}: {word:?} is missing in {}", run.out);
        }
        assert!(!run.out.contains("0123456789abcdef"), "{case}: a key is shown");
    }
}

#[test]
fn bad_files_are_refused_by_check_and_by_the_service_with_one_message() {
    let directory = Directory::new();
    directory.key("pool.pem");
    for (service, text, from, to, expected) in [
        ("auth", AUTH, "listen = \"127.0.0.1:22701\"", "listen = \"127.0.0.1\"", "listen"),
        ("auth", AUTH, "127.0.0.1:22701", "0.0.0.0:22701", "insecure_http"),
        ("auth", AUTH, "key = \"pool.pem\"", "key = \"none.pem\"", "none.pem"),
        ("auth", AUTH, "uris =", "urls =", "urls"),
        ("auth", AUTH, "0123456789abcdef", "short", "callers[0].key"),
        ("auth", AUTH, "[[callers]]", "[[callers", "TOML"),
        ("relay", RELAY, "realm =", "real =", "real"),
        ("relay", RELAY, "127.0.0.1:22702", "127.0.0.1", "address"),
        ("relay", RELAY, "22800-23299", "22800", "ports"),
        ("relay", RELAY, "key = \"pool.pem\"", "key = \"none.pem\"", "none.pem"),
    ] {
        let file = directory.write("edge.toml", &text.replacen(from, to, 1));
        let file = file.to_str().expect("a text");
        for arguments in [
            &["check", "--config", file][..],
            &["check", "--kind", service, "--config", file],
            &[service, "--config", file],
        ] {
            let run = Run::of(arguments);
            let message = run.refusal();
            assert!(message.contains("edge.toml"), "{to}, {arguments:?}: {message}");
            assert!(message.contains(expected), "{to}, {arguments:?}: {message}");
        }
    }
}

#[test]
fn files_that_tell_nothing_are_refused() {
    let directory = Directory::new();
    for (case, text, expected) in [
        ("empty", "", "--kind"),
        ("both", "realm = \"x\"\nuris = []\n", "--kind"),
        ("unreadable", "\u{0}", "TOML"),
    ] {
        let file = directory.write("edge.toml", text);
        let run = Run::of(&["check", "--config", file.to_str().expect("a text")]);
        assert!(run.refusal().contains(expected), "{case}: {}", run.err);
    }
    let missing = directory.path("missing.toml");
    for subcommand in ["check", "auth", "relay"] {
        let run = Run::of(&[subcommand, "--config", missing.to_str().expect("a text")]);
        assert!(run.refusal().contains("missing.toml"), "{subcommand}: {}", run.err);
    }
}

#[test]
fn the_documented_files_are_recognised() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let directory = Directory::new();
    directory.key("pool.pem");
    directory.write("web.key", "0123456789abcdef\n");
    let text = fs::read_to_string(deploy.join("auth.toml")).expect("the file is there");
    let file = directory.write("auth.toml", &text);
    let run = Run::of(&["check", "--config", file.to_str().expect("a text")]);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.out.contains("credential service"), "{}", run.out);
}

/// Exit status and words about a peer.
fn judge(arguments: &[&str]) -> (i32, String) {
    let run = Run::of(&[&["check", "--peer"], arguments].concat());
    assert_eq!(run.err, "", "{arguments:?}");
    assert_eq!(run.out.lines().count(), 1, "{arguments:?}: {}", run.out);
    (run.status, run.out)
}

#[test]
fn a_peer_is_judged_by_the_built_in_rules_in_words() {
    for (peer, status, words) in [
        ("8.8.8.8", 0, &["8.8.8.8: allowed", "globally reachable"][..]),
        ("8.8.8.8:53", 0, &["8.8.8.8:53: allowed"]),
        ("2001:4860:4860::8888", 0, &["allowed"]),
        ("[2001:4860:4860::8888]:53", 0, &["allowed"]),
        ("8.8.8.8:0", 1, &["denied", "Port 0"]),
        (
            "10.1.2.3",
            1,
            &["denied", "10.0.0.0/8 (Private-Use, IANA IPv4 special-purpose registry)"],
        ),
        ("192.0.0.8", 1, &["192.0.0.8/32 (IPv4 dummy address"]),
        ("169.254.169.254", 1, &["169.254.169.254/32", "metadata"]),
        ("::ffff:10.0.0.1", 1, &["::ffff:0:0/96", "IPv4-mapped"]),
        ("2002:a00:1::1", 1, &["2002::/16 (6to4", "Inside it: 10.0.0.1 (6to4)."]),
        ("2a00::5efe:10.0.0.1", 1, &["leads to 10.0.0.1 (ISATAP), which lies in 10.0.0.0/8"]),
        ("224.0.0.1", 1, &["no single host"]),
        ("4000::1", 1, &["not global unicast"]),
    ] {
        let (found, out) = judge(&[peer]);
        assert_eq!(found, status, "{peer}: {out}");
        for word in words {
            assert!(out.contains(word), "{peer}: {word:?} is missing in {out}");
        }
    }
}

#[test]
fn a_peer_is_judged_by_a_configuration_in_its_own_words() {
    let directory = Directory::new();
    directory.key("pool.pem");
    let peers = "
[redirect]
alternates = [\"9.9.9.9:3478\"]
[metrics]
address = \"127.0.0.1:22703\"
[peers]
allow = [\"10.0.0.0/8\", \"127.0.0.0/8\", \"0.0.0.0/0\", \"2001:db8:64::/96\"]
deny = [\"10.9.0.0/16\"]
deny_ports = [\"25\"]
nat64 = [\"2001:db8:64::/96\"]
pool = [{ address = \"9.9.9.10\", local = \"192.168.0.9\" }]
[peers.internal]
allow = [\"10.9.9.0/24\"]
[peers.external]
allow_ports = [\"1024-65535\"]
";
    let file = directory.write("edge.toml", &format!("{RELAY}{peers}"));
    let file = file.to_str().expect("a text");
    for (peer, side, status, word) in [
        ("10.1.1.1:5000", "external", 0, "10.0.0.0/8 of peers.allow"),
        ("10.9.9.1:5000", "external", 1, "10.9.0.0/16 of peers.deny"),
        ("10.9.9.1:5000", "internal", 0, "10.9.9.0/24 of peers.internal.allow"),
        ("192.168.1.1:5000", "external", 1, "0.0.0.0/0 of peers.allow is less specific"),
        ("8.8.8.8:25", "internal", 1, "closes the port"),
        ("8.8.8.8:80", "external", 1, "closes the port"),
        ("8.8.8.8:80", "internal", 0, "0.0.0.0/0"),
        ("127.0.0.1:22702", "external", 1, "Clients of this relay are served there"),
        ("127.0.0.1:22850", "external", 0, "live relayed"),
        ("127.0.0.1:22", "external", 1, "none of relay.ports"),
        ("9.9.9.9:3478", "external", 1, "another relay"),
        ("9.9.9.10:22850", "external", 0, "reached as 192.168.0.9"),
        ("9.9.9.10:3478", "external", 1, "none of its relayed ports"),
        ("2001:db8:64::8.8.8.8", "external", 0, "2001:db8:64::/96 of peers.allow"),
        ("2001:db8:64::192.168.0.1", "external", 1, "leads to 192.168.0.1 (NAT64 by peers.nat64)"),
        ("127.255.255.255:5000", "external", 1, "stand for a network"),
    ] {
        let (found, out) = judge(&[peer, "--config", file, "--side", side]);
        assert_eq!(found, status, "{peer} from {side}: {out}");
        assert!(out.contains(word), "{peer} from {side}: {word:?} is missing in {out}");
    }
}

#[test]
fn a_peer_is_judged_by_a_credential_too() {
    let directory = Directory::new();
    let key = directory.key("pool.pem");
    let key = key.to_str().expect("a text");
    let run = Run::of(&[
        "credential",
        "mint",
        "--key",
        key,
        "--user",
        "u",
        "--peers",
        "8.8.8.0/24,2001:4860::/32",
        "--ports",
        "53,1024-65535",
    ]);
    let username = run.out.split_whitespace().nth(1).expect("a user name");
    for (peer, status, word) in [
        ("8.8.8.8:53", 0, "allowed"),
        ("8.8.9.8:53", 1, "none of the credential's ranges"),
        ("8.8.8.8:80", 1, "not good for the port"),
    ] {
        let (found, out) = judge(&[peer, "--username", username]);
        assert_eq!(found, status, "{peer}: {out}");
        assert!(out.contains(word), "{peer}: {out}");
    }
}

#[test]
fn what_is_no_peer_ends_with_2() {
    for arguments in [
        &["--peer", "host.example.org"][..],
        &["--peer", "8.8.8.8:"],
        &["--peer", "8.8.8.8", "--side", "left"],
        &["--peer", "8.8.8.8", "--kind", "auth"],
        &["--peer", "8.8.8.8", "--config", "/none"],
        &["--peer", "8.8.8.8", "--username", "u"],
        &["--side", "internal"],
        &[],
    ] {
        assert_eq!(Run::of(&[&["check"], arguments].concat()).status, 2, "{arguments:?}");
    }
}
