//! What goes wrong over and over, recognised in what happened.
//!
//! One refusal is often no trouble: a nonce grows old, a first request brings no credentials. A
//! finding is what an operator would conclude who read all entries of a client, in one sentence,
//! and what to do in another. What is over is no finding: a client that has got its allocation
//! since needs no help with its password.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use proto::reject::{DropReason, Why};

use super::Account;
use super::below::Below;
use super::entry::{Entry, What};
use crate::dtls::{Greeting, Parting};
use crate::stream::Ending;

/// So often in a row a client may be refused for its nonce before that is a loop: requests that were
/// under way together are refused together when it has grown old.
const NONCES: u64 = 6;

/// So often in a row a client may ask without credentials before that is odd.
const CHALLENGES: u64 = 3;

/// So many ports of a host that show old nonces are those of one client whose NAT changes them.
const PORTS: usize = 3;

/// So many hosts whose credentials are refused for their time are not all late.
const HOSTS: usize = 3;

/// A conclusion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Stable name.
    pub(crate) id: &'static str,
    /// What it is.
    pub(crate) text: String,
    /// What to do.
    pub(crate) advice: &'static str,
}

/// What an operator asks about: all of an account, or one client of a host that it tells of.
#[derive(Clone, Copy)]
struct View<'a> {
    account: &'a Account,
    client: Option<SocketAddr>,
}

/// What is to be concluded about a client, or without one, about everybody in the account.
pub(crate) fn findings(account: &Account, client: Option<SocketAddr>) -> Vec<Finding> {
    let view = View { account, client };
    let mut found = Vec::new();
    found.extend(clock_skew(view));
    found.extend(moved_nat_port(view));
    found.extend(stale_nonce(view));
    found.extend(SIMPLE.iter().filter_map(|simple| simple.find(view)));
    found.extend(denied_peer(view));
    found.extend(unanswered_challenge(view));
    found.extend(failed_tls(view));
    found
}

impl<'a> View<'a> {
    /// What happened to the client, or to everybody, and where that was.
    fn entries(self) -> impl Iterator<Item = (SocketAddr, &'a Entry)> {
        let all = self.account.entries().map(|(at, _, entry)| (at.client.socket(), entry));
        all.filter(move |(at, _)| self.is_about(*at))
    }

    fn is_about(self, at: SocketAddr) -> bool {
        self.client.is_none_or(|client| client == at)
    }
}

/// What is wrong as soon as it happens, unless the client succeeds later.
struct Simple {
    id: &'static str,
    reasons: &'static [Why],
    text: &'static str,
    advice: &'static str,
}

const SIMPLE: &[Simple] = &[
    Simple {
        id: "wrong_password",
        reasons: &[Why::WrongPassword],
        text: "shows a user name whose password is wrong here",
        advice: "Compare `av-edge key show` on the relay and on the host that mints: with other \
                 fingerprints they are not of one pool. If they agree, the client keeps an old \
                 password.",
    },
    Simple {
        id: "unknown_user",
        reasons: &[Why::UnknownUser],
        text: "shows a user name that no key of this relay minted",
        advice: "See with `av-edge credential inspect` what the name is; the client may be meant \
                 for another pool, or the relay lacks the key that minted it.",
    },
    Simple {
        id: "wrong_realm",
        reasons: &[Why::WrongRealm],
        text: "signs for another realm than this relay's",
        advice: "Give all relays behind one name the same realm; a client that has the realm in its \
                 settings must take it from the relay's answer instead.",
    },
    Simple {
        id: "expired_credential",
        reasons: &[Why::Expired],
        text: "shows a credential whose time is over",
        advice: "Let the client fetch a new credential before each call; if it was fetched just \
                 now, set the clocks of relay and minting service.",
    },
    Simple {
        id: "expiry_too_far_ahead",
        reasons: &[Why::TooFarAhead],
        text: "shows a credential that claims to live longer than this relay allows",
        advice: "Check the clock and the lifetime of the minting service against \
                 auth.max_lifetime_s.",
    },
    Simple {
        id: "wrong_side",
        reasons: &[Why::WrongSide],
        text: "shows a credential for the other side of the edge",
        advice: "Send the client to the listeners of its side, or mint its credential for the side \
                 it is on.",
    },
    Simple {
        id: "user_quota",
        reasons: &[Why::UserQuota, Why::ClientQuota],
        text: "holds as many allocations as it may",
        advice: "Look for a client that allocates anew without releasing; many users behind one \
                 NAT need a higher limits.allocations_per_client.",
    },
];

