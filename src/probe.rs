//! `av-edge probe`: asks a relay, as a client would, whether it works.
//!
//! The steps are those of `client::checkup`; here are the URI, the credential and the words.

mod words;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use client::Credentials;
use client::checkup::{self, Finding, Outcome, Plan};
use proto::auth::{Grant, mint};
use serde_json::{Value, json};

use crate::cli::ProbeArgs;
use crate::clock;
use crate::failure::Failure;
use crate::secret_file;
use crate::target::Target;

/// Lifetime of a credential minted here: the longest probe or run of cases, and clocks that differ.
const CREDENTIAL_LIFETIME_S: u64 = 600;

/// Probes the relay of a URI.
pub(crate) fn run(args: &ProbeArgs) -> Result<(), Failure> {
    let target = Target::parse(&args.uri).map_err(Failure::setup)?;
    let credentials = credentials(args, &target)?;
    let server = target.resolve().map_err(Failure::job)?;
    let plan = Plan {
        transport: target.transport(&args.trust).map_err(Failure::setup)?,
        count: args.count,
        timeout: Duration::from_millis(args.timeout),
    };
    let mut report = Report::new(args, server);
    let through = checkup::run(server, credentials.as_ref(), &plan, |step| report.add(step));
    report.end(through)
}

/// The credential given, or one minted with the pool's key; none for a STUN server.
fn credentials(args: &ProbeArgs, target: &Target) -> Result<Option<Credentials>, Failure> {
    if !target.turn {
        return Ok(None);
    }
    let file = args.password_file.as_ref();
    let password = secret_file::given(args.password.as_ref(), "--password-file", file)?;
    match (&args.username, &password, &args.key) {
        (Some(username), Some(password), _) => Ok(Some(Credentials::new(username, password))),
        (_, _, Some(key)) => mint_with(key, "probe").map(Some),
        _ => Err(Failure::setup(format!(
            "{}: a TURN server asks for a credential. Give --username with --password-file or \
             --password, or --key with the pool's private key, or probe stun:{}:{} for the public address alone",
            args.uri, target.host, target.port
        ))),
    }
}

/// A credential that outlives the probe by little.
pub(crate) fn mint_with(key: &Path, user: &str) -> Result<Credentials, Failure> {
    let key = pool_key::load(key).map_err(Failure::setup)?.pool_key();
    let grant = Grant::new(user, clock::now().unix.plus(CREDENTIAL_LIFETIME_S));
    let credential = mint(&key, &grant).map_err(Failure::job)?;
    Ok(Credentials::new(&credential.username, credential.password.as_str()))
}

/// Prints each step as it ends, or gathers them for JSON.
struct Report<'a> {
    args: &'a ProbeArgs,
    server: SocketAddr,
    steps: Vec<Value>,
    failed: Option<&'static str>,
}

impl<'a> Report<'a> {
    fn new(args: &'a ProbeArgs, server: SocketAddr) -> Self {
        if !args.json {
            println!("{} is {server}", args.uri);
        }
        Self { args, server, steps: Vec::new(), failed: None }
    }

    fn add(&mut self, outcome: &Outcome) {
        let name = words::name(outcome.step);
        let (text, meaning) = match &outcome.result {
            Ok(finding @ Finding::Relayed(path)) if !path.is_whole() => {
                (words::found(finding), Some(words::incomplete(path)))
            }
            Ok(finding) => (words::found(finding), None),
            Err(error) => {
                (error.to_string().trim_end().to_owned(), Some(words::meaning(outcome.step, error)))
            }
        };
        if meaning.is_some() {
            self.failed.get_or_insert(name);
        }
        if self.args.json {
            self.steps.push(step_json(outcome, &text, meaning));
            return;
        }
        let mark = if meaning.is_none() { "ok" } else { "failed" };
        println!("{mark:<7}{name:<18}{text} [{}]", words::milliseconds(outcome.took));
        if let Some(meaning) = meaning {
            println!("       {:<18}{meaning}", "");
        }
    }

    fn end(self, through: bool) -> Result<(), Failure> {
        let ok = through && self.failed.is_none();
        if self.args.json {
            let whole = json!({
                "uri": self.args.uri,
                "server": self.server.to_string(),
                "ok": ok,
                "steps": self.steps,
            });
            println!("{whole:#}");
        }
        match (ok, self.failed) {
            (true, _) => Ok(()),
            (false, step) => Err(Failure::job(format!(
                "{} does not work: {} failed",
                self.args.uri,
                step.unwrap_or("a step")
            ))),
        }
    }
}

fn step_json(outcome: &Outcome, text: &str, meaning: Option<&str>) -> Value {
    let mut step = json!({
        "step": words::name(outcome.step),
        "ok": meaning.is_none(),
        "ms": outcome.took.as_secs_f64() * 1e3,
        "text": text,
        "meaning": meaning,
    });
    if let Ok(Finding::Relayed(path)) = &outcome.result {
        let ms = |share| path.round_trip(share).map(|trip| trip.as_secs_f64() * 1e3);
        step["sent"] = path.sent.into();
        step["reached"] = path.reached.into();
        step["returned"] = path.returned.into();
        step["altered"] = path.altered.into();
        step["round_trip_ms"] = json!({ "least": ms(0.0), "median": ms(0.5), "p95": ms(0.95) });
    }
    step
}
