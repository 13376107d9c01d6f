//! Whom a TLS connection is for: server name and protocols of its first message.
//!
//! Reads as much of the ClientHello (RFC 8446 §4.1.2, alike in TLS 1.0 to 1.3) as it takes to
//! send foreign TLS on, untouched. The message may be spread over any number of records; it must
//! end within [`LONGEST`] bytes of the stream. Whoever terminates the TLS judges the rest.

/// The most bytes of a stream that are read for a ClientHello, record headers included. The
/// longest of today's, with post-quantum keys, have 2 KiB.
pub const LONGEST: usize = 16 * 1024;

/// The record type of a handshake message (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// The major version of a record (RFC 8446 §5.1).
const MAJOR: u8 = 3;

/// Bytes before a record's content: type, version, length.
const RECORD_HEADER: usize = 5;

/// The longest content of an unprotected record (RFC 8446 §5.1).
const RECORD_LONGEST: usize = 1 << 14;

/// Bytes before a handshake message's body: type, length.
const MESSAGE_HEADER: usize = 4;

/// The message type (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;

/// The extension `server_name` (RFC 6066 §3).
const SERVER_NAME: u16 = 0;

/// The extension `application_layer_protocol_negotiation` (RFC 7301 §3.1).
const PROTOCOLS: u16 = 16;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name of SNI, in lower case.
    pub server_name: Option<String>,
    /// The protocols of ALPN, in the client's order; empty without the extension.
    pub protocols: Vec<Vec<u8>>,
}

/// What the bytes of a stream say about its ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is here.
    Complete(ClientHello),
    /// So many bytes are missing at least; with them the stream has no more than [`LONGEST`].
    NeedMore(usize),
    /// There is none.
    Broken(Broken),
}

/// Why there is no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// The records are not those of a handshake.
    Record,
    /// The handshake starts with another message.
    Message,
    /// It does not end within [`LONGEST`] bytes.
    TooLong,
    /// Its fields run past its end, or end before it, or are repeated.
    Field,
    /// The server name is no host name.
    ServerName,
}

/// Why a message is not there (yet).
enum Unread {
    NeedMore(usize),
    Broken(Broken),
}

impl From<Broken> for Unread {
    fn from(why: Broken) -> Self {
        Self::Broken(why)
    }
}

/// Reads the ClientHello that a stream starts with. Asked again only when the missing bytes have
/// come, it looks at a stream a few dozen times at most, however finely it is cut.
pub fn read(stream: &[u8]) -> Reading {
    match gather(stream) {
        Ok(body) => match parse(&body) {
            Ok(hello) => Reading::Complete(hello),
            Err(why) => Reading::Broken(why),
        },
        Err(Unread::Broken(why)) => Reading::Broken(why),
        Err(Unread::NeedMore(missing)) if stream.len().saturating_add(missing) > LONGEST => {
            Reading::Broken(Broken::TooLong)
        }
        Err(Unread::NeedMore(missing)) => Reading::NeedMore(missing),
    }
}

/// The body of the ClientHello, out of its records.
fn gather(stream: &[u8]) -> Result<Vec<u8>, Unread> {
    let mut message = Vec::new();
    let mut rest = stream.get(..LONGEST).unwrap_or(stream);
    loop {
        let Some(&[kind, major, _, l0, l1]) = rest.first_chunk::<RECORD_HEADER>() else {
            let header = RECORD_HEADER.saturating_sub(rest.len());
            return Err(Unread::NeedMore(header.saturating_add(missing(&message)?)));
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if kind != HANDSHAKE || major != MAJOR || !(1..=RECORD_LONGEST).contains(&length) {
            return Err(Broken::Record.into());
        }
        let content = rest.get(RECORD_HEADER..).unwrap_or_default();
        let here = content.get(..length).unwrap_or(content);
        message.extend_from_slice(here);
        let missing = missing(&message)?;
        if missing == 0 {
            return Ok(body(&message).to_vec());
        }
        let of_record = length.saturating_sub(here.len());
        if of_record > 0 {
            let header = if missing > of_record { RECORD_HEADER } else { 0 };
            return Err(Unread::NeedMore(missing.saturating_add(header)));
        }
        rest = content.get(length..).unwrap_or_default();
    }
}

/// How long the body is, once the message has said so.
fn announced(message: &[u8]) -> Result<Option<usize>, Broken> {
    if message.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
        return Err(Broken::Message);
    }
    let Some(&[_, a, b, c]) = message.first_chunk::<MESSAGE_HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, a, b, c]);
    match usize::try_from(length) {
        Ok(length) if length <= LONGEST => Ok(Some(length)),
        _ => Err(Broken::TooLong),
    }
}

