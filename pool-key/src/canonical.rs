//! The canonical secret of a key, and what derives from it.
//!
//! Two files with the same key must make the same pool, whatever their encoding. So not the file
//! enters the derivation but the numbers that are the key: the sorted primes and the public
//! exponent of RSA (the private exponent has several equivalent values), the scalar of P-256, the
//! seed of Ed25519. HKDF-SHA-256 (RFC 5869) makes an independent secret of them for each use.

use std::fmt;

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use zeroize::Zeroizing;

use crate::der::{self, Reader};
use crate::error::Problem;

/// Separates our derivation from every other use of the same key.
const SALT: &[u8] = b"av-edge pool key v1";

/// Fewest bits of an RSA modulus.
const RSA_BITS_MIN: usize = 2048;

/// Order of the P-256 group (SEC 2 §2.4.2): scalars are below it.
const P256_ORDER: [u8; 32] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6,
    0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
];

/// An elliptic curve we do not take.
pub(crate) const OTHER_CURVE: &str = "an EC key on another curve than P-256";

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RSA, with the bits of its modulus.
    Rsa(usize),
    /// NIST P-256.
    P256,
    /// Ed25519.
    Ed25519,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::P256 => f.write_str("P-256"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

/// The numbers that are the key, in one fixed form.
pub(crate) struct Canonical {
    kind: Kind,
    bytes: Zeroizing<Vec<u8>>,
}

impl Canonical {
    /// Of a PKCS#8 structure (RFC 5958).
    pub(crate) fn of_pkcs8(pkcs8: &[u8]) -> Result<Self, Problem> {
        let Some((algorithm, key)) = open(pkcs8) else {
            return Err(Problem::Damaged("it is no PKCS#8 structure"));
        };
        if algorithm.starts_with(der::RSA) {
            Self::of_rsa(key)
        } else if algorithm.starts_with(der::ED25519) {
            Self::of_ed25519(pkcs8, key)
        } else if algorithm.strip_prefix(der::EC) == Some(der::P256) {
            Self::of_p256(key)
        } else {
            Err(Problem::Unsupported(describe(algorithm)))
        }
    }

    fn of_rsa(key: &[u8]) -> Result<Self, Problem> {
        let damaged = Problem::Damaged("its RSA numbers are incomplete");
        let Some(RsaNumbers { modulus, exponent, mut primes }) = rsa_numbers(key) else {
            return Err(damaged);
        };
        let bits = bits(modulus);
        if bits < RSA_BITS_MIN {
            return Err(Problem::Weak(bits));
        }
        if let Err(reason) = RsaKeyPair::from_der(key) {
            return Err(match reason.to_string().as_str() {
                "TooLarge" => {
                    Problem::Unsupported(format!("an RSA key of {bits} bits (limit 4096)"))
                }
                _ => Problem::Damaged("its RSA numbers do not belong together"),
            });
        }
        primes.sort_by_key(|prime| (prime.len(), *prime));
        let mut bytes = Zeroizing::new(b"rsa".to_vec());
        for number in primes.into_iter().chain([exponent]) {
            let [.., a, b] = number.len().to_be_bytes();
            bytes.extend([a, b]);
            bytes.extend_from_slice(number);
        }
        Ok(Self { kind: Kind::Rsa(bits), bytes })
    }

    fn of_p256(key: &[u8]) -> Result<Self, Problem> {
        let Some(EcNumbers { scalar, public }) = ec_numbers(key) else {
            return Err(Problem::Damaged("its EC structure is broken"));
        };
        if *scalar >= P256_ORDER || *scalar == [0; 32] {
            return Err(Problem::Damaged("its scalar is outside the P-256 group"));
        }
        if let Some(public) = public.filter(|point| point.first() == Some(&4)) {
            let pair = EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                &*scalar,
                public,
                &ring::rand::SystemRandom::new(),
            );
            if pair.is_err() {
                return Err(Problem::Damaged(
                    "its private and public halves do not belong together",
                ));
            }
        }
        Ok(Self { kind: Kind::P256, bytes: tagged(b"p256", &*scalar) })
    }

    fn of_ed25519(pkcs8: &[u8], key: &[u8]) -> Result<Self, Problem> {
        let seed = Reader(key).take(der::OCTET_STRING).filter(|seed| seed.len() == 32);
        let Some(seed) = seed else {
            return Err(Problem::Damaged("its Ed25519 seed has not 32 bytes"));
        };
        if Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).is_err() {
            return Err(Problem::Damaged("its private and public halves do not belong together"));
        }
        Ok(Self { kind: Kind::Ed25519, bytes: tagged(b"ed25519", seed) })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The secret of one use: up to 32 bytes. Shorter ones are prefixes of longer ones.
    pub(crate) fn secret<const N: usize>(&self, label: &[u8]) -> [u8; N] {
        const { assert!(N <= 32) };
        let mut out = [0; N];
        Salt::new(HKDF_SHA256, SALT)
            .extract(&self.bytes)
            .expand(&[label], Bytes(N))
            .and_then(|okm| okm.fill(&mut out))
            .expect("HKDF-SHA-256 fills up to 8160 bytes");
        out
    }
}

