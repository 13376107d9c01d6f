//! TLS of one connection, as a value: records in, plaintext and records out.
//!
//! It reads no socket and keeps no buffer but the beginning of a record whose rest has not come.
//! An idle session is its keys and little more.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

/// The most a client may send before its handshake goes on: a `ClientHello` with room to spare.
const LONGEST_HELLO: usize = 16 * 1024;

/// The longest record (RFC 8446 §5.2, RFC 5246 §6.2.3), header included.
pub(super) const LONGEST_RECORD: usize = 5 + 16_384 + 2_048;

/// What sealing adds at most to 16 KiB of plaintext, headers included.
const OVERHEAD: usize = 64;

/// Plaintext sealed at a time: two records.
pub(super) const SEALED_AT_ONCE: usize = 2 * 16_384;

/// The application protocol of NAT discovery (RFC 7443).
const NAT_DISCOVERY: &[u8] = b"stun.nat-discovery";

/// One server's end of TLS.
pub(super) struct Session {
    tls: UnbufferedServerConnection,
    /// The beginning of a record whose rest has not come.
    pub(super) begun: Vec<u8>,
    /// Whether application data may be sent.
    open: bool,
    /// Whether the client has said that it sends no more.
    finished: bool,
}

/// The client does not speak TLS as we do. What is to be told it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

impl Session {
    pub(super) fn new(config: &Arc<ServerConfig>) -> Result<Self, Failed> {
        let tls = UnbufferedServerConnection::new(Arc::clone(config)).map_err(|_| Failed)?;
        Ok(Self { tls, begun: Vec::new(), open: false, finished: false })
    }

    /// Whether the handshake is done.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the client has said that it sends no more.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the client wants to discover its NAT and nothing else (RFC 7443).
    pub(super) fn is_for_discovery(&self) -> bool {
        self.tls.alpn_protocol() == Some(NAT_DISCOVERY)
    }

    /// Opens records: those that had begun, continued by what was read. Writes plaintext, which
    /// is never longer, into `plain` and answers of the handshake behind `out`.
    pub(super) fn receive(
        &mut self,
        records: &mut [u8],
        plain: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Failed> {
        let (mut at, mut filled) = (0, 0);
        loop {
            let UnbufferedStatus { mut discard, state, .. } =
                self.tls.process_tls_records(&mut records[at..]);
            let mut idle = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        let end = filled + record.payload.len();
                        plain[filled..end].copy_from_slice(record.payload);
                        filled = end;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(_)) => (self.open, idle) = (true, true),
                Ok(ConnectionState::PeerClosed) => self.finished = true,
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => idle = true,
                // Early data is not offered, so there is none; of what a later rustls adds
                // nothing is asked for.
                Ok(_) => return Err(Failed),
                Err(_) => {
                    self.take_alert(out);
                    return Err(Failed);
                }
            }
            at += discard;
            if idle {
                break;
            }
        }
        self.keep(&records[at..])?;
        Ok(filled)
    }

    /// Seals plaintext behind `out`; says how much. Nothing before the handshake is done.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<usize, Failed> {
        let plain = &plain[..plain.len().min(SEALED_AT_ONCE)];
        loop {
            match self.tls.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let start = out.len();
                    out.resize(start + plain.len() + 4 * OVERHEAD, 0);
                    let sealed = traffic.encrypt(plain, &mut out[start..]).map_err(|_| Failed)?;
                    out.truncate(start + sealed);
                    return Ok(plain.len());
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.finished = true,
                Ok(_) => return Ok(0),
                Err(_) => return Err(Failed),
            }
        }
    }

    /// Says good-bye behind `out`.
    pub(super) fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        if !self.open {
            return;
        }
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            self.tls.process_tls_records(&mut []).state
        {
            let start = out.len();
            out.resize(start + OVERHEAD, 0);
            let written = traffic.queue_close_notify(&mut out[start..]).unwrap_or_default();
            out.truncate(start + written);
        }
    }

    /// What rustls has to say about a failure.
    fn take_alert(&mut self, out: &mut Vec<u8>) {
        while let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.tls.process_tls_records(&mut []).state
        {
            if encode(&mut data, out).is_err() {
                return;
            }
        }
    }

    /// Keeps the beginning of a record.
    fn keep(&mut self, rest: &[u8]) -> Result<(), Failed> {
        let most = if self.open { LONGEST_RECORD } else { LONGEST_HELLO };
        if rest.len() > most {
            return Err(Failed);
        }
        if rest.is_empty() {
            self.begun = Vec::new();
        } else {
            self.begun.clear();
            self.begun.extend_from_slice(rest);
        }
        Ok(())
    }
}

/// Puts a record of the handshake behind `out`.
fn encode<D>(data: &mut EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> Result<(), Failed> {
    let start = out.len();
    loop {
        let room = out.len() - start;
        match data.encode(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) if needed.required_size > room => {
                out.resize(start + needed.required_size, 0);
            }
            Err(EncodeError::InsufficientSize(_) | EncodeError::AlreadyEncoded) => {
                return Err(Failed);
            }
        }
    }
}
