//! Who may relay, without a database.

/// Verifies the credentials of every form this relay accepts.
#[derive(Clone, Debug)]
pub struct Authority;
