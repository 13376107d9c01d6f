//! `av-edge conformance`: tries any TURN server against the requirements of the RFCs.
//!
//! The cases are those of `client::conformance`; here are the credentials, the choice and the words.

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use client::Credentials;
use client::conformance::{self, Case, Outcome, Plan, Verdict, rest_credentials};
use serde_json::{Value, json};

use crate::cli::ConformanceArgs;
use crate::clock;
use crate::failure::Failure;
use crate::probe::mint_with;
use crate::secret_file::given;
use crate::target::Target;

/// Runs, or lists, the cases.
pub(crate) fn run(args: &ConformanceArgs) -> Result<(), Failure> {
    let cases = chosen(&args.only)?;
    if args.list {
        list(&cases, args.json);
        return Ok(());
    }
    let uri = args.uri.as_deref().unwrap_or_default();
    let target = Target::parse(uri).map_err(Failure::setup)?;
    let secrets = Secrets::of(args)?;
    let (credentials, other) = credentials(args, &secrets, uri)?;
    let server = target.resolve().map_err(Failure::job)?;
    let plan = Plan {
        transport: target.transport(&args.trust).map_err(Failure::setup)?,
        credentials,
        other,
        secret: secrets.shared,
        peers: if args.peer.is_empty() { own_addresses(server) } else { args.peer.clone() },
        timeout: Duration::from_millis(args.timeout),
    };
    let shows = io::stderr().is_terminal();
    let mut tried = 0;
    let tell = |outcome: &Outcome| {
        tried += 1;
        if !args.json {
            println!("{}", line(outcome));
        } else if shows {
            eprint!("\r{tried} of {} cases", cases.len());
        }
    };
    let outcomes = conformance::run(server, &plan, &cases, tell)
        .map_err(|why| Failure::job(format!("{uri}: {why}")))?;
    if args.json && shows {
        eprintln!();
    }
    report(uri, server, &outcomes, args.json)
}

/// The cases whose id, or area, was named; all if none was.
fn chosen(only: &[String]) -> Result<Vec<Case>, Failure> {
    let all = conformance::cases();
    let is = |case: &Case, word: &str| {
        let word = word.to_ascii_uppercase();
        case.id == word || case.id.split_once('-').is_some_and(|(area, _)| area == word)
    };
    for word in only {
        if !all.iter().any(|case| is(case, word)) {
            return Err(Failure::setup(format!(
                "--only {word}: no such requirement is tried; see av-edge conformance --list"
            )));
        }
    }
    let wanted = |case: &Case| only.is_empty() || only.iter().any(|word| is(case, word));
    Ok(all.into_iter().filter(wanted).collect())
}

fn list(cases: &[Case], as_json: bool) {
    if as_json {
        let row = |case: &Case| {
            let level = case.level.name();
            json!({ "id": case.id, "level": level, "rule": case.rule, "source": case.source })
        };
        println!("{:#}", Value::from(cases.iter().map(row).collect::<Vec<_>>()));
        return;
    }
    for case in cases {
        println!("{:<11}{:<8}{} [{}]", case.id, case.level.name(), case.rule, case.source);
    }
}

/// Lifetime of credentials minted here.
const CREDENTIAL_LIFETIME_S: u64 = 600;

/// What was given in arguments or in files.
struct Secrets {
    password: Option<String>,
    other: Option<String>,
    shared: Option<String>,
}

impl Secrets {
    fn of(args: &ConformanceArgs) -> Result<Self, Failure> {
        let other = args.other_password_file.as_ref();
        let other = given(args.other_password.as_ref(), "--other-password-file", other)?;
        let password = args.password_file.as_ref();
        Ok(Self {
            password: given(args.password.as_ref(), "--password-file", password)?,
            other,
            shared: given(args.secret.as_ref(), "--secret-file", args.secret_file.as_ref())?,
        })
    }
}

