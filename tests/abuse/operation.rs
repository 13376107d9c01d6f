//! T8: a careless operation.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::target::{ATTACKER, Kind, Target, file};
use super::{Attack, Outcome, judge, outcome};
use crate::edge::{Home, command};
use crate::process::Process;
use crate::site::{EXTERNAL, INTERNAL, Site};

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "find an administration or metrics page from outside", run: pages },
    Attack { name: "run it without any protection", run: open_server },
    Attack { name: "read secrets in its log and its command line", run: secrets },
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

fn secrets(target: &mut Target) -> Outcome {
    let who = target.credentials("secretive");
    let (client, _) = target.tenant(ATTACKER, "secretive");
    let nonce = client.nonce().expect("it was challenged").to_owned();
    let line = target.command_line();
    let log = target.log();
    let secrets = [
        ("the shared secret", crate::edge::REST_SECRET),
        ("a password", &who.password),
        ("a nonce", &nonce),
    ];
    let told = |text: &str| {
        let told = secrets.iter().filter(|(_, secret)| text.contains(*secret));
        told.map(|(name, _)| *name).collect::<Vec<_>>()
    };
    let (in_log, in_line) = (told(&log), told(&line));
    outcome(
        in_log.is_empty() && in_line.is_empty(),
        format!("in the log: {in_log:?}; in the command line: {in_line:?}"),
    )
}
