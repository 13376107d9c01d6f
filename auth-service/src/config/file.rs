//! The schema of the configuration file, as operators write it.
//!
//! Only shapes and types are checked here; an unknown key is an error. What values may be is
//! decided in [`super`]. Every key is explained in `deploy/auth.toml`.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use guard::SecretText;
use serde::Deserialize;

use super::ConfigError;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: String,
    #[serde(default)]
    pub(super) insecure_http: bool,
    pub(super) pool: Option<Pool>,
    pub(super) tls: Option<Tls>,
    #[serde(default)]
    pub(super) uris: Vec<String>,
    #[serde(default)]
    pub(super) uris_internal: Vec<String>,
    #[serde(default)]
    pub(super) uris_external: Vec<String>,
    #[serde(default = "day")]
    pub(super) lifetime_default_s: u64,
    #[serde(default = "day")]
    pub(super) lifetime_max_s: u64,
    pub(super) token_server_name: Option<String>,
    #[serde(default)]
    pub(super) callers: Vec<Caller>,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<String>,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) metrics: Option<Metrics>,
    pub(super) mras: Option<Mras>,
    #[serde(default)]
    pub(super) hardening: guard::Hardening,
}

/// `[pool]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) key: PathBuf,
    #[serde(default)]
    pub(super) previous: Vec<PathBuf>,
}

/// `[tls]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// One of `[[callers]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) key: Option<SecretText>,
    pub(super) key_file: Option<PathBuf>,
    #[serde(default = "caller_rate")]
    pub(super) rate_per_s: f64,
    #[serde(default = "caller_burst")]
    pub(super) burst: u32,
}

/// `[limits]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections: Option<usize>,
    pub(super) connections_per_network: Option<usize>,
    pub(super) connections_per_client: usize,
    pub(super) failures_per_s: f64,
    pub(super) failures_burst: u32,
    pub(super) handshakes_per_s: f64,
    pub(super) handshakes_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_network: None,
            connections_per_client: 64,
            failures_per_s: 1.0,
            failures_burst: 10,
            handshakes_per_s: 100.0,
            handshakes_burst: 200,
        }
    }
}

/// `[metrics]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) address: String,
    pub(super) token_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) tls: Option<guard::tls::TlsTable>,
}

/// `[mras]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mras {
    pub(super) listen: String,
    pub(super) tls: Option<MrasTls>,
    #[serde(default)]
    pub(super) trusted_servers: Vec<String>,
    pub(super) realm: Option<String>,
    #[serde(default = "eight_hours")]
    pub(super) max_lifetime_min: u64,
    #[serde(default)]
    pub(super) identities: Vec<String>,
    #[serde(default)]
    pub(super) relays: Vec<MrasRelay>,
    #[serde(default)]
    pub(super) limits: MrasLimits,
}

/// `[mras.tls]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MrasTls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: PathBuf,
}

/// One of `[[mras.relays]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MrasRelay {
    pub(super) location: Location,
    pub(super) host_name: String,
    pub(super) direct_ip: Option<IpAddr>,
    pub(super) udp_port: Option<NonZeroU16>,
    pub(super) tcp_port: Option<NonZeroU16>,
}

/// Where a relay is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Location {
    Internet,
    Intranet,
}

/// `[mras.limits]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MrasLimits {
    pub(super) connections: Option<usize>,
    pub(super) connections_per_network: Option<usize>,
    pub(super) connections_per_server: usize,
    pub(super) server_per_s: f64,
    pub(super) server_burst: u32,
    pub(super) identity_per_s: f64,
    pub(super) identity_burst: u32,
}

impl Default for MrasLimits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_network: None,
            connections_per_server: 64,
            server_per_s: 100.0,
            server_burst: 500,
            identity_per_s: 1.0,
            identity_burst: 50,
        }
    }
}

fn eight_hours() -> u64 {
    480
}

fn day() -> u64 {
    86_400
}

fn caller_rate() -> f64 {
    10.0
}

fn caller_burst() -> u32 {
    20
}

/// Reads the text; an error names line and key.
pub(super) fn parse(text: &str, name: &str) -> Result<File, ConfigError> {
    let line = |error: &toml::de::Error| {
        error.span().map_or_else(String::new, |span| {
            let before = text.get(..span.start).unwrap_or(text);
            format!(" line {}:", before.matches('\n').count() + 1)
        })
    };
    let document = toml::Deserializer::parse(text).map_err(|error| {
        ConfigError::new(format!("{name}:{} not TOML: {}", line(&error), error.message().trim()))
    })?;
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let (key, why) = told(&path, error.message().trim());
        ConfigError::new(format!("{name}:{}{key} {why}", line(&error)))
    })
}

/// Which key is wrong, and how. A key of a caller that is not known may be a secret in the wrong
/// place, and is not repeated.
fn told(path: &str, why: &str) -> (String, String) {
    if path.starts_with("callers[")
        && why.starts_with("unknown field `")
        && let Some((_, known)) = why.rsplit_once("`, expected ")
    {
        let table = path.find(']').and_then(|end| path.get(..=end)).unwrap_or("callers");
        let why = format!(
            "there is a key that is not known here, and not repeated, as it may be a secret; \
             expected {known}"
        );
        return (format!(" {table}:"), why);
    }
    let key = if path == "." { String::new() } else { format!(" {path}:") };
    (key, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_stands_where_a_key_should_is_not_repeated() {
        let caller = "listen = \"x\"\n[[callers]]\nname = \"a\"\n";
        for (case, text, place) in [
            (
                "bare",
                format!("{caller}correct-horse = 1\n"),
                "auth.toml: line 4: callers[0]: there",
            ),
            (
                "quoted",
                format!("{caller}\"correct.ho`rse\" = 1"),
                "auth.toml: line 4: callers[0]: there",
            ),
            (
                "a table",
                format!("{caller}[callers.correct]\nhorse = 1"),
                "auth.toml: line 4: callers[0]: there",
            ),
        ] {
            let message = parse(&text, "auth.toml").unwrap_err().to_string();
            assert!(message.starts_with(place), "{case}: {message}");
            assert!(!message.contains("orrect") && !message.contains("rse"), "{case}: {message}");
        }
        let other = parse("listen = \"x\"\n[limits]\nconections = 1\n", "auth.toml").unwrap_err();
        assert!(other.to_string().contains("unknown field `conections`"), "{other}");
    }
}
