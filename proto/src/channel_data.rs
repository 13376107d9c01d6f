//! ChannelData messages (RFC 8656 §12.4): four bytes of header, then the payload.

/// A channel number a client may bind: 0x4000–0x4FFF, or up to 0x7FFF in compatibility mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(u16);
