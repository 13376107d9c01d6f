//! What the credential service needs to know, already valid.
//!
//! A file is read as TOML ([`mod@file`]), then every value is checked, keys and certificates are
//! loaded, all before a socket opens. The first thing that is wrong becomes one [`ConfigError`],
//! which names the file, the key, what was found and what would be right.

mod connections;
mod file;
mod hardening;
mod mras;
mod secret_file;
mod tls;
mod uri;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use proto::addr::Side;
use proto::auth::KeyRing;
use proto::auth::access_token::SERVER_NAME_MAX;
use zeroize::Zeroizing;

use crate::callers::{CallerKey, Callers};
use crate::limits::Rate;

pub(crate) use connections::{Connections, SCRAPERS};
use guard::certificate::Unusable;
use guard::{Access, Token};
pub(crate) use mras::Mras;

/// A complete, valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, for reading it again.
    pub(crate) file: Option<PathBuf>,
    pub(crate) listen: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    /// Who may see metrics.
    pub(crate) access: Access,
    hardening: guard::Hardening,
    /// What is read again.
    files: Vec<PathBuf>,
    pub(crate) connections: Connections,
    pub(crate) failures: Rate,
    /// TLS handshakes of one client network.
    pub(crate) handshakes: Rate,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) callers: Callers,
    pub(crate) issue: Issue,
    pub(crate) mras: Option<Mras>,
}

/// What is minted.
#[derive(Clone, Debug)]
pub(crate) struct Issue {
    /// The current key mints.
    pub(crate) ring: KeyRing,
    pub(crate) uris: Uris,
    pub(crate) lifetime_default_s: u64,
    pub(crate) lifetime_max_s: u64,
    /// What access tokens are sealed for; without it there are none.
    pub(crate) token_server_name: Option<String>,
}

/// The relays' URIs, as clients are told them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uris {
    both: Vec<String>,
    internal: Vec<String>,
    external: Vec<String>,
}

impl Uris {
    /// The URIs for a credential: a side's own list where there is one, else the common list;
    /// without a side, the common list, or all where there is none.
    pub(crate) fn of(&self, side: Option<Side>) -> Vec<&str> {
        let own = match side {
            Some(Side::Internal) => self.internal.as_slice(),
            Some(Side::External) => self.external.as_slice(),
            None => &[],
        };
        let chosen: [&[String]; 2] = match (own.is_empty(), self.both.is_empty()) {
            (false, _) => [own, &[]],
            (true, false) => [&self.both, &[]],
            (true, true) => [&self.external, &self.internal],
        };
        chosen.into_iter().flatten().map(String::as_str).collect()
    }
}

/// What is wrong with a configuration: one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(message: String) -> Self {
        Self(message)
    }

    /// The exit status of a process that was configured so.
    pub fn exit_code(&self) -> u8 {
        2
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and checks a file; relative paths in it start at its directory.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let config = Self::read(path)?;
        config.plan()?;
        Ok(config)
    }

    /// The same without a look at this host's users, which a confined service cannot take.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| ConfigError(format!("{name}: cannot be read: {error}")))?;
        let mut config = Reader { name: &name, file: Some(path) }.read(&text, None)?;
        let listens = [("listen", Some(config.listen)), ("mras.listen", config.mras_listen())];
        for (key, listen) in listens {
            if let Some(listen) = listen.filter(|listen| listen.port() == 0) {
                return Err(ConfigError(format!(
                    "{name}: {key} = \"{listen}\": port 0 means no particular port; name one"
                )));
            }
        }
        config.file = Some(path.to_path_buf());
        Ok(config)
    }

    /// Checks a configuration that is no file; errors call it `name`, relative paths start at
    /// the working directory. With `keys` given, `[pool]` is neither needed nor read, and
    /// `listen` may have port 0.
    pub fn from_toml(text: &str, name: &str, keys: Option<KeyRing>) -> Result<Self, ConfigError> {
        Reader { name, file: None }.read(text, keys)
    }

    /// What would be started, in words: one line per fact.
    pub fn summary(&self) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let ring = &self.issue.ring;
        let mut lines = vec![
            format!("credential service on {scheme}://{}", self.listen),
            format!("mints with pool key {}", ring.current.id),
            format!(
                "lifetime {} s unless asked otherwise, at most {} s",
                self.issue.lifetime_default_s, self.issue.lifetime_max_s
            ),
            format!("callers: {}", self.callers.names().collect::<Vec<_>>().join(", ")),
            format!("relays: {}", self.issue.uris.of(None).join(", ")),
        ];
        lines.push(self.metrics.map_or_else(
            || "no metrics".to_owned(),
            |address| format!("metrics on {}://{address}/metrics", self.access.scheme()),
        ));
        lines.extend(self.mras.as_ref().map(Mras::summary));
        lines
    }

    fn mras_listen(&self) -> Option<SocketAddr> {
        self.mras.as_ref().map(|mras| mras.listen)
    }
}

/// Turns the shapes of a file into valid values.
struct Reader<'a> {
    name: &'a str,
    /// `None`: the text is no file.
    file: Option<&'a Path>,
}

