//! `POST /v1/tokens`: access tokens for clients that speak RFC 7635.
//!
//! The answer has the members of RFC 7635 §4 (an OAuth 2.0 token response of the type "pop"). Off
//! unless the configuration says what the relays are called.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::auth::access_token::{self, TokenTerms};
use proto::auth::claims::Claims;
use serde::Serialize;

use crate::clock;
use crate::mint::lifetime;
use crate::refusal::{Refusal, Why};
use crate::shared::Shared;
use crate::web::{Asked, admit, body_refusal, has_type};

/// Answer.
#[derive(Serialize)]
struct TokenAnswer {
    /// ACCESS-TOKEN, in base64.
    access_token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: u32,
    /// USERNAME.
    kid: String,
    /// The key that signs messages, in base64.
    key: String,
    /// What it signs with.
    alg: &'static str,
}

pub(crate) async fn tokens(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, Refusal> {
    let live = shared.live();
    let caller = admit(&shared, &live, &request, None)?;
    let issue = &live.config.issue;
    let Some(server_name) = &issue.token_server_name else {
        return Err(Refusal::new(Why::NotFound, "token_server_name is not configured"));
    };
    if !has_type(request.headers(), "application/json") {
        return Err(Refusal::new(Why::MediaType, "send Content-Type: application/json"));
    }
    let body = Bytes::from_request(request, &())
        .await
        .map_err(|error| body_refusal(error.status(), &error.body_text(), Why::BadBody))?;
    let wanted = Asked::read(&body)?;
    if wanted.user.is_some() {
        return Err(Refusal::new(Why::BadBody, "the body: `user`: a token names nobody"));
    }
    let claims = Claims::write(wanted.side, &wanted.limits(), &wanted.peers()?, wanted.trace()?)
        .map_err(|error| Refusal::new(Why::BadBody, error.to_string()))?;
    let expires_in = lifetime(issue, wanted.lifetime_s)?;
    // A year is the most that can be configured.
    let expires_in = u32::try_from(expires_in).unwrap_or(u32::MAX);
    let unable = |what: &str| {
        tracing::error!("no access token can be minted: {what}");
        Refusal::new(Why::BadUser, "no token can be made now")
    };
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| unable(&error.to_string()))?;
    let (key, now) = (&issue.ring.current, clock::now().unix);
    let terms = TokenTerms { issued: now, lifetime_s: expires_in, claims: &claims };
    let minted = access_token::mint(key, server_name, &random, terms)
        .ok_or_else(|| unable("the pool's secret has another length"))?;
    if let Some(counters) = live.counters.get(caller.index()) {
        counters.minted(wanted.side);
    }
    Ok(Json(TokenAnswer {
        access_token: STANDARD.encode(&minted.token),
        token_type: "pop",
        expires_in,
        kid: minted.key_id,
        key: STANDARD.encode(minted.mac_key.bytes()),
        alg: "HMAC-SHA-1",
    })
    .into_response())
}
