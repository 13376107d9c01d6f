//! A receiver over HTTP or HTTPS: lines of JSON by POST; any 2xx means that it has them.
//!
//! 400, 413 and 422 are about what was brought; any other answer is about the receiver, or about
//! who brings. Whoever brings something else than lines, as `otlp` does, goes the same way: a [`Post`].

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::crypto::ring::default_provider;
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use super::courier::{Delivery, Failure};
use crate::clock;

/// How long a receiver may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much is read of what it says, so that the connection can be used again.
const MOST_SAID: u64 = 64 << 10;

/// What the operator wishes.
#[derive(Clone)]
pub(crate) struct HttpWish {
    /// Where to.
    pub(crate) url: String,
    /// The host in it.
    pub(crate) host: String,
    /// The port in it, or that of its scheme.
    pub(crate) port: u16,
    /// What proves who brings records.
    pub(crate) token: Option<Zeroizing<String>>,
    /// Whom a certificate must come from.
    pub(crate) authorities: Arc<Vec<Certificate<'static>>>,
}

impl fmt::Debug for HttpWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpWish").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Brings bodies to a URL.
pub(super) struct Post {
    agent: Agent,
    wish: HttpWish,
    /// What the bodies are.
    content_type: &'static str,
}

impl Post {
    pub(super) fn new(wish: HttpWish, content_type: &'static str) -> Self {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
            .root_certs(RootCerts::Specific(Arc::clone(&wish.authorities)))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("av-edge/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Self { agent, wish, content_type }
    }

    /// Brings one. It is not had unless this says so. What an answer means that does not is for
    /// the caller to judge.
    pub(super) fn bring(
        &self,
        body: &[u8],
        judge: impl FnOnce(StatusCode) -> Judgement,
    ) -> Result<(), Failure> {
        let mut request = self.agent.post(&self.wish.url).header("content-type", self.content_type);
        if let Some(token) = &self.wish.token {
            request = request.header("authorization", format!("Bearer {}", token.as_str()));
        }
        let host = &self.wish.host;
        let sent = request.send(body);
        let answer = sent.map_err(|error| Failure::Away(format!("{host}: {error}"), None))?;
        let status = answer.status();
        let asked = asked(answer.headers());
        // Its words mean nothing here.
        let _ = std::io::copy(
            &mut answer.into_body().into_reader().take(MOST_SAID),
            &mut std::io::sink(),
        );
        if status.is_success() {
            return Ok(());
        }
        let why = format!("{host} answers {status}");
        Err(match judge(status) {
            Judgement::Away => Failure::Away(why, asked),
            Judgement::Refused => Failure::Refused(why),
            Judgement::Final => Failure::Final(why),
        })
    }
}

/// What an answer means, as [`Failure`] has it.
pub(super) enum Judgement {
    Away,
    Refused,
    Final,
}

/// How long a receiver wants to be left alone (Retry-After, RFC 9110 §10.2.3).
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let until = until.duration_since(UNIX_EPOCH).ok()?;
    Some(until.saturating_sub(Duration::from_millis(clock::unix_ms())))
}

/// The way of lines.
pub(super) struct Http(Post);

impl Http {
    pub(super) fn new(wish: HttpWish) -> Self {
        Self(Post::new(wish, "application/x-ndjson"))
    }
}

impl Delivery for Http {
    fn deliver(&mut self, lines: &[u8]) -> Result<(), Failure> {
        self.0.bring(lines, |status| match status {
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Judgement::Refused,
            _ => Judgement::Away,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_asks_for_time_in_seconds_or_by_a_date() {
        let asked = |text: &str| {
            asked(&HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]))
        };
        let date = |ms: u64| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms));
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        for nonsense in ["", "-1", "1.5", "soon", "Fri, 99 Dec 1999 23:59:59 GMT"] {
            assert_eq!(asked(nonsense), None, "{nonsense:?}");
        }
        let minute = asked(&date(clock::unix_ms() + 60_000)).unwrap();
        assert!((58..=60).contains(&minute.as_secs()), "{minute:?}");
        assert_eq!(asked("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO), "it is over");
        assert_eq!(super::asked(&HeaderMap::new()), None);
    }
}