impl Reader<'_> {
    fn read(&self, text: &str, keys: Option<KeyRing>) -> Result<Config, ConfigError> {
        let file = file::parse(text, self.name)?;
        let listen = self.address("listen", &file.listen)?;
        let metrics = file.metrics.as_ref().map(|m| self.address("metrics.address", &m.address));
        let metrics = metrics.transpose()?;
        if file.tls.is_none() && !listen.ip().is_loopback() && !file.insecure_http {
            return Err(self.wrong(
                "listen",
                listen,
                "credentials would cross the network in clear; configure [tls], listen on a \
                 loopback address behind a proxy, or set insecure_http = true where the network \
                 itself is protected",
            ));
        }
        if metrics.is_some_and(|metrics| metrics == listen && listen.port() != 0) {
            return Err(self.wrong(
                "metrics.address",
                listen,
                "is the address of listen; metrics need one of their own",
            ));
        }
        let access = self.access(file.metrics.as_ref(), metrics)?;
        let limits = &file.limits;
        let shares = connections::Shares::of_this_process();
        let failures =
            self.rate("limits.failures", limits.failures_per_s, limits.failures_burst)?;
        let handshakes =
            self.rate("limits.handshakes", limits.handshakes_per_s, limits.handshakes_burst)?;
        Ok(Config {
            file: None,
            listen,
            metrics,
            access,
            files: self.files(&file),
            hardening: file.hardening.clone(),
            connections: self.connections(limits, shares.api)?,
            failures,
            handshakes,
            trusted_proxies: self.proxies(&file.trusted_proxies)?,
            callers: self.callers(&file.callers)?,
            issue: self.issue(&file, keys)?,
            tls: file.tls.as_ref().map(|tls| self.tls(tls)).transpose()?,
            mras: file.mras.as_ref().map(|mras| self.mras(mras, shares.mras)).transpose()?,
        })
    }

    /// Who may see metrics: everybody on this host, or who knows a token or has a certificate.
    fn access(
        &self,
        found: Option<&file::Metrics>,
        address: Option<SocketAddr>,
    ) -> Result<Access, ConfigError> {
        let (Some(found), Some(address)) = (found, address) else { return Ok(Access::default()) };
        let token = found.token_file.as_ref().map(|path| {
            let path = self.path(path);
            let wrong = |error: guard::TokenError| {
                self.wrong(
                    "metrics.token_file",
                    quoted(&path.display().to_string()),
                    &error.to_string(),
                )
            };
            Token::read(&path).map_err(wrong)
        });
        let tls = found.tls.as_ref().map(|tls| tls.load(&self.path(Path::new("")))).transpose();
        let tls = tls.map_err(|Unusable { file, path, why }| {
            self.wrong(&format!("metrics.tls.{file}"), quoted(&path), &why)
        })?;
        let access = Access::new(token.transpose()?, &found.hosts).over(tls);
        if !access.asks_for_proof() && guard::needs_proof(address) {
            return Err(self.wrong(
                "metrics.address",
                address,
                "everybody who reaches it would see who mints how much; set metrics.token_file or \
                 metrics.tls.client_ca, or listen on a loopback address",
            ));
        }
        Ok(access)
    }

    fn tls(&self, tls: &file::Tls) -> Result<Arc<rustls::ServerConfig>, ConfigError> {
        let files = self.pair(&tls.certificate, &tls.key);
        tls::Table { name: self.name, key: "tls", files }.for_http()
    }

    fn issue(&self, file: &file::File, keys: Option<KeyRing>) -> Result<Issue, ConfigError> {
        if file.lifetime_max_s == 0 || file.lifetime_max_s > LIFETIME_CEILING_S {
            return Err(self.wrong(
                "lifetime_max_s",
                file.lifetime_max_s,
                &format!("must be from 1 to {LIFETIME_CEILING_S} seconds (a year)"),
            ));
        }
        if file.lifetime_default_s == 0 || file.lifetime_default_s > file.lifetime_max_s {
            return Err(self.wrong(
                "lifetime_default_s",
                file.lifetime_default_s,
                &format!("must be from 1 to lifetime_max_s, which is {}", file.lifetime_max_s),
            ));
        }
        let ring = match (keys, &file.pool) {
            (Some(ring), _) => ring,
            (None, Some(pool)) => {
                let previous: Vec<_> = pool.previous.iter().map(|path| self.path(path)).collect();
                pool_key::load_ring(&self.path(&pool.key), &previous)
                    .map_err(|error| ConfigError(format!("{}: pool: {error}", self.name)))?
            }
            (None, None) => {
                return Err(ConfigError(format!(
                    "{}: [pool] is missing: name the pool's private key, key = \"pool.pem\"; make \
                     one with: av-edge key generate --out pool.pem",
                    self.name
                )));
            }
        };
        Ok(Issue {
            ring,
            uris: self.uris(file)?,
            lifetime_default_s: file.lifetime_default_s,
            lifetime_max_s: file.lifetime_max_s,
            token_server_name: self.server_name(file.token_server_name.as_deref())?,
        })
    }

    fn server_name(&self, found: Option<&str>) -> Result<Option<String>, ConfigError> {
        let good = |name: &str| {
            (1..=SERVER_NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        match found {
            Some(name) if !good(name) => Err(self.wrong(
                "token_server_name",
                quoted(name),
                "must be 1 to 255 bytes without control characters, the relays' auth.server_name",
            )),
            other => Ok(other.map(str::to_owned)),
        }
    }

    fn uris(&self, file: &file::File) -> Result<Uris, ConfigError> {
        let lists = [
            ("uris", &file.uris),
            ("uris_internal", &file.uris_internal),
            ("uris_external", &file.uris_external),
        ];
        for (key, list) in lists {
            for (index, uri) in list.iter().enumerate() {
                uri::check(uri)
                    .map_err(|right| self.wrong(&format!("{key}[{index}]"), quoted(uri), right))?;
            }
        }
        if file.uris.is_empty() && (file.uris_internal.is_empty() || file.uris_external.is_empty())
        {
            return Err(ConfigError(format!(
                "{}: uris is missing: name the relays as clients reach them, uris = \
                 [\"turn:turn.example.org:3478?transport=udp\"], or both uris_internal and \
                 uris_external",
                self.name
            )));
        }
        Ok(Uris {
            both: file.uris.clone(),
            internal: file.uris_internal.clone(),
            external: file.uris_external.clone(),
        })
    }

    fn callers(&self, list: &[file::Caller]) -> Result<Callers, ConfigError> {
        if list.is_empty() {
            return Err(ConfigError(format!(
                "{}: no [[callers]]: anybody could mint; give each calling server a name and a key",
                self.name
            )));
        }
        if list.iter().any(|caller| caller.key.is_some())
            && self.file.is_some_and(|path| secret_file::readable_by_all(path).unwrap_or(false))
        {
            tracing::warn!(
                "{} holds callers' keys and everybody on this host can read it; chmod o= it, or \
                 move the keys into files of their own (key_file)",
                self.name
            );
        }
        let mut names = HashSet::new();
        let mut callers = Callers::default();
        for (index, caller) in list.iter().enumerate() {
            let at = |field: &str| format!("callers[{index}].{field}");
            let name = &caller.name;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
                return Err(self.wrong(
                    &at("name"),
                    quoted(name),
                    "must be 1 to 64 letters, digits, '-', '_' or '.': it labels metrics",
                ));
            }
            if !names.insert(name) {
                return Err(self.wrong(&at("name"), quoted(name), "names another caller already"));
            }
            let rate = self.rate(&at("rate"), caller.rate_per_s, caller.burst)?;
            let (field, text) = self.caller_key(caller, &at)?;
            let key = CallerKey::new(text.trim())
                .map_err(|right| ConfigError(format!("{}: {}: {right}", self.name, at(field))))?;
            if !callers.add(name, key, rate) {
                return Err(ConfigError(format!(
                    "{}: {}: is another caller's key already",
                    self.name,
                    at(field)
                )));
            }
        }
        Ok(callers)
    }

    /// The key of a caller, and the field it stands in.
    fn caller_key(
        &self,
        caller: &file::Caller,
        at: &dyn Fn(&str) -> String,
    ) -> Result<(&'static str, Zeroizing<String>), ConfigError> {
        match (&caller.key, &caller.key_file) {
            (Some(key), None) => Ok(("key", Zeroizing::new(key.as_str().to_owned()))),
            (None, Some(file)) => {
                let text = secret_file::read(&self.path(file), self.name, &at("key_file"))?;
                Ok(("key_file", text))
            }
            _ => Err(ConfigError(format!(
                "{}: {}: each caller needs one of key and key_file",
                self.name,
                at("key")
            ))),
        }
    }

    fn proxies(&self, list: &[String]) -> Result<Vec<IpNet>, ConfigError> {
        list.iter()
            .enumerate()
            .map(|(index, text)| {
                text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(
                    |_| {
                        self.wrong(
                            &format!("trusted_proxies[{index}]"),
                            quoted(text),
                            "must be an address or a range, as in 192.0.2.0/24",
                        )
                    },
                )
            })
            .collect()
    }

    /// `key` without its ending `_per_s`.
    fn rate(&self, key: &str, per_s: f64, burst: u32) -> Result<Rate, ConfigError> {
        Rate::new(per_s, burst).ok_or_else(|| {
            self.wrong(
                &format!("{key}_per_s"),
                format!("{per_s} with a burst of {burst}"),
                "the rate must be from 0.001 to 1000000 a second, the burst at least 1",
            )
        })
    }

    fn address(&self, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
        text.parse().map_err(|_| {
            self.wrong(key, quoted(text), "must be an address and a port, as in 127.0.0.1:8443")
        })
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.file.and_then(Path::parent).map_or_else(|| path.to_path_buf(), |d| d.join(path))
    }

    fn wrong(&self, key: &str, found: impl fmt::Display, right: &str) -> ConfigError {
        ConfigError(format!("{}: {key} = {found}: {right}", self.name))
    }
}

/// Longest lifetime that may be configured, in seconds: a credential cannot be called back.
const LIFETIME_CEILING_S: u64 = 365 * 86_400;

/// A text as it stands in the file.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}
