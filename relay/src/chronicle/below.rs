//! What befell connections and sessions below TURN, where nothing is refused with a code.
//!
//! Streams and DTLS leave it in a short list of their own, which the worker empties each turn; what
//! finds no room there is in their counters alone.

use proto::addr::FiveTuple;

use crate::dtls::{Greeting, Parting};
use crate::stream::{Ending, Refusal};

/// Entries that wait for the end of a turn.
const WAITING: usize = 32;

/// What befell a connection or session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    /// A connection was not taken.
    Refused(Refusal),
    /// A connection ended.
    Ended(Ending),
    /// A hello of DTLS began no session.
    Greeted(Greeting),
    /// A session of DTLS ended.
    Parted(Parting),
}

impl Below {
    /// The stable name, as in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.name(),
            Self::Ended(ending) => ending.name(),
            Self::Greeted(greeting) => greeting.name(),
            Self::Parted(parting) => parting.name(),
        }
    }

    /// What happened, in words.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Refused(refusal) => format!("connection refused: {}", refusal.help()),
            Self::Ended(ending) => format!("connection ended: {}", ending.help()),
            Self::Greeted(greeting) => format!("DTLS hello without success: {}", greeting.help()),
            Self::Parted(parting) => format!("DTLS session ended: {}", parting.help()),
        }
    }

    /// Tells it from all others.
    pub(super) fn index(self) -> (u8, usize) {
        match self {
            Self::Refused(refusal) => (2, refusal as usize),
            Self::Ended(ending) => (3, ending as usize),
            Self::Greeted(greeting) => (4, greeting as usize),
            Self::Parted(parting) => (5, parting as usize),
        }
    }

    /// Whether who sent it may be somebody else than it says.
    pub(super) fn may_be_forged(self) -> bool {
        matches!(self, Self::Greeted(_))
    }

    /// Whether it is no part of a connection's ordinary life.
    fn is_trouble(self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Ended(ending) => match ending {
                Ending::ByClient
                | Ending::PassedOn
                | Ending::Replaced
                | Ending::Told
                | Ending::ShutDown => false,
                Ending::Reset
                | Ending::Garbled
                | Ending::FrameType
                | Ending::FrameTooLong
                | Ending::HalfFrame
                | Ending::Idle
                | Ending::QueueFull
                | Ending::HandshakeTimeout
                | Ending::Tls
                | Ending::ProxyHeader
                | Ending::NotForTurn => true,
            },
            Self::Greeted(greeting) => !matches!(greeting, Greeting::Asked | Greeting::Taken),
            Self::Parted(parting) => match parting {
                Parting::ByClient | Parting::Replaced | Parting::Told | Parting::ShutDown => false,
                Parting::Handshake | Parting::Failed | Parting::Defect | Parting::Idle => true,
            },
        }
    }
}

/// What befell clients in a turn.
#[derive(Debug, Default)]
pub(crate) struct Tidings(Vec<(FiveTuple, Below)>);

impl Tidings {
    /// Something befell a client.
    pub(crate) fn tell(&mut self, client: FiveTuple, below: Below) {
        if self.0.len() < WAITING && below.is_trouble() {
            self.0.push((client, below));
        }
    }

    /// All of it, once.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (FiveTuple, Below)> {
        self.0.drain(..)
    }
}