/// How many bytes to derive.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// Algorithm identifier and inner key of a PKCS#8 structure.
fn open(pkcs8: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = Reader(pkcs8).enter(der::SEQUENCE)?;
    outer.take(der::INTEGER)?;
    Some((outer.take(der::SEQUENCE)?, outer.take(der::OCTET_STRING)?))
}

/// An RSA key (RFC 8017 appendix A.1.2), each number without leading zeros.
struct RsaNumbers<'a> {
    modulus: &'a [u8],
    exponent: &'a [u8],
    primes: [&'a [u8]; 2],
}

fn rsa_numbers(key: &[u8]) -> Option<RsaNumbers<'_>> {
    let mut numbers = Reader(key).enter(der::SEQUENCE)?;
    numbers.take(der::INTEGER)?;
    let modulus = numbers.integer()?;
    let exponent = numbers.integer()?;
    let _private_exponent = numbers.integer()?;
    let primes = [numbers.integer()?, numbers.integer()?];
    Some(RsaNumbers { modulus, exponent, primes })
}

/// An EC key (RFC 5915): scalar, padded to 32 bytes, and public point if it is there.
struct EcNumbers<'a> {
    scalar: Zeroizing<[u8; 32]>,
    public: Option<&'a [u8]>,
}

fn ec_numbers(key: &[u8]) -> Option<EcNumbers<'_>> {
    let mut fields = Reader(key).enter(der::SEQUENCE)?;
    fields.take(der::INTEGER)?;
    let given = fields.take(der::OCTET_STRING)?;
    let mut scalar = Zeroizing::new([0; 32]);
    let zeros = given.iter().take(given.len().saturating_sub(32)).take_while(|&&b| b == 0).count();
    let given = given.get(zeros..)?;
    scalar.get_mut(32_usize.checked_sub(given.len())?..)?.copy_from_slice(given);
    fields.take(0xA0);
    let public = fields.enter(0xA1).and_then(|mut public| public.take(der::BIT_STRING));
    let public = public.and_then(|bits| bits.strip_prefix(&[0]));
    Some(EcNumbers { scalar, public })
}

/// Whether an EC key wrapped by us names, inside, a curve that is not P-256.
pub(crate) fn sec1_names_other_curve(pkcs8: &[u8]) -> bool {
    let named = open(pkcs8).and_then(|(_, key)| {
        let mut fields = Reader(key).enter(der::SEQUENCE)?;
        fields.take(der::INTEGER)?;
        fields.take(der::OCTET_STRING)?;
        fields.take(0xA0)
    });
    named.is_some_and(|curve| curve != der::P256)
}

fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros() as usize);
    (number.len() * 8).saturating_sub(unused)
}

fn tagged(kind: &[u8], number: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([kind, number].concat())
}

/// Names an algorithm we do not take.
fn describe(algorithm: &[u8]) -> String {
    match Reader(algorithm).take(der::OBJECT_ID) {
        Some([0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 10]) => "an RSA-PSS key".into(),
        _ if algorithm.starts_with(der::EC) => OTHER_CURVE.into(),
        Some([0x2B, 0x65, 0x71]) => "an Ed448 key".into(),
        Some([0x2B, 0x65, 0x6E | 0x6F]) => "a key for key agreement only".into(),
        Some([0x2A, 0x86, 0x48, 0xCE, 0x38, 4, 1]) => "a DSA key".into(),
        _ => "a key of an unknown kind".into(),
    }
}
