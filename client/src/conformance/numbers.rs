//! Numbers of the wire (RFC 8489 §18, RFC 8656 §17–20, RFC 6062 §6, RFC 8016 §3.3, RFC 5780 §7).

pub(crate) const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

pub(crate) const BINDING: u16 = 0x001;
pub(crate) const SHARED_SECRET: u16 = 0x002;
pub(crate) const ALLOCATE: u16 = 0x003;
pub(crate) const REFRESH: u16 = 0x004;
pub(crate) const SEND: u16 = 0x006;
pub(crate) const DATA_METHOD: u16 = 0x007;
pub(crate) const CREATE_PERMISSION: u16 = 0x008;
pub(crate) const CHANNEL_BIND: u16 = 0x009;

pub(crate) const CONNECT: u16 = 0x00A;
pub(crate) const CONNECTION_BIND: u16 = 0x00B;
pub(crate) const CONNECTION_ATTEMPT: u16 = 0x00C;

pub(crate) const INDICATION: u16 = 0x0010;
pub(crate) const SUCCESS: u16 = 0x0100;
pub(crate) const ERROR: u16 = 0x0110;

pub(crate) const MAPPED: u16 = 0x0001;
pub(crate) const RESPONSE_ADDRESS: u16 = 0x0002;
pub(crate) const CHANGE_REQUEST: u16 = 0x0003;
pub(crate) const USERNAME: u16 = 0x0006;
pub(crate) const INTEGRITY: u16 = 0x0008;
pub(crate) const ERROR_CODE: u16 = 0x0009;
pub(crate) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
pub(crate) const CHANNEL_NUMBER: u16 = 0x000C;
pub(crate) const LIFETIME: u16 = 0x000D;
pub(crate) const PEER: u16 = 0x0012;
pub(crate) const DATA: u16 = 0x0013;
pub(crate) const REALM: u16 = 0x0014;
pub(crate) const NONCE: u16 = 0x0015;
pub(crate) const RELAYED: u16 = 0x0016;
pub(crate) const FAMILY: u16 = 0x0017;
pub(crate) const EVEN_PORT: u16 = 0x0018;
pub(crate) const TRANSPORT: u16 = 0x0019;
pub(crate) const DONT_FRAGMENT: u16 = 0x001A;
pub(crate) const ACCESS_TOKEN: u16 = 0x001B;
pub(crate) const INTEGRITY_SHA256: u16 = 0x001C;
pub(crate) const ALGORITHM: u16 = 0x001D;
pub(crate) const USERHASH: u16 = 0x001E;
pub(crate) const XOR_MAPPED: u16 = 0x0020;
pub(crate) const RESERVATION: u16 = 0x0022;
pub(crate) const PADDING: u16 = 0x0026;
pub(crate) const RESPONSE_PORT: u16 = 0x0027;
pub(crate) const CONNECTION_ID: u16 = 0x002A;
pub(crate) const ADDITIONAL_FAMILY: u16 = 0x8000;
pub(crate) const ADDRESS_ERROR: u16 = 0x8001;
pub(crate) const ALGORITHMS: u16 = 0x8002;
pub(crate) const ICMP: u16 = 0x8004;
pub(crate) const SOFTWARE: u16 = 0x8022;
pub(crate) const TRANSMIT_COUNTER: u16 = 0x8025;
pub(crate) const FINGERPRINT: u16 = 0x8028;
pub(crate) const RESPONSE_ORIGIN: u16 = 0x802B;
pub(crate) const OTHER_ADDRESS: u16 = 0x802C;
pub(crate) const THIRD_PARTY: u16 = 0x802E;
pub(crate) const MOBILITY_TICKET: u16 = 0x8030;

/// Required attributes nobody has assigned.
pub(crate) const UNASSIGNED: [u16; 3] = [0x7FFF, 0x7FFE, 0x7FFD];

/// REQUESTED-TRANSPORT and the families of RFC 8656 §18.
pub(crate) const UDP: [u8; 4] = [17, 0, 0, 0];
pub(crate) const TCP: [u8; 4] = [6, 0, 0, 0];
pub(crate) const IPV4: [u8; 4] = [1, 0, 0, 0];
pub(crate) const IPV6: [u8; 4] = [2, 0, 0, 0];

/// PASSWORD-ALGORITHM values: number, then no parameters.
pub(crate) const MD5: [u8; 4] = [0, 1, 0, 0];
pub(crate) const SHA256: [u8; 4] = [0, 2, 0, 0];

/// Every error code a TURN server may send (RFC 8489 §18.4, RFC 8656 §19, RFC 6062 §6.3,
/// RFC 8016 §3.4).
pub(crate) const CODES: [u16; 17] =
    [300, 400, 401, 403, 405, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 500, 508];
