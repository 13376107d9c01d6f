//! `av-edge credential`: mints and examines credentials without the service.

mod derive;
mod mras;
mod narrow;
mod token;

use std::io;

use proto::addr::Side;
use proto::auth::credential::{Name, Password, PoolName, inspect as take_apart};
use proto::auth::{Credential, Grant, GrantError, MsToken, mint};
use proto::now::UnixTime;
use serde_json::json;

use crate::cli::{CredentialCommand, InspectArgs, MintArgs};
use crate::clock;
use crate::failure::Failure;
use crate::output::print;

/// Runs a subcommand.
pub(crate) fn run(command: &CredentialCommand) -> Result<(), Failure> {
    match command {
        CredentialCommand::Mint(args) if args.oauth => token::mint(args),
        CredentialCommand::Mint(args) if args.mras => mras::mint(args),
        CredentialCommand::Mint(args) => mint_one(args),
        CredentialCommand::Inspect(args) if args.token.is_some() => token::inspect(args),
        CredentialCommand::Inspect(args) => match MsToken::inspect_text(&args.username) {
            Some(token) => mras::inspect(args, &token),
            None => inspect(args),
        },
        CredentialCommand::Derive(args) => derive::run(args),
    }
}

fn mint_one(args: &MintArgs) -> Result<(), Failure> {
    let key = pool_key::load(&args.key).map_err(Failure::setup)?.pool_key();
    let expires = clock::now().unix.plus(args.lifetime);
    let grant = Grant {
        side: args.side,
        limits: narrow::limits(args)?,
        peers: narrow::peers(args)?,
        trace: args.traceparent,
        ..Grant::new(args.user.as_deref().unwrap_or_default(), expires)
    };
    let credential = mint(&key, &grant)
        .map_err(|error| Failure::setup(format!("{}: {error}", blamed(error))))?;
    print_minted(args, &credential, grant.expires)
}

/// The argument that a name cannot hold.
fn blamed(error: GrantError) -> &'static str {
    match error {
        GrantError::User => "--user",
        GrantError::Expiry => "--lifetime",
        GrantError::Rate => "--limit",
        GrantError::Peers => "--peers",
        GrantError::Ports => "--ports",
        GrantError::TooLong => "--user, --peers, --ports",
    }
}

/// Writes a credential in the form asked for.
fn print_minted(
    args: &MintArgs,
    credential: &Credential,
    expires: UnixTime,
) -> Result<(), Failure> {
    if args.json {
        let object = json!({
            "username": credential.username,
            "credential": *credential.password,
            "expires": expires.0,
            "ttl": args.lifetime,
        });
        return print(&[object.to_string()]);
    }
    print(&[
        format!("username  {}", credential.username),
        format!("password  {}", *credential.password),
    ])
}

fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let key = args.key.as_ref().map(|path| pool_key::load(path)).transpose();
    let key = key.map_err(Failure::setup)?.map(|key| key.pool_key());
    let password = args.password.as_deref().map(password).transpose()?;
    let name = take_apart(&args.username).map_err(|error| {
        Failure::job(format!(
            "not a minted credential: {error}. It may be a user of a relay's auth.users_file, or \
             the key id of an access token, which --token opens"
        ))
    })?;
    let now = clock::now().unix;
    let mut faults = Vec::new();
    let (mut lines, expires) = match name {
        Name::Pool(name) => (pool_lines(&name), name.expires),
        Name::Rest(name) => (
            vec![
                "form         shared secret (TURN REST), expiry:user".to_owned(),
                format!("user         {}", name.user.unwrap_or("none")),
            ],
            name.expires,
        ),
    };
    lines.push(format!("expires      {}, {}", date(expires), distance(expires, now)));
    if expires <= now {
        faults.push("it has expired");
    }
    if let Some(key) = &key {
        let ours = matches!(name, Name::Pool(name) if name.key == key.id);
        lines.push(format!(
            "given key    {}: {}",
            key.id,
            if ours { "the one that signs such names" } else { "not the one named" }
        ));
        if !ours {
            faults.push("another key signs it");
        }
        if let Some(password) = password {
            let fits = ours && Password::of_pool(key, &args.username).text() == password;
            let word = if fits { "verifies" } else { "does not verify" };
            lines.push(format!("password     {word}"));
            if !fits {
                faults.push("the password is not the one that this key gives");
            }
        }
    }
    print(&lines)?;
    if faults.is_empty() { Ok(()) } else { Err(Failure::job(faults.join("; "))) }
}

fn pool_lines(name: &PoolName<'_>) -> Vec<String> {
    let side = name.claims.side.map_or("both", Side::name);
    let allocations = name
        .claims
        .limits
        .allocations
        .map_or_else(|| "as many as the relay allows".to_owned(), |n| format!("at most {n}"));
    let mut lines = vec![
        "form         pool key, expiry:kid:claims:user".to_owned(),
        format!("user         {}", name.user),
        format!("key id       {}", name.key),
        format!("side         {side}"),
        format!("allocations  {allocations}"),
    ];
    lines.extend(narrow::lines(&name.claims));
    lines
}

/// The password given, or the first line of standard input for `-`.
pub(super) fn password(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::job(format!("standard input: {error}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// How far away an instant is, in words of its two largest units.
pub(super) fn distance(then: UnixTime, now: UnixTime) -> String {
    let seconds = then.seconds_since(now).max(now.seconds_since(then));
    let units =
        [("day", 86_400, u64::MAX), ("hour", 3600, 24), ("minute", 60, 60), ("second", 1, 60)];
    let words: Vec<_> = units
        .into_iter()
        .map(|(unit, length, of)| (unit, seconds / length % of))
        .skip_while(|&(_, count)| count == 0)
        .take(2)
        .filter(|&(_, count)| count > 0)
        .map(|(unit, count)| format!("{count} {unit}{}", if count == 1 { "" } else { "s" }))
        .collect();
    match (words.is_empty(), then > now) {
        (true, _) => "this very second".to_owned(),
        (false, true) => format!("in {}", words.join(" ")),
        (false, false) => format!("{} ago", words.join(" ")),
    }
}

/// An instant in UTC, as RFC 3339 writes it; the calendar is the proleptic Gregorian one.
pub(super) fn date(time: UnixTime) -> String {
    // Years that start in March put the leap day at their end; 146,097 days are 400 years.
    let days = time.0 / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time.0 / 3600 % 24, time.0 / 60 % 60, time.0 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(UnixTime(seconds)), expected);
        }
    }

    #[test]
    fn distances_are_said_in_two_units() {
        let now = UnixTime(1_000_000);
        for (then, expected) in [
            (1_000_000, "this very second"),
            (1_000_001, "in 1 second"),
            (1_000_060, "in 1 minute"),
            (1_003_599, "in 59 minutes 59 seconds"),
            (1_090_000, "in 1 day 1 hour"),
            (996_340, "1 hour 1 minute ago"),
            (1_086_401, "in 1 day"),
        ] {
            assert_eq!(distance(UnixTime(then), now), expected);
        }
    }
}
