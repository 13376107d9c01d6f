//! What a verified user name proves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::addr::Side;
use crate::auth::Trace;
use crate::auth::claims::Claims;
use crate::now::{Now, UnixTime};
use crate::policy::{SealedLimits, SealedPeers, UserKey};

/// Whose request it is, and within which limits it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Keyed hash of the user-id part: equal for every credential of the same user.
    pub user: UserKey,
    /// How long the credential is good.
    pub term: Term,
    /// The only side of the edge it is good on; `None`: both.
    pub side: Option<Side>,
    /// What the user may use, if the credential says less than the configuration.
    pub limits: SealedLimits,
    /// The only peers it is good for; `None`: all that the configuration allows.
    pub peers: Option<Arc<SealedPeers>>,
    /// The trace its credential was minted in.
    pub trace: Option<Trace>,
}

impl Identity {
    /// Somebody whose credential carries nothing narrower than the configuration.
    pub(super) fn plain(user: UserKey, term: Term) -> Self {
        Self { user, term, side: None, limits: SealedLimits::default(), peers: None, trace: None }
    }

    /// The same with what the credential's claims take away.
    pub(super) fn narrowed(self, claims: &Claims<'_>) -> Self {
        let peers = Some(claims.peers()).filter(|peers| !peers.is_everybody());
        let Claims { side, limits, trace, .. } = *claims;
        Self { side, limits, trace, peers: peers.map(Arc::new), ..self }
    }

    /// Whether an access token proved it.
    pub fn is_by_token(&self) -> bool {
        matches!(self.term, Term::Token(_))
    }
}

/// How long a credential is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Until then; the user name says so.
    Until(UnixTime),
    /// As long as the configuration names the user.
    Unlimited,
    /// It came with an access token, whose allocation may live this long from now on
    /// (RFC 7635 §9).
    Token(Duration),
}

impl Term {
    /// When a token that is looked at now is over; at once where there is none.
    pub(crate) fn until(self, now: Now) -> Instant {
        match self {
            Self::Token(left) => now.mono.checked_add(left).unwrap_or(now.mono),
            Self::Until(_) | Self::Unlimited => now.mono,
        }
    }
}
