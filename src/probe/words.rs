//! What the steps of a checkup are called, what they found, and what a failure means.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use client::ClientError;
use client::checkup::{Finding, Path, Step};

/// The name of a step, as printed and in JSON.
pub(super) fn name(step: Step) -> &'static str {
    match step {
        Step::Binding => "binding",
        Step::Allocation => "allocation",
        Step::Peer => "second allocation",
        Step::Permission => "permission",
        Step::Channel => "channel",
        Step::Relaying => "relaying",
        Step::Release => "release",
    }
}

/// What a step found, in words.
pub(super) fn found(finding: &Finding) -> String {
    match finding {
        Finding::Mapped(mapped, local) => {
            let behind = if is_translated(*mapped, *local) {
                format!(", behind a NAT: its own port is {}", local.port())
            } else {
                String::new()
            };
            format!("the server sees this host as {mapped}{behind}")
        }
        Finding::Allocated(allocation) => {
            format!(
                "relayed address {} for {} s",
                allocation.relayed,
                allocation.lifetime.as_secs()
            )
        }
        Finding::Permitted(peer) => format!("{} may send", peer.ip()),
        Finding::Bound(number, peer) => format!("{number:#06x} is bound to {peer}"),
        Finding::Relayed(path) => format!(
            "{} of {} datagrams came back unharmed ({} lost going, {} lost returning, {} altered); \
             round trip {}",
            path.returned,
            path.sent,
            path.sent.saturating_sub(path.reached),
            path.reached.saturating_sub(path.returned),
            path.altered,
            round_trip(path),
        ),
        Finding::Done => "both allocations have ended".to_owned(),
    }
}

/// Whether a NAT changed the port; the address of an unbound socket says nothing.
fn is_translated(mapped: SocketAddr, local: SocketAddr) -> bool {
    mapped.port() != local.port() || (!local.ip().is_unspecified() && mapped.ip() != local.ip())
}

/// Shortest, median and 95th percentile of the round trips.
fn round_trip(path: &Path) -> String {
    let [least, median, most] = [0.0, 0.5, 0.95].map(|share| path.round_trip(share));
    match (least, median, most) {
        (Some(least), Some(median), Some(most)) => format!(
            "{} least, {} median, {} for 95 %",
            milliseconds(least),
            milliseconds(median),
            milliseconds(most)
        ),
        _ => "unknown".to_owned(),
    }
}

/// A duration for people.
pub(super) fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// What a failed step means, and what to do.
pub(super) fn meaning(step: Step, error: &ClientError) -> &'static str {
    match error {
        ClientError::Refused { code, .. } => refused(step, *code),
        ClientError::Silence(_) => silent(step),
        ClientError::Unverified => {
            "the answer was not signed with this credential's key: it may come from somebody on \
             the path, not from the relay"
        }
        ClientError::BidDown => {
            "somebody on the path removed the stronger password algorithms from the challenge"
        }
        ClientError::Garbled(_) => "what answers there is not a working TURN server",
        ClientError::Unsendable(_) => {
            "user name or password has characters or a length that STUN cannot carry"
        }
        ClientError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "the host is up, but nothing listens on that port: wrong port, or the relay does not run"
        }
        ClientError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            "TLS came to nothing: the certificate is not one that this host, or --ca, vouches for, \
             or what answers there does not speak TLS"
        }
        ClientError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server ended the connection: a TLS port without TLS, a limit, or no TURN server"
        }
        ClientError::Io(_) => "this host's network cannot send there: see the message",
    }
}

fn silent(step: Step) -> &'static str {
    match step {
        Step::Binding => {
            "nothing answers: wrong address, a firewall that drops UDP on the way, or no relay"
        }
        Step::Allocation | Step::Peer => {
            "the server answers Binding but not Allocate: a STUN server without TURN, or a \
             firewall that knows the difference"
        }
        Step::Permission | Step::Channel | Step::Relaying | Step::Release => {
            "the server stopped answering in the middle: it ended, or it limits this host's rate"
        }
    }
}

fn refused(step: Step, code: u16) -> &'static str {
    match (code, step) {
        (401, _) => {
            "the relay does not accept the credential: it has expired, the password is wrong, or \
             it was minted with a key the relay does not hold (compare `av-edge key show`)"
        }
        (403, Step::Permission | Step::Channel) => {
            "the relay's peer policy forbids its own relayed address; is `advertise` in its \
             configuration the address that clients are told?"
        }
        (403, _) => "the relay's policy forbids it; its log says which rule",
        (420, _) => "the relay does not understand an attribute that every TURN client sends",
        (437, _) => "the relay takes this socket for another client's; try again",
        (438, _) => "the relay calls every nonce stale: a NAT on the path changes ports",
        (440, _) => "the relay has no relayed address of this family",
        (442, _) => "the relay does not relay UDP",
        (486, _) => {
            "the user holds as many allocations as the relay allows; probe with a user of its own, \
             or raise limits.allocations_per_user"
        }
        (300, _) => "the relay sends its clients to another server",
        (508, _) => "the relay has no port or descriptor left, or it drains before a restart",
        (500, _) => "the relay failed inside; its log says how",
        _ => "the relay refuses; the code's meaning is in RFC 8656 §19",
    }
}

/// What loss or damage on the way through the relay means.
pub(super) fn incomplete(path: &Path) -> &'static str {
    if path.altered > 0 {
        "bytes changed on the way: something between here and the relay rewrites payload"
    } else if path.reached == 0 {
        "no datagram passes from one relayed address to the other: a firewall on the relay's host \
         closes the relayed ports, or its 1:1 NAT does not turn back what it sends to itself"
    } else if path.returned == 0 {
        "datagrams pass one way only: look for a firewall rule with a direction"
    } else {
        "some datagrams were lost: the path, or the relay's host, drops under this load"
    }
}
