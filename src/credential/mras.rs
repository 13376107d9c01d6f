//! Tokens of A/V authentication (MRAS), minted with and verified by the pool key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::addr::Side;
use proto::auth::MsToken;
use proto::auth::ms_token::{self, TokenGrant};

use super::{date, distance, password, print_minted};
use crate::cli::{InspectArgs, MintArgs};
use crate::clock;
use crate::failure::Failure;
use crate::output::print;

/// Mints a token.
pub(super) fn mint(args: &MintArgs) -> Result<(), Failure> {
    let identity = args.user.as_deref().unwrap_or_default();
    let scheme = identity.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("sip" | "sips")) {
        return Err(Failure::setup("--user: with --mras a SIP URI, as in sip:alice@example.com"));
    }
    let key = pool_key::load(&args.key).map_err(Failure::setup)?.pool_key();
    let mut salt = [0; 2];
    getrandom::fill(&mut salt)
        .map_err(|error| Failure::job(format!("no random numbers: {error}")))?;
    let expires = clock::now().unix.plus(args.lifetime);
    let grant = TokenGrant { identity, expires, side: args.side };
    let minted = ms_token::mint(&key, &grant, u16::from_be_bytes(salt))
        .ok_or_else(|| Failure::job("the pool's secret makes no token"))?;
    print_minted(args, &minted.text(), expires)
}

/// Says what a token permits, and with a key whether it signed it.
pub(super) fn inspect(args: &InspectArgs, token: &MsToken) -> Result<(), Failure> {
    let key = args.key.as_ref().map(|path| pool_key::load(path)).transpose();
    let key = key.map_err(Failure::setup)?.map(|key| key.pool_key());
    let given = args.password.as_deref().map(password).transpose()?;
    let now = clock::now().unix;
    let mut faults = Vec::new();
    let mut lines = vec![
        "form         token of A/V authentication (MRAS)".to_owned(),
        format!("client id    {}...", token.client),
        format!("key id       {:02x}...", token.key),
        format!("side         {}", token.side.map_or("both", Side::name)),
        format!("expires      {}, {}", date(token.expires), distance(token.expires, now)),
    ];
    if token.expires <= now {
        faults.push("it has expired");
    }
    if let Some(key) = &key {
        let ours = ms_token::bytes_of(&args.username)
            .filter(|username| ms_token::verify(key, username).is_some());
        let word = if ours.is_some() { "the one that signed it" } else { "did not sign it" };
        lines.push(format!("given key    {}: {word}", key.id));
        if ours.is_none() {
            faults.push("another key signed it");
        }
        if let Some(given) = given {
            let own = ours.map(|username| STANDARD.encode(*ms_token::password(key, &username)));
            let fits = own.as_deref() == Some(given.as_str());
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
