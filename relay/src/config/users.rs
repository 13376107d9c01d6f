//! The file of named users: who, and the password or what was derived from it.

use std::collections::BTreeMap;
use std::path::Path;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::Profile;
use proto::auth::credential::USERNAME_MAX;
use proto::auth::{UserKeys, Users};
use proto::stun::MessageKey;
use zeroize::Zeroizing;

use super::error::Problem;
use super::secrets;

const KEY: &str = "auth.users_file";

/// The shortest password, in bytes. Who hears a client can try passwords at leisure.
const SHORTEST_PASSWORD: usize = 8;

/// Reads the users of a realm; only keys are kept.
pub(super) fn load(realm: &str, path: &Path) -> Result<Users, Problem> {
    let text = secrets::read(KEY, path)?;
    let shown = path.display().to_string();
    let refuse = |why: &str| Problem::text(KEY, &shown, why);
    let mut users: BTreeMap<String, UserKeys> = BTreeMap::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |why: &str| refuse(&format!("line {}: {why}", index + 1));
        let (name, keys) = user(realm, line).map_err(|why| at(&why))?;
        let known = users.entry(name).or_default();
        for (known, new) in [(&mut known.md5, keys.md5), (&mut known.sha256, keys.sha256)] {
            if new.is_some() && known.is_some() {
                return Err(at("the user has such a key already. One line a key is right."));
            }
            *known = new.or_else(|| known.take());
        }
    }
    if users.is_empty() {
        return Err(refuse("no user in it. A line is user:password, or user:sha256:HEX."));
    }
    Ok(Users::new(realm, users))
}

/// One line: the name, and what is given of its keys.
fn user(realm: &str, line: &str) -> Result<(String, UserKeys), String> {
    let (name, given) = line
        .split_once(':')
        .ok_or("there is no colon. user:password is right, or user:sha256:HEX.")?;
    let name = opaque_string(name)
        .ok_or("the user name is empty, or has characters that no client sends.")?;
    if name.len() > USERNAME_MAX {
        return Err(format!("the user name is longer than {USERNAME_MAX} bytes."));
    }
    let name = String::from(name.as_str());
    let keys = match given.split_once(':') {
        Some(("sha256", digits)) => UserKeys { sha256: Some(key::<32>(digits)?), md5: None },
        Some(("md5", digits)) => UserKeys { md5: Some(key::<16>(digits)?), sha256: None },
        _ => {
            let password = opaque_string(given)
                .ok_or("the password is empty, or has characters that no client sends.")?;
            if password.len() < SHORTEST_PASSWORD {
                return Err(format!(
                    "a password of {} bytes can be guessed. {SHORTEST_PASSWORD} or more are right, \
                     better 16 from `openssl rand -base64 12`.",
                    password.len()
                ));
            }
            UserKeys::of_password(&name, realm, &password)
        }
    };
    Ok((name, keys))
}

/// A user name or password as clients prepare it before they hash it (RFC 8265 §4.2); `None` if
/// no client can send it.
pub fn opaque_string(text: &str) -> Option<Zeroizing<String>> {
    let prepared = OpaqueString::new().enforce(text).ok()?;
    Some(Zeroizing::new(prepared.into_owned()))
}

/// A key in hexadecimal digits.
fn key<const N: usize>(digits: &str) -> Result<MessageKey, String> {
    let wrong = || {
        let hash = if N == 32 { "SHA-256" } else { "MD5" };
        format!(
            "{} hexadecimal digits are right, the {hash} of user:realm:password, as \
             `av-edge credential derive` writes them.",
            2 * N
        )
    };
    let mut bytes = Zeroizing::new([0; N]);
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().as_chunks::<2>().0) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    MessageKey::raw(&*bytes).ok_or_else(wrong)
}
