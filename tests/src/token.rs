//! Access tokens as an authorization server seals them (RFC 7635 §6.2), written apart from
//! `proto::auth`.

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use stun_rs::HMACKey;

/// What goes into a token, and how it is sealed; every field may be made wrong.
#[derive(Clone, Debug)]
pub struct Token {
    /// The long-term key: 16 bytes for AES-128-GCM, 32 for AES-256-GCM.
    pub key: Vec<u8>,
    /// Associated data.
    pub server_name: String,
    /// Printable, so that the oracle takes it too.
    pub mac_key: String,
    /// Seconds since 1970.
    pub seconds: u64,
    /// In 1/64000 s.
    pub fraction: u16,
    /// Seconds.
    pub lifetime: u32,
    /// What stands behind the lifetime.
    pub claims: String,
    /// Twelve bytes, in a good token.
    pub nonce: Vec<u8>,
}

impl Token {
    /// A token that is good for an hour from `seconds` on, with a key of twenty bytes.
    pub fn new(key: &[u8], server_name: &str, seconds: u64) -> Self {
        Self {
            key: key.to_vec(),
            server_name: server_name.to_owned(),
            mac_key: "twenty bytes of key!".to_owned(),
            seconds,
            fraction: 0,
            lifetime: 3600,
            claims: String::new(),
            nonce: b"twelve bytes".to_vec(),
        }
    }

    /// The key that signs messages.
    pub fn signer(&self) -> HMACKey {
        HMACKey::new_short_term(&*self.mac_key).expect("keys of the rig are printable")
    }

    /// The value of ACCESS-TOKEN.
    pub fn sealed(&self) -> Vec<u8> {
        let short = |length: usize| u16::try_from(length).expect("16 bits").to_be_bytes();
        let mut inner = short(self.mac_key.len()).to_vec();
        inner.extend(self.mac_key.as_bytes());
        inner.extend(((self.seconds << 16) | u64::from(self.fraction)).to_be_bytes());
        inner.extend(self.lifetime.to_be_bytes());
        inner.extend(self.claims.as_bytes());
        self.sealed_around(&inner)
    }

    /// The same around any bytes.
    pub fn sealed_around(&self, inner: &[u8]) -> Vec<u8> {
        let cipher: &Algorithm = if self.key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = LessSafeKey::new(UnboundKey::new(cipher, &self.key).expect("a key's length"));
        let mut number = self.nonce.clone();
        number.resize(12, 0);
        let number = Nonce::try_assume_unique_for_key(&number).expect("twelve bytes");
        let mut text = inner.to_vec();
        key.seal_in_place_append_tag(number, Aad::from(self.server_name.as_bytes()), &mut text)
            .expect("a short text");
        let length = u16::try_from(self.nonce.len()).expect("16 bits").to_be_bytes();
        [&length[..], &self.nonce, &text].concat()
    }
}
