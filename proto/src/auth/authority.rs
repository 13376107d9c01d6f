//! Verifies the credentials of every form this relay accepts.

use crate::auth::pool_key::{KeyRing, Secret};

/// The secrets a relay verifies with. At least one form must be configured.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Pool credentials.
    pub ring: Option<KeyRing>,
    /// Shared secrets of the TURN REST form, the current one first; each at least 16 bytes.
    pub rest_secrets: Vec<Secret>,
    /// Expiries further ahead than this many seconds are refused (REST-011).
    pub max_lifetime_s: u64,
}
