//! `[mras]`: the A/V authentication service.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::DnsName;

use super::{ConfigError, Connections, Reader, file, quoted, tls, uri};
use crate::mras::issue::Rules;
use crate::mras::relays::Relay;
use crate::mras::request::Location;
use crate::mras::uri::Pattern;

/// Where and whom MRAS serves, and by which rules.
#[derive(Clone, Debug)]
pub(crate) struct Mras {
    pub(crate) listen: SocketAddr,
    /// `None`: in clear, on loopback.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Names in certificates of servers that may ask.
    pub(crate) trusted_servers: Vec<String>,
    pub(crate) connections: Connections,
    pub(crate) rules: Rules,
}

impl Mras {
    /// Whether a server of this name may ask.
    pub(crate) fn trusts(&self, name: &str) -> bool {
        self.trusted_servers.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// What would be started, in words.
    pub(super) fn summary(&self) -> String {
        let Self { listen, tls, rules, .. } = self;
        let transport = if tls.is_some() { "TLS" } else { "plain TCP" };
        format!(
            "A/V authentication (MRAS) on {listen} over {transport}, {} relays, at most {} min",
            rules.relays.len(),
            rules.max_lifetime_min
        )
    }
}

/// The port of the product.
const PORT: u16 = 5062;

/// What the product allows: 180 days.
const LIFETIME_CEILING_MIN: u64 = 180 * 24 * 60;

impl Reader<'_> {
    pub(super) fn mras(&self, mras: &file::Mras, share: usize) -> Result<Mras, ConfigError> {
        let listen = match mras.listen.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::from((ip, PORT)),
            Err(_) => self.address("mras.listen", &mras.listen)?,
        };
        let tls = match &mras.tls {
            Some(tls) => {
                let files = self.pair(&tls.certificate, &tls.key);
                let table = tls::Table { name: self.name, key: "mras.tls", files };
                self.check_servers(&mras.trusted_servers)?;
                let authorities = self.path(&tls.client_ca);
                Some(table.for_servers(&authorities, &mras.trusted_servers)?)
            }
            None if listen.ip().is_loopback() => None,
            None => {
                return Err(self.wrong(
                    "mras.listen",
                    listen,
                    "anybody there could ask for credentials; configure [mras.tls], or listen on \
                     a loopback address",
                ));
            }
        };
        Ok(Mras {
            listen,
            tls,
            trusted_servers: mras.trusted_servers.clone(),
            connections: self.mras_connections(&mras.limits, share)?,
            rules: self.rules(mras)?,
        })
    }

    fn check_servers(&self, names: &[String]) -> Result<(), ConfigError> {
        if names.is_empty() {
            return Err(ConfigError::new(format!(
                "{}: mras.trusted_servers is missing: name the servers that may ask, as their \
                 certificates do: trusted_servers = [\"fe1.corp.example\"]",
                self.name
            )));
        }
        for (index, name) in names.iter().enumerate() {
            if DnsName::try_from(name.as_str()).is_err() {
                return Err(self.wrong(
                    &format!("mras.trusted_servers[{index}]"),
                    quoted(name),
                    "must be the DNS name of one server, without a wildcard",
                ));
            }
        }
        Ok(())
    }

    fn rules(&self, mras: &file::Mras) -> Result<Rules, ConfigError> {
        let minutes = mras.max_lifetime_min;
        if !(1..=LIFETIME_CEILING_MIN).contains(&minutes) {
            let right = format!("must be from 1 to {LIFETIME_CEILING_MIN} minutes (180 days)");
            return Err(self.wrong("mras.max_lifetime_min", minutes, &right));
        }
        if let Some(realm) = &mras.realm
            && (realm.is_empty() || realm.len() > 128 || realm.chars().any(char::is_control))
        {
            let right = "must be 1 to 128 bytes without control characters, the relays' auth.realm";
            return Err(self.wrong("mras.realm", quoted(realm), right));
        }
        let identities = mras.identities.iter().enumerate().map(|(index, text)| {
            Pattern::new(text).ok_or_else(|| {
                self.wrong(
                    &format!("mras.identities[{index}]"),
                    quoted(text),
                    "must be *@host or user@host, as in *@example.com",
                )
            })
        });
        let limits = &mras.limits;
        Ok(Rules {
            realm: mras.realm.clone(),
            max_lifetime_min: minutes,
            relays: self.relays(&mras.relays)?,
            identities: identities.collect::<Result<_, _>>()?,
            server_rate: self.rate(
                "mras.limits.server",
                limits.server_per_s,
                limits.server_burst,
            )?,
            identity_rate: self.rate(
                "mras.limits.identity",
                limits.identity_per_s,
                limits.identity_burst,
            )?,
        })
    }

    fn relays(&self, list: &[file::MrasRelay]) -> Result<Vec<Relay>, ConfigError> {
        if list.is_empty() {
            return Err(ConfigError::new(format!(
                "{}: no [[mras.relays]]: clients would be told no relay; name at least one, with \
                 location, host_name and a port",
                self.name
            )));
        }
        let one = |(index, relay): (usize, &file::MrasRelay)| {
            let at = |field: &str| format!("mras.relays[{index}].{field}");
            if relay.host_name.parse::<IpAddr>().is_err() && !uri::is_dns_name(&relay.host_name) {
                let right = "must be a DNS name or an address";
                return Err(self.wrong(&at("host_name"), quoted(&relay.host_name), right));
            }
            if relay.udp_port.is_none() && relay.tcp_port.is_none() {
                return Err(ConfigError::new(format!(
                    "{}: {} is missing: clients need udp_port, tcp_port or both, as in 3478 and 443",
                    self.name,
                    at("udp_port")
                )));
            }
            Ok(Relay {
                location: match relay.location {
                    file::Location::Internet => Location::Internet,
                    file::Location::Intranet => Location::Intranet,
                },
                host_name: relay.host_name.clone(),
                direct_ip: relay.direct_ip,
                udp_port: relay.udp_port.map(u16::from),
                tcp_port: relay.tcp_port.map(u16::from),
            })
        };
        list.iter().enumerate().map(one).collect()
    }
}
