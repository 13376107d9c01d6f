//! Nonces without memory (RFC 8489 §9.2).
//!
//! A nonce is the cookie, the security feature bits, the time of issue and a keyed hash over
//! these, the client's address and transport, and the algorithms offered. Whoever holds the key
//! can say whether a nonce was issued, to whom and when; nothing is stored. Relays of a pool
//! derive the same key, so do the workers of one relay.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::addr::{ClientAddr, Transport};
use crate::auth::Authority;
use crate::now::{Now, UnixTime};

/// PASSWORD-ALGORITHMS as offered: SHA-256 first, then MD5, no parameters (RFC 8489 §14.11).
pub(crate) const OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

/// Says that security features follow (RFC 8489 §9.2).
const COOKIE: &[u8; 9] = b"obMatJos2";

/// Cookie and features in base64.
type Prefix = [u8; COOKIE.len() + 4];

/// Nonce cookie and security features: password algorithms yes, user-name anonymity no. Bit 0 is
/// the least significant one (RFC 8489 §9.2 with erratum 6290).
const NAMED: &Prefix = b"obMatJos2AAAB";

/// The same with user-name anonymity, where every user can be found by hash.
const ANONYMOUS: &Prefix = b"obMatJos2AAAD";

/// Length of a nonce; a multiple of four, so that the attribute needs no padding.
pub(crate) const LENGTH: usize = 32;

/// Bytes of the hash in a nonce; 80 bits.
const HASH: usize = 10;

/// How far a nonce's time of issue may lie in the future, for relays whose clocks differ.
const SKEW_S: u64 = 5;

/// Issues and verifies nonces.
pub(crate) struct Nonces {
    /// The first key issues; all verify.
    keys: Vec<Hmac<Sha256>>,
    prefix: &'static Prefix,
    lifetime_s: u64,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nonces({} keys)", self.keys.len())
    }
}

impl Nonces {
    /// Keys come from the pool; without a pool key, from `seed`.
    pub(crate) fn new(authority: &Authority, seed: &[u8; 32], lifetime: Duration) -> Self {
        let mut keys: Vec<_> = authority
            .ring
            .iter()
            .flat_map(|ring| std::iter::once(&ring.current).chain(&ring.previous))
            .map(|key| keyed(key.nonces.bytes()))
            .collect();
        if keys.is_empty() {
            let derived = keyed(seed).chain_update(b"av-edge nonces").finalize().into_bytes();
            keys.push(keyed(&derived));
        }
        let prefix = if authority.knows_everybody() { ANONYMOUS } else { NAMED };
        Self { keys, prefix, lifetime_s: lifetime.as_secs() }
    }

    /// A fresh nonce for a client.
    pub(crate) fn issue(&self, now: Now, client: ClientAddr, transport: Transport) -> [u8; LENGTH] {
        self.write(&self.keys[0], seconds(now.unix), client, transport)
    }

    /// Whether a nonce was issued to this client and is young enough.
    pub(crate) fn is_good(
        &self,
        now: Now,
        nonce: &[u8],
        client: ClientAddr,
        transport: Transport,
    ) -> bool {
        let Some(issued) = time_of(nonce) else { return false };
        let at = UnixTime(u64::from(issued));
        let young =
            now.unix.seconds_since(at) < self.lifetime_s && at.seconds_since(now.unix) <= SKEW_S;
        let genuine = self.keys.iter().fold(subtle::Choice::from(0), |found, key| {
            found | self.write(key, issued, client, transport).as_slice().ct_eq(nonce)
        });
        young && bool::from(genuine)
    }

    /// The whole nonce, as only the holder of the key can write it.
    fn write(
        &self,
        key: &Hmac<Sha256>,
        issued: u32,
        client: ClientAddr,
        transport: Transport,
    ) -> [u8; LENGTH] {
        let ip = match client.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let hash = key
            .clone()
            .chain_update(self.prefix)
            .chain_update(OFFERED)
            .chain_update(issued.to_be_bytes())
            .chain_update([transport as u8])
            .chain_update(ip.octets())
            .chain_update(client.port().to_be_bytes())
            .finalize()
            .into_bytes();
        let mut opaque = [0; 4 + HASH];
        let (time, rest) = opaque.split_at_mut(4);
        time.copy_from_slice(&issued.to_be_bytes());
        rest.copy_from_slice(&hash[..HASH]);
        let mut nonce = [0; LENGTH];
        let (prefix, text) = nonce.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(self.prefix);
        STANDARD_NO_PAD.encode_slice(opaque, text).expect("14 bytes are 19 characters");
        nonce
    }
}

/// Whether a nonce claims that password algorithms were offered with it.
pub(crate) fn offers_algorithms(nonce: &[u8]) -> bool {
    let features = nonce.strip_prefix(COOKIE).and_then(|rest| rest.first_chunk::<4>());
    let mut bits = [0; 3];
    let read = features.is_some_and(|it| STANDARD_NO_PAD.decode_slice(it, &mut bits).is_ok());
    read && bits[2] & 1 == 1
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
}

