//! A receiver over HTTP or HTTPS: lines of JSON by POST; any 2xx means that it has them.
//!
//! Whoever brings something else than lines, as `otlp` does, goes the same way: a [`Post`].

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use super::courier::Delivery;

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

    /// Brings one. It is not had unless this says so.
    pub(super) fn bring(&self, body: &[u8]) -> Result<(), String> {
        let mut request = self.agent.post(&self.wish.url).header("content-type", self.content_type);
        if let Some(token) = &self.wish.token {
            request = request.header("authorization", format!("Bearer {}", token.as_str()));
        }
        let host = &self.wish.host;
        let answer = request.send(body).map_err(|error| format!("{host}: {error}"))?;
        let status = answer.status();
        // Its words mean nothing here.
        let _ = std::io::copy(
            &mut answer.into_body().into_reader().take(MOST_SAID),
            &mut std::io::sink(),
        );
        if status.is_success() { Ok(()) } else { Err(format!("{host} answers {status}")) }
    }
}

/// The way of lines.
pub(super) struct Http(Post);

impl Http {
    pub(super) fn new(wish: HttpWish) -> Self {
        Self(Post::new(wish, "application/x-ndjson"))
    }
}

impl Delivery for Http {
    fn deliver(&mut self, lines: &[u8]) -> Result<(), String> {
        self.0.bring(lines)
    }
}
