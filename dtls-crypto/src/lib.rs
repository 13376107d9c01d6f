//! The cryptography of DTLS, done by ring: the library brings protocol, this brings primitives.
//!
//! What ring lacks is one block of AES, by which DTLS 1.3 hides record numbers. Keys are those of
//! TLS, parsed by rustls. When the configuration is built, the library tries all of it
//! on known answers. The relay and the client stand on this; nothing here knows of TURN.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use dimpl::crypto::{
    Aad, ActiveKeyExchange, Buf, Cipher, CryptoProvider, Dtls12CipherSuite, Dtls13CipherSuite,
    HashContext, HashProvider, HmacProvider, KeyProvider, Nonce, SecureRandom, SignatureVerifier,
    SigningKey, SupportedDtls12CipherSuite, SupportedDtls13CipherSuite, SupportedKxGroup, TmpBuf,
};
use dimpl::{CryptoError, CryptoOperation, HashAlgorithm, NamedGroup, SignatureAlgorithm};
use ring::aead::quic::{self, HeaderProtectionKey};
use ring::aead::{self, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::digest::{self, SHA256, SHA384};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, SignatureVerificationAlgorithm,
};
use rustls::sign::{CertifiedKey, Signer};
use webpki::EndEntityCert;

static GROUP_X25519: Group = Group(NamedGroup::X25519, &agreement::X25519);
static GROUP_P256: Group = Group(NamedGroup::Secp256r1, &agreement::ECDH_P256);
static GROUP_P384: Group = Group(NamedGroup::Secp384r1, &agreement::ECDH_P384);

static SUITE12_AES256: Suite12 =
    Suite12(Dtls12CipherSuite::ECDHE_ECDSA_AES256_GCM_SHA384, &AES_256_GCM);
static SUITE12_AES128: Suite12 =
    Suite12(Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256, &AES_128_GCM);
static SUITE12_CHACHA: Suite12 =
    Suite12(Dtls12CipherSuite::ECDHE_ECDSA_CHACHA20_POLY1305_SHA256, &CHACHA20_POLY1305);

static SUITE13_AES128: Suite13 = Suite13(Dtls13CipherSuite::AES_128_GCM_SHA256, &AES_128_GCM);
static SUITE13_AES256: Suite13 = Suite13(Dtls13CipherSuite::AES_256_GCM_SHA384, &AES_256_GCM);
static SUITE13_CHACHA: Suite13 =
    Suite13(Dtls13CipherSuite::CHACHA20_POLY1305_SHA256, &CHACHA20_POLY1305);

static EXCHANGES: [&dyn SupportedKxGroup; 3] = [&GROUP_X25519, &GROUP_P256, &GROUP_P384];
static SUITES12: [&dyn SupportedDtls12CipherSuite; 3] =
    [&SUITE12_AES256, &SUITE12_AES128, &SUITE12_CHACHA];
static SUITES13: [&dyn SupportedDtls13CipherSuite; 3] =
    [&SUITE13_AES128, &SUITE13_AES256, &SUITE13_CHACHA];

/// Bytes of a cookie that the library makes: all of an HMAC-SHA256.
pub const COOKIE_LEN: usize = 32;

/// Everything the library asks for.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: &EXCHANGES,
        signature_verification: &Verifier,
        key_provider: &Keys,
        secure_random: &Random,
        hash_provider: &Hashes,
        hmac_provider: &Hmac,
        cipher_suites: &SUITES12,
        dtls13_cipher_suites: &SUITES13,
    }
}

/// The groups above, as a ClientHello numbers them (RFC 8446 §4.2.7).
pub const GROUPS: [u16; 3] = [29, 23, 24];

thread_local! {
    /// The cookie that is judged at this moment, see [`with_cookie`].
    static COOKIE: Cell<Option<[u8; COOKIE_LEN]>> = const { Cell::new(None) };
    /// The key of the endpoint that is made at this moment, see [`with_key`].
    static KEY: Cell<Option<Arc<CertifiedKey>>> = const { Cell::new(None) };
}

/// Lets `work` make an endpoint with this key. The library asks for a key by its bytes; this one
/// is parsed already, so it is given none, and the provider knows. Whoever makes endpoints rarely
/// may give the bytes instead, in PKCS#8.
pub fn with_key<T>(key: Arc<CertifiedKey>, work: impl FnOnce(Vec<u8>) -> T) -> T {
    KEY.set(Some(key));
    let outcome = work(Vec::new());
    KEY.set(None);
    outcome
}

/// Whether DTLS can use a key: ECDSA on P-256 or P-384.
pub fn can_use(key: &CertifiedKey) -> bool {
    signer(&*key.key).is_some()
}

/// Signs with a key, and names the hash that goes with its curve.
fn signer(key: &dyn rustls::sign::SigningKey) -> Option<(HashAlgorithm, Box<dyn Signer>)> {
    [
        (HashAlgorithm::SHA256, SignatureScheme::ECDSA_NISTP256_SHA256),
        (HashAlgorithm::SHA384, SignatureScheme::ECDSA_NISTP384_SHA384),
    ]
    .into_iter()
    .find_map(|(hash, scheme)| Some((hash, key.choose_scheme(&[scheme])?)))
}

