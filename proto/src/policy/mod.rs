//! What an authenticated client may do: peers, limits, and the edge's own addresses.
//!
//! [`PeerAcl`] and [`Edge`] answer one question together: may this address be a peer? The answer
//! is an [`AdmittedPeer`], and nothing else opens a permission or a channel. [`Ledger`] is what
//! the workers of one relay share: quotas, live relayed addresses and reservations.

pub mod account;
pub mod bandwidth;
pub mod discovery;
pub mod edge;
pub mod embedded;
pub mod explain;
pub mod limits;
pub mod local;
pub mod new_peers;
pub mod peers;
pub mod ranges;
pub mod sealed;
pub mod special;

pub use account::Account;
pub use bandwidth::{Bandwidth, Rates};
pub use discovery::Corners;
pub use edge::{Edge, Listener, PoolRelay, Reach, RelayAddress};
pub use explain::Explanation;
pub use limits::{Claim, Crowded, Held, Lease, Ledger, Limits, PeerLease, Reservation, UserKey};
pub use local::LocalLedger;
pub use new_peers::{Encounters, Halt, Hasty, NewPeers};
pub use peers::{AdmittedPeer, Asker, PeerAcl};
pub use sealed::{SealedLimits, SealedPeers};
