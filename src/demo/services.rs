//! Relay and credential service in one process, with a pool key that never leaves memory.
//!
//! The embedded default: both are configured by the same texts an operator would write, and
//! credentials are asked for over HTTP as any application's server would.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use auth_service::AuthService;
use client::Credentials;
use pool_key::PrivateKey;
use proto::auth::KeyRing;
use relay::{Observer, Relay};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::host;
use crate::failure::Failure;

/// The usual port of TURN (RFC 8656 §6).
const PORT: u16 = 3478;

/// The usual address of metrics.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9641);

/// The usual address of the operators' page.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9643);

/// Relayed ports.
pub(crate) const RELAYED_PORTS: RangeInclusive<u16> = 50_000..=59_999;

/// How long a credential of the call at start is good, in seconds.
const CALL_S: u64 = 600;

/// How long a credential is good that somebody pastes elsewhere, in seconds.
const DAY_S: u64 = 86_400;

/// The running pair.
pub(crate) struct Services {
    relay: Relay,
    auth: AuthService,
    minter: Minter,
    key: String,
    relayed_ip: IpAddr,
    moved: Vec<String>,
}

/// Asks the credential service, over HTTP.
#[derive(Clone)]
pub(crate) struct Minter {
    url: String,
    bearer: String,
}

/// What the credential service answers, as `RTCPeerConnection` takes it.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Configuration {
    /// One entry for each kind of credential; ours has one.
    #[serde(rename = "iceServers")]
    pub(crate) ice_servers: Vec<IceServer>,
}

/// A relay and a credential for it.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct IceServer {
    /// TURN URIs.
    pub(crate) urls: Vec<String>,
    /// The user name.
    pub(crate) username: String,
    /// The password.
    pub(crate) credential: String,
}

impl Services {
    /// Starts both. `port` is insisted on when given.
    pub(crate) fn start(port: Option<u16>, metrics: Option<SocketAddr>) -> Result<Self, Failure> {
        let key = PrivateKey::generate();
        let ring = KeyRing { current: key.pool_key(), previous: Vec::new() };
        let addresses = addresses();
        let relayed_ip = addresses[0];
        let mut moved = Vec::new();

        let wanted = port.unwrap_or(PORT);
        if RELAYED_PORTS.contains(&wanted) {
            let (first, last) = RELAYED_PORTS.into_inner();
            return Err(Failure::setup(format!(
                "--port {wanted}: {first}-{last} are the relayed ports; name one outside"
            )));
        }
        let port = host::udp_port(&addresses, wanted, port.is_some()).map_err(|error| {
            Failure::setup(format!("--port {wanted}: UDP port {wanted} cannot be used: {error}"))
        })?;
        note(&mut moved, "UDP port", wanted, port);
        let wanted = metrics.unwrap_or(METRICS);
        // Both are held until both are known, so that they differ.
        let held = host::tcp_listener(wanted, metrics.is_some())
            .map_err(|error| Failure::setup(format!("--metrics {wanted}: {error}")))?;
        let metrics = held.local_addr().map_err(Failure::job)?;
        note(&mut moved, "TCP port", wanted.port(), metrics.port());
        let admin = host::tcp_listener(ADMIN, false)
            .and_then(|listener| listener.local_addr())
            .map_err(|error| Failure::setup(format!("the operators' page: {error}")))?;
        note(&mut moved, "TCP port", ADMIN.port(), admin.port());
        drop(held);

        let text = relay_toml(&addresses, port, metrics, admin);
        let config = relay::Config::from_toml(&text, "demo relay", Some(ring.clone()))
            .map_err(|error| Failure::with_code(&error, error.exit_code()))?;
        let relay =
            relay::start(config).map_err(|error| Failure::with_code(&error, error.exit_code()))?;

        let bearer = random_key()?;
        let text = auth_toml(SocketAddr::new(relayed_ip, port), &bearer);
        let auth = auth_service::Config::from_toml(&text, "demo credential service", Some(ring))
            .map_err(|error| Failure::with_code(&error, error.exit_code()))
            .and_then(|config| {
                auth_service::start(config)
                    .map_err(|error| Failure::with_code(&error, error.exit_code()))
            })?;
        let minter = Minter { url: format!("{}/v1/credentials", auth.url()), bearer };
        let key = format!("{}, id {}", key.kind(), key.pool_key().id);
        Ok(Self { relay, auth, minter, key, relayed_ip, moved })
    }

    /// Kind and id of the pool key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Which ports are not the usual ones, in words.
    pub(crate) fn moved(&self) -> &[String] {
        &self.moved
    }

    /// The address clients are told.
    pub(crate) fn server(&self) -> SocketAddr {
        let listeners = self.relay.listeners();
        let addresses = listeners.iter().map(|(address, ..)| address.reachable());
        let best = addresses.clone().find(|address| address.ip() == self.relayed_ip);
        best.or_else(|| addresses.clone().next()).unwrap_or((self.relayed_ip, PORT).into())
    }

