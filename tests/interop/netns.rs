//! Network namespaces, made for one test and gone with it.
//!
//! A [`Namespace`] is a machine of the test: programs run in it by [`Namespace::command`], and code of the
//! test itself by [`Namespace::enter`]. Names carry the process id, so runs side by side never meet. Dropping
//! the value deletes the namespace with all links in it, also when the test fails.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// A machine of the test.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty machine whose loopback is up.
    pub(crate) fn new(role: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        assert!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root: run ./test as root"
        );
        SWEPT.call_once(sweep);
        let serial = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("interop-{}-{serial}-{role}", std::process::id());
        must(Command::new("ip").args(["netns", "add", &name]));
        let made = Self { name };
        made.ip("link set lo up");
        made
    }

    /// A program that will run on this machine.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `ip` on this machine; `words` are its arguments.
    pub(crate) fn ip(&self, words: &str) {
        must(self.command("ip").args(words.split_whitespace()));
    }

    /// Sets a kernel parameter of this machine.
    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let text = value.to_owned();
        self.enter(move || std::fs::write(&path, text).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// Runs code of the test on this machine: sockets it opens are sockets of this machine.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let result = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.move_here();
                work()
            });
            thread.join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread to this machine, for good.
    pub(crate) fn move_here(&self) {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        setns(file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("setns {path}: {e}"));
    }

    /// Gives an interface addresses such as `10.25.1.1/24`, usable at once, and puts it up.
    pub(crate) fn address(&self, interface: &str, addresses: &[&str]) {
        for address in addresses {
            let quick = if address.contains(':') { "nodad" } else { "" };
            self.ip(&format!("address replace {address} dev {interface} {quick}"));
        }
        self.ip(&format!("link set {interface} up"));
    }

    /// Datagrams this machine's kernel could not queue for a socket since it exists.
    ///
    /// A receiver of the test that is too slow shows here, so that it is not taken for a loss of the relay.
    pub(crate) fn receive_buffer_errors(&self) -> u64 {
        let text = self.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"));
        let text = text.expect("the kernel shows its counters");
        let mut rows = text.lines().filter(|line| line.starts_with("Udp:"));
        let names = rows.next().expect("a row of names");
        let values = rows.next().expect("a row of values");
        names
            .split_whitespace()
            .zip(values.split_whitespace())
            .find(|(name, _)| *name == "RcvbufErrors")
            .and_then(|(_, value)| value.parse().ok())
            .expect("the kernel counts RcvbufErrors")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let deleted = Command::new("ip").args(["netns", "delete", &self.name]).status();
        if !deleted.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be deleted: ip netns delete {}", self.name, self.name);
        }
    }
}

/// Deletes what a run left behind that was killed before it could.
fn sweep() {
    let Ok(names) = std::fs::read_dir("/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let maker = name.strip_prefix("interop-").and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            must(Command::new("ip").args(["netns", "delete", &name]));
        }
    }
}

/// Joins two machines by a cable; each end is named after where it leads.
pub(crate) fn cable(one: (&Namespace, &str), other: (&Namespace, &str)) {
    must(Command::new("ip").args([
        "link",
        "add",
        one.1,
        "netns",
        &one.0.name,
        "type",
        "veth",
        "peer",
        "name",
        other.1,
        "netns",
        &other.0.name,
    ]));
}

/// Runs a program to its end and demands success.
pub(crate) fn must(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
