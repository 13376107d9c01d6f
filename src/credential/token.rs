//! Access tokens of RFC 7635, minted with and opened by the pool key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::addr::Side;
use proto::auth::TokenKey;
use proto::auth::access_token::{self, SERVER_NAME_MAX, TokenTerms};
use proto::auth::claims::Claims;
use proto::now::UnixTime;
use serde_json::json;

use super::{blamed, date, distance, narrow};
use crate::cli::{InspectArgs, MintArgs};
use crate::clock;
use crate::failure::Failure;
use crate::output::print;

/// Mints a token.
pub(super) fn mint(args: &MintArgs) -> Result<(), Failure> {
    let server_name = args.server_name.as_deref().unwrap_or_default();
    if !(1..=SERVER_NAME_MAX).contains(&server_name.len()) {
        return Err(Failure::setup("--server-name: a server name has 1 to 255 bytes"));
    }
    let key = pool_key::load(&args.key).map_err(Failure::setup)?.pool_key();
    let lifetime = u32::try_from(args.lifetime)
        .map_err(|_| Failure::setup("--lifetime: a token lives at most 4294967295 seconds"))?;
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::job(format!("no random numbers: {error}")))?;
    let claims =
        Claims::write(args.side, &narrow::limits(args)?, &narrow::peers(args)?, args.traceparent)
            .map_err(|error| Failure::setup(format!("{}: {error}", blamed(error))))?;
    let issued = clock::now().unix;
    let terms = TokenTerms { issued, lifetime_s: lifetime, claims: &claims };
    let minted = access_token::mint(&key, server_name, &random, terms)
        .ok_or_else(|| Failure::job("the pool's secret has another length"))?;
    let [token, mac_key] = [&minted.token[..], minted.mac_key.bytes()].map(|b| STANDARD.encode(b));
    if args.json {
        let object = json!({
            "access_token": token,
            "token_type": "pop",
            "expires_in": lifetime,
            "kid": minted.key_id,
            "key": mac_key,
            "alg": "HMAC-SHA-1",
        });
        return print(&[object.to_string()]);
    }
    print(&[
        format!("username      {}", minted.key_id),
        format!("access token  {token}"),
        format!("mac key       {mac_key}"),
    ])
}

/// Opens a token and says what it permits.
pub(super) fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let (Some(path), Some(server_name), Some(text)) = (&args.key, &args.server_name, &args.token)
    else {
        return Err(Failure::setup("--token needs --key and --server-name"));
    };
    let key = pool_key::load(path).map_err(Failure::setup)?.pool_key();
    let key = TokenKey::of_pool(&key)
        .ok_or_else(|| Failure::job("the pool's secret has another length"))?;
    let sealed = STANDARD
        .decode(text.trim())
        .map_err(|error| Failure::job(format!("the token is not base64: {error}")))?;
    let mut faults = Vec::new();
    let mut lines = vec![
        "form         access token (RFC 7635)".to_owned(),
        format!("key id       {}", args.username),
        format!("given key    {}", key.id()),
    ];
    if args.username != key.id() {
        faults.push("another key sealed it, if the user name is right");
    }
    let Some(token) = key.open(server_name, &sealed) else {
        print(&lines)?;
        return Err(Failure::job("the token is broken, or of another key or server name"));
    };
    let now = clock::now().unix;
    let issued = UnixTime(token.stamp.0 >> 16);
    let expires = issued.plus(token.lifetime_s.into());
    lines.push(format!("server name  {server_name}"));
    lines.push(format!("mac key      {} bytes", token.mac_key.bytes().len()));
    lines.push(format!("issued       {}, {}", date(issued), distance(issued, now)));
    lines.push(format!("expires      {}, {}", date(expires), distance(expires, now)));
    if let Some(claims) = Claims::read(&token.claims).filter(|_| !token.claims.is_empty()) {
        lines.push(format!("side         {}", claims.side.map_or("both", Side::name)));
        lines.extend(claims.limits.allocations.map(|n| format!("allocations  at most {n}")));
        lines.extend(narrow::lines(&claims));
    }
    if token.left(now).is_none() {
        faults.push("it is not good now");
    }
    print(&lines)?;
    if faults.is_empty() { Ok(()) } else { Err(Failure::job(faults.join("; "))) }
}
