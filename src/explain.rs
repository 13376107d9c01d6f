//! `av-edge explain`: what a refusal or drop means and what to do, and what happened to an
//! allocation or a client.
//!
//! What reasons mean is built in; what happened, the relay remembers and is asked through its
//! socket.

mod words;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use hyper::Method;
use relay::{Reason, reasons};
use serde_json::{Value, json};

use crate::cli::ExplainArgs;
use crate::control;
use crate::failure::Failure;
use crate::output::print;

/// Where a relay is asked unless another place is named.
pub(crate) const SOCKET: &str = "/run/av-edge/relay.sock";

/// Reasons that are suggested for a word that is none.
const SUGGESTIONS: usize = 3;

/// Explains, and prints it.
pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let Some(subject) = &args.subject else { return catalogue(args.json) };
    let reasons: Vec<_> = reasons().filter(|reason| reason.id == subject).collect();
    if reasons.is_empty() && !is_somebody(subject) {
        return Err(Failure::setup(unknown(subject)));
    }
    let socket = args.socket.as_deref();
    let answer = match (reasons.is_empty(), socket) {
        (true, socket) => Some(ask(socket.unwrap_or(Path::new(SOCKET)), subject)?),
        (false, Some(socket)) => Some(ask(socket, subject)?),
        (false, None) => None,
    };
    if args.json {
        let mut whole = answer.clone().unwrap_or_else(|| {
            json!({"subject": subject, "kind": "reason", "found": true, "entries": [], "findings": []})
        });
        if !reasons.is_empty() {
            whole["reasons"] = reasons.iter().map(object).collect();
        }
        print(&[whole.to_string()])?;
    } else {
        let known = reasons.iter().flat_map(words::reason).collect::<Vec<_>>();
        print(&known)?;
        if let Some(answer) = &answer {
            print(&words::answer(answer, crate::clock::now().unix))?;
        }
    }
    let found = answer.is_none_or(|answer| answer["found"] == true);
    if found { Ok(()) } else { Err(Failure::No) }
}

/// A reason, as the relay tells it.
fn object(reason: &Reason) -> Value {
    let Reason { id, kind, code, help, advice } = reason;
    json!({"id": id, "kind": kind, "code": code, "help": help, "advice": advice})
}

/// Prints what there is to ask about.
fn catalogue(json: bool) -> Result<(), Failure> {
    if json {
        return print(&[reasons().map(|reason| object(&reason)).collect::<Value>().to_string()]);
    }
    print(&reasons().map(|reason| words::line(&reason)).collect::<Vec<_>>())
}

/// Whether a word looks like an allocation or a client.
fn is_somebody(word: &str) -> bool {
    let plain = word.trim_start_matches('[').trim_end_matches(']');
    let numbers = word.split('-').filter(|part| part.parse::<u32>().is_ok()).count();
    let is_allocation = numbers == 3 && word.split('-').count() == 3;
    is_allocation || plain.parse::<IpAddr>().is_ok() || word.parse::<SocketAddr>().is_ok()
}

/// What to say of a word that is nothing to ask about.
fn unknown(word: &str) -> String {
    let mut near: Vec<_> = reasons().map(|it| it.id).collect();
    near.sort_unstable();
    near.dedup();
    near.sort_by(|a, b| strsim::jaro_winkler(b, word).total_cmp(&strsim::jaro_winkler(a, word)));
    near.truncate(SUGGESTIONS);
    format!(
        "{word:?} is nothing to explain: write the name of a refusal or drop, as metrics have it \
         (perhaps {}), an allocation such as 0-12-3, or a client such as 192.0.2.1 or \
         192.0.2.1:4321; `av-edge explain` alone lists the names",
        near.join(", ")
    )
}

/// What the relay knows.
fn ask(socket: &Path, subject: &str) -> Result<Value, Failure> {
    let escaped: String = subject
        .bytes()
        .map(|byte| match byte {
            b'[' => "%5B".to_owned(),
            b']' => "%5D".to_owned(),
            other => char::from(other).to_string(),
        })
        .collect();
    control::ask(socket, Method::GET, &format!("/v1/explain?subject={escaped}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_told_what_it_may_have_meant() {
        for (word, meant) in [
            ("wrong_pasword", "wrong_password"),
            ("stale-nonce", "stale_nonce"),
            ("NoPermission", "no_permission"),
            ("peer denied", "peer_denied"),
        ] {
            let text = unknown(word);
            assert!(text.contains(meant), "{word}: {text}");
            assert!(text.contains("0-12-3") && text.contains("192.0.2.1:4321"), "{text}");
        }
    }

    #[test]
    fn allocations_and_clients_are_known_by_their_looks() {
        for word in ["0-12-3", "192.0.2.1", "192.0.2.1:5", "::1", "[::1]", "[::1]:5"] {
            assert!(is_somebody(word), "{word}");
        }
        for word in ["", "0-12", "0-12-3-4", "a-b-c", "192.0.2", "relay.example.org", "-1-2-3"] {
            assert!(!is_somebody(word), "{word}");
        }
    }
}