/// Seconds of a nonce: 32 bits are enough until 2106.
fn seconds(time: UnixTime) -> u32 {
    u32::try_from(time.0).unwrap_or(u32::MAX)
}

/// The time of issue a nonce claims.
fn time_of(nonce: &[u8]) -> Option<u32> {
    if nonce.len() != LENGTH {
        return None;
    }
    let text = nonce.get(NAMED.len()..)?;
    // Whole groups of four characters are decoded, wherever the last of them ends.
    let mut opaque = [0; (4_usize + HASH).next_multiple_of(3)];
    STANDARD_NO_PAD.decode_slice(text, &mut opaque).ok()?;
    opaque.first_chunk::<4>().map(|time| u32::from_be_bytes(*time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{KeyRing, PoolKey};
    use crate::now::tests::start;

    const LIFETIME: Duration = Duration::from_secs(600);

    fn nonces(ring: Option<KeyRing>, seed: u8) -> Nonces {
        let authority = Authority {
            ring,
            rest_secrets: Vec::new(),
            users: None,
            tokens: None,
            max_lifetime_s: 86_400,
        };
        Nonces::new(&authority, &[seed; 32], LIFETIME)
    }

    fn client(text: &str) -> ClientAddr {
        ClientAddr::new(text.parse().unwrap())
    }

    #[test]
    fn auth_018_a_nonce_is_cookie_features_and_base64() {
        let nonce = nonces(None, 1).issue(start(), client("192.0.2.1:5000"), Transport::Udp);
        assert!(nonce.starts_with(b"obMatJos2AAAB"));
        assert!(nonce.len() < 128);
        assert!(nonce.iter().all(|c| c.is_ascii_alphanumeric() || b"+/".contains(c)));
    }

    #[test]
    fn auth_017_the_feature_bits_say_algorithms_and_no_anonymity() {
        use base64::engine::general_purpose::STANDARD;
        let nonce = nonces(None, 1).issue(start(), client("192.0.2.1:5000"), Transport::Udp);
        assert_eq!(STANDARD.decode(&nonce[9..13]).unwrap(), [0, 0, 1]);
        assert!(offers_algorithms(&nonce));
        assert!(!offers_algorithms(b"obMatJos2AAAA0123456789"));
    }

    #[test]
    fn auth_020_a_nonce_is_good_for_one_client_only() {
        let nonces = nonces(None, 1);
        let home = client("192.0.2.1:5000");
        let nonce = nonces.issue(start(), home, Transport::Udp);
        for (case, who, transport, expected) in [
            ("itself", home, Transport::Udp, true),
            ("another port", client("192.0.2.1:5001"), Transport::Udp, false),
            ("another host", client("192.0.2.2:5000"), Transport::Udp, false),
            ("another transport", home, Transport::Tcp, false),
        ] {
            assert_eq!(nonces.is_good(start(), &nonce, who, transport), expected, "{case}");
        }
    }

    #[test]
    fn auth_021_any_altered_byte_makes_a_nonce_worthless() {
        let nonces = nonces(None, 1);
        let (now, home) = (start(), client("192.0.2.1:5000"));
        let nonce = nonces.issue(now, home, Transport::Udp);
        for place in 0..nonce.len() {
            for other in [b'A', b'B', b'/', b'"'] {
                let mut altered = nonce;
                altered[place] = other;
                let same = altered == nonce;
                assert_eq!(nonces.is_good(now, &altered, home, Transport::Udp), same, "{place}");
            }
        }
        for wrong in [&nonce[..31], b"", b"obMatJos2AAAB"] {
            assert!(!nonces.is_good(now, wrong, home, Transport::Udp));
        }
    }

    #[test]
    fn auth_022_a_nonce_expires() {
        let nonces = nonces(None, 1);
        let (now, home) = (start(), client("[2001:db8::1]:5000"));
        let nonce = nonces.issue(now, home, Transport::Udp);
        let good = |after: u64| {
            nonces.is_good(now.advanced(Duration::from_secs(after)), &nonce, home, Transport::Udp)
        };
        assert!(good(599));
        assert!(!good(600));
        let yesterday = Now { unix: UnixTime(now.unix.0 - 86_400), ..now };
        assert!(!nonces.is_good(yesterday, &nonce, home, Transport::Udp), "clock stepped back");
    }

    #[test]
    fn auth_023_nonces_survive_a_change_of_the_pool_key() {
        let (now, home) = (start(), client("192.0.2.1:5000"));
        let before = nonces(Some(KeyRing { current: PoolKey::of_test(1), previous: vec![] }), 9);
        let ring = KeyRing { current: PoolKey::of_test(2), previous: vec![PoolKey::of_test(1)] };
        let after = nonces(Some(ring), 8);
        let nonce = before.issue(now, home, Transport::Udp);
        assert!(after.is_good(now, &nonce, home, Transport::Udp));
        let fresh = after.issue(now, home, Transport::Udp);
        assert!(!before.is_good(now, &fresh, home, Transport::Udp), "another key");
    }
}
