//! Values judged one by one: names, numbers, ranges.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use guard::{Access, Token};
use proto::addr::Transport;
use proto::policy::Listener;
use proto::turn::config::MobilityPolicy;

use super::error::Problem;
use super::file;
use super::{Metrics, Timers};

/// Relayed ports without a word from the operator: those of the original product.
const PORTS: RangeInclusive<u16> = 50_000..=59_999;

/// Ports of one worker that make sense: one even port and its successor.
const PORTS_PER_WORKER: u32 = 2;

/// Where metrics are served without a word from the operator.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_641);

pub(super) fn realm(found: Option<&str>) -> Result<String, Problem> {
    let Some(realm) = found else {
        let why = "missing. Name the realm clients log in to, for instance \"turn.example.org\".";
        return Err(Problem::at("realm", why));
    };
    let length = realm.chars().count();
    if !(1..=127).contains(&length) || realm.chars().any(char::is_control) {
        let why = "a realm has 1 to 127 characters, none of them a control character.";
        return Err(Problem::text("realm", realm, why));
    }
    Ok(realm.to_owned())
}

pub(super) fn software(found: Option<String>) -> Result<Option<String>, Problem> {
    match found {
        Some(name) if name.is_empty() || name.chars().count() > 127 => {
            let why = "1 to 127 characters. Leave the key out to tell clients nothing.";
            Err(Problem::text("software", &name, why))
        }
        other => Ok(other),
    }
}

pub(super) fn workers(found: Option<u64>) -> Result<u16, Problem> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let workers = number("workers", found, cores.min(256), 1..=256)?;
    Ok(u16::try_from(workers).unwrap_or(256))
}

