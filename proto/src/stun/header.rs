//! The first twenty bytes: class, method, transaction (RFC 8489 §5).

/// The fixed value at bytes 4–7 of every message (RFC 8489 §5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// Bytes before the first attribute.
pub const HEADER_LEN: usize = 20;

/// The 96 bits that tie a response to its request (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// What kind of message it is: the two class bits of the type field (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// Answers with success.
    Success,
    /// Answers with an error code.
    Error,
}

/// What the message is about: twelve bits of the type field (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(u16);

impl Method {
    /// Tells a client its address (RFC 8489 §3).
    pub const BINDING: Self = Self(0x001);
    /// Opens an allocation (RFC 8656 §7).
    pub const ALLOCATE: Self = Self(0x003);
    /// Prolongs or ends an allocation (RFC 8656 §8).
    pub const REFRESH: Self = Self(0x004);
    /// Payload from a client to a peer; indication only (RFC 8656 §11).
    pub const SEND: Self = Self(0x006);
    /// Payload from a peer to a client; indication only (RFC 8656 §11).
    pub const DATA: Self = Self(0x007);
    /// Installs permissions (RFC 8656 §10).
    pub const CREATE_PERMISSION: Self = Self(0x008);
    /// Binds a channel (RFC 8656 §12).
    pub const CHANNEL_BIND: Self = Self(0x009);
    /// Opens a TCP connection to a peer (RFC 6062 §4.3).
    pub const CONNECT: Self = Self(0x00A);
    /// Joins a client connection to a peer connection (RFC 6062 §4.4).
    pub const CONNECTION_BIND: Self = Self(0x00B);
    /// Tells of a peer's connection; indication only (RFC 6062 §4.5).
    pub const CONNECTION_ATTEMPT: Self = Self(0x00C);

    /// The method with this number, if it has no more than twelve bits.
    pub fn new(number: u16) -> Option<Self> {
        (number <= 0xFFF).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// The type field: method bits `M11–M7`, `M6–M4`, `M3–M0` with the class bits between them.
pub(super) fn join_type(class: Class, Method(m): Method) -> u16 {
    let class = match class {
        Class::Request => 0x0000,
        Class::Indication => 0x0010,
        Class::Success => 0x0100,
        Class::Error => 0x0110,
    };
    (m & 0xF80) << 2 | (m & 0x070) << 1 | (m & 0x00F) | class
}

/// The inverse of [`join_type`]; the two top bits must be zero already.
pub(super) fn split_type(field: u16) -> (Class, Method) {
    let class = match (field & 0x0100 != 0, field & 0x0010 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    };
    (class, Method((field & 0x3E00) >> 2 | (field & 0x00E0) >> 1 | (field & 0x000F)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_004_types_interleave_method_and_class() {
        for (case, field, class, method) in [
            ("Binding request", 0x0001, Class::Request, Method::BINDING),
            ("Binding success", 0x0101, Class::Success, Method::BINDING),
            ("Allocate error", 0x0113, Class::Error, Method::ALLOCATE),
            ("Send indication", 0x0016, Class::Indication, Method::SEND),
            ("Data indication", 0x0017, Class::Indication, Method::DATA),
            ("CreatePermission request", 0x0008, Class::Request, Method::CREATE_PERMISSION),
            ("ChannelBind success", 0x0109, Class::Success, Method::CHANNEL_BIND),
            ("highest method", 0x3EEF, Class::Request, Method(0xFFF)),
        ] {
            assert_eq!(split_type(field), (class, method), "{case}");
            assert_eq!(join_type(class, method), field, "{case}");
        }
    }

    #[test]
    fn stun_004_every_type_splits_and_joins_to_itself() {
        for field in 0..0x4000 {
            let (class, method) = split_type(field);
            assert_eq!(join_type(class, method), field);
            assert_eq!(Method::new(method.number()), Some(method));
        }
        assert_eq!(Method::new(0x1000), None);
    }
}
