//! Runs of the built binary, in a directory of their own.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

/// A relay that nobody starts, whose key lies beside.
pub(crate) const RELAY: &str = "realm = \"example.org\"
workers = 1
[pool]
key = \"pool.pem\"
[[listen]]
address = \"127.0.0.1:22702\"
[relay]
addresses = [{ local = \"127.0.0.1\" }]
ports = \"22800-23299\"
";

/// A command line of the binary, free of the surroundings' log settings.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_av-edge"));
    command.env_remove("AV_EDGE_LOG").env_remove("RUST_LOG");
    command
}

/// How a run ended.
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of<A: AsRef<OsStr>>(arguments: &[A]) -> Self {
        Self::with_input(arguments, "")
    }

    /// With something on standard input.
    pub(crate) fn with_input<A: AsRef<OsStr>>(arguments: &[A], input: &str) -> Self {
        let mut child = command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may end without reading.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        Self {
            status: output.status.code().expect("no signal ended it"),
            out: String::from_utf8(output.stdout).expect("it prints text"),
            err: String::from_utf8(output.stderr).expect("it prints text"),
        }
    }

    /// Asserts exit status 2 and exactly one line on standard error, which it returns.
    pub(crate) fn refusal(&self) -> &str {
        assert_eq!((self.status, self.out.as_str()), (2, ""), "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "not one message: {}", self.err);
        self.err.trim_end()
    }
}

/// A directory with files that only we can read.
pub(crate) struct Directory(tempfile::TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a writable directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a writable directory");
        set_mode(&path, 0o600);
        path
    }

    /// With a new pool key.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let run =
            Run::of(&["key".as_ref(), "generate".as_ref(), "--out".as_ref(), path.as_os_str()]);
        assert_eq!(run.status, 0, "{}", run.err);
        path
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// A service that runs until it is told to end.
pub(crate) struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    pub(crate) fn start(subcommand: &str, config: &Path) -> Self {
        Self::of(command(), subcommand, config)
    }

    /// A relay of another user, with its group.
    pub(crate) fn start_as(binary: &Path, config: &Path, user: u32) -> Self {
        let mut command = Command::new(binary);
        command.uid(user).gid(user);
        Self::of(command, "relay", config)
    }

    fn of(mut command: Command, subcommand: &str, config: &Path) -> Self {
        let mut child = command
            .arg(subcommand)
            .arg("--config")
            .arg(config)
            .args(["--log-format", "text"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, log }
    }

    /// Reads the log up to a line with these words, and returns that line.
    pub(crate) fn wait_for(&mut self, words: &str) -> String {
        let mut seen = String::new();
        loop {
            let start = seen.len();
            let read = self.log.read_line(&mut seen).expect("a log is text");
            assert!(read > 0, "{words:?} never came:\n{seen}");
            if seen[start..].contains(words) {
                return seen[start..].to_owned();
            }
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by the name that kill(1) knows.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.child.id().to_string()])
            .status();
        assert!(kill.expect("there is a shell").success(), "kill {name}");
    }

    /// The exit status, when it ends by itself.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().expect("it is our child").code()
    }
}

/// A failed test leaves no process behind.
impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