/// A number of seconds in a range.
pub(super) fn seconds(
    key: &str,
    found: Option<u64>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<Duration, Problem> {
    number(key, found, default, range).map(Duration::from_secs)
}

pub(super) fn timers(found: &file::Timers) -> Result<Timers, Problem> {
    Ok(Timers {
        lifetime_max: seconds("timers.lifetime_max_s", found.lifetime_max_s, 3_600, 600..=3_600)?,
        microsoft_lifetime: seconds(
            "timers.microsoft_lifetime_s",
            found.microsoft_lifetime_s,
            600,
            30..=3_600,
        )?,
        nonce_lifetime: seconds(
            "timers.nonce_lifetime_s",
            found.nonce_lifetime_s,
            600,
            30..=3_600,
        )?,
        refresh_grace: seconds("timers.refresh_grace_s", found.refresh_grace_s, 600, 0..=86_400)?,
        port_quarantine: seconds(
            "timers.port_quarantine_s",
            found.port_quarantine_s,
            60,
            0..=3_600,
        )?,
    })
}

/// Whether clients may have TCP relays, which they can ask for over TCP or TLS only.
pub(super) fn tcp_relays(wanted: bool, listeners: &[Listener]) -> Result<bool, Problem> {
    let streams =
        |listener: &Listener| matches!(listener.transport, Transport::Tcp | Transport::Tls);
    if wanted && !listeners.iter().any(streams) {
        let why = "no listener serves TCP or TLS, over which alone clients may ask for TCP \
                   relays. Add a [[listen]] with transport \"tcp\" or \"tls\".";
        return Err(Problem::new("features.tcp_relays", &true, why));
    }
    Ok(wanted)
}

/// What becomes of clients that ask for mobility.
pub(super) fn mobility(found: Option<&toml::Value>) -> Result<MobilityPolicy, Problem> {
    let key = "features.mobility";
    let why = "true, false or \"forbidden\" is right.";
    match found {
        None | Some(toml::Value::Boolean(false)) => Ok(MobilityPolicy::Ignored),
        Some(toml::Value::Boolean(true)) => Ok(MobilityPolicy::Allowed),
        Some(toml::Value::String(word)) if word == "forbidden" => Ok(MobilityPolicy::Forbidden),
        Some(toml::Value::String(word)) => Err(Problem::text(key, word, why)),
        Some(_) => Err(Problem::at(key, why)),
    }
}

pub(super) fn ports(
    found: Option<&str>,
    workers: u16,
    listeners: &[Listener],
) -> Result<RangeInclusive<u16>, Problem> {
    let key = "relay.ports";
    let ports = match found {
        None => PORTS,
        Some(text) => text
            .split_once('-')
            .and_then(|(first, last)| Some(first.trim().parse().ok()?..=last.trim().parse().ok()?))
            .ok_or_else(|| {
                let why = "not a range of ports. Write the first and the last one, for instance \
                           \"50000-59999\".";
                Problem::text(key, text, why)
            })?,
    };
    let shown = format!("{}-{}", ports.start(), ports.end());
    if ports.is_empty() || *ports.start() < 1_024 {
        let why = "relayed ports lie between 1024 and 65535, the first not above the last.";
        return Err(Problem::text(key, &shown, why));
    }
    // Whole pairs of an even port and its successor; each belongs to one worker.
    let pairs = u32::from(*ports.end()).div_ceil(2) - u32::from(*ports.start()).div_ceil(2);
    let needed = u32::from(workers);
    if pairs < needed {
        let why = format!(
            "too small: {workers} worker(s) need {} ports, an even one and its successor each; \
             this range holds {}. Widen it, or set `workers` lower.",
            needed * PORTS_PER_WORKER,
            pairs * PORTS_PER_WORKER,
        );
        return Err(Problem::text(key, &shown, &why));
    }
    if let Some(listener) = listeners.iter().find(|l| ports.contains(&l.local.port())) {
        let why = format!(
            "holds port {}, where clients are served. Move the range or the listener.",
            listener.local.port()
        );
        return Err(Problem::text(key, &shown, &why));
    }
    Ok(ports)
}

pub(super) fn metrics(
    found: Option<&file::Metrics>,
    listeners: &[Listener],
    directory: &Path,
) -> Result<Option<Metrics>, Problem> {
    let Some(found) = found else { return Ok(None) };
    let key = "metrics.address";
    let address = match &found.address {
        None => METRICS,
        Some(text) => text.parse().map_err(|_| {
            let why = "not an address with a port. For instance \"127.0.0.1:9641\" or \
                       \"[::1]:9641\".";
            Problem::text(key, text, why)
        })?,
    };
    if address.port() == 0 {
        let why = "port 0 would be another one at every start. Choose one, for instance 9641.";
        return Err(Problem::text(key, &address.to_string(), why));
    }
    if listeners.iter().any(|listener| listener.local.port() == address.port()) {
        let why = "clients are served on this port. Choose another one for operators.";
        return Err(Problem::text(key, &address.to_string(), why));
    }
    let access = access(found, address, directory)?;
    let sessions = number("metrics.sessions", found.sessions, 1_000, 0..=100_000)?;
    let name_users = match found.names.as_deref() {
        None | Some("hash") => true,
        Some("none") => false,
        Some(other) => {
            let why = "not a way to name users. \"hash\" labels allocations with a keyed hash of \
                       the user, \"none\" with nothing.";
            return Err(Problem::text("metrics.names", other, why));
        }
    };
    let sessions = usize::try_from(sessions).unwrap_or(usize::MAX);
    Ok(Some(Metrics { address, access, sessions, name_users }))
}

/// Who may see metrics: everybody on this host, or who knows a token.
fn access(found: &file::Metrics, address: SocketAddr, directory: &Path) -> Result<Access, Problem> {
    let key = "metrics.token_file";
    let token = found.token_file.as_ref().map(|path| {
        let path = directory.join(path);
        Token::read(&path)
            .map_err(|error| Problem::text(key, &path.display().to_string(), &error.to_string()))
    });
    let token = token.transpose()?;
    if token.is_none() && guard::needs_token(address) {
        let why = "not a loopback address, and there is no token: everybody who reaches it would \
                   see who is served. Set metrics.token_file, or listen on 127.0.0.1.";
        return Err(Problem::text("metrics.address", &address.to_string(), why));
    }
    for (index, host) in found.hosts.iter().enumerate() {
        if host.is_empty() || host.contains([':', '/']) {
            let why = "not a host name. Write it as scrapers do, without a port.";
            return Err(Problem::text(&format!("metrics.hosts[{index}]"), host, why));
        }
    }
    Ok(Access::new(token, &found.hosts))
}

/// A number in a range.
pub(super) fn number(
    key: &str,
    found: Option<u64>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, Problem> {
    match found {
        None => Ok(default.clamp(*range.start(), *range.end())),
        Some(value) if range.contains(&value) => Ok(value),
        Some(value) => {
            let why = format!("out of range. {} to {} is right.", range.start(), range.end());
            Err(Problem::new(key, &value, &why))
        }
    }
}
