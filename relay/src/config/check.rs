//! Values judged one by one: names, numbers, ranges.

use std::ops::RangeInclusive;
use std::time::Duration;

use proto::addr::Transport;
use proto::policy::Listener;
use proto::turn::config::MobilityPolicy;

use super::Timers;
use super::error::Problem;
use super::file;

/// Relayed ports without a word from the operator: those of the original product.
const PORTS: RangeInclusive<u16> = 50_000..=59_999;

/// Ports of one worker that make sense: one even port and its successor.
const PORTS_PER_WORKER: u32 = 2;

pub(super) fn realm(found: Option<&str>) -> Result<String, Problem> {
    let Some(realm) = found else {
        let why = "missing. Name the realm clients log in to, for instance \"turn.example.org\".";
        return Err(Problem::at("realm", why));
    };
    if realm.is_empty() || realm.chars().any(char::is_control) {
        let why = "a realm has 1 to 40 bytes, none of them a control character.";
        return Err(Problem::text("realm", realm, why));
    }
    challenge(realm, None)?;
    Ok(realm.to_owned())
}

/// What tells a stranger how to log in must not be much larger than what he sent.
pub(super) fn challenge(realm: &str, server_name: Option<&str>) -> Result<(), Problem> {
    if proto::turn::can_challenge(realm, server_name) {
        return Ok(());
    }
    let (key, found, why) = match server_name {
        None => (
            "realm",
            realm,
            "at most 40 bytes: with more, the first answer to a client weighs more than 2.67 times what it \
             asked, and the relay could be used to flood others.",
        ),
        Some(name) => (
            "auth.server_name",
            name,
            "too long together with the realm: 36 bytes for both, each rounded up to a multiple of four. With \
             more, the first answer to a client weighs more than 2.67 times what it asked, and the relay could \
             be used to flood others.",
        ),
    };
    Err(Problem::text(key, found, why))
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

pub(super) fn nice(found: Option<i64>) -> Result<i32, Problem> {
    let nice = found.unwrap_or(-10);
    match i32::try_from(nice) {
        Ok(nice @ -20..=0) => Ok(nice),
        _ => Err(Problem::new("nice", &nice, "out of range. -20 to 0 is right.")),
    }
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
