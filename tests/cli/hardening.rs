//! What a service gives up when its sockets are open, seen from outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Directory, Run, Running, set_mode};
use crate::relay::{Site, page};

/// Debian's user without rights, and its group.
const NOBODY: u32 = 65_534;

/// The value of a field in a task's `status`.
fn field(task: &Path, name: &str) -> String {
    let text = fs::read_to_string(task.join("status")).expect("a task that runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
    line.trim_start_matches(':').trim().replace('\t', " ")
}

/// The niceness of a task: the seventeenth field of `stat` behind its name.
fn niceness(task: &Path) -> i32 {
    let text = fs::read_to_string(task.join("stat")).expect("a task that runs");
    let (_, fields) = text.rsplit_once(") ").expect("a name");
    fields.split(' ').nth(16).and_then(|field| field.parse().ok()).expect("a niceness")
}

/// The threads of a service, with their names.
fn threads(service: &Running) -> Vec<(String, PathBuf)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", service.id())).expect("it runs");
    tasks
        .map(|task| {
            let task = task.expect("a task").path();
            (fs::read_to_string(task.join("comm")).expect("a name").trim().to_owned(), task)
        })
        .collect()
}

/// Fails unless every thread is bound, and `reader` alone has capabilities: these.
fn assert_bound(service: &Running, reader: &str) {
    let threads = threads(service);
    assert!(threads.iter().any(|(name, _)| name == "reader"), "{threads:?}");
    for (name, task) in threads {
        assert_eq!(field(&task, "Uid"), [NOBODY; 4].map(|it| it.to_string()).join(" "), "{name}");
        assert_eq!(field(&task, "Gid"), [NOBODY; 4].map(|it| it.to_string()).join(" "), "{name}");
        assert_eq!(field(&task, "Groups"), "", "{name}");
        assert_eq!(field(&task, "NoNewPrivs"), "1", "{name}");
        assert_eq!(field(&task, "Seccomp"), "2", "{name}");
        let expected = if name == "reader" { reader } else { "0000000000000000" };
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(field(&task, set), expected, "{set} of {name}");
        }
        for set in ["CapInh", "CapBnd", "CapAmb"] {
            assert_eq!(field(&task, set), "0000000000000000", "{set} of {name}");
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", service.id())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a row");
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
    // What must not be dumped belongs to root in /proc.
    let memory = fs::metadata(format!("/proc/{}/mem", service.id())).expect("it runs");
    assert_eq!(memory.uid(), 0, "it could be dumped");
}

fn assert_root() {
    let own = field(Path::new("/proc/self"), "Uid");
    assert!(own.starts_with("0 "), "services start as root here: run ./test as root");
}

#[test]
fn a_relay_that_root_starts_serves_as_nobody() {
    assert_root();
    let site = Site::new("");
    let mut relay = site.start();
    assert!(relay.wait_for("hardened").contains("landlock"));
    relay.wait_for("ready");
    // Its files are root's alone, so one thread may read what nobody may not.
    assert_bound(&relay, "0000000000000004");
    let metrics = page(&site.metrics, "/metrics");
    for measure in
        ["unprivileged", "no_capabilities", "no_new_privs", "no_core_dumps", "seccomp", "landlock"]
    {
        let line = format!("av_edge_relay_hardening{{measure=\"{measure}\"}} 1");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    for (name, task) in threads(&relay) {
        // The reader waits for a reload, as it began.
        let hurries = name.starts_with("worker-") || name == "reader";
        assert_eq!(niceness(&task), if hurries { -10 } else { 0 }, "{name}");
    }
    assert!(metrics.contains("process_open_fds ") && metrics.contains("process_resident_memory"));
    let mut call = site.call("alice");
    call.exchange();
    relay.signal("TERM");
    drop(call);
    relay.signal("TERM");
    assert_eq!(relay.end(), Some(0));
}

#[test]
fn where_its_user_may_read_the_files_no_thread_has_a_capability() {
    assert_root();
    let site = Site::new("[hardening]\nuser = \"nobody\"\n");
    site.files().for_each(|file| {
        chown(&file, None, Some(NOBODY)).expect("our own file");
        set_mode(&file, if file.is_dir() { 0o750 } else { 0o640 });
    });
    let mut relay = site.start();
    relay.wait_for("ready");
    assert_bound(&relay, "0000000000000000");
    site.call("alice").exchange();
}

#[test]
fn a_relay_that_somebody_else_starts_stays_that() {
    assert_root();
    let site = Site::new("");
    site.files().for_each(|file| chown(&file, Some(NOBODY), Some(NOBODY)).expect("our own file"));
    let mut relay = site.start_as(NOBODY);
    relay.wait_for("ready");
    for (name, task) in threads(&relay) {
        assert_eq!(field(&task, "CapEff"), "0000000000000000", "{name}");
        assert_eq!(field(&task, "Seccomp"), "2", "{name}");
    }
    site.call("alice").exchange();
}

#[test]
fn what_is_switched_off_is_told() {
    assert_root();
    let off = "[hardening]\nuser = \"root\"\nseccomp = false\nlandlock = false\n";
    let site = Site::new(off);
    let mut relay = site.start();
    let line = relay.wait_for("hardened");
    assert!(line.contains("missing=\"unprivileged seccomp landlock\""), "{line}");
    relay.wait_for("ready");
    let metrics = page(&site.metrics, "/metrics");
    for (measure, holds) in
        [("unprivileged", 0), ("seccomp", 0), ("landlock", 0), ("no_capabilities", 1)]
    {
        let line = format!("av_edge_relay_hardening{{measure=\"{measure}\"}} {holds}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[test]
fn a_user_that_does_not_exist_is_one_message() {
    let site = Site::new("[hardening]\nuser = \"nosuchuser\"\n");
    for subcommand in ["relay", "check"] {
        let run = Run::of(&[subcommand.as_ref(), "--config".as_ref(), site.config.as_os_str()]);
        let message = run.refusal();
        assert!(message.contains("hardening.user = \"nosuchuser\": "), "{message}");
        assert!(message.contains("useradd"), "{message}");
    }
}

#[test]
fn an_auth_service_that_root_starts_serves_as_nobody() {
    assert_root();
    let directory = Directory::new();
    directory.key("pool.pem");
    let [api, metrics] = [(); 2].map(|()| crate::relay::free_tcp());
    let text = format!(
        "listen = \"{api}\"\nuris = [\"turn:turn.example.org\"]\n[pool]\nkey = \"pool.pem\"\n\
         [[callers]]\nname = \"web\"\nkey = \"0123456789abcdef\"\n[metrics]\naddress = \"{metrics}\"\n"
    );
    let file = directory.write("auth.toml", &text);
    let mut service = Running::start("auth", &file);
    service.wait_for("metrics on");
    assert_bound(&service, "0000000000000004");
    let text = page(&metrics, "/metrics");
    for measure in ["unprivileged", "no_capabilities", "seccomp", "landlock"] {
        let line = format!("av_edge_auth_hardening{{measure=\"{measure}\"}} 1");
        assert!(text.contains(&line), "{line} in {text}");
    }
    service.signal("HUP");
    service.wait_for("read again");
    service.signal("TERM");
    assert_eq!(service.end(), Some(0));
}

#[test]
fn units_for_systemd_expose_little() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    for unit in ["av-edge-relay.service", "av-edge-auth.service"] {
        // The threshold is in tenths: 2.0.
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
            .arg(folder.join(unit))
            .output()
            .expect("systemd-analyze, of the Debian package systemd: ./test installs it");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{unit}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(said.contains("Overall exposure level"), "{unit}: {said}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{unit} is understood");
    }
}
