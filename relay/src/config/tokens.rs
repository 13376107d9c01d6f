//! Keys that third parties seal access tokens with (RFC 7635).

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::auth::access_token::SERVER_NAME_MAX;
use proto::auth::{KeyRing, Secret, TokenCipher, TokenKey, TokenKeys};
use zeroize::Zeroizing;

use super::error::Problem;
use super::file;
use super::secrets;

/// Longest name of a key, bytes: what clients can send as USERNAME.
const KID_MAX: usize = 508;

/// The keys, if tokens are taken at all.
pub(super) fn tokens(
    realm: &str,
    auth: &file::Auth,
    directory: &Path,
    ring: Option<&KeyRing>,
) -> Result<Option<TokenKeys>, Problem> {
    let server_name = auth.server_name.as_deref().unwrap_or(realm);
    if !(1..=SERVER_NAME_MAX).contains(&server_name.len())
        || server_name.chars().any(char::is_control)
    {
        let why = "a server name has 1 to 255 bytes, none of them a control character. The DNS \
                   name clients use is right.";
        return Err(Problem::text("auth.server_name", server_name, why));
    }
    let mut keys: Vec<TokenKey> = Vec::new();
    if auth.pool_tokens {
        let Some(ring) = ring else {
            let why = "needs pool.key, which such tokens are sealed with.";
            return Err(Problem::new("auth.pool_tokens", &true, why));
        };
        let pool = std::iter::once(&ring.current).chain(&ring.previous);
        keys.extend(pool.filter_map(TokenKey::of_pool));
    }
    for (index, entry) in auth.oauth.iter().enumerate() {
        let at = |name: &str| format!("auth.oauth[{index}].{name}");
        let kid = &entry.kid;
        if kid.is_empty() || kid.len() > KID_MAX || kid.chars().any(char::is_control) {
            let why = "a key id has 1 to 508 bytes, none of them a control character.";
            return Err(Problem::text(&at("kid"), kid, why));
        }
        if keys.iter().any(|key| key.id() == kid) {
            let why = "another key has this id. Clients choose the key by it.";
            return Err(Problem::text(&at("kid"), kid, why));
        }
        keys.push(key(entry, &at, directory)?);
    }
    let server_name = server_name.to_owned();
    Ok((!keys.is_empty()).then_some(TokenKeys { server_name, keys }))
}

/// One key of the configuration.
fn key(
    entry: &file::Oauth,
    at: &impl Fn(&str) -> String,
    directory: &Path,
) -> Result<TokenKey, Problem> {
    let cipher = match entry.cipher.as_deref() {
        None => TokenCipher::A256Gcm,
        Some(name) => {
            TokenCipher::ALL.into_iter().find(|cipher| cipher.name() == name).ok_or_else(|| {
                Problem::text(&at("cipher"), name, "\"A256GCM\" and \"A128GCM\" are known.")
            })?
        }
    };
    let (place, text) = match (&entry.key, &entry.key_file) {
        (Some(key), None) => (at("key"), Zeroizing::new(key.as_str().to_owned())),
        (None, Some(path)) => {
            let place = at("key_file");
            let text = secrets::read(&place, &directory.join(path))?;
            (place, text)
        }
        (Some(_), Some(_)) => {
            return Err(Problem::at(&at("key"), "given beside key_file. One of them is right."));
        }
        (None, None) => {
            let why = "missing. Give the key in base64 here, or in a file as key_file.";
            return Err(Problem::at(&at("key"), why));
        }
    };
    let bytes = STANDARD.decode(text.trim()).map(Secret::new).ok();
    bytes.and_then(|bytes| TokenKey::new(&entry.kid, cipher, &bytes)).ok_or_else(|| {
        let (name, length) = (cipher.name(), cipher.key_len());
        let why = format!(
            "not a key of {name}: {length} bytes in base64 are right, for instance from \
             `openssl rand -base64 {length}`."
        );
        Problem::at(&place, &why)
    })
}
