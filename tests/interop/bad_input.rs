//! What an operator can get wrong: one message that names it, exit status 2, nothing started.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::edge::{Home, METRICS, RelayFile, command, start_relay};
use crate::netns::must;
use crate::process::Process;
use crate::site::Site;

/// How long a program may take to see that its configuration is wrong.
const SOON: Duration = Duration::from_secs(5);

/// One mistake.
struct Mistake {
    case: &'static str,
    /// Changes the good file.
    edit: fn(&Home, &str) -> String,
    /// What the message must name.
    names: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        case: "a weak RSA key",
        edit: |home, toml| {
            home.openssl_key(
                "weak.pem",
                &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
            );
            toml.replace("pool.pem", "weak.pem")
        },
        names: &["weak.pem", "1024", "2048"],
    },
    Mistake {
        case: "a key that is not there",
        edit: |_, toml| toml.replace("pool.pem", "nowhere.pem"),
        names: &["nowhere.pem"],
    },
    Mistake {
        case: "a directory for a key",
        edit: |home, toml| {
            fs::create_dir(home.path("folder.pem")).expect("a directory");
            toml.replace("pool.pem", "folder.pem")
        },
        names: &["folder.pem"],
    },
    Mistake {
        case: "a key that is none",
        edit: |home, toml| {
            home.write(
                "noise.pem",
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            );
            toml.replace("pool.pem", "noise.pem")
        },
        names: &["noise.pem"],
    },
    Mistake {
        case: "a key that others can read",
        edit: |home, toml| {
            let key = home.openssl_key("open.pem", &["-algorithm", "ed25519"]);
            fs::set_permissions(key, Permissions::from_mode(0o644)).expect("our file");
            toml.replace("pool.pem", "open.pem")
        },
        names: &["open.pem", "0644"],
    },
    Mistake {
        case: "an address that is not on this host",
        edit: |_, toml| toml.replace("\"10.25.1.1:3478\"", "\"10.99.9.9:3478\""),
        names: &["10.99.9.9"],
    },
    Mistake {
        case: "a relayed address that is not on this host",
        edit: |_, toml| toml.replace("local = \"10.25.2.1\"", "local = \"10.99.9.9\""),
        names: &["10.99.9.9"],
    },
    Mistake {
        case: "a port range too small",
        edit: |_, toml| toml.replace("50000-59999", "50000-50001"),
        names: &["ports", "50000-50001"],
    },
    Mistake {
        case: "a port range turned round",
        edit: |_, toml| toml.replace("50000-59999", "59999-50000"),
        names: &["ports", "59999-50000"],
    },
    Mistake {
        case: "an unknown key",
        edit: |_, toml| toml.replace("workers = 2", "workers = 2\nwrokers = 3"),
        names: &["wrokers"],
    },
    Mistake {
        case: "a secret too short",
        edit: |_, toml| toml.replace(crate::edge::REST_SECRET, "short"),
        names: &["rest_secrets", "16"],
    },
    Mistake {
        case: "a file that is no TOML",
        edit: |_, _| "realm = ".to_owned(),
        names: &["relay.toml"],
    },
];

#[test]
fn bad_configuration_is_told_in_one_message_with_status_2() {
    let site = Site::new();
    for mistake in MISTAKES {
        let home = Home::with_pool_key();
        let good = RelayFile::default().toml();
        let bad = (mistake.edit)(&home, &good);
        assert_ne!(bad, good, "{}: the edit changes nothing", mistake.case);
        home.write("relay.toml", &bad);
        for words in [["relay", "--config"], ["check", "--config"]] {
            demand_refusal(&site, &home, &words, mistake);
        }
    }
}

#[test]
fn occupied_port_is_told_in_one_message_with_status_2_and_nothing_is_half_started() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let _first = start_relay(&site, &home, &RelayFile::default());
    let sockets = || must(site.relay.command("ss").args(["-Hlntu"])).stdout;
    let before = sockets();
    for (case, file, port) in [
        ("the listener's", RelayFile { metrics: "127.0.0.1:9700", ..RelayFile::default() }, "3478"),
        ("the metrics'", RelayFile::on_port(3500), METRICS),
    ] {
        home.write("relay.toml", &file.toml());
        let mistake = Mistake { case, edit: |_, toml| toml.to_owned(), names: &[] };
        let said = demand_refusal(&site, &home, &["relay", "--config"], &mistake);
        assert!(said.contains(port), "{case}: {port} is not named:\n{said}");
        assert_eq!(sockets(), before, "{case}");
    }
}

/// Runs `av-edge` and demands its refusal; what it said.
fn demand_refusal(site: &Site, home: &Home, words: &[&str], mistake: &Mistake) -> String {
    let case = format!("{}, {}", words[0], mistake.case);
    let file = home.path("relay.toml");
    let mut program = Process::start(command(&site.relay, words).arg(file));
    let status = program.wait(SOON);
    let said = program.output();
    assert_eq!(status.code(), Some(2), "{case}:\n{said}");
    for name in mistake.names {
        assert!(said.contains(name), "{case}: `{name}` is not named:\n{said}");
    }
    assert!(!said.contains("panicked"), "{case}:\n{said}");
    assert!(said.matches("relay.toml").count() <= 1, "{case}: more than one message:\n{said}");
    said
}
