//! Where figures come from: the control socket of a relay on this host, or an admin endpoint.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;
use std::{fs, thread};

use hyper::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::figures::{Detail, Explanation, Overview, Page, Samples};
use crate::cli::TopArgs;
use crate::control;
use crate::failure::Failure;

/// How long an answer may take, over TCP.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer over TCP, in bytes.
const ANSWER_LIMIT_BYTES: u64 = 4 << 20;

/// Who is asked.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A relay of this host.
    Socket(PathBuf),
    /// An admin endpoint.
    Url { base: String, token: Option<String> },
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The order of allocations, as the relay calls it.
    pub(super) sort: &'static str,
    /// So many of them.
    pub(super) limit: u16,
    /// One to look at closely.
    pub(super) detail: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// The order that was asked for.
    pub(super) sort: &'static str,
    pub(super) overview: Overview,
    pub(super) samples: Samples,
    pub(super) page: Page,
    /// Nothing of an allocation that is over.
    pub(super) detail: Option<Detail>,
    pub(super) explanation: Option<Explanation>,
}

impl Source {
    pub(super) fn of(args: &TopArgs) -> Result<Self, Failure> {
        let Some(url) = &args.url else { return Ok(Self::Socket(args.socket.clone())) };
        let base = url.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            let hint = "give the address of [admin] as http://IP:PORT, over an SSH tunnel if it is \
                        far away";
            return Err(Failure::setup(format!("--url {url:?}: {hint}")));
        }
        let token = args.token_file.as_ref().map(|file| {
            let token = fs::read_to_string(file);
            let token =
                token.map_err(|error| Failure::setup(format!("{}: {error}", file.display())));
            token.map(|token| token.trim().to_owned())
        });
        Ok(Self::Url { base, token: token.transpose()? })
    }

    /// Looks once.
    pub(super) fn look(&self, wanted: &Wanted) -> Result<Look, Failure> {
        let Wanted { sort, limit, detail } = wanted;
        let mut look = Look {
            sort,
            overview: self.read("/v1/overview")?,
            samples: self.read("/v1/samples")?,
            page: self.read(&format!("/v1/allocations?sort={sort}&limit={limit}"))?,
            ..Look::default()
        };
        if let Some(id) = detail {
            // It may be over; what is told of its end is in the explanation.
            look.detail = self.read(&format!("/v1/allocations/{id}")).ok();
            look.explanation = Some(self.read(&format!("/v1/explain?subject={id}"))?);
        }
        if *sort == "id" {
            look.page.total = look.overview.allocations;
        }
        Ok(look)
    }

    fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let value = match self {
            Self::Socket(socket) => control::ask(socket, Method::GET, path)?,
            Self::Url { base, token } => fetch(&format!("{base}{path}"), token.as_deref())?,
        };
        serde_json::from_value(value).map_err(|error| {
            Failure::job(format!("{path}: not what a relay of this version answers: {error}"))
        })
    }
}

/// An answer of an admin endpoint.
fn fetch(url: &str, token: Option<&str>) -> Result<Value, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::job(format!("{url}: {error}"));
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .into();
    let mut request = agent.get(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut answer = request.call().map_err(|error| failed(&error))?;
    let status = answer.status();
    let body = answer.body_mut().with_config().limit(ANSWER_LIMIT_BYTES).read_to_string();
    let body = body.map_err(|error| failed(&error))?;
    let value: Value =
        serde_json::from_str(&body).map_err(|_| failed(&"what answers there is no relay"))?;
    if status.is_success() {
        return Ok(value);
    }
    let detail = value["detail"].as_str().map_or_else(|| status.to_string(), str::to_owned);
    Err(failed(&detail))
}

/// Looks again and again, on a thread of its own.
pub(super) struct Asker {
    wishes: SyncSender<Wanted>,
    answers: Receiver<Result<Look, Failure>>,
}

impl Asker {
    /// One that rests so long between two looks.
    pub(super) fn new(source: Source, rest: Duration) -> Self {
        let (wishes, wanted) = sync_channel::<Wanted>(1);
        let (tell, answers) = sync_channel(1);
        thread::spawn(move || {
            let mut current: Option<Wanted> = None;
            loop {
                let next = match &current {
                    None => wanted.recv().ok(),
                    Some(same) => rest_until(&wanted, same, rest),
                };
                // Nobody looks any more.
                let Some(next) = next else { return };
                if tell.send(source.look(&next)).is_err() {
                    return;
                }
                current = Some(next);
            }
        });
        Self { wishes, answers }
    }

    /// Says what is to be looked at from now on.
    pub(super) fn ask(&self, wanted: Wanted) {
        // One too many is said again, soon.
        let _ = self.wishes.try_send(wanted);
    }

    /// What was seen since this was asked last.
    pub(super) fn answer(&self) -> Option<Result<Look, Failure>> {
        match self.answers.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Err(Failure::job("the thread that asks the relay has failed")))
            }
        }
    }
}

/// Rests, unless something else is wanted meanwhile; `None` when nobody wants anything any more.
fn rest_until(wanted: &Receiver<Wanted>, same: &Wanted, rest: Duration) -> Option<Wanted> {
    let end = crate::clock::now().mono + rest;
    loop {
        let left = end.saturating_duration_since(crate::clock::now().mono);
        match wanted.recv_timeout(left) {
            Ok(other) if other != *same => return Some(other),
            Ok(_) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Some(same.clone()),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
        }
    }
}
