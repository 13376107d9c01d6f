//! `/v1/explain` and `/v1/reasons`: why something happened, and what to do.
//!
//! Who is asked about may have met any worker: datagrams from another port of the same host reach
//! another one. So all are asked, about an allocation first, then about where its client is.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use proto::addr::FiveTuple;
use proto::reject::{DropReason, Why};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Desk, Problem};
use crate::chronicle::catalogue::{self, Reason};
use crate::chronicle::findings::findings;
use crate::chronicle::{Account, Entry, Life, Subject, What, words};
use crate::clock::Calendar;
use crate::dtls::{Greeting, Loss, Parting};
use crate::service::Observer;
use crate::session::SessionId;
use crate::stream::{Ending, Refusal};
use crate::telemetry::block::Snapshot;
use crate::worker::Question;

/// How long before it begins a client's requests belong to the history of its allocation.
const PRELUDE: Duration = Duration::from_secs(60);

/// Entries of an answer.
const ENTRIES: usize = 500;

/// Whom or what somebody wants to know about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    subject: String,
}

/// A subject, over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Allocation(SessionId),
    Client(IpAddr, Option<u16>),
    Reason(&'static str),
}

impl Named {
    fn parse(text: &str) -> Option<Self> {
        let mut reasons = catalogue::reasons().map(|reason| reason.id);
        let client = || {
            let plain = text.trim_start_matches('[').trim_end_matches(']');
            let host = plain.parse().map(|ip: IpAddr| (ip, None));
            host.or_else(|_| text.parse().map(|at: SocketAddr| (at.ip(), Some(at.port())))).ok()
        };
        if let Some(reason) = reasons.find(|name| *name == text) {
            return Some(Self::Reason(reason));
        }
        if let Ok(id) = text.parse() {
            return Some(Self::Allocation(id));
        }
        client().map(|(ip, port)| Self::Client(ip.to_canonical(), port))
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Allocation(_) => "allocation",
            Self::Client(..) => "client",
            Self::Reason(_) => "reason",
        }
    }
}

/// Explains.
pub(super) async fn explain(
    State(desk): State<Desk>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(Wanted { subject }) = wanted.map_err(Problem::of_query)?;
    let named = Named::parse(&subject).ok_or_else(|| {
        Problem::bad_request(
            "subject: not the name of a refusal or drop (see /v1/reasons), an allocation such as \
             0-12-3, or a client's IP or IP:port",
        )
    })?;
    let inquiry = desk.look(move |desk| Inquiry::make(&desk.observer, named)).await?;
    let findings = findings(&inquiry.account, inquiry.focus);
    let findings: Vec<_> = findings
        .iter()
        .map(|it| json!({"id": it.id, "text": it.text, "advice": it.advice}))
        .collect();
    let entries = inquiry.entries();
    let found = !entries.is_empty() || inquiry.total.is_some();
    Ok(Json(json!({
        "subject": subject,
        "kind": named.kind(),
        "found": found,
        "summary": inquiry.summary(),
        "entries": entries,
        "findings": findings,
    })))
}

/// What happened to an allocation and its client, the oldest first; nothing if a worker does not
/// answer.
pub(super) fn history(observer: &Observer, id: SessionId) -> Vec<Value> {
    let inquiry = Inquiry::make(observer, Named::Allocation(id));
    inquiry.map(|it| it.entries()).unwrap_or_default()
}

/// Everything that can go wrong.
pub(super) async fn reasons() -> Json<Value> {
    let all = catalogue::reasons().map(|Reason { id, kind, code, help, advice }| {
        json!({"id": id, "kind": kind, "code": code, "help": help, "advice": advice})
    });
    Json(all.collect())
}

/// What the workers know about a subject.
struct Inquiry {
    named: Named,
    account: Account,
    /// Where the client is that was asked for, if one was; the account tells of its host too.
    focus: Option<SocketAddr>,
    /// How often the reason was counted that was asked for.
    total: Option<u64>,
    calendar: Calendar,
}

