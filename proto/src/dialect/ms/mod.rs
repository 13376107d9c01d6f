//! TURN as Microsoft's clients speak it ([MS-TURN], rows MST-n), beside TURN of the RFCs.
//!
//! It grew from an early draft of TURN, so the words are familiar and the grammar is not. What is
//! different, and where:
//!
//! | | RFC 8656 | here | |
//! |---|---|---|---|
//! | a message is known by | `2112A442` at byte 4 | an attribute `72C64BC6` at byte 20 | [`demux`](crate::demux) |
//! | transaction | 12 bytes | 16 bytes | `message` |
//! | attributes | padded to words | end where they end | `message` |
//! | NONCE, REALM | 0x0015, 0x0014 | 0x0014, 0x0015 | `message` |
//! | XOR | with the cookie | with the transaction | `message` |
//! | integrity | over the message | padded with zeros to 64 bytes | `integrity` |
//! | user name, password | text | bytes of a token | `auth::ms_token` |
//! | who is asked for a nonce | every request | Allocate alone | `turn::gate::ms` |
//! | Refresh | a method | another Allocate | `turn::conduct::ms` |
//! | permissions | five minutes, by request | as long as the allocation, by Send | [`RULES`] |
//! | Send | an indication | a signed request that is never answered | `turn::conduct::ms` |
//! | channels | numbers | one active destination, its payload bare | `turn::destination` |
//! | a quiet allocation | ends unless refreshed | ends unless refreshed or in use | [`RULES`] |
//! | replays | nonces | sequence numbers | `turn::session` |
//! | errors | codes of RFC 8656 | fewer, and older ones | `translate` |
//!
//! Sessions that share one relayed port (types 0xFF10) are not offered: version 2, which is what
//! we announce, knows none, nor SHA-256, whose key is described nowhere.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod integrity;
pub mod message;
pub(crate) mod translate;

use std::time::Duration;

use crate::dialect::Rules;

pub use message::{Attribute, Kind, Message, Transaction, Type, Writer};

pub use crate::request::Numbered;
pub(crate) use translate::Call;

/// MS-Version, as we announce it (MST-49): HMAC-SHA1, a relayed port for each allocation. A client
/// of version 4 is served IPv6 all the same, if it wants that (MST-70).
pub const VERSION: u32 = 2;

/// Longer than any call, and short enough to be added to any instant.
const LASTING: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Permissions and the active destination live as long as the allocation (MST-86), and that as
/// long as it is used (MST-78, MST-79) or refreshed. No message tells of ICMP.
pub(crate) const RULES: Rules = Rules {
    permission: LASTING,
    route: LASTING,
    use_prolongs: true,
    hears_icmp: false,
    chunks: true,
    // MST-6.
    longest_on_stream: 65_535,
};
