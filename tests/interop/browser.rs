//! Headless Chromium, driven over its debugging pipe.
//!
//! Chromium reads commands from descriptor 3 and writes answers to descriptor 4, JSON ended by a NUL (the
//! `DevTools` protocol). Two named pipes bring them here; no driver, no WebSocket, no node.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::netns::{Namespace, must};
use crate::process::Process;
use rig::clock;

/// How long the browser may take to start and to load a page.
const START: Duration = Duration::from_secs(60);

const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-pipe",
];

/// A browser with one open page.
#[derive(Debug)]
pub(crate) struct Browser {
    commands: File,
    answers: Receiver<Value>,
    last_id: u64,
    session: Option<String>,
    process: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts it on a machine of the test and opens a page there.
    pub(crate) fn open(machine: &Namespace, url: &str) -> Self {
        Self::open_with(machine, url, &[])
    }

    /// The same with flags of the test.
    pub(crate) fn open_with(machine: &Namespace, url: &str, flags: &[&str]) -> Self {
        let profile = TempDir::new().expect("a temporary directory");
        let (to, from) = (profile.path().join("to"), profile.path().join("from"));
        must(Command::new("mkfifo").arg(&to).arg(&from));
        // Opened for both directions, so that opening waits for nobody.
        let pipe = |path| File::options().read(true).write(true).open(path).expect("our pipe");
        let (commands, answers) = (pipe(&to), listen(pipe(&from)));
        let process = Process::start(
            machine
                .command("sh")
                .args([
                    "-c",
                    r#"to=$1 from=$2; shift 2; exec chromium "$@" 3<"$to" 4>"$from""#,
                    "sh",
                ])
                .args([&to, &from])
                .args(FLAGS)
                .args(flags)
                .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
                .arg("about:blank"),
        );
        let mut browser =
            Self { commands, answers, last_id: 0, session: None, process, _profile: profile };
        let target = browser.ask("Target.createTarget", &json!({ "url": url }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.ask("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser
            .until("document.readyState === 'complete' && location.href !== 'about:blank'", START);
        browser
    }

    /// The value of an expression in the page; a promise is awaited.
    pub(crate) fn value(&mut self, expression: &str, limit: Duration) -> Value {
        self.evaluate(expression, limit).unwrap_or_else(|e| panic!("`{expression}`: {e:#}"))
    }

    /// Waits until an expression in the page is true. A page that still loads may not know its words.
    pub(crate) fn until(&mut self, expression: &str, limit: Duration) {
        let what = format!("the page to find `{expression}` true");
        clock::await_some(limit, &what, || {
            (self.evaluate(expression, limit) == Ok(Value::Bool(true))).then_some(())
        });
    }

    /// Whether an expression is true in the page as it is now.
    pub(crate) fn finds(&mut self, expression: &str) -> bool {
        self.evaluate(expression, START) == Ok(Value::Bool(true))
    }

    /// Has it prefer colours: "light" or "dark".
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Gives its window another size.
    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What it shows, as PNG.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let answer = self.ask("Page.captureScreenshot", &json!({ "format": "png" }));
        let text = answer["data"].as_str().expect("a picture");
        BASE64_STANDARD.decode(text).expect("base64")
    }

    /// The value of an expression, or what the page threw.
    fn evaluate(&mut self, expression: &str, limit: Duration) -> Result<Value, Value> {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", &parameters, limit)?;
        match answer["exceptionDetails"].take() {
            Value::Null => Ok(answer["result"]["value"].take()),
            thrown => Err(thrown),
        }
    }

    /// A command that cannot fail.
    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.call(method, parameters, START).unwrap_or_else(|e| panic!("{method}: {e:#}"))
    }

    /// One command and its answer.
    fn call(&mut self, method: &str, parameters: &Value, limit: Duration) -> Result<Value, Value> {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).expect("the browser's pipe takes a command");
        let deadline = clock::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            let Ok(mut answer) = self.answers.recv_timeout(left) else {
                let ended = self.process.ended();
                panic!("no answer to {method} within {limit:?}; Chromium: {ended:?}");
            };
            if answer["id"] == json!(self.last_id) {
                let error = answer["error"].take();
                return if error.is_null() { Ok(answer["result"].take()) } else { Err(error) };
            }
        }
    }
}

/// Hands on what comes from the browser, until the pipe ends.
fn listen(from: File) -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for message in BufReader::new(from).split(0) {
            let Ok(message) = message else { return };
            let value = serde_json::from_slice(&message).expect("the browser speaks JSON");
            if sender.send(value).is_err() {
                return;
            }
        }
    });
    receiver
}
