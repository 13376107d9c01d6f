//! `av-edge credential derive`: what a relay needs to know of a user's password.

use std::fmt::Write as _;

use proto::auth::UserKeys;
use proto::stun::MessageKey;

use super::password;
use crate::cli::DeriveArgs;
use crate::failure::Failure;
use crate::output::print;

/// Writes the lines of `auth.users_file` for a user whose password stands on standard input.
pub(super) fn run(args: &DeriveArgs) -> Result<(), Failure> {
    let user = &args.user;
    if user.is_empty() || user.contains(':') {
        return Err(Failure::setup("--user: a user name has at least one character and no colon"));
    }
    let prepared = |name: &str, text: &str| {
        relay::opaque_string(text).ok_or_else(|| {
            Failure::setup(format!("{name}: empty, or with characters that no client sends"))
        })
    };
    let password = prepared("the password", &password("-")?)?;
    let user = prepared("--user", user)?;
    let keys = UserKeys::of_password(&user, &args.realm, &password);
    let line = |kind: &str, key: &MessageKey| {
        key.bytes().iter().fold(format!("{}:{kind}:", *user), |mut line, byte| {
            let _ = write!(line, "{byte:02x}");
            line
        })
    };
    let lines = [("sha256", keys.sha256), ("md5", keys.md5)];
    let lines = lines.iter().filter_map(|(kind, key)| Some(line(kind, key.as_ref()?)));
    print(&lines.collect::<Vec<_>>())
}