/// Lets the library make and expect this cookie, for as long as `work` takes.
///
/// It asks its provider for an HMAC-SHA256 to make a cookie, under a key of its own for each
/// connection, and for nothing else. Ours are good without a connection: they are bound to
/// address and time, and judged before by whoever calls.
pub fn with_cookie<T>(cookie: [u8; COOKIE_LEN], work: impl FnOnce() -> T) -> T {
    /// Forgets the cookie however the work ends.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            COOKIE.set(None);
        }
    }
    COOKIE.set(Some(cookie));
    let _forget = Forget;
    work()
}

fn failed(operation: CryptoOperation) -> CryptoError {
    CryptoError::OperationFailed(operation)
}

/// A key exchange group.
#[derive(Debug)]
struct Group(NamedGroup, &'static agreement::Algorithm);

impl SupportedKxGroup for Group {
    fn name(&self) -> NamedGroup {
        self.0
    }

    fn start_exchange(&self, mut public: Buf) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let private = EphemeralPrivateKey::generate(self.1, &SystemRandom::new())
            .map_err(|_| failed(CryptoOperation::GenerateEphemeralKey))?;
        let key =
            private.compute_public_key().map_err(|_| failed(CryptoOperation::ComputePublicKey))?;
        public.clear();
        public.extend_from_slice(key.as_ref());
        Ok(Box::new(Exchange { group: self.0, private, public }))
    }
}

/// Our half of a key exchange.
struct Exchange {
    group: NamedGroup,
    private: EphemeralPrivateKey,
    public: Buf,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("group", &self.group).finish_non_exhaustive()
    }
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn complete(self: Box<Self>, peer: &[u8], secret: &mut Buf) -> Result<(), CryptoError> {
        let peer = UnparsedPublicKey::new(self.private.algorithm(), peer);
        agree_ephemeral(self.private, &peer, |shared| {
            secret.clear();
            secret.extend_from_slice(shared);
        })
        .map_err(|_| CryptoError::InvalidPublicKey(self.group))
    }

    fn group(&self) -> NamedGroup {
        self.group
    }
}

/// Seals and opens records.
struct Records(LessSafeKey);

impl Records {
    fn boxed(
        algorithm: &'static aead::Algorithm,
        key: &[u8],
    ) -> Result<Box<dyn Cipher>, CryptoError> {
        let key =
            UnboundKey::new(algorithm, key).map_err(|_| failed(CryptoOperation::CreateCipher))?;
        Ok(Box::new(Self(LessSafeKey::new(key))))
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Records").finish_non_exhaustive()
    }
}

impl Cipher for Records {
    fn encrypt(&mut self, plain: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = unique(&nonce)?;
        self.0
            .seal_in_place_append_tag(nonce, aead::Aad::from(&aad[..]), plain)
            .map_err(|_| failed(CryptoOperation::Encrypt))
    }

    fn decrypt(&mut self, sealed: &mut TmpBuf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = unique(&nonce)?;
        let length = self
            .0
            .open_in_place(nonce, aead::Aad::from(&aad[..]), sealed.as_mut())
            .map_err(|_| failed(CryptoOperation::Decrypt))?
            .len();
        sealed.truncate(length);
        Ok(())
    }
}

/// The library never uses a nonce twice with a key.
fn unique(nonce: &[u8]) -> Result<aead::Nonce, CryptoError> {
    aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::InvalidNonce)
}

/// A cipher suite of DTLS 1.2.
#[derive(Debug)]
struct Suite12(Dtls12CipherSuite, &'static aead::Algorithm);

impl Suite12 {
    /// Bytes of nonce that each record carries: a part of GCM's, none of Poly1305's.
    fn explicit(&self) -> usize {
        if *self.1 == CHACHA20_POLY1305 { 0 } else { 8 }
    }
}

impl SupportedDtls12CipherSuite for Suite12 {
    fn suite(&self) -> Dtls12CipherSuite {
        self.0
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        (0, self.1.key_len(), self.1.nonce_len() - self.explicit())
    }

    fn explicit_nonce_len(&self) -> usize {
        self.explicit()
    }

    fn tag_len(&self) -> usize {
        self.1.tag_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        Records::boxed(self.1, key)
    }
}

/// A cipher suite of DTLS 1.3.
#[derive(Debug)]
struct Suite13(Dtls13CipherSuite, &'static aead::Algorithm);

impl SupportedDtls13CipherSuite for Suite13 {
    fn suite(&self) -> Dtls13CipherSuite {
        self.0
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn key_len(&self) -> usize {
        self.1.key_len()
    }

    fn iv_len(&self) -> usize {
        self.1.nonce_len()
    }

    fn tag_len(&self) -> usize {
        self.1.tag_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        Records::boxed(self.1, key)
    }

    /// RFC 9147 §4.2.3. The library uses the first two bytes at most.
    fn encrypt_sn(&self, key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        let mut mask = *sample;
        if *self.1 == AES_128_GCM {
            encrypt_block::<aes::Aes128>(key, &mut mask);
        } else if *self.1 == AES_256_GCM {
            encrypt_block::<aes::Aes256>(key, &mut mask);
        } else {
            let key = HeaderProtectionKey::new(&quic::CHACHA20, key);
            let head = key.and_then(|key| key.new_mask(sample)).expect("both lengths are fixed");
            mask = [0; 16];
            mask[..head.len()].copy_from_slice(&head);
        }
        mask
    }
}

fn encrypt_block<C: BlockCipherEncrypt + KeyInit>(key: &[u8], bytes: &mut [u8; 16])
where
    for<'b> &'b mut Block<C>: TryFrom<&'b mut [u8]>,
{
    let cipher = C::new_from_slice(key).expect("as long as Suite13::key_len says");
    if let Ok(block) = <&mut Block<C>>::try_from(bytes.as_mut_slice()) {
        cipher.encrypt_block(block);
    }
}

/// Running hashes of handshakes.
#[derive(Debug)]
struct Hashes;

impl HashProvider for Hashes {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let sha384 = algorithm == HashAlgorithm::SHA384;
        Box::new(Hash(digest::Context::new(if sha384 { &SHA384 } else { &SHA256 })))
    }
}

struct Hash(digest::Context);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hash").finish_non_exhaustive()
    }
}

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        out.clear();
        out.extend_from_slice(self.0.clone().finish().as_ref());
    }
}

