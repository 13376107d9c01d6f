//! One thing that happened, as often as it happened.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::channel_data::ChannelNumber;
use proto::now::Now;
use proto::reject::{DropReason, Why};
use proto::turn::tally::Procedure;
use proto::turn::{CloseReason, Notice, Occurrence, Party};

use super::below::Below;

/// What does not happen again for so long has ended.
const PAUSE: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The allocation began.
    Opened,
    /// The client took it to another address.
    Moved,
    /// A peer may answer.
    Permission,
    /// A peer's payload travels on a channel.
    Channel(ChannelNumber),
    /// A peer's payload travels bare.
    Destination,
    /// A request was refused.
    Refused {
        /// Why.
        why: Why,
        /// What was asked for.
        procedure: Procedure,
        /// What the client heard.
        code: u16,
    },
    /// Packets were dropped.
    Dropped(DropReason),
    /// Something below TURN.
    Below(Below),
    /// The allocation ended.
    Closed(CloseReason),
}

impl What {
    /// The stable name, of refusals and drops the one in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Moved => "moved",
            Self::Permission => "permission",
            Self::Channel(_) => "channel",
            Self::Destination => "destination",
            Self::Refused { why, .. } => why.name(),
            Self::Dropped(reason) => reason.name(),
            Self::Below(below) => below.name(),
            Self::Closed(_) => "closed",
        }
    }

    /// What kind of thing that is: refusals and drops share some names.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Refused { .. } => "refusal",
            Self::Dropped(_) => "drop",
            Self::Below(Below::Refused(_) | Below::Ended(_)) => "connection",
            Self::Below(Below::Greeted(_) | Below::Parted(_)) => "dtls",
            Self::Opened
            | Self::Moved
            | Self::Permission
            | Self::Channel(_)
            | Self::Destination
            | Self::Closed(_) => "change",
        }
    }

    /// The refusal, if it is one.
    pub(crate) fn why(self) -> Option<Why> {
        match self {
            Self::Refused { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Whether it says where the client is.
    pub(crate) fn is_station(self) -> bool {
        matches!(self, Self::Opened | Self::Moved)
    }

    /// Why the allocation ended, if it did.
    pub(crate) fn end(self) -> Option<CloseReason> {
        match self {
            Self::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether it is a refusal or drop for this reason.
    pub(crate) fn is_for(self, reason: &str) -> bool {
        self.kind() != "change" && self.name() == reason
    }
}

/// What happened to somebody, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) what: What,
    /// The peer, or where the client is from then on; of several that sent what was dropped, the
    /// last.
    pub(crate) about: Option<SocketAddr>,
    pub(crate) first: Instant,
    pub(crate) last: Instant,
    pub(crate) count: u64,
    /// How often lately, without a pause.
    pub(crate) burst: u64,
}

impl Entry {
    /// Something that happened once, now.
    pub(crate) fn new(now: Now, what: What, about: Option<SocketAddr>) -> Self {
        Self::at(now.mono, what, about)
    }

    /// Something that happened once, then.
    pub(super) fn at(then: Instant, what: What, about: Option<SocketAddr>) -> Self {
        Self { what, about, first: then, last: then, count: 1, burst: 1 }
    }

    /// What a notice tells.
    pub(crate) fn of(now: Now, notice: &Notice) -> Self {
        let (what, about) = match (notice.what, notice.party) {
            (Occurrence::Refused { why, procedure, code, peer, .. }, _) => {
                (What::Refused { why, procedure, code }, peer)
            }
            (Occurrence::Dropped(reason), Party::Relay { peer, .. }) => {
                (What::Dropped(reason), Some(peer.socket()))
            }
            (Occurrence::Dropped(reason), Party::Client(_)) => (What::Dropped(reason), None),
        };
        let count = notice.count.into();
        Self { count, burst: count, ..Self::new(now, what, about) }
    }

    /// Adds what happened again; whether it was the same.
    pub(crate) fn absorb(&mut self, other: &Self) -> bool {
        let anybody = matches!(self.what, What::Dropped(_));
        let same = self.what == other.what && (anybody || self.about == other.about);
        if same {
            let pause = other.last.saturating_duration_since(self.last);
            self.burst = if pause <= PAUSE { self.burst + other.burst } else { other.burst };
            self.about = other.about;
            self.last = other.last;
            self.count += other.count;
        }
        same
    }
}
