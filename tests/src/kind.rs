//! Numbers of the wire, written down a second time: the rig shares no table with `proto`.

/// Methods (RFC 8489 §18.2, RFC 8656 §17).
pub mod method {
    /// Binding.
    pub const BINDING: u16 = 0x001;
    /// Allocate.
    pub const ALLOCATE: u16 = 0x003;
    /// Refresh.
    pub const REFRESH: u16 = 0x004;
    /// Send (indication only).
    pub const SEND: u16 = 0x006;
    /// Data (indication only).
    pub const DATA: u16 = 0x007;
    /// `CreatePermission`.
    pub const CREATE_PERMISSION: u16 = 0x008;
    /// `ChannelBind`.
    pub const CHANNEL_BIND: u16 = 0x009;
    /// Connect.
    pub const CONNECT: u16 = 0x00A;
    /// `ConnectionBind`.
    pub const CONNECTION_BIND: u16 = 0x00B;
    /// `ConnectionAttempt` (indication only).
    pub const CONNECTION_ATTEMPT: u16 = 0x00C;
}

/// RESPONSE-ADDRESS (RFC 3489).
pub const RESPONSE_ADDRESS: u16 = 0x0002;
/// CHANGE-REQUEST (RFC 3489).
pub const CHANGE_REQUEST: u16 = 0x0003;
/// USERNAME.
pub const USERNAME: u16 = 0x0006;
/// MESSAGE-INTEGRITY.
pub const INTEGRITY: u16 = 0x0008;
/// ERROR-CODE.
pub const ERROR_CODE: u16 = 0x0009;
/// UNKNOWN-ATTRIBUTES.
pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
/// CHANNEL-NUMBER.
pub const CHANNEL_NUMBER: u16 = 0x000C;
/// LIFETIME.
pub const LIFETIME: u16 = 0x000D;
/// XOR-PEER-ADDRESS.
pub const PEER: u16 = 0x0012;
/// DATA.
pub const DATA: u16 = 0x0013;
/// REALM.
pub const REALM: u16 = 0x0014;
/// NONCE.
pub const NONCE: u16 = 0x0015;
/// XOR-RELAYED-ADDRESS.
pub const RELAYED: u16 = 0x0016;
/// REQUESTED-ADDRESS-FAMILY.
pub const FAMILY: u16 = 0x0017;
/// EVEN-PORT.
pub const EVEN_PORT: u16 = 0x0018;
/// REQUESTED-TRANSPORT.
pub const TRANSPORT: u16 = 0x0019;
/// DONT-FRAGMENT.
pub const DONT_FRAGMENT: u16 = 0x001A;
/// ACCESS-TOKEN.
pub const ACCESS_TOKEN: u16 = 0x001B;
/// MESSAGE-INTEGRITY-SHA256.
pub const INTEGRITY_SHA256: u16 = 0x001C;
/// PASSWORD-ALGORITHM.
pub const ALGORITHM: u16 = 0x001D;
/// USERHASH.
pub const USERHASH: u16 = 0x001E;
/// XOR-MAPPED-ADDRESS.
pub const MAPPED: u16 = 0x0020;
/// RESERVATION-TOKEN.
pub const RESERVATION: u16 = 0x0022;
/// CONNECTION-ID.
pub const CONNECTION_ID: u16 = 0x002A;
/// ADDITIONAL-ADDRESS-FAMILY.
pub const ADDITIONAL_FAMILY: u16 = 0x8000;
/// ADDRESS-ERROR-CODE.
pub const ADDRESS_ERROR: u16 = 0x8001;
/// PASSWORD-ALGORITHMS.
pub const ALGORITHMS: u16 = 0x8002;
/// ALTERNATE-DOMAIN.
pub const ALTERNATE_DOMAIN: u16 = 0x8003;
/// ICMP.
pub const ICMP: u16 = 0x8004;
/// SOFTWARE.
pub const SOFTWARE: u16 = 0x8022;
/// ALTERNATE-SERVER.
pub const ALTERNATE_SERVER: u16 = 0x8023;
/// FINGERPRINT.
pub const FINGERPRINT: u16 = 0x8028;
/// THIRD-PARTY-AUTHORIZATION.
pub const THIRD_PARTY: u16 = 0x802E;
/// MOBILITY-TICKET.
pub const MOBILITY_TICKET: u16 = 0x8030;

/// Bits that make a message an indication.
pub const INDICATION: u16 = 0x0010;
/// Bits that make a message a success response.
pub const SUCCESS: u16 = 0x0100;
/// Bits that make a message an error response.
pub const ERROR: u16 = 0x0110;

/// MD5 in PASSWORD-ALGORITHM.
pub const MD5: u16 = 1;
/// SHA-256 in PASSWORD-ALGORITHM.
pub const SHA256: u16 = 2;