impl Simple {
    fn find(&self, view: View<'_>) -> Option<Finding> {
        let refused = refusals(view, |why| self.reasons.contains(&why))
            .filter(|(client, entry)| !has_succeeded(view, *client, entry.last));
        let refused: Vec<_> = refused.collect();
        let (who, count) = told(&refused)?;
        let text = format!("{who} {}, {count}.", self.text);
        Some(Finding { id: self.id, text, advice: self.advice })
    }
}

/// Refusals for some reasons.
fn refusals(
    view: View<'_>,
    wanted: impl Fn(Why) -> bool,
) -> impl Iterator<Item = (SocketAddr, &Entry)> {
    view.entries().filter(move |(_, entry)| entry.what.why().is_some_and(&wanted))
}

/// Whether the client has got an allocation after that.
fn has_succeeded(view: View<'_>, client: SocketAddr, after: Instant) -> bool {
    let its = |it: SocketAddr| it == client;
    view.account.lives.iter().any(|(_, life)| life.opened >= after && life.was_at(its))
}

/// Who was refused, and how often; `None` if nobody was.
fn told(refused: &[(SocketAddr, &Entry)]) -> Option<(String, String)> {
    let clients: BTreeSet<_> = refused.iter().map(|(client, _)| client).collect();
    let count: u64 = refused.iter().map(|(_, entry)| entry.count).sum();
    let first = clients.first()?;
    let who = match clients.len() {
        1 => format!("The client at {first}"),
        2 => format!("The client at {first}, and 1 other,"),
        more => format!("The client at {first}, and {} others,", more - 1),
    };
    let often = match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    };
    Some((who, often))
}

/// Many clients cannot all be late: a clock is wrong.
fn clock_skew(view: View<'_>) -> Option<Finding> {
    let is_time = |why| matches!(why, Why::Expired | Why::TooFarAhead);
    refusals(view, is_time).next()?;
    let hosts = view.account.out_of_time.len();
    (hosts >= HOSTS).then(|| Finding {
        id: "clock_skew",
        text: format!(
            "Credentials from {hosts} addresses were refused within an hour for their time: a \
             clock is wrong, here or where they are minted."
        ),
        advice: "Compare `date -u` on this host and on the minting service's, and let both follow \
                 NTP.",
    })
}

/// What a client is refused for whose address is another than before.
fn looks_moved(what: What) -> bool {
    match what {
        What::Refused { why, .. } => matches!(why, Why::StaleNonce | Why::NoAllocation),
        What::Dropped(reason) => reason == DropReason::NoAllocation,
        _ => false,
    }
}

/// A NAT gives the client another port in the middle of a call, or for each request.
fn moved_nat_port(view: View<'_>) -> Option<Finding> {
    let advice = "Let the client use TCP or TLS, or send to the relay more often than the NAT's UDP \
                  timeout; clients that know mobility (RFC 8016) keep their allocation, if \
                  features.mobility allows it.";
    let live: Vec<_> =
        view.account.lives.iter().filter(|(_, life)| life.ended().is_none()).collect();
    let was_once_at =
        |at: SocketAddr| view.account.lives.iter().any(|(_, life)| life.was_at(|it| it == at));
    let strays = view.account.strangers.iter().filter(|it| looks_moved(it.entry.what));
    let strays: Vec<_> = strays
        // What comes late of a call that is over is no trouble.
        .filter(|it| !was_once_at(it.client.client.socket()))
        .map(|it| (it.client.client.socket(), it.entry))
        .collect();
    for (_, life) in &live {
        let own = life.client().client.socket();
        // Only an entry since the allocation began can be of its client.
        let stray = strays.iter().find(|(at, entry)| {
            at.ip() == own.ip()
                && at.port() != own.port()
                && entry.last >= life.opened
                && (view.is_about(own) || view.is_about(*at))
        });
        if let Some((at, _)) = stray {
            let text = format!(
                "There is an allocation of a client at {own}, and requests or payload come from \
                 {at}, which has none: it looks as if a NAT changed the client's port."
            );
            return Some(Finding { id: "moved_nat_port", text, advice });
        }
    }
    // From port to port, the one that was asked about is one of many.
    let by_nonce = strays.iter().filter(|(_, entry)| entry.what.why() == Some(Why::StaleNonce));
    let places: BTreeSet<_> = by_nonce.map(|(at, _)| *at).collect();
    let host = most_ports(&places)?;
    let text = format!(
        "Requests from {host} come from another port each time and show the nonce of the port \
         before: a NAT changes the client's port with every packet."
    );
    Some(Finding { id: "moved_nat_port", text, advice })
}

