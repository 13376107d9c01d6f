//! A program that runs beside the test and ends with it.
//!
//! Its output goes to a file, so that it never blocks on a full pipe and can be shown when a test fails.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use rig::clock;

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    output: NamedTempFile,
}

impl Process {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}").replace('"', "");
        let output = NamedTempFile::new().expect("a temporary file");
        let both = |file: &File| Stdio::from(file.try_clone().expect("a second handle"));
        let child = command
            .stdin(Stdio::null())
            .stdout(both(output.as_file()))
            .stderr(both(output.as_file()))
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name, child, output }
    }

    /// What it has written so far, standard output and error together.
    pub(crate) fn output(&self) -> String {
        let bytes = fs::read(self.output.path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for what `look` finds; fails at once if the program ends before.
    pub(crate) fn until<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        clock::await_some(limit, what, || {
            let found = look(self);
            if found.is_none()
                && let Some(status) = self.ended()
            {
                panic!("{} ended ({status}) before {what}", self.name);
            }
            found
        })
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        clock::await_some(limit, &what, || self.ended())
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
    }

    /// Asks it to read its files again.
    pub(crate) fn hang_up(&self) {
        let _ = kill(self.pid(), Signal::SIGHUP);
    }

    /// Bytes of memory it holds now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .expect("the kernel tells VmRSS in kB");
        kib * 1024
    }

    /// Files it has open now.
    pub(crate) fn descriptors(&self) -> usize {
        let path = PathBuf::from(format!("/proc/{}/fd", self.child.id()));
        fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).count()
    }

    /// Its command line, as everybody on its host sees it.
    pub(crate) fn command_line(&self) -> String {
        let path = PathBuf::from(format!("/proc/{}/cmdline", self.child.id()));
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        let ended: io::Result<_> = self.child.kill().and_then(|()| self.child.wait());
        ended.unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time it has used, in steps of ten milliseconds.
    pub(crate) fn cpu_time(&self) -> Duration {
        let path = PathBuf::from(format!("/proc/{}/stat", self.child.id()));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, fields) = text.rsplit_once(") ").expect("a name in parentheses");
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
        Duration::from_millis(10 * ticks.map(|it| it.expect("a number")).sum::<u64>())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended: io::Result<_> = self.child.kill().and_then(|()| self.child.wait());
        if thread::panicking() {
            eprintln!("---- {} ({ended:?}) said:\n{}", self.name, self.output());
        }
    }
}