    /// Every address the relay listens on.
    pub(crate) fn listeners(&self) -> Vec<String> {
        let listeners = self.relay.listeners();
        listeners
            .iter()
            .map(|(address, transport, _)| format!("{address}/{}", transport.name()))
            .collect()
    }

    /// Where relayed ports are.
    pub(crate) fn relayed_ip(&self) -> IpAddr {
        self.relayed_ip
    }

    /// Where operators look at the relay.
    pub(crate) fn admin_addr(&self) -> Option<SocketAddr> {
        self.relay.admin_addr()
    }

    /// Where metrics are served.
    pub(crate) fn metrics_addr(&self) -> Option<SocketAddr> {
        self.relay.metrics_addr()
    }

    /// A view of the relay's allocations.
    pub(crate) fn observer(&self) -> Observer {
        self.relay.observer()
    }

    /// A caller of the credential service.
    pub(crate) fn minter(&self) -> &Minter {
        &self.minter
    }

    /// Ends both.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        self.auth.stop();
        self.relay.stop();
        self.relay.wait().map_err(Failure::job)
    }
}

impl Minter {
    /// The URL asked.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Servers and a credential for this user.
    pub(crate) fn mint(&self, user: &str, lifetime_s: u64) -> Result<Configuration, String> {
        let wish = json!({ "user": user, "lifetime_s": lifetime_s });
        ureq::post(&self.url)
            .header("Authorization", format!("Bearer {}", self.bearer))
            .send_json(&wish)
            .and_then(|mut answer| answer.body_mut().read_json())
            .map_err(|error| format!("{}: {error}", self.url))
    }

    /// A credential for this user, as our own client takes it.
    pub(crate) fn credentials(&self, user: &str) -> Result<Credentials, String> {
        let servers = self.mint(user, CALL_S)?.ice_servers.into_iter();
        let server = servers.last().ok_or_else(|| format!("{}: no server in it", self.url))?;
        Ok(Credentials::new(server.username, server.credential))
    }

    /// The servers for somebody else's application.
    pub(crate) fn guest(&self) -> Result<Configuration, String> {
        self.mint("guest", DAY_S)
    }
}

/// Where to listen: the address other hosts know this one by, and loopback. Browsers gather
/// candidates on the first and cannot reach a relay on loopback from it.
fn addresses() -> Vec<IpAddr> {
    host::primary_address().into_iter().chain([Ipv4Addr::LOCALHOST.into()]).collect()
}

fn relay_toml(addresses: &[IpAddr], port: u16, metrics: SocketAddr, admin: SocketAddr) -> String {
    let listeners = addresses.iter().fold(String::new(), |text, ip| {
        text + &format!("[[listen]]\naddress = \"{}\"\n", SocketAddr::new(*ip, port))
    });
    let relayed = addresses[0];
    let (first, last) = RELAYED_PORTS.into_inner();
    format!(
        "realm = \"av-edge.demo\"\n{listeners}\
         [relay]\naddresses = [{{ local = \"{relayed}\" }}]\nports = \"{first}-{last}\"\n\
         [metrics]\naddress = \"{metrics}\"\n[admin]\naddress = \"{admin}\"\n"
    )
}

fn auth_toml(server: SocketAddr, bearer: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\nuris = [\"turn:{server}?transport=udp\"]\n\
         [[callers]]\nname = \"demo\"\nkey = \"{bearer}\"\nrate_per_s = 20.0\nburst = 40\n"
    )
}

fn random_key() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(Failure::job)?;
    Ok(bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

fn note(moved: &mut Vec<String>, what: &str, wanted: u16, got: u16) {
    if wanted != got {
        moved.push(format!("{what} {wanted} is in use here; taking {got} instead"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_elsewhere_is_an_rtc_configuration() {
        let answer = r#"{"iceServers":[{"urls":["turn:192.0.2.1:3478?transport=udp"],
            "username":"1:2::guest","credential":"c2VjcmV0"}],"expires":1,"ttl":1}"#;
        let configuration: Configuration = serde_json::from_str(answer).unwrap();
        assert_eq!(
            serde_json::to_value(&configuration).unwrap(),
            json!({ "iceServers": [{
                "urls": ["turn:192.0.2.1:3478?transport=udp"],
                "username": "1:2::guest",
                "credential": "c2VjcmV0",
            }] })
        );
    }

    #[test]
    fn both_services_accept_the_configuration_they_are_given() {
        let addresses = addresses();
        let ring = KeyRing { current: PrivateKey::generate().pool_key(), previous: Vec::new() };
        let text = relay_toml(&addresses, PORT, METRICS, ADMIN);
        relay::Config::from_toml(&text, "relay", Some(ring.clone())).unwrap();
        for ip in ["192.0.2.1:3478", "[2001:db8::1]:3478"] {
            let text = auth_toml(ip.parse().unwrap(), &random_key().unwrap());
            auth_service::Config::from_toml(&text, "auth", Some(ring.clone())).unwrap();
        }
    }

    #[test]
    fn bearer_keys_are_never_the_same() {
        assert_ne!(random_key().unwrap(), random_key().unwrap());
        assert_eq!(random_key().unwrap().len(), 64);
    }
}
