//! A relay in a terminal.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use client::AllocateOptions;

use crate::harness::Run;
use crate::relay::{PASSWORD, Site, free_tcp};

/// A relay that can be watched by socket and by TCP.
fn site() -> (Site, String, String) {
    let admin = free_tcp();
    let site = Site::new(&format!(
        "[control]\npath = \"control.sock\"\n[admin]\naddress = \"{admin}\"\n\
         [limits]\nallocations_per_user = 100\nallocations_per_client = 100\n"
    ));
    let socket = site.directory.path("control.sock").to_str().expect("UTF-8").to_owned();
    (site, socket, format!("http://{admin}"))
}

#[test]
fn a_frame_shows_the_first_allocations_of_a_relay_by_either_door() {
    let (site, socket, url) = site();
    let mut relay = site.start();
    relay.wait_for("ready");
    let mut call = site.call("alice");
    call.exchange();
    let own = call.client.local_addr().expect("it is bound").to_string();
    let _more: Vec<_> = (0..11)
        .map(|_| {
            let mut client = site.client("bob", PASSWORD);
            client.allocate(&AllocateOptions::default()).expect("an allocation");
            client
        })
        .collect();
    for door in [["--socket", &*socket], ["--url", &*url]] {
        let run =
            Run::of(&[&["top", "--once", "--sort", "id", "--limit", "5"], &door[..]].concat());
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{door:?}");
        for words in [" serving, ", "2 workers, 12 of", " 5 of 12 allocations by id "] {
            assert!(run.out.contains(words), "{door:?}: {words}:\n{}", run.out);
        }
        let rows = run.out.lines().filter(|line| line.contains(" udp ")).count();
        assert_eq!(rows, 5, "{door:?}:\n{}", run.out);
        let all = Run::of(&[&["top", "--once", "--sort", "id"], &door[..]].concat());
        assert!(all.out.contains(&own), "{door:?}:\n{}", all.out);
        assert!(!run.out.contains("alice") && !run.out.contains('\u{1b}'), "{}", run.out);
    }
}

#[test]
fn what_cannot_be_watched_is_said_in_a_line() {
    for (arguments, status, words) in [
        (&["--once", "--socket", "/nowhere/relay.sock"][..], 1, "[control]"),
        (&["--once", "--url", "http://127.0.0.1:1"], 1, "http://127.0.0.1:1/v1/overview"),
        (&["--once", "--url", "ftp://127.0.0.1"], 2, "http://IP:PORT"),
        (
            &["--once", "--url", "http://[::1]:1", "--token-file", "/nowhere/token"],
            2,
            "/nowhere/token",
        ),
        (&[], 2, "--once"),
    ] {
        let run = Run::of(&[&["top"], arguments].concat());
        assert_eq!((run.status, run.out.as_str()), (status, ""), "{arguments:?}: {}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{arguments:?}: {}", run.err);
        assert!(run.err.contains(words), "{arguments:?}: {}", run.err);
    }
}

/// Leaves the other screen that a full-screen program draws on.
const LEAVE: &str = "\u{1b}[?1049l";

/// A program on a terminal of its own.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    shown: String,
}

impl Terminal {
    fn run(program: &str) -> Self {
        let mut script = Command::new("script")
            .args([
                "--quiet",
                "--return",
                "--command",
                &format!("stty cols 120 rows 40; exec {program}"),
                "/dev/null",
            ])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is part of every Debian");
        let keys = script.stdin.take().expect("it is piped");
        let screen = script.stdout.take().expect("it is piped");
        Self { script, keys, screen, shown: String::new() }
    }

    /// Watches the screen until a word is drawn.
    fn wait_for(&mut self, word: &str) {
        let mut bytes = [0; 4_096];
        while !self.shown.contains(word) {
            let read = self.screen.read(&mut bytes).expect("a screen");
            assert!(read > 0, "{word:?} never came: {}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    /// The process on it.
    fn process(&self) -> String {
        let id = self.script.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        children.expect("a process has children").trim().to_owned()
    }

    /// Its exit status, and everything that was drawn.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = Vec::new();
        self.screen.read_to_end(&mut rest).expect("a screen");
        self.shown.push_str(&String::from_utf8_lossy(&rest));
        (self.script.wait().expect("our child").code(), self.shown)
    }
}

#[test]
fn the_terminal_is_given_back_whether_a_key_or_a_signal_ends_it() {
    let (site, socket, _) = site();
    let mut relay = site.start();
    relay.wait_for("ready");
    let _call = site.call("alice");
    for (case, signal) in [("a key", None), ("a signal", Some("TERM"))] {
        let binary = env!("CARGO_BIN_EXE_av-edge");
        let mut terminal = Terminal::run(&format!("{binary} top --socket {socket}"));
        terminal.wait_for("workers,");
        match signal {
            None => terminal.keys.write_all(b"q").expect("a key"),
            Some(signal) => {
                let process = terminal.process();
                let kill = ["-c", "kill -s \"$0\" \"$1\"", signal, &process];
                let kill = Command::new("sh").args(kill).status();
                assert!(kill.expect("there is a shell").success(), "{case}");
            }
        }
        let (status, shown) = terminal.end();
        assert_eq!(status, Some(0), "{case}: {shown}");
        let (_, after) = shown.rsplit_once(LEAVE).unwrap_or_else(|| panic!("{case}: {shown}"));
        assert!(!after.contains("workers,"), "{case}: {after}");
    }
}
