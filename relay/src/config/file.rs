//! The configuration as operators write it: every key optional here, none unknown.
//!
//! `deploy/relay.toml` documents them. Nothing is judged in this module.

use std::path::PathBuf;

use guard::{SecretText, SecretTexts};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use zeroize::Zeroize;

use super::error::Problem;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) realm: Option<String>,
    pub(super) software: Option<String>,
    pub(super) workers: Option<u64>,
    pub(super) nice: Option<i64>,
    pub(super) drain_s: Option<u64>,
    #[serde(default)]
    pub(super) pool: Pool,
    #[serde(default)]
    pub(super) auth: Auth,
    #[serde(default)]
    pub(super) listen: Vec<Listen>,
    pub(super) tls: Option<Tls>,
    #[serde(default)]
    pub(super) relay: Relay,
    #[serde(default)]
    pub(super) peers: Peers,
    #[serde(default)]
    pub(super) redirect: Redirect,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) timers: Timers,
    #[serde(default)]
    pub(super) features: Features,
    #[serde(default)]
    pub(super) compat: Compat,
    pub(super) metrics: Option<Metrics>,
    pub(super) admin: Option<Admin>,
    #[serde(default)]
    pub(super) quality: Quality,
    pub(super) records: Option<Records>,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) control: Control,
    #[serde(default)]
    pub(super) hardening: guard::Hardening,
    #[serde(default)]
    pub(super) offload: Offload,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offload {
    pub(super) mode: Option<String>,
    #[serde(default)]
    pub(super) interfaces: Vec<String>,
    pub(super) routes: Option<u64>,
    #[serde(default)]
    pub(super) keep_measured: bool,
    pub(super) engine: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) key: Option<PathBuf>,
    #[serde(default)]
    pub(super) previous: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    #[serde(default)]
    pub(super) rest_secrets: SecretTexts,
    pub(super) rest_secret_file: Option<PathBuf>,
    pub(super) max_lifetime_s: Option<u64>,
    pub(super) users_file: Option<PathBuf>,
    pub(super) server_name: Option<String>,
    #[serde(default)]
    pub(super) pool_tokens: bool,
    #[serde(default)]
    pub(super) oauth: Vec<Oauth>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Oauth {
    pub(super) kid: String,
    pub(super) key: Option<SecretText>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) cipher: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) address: String,
    pub(super) transport: Option<String>,
    pub(super) side: Option<String>,
    pub(super) advertise: Option<String>,
    #[serde(default)]
    pub(super) proxy_protocol_from: Vec<String>,
    #[serde(default)]
    pub(super) anycast: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    #[serde(default)]
    pub(super) certificates: Vec<Certificate>,
    pub(super) pass_through: Option<PassThrough>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PassThrough {
    pub(super) to: String,
    #[serde(default)]
    pub(super) names: Vec<String>,
    #[serde(default)]
    pub(super) proxy_header: bool,
    pub(super) connections: Option<u64>,
    pub(super) connections_per_network: Option<u64>,
    pub(super) connections_per_client: Option<u64>,
    pub(super) idle_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redirect {
    #[serde(default)]
    pub(super) alternates: Vec<String>,
    pub(super) domain: Option<String>,
    pub(super) when: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Relay {
    #[serde(default)]
    pub(super) addresses: Vec<RelayAddress>,
    pub(super) ports: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RelayAddress {
    pub(super) local: String,
    pub(super) advertise: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peers {
    #[serde(default)]
    pub(super) allow: Vec<String>,
    #[serde(default)]
    pub(super) deny: Vec<String>,
    #[serde(default)]
    pub(super) allow_ports: Vec<String>,
    #[serde(default)]
    pub(super) deny_ports: Vec<String>,
    #[serde(default)]
    pub(super) internal: PeerRules,
    #[serde(default)]
    pub(super) external: PeerRules,
    #[serde(default)]
    pub(super) nat64: Vec<String>,
    pub(super) hairpins: Option<bool>,
    #[serde(default)]
    pub(super) pool: Vec<PoolRelay>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerRules {
    #[serde(default)]
    pub(super) allow: Vec<String>,
    #[serde(default)]
    pub(super) deny: Vec<String>,
    #[serde(default)]
    pub(super) allow_ports: Vec<String>,
    #[serde(default)]
    pub(super) deny_ports: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolRelay {
    pub(super) address: String,
    pub(super) local: Option<String>,
    pub(super) ports: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) allocations: Option<u64>,
    pub(super) allocations_per_user: Option<u64>,
    pub(super) allocations_per_client: Option<u64>,
    pub(super) permissions: Option<u64>,
    pub(super) channels: Option<u64>,
    pub(super) new_peers_per_minute: Option<u64>,
    pub(super) new_peers_per_minute_per_user: Option<u64>,
    pub(super) new_peers_per_minute_per_client: Option<u64>,
    pub(super) peer_connections: Option<u64>,
    pub(super) peer_connections_waiting: Option<u64>,
    pub(super) peer_connections_per_user: Option<u64>,
    pub(super) peer_connections_per_client: Option<u64>,
    pub(super) peer_connections_total: Option<u64>,
    pub(super) connections: Option<u64>,
    pub(super) connections_per_network: Option<u64>,
    pub(super) connections_per_client: Option<u64>,
    pub(super) kbit_per_s: Option<u64>,
    pub(super) kbit_per_s_per_worker: Option<u64>,
    pub(super) kbit_per_s_per_client: Option<u64>,
    pub(super) packets_per_s: Option<u64>,
    pub(super) packets_per_s_per_worker: Option<u64>,
    pub(super) packets_per_s_per_client: Option<u64>,
    pub(super) kbit_per_s_per_allocation: Option<u64>,
    pub(super) kbit_per_s_per_user: Option<u64>,
    pub(super) packets_per_s_per_allocation: Option<u64>,
    pub(super) packets_per_s_per_user: Option<u64>,
    pub(super) microsoft_kbit_per_s_per_allocation: Option<u64>,
    pub(super) microsoft_kbit_per_s_per_user: Option<u64>,
    pub(super) stream_queue_bytes: Option<u64>,
    pub(super) strangers_per_s: Option<u64>,
    pub(super) strangers_burst: Option<u64>,
    pub(super) handshakes_per_s: Option<u64>,
    pub(super) handshakes_burst: Option<u64>,
    pub(super) memory_mib: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "keys say their unit")]
pub(super) struct Timers {
    pub(super) lifetime_max_s: Option<u64>,
    pub(super) microsoft_lifetime_s: Option<u64>,
    pub(super) nonce_lifetime_s: Option<u64>,
    pub(super) refresh_grace_s: Option<u64>,
    pub(super) port_quarantine_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Features {
    pub(super) mobility: Option<toml::Value>,
    pub(super) udp_relays: Option<bool>,
    #[serde(default)]
    pub(super) tcp_relays: bool,
    #[serde(default)]
    pub(super) microsoft: bool,
    #[serde(default)]
    pub(super) nat_discovery: Vec<NatDiscovery>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NatDiscovery {
    pub(super) primary: Option<String>,
    pub(super) alternate: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compat {
    #[serde(default)]
    pub(super) rfc5766_channels: bool,
    #[serde(default)]
    pub(super) rfc3489: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) address: Option<String>,
    pub(super) sessions: Option<u64>,
    pub(super) names: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) tls: Option<guard::tls::TlsTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) address: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) tls: Option<guard::tls::TlsTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quality {
    pub(super) measure: Option<bool>,
    pub(super) every: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) addresses: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Records {
    pub(super) node: Option<String>,
    pub(super) interim_s: Option<u64>,
    pub(super) addresses: Option<String>,
    pub(super) file: Option<PathBuf>,
    pub(super) spool: Option<PathBuf>,
    pub(super) spool_mib: Option<u64>,
    pub(super) http: Option<HttpReceiver>,
    pub(super) otlp: Option<HttpReceiver>,
    pub(super) redis: Option<RedisReceiver>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpReceiver {
    pub(super) url: String,
    pub(super) token_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisReceiver {
    pub(super) address: String,
    pub(super) stream: String,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) max_length: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub(super) path: Option<PathBuf>,
    pub(super) mode: Option<String>,
    pub(super) group: Option<String>,
}

/// A file as TOML has it; its texts are wiped when dropped, as there may be secrets among them.
pub(super) struct Document(pub(super) toml::Table);

impl Drop for Document {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|(_, value)| wipe(value));
    }
}

fn wipe(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => text.zeroize(),
        toml::Value::Array(list) => list.iter_mut().for_each(wipe),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| wipe(value)),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

impl File {
    /// Reads TOML, and gives the document beside. Unknown keys are errors.
    pub(super) fn parse(text: &str) -> Result<(Self, Document), Problem> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| text[..span.start].lines().count().max(1));
            Problem::unreadable("", line, error.message())
        })?;
        let document = toml::Value::Table(table.clone());
        let table = Document(table);
        let file = serde_path_to_error::deserialize(document.into_deserializer());
        let file = file.map_err(|error| {
            let path = error.path().to_string();
            Problem::unreadable(&path, None, error.inner().message())
        })?;
        Ok((file, table))
    }
}
