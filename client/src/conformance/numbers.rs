//! Numbers of the wire (RFC 8489 §18, RFC 8656 §17–20, RFC 6062 §6, RFC 8016 §3.3, RFC 5780 §7).

pub(super) const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

pub(super) const BINDING: u16 = 0x001;
pub(super) const SHARED_SECRET: u16 = 0x002;
pub(super) const ALLOCATE: u16 = 0x003;
pub(super) const REFRESH: u16 = 0x004;
pub(super) const SEND: u16 = 0x006;
pub(super) const DATA_METHOD: u16 = 0x007;
pub(super) const CREATE_PERMISSION: u16 = 0x008;
pub(super) const CHANNEL_BIND: u16 = 0x009;

pub(super) const CONNECT: u16 = 0x00A;
pub(super) const CONNECTION_BIND: u16 = 0x00B;
pub(super) const CONNECTION_ATTEMPT: u16 = 0x00C;

pub(super) const INDICATION: u16 = 0x0010;
pub(super) const SUCCESS: u16 = 0x0100;
pub(super) const ERROR: u16 = 0x0110;

pub(super) const MAPPED: u16 = 0x0001;
pub(super) const RESPONSE_ADDRESS: u16 = 0x0002;
pub(super) const CHANGE_REQUEST: u16 = 0x0003;
pub(super) const USERNAME: u16 = 0x0006;
pub(super) const INTEGRITY: u16 = 0x0008;
pub(super) const ERROR_CODE: u16 = 0x0009;
pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
pub(super) const CHANNEL_NUMBER: u16 = 0x000C;
pub(super) const LIFETIME: u16 = 0x000D;
pub(super) const PEER: u16 = 0x0012;
pub(super) const DATA: u16 = 0x0013;
pub(super) const REALM: u16 = 0x0014;
pub(super) const NONCE: u16 = 0x0015;
pub(super) const RELAYED: u16 = 0x0016;
pub(super) const FAMILY: u16 = 0x0017;
pub(super) const EVEN_PORT: u16 = 0x0018;
pub(super) const TRANSPORT: u16 = 0x0019;
pub(super) const DONT_FRAGMENT: u16 = 0x001A;
pub(super) const ACCESS_TOKEN: u16 = 0x001B;
pub(super) const INTEGRITY_SHA256: u16 = 0x001C;
pub(super) const ALGORITHM: u16 = 0x001D;
pub(super) const USERHASH: u16 = 0x001E;
pub(super) const XOR_MAPPED: u16 = 0x0020;
pub(super) const RESERVATION: u16 = 0x0022;
pub(super) const PADDING: u16 = 0x0026;
pub(super) const RESPONSE_PORT: u16 = 0x0027;
pub(super) const CONNECTION_ID: u16 = 0x002A;
pub(super) const ADDITIONAL_FAMILY: u16 = 0x8000;
pub(super) const ADDRESS_ERROR: u16 = 0x8001;
pub(super) const ALGORITHMS: u16 = 0x8002;
pub(super) const ICMP: u16 = 0x8004;
pub(super) const SOFTWARE: u16 = 0x8022;
pub(super) const TRANSMIT_COUNTER: u16 = 0x8025;
pub(super) const FINGERPRINT: u16 = 0x8028;
pub(super) const RESPONSE_ORIGIN: u16 = 0x802B;
pub(super) const OTHER_ADDRESS: u16 = 0x802C;
pub(super) const THIRD_PARTY: u16 = 0x802E;
pub(super) const MOBILITY_TICKET: u16 = 0x8030;

/// Required attributes nobody has assigned.
pub(super) const UNASSIGNED: [u16; 3] = [0x7FFF, 0x7FFE, 0x7FFD];

/// REQUESTED-TRANSPORT and the families of RFC 8656 §18.
pub(super) const UDP: [u8; 4] = [17, 0, 0, 0];
pub(super) const TCP: [u8; 4] = [6, 0, 0, 0];
pub(super) const IPV4: [u8; 4] = [1, 0, 0, 0];
pub(super) const IPV6: [u8; 4] = [2, 0, 0, 0];

/// PASSWORD-ALGORITHM values: number, then no parameters.
pub(super) const MD5: [u8; 4] = [0, 1, 0, 0];
pub(super) const SHA256: [u8; 4] = [0, 2, 0, 0];

/// Every error code a TURN server may send (RFC 8489 §18.4, RFC 8656 §19, RFC 6062 §6.3,
/// RFC 8016 §3.4).
pub(super) const CODES: [u16; 17] =
    [300, 400, 401, 403, 405, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 500, 508];
