//! From a request to a credential: the rules of lifetime, user and side.

use proto::addr::Side;
use proto::auth::{self, Credential, Grant, GrantError, Trace};
use proto::now::UnixTime;
use proto::policy::{SealedLimits, SealedPeers};

use crate::config::Issue;
use crate::refusal::{Refusal, Why};

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Opaque id of the user; `None`: nobody in particular, a random one is made.
    pub(crate) user: Option<String>,
    /// Seconds; `None`: the default.
    pub(crate) lifetime_s: Option<u64>,
    /// `None`: both.
    pub(crate) side: Option<Side>,
    /// What the user may use, if less than the relay allows.
    pub(crate) limits: SealedLimits,
    /// The only peers, of those that the relay allows.
    pub(crate) peers: SealedPeers,
    /// The trace that the caller names.
    pub(crate) trace: Option<Trace>,
}

/// A credential with how long it is good.
pub(crate) struct Minted {
    pub(crate) credential: Credential,
    pub(crate) expires: UnixTime,
    pub(crate) ttl_s: u64,
}

/// The lifetime a caller gets, in seconds.
///
/// One beyond the maximum is refused rather than cut (REST-011): who asks for a day and silently
/// gets an hour finds out when calls fail.
pub(crate) fn lifetime(issue: &Issue, wanted_s: Option<u64>) -> Result<u64, Refusal> {
    let ttl_s = wanted_s.unwrap_or(issue.lifetime_default_s);
    if !(1..=issue.lifetime_max_s).contains(&ttl_s) {
        return Err(Refusal::new(
            Why::BadLifetime,
            format!("a lifetime must be from 1 to {} seconds", issue.lifetime_max_s),
        ));
    }
    Ok(ttl_s)
}

/// Mints with the current key of the ring.
pub(crate) fn mint(issue: &Issue, wish: Wish, now: UnixTime) -> Result<Minted, Refusal> {
    let ttl_s = lifetime(issue, wish.lifetime_s)?;
    let expires = now.plus(ttl_s);
    let user = match wish.user.clone() {
        Some(user) => user,
        None => anonymous()?,
    };
    let Wish { side, limits, peers, trace, .. } = wish;
    let grant = Grant { user, expires, side, limits, peers, trace };
    let credential = auth::mint(&issue.ring.current, &grant).map_err(|error| match error {
        GrantError::User => Refusal::new(
            Why::BadUser,
            "user must be 1 to 255 bytes of UTF-8 without control characters",
        ),
        other => Refusal::new(Why::BadBody, other.to_string()),
    })?;
    Ok(Minted { credential, expires, ttl_s })
}

/// An id for a user whom the caller does not name: 96 random bits, so that no two share a quota.
fn anonymous() -> Result<String, Refusal> {
    let mut bytes = [0_u8; 12];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!("the operating system gives no random numbers: {error}");
        Refusal::new(Why::BadUser, "no random id can be made now; name a user")
    })?;
    Ok(bytes.iter().fold("anonymous-".to_owned(), |id, byte| format!("{id}{byte:02x}")))
}
