//! Secrets appear nowhere: not in logs at their most talkative, not in metrics, not in the
//! arguments of the process (threat model T2, T8).

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use client::{AllocateOptions, Credentials, TurnClient};

use crate::harness::{Run, command};
use crate::relay::{PASSWORD, Site, free_tcp, page};

/// How long what must come may take.
const SOON: Duration = Duration::from_secs(10);

const REST_SECRET: &str = "rest-secret-of-more-than-16-bytes";
const WRONG: &str = "a-wrong-password-of-a-guesser";
const TOKEN: &str = "metrics-token-0123456789";
const OAUTH: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const CALLER: &str = "bearer-key-of-a-caller";

/// A service that says everything it can say.
struct Talkative {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Talkative {
    fn start(subcommand: &str, config: &Path) -> Self {
        let mut child = command()
            .arg(subcommand)
            .arg("--config")
            .arg(config)
            .env("AV_EDGE_LOG", "trace")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let (line, lines) = channel();
        // Read at once, so that it never waits for a reader.
        let read =
            move || log.lines().map_while(Result::ok).try_for_each(|text| line.send(text + "\n"));
        std::thread::spawn(read);
        Self { child, lines, said: String::new() }
    }

    /// Listens until these words are said.
    fn wait_for(&mut self, words: &str) {
        loop {
            let line = self.lines.recv_timeout(SOON);
            let line = line.unwrap_or_else(|_| panic!("{words:?} never came:\n{}", self.said));
            self.said += &line;
            if line.contains(words) {
                return;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status();
        assert!(sent.expect("there is a shell").success());
    }

    /// Everything it said, and what others can see of it.
    fn end(mut self) -> String {
        let arguments = fs::read(format!("/proc/{}/cmdline", self.child.id())).expect("it runs");
        self.signal("TERM");
        self.signal("TERM");
        assert!(self.child.wait().expect("it is our child").success());
        let rest: String = self.lines.iter().collect();
        let said = std::mem::take(&mut self.said) + &rest;
        said + &String::from_utf8_lossy(&arguments)
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        // It has ended already, when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fails if one of the secrets is in the text.
fn assert_absent(text: &str, secrets: &[(&str, &str)]) {
    for (what, secret) in secrets {
        assert!(secret.len() >= 12, "{what} is too short to be looked for");
        assert!(!text.contains(secret), "{what} appears in {text}");
    }
}

/// The lines of a key in PEM.
fn key_lines(site: &Site) -> Vec<String> {
    let pem = fs::read_to_string(site.directory.path("pool.pem")).expect("our own key");
    pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned).collect()
}

fn minted(site: &Site) -> (String, String) {
    let key = site.directory.path("pool.pem");
    let key = key.to_str().expect("a text");
    let run = Run::of(&["credential", "mint", "--key", key, "--user", "u", "--json"]);
    let minted: serde_json::Value = serde_json::from_str(&run.out).expect("it is JSON");
    let text = |name: &str| minted[name].as_str().expect("a text").to_owned();
    (text("username"), text("credential"))
}

#[test]
fn a_relay_tells_no_secret() {
    let site = Site::new("token_file = \"token\"\n");
    site.directory.write("token", TOKEN);
    site.directory.write("rest", REST_SECRET);
    site.rewrite(
        "users_file = \"users\"",
        &format!(
            "users_file = \"users\"\nrest_secret_file = \"rest\"\n\
             rest_secrets = [\"{REST_SECRET}-too\"]\n\
             oauth = [{{ kid = \"north\", key = \"{OAUTH}\" }}]"
        ),
    );
    let mut relay = Talkative::start("relay", &site.config);
    relay.wait_for("ready");
    let (username, password) = minted(&site);
    let mut nonces = Vec::new();
    for (user, password, works) in
        [("alice", PASSWORD, true), (&*username, &*password, true), ("bob", WRONG, false)]
    {
        let credentials = Credentials::new(user, password);
        let mut client = TurnClient::connect(site.server, credentials).expect("a socket");
        let allocated = client.allocate(&AllocateOptions::default());
        assert_eq!(allocated.is_ok(), works, "{user}: {allocated:?}");
        if works {
            client.permit(&["127.0.0.2".parse().expect("an address")]).expect("permitted");
            client.release().expect("released");
        }
        nonces.push(client.nonce().expect("it was challenged").to_owned());
    }
    let metrics = ureq::get(format!("http://{}/metrics", site.metrics))
        .header("Authorization", format!("Bearer {TOKEN}"))
        .call()
        .and_then(|mut answer| answer.body_mut().read_to_string())
        .expect("metrics");
    // Mistakes in secret files are told without what stands there.
    site.directory.write("users", "alice:sha256:0123456789abcdef-not-a-key\n");
    relay.signal("HUP");
    relay.wait_for("The configuration in force stays");
    let said = relay.end() + &metrics;
    let lines = key_lines(&site);
    let mut secrets: Vec<(&str, &str)> = vec![
        ("a password", PASSWORD),
        ("a wrong password", WRONG),
        ("a minted password", &password),
        ("the shared secret", REST_SECRET),
        ("a token's key", OAUTH),
        ("the metrics' token", TOKEN),
        ("a user's key", "0123456789abcdef-not-a-key"),
    ];
    secrets.extend(lines.iter().map(|line| ("the pool key", &**line)));
    secrets.extend(nonces.iter().map(|nonce| ("a nonce", &**nonce)));
    assert_absent(&said, &secrets);
}

#[test]
fn an_auth_service_tells_no_secret() {
    let site = Site::new("");
    let (api, metrics) = (free_tcp(), free_tcp());
    let text = format!(
        "listen = \"{api}\"\nuris = [\"turn:turn.example.org\"]\n[pool]\nkey = \"pool.pem\"\n\
         [[callers]]\nname = \"web\"\nkey = \"{CALLER}\"\n[metrics]\naddress = \"{metrics}\"\n"
    );
    let config = site.directory.write("auth.toml", &text);
    let mut service = Talkative::start("auth", &config);
    service.wait_for("metrics on");
    let url = format!("http://{api}/turn?service=turn&username=u");
    let mut answer = ureq::get(&url)
        .header("Authorization", format!("Bearer {CALLER}"))
        .call()
        .expect("an answer");
    let answer = answer.body_mut().read_to_string().expect("a text");
    let minted: serde_json::Value = serde_json::from_str(&answer).expect("it is JSON");
    let password = minted["password"].as_str().expect("a text");
    ureq::get(format!("{url}&key={CALLER}")).call().expect("the key may be in the URL");
    assert!(ureq::get(format!("{url}&key={WRONG}")).call().is_err(), "a wrong key");
    let shown = page(&metrics, "/metrics");
    let said = service.end() + &shown;
    let lines = key_lines(&site);
    let mut secrets =
        vec![("a caller's key", CALLER), ("a wrong key", WRONG), ("a minted password", password)];
    secrets.extend(lines.iter().map(|line| ("the pool key", &**line)));
    assert_absent(&said, &secrets);
}
