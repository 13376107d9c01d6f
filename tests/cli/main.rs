//! The binary as operators use it: what it prints, what it refuses, how it exits.

mod auth;
mod capture;
mod check;
mod conformance;
mod control;
mod credential;
mod doctor;
mod explain;
mod hardening;
mod harness;
mod key;
mod log;
mod relay;
mod reload;
mod secrets;
mod top;

use harness::Run;

#[test]
fn every_subcommand_explains_itself() {
    for (arguments, words) in [
        (
            &["--help"][..],
            &[
                "demo",
                "relay",
                "auth",
                "key",
                "credential",
                "probe",
                "conformance",
                "control",
                "explain",
                "top",
                "check",
            ][..],
        ),
        (&["relay", "--help"], &["--config <FILE>"]),
        (&["auth", "--help"], &["--config <FILE>"]),
        (&["check", "--help"], &["--config <FILE>", "--kind <KIND>"]),
        (&["demo", "--help"], &["--once"]),
        (
            &["probe", "--help"],
            &["<URI>", "--username", "--password-file <FILE>", "--key", "milliseconds"],
        ),
        (&["probe", "--help"], &["turns:HOST", "--ca <FILE>", "--insecure"]),
        (
            &["conformance", "--help"],
            &[
                "--user",
                "--password-file <FILE>",
                "--other-user",
                "--other-password-file <FILE>",
                "--secret-file <FILE>",
                "--key",
                "--peer",
                "--only",
                "--list",
                "--json",
                "turns:HOST",
            ],
        ),
        (&["explain", "--help"], &["REASON|ALLOCATION|CLIENT", "--socket <PATH>", "--json"]),
        (&["key", "generate", "--help"], &["--out <FILE>", "--type <TYPE>", "[default: p256]"]),
        (&["key", "show", "--help"], &["<FILE>"]),
        (
            &["credential", "mint", "--help"],
            &["--key <FILE>", "--user <ID>", "[default: 3600]", "in seconds", "--side", "--json"],
        ),
        (&["credential", "inspect", "--help"], &["<USERNAME>", "--key", "--password"]),
    ] {
        let run = Run::of(arguments);
        assert_eq!(run.status, 0, "{arguments:?}");
        for word in words {
            assert!(run.out.contains(word), "{arguments:?}: {word} is missing in\n{}", run.out);
        }
    }
    assert!(Run::of(&["--version"]).out.starts_with("av-edge "));
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_wrong() {
    for (arguments, expected) in [
        (&[][..], "Usage"),
        (&["serve"], "serve"),
        (&["relay"], "--config"),
        (&["auth", "--config"], "--config"),
        (&["check", "--config", "x", "--kind", "both"], "both"),
        (&["key"], "Usage"),
        (&["key", "generate", "--type", "rsa"], "rsa"),
        (&["key", "generate", "extra"], "extra"),
        (&["credential", "mint", "--user", "u"], "--key"),
        (&["credential", "mint", "--key", "x", "--user", "u", "--lifetime", "0"], "--lifetime"),
        (&["credential", "mint", "--key", "x", "--user", "u", "--lifetime", "1h"], "--lifetime"),
        (&["credential", "mint", "--key", "x", "--user", "u", "--side", "up"], "up"),
        (&["credential", "inspect", "1:u", "--password", "p"], "--key"),
        (&["probe"], "<URI>"),
        (&["probe", "turns:x", "--ca", "y", "--insecure"], "--insecure"),
        (&["conformance"], "<URI>"),
        (&["conformance", "turn:x"], "--user"),
        (&["conformance", "turn:x", "--user", "u"], "--password"),
        (&["conformance", "sip:x", "--user", "u", "--password", "p"], "turn:HOST"),
        (&["conformance", "--list", "--only", "STUN-999"], "STUN-999"),
    ] {
        let run = Run::of(arguments);
        assert_eq!(run.status, 2, "{arguments:?}");
        assert!(run.err.contains(expected), "{arguments:?}: {}", run.err);
        assert_eq!(run.out, "", "{arguments:?}");
    }
}