/// A host with so many ports that one client is behind all of them.
fn most_ports(places: &BTreeSet<SocketAddr>) -> Option<IpAddr> {
    let hosts: BTreeSet<_> = places.iter().map(SocketAddr::ip).collect();
    hosts.into_iter().find(|host| places.iter().filter(|at| at.ip() == *host).count() >= PORTS)
}

/// Whether a client was refused for its nonce too often in a row.
pub(crate) fn is_loop(entry: &Entry) -> bool {
    entry.burst >= NONCES
}

/// A client goes on with a nonce that is no longer good, although it hears another each time.
fn stale_nonce(view: View<'_>) -> Option<Finding> {
    let refused: Vec<_> = refusals(view, |why| why == Why::StaleNonce)
        .filter(|(client, entry)| is_loop(entry) && !has_succeeded(view, *client, entry.last))
        .collect();
    let (who, count) = told(&refused)?;
    Some(Finding {
        id: "stale_nonce",
        text: format!(
            "{who} was refused {count} for an old nonce: it does not take the new one that each \
             refusal brings, or does not hear it."
        ),
        advice: "Update the client; if it is a good one, see whether the relay's answers reach it, \
                 and let it use TCP or TLS.",
    })
}

/// The client wants to reach whom it may not.
fn denied_peer(view: View<'_>) -> Option<Finding> {
    let is_denied = |what: What| match what {
        What::Refused { why, .. } => {
            matches!(why, Why::PeerDenied | Why::PeerPort | Why::PeerSealed)
        }
        What::Dropped(reason) => reason == DropReason::PeerDenied,
        _ => false,
    };
    let mut denied = view.entries().filter(|(_, entry)| is_denied(entry.what));
    let (client, entry) = denied.next()?;
    let others = denied.map(|(_, entry)| entry.count).sum::<u64>() + entry.count - 1;
    let peer = entry.about.map_or("a peer".to_owned(), |peer| format!("the peer {peer}"));
    let more = if others == 0 { String::new() } else { format!(" ({others} more of this kind)") };
    Some(Finding {
        id: "denied_peer",
        text: format!("The client at {client} wants to reach {peer}, which it may not{more}."),
        advice: "`av-edge check --config FILE --peer IP:PORT` says which rule forbids it; private \
                 addresses among a browser's candidates are refused so, and harmless if the call \
                 works.",
    })
}

/// The client does not take our certificate, or we not its TLS.
fn failed_tls(view: View<'_>) -> Option<Finding> {
    let is_tls = |what: What| match what {
        What::Below(Below::Ended(ending)) => {
            matches!(ending, Ending::Tls | Ending::HandshakeTimeout)
        }
        What::Below(Below::Parted(parting)) => parting == Parting::Handshake,
        What::Below(Below::Greeted(greeting)) => {
            matches!(greeting, Greeting::Version | Greeting::Mismatch)
        }
        _ => false,
    };
    let failed: Vec<_> = view.entries().filter(|(_, entry)| is_tls(entry.what)).collect();
    let (who, count) = told(&failed)?;
    Some(Finding {
        id: "failed_handshake",
        text: format!("{who} began a handshake of TLS or DTLS that did not succeed, {count}."),
        advice: "Try `av-edge probe turns:HOST` from the client's side: the certificate has to name \
                 that host, be in time and come with its chain, and the client has to trust its \
                 authority.",
    })
}

/// A client asks and asks, and never shows credentials.
fn unanswered_challenge(view: View<'_>) -> Option<Finding> {
    let answers = |client: SocketAddr| {
        let is_other = |why| why != Why::NoIntegrity;
        refusals(view, is_other).any(|(other, _)| other == client)
            || view.account.lives.iter().any(|(_, life)| life.was_at(|at| at == client))
    };
    let refused: Vec<_> = refusals(view, |why| why == Why::NoIntegrity)
        .filter(|(client, entry)| entry.burst >= CHALLENGES && !answers(*client))
        .collect();
    let (who, count) = told(&refused)?;
    Some(Finding {
        id: "unanswered_challenge",
        text: format!(
            "{who} asked without credentials {count}, and never with them: it has none, or does \
             not hear the relay's answers."
        ),
        advice: "See whether the client was given a user name and a password, and whether a \
                 firewall lets UDP come back to it.",
    })
}
