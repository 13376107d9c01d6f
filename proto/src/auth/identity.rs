//! What a verified user name proves.

use crate::addr::Side;
use crate::now::UnixTime;
use crate::policy::UserKey;

/// Whose request it is, and within which limits it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Keyed hash of the user-id part: equal for every credential of the same user.
    pub user: UserKey,
    /// When the credential expires.
    pub expires: UnixTime,
    /// The only side of the edge it is good on; `None`: both.
    pub side: Option<Side>,
    /// Allocations the user may hold, if the credential says less than the configuration.
    pub allocations: Option<u32>,
}
