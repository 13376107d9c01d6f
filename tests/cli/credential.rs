//! `av-edge credential`.

use serde_json::Value;

use crate::harness::{Directory, Run};

fn mint(arguments: &[&str]) -> (String, String) {
    let run = Run::of(&[&["credential", "mint", "--json"], arguments].concat());
    assert_eq!(run.status, 0, "{}", run.err);
    let object: Value = serde_json::from_str(&run.out).expect("it is JSON");
    let text = |name: &str| object[name].as_str().expect("a text").to_owned();
    assert!(object["expires"].is_u64() && object["ttl"].is_u64(), "{object}");
    (text("username"), text("credential"))
}

#[test]
fn what_is_minted_is_explained_and_verifies_with_its_key_only() {
    let directory = Directory::new();
    let [ours, other] = ["ours.pem", "other.pem"].map(|name| directory.key(name));
    let [ours, other] = [&ours, &other].map(|path| path.to_str().expect("a text"));
    let own = ["--key", ours, "--user", "a:b", "--lifetime", "7200", "--side", "external"];
    let (username, password) = mint(&[&own[..], &["--allocations", "2"]].concat());
    let inspect =
        |more: &[&str]| Run::of(&[&["credential", "inspect", username.as_str()], more].concat());

    let run = inspect(&["--key", ours, "--password", &password]);
    assert_eq!((run.status, run.err.as_str()), (0, ""), "{}", run.out);
    for line in ["user         a:b", "side         external", "allocations  at most 2"] {
        assert!(run.out.lines().any(|found| found == line), "{line:?} is missing in {}", run.out);
    }
    assert!(run.out.contains("in 1 hour 59 minutes") || run.out.contains("in 2 hours"));
    assert!(run.out.contains("password     verifies"), "{}", run.out);
    assert!(!run.out.contains(&password), "the password is shown");

    let piped = Run::with_input(
        &["credential", "inspect", &username, "--key", ours, "--password", "-"],
        &format!("{password}\n"),
    );
    assert_eq!(piped.status, 0, "{}", piped.err);

    for (case, run, expected) in [
        ("key unasked", inspect(&[]), None),
        ("key alone", inspect(&["--key", ours]), None),
        ("another key", inspect(&["--key", other]), Some("another key")),
        (
            "another key and the password",
            inspect(&["--key", other, "--password", &password]),
            Some("another key"),
        ),
        (
            "another password",
            inspect(&["--key", ours, "--password", "x"]),
            Some("the password is not"),
        ),
    ] {
        assert_eq!(run.status, i32::from(expected.is_some()), "{case}: {}", run.err);
        assert!(run.err.contains(expected.unwrap_or("")), "{case}: {}", run.err);
    }
}

#[test]
fn plain_output_has_user_name_and_password() {
    let directory = Directory::new();
    let key = directory.key("pool.pem");
    let key = key.to_str().expect("a text");
    let run = Run::of(&["credential", "mint", "--key", key, "--user", "u"]);
    let words: Vec<Vec<_>> =
        run.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let [username, password] = &words[..] else { panic!("{}", run.out) };
    assert_eq!((username[0], password[0]), ("username", "password"));
    let arguments = ["credential", "inspect", username[1], "--key", key, "--password", password[1]];
    assert_eq!(Run::of(&arguments).status, 0);
}

#[test]
fn rest_003_names_that_are_no_credentials_exit_with_1() {
    for (case, name, expected) in [
        ("expired", "1:u", "expired"),
        ("no expiry", "u", "expiry"),
        ("empty", "", "expiry"),
        ("signed expiry", "+9999999999:u", "expiry"),
        ("expiry beyond 2^53", "9007199254740993:u", "expiry"),
        ("unknown claim", "9999999999:00000000:x=1:u", "claim"),
        ("no user", "9999999999:00000000::", "user"),
    ] {
        let run = Run::of(&["credential", "inspect", "--", name]);
        assert_eq!(run.status, 1, "{case}: {}", run.out);
        assert!(run.err.contains(expected), "{case}: {}", run.err);
    }
    let run = Run::of(&["credential", "inspect", "9999999999:u"]);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.out.contains("shared secret"), "{}", run.out);
}