/// How many bytes of the message are missing at least.
fn missing(message: &[u8]) -> Result<usize, Broken> {
    let body = announced(message)?.unwrap_or(0);
    Ok(MESSAGE_HEADER.saturating_add(body).saturating_sub(message.len()))
}

/// The body of a message that is complete.
fn body(message: &[u8]) -> &[u8] {
    let body = message.get(MESSAGE_HEADER..).unwrap_or_default();
    let length = announced(message).ok().flatten().unwrap_or(0);
    body.get(..length).unwrap_or(body)
}

/// RFC 8446 §4.1.2, field by field.
fn parse(body: &[u8]) -> Result<ClientHello, Broken> {
    let mut fields = Fields(body);
    fields.take(2 + 32)?; // version, random
    fields.short_vector()?; // session
    fields.vector()?; // cipher suites
    fields.short_vector()?; // compression
    let mut hello = ClientHello::default();
    if fields.0.is_empty() {
        return Ok(hello); // a client of long ago
    }
    let mut extensions = Fields(fields.vector()?);
    fields.end()?;
    let (mut named, mut listed) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let mut value = Fields(extensions.vector()?);
        match kind {
            SERVER_NAME if !std::mem::replace(&mut named, true) => {
                hello.server_name = server_name(&mut value)?;
                value.end()?;
            }
            PROTOCOLS if !std::mem::replace(&mut listed, true) => {
                hello.protocols = protocols(&mut value)?;
                value.end()?;
            }
            SERVER_NAME | PROTOCOLS => return Err(Broken::Field),
            _ => {}
        }
    }
    Ok(hello)
}

/// RFC 6066 §3: a list of names, of which no more than one is a host's.
fn server_name(value: &mut Fields<'_>) -> Result<Option<String>, Broken> {
    let mut list = Fields(value.vector()?);
    let mut found = None;
    while !list.0.is_empty() {
        let [kind] = *list.array::<1>()?;
        let name = list.vector()?;
        if kind == 0 && found.replace(host_name(name)?).is_some() {
            return Err(Broken::ServerName);
        }
    }
    Ok(found)
}

/// Letters, digits, hyphens and dots (RFC 6066 §3); underscores occur.
fn host_name(name: &[u8]) -> Result<String, Broken> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    if !(1..=255).contains(&name.len()) || !name.iter().all(plain) {
        return Err(Broken::ServerName);
    }
    let name = std::str::from_utf8(name).map_err(|_| Broken::ServerName)?;
    Ok(name.to_ascii_lowercase())
}

/// RFC 7301 §3.1: a list of names, none of them empty.
fn protocols(value: &mut Fields<'_>) -> Result<Vec<Vec<u8>>, Broken> {
    let mut list = Fields(value.vector()?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        let name = list.short_vector()?;
        if name.is_empty() {
            return Err(Broken::Field);
        }
        found.push(name.to_vec());
    }
    Ok(found)
}

/// What is still to be read of a structure.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Broken::Field)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Broken> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Broken::Field)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn number(&mut self) -> Result<u16, Broken> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Bytes behind a length of one byte.
    pub(super) fn short_vector(&mut self) -> Result<&'a [u8], Broken> {
        let [length] = *self.array::<1>()?;
        self.take(length.into())
    }

    /// Bytes behind a length of two bytes.
    pub(super) fn vector(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.number()?;
        self.take(length.into())
    }

    pub(super) fn end(&self) -> Result<(), Broken> {
        if self.0.is_empty() { Ok(()) } else { Err(Broken::Field) }
    }
}
