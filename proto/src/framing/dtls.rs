//! What opens DTLS: a ClientHello in one datagram, and the stateless answer to it.
//!
//! Until a client has shown that it hears us, nothing is kept of it (RFC 6347 §4.2.1, RFC 9147
//! §5.1). So the cookie is judged before any DTLS engine exists, and the engine is later told
//! what it missed: [`Hello::firsts`] are what the ClientHello before the cookie can have been. A
//! hello in several pieces cannot be judged without keeping the first, and is not read.

use std::ops::Range;

use crate::framing::client_hello::{Broken as BrokenField, Fields};

/// The record type, and the message types read and written here.
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// Versions on the wire: DTLS 1.0, 1.2, 1.3.
const DTLS_1_0: u16 = 0xFEFF;
const DTLS_1_2: u16 = 0xFEFD;
const DTLS_1_3: u16 = 0xFEFC;

/// Bytes before a record's content: type, version, epoch, sequence number, length.
const RECORD_HEADER: usize = 13;

/// Bytes before a message's body: type, length, sequence number, offset and length of the piece.
const MESSAGE_HEADER: usize = 12;

/// Bytes of a datagram before the body of the message it carries.
const BODY: usize = RECORD_HEADER + MESSAGE_HEADER;

/// Extensions that are looked at (RFC 8446 §4.2, RFC 7685).
const PADDING: u16 = 21;
const SUPPORTED_VERSIONS: u16 = 43;
const COOKIE: u16 = 44;
const KEY_SHARE: u16 = 51;

/// Alerts (RFC 5246 §7.2.2): no common parameters, no common version.
pub const HANDSHAKE_FAILURE: u8 = 40;
/// See [`HANDSHAKE_FAILURE`].
pub const PROTOCOL_VERSION: u8 = 70;

/// Bytes of our cookies.
pub const COOKIE_LEN: usize = 32;

/// Bytes of the answer to a hello of DTLS 1.2: fewer than the shortest hello has.
pub const VERIFY_REQUEST_LEN: usize = BODY + 2 + 1 + COOKIE_LEN;

/// Whether a datagram belongs to DTLS, by its first byte (RFC 9443 §2).
pub fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// Whether a datagram starts with an unprotected handshake record: a hello, or the next flight
/// of a handshake under way.
pub fn is_handshake(datagram: &[u8]) -> bool {
    matches!(datagram, [HANDSHAKE, _, _, 0, 0, ..])
}

/// Why a datagram is no ClientHello that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Another record, or another message.
    Message,
    /// Not one record with one whole message.
    Pieces,
    /// Fields run past their end, or are repeated.
    Field,
    /// Neither DTLS 1.2 nor 1.3.
    Version,
}

impl From<BrokenField> for Broken {
    fn from(_: BrokenField) -> Self {
        Self::Field
    }
}

/// What a client sent back to show that it hears us.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cookie {
    /// Nothing yet.
    None,
    /// The field of DTLS 1.2: place of length and value in the body.
    Field(Range<usize>),
    /// The extension of DTLS 1.3: place of all extensions' length, and of the whole extension.
    Extension { list: usize, at: Range<usize> },
}

/// What is the same when a datagram of one record is sent again: all but the record's number.
pub fn repeated(datagram: &[u8]) -> &[u8] {
    datagram.get(RECORD_HEADER..).unwrap_or_default()
}

/// A ClientHello as a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    version: u16,
    sequence: u16,
    random: &'a [u8; 32],
    body: &'a [u8],
    cookie: Cookie,
    versions: Option<&'a [u8]>,
    shares: &'a [u8],
    /// Place of the whole padding extension.
    padding: Option<Range<usize>>,
}

