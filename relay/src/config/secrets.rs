//! What credentials are verified with. Secrets are never shown in messages.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proto::auth::{Authority, KeyRing, Secret};
use zeroize::Zeroizing;

use super::check;
use super::error::Problem;
use super::file;

/// The shortest shared secret, in bytes.
const SHORTEST_SECRET: usize = 16;

pub(super) fn authority(
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
    if ring.is_none() && rest_secrets.is_empty() {
        let why = "missing, and no shared secret either: nobody could log in. Make a key with \
                   `av-edge key generate`, or set auth.rest_secrets.";
        return Err(Problem::at("pool.key", why));
    }
    let max_lifetime_s =
        check::number("auth.max_lifetime_s", auth.max_lifetime_s, 86_400, 60..=15_552_000)?;
    Ok(Authority { ring, rest_secrets, max_lifetime_s })
}

fn load(pool: &file::Pool, key: &Path, directory: &Path) -> Result<KeyRing, Problem> {
    let previous: Vec<_> = pool.previous.iter().map(|path| directory.join(path)).collect();
    pool_key::load_ring(key, &previous).map_err(|error| Problem::at("pool", &error.to_string()))
}

/// Secrets of a file: one a line, the current one first.
fn secret_file(path: &Path) -> Result<Vec<Secret>, Problem> {
    let key = "auth.rest_secret_file";
    let shown = path.display().to_string();
    let unreadable =
        |error: std::io::Error| Problem::text(key, &shown, &format!("cannot be read: {error}."));
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o007 != 0 {
        let why = "others may read this file. Take that away: chmod o= FILE.";
        return Err(Problem::text(key, &shown, why));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets = lines.map(|line| rest_secret(key, line)).collect::<Result<Vec<_>, _>>()?;
    if secrets.is_empty() {
        return Err(Problem::text(key, &shown, "empty. It holds one secret a line."));
    }
    Ok(secrets)
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
