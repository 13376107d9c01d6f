//! T8: a careless operation.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use client::stun_rs::methods::ALLOCATE;
use client::{Credentials, Transport};

use super::target::{ADMIN_TOKEN, ATTACKER, Kind, Reach, Setup, Target, VICTIM, file};
use super::{Attack, Outcome, judge, outcome};
use crate::edge::{Home, command};
use crate::process::Process;
use crate::site::{EXTERNAL, INTERNAL, Site};

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "find an administration or metrics page from outside", run: pages },
    Attack { name: "run it without any protection", run: open_server },
    Attack { name: "read secrets in what it says anywhere", run: secrets },
];

#[test]
fn sec_013_abuse_t8_a_careless_operator_is_safe() {
    judge("T8 operating it", ATTACKS);
}

fn pages(target: &mut Target) -> Outcome {
    let mut found = Vec::new();
    for host in [INTERNAL, EXTERNAL] {
        for port in [80, 443, 3478, 5766, 8080, 8443, 9641, 9642, 9090] {
            let at = SocketAddr::new(host.parse().expect("an address"), port);
            let from = if host == INTERNAL { &target.site.client } else { &target.site.peer };
            let answer = from.enter(|| -> std::io::Result<Vec<u8>> {
                let mut line = TcpStream::connect_timeout(&at, Duration::from_millis(300))?;
                line.set_read_timeout(Some(Duration::from_millis(300)))?;
                line.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
                let mut bytes = Vec::new();
                drop(line.read_to_end(&mut bytes));
                Ok(bytes)
            });
            if answer.is_ok_and(|bytes| bytes.starts_with(b"HTTP")) {
                found.push(at);
            }
        }
    }
    outcome(found.is_empty(), format!("pages found at {found:?}"))
}

/// Configurations that would serve everybody, or give their keys away.
fn open_server(target: &mut Target) -> Outcome {
    if target.kind == Kind::Coturn {
        return without_credentials();
    }
    let site = Site::new();
    let home = Home::with_pool_key();
    let good = file().toml();
    let mut started = Vec::new();
    for (name, toml) in [
        ("no credentials at all", without(&good, &["key = ", "previous = ", "rest_secrets"])),
        ("a short secret", good.replace(crate::edge::REST_SECRET, "short")),
        ("a key that others can read", good.replace("pool.pem", "open.pem")),
    ] {
        let path = home.write("relay.toml", &toml);
        std::fs::copy(home.path("pool.pem"), home.path("open.pem")).expect("a copy");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(home.path("open.pem"), open).expect("it is ours");
        let path = path.to_str().expect("a path in UTF-8");
        let mut relay = Process::start(&mut command(&site.relay, &["relay", "--config", path]));
        let ended = rig::clock::look_until(Duration::from_secs(3), || relay.ended());
        if ended.and_then(|status| status.code()) != Some(2) {
            started.push(name);
        }
    }
    outcome(started.is_empty(), format!("started all the same: {started:?}"))
}

/// coturn, as it starts when nothing is configured.
fn without_credentials() -> Outcome {
    let site = Site::new();
    let mut program = site.relay.command("turnserver");
    program.args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file=stdout"]);
    program.args(["--pidfile=/dev/null", &format!("--listening-ip={INTERNAL}")]);
    let mut coturn = Process::start(&mut program);
    let ended = rig::clock::look_until(Duration::from_secs(2), || coturn.ended());
    outcome(ended.is_some(), "started without credentials".to_owned())
}

fn without(toml: &str, keys: &[&str]) -> String {
    let kept = toml.lines().filter(|line| !keys.iter().any(|key| line.starts_with(key)));
    kept.filter(|line| *line != "[pool]").collect::<Vec<_>>().join("\n")
}

/// Whatever a server writes down or answers, at the most talkative, after logins that went well and
/// ones that did not.
fn secrets(target: &mut Target) -> Outcome {
    let setup = Setup { reach: Reach::Whole, talkative: true, ..Setup::default() };
    let other = Target::start_as(target.kind, setup);
    let who = other.credentials("secretive");
    let (mut client, _) = other.tenant(ATTACKER, "secretive");
    let (_, at) = other.peer();
    let channel = client.bind_channel(at).expect("a channel");
    client.send_channel(channel, b"the-payload-of-a-call").expect("it is sent");
    let nonce = client.nonce().expect("it was challenged").to_owned();
    let wrong = Credentials::new(&*who.username, "a-wrong-guess-of-it");
    drop(other.with(VICTIM, wrong, Transport::Udp).request(ALLOCATE, &[]));
    let mut places = vec![("command line", other.command_line())];
    if target.kind == Kind::Ours {
        // What an operator gets who has the token; and one who has a wrong one.
        let asked = ["state", "overview", "allocations", "samples", "reasons"];
        let answers = asked.map(|what| other.operate("GET", &format!("/v1/{what}")));
        places.extend(answers.map(|it| ("answers to operators", it.expect("an answer"))));
        let explained = other.operate("GET", &format!("/v1/explain?subject={VICTIM}"));
        places.push(("explanations", explained.expect("an answer")));
        places.push(("metrics", other.metrics()));
    }
    client.release().expect("it ends");
    if target.kind == Kind::Ours {
        let written = || other.records().contains("\"stop\"").then(|| other.records());
        let written = rig::clock::look_until(Duration::from_secs(5), written);
        places.push(("records", written.expect("usage records")));
    }
    let log = other.log();
    let key = std::fs::read_to_string(other.home.path("pool.pem")).expect("our own file");
    let key = key.lines().nth(1).expect("a line of it").to_owned();
    let debug = target.kind == Kind::Coturn || log.contains("DEBUG");
    places.push(("log", log));
    let secrets = [
        ("the shared secret", crate::edge::REST_SECRET),
        ("the pool key", &key),
        ("the operators' token", ADMIN_TOKEN),
        ("a password", &who.password),
        ("a wrong password", "a-wrong-guess-of-it"),
        ("a nonce", &nonce),
        ("a user's name", &who.username),
        ("payload", "the-payload-of-a-call"),
    ];
    let told = places.iter().flat_map(|(place, text)| {
        let told = secrets.iter().filter(|(_, secret)| text.contains(*secret));
        told.map(move |(name, _)| format!("{name} in the {place}"))
    });
    let told: Vec<String> = told.collect();
    outcome(
        told.is_empty() && debug,
        format!("told, of {} secrets at {} places: {told:?}", secrets.len(), places.len()),
    )
}
