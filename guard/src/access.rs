//! Who may speak to the doors of operators: metrics and what stands beside them.
//!
//! Those doors are on loopback unless somebody asks for more, and then they ask for a token, or
//! for a certificate before a word is said ([`crate::tls`]). A
//! page in a browser of somebody near can reach a loopback address too, under a name of its own
//! that it lets point there: such names are refused.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hyper::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Request, Version};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::tls::Tls;

/// Where a browser says the page stands that asks (Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// The shortest token, in bytes.
const SHORTEST: usize = 16;

/// Whether a door at this address may not be open to everybody who reaches it.
pub fn needs_proof(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// What a caller must know.
#[derive(Clone)]
pub struct Token(Zeroizing<Vec<u8>>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot be read: {0}.")]
    Unreadable(#[from] std::io::Error),
    /// Everybody knows it.
    #[error("others may read this file. Take that away: chmod o= FILE.")]
    Exposed,
    /// It can be guessed, or no header can carry it.
    #[error(
        "one line of 16 or more printable characters is right, for instance from `openssl rand \
         -base64 32`."
    )]
    Unfit,
}

impl Token {
    /// The only line of a file that others may not read.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        if std::fs::metadata(path)?.permissions().mode() & 0o007 != 0 {
            return Err(TokenError::Exposed);
        }
        let bytes = Zeroizing::new(std::fs::read(path)?);
        let token = bytes.trim_ascii();
        if token.len() < SHORTEST || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Unfit);
        }
        Ok(Self(Zeroizing::new(token.to_vec())))
    }

    fn is(&self, presented: &str) -> bool {
        self.0.ct_eq(presented.as_bytes()).into()
    }
}

/// Who may come in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    token: Option<Token>,
    hosts: Vec<String>,
    tls: Option<Tls>,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The request calls the door by no name, which HTTP/1.1 does not allow (RFC 9112 §3.2).
    Nameless,
    /// It calls the door by what is neither an address nor a name that is ours.
    Host,
    /// The token is missing or wrong.
    Token,
}

/// What who calls a door by no name should know.
pub const NAMELESS: &str = "a request of HTTP/1.1 names its host; say it in Host";

