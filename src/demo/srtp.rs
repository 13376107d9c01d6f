//! One direction of an SRTP stream (RFC 3711): voice in, protected packets out, and back.
//!
//! The cipher is `rtc-srtp`'s; here are the RTP header (RFC 3550 §5.1) around it and keys that
//! live as long as the call. Two browsers would agree on keys by DTLS; the demonstration holds
//! both ends in one process and hands them over.

use rtc_srtp::context::Context;
use rtc_srtp::crypto::default_provider;
use rtc_srtp::option::srtp_replay_protection;
use rtc_srtp::protection_profile::ProtectionProfile;

use super::voice::{PACKET_SAMPLES, PAYLOAD_TYPE};

/// What WebRTC calls `SRTP_AES128_CM_HMAC_SHA1_80`: every implementation has it.
const PROFILE: ProtectionProfile = ProtectionProfile::Aes128CmHmacSha1_80;

/// Name of [`PROFILE`] for people.
pub(crate) const PROFILE_NAME: &str = "AES-128 counter mode, HMAC-SHA1-80";

/// Length of the RTP header: no CSRC, no extension.
const HEADER_LEN: usize = 12;

/// Packets the receiver remembers to recognise a repeated one.
const REPLAY_WINDOW: usize = 128;

/// Why a packet was not protected or not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SrtpError(String);

impl std::fmt::Display for SrtpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SRTP: {}", self.0)
    }
}

impl SrtpError {
    fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Master key and salt of one direction.
#[derive(Clone)]
pub(crate) struct Key {
    master: [u8; 16],
    salt: [u8; 14],
}

impl Key {
    /// Random, from the operating system.
    pub(crate) fn generate() -> Result<Self, SrtpError> {
        Ok(Self { master: random()?, salt: random()? })
    }

    fn context(&self, receives: bool) -> Result<Context, SrtpError> {
        let provider = default_provider().map_err(SrtpError::new)?;
        let replay = receives.then(|| srtp_replay_protection(REPLAY_WINDOW));
        Context::new(&self.master, &self.salt, PROFILE, replay, None, provider.crypto())
            .map_err(SrtpError::new)
    }
}

/// The sending end.
pub(crate) struct Sender {
    context: Context,
    source: u32,
    sequence: u16,
    timestamp: u32,
    started: bool,
}

impl Sender {
    /// A stream with random source, first sequence number and first timestamp (RFC 3550 §5.1).
    pub(crate) fn new(key: &Key) -> Result<Self, SrtpError> {
        Ok(Self {
            context: key.context(false)?,
            source: u32::from_be_bytes(random()?),
            sequence: u16::from_be_bytes(random()?),
            timestamp: u32::from_be_bytes(random()?),
            started: false,
        })
    }

    /// The sequence number of the next packet.
    pub(crate) fn next_sequence(&self) -> u16 {
        self.sequence
    }

    /// The next packet, protected.
    pub(crate) fn protect(&mut self, voice: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let marker = u8::from(!self.started) << 7;
        let mut packet = Vec::with_capacity(HEADER_LEN + voice.len());
        packet.extend_from_slice(&[2 << 6, marker | PAYLOAD_TYPE]);
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&self.timestamp.to_be_bytes());
        packet.extend_from_slice(&self.source.to_be_bytes());
        packet.extend_from_slice(voice);
        let protected = self.context.encrypt_rtp(&packet).map_err(SrtpError::new)?;
        self.started = true;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(PACKET_SAMPLES.into());
        Ok(protected.to_vec())
    }
}

/// What a packet carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Its sequence number.
    pub(crate) sequence: u16,
    /// Its voice.
    pub(crate) voice: Vec<u8>,
}

/// The receiving end.
pub(crate) struct Receiver {
    context: Context,
}

impl Receiver {
    /// The end that holds the sender's key.
    pub(crate) fn new(key: &Key) -> Result<Self, SrtpError> {
        Ok(Self { context: key.context(true)? })
    }

    /// Verifies and decrypts a packet; a forged, altered or repeated one is an error.
    pub(crate) fn open(&mut self, packet: &[u8]) -> Result<Opened, SrtpError> {
        let plain = self.context.decrypt_rtp(packet).map_err(SrtpError::new)?;
        let (header, voice) =
            plain.split_first_chunk::<HEADER_LEN>().ok_or_else(|| SrtpError::new("too short"))?;
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        Ok(Opened { sequence, voice: voice.to_vec() })
    }
}

fn random<const N: usize>() -> Result<[u8; N], SrtpError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SrtpError::new)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::voice;
    use super::*;

    fn ends() -> (Sender, Receiver) {
        let key = Key::generate().unwrap();
        (Sender::new(&key).unwrap(), Receiver::new(&key).unwrap())
    }

    #[test]
    fn the_whole_clip_survives_the_round_trip() {
        let (mut sender, mut receiver) = ends();
        let first = sender.next_sequence();
        let mut heard = Vec::new();
        for (index, part) in (0_u16..).zip(voice::packets()) {
            let packet = sender.protect(part).unwrap();
            assert_eq!(packet.len(), HEADER_LEN + part.len() + PROFILE.rtp_auth_tag_len());
            assert!(!packet.windows(part.len()).any(|w| w == part), "voice is not in clear");
            let opened = receiver.open(&packet).unwrap();
            assert_eq!(opened.sequence, first.wrapping_add(index));
            heard.extend_from_slice(&opened.voice);
        }
        assert_eq!(heard, voice::CLIP);
    }

    #[test]
    fn sequence_numbers_may_wrap_during_the_call() {
        let (mut sender, mut receiver) = ends();
        sender.sequence = u16::MAX - 1;
        for expected in [u16::MAX - 1, u16::MAX, 0, 1] {
            let packet = sender.protect(&[0xFF; 160]).unwrap();
            assert_eq!(receiver.open(&packet).unwrap().sequence, expected);
        }
    }

    #[test]
    fn what_was_touched_or_repeated_is_not_accepted() {
        let (mut sender, mut receiver) = ends();
        let packet = sender.protect(&[7; 160]).unwrap();
        for (case, position) in [("header", 3), ("voice", 40), ("tag", packet.len() - 1)] {
            let mut altered = packet.clone();
            altered[position] ^= 1;
            assert!(receiver.open(&altered).is_err(), "{case}");
        }
        assert!(receiver.open(&packet[..8]).is_err(), "cut short");
        assert!(receiver.open(&packet).is_ok());
        assert!(receiver.open(&packet).is_err(), "repeated");
        let (_, mut stranger) = ends();
        assert!(stranger.open(&packet).is_err(), "another key");
    }
}
