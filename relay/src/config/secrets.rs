//! What credentials are verified with. Secrets are never shown in messages.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proto::auth::{Authority, KeyRing, Secret};
use zeroize::Zeroizing;

use super::check;
use super::error::Problem;
use super::file;
use super::{tokens, users};

/// The shortest shared secret, in bytes.
const SHORTEST_SECRET: usize = 16;

pub(super) fn authority(
    realm: &str,
    pool: &file::Pool,
    auth: &file::Auth,
    directory: &Path,
    keys: Option<KeyRing>,
) -> Result<Authority, Problem> {
    let ring = match (keys, &pool.key) {
        (Some(ring), _) => Some(ring),
        (None, Some(key)) => Some(load(pool, &directory.join(key), directory)?),
        (None, None) if pool.previous.is_empty() => None,
        (None, None) => {
            let why = "missing, while pool.previous names keys. Name the current one.";
            return Err(Problem::at("pool.key", why));
        }
    };
    let mut rest_secrets = Vec::new();
    for (index, secret) in auth.rest_secrets.iter().enumerate() {
        rest_secrets.push(rest_secret(&format!("auth.rest_secrets[{index}]"), secret)?);
    }
    if let Some(path) = &auth.rest_secret_file {
        rest_secrets.extend(secret_file(&directory.join(path))?);
    }
    let users = auth.users_file.as_ref().map(|path| users::load(realm, &directory.join(path)));
    let users = users.transpose()?;
    let tokens = tokens::tokens(realm, auth, directory, ring.as_ref())?;
    if ring.is_none() && rest_secrets.is_empty() && users.is_none() && tokens.is_none() {
        let why = "missing, and neither shared secrets, users nor keys of tokens are given: nobody \
                   could log in. Make a key with `av-edge key generate`, or set \
                   auth.rest_secrets or auth.users_file.";
        return Err(Problem::at("pool.key", why));
    }
    let max_lifetime_s =
        check::number("auth.max_lifetime_s", auth.max_lifetime_s, 86_400, 60..=15_552_000)?;
    Ok(Authority { ring, rest_secrets, users, tokens, max_lifetime_s })
}

fn load(pool: &file::Pool, key: &Path, directory: &Path) -> Result<KeyRing, Problem> {
    let previous: Vec<_> = pool.previous.iter().map(|path| directory.join(path)).collect();
    pool_key::load_ring(key, &previous).map_err(|error| Problem::at("pool", &error.to_string()))
}

/// Secrets of a file: one a line, the current one first.
fn secret_file(path: &Path) -> Result<Vec<Secret>, Problem> {
    let key = "auth.rest_secret_file";
    let text = read(key, path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets = lines.map(|line| rest_secret(key, line)).collect::<Result<Vec<_>, _>>()?;
    if secrets.is_empty() {
        let shown = path.display().to_string();
        return Err(Problem::text(key, &shown, "empty. It holds one secret a line."));
    }
    Ok(secrets)
}

/// Says so if everybody may read a configuration that holds secrets itself.
pub(super) fn warn_of_readers(name: &str, path: Option<&Path>, auth: &file::Auth) {
    let holds_some =
        auth.rest_secrets.iter().next().is_some() || auth.oauth.iter().any(|it| it.key.is_some());
    let mode = path.and_then(|path| Some(std::fs::metadata(path).ok()?.permissions().mode()));
    if holds_some && mode.is_some_and(|mode| mode & 0o007 != 0) {
        tracing::warn!(
            "{name} holds secrets and everybody on this host can read it; chmod o= it, or move them \
             into files of their own (auth.rest_secret_file, key_file)"
        );
    }
}

/// The text of a file that `key` names and nobody else may read.
pub(super) fn read(key: &str, path: &Path) -> Result<Zeroizing<String>, Problem> {
    let shown = path.display().to_string();
    let unreadable =
        |error: std::io::Error| Problem::text(key, &shown, &format!("cannot be read: {error}."));
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o007 != 0 {
        let why = "others may read this file. Take that away: chmod o= FILE.";
        return Err(Problem::text(key, &shown, why));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(unreadable)
}

fn rest_secret(key: &str, secret: &str) -> Result<Secret, Problem> {
    if secret.len() < SHORTEST_SECRET {
        let why = format!(
            "a secret of {} bytes can be guessed. {SHORTEST_SECRET} or more are right, for \
             instance from `openssl rand -base64 32`.",
            secret.len()
        );
        return Err(Problem::at(key, &why));
    }
    Ok(Secret::new(secret.as_bytes().to_vec()))
}
