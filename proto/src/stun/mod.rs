//! STUN on the wire (RFC 8489).
//!
//! [`Message::parse`] walks the bytes once and yields a view that later code neither re-checks
//! nor indexes; [`Message::read`] turns an attribute into one of the types of [`attribute`];
//! [`Writer`] appends the same types to a lent buffer. [`integrity`] holds keys, the two
//! integrity attributes and FINGERPRINT. Nothing here allocates but the list of unknown
//! attributes, and all work is linear in the size of the message.
//!
//! The codec knows no procedure: whether an attribute is wanted, who holds which key and what
//! is answered is decided elsewhere.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod attribute;
pub mod classic;
pub mod header;
pub mod integrity;
pub mod message;
pub(crate) mod sheet;
pub mod writer;

pub use attribute::{AttributeType, Value};
pub use classic::ClassicBinding;
pub use header::{Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId};
pub use integrity::{Integrity, MessageKey, PasswordAlgorithm};
pub use message::{Attribute, BadValue, Fingerprint, Malformed, Message};
pub use sheet::BufferFull;
pub use writer::Writer;