/// What keys are derived with.
#[derive(Debug)]
struct Hmac;

impl HmacProvider for Hmac {
    /// Asked for cookies alone: deriving keys goes through [`HmacProvider::hmac`].
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; COOKIE_LEN], CryptoError> {
        if let Some(cookie) = COOKIE.get() {
            return Ok(cookie);
        }
        let mut out = [0; COOKIE_LEN];
        self.hmac(HashAlgorithm::SHA256, key, data, &mut out)?;
        Ok(out)
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let algorithm = match hash {
            HashAlgorithm::SHA256 => hmac::HMAC_SHA256,
            HashAlgorithm::SHA384 => hmac::HMAC_SHA384,
            other => return Err(CryptoError::UnsupportedHmacHash(other)),
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, key), data);
        let place = out.get_mut(..tag.as_ref().len());
        place.ok_or(failed(CryptoOperation::ComputeHmac))?.copy_from_slice(tag.as_ref());
        Ok(tag.as_ref().len())
    }
}

#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), CryptoError> {
        SystemRandom::new().fill(buffer).map_err(|_| failed(CryptoOperation::FillRandom))
    }
}

/// Hands out the key that [`with_key`] holds ready, or else reads one.
#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, pkcs8: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let key = match KEY.take() {
            Some(key) => Arc::clone(&key.key),
            None => any_ecdsa_type(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8)))
                .map_err(|_| CryptoError::InvalidPrivateKey)?,
        };
        let (hash, signer) = signer(&*key).ok_or(CryptoError::UnsupportedEcCurve)?;
        Ok(Box::new(Key { hashes: [hash], signer }))
    }
}

/// A private key with the one hash its curve goes with.
struct Key {
    hashes: [HashAlgorithm; 1],
    signer: Box<dyn Signer>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("hashes", &self.hashes).finish_non_exhaustive()
    }
}

impl std::panic::UnwindSafe for Key {}
impl std::panic::RefUnwindSafe for Key {}

impl SigningKey for Key {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        let [key_hash] = self.hashes;
        if hash != key_hash {
            return Err(CryptoError::SigningKeyHashMismatch { key_hash, requested: hash });
        }
        let signature = self.signer.sign(data).map_err(|_| failed(CryptoOperation::Sign))?;
        out.clear();
        out.extend_from_slice(&signature);
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.hashes[0]
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &self.hashes
    }
}

/// Checks signatures of certificates. The relay asks clients for none; the library insists, and
/// the clients of the tests need it.
#[derive(Debug)]
struct Verifier;

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        certificate: &[u8],
        data: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let schemes: [&dyn SignatureVerificationAlgorithm; 2] = match (hash, algorithm) {
            (HashAlgorithm::SHA256, SignatureAlgorithm::ECDSA) => {
                [webpki::ring::ECDSA_P256_SHA256, webpki::ring::ECDSA_P384_SHA256]
            }
            (HashAlgorithm::SHA384, SignatureAlgorithm::ECDSA) => {
                [webpki::ring::ECDSA_P256_SHA384, webpki::ring::ECDSA_P384_SHA384]
            }
            _ => return Err(CryptoError::UnsupportedSignatureAlgorithm(algorithm)),
        };
        let certificate = CertificateDer::from(certificate);
        let certificate = EndEntityCert::try_from(&certificate)
            .map_err(|_| CryptoError::CertificateParseFailed)?;
        let good = |scheme: &&dyn SignatureVerificationAlgorithm| {
            certificate.verify_signature(*scheme, data, signature).is_ok()
        };
        if schemes.iter().any(good) {
            Ok(())
        } else {
            Err(failed(CryptoOperation::VerifySignature))
        }
    }
}
