//! Cookies: what a client must send back before anything is kept of it (AUTH-040).
//!
//! A keyed hash over time, listener, address and hello. Whoever can show it hears what we send to
//! that address, and did so two minutes ago at most.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proto::addr::FiveTuple;
use proto::framing::dtls::{COOKIE_LEN, Hello};
use ring::{digest, hmac};

use super::session::Version;

/// A cookie is good until the end of the period after its own.
const PERIOD: Duration = Duration::from_secs(60);

/// Makes and judges the cookies of one worker.
pub(super) struct Cookies {
    key: hmac::Key,
    begin: Instant,
}

impl Cookies {
    /// Cookies under this secret; periods are counted from `begin`.
    pub(super) fn new(secret: &[u8; 32], begin: Instant) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), begin }
    }

    /// The cookie for this hello, to be answered in this version.
    pub(super) fn bake(
        &self,
        now: Instant,
        from: FiveTuple,
        (hello, version): (&Hello<'_>, Version),
    ) -> [u8; COOKIE_LEN] {
        let first = hello.firsts().next().unwrap_or_default();
        let what = substance(hello, version, &first);
        let tag = hmac::sign(&self.key, &recipe(self.period(now), from, &what));
        let mut cookie = [0; COOKIE_LEN];
        cookie.copy_from_slice(tag.as_ref());
        cookie
    }

    /// The cookie that this hello carries and the hello before it, if the cookie is one of ours
    /// and not too old.
    pub(super) fn judge(
        &self,
        now: Instant,
        from: FiveTuple,
        (hello, version): (&Hello<'_>, Version),
    ) -> Option<([u8; COOKIE_LEN], Vec<u8>)> {
        let shown = hello.cookie()?;
        let cookie = shown.try_into().ok()?;
        let period = self.period(now);
        let fits = |first: &Vec<u8>| {
            let what = substance(hello, version, first);
            [Some(period), period.checked_sub(1)]
                .into_iter()
                .flatten()
                .any(|period| hmac::verify(&self.key, &recipe(period, from, &what), shown).is_ok())
        };
        hello.firsts().find(fits).map(|first| (cookie, first))
    }

    fn period(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begin).as_secs() / PERIOD.as_secs()
    }
}

/// What of a hello the cookie stands for. In DTLS 1.3 the first hello is a part of the handshake
/// that is signed, so it must be the very one; in DTLS 1.2 it is forgotten, and clients that
/// offered both versions come back with another.
fn substance(hello: &Hello<'_>, version: Version, first: &[u8]) -> [u8; 32] {
    match version {
        Version::V12 => *hello.random(),
        Version::V13 => {
            let mut hash = [0; 32];
            hash.copy_from_slice(digest::digest(&digest::SHA256, first).as_ref());
            hash
        }
    }
}

/// What is hashed with the secret.
fn recipe(period: u64, from: FiveTuple, what: &[u8; 32]) -> [u8; 60] {
    let ip = match from.client.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut recipe = [0; 60];
    recipe[..8].copy_from_slice(&period.to_be_bytes());
    recipe[8..10].copy_from_slice(&from.listener.0.to_be_bytes());
    recipe[10..26].copy_from_slice(&ip.octets());
    recipe[26..28].copy_from_slice(&from.client.port().to_be_bytes());
    recipe[28..].copy_from_slice(what);
    recipe
}

#[cfg(test)]
mod tests {
    use proto::addr::{ClientAddr, ListenerId};

    use super::*;

    /// As OpenSSL 3 sends them: without a cookie, and with one of a server of its own.
    const FIRST: &[u8] = include_bytes!("../../../tests/fuzz/corpus/dtls/openssl_first");
    const SECOND: &[u8] = include_bytes!("../../../tests/fuzz/corpus/dtls/openssl_second");

    /// Where the cookie's length stands, as there is no session to resume.
    const COOKIE_AT: usize = 25 + 2 + 32 + 1;

    fn client(listener: u16, address: &str) -> FiveTuple {
        let client = ClientAddr::new(address.parse().unwrap());
        FiveTuple { listener: ListenerId(listener), client }
    }

    #[test]
    fn auth_040_a_cookie_is_good_for_its_client_and_for_a_while() {
        let begin = crate::clock::Clock::new().last().mono;
        let cookies = Cookies::new(&[7; 32], begin);
        let first = Hello::parse(FIRST).unwrap();
        let client_a = client(1, "192.0.2.1:5000");
        let cookie = cookies.bake(begin, client_a, (&first, Version::V12));
        // The second hello, with our cookie in place of the other server's.
        let (head, rest) = SECOND.split_at(COOKIE_AT);
        let [length, rest @ ..] = rest else { unreachable!() };
        let rest = &rest[usize::from(*length)..];
        let mut second = [head, &[32], &cookie, rest].concat();
        let grown = u16::try_from(second.len() - SECOND.len()).unwrap();
        for place in [11, 15, 23] {
            // The lengths of the record, of the message and of its only piece.
            let length = u16::from_be_bytes([second[place], second[place + 1]]) + grown;
            second[place..place + 2].copy_from_slice(&length.to_be_bytes());
        }
        let second = Hello::parse(&second).unwrap();
        let after = |seconds| begin + Duration::from_secs(seconds);
        for (case, at, from, good) in [
            ("at once", after(0), client_a, true),
            ("in the next period", after(119), client_a, true),
            ("later", after(120), client_a, false),
            ("another port", after(0), client(1, "192.0.2.1:5001"), false),
            ("another address", after(0), client(1, "192.0.2.2:5000"), false),
            ("another listener", after(0), client(2, "192.0.2.1:5000"), false),
        ] {
            let judged = cookies.judge(at, from, (&second, Version::V12));
            assert_eq!(judged, good.then(|| (cookie, FIRST.to_vec())), "{case}");
        }
        assert_eq!(cookies.judge(begin, client_a, (&first, Version::V12)), None, "none shown");
        let foreign = Hello::parse(SECOND).unwrap();
        assert_eq!(
            cookies.judge(begin, client_a, (&foreign, Version::V12)),
            None,
            "of another server"
        );
        let elsewhere = Cookies::new(&[8; 32], begin);
        assert_eq!(
            elsewhere.judge(begin, client_a, (&second, Version::V12)),
            None,
            "another secret"
        );
    }
}
