//! Who may relay, without a database.
//!
//! A pool key (32 secret bytes a use, derived elsewhere from the pool's private key) turns a user
//! name into its password. Minting and verifying call the same [`credential::Password`], so a
//! credential minted on any host of the pool verifies on every other. The user name itself says
//! until when, on which side and within which limits it is good. [`Authority`] holds every secret
//! a relay verifies with, those of named users and of third parties' tokens among them, and proves an [`Identity`]; it knows no clock and no message, only a
//! question to ask of a key.

pub mod access_token;
pub mod authority;
pub mod claims;
pub mod credential;
pub mod identity;
pub mod ms_token;
pub mod pool_key;
pub mod trace;
pub mod users;

pub use access_token::{Token, TokenCipher, TokenKey, TokenKeys, TokenTime};
pub use authority::{Authority, Derived, Verified};
pub use credential::{Credential, Grant, GrantError, mint};
pub use identity::{Identity, Term};
pub use ms_token::{MsCredential, MsToken, TokenGrant};
pub use pool_key::{KeyId, KeyRing, PoolKey, Secret};
pub use trace::Trace;
pub use users::{UserKeys, Users};
