//! `av-edge doctor`.

use serde_json::Value;

use crate::harness::{Directory, RELAY, Run};

/// The line about a subject.
fn said(run: &Run, subject: &str) -> Value {
    let lines = run.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut lines = lines.filter(|it| it["subject"] == subject);
    lines.next().unwrap_or_else(|| panic!("nothing of {subject}: {}", run.out))
}

#[test]
fn a_host_is_looked_at_without_a_configuration() {
    let run = Run::of(&["doctor"]);
    assert_eq!((run.status, run.err.as_str()), (0, ""), "{}", run.out);
    for subject in ["kernel", "cores", "descriptors", "rights", "clock", "queues", "interfaces"] {
        let has = |line: &str| line.split_whitespace().nth(1) == Some(subject);
        assert!(run.out.lines().any(has), "nothing of {subject}: {}", run.out);
    }
}

#[test]
fn a_configuration_says_what_is_wanted() {
    let directory = Directory::new();
    directory.key("pool.pem");
    let look = |text: &str| {
        let file = directory.write("relay.toml", text);
        let run = Run::of(&["doctor", "--json", "--config", file.to_str().expect("a text")]);
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{}", run.out);
        run
    };
    let run = look(RELAY);
    assert_eq!(said(&run, "cores")["level"], "good");
    let words = said(&run, "interfaces")["words"].to_string();
    assert!(words.contains("loopback"), "{words}");
    let run = look(&RELAY.replace("workers = 1", "workers = 64"));
    let found = said(&run, "cores");
    assert_eq!(found["level"], "warning", "{found}");
    assert!(found["words"].to_string().contains("64 workers"), "{found}");
    let run = look(&format!("{RELAY}[limits]\nmemory_mib = 16777216\n"));
    assert_eq!(said(&run, "memory")["level"], "warning");
    let run = look(&format!("{RELAY}[limits]\nallocations = 1000000\n"));
    assert_eq!(said(&run, "descriptors")["level"], "warning");
}

#[test]
fn a_bad_configuration_is_refused_with_one_message() {
    let directory = Directory::new();
    let file = directory.write("relay.toml", "realm = 1\n");
    let run = Run::of(&["doctor", "--config", file.to_str().expect("a text")]);
    assert!(run.refusal().contains("relay.toml"), "{}", run.err);
}