impl<'a> Hello<'a> {
    /// Views a datagram as one ClientHello.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Broken> {
        let (record, content) = datagram.split_first_chunk().ok_or(Broken::Message)?;
        let (message, body) = content.split_first_chunk().ok_or(Broken::Message)?;
        let [HANDSHAKE, _, _, 0, 0, _, _, _, _, _, _, r0, r1] = *record else {
            return Err(Broken::Message);
        };
        let [CLIENT_HELLO, l0, l1, l2, s0, s1, 0, 0, 0, p0, p1, p2] = *message else {
            return Err(Broken::Message);
        };
        let length = |bytes| usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
        if length([0, 0, r0, r1]) != content.len()
            || length([0, l0, l1, l2]) != body.len()
            || length([0, p0, p1, p2]) != body.len()
        {
            return Err(Broken::Pieces);
        }
        let mut fields = Fields(body);
        let mut hello = Self {
            version: fields.number()?,
            sequence: u16::from_be_bytes([s0, s1]),
            random: fields.array()?,
            body,
            cookie: Cookie::None,
            versions: None,
            shares: &[],
            padding: None,
        };
        let at = |rest: &Fields<'_>| body.len().saturating_sub(rest.0.len());
        fields.short_vector()?; // session
        let start = at(&fields);
        if !fields.short_vector()?.is_empty() {
            hello.cookie = Cookie::Field(start..at(&fields));
        }
        fields.vector()?; // cipher suites
        fields.short_vector()?; // compression
        if !fields.0.is_empty() {
            hello.read_extensions(at(&fields), &mut fields)?;
        }
        if hello.version != DTLS_1_2 {
            return Err(Broken::Version); // 1.3 says 1.2 here, too
        }
        Ok(hello)
    }

    fn read_extensions(&mut self, list: usize, fields: &mut Fields<'a>) -> Result<(), Broken> {
        let mut rest = Fields(fields.vector()?);
        fields.end()?;
        let at = |rest: &Fields<'_>| self.body.len().saturating_sub(rest.0.len());
        let (mut versions, mut shares, mut cookie) = (None, None, None);
        while !rest.0.is_empty() {
            let start = at(&rest);
            let kind = rest.number()?;
            let mut value = Fields(rest.vector()?);
            let repeated = match kind {
                SUPPORTED_VERSIONS => versions.replace(value.short_vector()?).is_some(),
                KEY_SHARE => shares.replace(value.vector()?).is_some(),
                COOKIE => {
                    value.vector()?;
                    cookie.replace(start..at(&rest)).is_some()
                }
                PADDING => self.padding.replace(start..at(&rest)).is_some(),
                _ => continue,
            };
            if repeated {
                return Err(Broken::Field);
            }
        }
        self.versions = versions;
        self.shares = shares.unwrap_or_default();
        if let Some(at) = cookie {
            if self.cookie != Cookie::None {
                return Err(Broken::Field);
            }
            self.cookie = Cookie::Extension { list, at };
        }
        Ok(())
    }

    /// The client's random value, the same before and after the cookie.
    pub fn random(&self) -> &'a [u8; 32] {
        self.random
    }

    /// Its number in the client's handshake: 0 before the cookie, 1 with it.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// The cookie, if the client sent one.
    pub fn cookie(&self) -> Option<&'a [u8]> {
        let (at, before) = match &self.cookie {
            Cookie::None => return None,
            Cookie::Field(at) => (at, 1),
            Cookie::Extension { at, .. } => (at, 6),
        };
        self.body.get(at.start.saturating_add(before)..at.end)
    }

    /// Whether the cookie came in the field that DTLS 1.3 leaves empty.
    pub fn has_cookie_of_1_2(&self) -> bool {
        matches!(self.cookie, Cookie::Field(_))
    }

    /// Whether it can be answered in DTLS 1.2.
    pub fn offers_1_2(&self) -> bool {
        self.versions.is_none() || self.offers(DTLS_1_2)
    }

    /// Whether it can be answered in DTLS 1.3 without keeping it: it offers that version, and a
    /// key of one of these groups, so that nothing but a cookie need be asked for.
    pub fn offers_1_3(&self, groups: &[u16]) -> bool {
        let mut shares = Fields(self.shares);
        let mut found = false;
        while let (Ok(group), Ok(_)) = (shares.number(), shares.vector()) {
            found |= groups.contains(&group);
        }
        found && self.offers(DTLS_1_3)
    }

    fn offers(&self, version: u16) -> bool {
        let (versions, _) = self.versions.unwrap_or_default().as_chunks();
        versions.iter().any(|it| u16::from_be_bytes(*it) == version)
    }

    /// The datagrams that the client can have sent before it had a cookie: nothing but the cookie
    /// changes, or the padding as well, so that the whole is as long as before (RFC 8446 §4.1.2
    /// allows that; RFC 7685 is made for it).
    pub fn firsts(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let same_length = self.padding.is_some() && matches!(self.cookie, Cookie::Extension { .. });
        [Some(false), same_length.then_some(true)]
            .into_iter()
            .flatten()
            .map(|same_length| self.first(same_length))
    }

    fn first(&self, same_length: bool) -> Vec<u8> {
        let (cookie, list) = match &self.cookie {
            Cookie::None => (0..0, None),
            Cookie::Field(at) => (at.clone(), None),
            Cookie::Extension { list, at } => (at.clone(), Some(*list)),
        };
        // What takes the place of the cookie: the length of none, or nothing.
        let in_place: &[u8] = if list.is_none() && !cookie.is_empty() { &[0] } else { &[] };
        let mut edits = vec![(cookie.clone(), in_place.to_vec())];
        if same_length && let Some(padding) = &self.padding {
            let zeros = padding.len().saturating_sub(4).saturating_add(cookie.len());
            let length = u16::try_from(zeros).unwrap_or(0).to_be_bytes();
            edits.push((
                padding.clone(),
                [&PADDING.to_be_bytes(), &length, &vec![0; zeros][..]].concat(),
            ));
        }
        edits.sort_by_key(|(place, _)| place.start);
        let mut body = Vec::with_capacity(self.body.len());
        let mut taken = 0;
        for (place, instead) in edits {
            body.extend_from_slice(self.body.get(taken..place.start).unwrap_or_default());
            body.extend(instead);
            taken = place.end;
        }
        body.extend_from_slice(self.body.get(taken..).unwrap_or_default());
        if let Some(list) = list {
            let value = list.saturating_add(2);
            let length = u16::try_from(body.len().saturating_sub(value)).unwrap_or(0);
            if let Some(place) = body.get_mut(list..value) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        [&heads(CLIENT_HELLO, body.len())[..], &body].concat()
    }
}