impl Access {
    /// Those who know the token, if there is one, and call the door by an address, by "localhost"
    /// or by one of these names.
    pub fn new(token: Option<Token>, hosts: &[String]) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { token, hosts, tls: None }
    }

    /// The same over TLS.
    #[must_use]
    pub fn over(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// What is spoken below HTTP.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// What a URL of the door begins with.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether there is a token to be known.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether callers prove who they are.
    pub fn asks_for_proof(&self) -> bool {
        self.token.is_some() || self.tls.as_ref().is_some_and(Tls::knows_clients)
    }

    /// Judges every name that a request calls the door by, in Host and in its target, and the header
    /// Authorization.
    pub fn judge<B>(&self, request: &Request<B>) -> Result<(), Denied> {
        let headers = request.headers();
        let hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
        let mut called = hosts.chain(request.uri().authority().map(|it| it.as_str().as_bytes()));
        if !headers.contains_key(HOST) && request.version() >= Version::HTTP_11 {
            return Err(Denied::Nameless);
        }
        if !called.all(|name| self.is_ours(name)) {
            return Err(Denied::Host);
        }
        let Some(token) = &self.token else { return Ok(()) };
        let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let presented = text
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, presented)| presented.trim());
        if token.is(presented) { Ok(()) } else { Err(Denied::Token) }
    }

    /// Whether a browser sends this for a page of somebody else. Browsers say so by themselves, and no
    /// script can take it back; what is no browser says nothing.
    pub fn is_asked_elsewhere<B>(&self, request: &Request<B>) -> bool {
        let headers = request.headers();
        let sites = headers.get_all(FETCH_SITE).iter().map(HeaderValue::as_bytes);
        let hosts = headers.get_all(HOST).iter().filter_map(|host| host.to_str().ok());
        let hosts: Vec<_> = hosts.chain(request.uri().authority().map(Authority::as_str)).collect();
        let is_own = |origin: &HeaderValue| {
            origin.to_str().is_ok_and(|origin| self.is_own_origin(origin, &hosts))
        };
        let foreign = |site: &[u8]| !matches!(site, b"same-origin" | b"none");
        sites.into_iter().any(foreign) || !headers.get_all(ORIGIN).iter().all(is_own)
    }

    /// Whether an origin is one of the names that a request calls the door by, or one of ours at its
    /// usual port, where a proxy stands that calls the door otherwise.
    fn is_own_origin(&self, origin: &str, hosts: &[&str]) -> bool {
        let Some((scheme, name)) = origin.split_once("://") else { return false };
        let usual = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return false,
        };
        let bare = |host: &str| host.strip_suffix(usual).unwrap_or(host).to_ascii_lowercase();
        let name = bare(name);
        self.hosts.contains(&name) || hosts.iter().any(|host| bare(host) == name)
    }

    fn is_ours(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else { return false };
        if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_some_and(|host| host.parse::<IpAddr>().is_ok()) {
            return true;
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        name == "localhost" || self.hosts.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hyper::Uri;
    use hyper::header::HeaderName;

    use super::*;

    fn request<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
        }
        request
    }

    #[test]
    fn names_of_somebody_else_are_refused() {
        let access = Access::new(None, &["Relay.example.org".to_owned()]);
        for (host, allowed) in [
            ("127.0.0.1:9641", true),
            ("192.0.2.1", true),
            ("[::1]:9641", true),
            ("[2001:db8::1]", true),
            ("localhost", true),
            ("LOCALHOST:9641", true),
            ("relay.example.org:9641", true),
            ("rebound.example.com", false),
            ("rebound.example.com:9641", false),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com:80", false),
            ("", false),
        ] {
            let verdict = access.judge(&request([("host", host.as_bytes())]));
            assert_eq!(verdict, if allowed { Ok(()) } else { Err(Denied::Host) }, "{host}");
        }
        assert_eq!(access.judge(&request([("host", &b"\xff"[..])])), Err(Denied::Host));
    }

    #[test]
    fn every_name_counts_and_one_there_must_be() {
        let access = Access::new(None, &[]);
        let (ours, foreign) = (("host", &b"localhost"[..]), ("host", &b"rebound.example.com"[..]));
        assert_eq!(access.judge(&request([ours, foreign])), Err(Denied::Host));
        let mut absolute = request([ours]);
        *absolute.uri_mut() = Uri::from_static("http://rebound.example.com/metrics");
        assert_eq!(access.judge(&absolute), Err(Denied::Host));
        let mut nameless = request([]);
        assert_eq!(access.judge(&nameless), Err(Denied::Nameless));
        *nameless.version_mut() = Version::HTTP_10;
        assert_eq!(access.judge(&nameless), Ok(()), "no browser speaks HTTP/1.0");
    }

    #[test]
    fn pages_of_other_sites_are_told_by_what_their_browser_says() {
        let access = Access::new(None, &["relay.example.org".to_owned()]);
        let local = "127.0.0.1:9643";
        for (case, host, site, origin, elsewhere) in [
            ("no browser", local, None, None, false),
            ("typed", local, Some("none"), None, false),
            ("its own page", local, Some("same-origin"), None, false),
            (
                "the same, in a POST",
                local,
                Some("same-origin"),
                Some("http://127.0.0.1:9643"),
                false,
            ),
            ("an old browser", local, None, Some("http://127.0.0.1:9643"), false),
            (
                "at the usual port",
                "RELAY.example.org",
                None,
                Some("https://relay.example.org"),
                false,
            ),
            ("the same", "relay.example.org:443", None, Some("https://relay.example.org"), false),
            ("behind a proxy", local, None, Some("https://relay.example.org"), false),
            ("another site", local, Some("cross-site"), None, true),
            ("its neighbour", local, Some("same-site"), None, true),
            ("what is not known yet", local, Some("same-planet"), None, true),
            ("another site's script", local, None, Some("https://evil.example"), true),
            ("both", local, Some("same-origin"), Some("https://evil.example"), true),
            ("another port", local, None, Some("http://127.0.0.1:8080"), true),
            ("another port of our name", local, None, Some("http://relay.example.org:8080"), true),
            ("a frame in a sandbox", local, None, Some("null"), true),
            ("another scheme", local, None, Some("ftp://127.0.0.1:9643"), true),
            ("the name in a longer one", local, None, Some("http://127.0.0.1:9643.evil"), true),
        ] {
            let fetch = site.map(|site: &str| ("sec-fetch-site", site.as_bytes()));
            let origin = origin.map(|origin: &str| ("origin", origin.as_bytes()));
            let headers = [("host", host.as_bytes())].into_iter().chain(fetch).chain(origin);
            assert_eq!(access.is_asked_elsewhere(&request(headers)), elsewhere, "{case}");
        }
        let binary = request([("host", &b"localhost"[..]), ("origin", b"\xff")]);
        assert!(access.is_asked_elsewhere(&binary));
    }

    #[test]
    fn who_knows_the_token_comes_in() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("token");
        let write = |text: &str, mode| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("0123456789abcdef\n", 0o640);
        let access = Access::new(Some(Token::read(&file).unwrap()), &[]);
        for (header, allowed) in [
            (Some("Bearer 0123456789abcdef"), true),
            (Some("bearer  0123456789abcdef"), true),
            (Some("Bearer 0123456789abcdeF"), false),
            (Some("Bearer 0123456789abcde"), false),
            (Some("Basic 0123456789abcdef"), false),
            (Some("0123456789abcdef"), false),
            (None, false),
        ] {
            let authorization = header.map(|value: &str| ("authorization", value.as_bytes()));
            let request = request([("host", &b"127.0.0.1"[..])].into_iter().chain(authorization));
            let verdict = access.judge(&request);
            assert_eq!(verdict, if allowed { Ok(()) } else { Err(Denied::Token) }, "{header:?}");
        }
        for (text, mode) in
            [("0123456789abcdef", 0o644), ("short", 0o600), ("a b c d e f g h i", 0o600)]
        {
            write(text, mode);
            assert!(Token::read(&file).is_err(), "{text} {mode:o}");
        }
        assert!(!format!("{access:?}").contains("0123"));
    }

    #[test]
    fn doors_off_loopback_need_proof() {
        for (address, needs) in [
            ("127.0.0.1:1", false),
            ("127.9.9.9:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("10.0.0.1:1", true),
        ] {
            assert_eq!(needs_proof(address.parse().unwrap()), needs, "{address}");
        }
    }
}
