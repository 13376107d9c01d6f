//! What happened, in sentences for operators.

use proto::turn::CloseReason;

use super::entry::{Entry, What};
use super::life::Life;
use crate::clock::Calendar;

/// One thing that happened.
pub(crate) fn sentence(entry: &Entry) -> String {
    let about = entry.about.map(|at| at.to_string()).unwrap_or_default();
    match entry.what {
        What::Opened => format!("opened by the client at {about}"),
        What::Moved => format!("the client moved to {about}"),
        What::Permission => {
            let host = entry.about.map(|at| at.ip().to_string()).unwrap_or_default();
            format!("permission for peer {host} installed or renewed")
        }
        What::Channel(number) => {
            format!("channel {:#06x} to peer {about} bound or renewed", number.number())
        }
        What::Destination => format!("active destination set to peer {about}"),
        What::Refused { why, procedure, code } => {
            let peer = entry.about.map(|peer| format!(" for peer {peer}")).unwrap_or_default();
            format!("{} refused with {code}{peer}: {}", procedure.name(), why.help())
        }
        What::Dropped(reason) => {
            let peer = entry.about.map(|peer| format!(", the last from peer {peer}"));
            let packets = if entry.count == 1 { "packet" } else { "packets" };
            let peer = peer.unwrap_or_default();
            format!("{} {packets} dropped{peer}: {}", entry.count, reason.help())
        }
        What::Below(below) => below.words(),
        What::Closed(reason) => format!("ended: {}", cause(reason)),
    }
}

/// Why an allocation ended.
fn cause(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Released => "the client released it",
        CloseReason::Expired => "nobody refreshed it in time",
        CloseReason::ShutDown => "the relay shut down",
        CloseReason::ClientGone => "the client's connection ended",
        CloseReason::Ended => "an operator ended it",
    }
}

/// An allocation in one sentence.
pub(crate) fn life(name: &str, life: &Life, calendar: Calendar) -> String {
    let client = life.client().client.socket();
    let whose = format!("allocation {name} of user {:016x} at {client}", life.user.0);
    match life.ended() {
        None => {
            let age = calendar.age(life.opened).as_secs();
            format!("{whose} lives, for {age} s so far.")
        }
        Some((at, reason)) => {
            let lived = at.saturating_duration_since(life.opened).as_secs();
            let ago = calendar.age(at).as_secs();
            format!("{whose} ended {ago} s ago after {lived} s: {}.", cause(reason))
        }
    }
}
