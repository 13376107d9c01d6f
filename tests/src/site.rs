//! The site every world starts from: the server's addresses, its secrets, its configuration.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use proto::addr::{ListenerId, Side, Transport};
use proto::auth::{Authority, KeyId, KeyRing, PoolKey, Secret};
use proto::dialect::PerDialect;
use proto::policy::{Bandwidth, Edge, Limits, Listener, PeerAcl, RelayAddress};
use proto::turn::Config;
use proto::turn::config::{Compat, Measured, MobilityPolicy, Redirect, Share, Terms};

use crate::login::Login;

/// Wall-clock time at which every world begins.
pub const BEGIN: u64 = 1_800_000_000;
/// The realm of every world.
pub const REALM: &str = "edge.test";
/// The shared secret of TURN REST credentials.
pub const REST_SECRET: &[u8] = b"a shared secret of the rig";
/// The pool's secret that turns user names into passwords.
pub const POOL_SECRET: &[u8] = &[0x5A; 32];
/// The pool's secret that seals access tokens.
pub const POOL_TOKEN_SECRET: &[u8; 32] = &[0x96; 32];
/// The pool key's id as it stands in user names.
pub const KEY_ID: &str = "0badcafe";

/// Addresses of the server: IPv4 and IPv6 external listeners, an internal one.
pub const LISTENERS: [&str; 3] =
    ["93.184.216.34:3478", "[2a02:6b8::34]:3478", "93.184.216.34:3479"];

/// The listener on TCP, at the address of the first one.
pub const TCP_LISTENER: ListenerId = ListenerId(3);

/// Whether this is an address that relayed ports are opened on by default.
pub fn is_relay_host(ip: std::net::IpAddr) -> bool {
    LISTENERS.iter().any(|listener| {
        let at: SocketAddr = listener.parse().expect("an address");
        at.ip() == ip
    })
}

/// A pool credential as the auth-service would mint it.
pub fn pool_login(user: &str, expires: u64) -> Login {
    Login::pool(POOL_SECRET, &format!("{expires}:{KEY_ID}::{user}"))
}

/// A TURN REST credential of the shared secret.
pub fn rest_login(user: &str, expires: u64) -> Login {
    Login::rest(REST_SECRET, &format!("{expires}:{user}"))
}

/// The rig's pool key: the secret of credentials is [`POOL_SECRET`].
pub fn pool_key() -> PoolKey {
    PoolKey {
        id: KeyId([0x0B, 0xAD, 0xCA, 0xFE]),
        credentials: Secret::new(POOL_SECRET.to_vec()),
        nonces: Secret::new(vec![0xA5; 32]),
        users: Secret::new(vec![0x3C; 32]),
        tickets: Secret::new(vec![0xC3; 32]),
        tokens: Secret::new(POOL_TOKEN_SECRET.to_vec()),
        ms_tokens: Secret::new(vec![0x69; 32]),
    }
}

/// What tests start from: the documented defaults with room for many clients of one user.
pub fn default_config() -> Config {
    let listen = |index: usize, side| Listener {
        local: LISTENERS[index].parse().expect("an address"),
        advertised: None,
        transport: Transport::Udp,
        side,
        anycast: false,
    };
    let relay = |address: &str| {
        let ip = address.parse().expect("an address");
        RelayAddress { local: ip, advertised: ip }
    };
    Config {
        realm: REALM.to_owned(),
        software: None,
        edge: Edge::new(
            vec![
                listen(0, Side::External),
                listen(1, Side::External),
                listen(2, Side::Internal),
                Listener { transport: Transport::Tcp, ..listen(0, Side::External) },
            ],
            vec![relay("93.184.216.34"), relay("2a02:6b8::34")],
            Vec::new(),
        ),
        peers: PeerAcl::default(),
        limits: Limits {
            allocations: 8_000,
            allocations_per_user: 16,
            allocations_per_client: 64,
            permissions: 256,
            channels: 256,
            new_peers_per_minute: 256,
            new_peers_per_minute_per_user: 1024,
            new_peers_per_minute_per_client: 2048,
            peer_connections: 64,
            peer_connections_waiting: 16,
            peer_connections_per_user: 128,
            peer_connections_per_client: 256,
            peer_connections_total: 1_000,
        },
        authority: Authority {
            ring: Some(KeyRing { current: pool_key(), previous: Vec::new() }),
            rest_secrets: vec![Secret::new(REST_SECRET.to_vec())],
            users: None,
            tokens: None,
            max_lifetime_s: 30 * 86_400,
        },
        ports: 50_000..=59_999,
        share: Share { index: 0, of: 1 },
        lifetime_max: Duration::from_secs(3600),
        nonce_lifetime: Duration::from_secs(600),
        refresh_grace: Duration::from_secs(600),
        port_quarantine: Duration::from_secs(60),
        compat: Compat::default(),
        mobility: MobilityPolicy::Ignored,
        udp_relays: true,
        tcp_relays: false,
        microsoft: false,
        terms: PerDialect {
            rfc: Terms::rfc(Bandwidth::UNLIMITED),
            ms: Terms::microsoft(
                Bandwidth::UNLIMITED,
                Duration::from_secs(600),
                Duration::from_secs(3_600),
            ),
        },
        redirect: Redirect::default(),
        measured: Some(Measured { every: NonZeroU32::MIN, whole: false }),
    }
}
