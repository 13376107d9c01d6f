//! A service on loopback, and the questions of its callers.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use auth_service::{AuthService, Config};
use pool_key::PrivateKey;
use proto::auth::KeyRing;
use proto::now::UnixTime;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// The key of the caller "web", which may ask as often as it likes.
pub(crate) const KEY: &str = "0123456789abcdef+/=";

/// The key of the caller "slow": two requests at once, then one every 1000 s.
pub(crate) const OTHER_KEY: &str = "fedcba9876543210-._~";

/// A running service and the keys it was given.
pub(crate) struct Service {
    pub(crate) auth: AuthService,
    pub(crate) ring: KeyRing,
    bearer: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// Null when the body is no JSON.
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Answer {
    /// A header, empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

impl Service {
    /// With a new key, and more settings.
    pub(crate) fn start(settings: &str) -> Self {
        let current = PrivateKey::generate().pool_key();
        Self::with_ring(settings, KeyRing { current, previous: Vec::new() })
    }

    /// With these keys.
    pub(crate) fn with_ring(settings: &str, ring: KeyRing) -> Self {
        let text = format!(
            "listen = \"127.0.0.1:0\"\n\
             uris = [\"turn:192.0.2.1:3478?transport=udp\"]\n\
             {settings}\n\
             [[callers]]\nname = \"web\"\nkey = \"{KEY}\"\nrate_per_s = 1e6\nburst = 1000000\n\
             [[callers]]\nname = \"slow\"\nkey = \"{OTHER_KEY}\"\nrate_per_s = 0.001\nburst = 2\n"
        );
        let config = Config::from_toml(&text, "test", Some(ring.clone())).expect("a valid text");
        let auth = auth_service::start(config).expect("loopback has free ports");
        Self { auth, ring, bearer: format!("Bearer {KEY}") }
    }

    /// The Authorization value of the caller "web".
    pub(crate) fn bearer(&self) -> &str {
        &self.bearer
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        ask(&self.auth.url(), method, path, headers, body)
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers, "")
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask("POST", path, headers, body)
    }

    /// As the caller "web", with the JSON form.
    pub(crate) fn mint(&self, request: &Value) -> Answer {
        let headers = [("Authorization", self.bearer()), ("Content-Type", "application/json")];
        self.post("/v1/credentials", &headers, &request.to_string())
    }

    /// How many connections were turned away for this reason.
    pub(crate) fn turned_away(&self, reason: &str) -> u64 {
        let name = format!("av_edge_auth_connections_refused_total{{reason=\"{reason}\"}} ");
        let page = self.metrics();
        let count = page.lines().find_map(|line| line.strip_prefix(&name));
        count.expect("every reason is shown").parse().expect("a number")
    }

    /// The metrics page.
    pub(crate) fn metrics(&self) -> String {
        let addr = self.auth.metrics_addr().expect("metrics are configured");
        ask(&format!("http://{addr}"), "GET", "/metrics", &[], "").text
    }
}

/// A connection from a network of its own, which has 127.NETWORK.0.0 as its first addresses.
pub(crate) fn stranger(addr: SocketAddr, network: u8) -> TcpStream {
    stranger_from(addr, [127, 100 + network, 0, 1])
}

/// A connection from this address.
pub(crate) fn stranger_from(addr: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&addr.into()).expect("the service listens");
    socket.into()
}

/// Waits until something is so.
#[expect(clippy::disallowed_methods, reason = "what is counted is seen by asking again")]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = instant();
    while !is_so() {
        assert!(instant() - begin < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks one question.
pub(crate) fn ask(
    url: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .proxy(None)
        .build()
        .into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = if method == "POST" {
        agent.run(request.body(body.to_owned()).expect("a valid request"))
    } else {
        agent.run(request.body(()).expect("a valid request"))
    }
    .expect("an answer");
    let text = response.body_mut().read_to_string().expect("a text");
    Answer {
        status: response.status().as_u16(),
        headers: response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect(),
        json: serde_json::from_str(&text).unwrap_or_default(),
        text,
    }
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "the only reader of clocks in these tests")]
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs())
}

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the only reader of clocks in these tests")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}