impl Inquiry {
    /// Asks all workers; `None` if one does not answer.
    fn make(observer: &Observer, named: Named) -> Option<Self> {
        let (account, focus) = match named {
            Named::Reason(reason) => (gather(observer, Subject::Reason(reason))?, None),
            Named::Client(ip, port) => {
                let focus = port.map(|port| SocketAddr::new(ip, port));
                (gather(observer, Subject::Client(ip))?, focus)
            }
            Named::Allocation(id) => {
                let subject = Subject::Allocation(id.allocation);
                let answers = observer.ask(|answer| Question::Account(subject, answer));
                let own = answers.into_iter().nth(usize::from(id.worker));
                let own = own.unwrap_or_else(|| Some(Account::default()))?;
                match own.lives.first().map(|(_, life)| life.client().client) {
                    None => (own, None),
                    Some(at) => (gather(observer, Subject::Client(at.ip()))?, Some(at.socket())),
                }
            }
        };
        let total = match named {
            Named::Reason(reason) => Some(counted(observer, reason)),
            Named::Allocation(_) | Named::Client(..) => None,
        };
        Some(Self { named, account, focus, total, calendar: Calendar::new() })
    }

    /// The life of the allocation that was asked for.
    fn life(&self) -> Option<&Life> {
        let Named::Allocation(id) = self.named else { return None };
        let own = |(worker, life): &&(u16, Life)| *worker == id.worker && life.id == id.allocation;
        self.account.lives.iter().find(own).map(|(_, life)| life)
    }

    /// Whether an entry is about the subject.
    fn concerns(&self, client: FiveTuple, of: Option<SessionId>, entry: &Entry) -> bool {
        let client = client.client.socket();
        match self.named {
            Named::Reason(reason) => entry.what.is_for(reason),
            Named::Client(ip, None) => client.ip() == ip,
            Named::Client(ip, Some(port)) => client == SocketAddr::new(ip, port),
            Named::Allocation(id) => {
                let is_near = |life: &Life| entry.last + PRELUDE >= life.opened;
                // What its client was refused without proof stands apart from its life.
                of == Some(id)
                    || of.is_none()
                        && self.focus == Some(client)
                        && self.life().is_some_and(is_near)
            }
        }
    }

    /// What happened, in order of time; of too many, the last.
    fn entries(&self) -> Vec<Value> {
        let mut entries: Vec<_> = self
            .account
            .entries()
            .filter(|(client, of, entry)| self.concerns(*client, *of, entry))
            .collect();
        entries.sort_by_key(|(_, _, entry)| entry.last);
        let omitted = entries.len().saturating_sub(ENTRIES);
        let told = |(client, of, entry)| told(self.calendar, client, of, entry);
        entries.into_iter().skip(omitted).map(told).collect()
    }

    /// All of it in a sentence.
    fn summary(&self) -> String {
        let clients = || {
            let strangers = self.account.strangers.iter().map(|it| it.client.client.socket());
            let seen = |at: &SocketAddr| self.focus.is_none_or(|focus| focus == *at);
            strangers.filter(seen).collect::<BTreeSet<_>>().len()
        };
        match self.named {
            Named::Reason(reason) => {
                let total = self.total.unwrap_or_default();
                let lives = self.account.lives.len();
                format!(
                    "{reason}: counted {total} since the relay began; allocations that are \
                     remembered: {lives}, clients without one: {}.",
                    clients()
                )
            }
            Named::Client(..) => {
                let lives = self.account.lives.iter().map(|(_, life)| life);
                let lives = lives.filter(|it| self.focus.is_none_or(|at| it.was_at(|it| it == at)));
                let (live, ended): (Vec<_>, Vec<_>) =
                    lives.partition(|life| life.ended().is_none());
                match (live.len(), ended.len(), clients()) {
                    (0, 0, 0) => "nothing is known of this client: its packets do not arrive, or \
                                  it was long ago."
                        .to_owned(),
                    (live, ended, others) => format!(
                        "allocations: {live} live, {ended} ended lately; ports that were refused \
                         or dropped without one: {others}."
                    ),
                }
            }
            Named::Allocation(id) => self.life().map_or_else(
                || "there is no such allocation, or it ended long ago.".to_owned(),
                |life| words::life(&id.to_string(), life, self.calendar),
            ),
        }
    }
}

