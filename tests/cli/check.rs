//! `av-edge check`, and what both services do with a bad configuration.

use std::fs;
use std::path::Path;

use crate::harness::{Directory, Run};

const AUTH: &str = "listen = \"127.0.0.1:22701\"
uris = [\"turn:turn.example.org\"]
[pool]
key = \"pool.pem\"
[[callers]]
name = \"web\"
key = \"0123456789abcdef\"
";

const RELAY: &str = "realm = \"example.org\"
workers = 1
[pool]
key = \"pool.pem\"
[[listen]]
address = \"127.0.0.1:22702\"
[relay]
addresses = [{ local = \"127.0.0.1\" }]
ports = \"22800-22899\"
";

#[test]
fn each_kind_of_file_is_recognised_and_summed_up() {
    let directory = Directory::new();
    directory.key("pool.pem");
    for (case, text, kind, words) in [
        ("auth", AUTH, None, &["valid", "credential service on http://127.0.0.1:22701", "web"][..]),
        ("auth, said", AUTH, Some("auth"), &["valid", "no metrics"]),
        ("relay", RELAY, None, &["valid", "127.0.0.1:22702/udp", "22800-22899", "example.org"]),
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
        ("relay", RELAY, "22800-22899", "22800", "ports"),
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
