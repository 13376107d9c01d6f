//! `av-edge key`, and what happens to keys that cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Directory, Run, set_mode};

/// RSA of 1,024 bits, made for this test with `openssl genpkey`: protects nothing.
const WEAK: &str = include_str!("test-only-weak-rsa-1024.pem");

fn generate(arguments: &[&str]) -> Run {
    Run::of(&[&["key", "generate"], arguments].concat())
}

/// The value behind a word of `key show`.
fn shown<'a>(run: &'a Run, word: &str) -> &'a str {
    let line = run.out.lines().find_map(|line| line.strip_prefix(word));
    line.unwrap_or_else(|| panic!("{word} is missing in {}", run.out)).trim()
}

#[test]
fn keys_are_made_for_their_owner_only_and_never_overwritten() {
    let directory = Directory::new();
    for (arguments, kind) in
        [(&[][..], "P-256"), (&["--type", "p256"], "P-256"), (&["--type", "ed25519"], "Ed25519")]
    {
        let path = directory.path(&format!("{}.pem", arguments.join("")));
        let file = path.to_str().expect("a text");
        let run = generate(&[&["--out", file], arguments].concat());
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{arguments:?}");
        let mode = fs::metadata(&path).expect("it was written").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{arguments:?}");

        let pem = fs::read_to_string(&path).expect("it was written");
        let show = Run::of(&["key", "show", file]);
        assert_eq!(shown(&show, "kind"), kind);
        let (id, fingerprint) = (shown(&show, "key id"), shown(&show, "fingerprint"));
        assert!(fingerprint.starts_with(id) && id.len() == 8, "{}", show.out);
        assert!(run.out.contains(id), "{}", run.out);
        for line in pem.lines() {
            assert!(!show.out.contains(line) && !run.out.contains(line), "a secret is shown");
        }

        let again = generate(&["--out", file]);
        assert!(again.refusal().contains("never overwritten"), "{}", again.err);
        assert_eq!(fs::read_to_string(&path).expect("it is still there"), pem);
    }
}

#[test]
fn without_a_file_the_key_goes_to_standard_output() {
    let (one, two) = (generate(&[]), generate(&[]));
    assert_ne!(one.out, two.out);
    let directory = Directory::new();
    let path = directory.write("pool.pem", &one.out);
    assert_eq!(Run::of(&["key", "show", path.to_str().expect("a text")]).status, 0);
}

#[test]
fn keys_that_cannot_be_used_are_refused_wherever_one_is_needed() {
    let directory = Directory::new();
    let exposed = directory.key("exposed.pem");
    set_mode(&exposed, 0o644);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let config = |key: &str| {
        directory.write(
            "auth.toml",
            &format!(
                "listen = \"127.0.0.1:22700\"\nuris = [\"turn:a.example\"]\n\
                 [pool]\nkey = \"{key}\"\n\
                 [[callers]]\nname = \"web\"\nkey = \"0123456789abcdef\"\n"
            ),
        )
    };
    for (case, name, text, expected) in [
        ("missing", "missing.pem", None, "cannot be read"),
        ("weak", "weak.pem", Some(WEAK), "1024 bits"),
        ("exposed", "exposed.pem", None, "chmod"),
        ("no key", "text.pem", Some("hello\n"), "no private key"),
        ("empty", "empty.pem", Some(""), "no private key"),
        ("encrypted", "encrypted.pem", Some(encrypted), "encrypted"),
    ] {
        if let Some(text) = text {
            directory.write(name, text);
        }
        let path = directory.path(name);
        let file = path.to_str().expect("a text");
        let auth = config(file);
        let auth = auth.to_str().expect("a text");
        for arguments in [
            &["key", "show", file][..],
            &["credential", "mint", "--user", "u", "--key", file],
            &["credential", "inspect", "1:u", "--key", file],
            &["check", "--config", auth],
            &["auth", "--config", auth],
        ] {
            let run = Run::of(arguments);
            let message = run.refusal();
            assert!(message.contains(expected), "{case}, {arguments:?}: {message}");
            assert!(message.contains(file), "{case}, {arguments:?}: {message}");
        }
    }
}