/// One thing that happened, in JSON.
pub(super) fn told(
    calendar: Calendar,
    client: FiveTuple,
    of: Option<SessionId>,
    entry: &Entry,
) -> Value {
    let code = match entry.what {
        What::Refused { code, .. } => Some(code),
        _ => None,
    };
    json!({
        "at_ms": calendar.ms(entry.last),
        "first_ms": calendar.ms(entry.first),
        "kind": entry.what.kind(),
        "what": entry.what.name(),
        "text": words::sentence(entry),
        "code": code,
        "count": entry.count,
        "allocation": of.map(|id| id.to_string()),
        "client": client.client.socket().to_string(),
        "about": entry.about.map(|at| at.to_string()),
    })
}

/// What all workers know; `None` if one does not answer.
fn gather(observer: &Observer, subject: Subject) -> Option<Account> {
    let answers = observer.ask(|answer| Question::Account(subject, answer));
    let mut all = Account::default();
    for account in answers {
        all.join(account?);
    }
    Some(all)
}

/// How often a reason was counted.
fn counted(observer: &Observer, reason: &str) -> u64 {
    let of_worker = |Snapshot { server, streams, dtls, .. }: &Snapshot| {
        sum(reason, Why::ALL.iter().map(|it| it.name()), &server.rejected)
            + sum(reason, DropReason::ALL.iter().map(|it| it.name()), &server.dropped)
            + sum(reason, Refusal::ALL.iter().map(|it| it.name()), &streams.refused)
            + sum(reason, Ending::ALL.iter().map(|it| it.name()), &streams.closed)
            + sum(reason, Greeting::ALL.iter().map(|it| it.name()), &dtls.greeted)
            + sum(reason, Parting::ALL.iter().map(|it| it.name()), &dtls.parted)
            + sum(reason, Loss::ALL.iter().map(|it| it.name()), &dtls.lost)
    };
    observer.counters().workers.iter().map(of_worker).sum()
}

/// The counters with this name.
fn sum<'a>(wanted: &str, names: impl Iterator<Item = &'a str>, counts: &[u64]) -> u64 {
    names.zip(counts).filter(|(name, _)| *name == wanted).map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_reason_or_an_allocation_or_a_client() {
        let ip = |text: &str| text.parse().unwrap();
        for (text, expected) in [
            ("wrong_password", Some(Named::Reason("wrong_password"))),
            ("no_permission", Some(Named::Reason("no_permission"))),
            ("0-12-3", "0-12-3".parse().ok().map(Named::Allocation)),
            ("192.0.2.1", Some(Named::Client(ip("192.0.2.1"), None))),
            ("192.0.2.1:5", Some(Named::Client(ip("192.0.2.1"), Some(5)))),
            ("::ffff:192.0.2.1", Some(Named::Client(ip("192.0.2.1"), None))),
            ("2001:db8::1", Some(Named::Client(ip("2001:db8::1"), None))),
            ("[2001:db8::1]", Some(Named::Client(ip("2001:db8::1"), None))),
            ("[2001:db8::1]:5", Some(Named::Client(ip("2001:db8::1"), Some(5)))),
            ("", None),
            ("wrong", None),
            ("0-12", None),
            ("192.0.2", None),
            ("192.0.2.1:99999", None),
            ("relay.example.org", None),
        ] {
            assert_eq!(Named::parse(text), expected, "{text}");
        }
    }
}