/// The credential given, or two minted with the shared secret or the pool's key.
fn credentials(
    args: &ConformanceArgs,
    secrets: &Secrets,
    uri: &str,
) -> Result<(Credentials, Option<Credentials>), Failure> {
    let pair = |user: &Option<String>, password: &Option<String>| {
        Some(Credentials::new(user.as_ref()?, password.as_ref()?))
    };
    let minted = |user: &str| {
        let expiry = clock::now().unix.plus(CREDENTIAL_LIFETIME_S).0;
        let secret = secrets.shared.as_ref()?;
        Some(rest_credentials(secret, &format!("{expiry}:{user}")))
    };
    let given = pair(&args.user, &secrets.password);
    match (given.or_else(|| minted("conformance")), &args.key) {
        (Some(credentials), _) => {
            let other = pair(&args.other_user, &secrets.other);
            Ok((credentials, other.or_else(|| minted("conformance-other"))))
        }
        (None, Some(key)) => {
            Ok((mint_with(key, "conformance")?, Some(mint_with(key, "conformance-other")?)))
        }
        (None, None) => Err(Failure::setup(format!(
            "{uri}: a TURN server asks for a credential. Give --user with --password-file or \
             --password, or --secret-file, or --key with the pool's private key"
        ))),
    }
}

/// The address this host speaks to the server from; on loopback there are more.
fn own_addresses(server: SocketAddr) -> Vec<IpAddr> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let own = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(server)?;
        Ok(socket.local_addr()?.ip())
    });
    match own {
        // The server's own address is nobody's peer.
        Ok(ip) if ip == Ipv4Addr::LOCALHOST => {
            [2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last).into()).to_vec()
        }
        Ok(ip) => vec![ip],
        Err(_) => Vec::new(),
    }
}

/// One outcome, in words.
fn line(outcome: &Outcome) -> String {
    let Case { id, rule, source, level, .. } = outcome.case;
    let level = level.name();
    match &outcome.verdict {
        Verdict::Pass => format!("pass  {id:<11}{rule}"),
        Verdict::Fail { expected, seen } => format!(
            "FAIL  {id:<11}{rule} [{level}: {source}]\n{:17}expected {expected}\n{:17}seen     {seen}",
            "", ""
        ),
        Verdict::NotApplicable(why) => format!("n.a.  {id:<11}{rule}\n{:17}{why}", ""),
    }
}

fn report(
    uri: &str,
    server: SocketAddr,
    outcomes: &[Outcome],
    as_json: bool,
) -> Result<(), Failure> {
    let count = |is: fn(&Verdict) -> bool| outcomes.iter().filter(|o| is(&o.verdict)).count();
    let passed = count(|verdict| matches!(verdict, Verdict::Pass));
    let failed = count(|verdict| matches!(verdict, Verdict::Fail { .. }));
    let absent = count(|verdict| matches!(verdict, Verdict::NotApplicable(_)));
    if as_json {
        let whole = json!({
            "uri": uri,
            "server": server.to_string(),
            "passed": passed,
            "failed": failed,
            "not_applicable": absent,
            "cases": outcomes.iter().map(outcome_json).collect::<Vec<_>>(),
        });
        println!("{whole:#}");
    } else {
        println!("\n{passed} pass, {failed} fail, {absent} do not apply");
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::job(format!("{uri} fails {failed} of {} requirements", outcomes.len()))),
    }
}

fn outcome_json(outcome: &Outcome) -> Value {
    let (verdict, expected, seen, why) = match &outcome.verdict {
        Verdict::Pass => ("pass", None, None, None),
        Verdict::Fail { expected, seen } => ("fail", Some(expected), Some(seen), None),
        Verdict::NotApplicable(why) => ("n.a.", None, None, Some(why)),
    };
    json!({
        "id": outcome.case.id,
        "rule": outcome.case.rule,
        "source": outcome.case.source,
        "level": outcome.case.level.name(),
        "verdict": verdict,
        "expected": expected,
        "seen": seen,
        "why": why,
        "ms": outcome.took.as_secs_f64() * 1e3,
    })
}