#[test]
fn users_that_no_name_can_hold_are_refused() {
    let directory = Directory::new();
    let key = directory.key("pool.pem");
    let long = "x".repeat(256);
    for user in ["", "a\nb", &long] {
        let key = key.to_str().expect("a text");
        let run = Run::of(&["credential", "mint", "--key", key, "--user", user]);
        assert!(run.refusal().contains("--user"), "{user:?}: {}", run.err);
    }
}

#[test]
fn a_token_is_minted_explained_and_opens_with_its_key_and_name_only() {
    let directory = Directory::new();
    let [ours, other] = ["ours.pem", "other.pem"].map(|name| directory.key(name));
    let [ours, other] = [&ours, &other].map(|path| path.to_str().expect("a text"));
    let name = ["--server-name", "turn.example.org"];
    let own = ["credential", "mint", "--oauth", "--json", "--lifetime", "600", "--key", ours];
    let run = Run::of(&[&own[..], &name].concat());
    assert_eq!(run.status, 0, "{}", run.err);
    let object: Value = serde_json::from_str(&run.out).expect("it is JSON");
    let text = |name: &str| object[name].as_str().expect("a text");
    assert_eq!((&object["expires_in"], text("token_type")), (&Value::from(600), "pop"));
    let inspect = |key: &str, server: &str, token: &str| {
        Run::of(&[
            "credential",
            "inspect",
            text("kid"),
            "--key",
            key,
            "--server-name",
            server,
            "--token",
            token,
        ])
    };
    let run = inspect(ours, name[1], text("access_token"));
    assert_eq!((run.status, run.err.as_str()), (0, ""), "{}", run.out);
    for line in ["form         access token (RFC 7635)", "mac key      20 bytes"] {
        assert!(run.out.lines().any(|found| found == line), "{line:?} is missing in {}", run.out);
    }
    assert!(!run.out.contains(text("key")), "the key is shown");
    for (case, run) in [
        ("another key", inspect(other, name[1], text("access_token"))),
        ("another name", inspect(ours, "turn.example.com", text("access_token"))),
        ("no base64", inspect(ours, name[1], "?")),
        ("another token", inspect(ours, name[1], "AAxub25jZQ==")),
    ] {
        assert_eq!(run.status, 1, "{case}: {}", run.out);
    }
    let run = Run::of(&own);
    assert_eq!(run.status, 2, "a token needs a server name: {}", run.err);
}

#[test]
fn auth_014_keys_of_a_user_are_derived_from_the_password() {
    let derive = |user: &str, input: &str| {
        let own = ["credential", "derive", "--realm", "realm", "--user", user];
        Run::with_input(&own, input)
    };
    // MD5: the constant of RFC 8489 §9.2.2. SHA-256: `printf user:realm:pass | sha256sum`.
    let run = derive("user", "pass\n");
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    let lines: Vec<_> = run.out.lines().collect();
    assert_eq!(lines, [SHA256_LINE, "user:md5:8493fbc53ba582fb4c044c456bdc40eb"]);
    for (case, user, input) in
        [("no name", "", "pass"), ("a colon", "a:b", "pass"), ("no password", "user", "\n")]
    {
        assert_eq!(derive(user, input).status, 2, "{case}");
    }
}

const SHA256_LINE: &str =
    "user:sha256:07e934117abd40836e7c6329b54731b2b2d2a5f9a71f544922d75e0730d8251b";