/// HelloVerifyRequest (RFC 6347 §4.2.1): asks a client of DTLS 1.2 to come again with the cookie.
///
/// Its record has number 0, whatever the hello's number was: the engine that takes over later
/// goes on from 1.
pub fn verify_request(cookie: &[u8; COOKIE_LEN]) -> [u8; VERIFY_REQUEST_LEN] {
    let mut bytes = [0; VERIFY_REQUEST_LEN];
    let length = COOKIE_LEN.saturating_add(3);
    let [v0, v1] = DTLS_1_0.to_be_bytes();
    let body = [v0, v1, 32];
    let parts = heads(HELLO_VERIFY_REQUEST, length);
    let parts = parts.iter().chain(&body).chain(cookie);
    for (place, byte) in bytes.iter_mut().zip(parts) {
        *place = *byte;
    }
    bytes
}

/// A fatal alert that nothing protects (RFC 6347 §4.1.2.7): what a client whose hello cannot be
/// answered is told, so that it need not wait. Shorter than any hello.
pub fn alert(description: u8) -> [u8; RECORD_HEADER + 2] {
    let [v0, v1] = DTLS_1_0.to_be_bytes();
    [ALERT, v0, v1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, description]
}

/// Record and message header of the first message in either direction.
fn heads(kind: u8, length: usize) -> [u8; BODY] {
    let [v0, v1] = DTLS_1_0.to_be_bytes();
    let record = u16::try_from(length.saturating_add(MESSAGE_HEADER)).unwrap_or(0);
    let [r0, r1] = record.to_be_bytes();
    let [_, l0, l1, l2] = u32::try_from(length).unwrap_or(0).to_be_bytes();
    [
        HANDSHAKE, v0, v1, 0, 0, 0, 0, 0, 0, 0, 0, r0, r1, // record
        kind, l0, l1, l2, 0, 0, 0, 0, 0, l0, l1, l2, // message
    ]
}