#[test]
fn mras_050_a_token_is_minted_explained_and_verifies_with_its_key_only() {
    let directory = Directory::new();
    let [ours, other] = ["ours.pem", "other.pem"].map(|name| directory.key(name));
    let [ours, other] = [&ours, &other].map(|path| path.to_str().expect("a text"));
    let user = ["--mras", "--user", "sip:alice@example.com", "--lifetime", "7200"];
    let (username, password) =
        mint(&[&["--key", ours, "--side", "external"][..], &user[..]].concat());
    assert!(username.starts_with("AgAAJ") && username.len() == 76, "{username}");
    assert_eq!(password.len(), 28, "20 bytes in base64");
    let inspect =
        |more: &[&str]| Run::of(&[&["credential", "inspect", username.as_str()], more].concat());

    let run = inspect(&["--key", ours, "--password", &password]);
    assert_eq!((run.status, run.err.as_str()), (0, ""), "{}", run.out);
    for line in ["side         external", "password     verifies"] {
        assert!(run.out.lines().any(|found| found == line), "{line:?} is missing in {}", run.out);
    }
    assert!(!run.out.contains(&password), "the password is shown");
    for (case, more) in [
        ("another key", &["--key", other][..]),
        ("another key, the password", &["--key", other, "--password", &password]),
        ("another password", &["--key", ours, "--password", "c29tZXRoaW5n"]),
    ] {
        assert_eq!(inspect(more).status, 1, "{case}");
    }
    assert_eq!(inspect(&[]).status, 0, "without a key it is only taken apart");
    let run = Run::of(&["credential", "mint", "--key", ours, "--mras", "--user", "alice"]);
    assert!(run.refusal().contains("a SIP URI"), "{}", run.err);
}

#[test]
fn what_narrows_a_credential_is_minted_and_explained() {
    let directory = Directory::new();
    let key = directory.key("pool.pem");
    let own = ["--key", key.to_str().expect("a text"), "--user", "u"];
    let narrow = [
        "--peers",
        "10.0.0.0/8,2001:db8::1",
        "--ports",
        "53,1024-65535",
        "--limit",
        "kbit_per_s=3000,packets_per_s=500",
        "--limit",
        "allocations=2",
        "--traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ];
    let (username, _) = mint(&[&own[..], &narrow].concat());
    let run = Run::of(&["credential", "inspect", &username]);
    for line in [
        "allocations  at most 2",
        "rates        at most 3000 kbit/s, 500 packets/s, each way",
        "peers        10.0.0.0/8, 2001:db8::1/128",
        "ports        53-53, 1024-65535",
        "traceparent  00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert!(run.out.lines().any(|found| found == line), "{line:?} is missing in {}", run.out);
    }
    let many = vec!["10.0.0.0/8"; 17].join(",");
    for (flag, value) in [
        ("--peers", "ten"),
        ("--peers", &many),
        ("--ports", "80-"),
        ("--ports", "1,2,3,4,5,6,7,8,9"),
        ("--limit", "kbit_per_s=0"),
        ("--limit", "kbit_per_s=100000001"),
        ("--limit", "packets=1"),
        ("--limit", "allocations"),
    ] {
        let run = Run::of(&[&["credential", "mint"], &own[..], &[flag, value]].concat());
        assert!(run.refusal().contains(flag), "{flag} {value}: {}", run.err);
    }
    let run = Run::of(&[&["credential", "mint"], &own[..], &["--mras"], &narrow].concat());
    assert_eq!(run.status, 2, "a token of MRAS has no room: {}", run.err);
    let flags = ["--oauth", "--json", "--server-name", "x", "--key", own[1]];
    let run = Run::of(&[&["credential", "mint"], &flags[..], &narrow].concat());
    let object: Value = serde_json::from_str(&run.out).expect("it is JSON");
    let text = |name: &str| object[name].as_str().expect("a text");
    let given = ["--key", own[1], "--server-name", "x", "--token", text("access_token")];
    let run = Run::of(&[&["credential", "inspect", text("kid")], &given[..]].concat());
    for line in [
        "allocations  at most 2",
        "rates        at most 3000 kbit/s, 500 packets/s, each way",
        "peers        10.0.0.0/8, 2001:db8::1/128",
        "ports        53-53, 1024-65535",
    ] {
        assert!(run.out.lines().any(|found| found == line), "{line:?} is missing in {}", run.out);
    }
}
