//! The doors of operators: metrics over HTTP, control on a unix socket; and what is measured for
//! them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;

use guard::certificate::Unusable;
use guard::{Access, Token, socket};
use proto::policy::Listener;

use super::Metrics;
use super::check::number;
use super::error::Problem;
use super::file;

/// Where metrics are served without a word from the operator.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_641);

/// Who controls the relay without a word from the operator: whoever started it.
const OWNER_ALONE: &str = "0600";

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

/// Who may see metrics: everybody on this host, or who knows a token or has a certificate.
fn access(found: &file::Metrics, address: SocketAddr, directory: &Path) -> Result<Access, Problem> {
    let key = "metrics.token_file";
    let token = found.token_file.as_ref().map(|path| {
        let path = directory.join(path);
        Token::read(&path)
            .map_err(|error| Problem::text(key, &path.display().to_string(), &error.to_string()))
    });
    let tls = found.tls.as_ref().map(|tls| tls.load(directory)).transpose();
    let tls = tls.map_err(|Unusable { file, path, why }| {
        Problem::text(&format!("metrics.tls.{file}"), &path, &why)
    })?;
    let access = Access::new(token.transpose()?, &found.hosts).over(tls);
    if !access.asks_for_proof() && guard::needs_proof(address) {
        let why = "not a loopback address, and nobody need prove who it is: everybody who reaches \
                   it would see who is served. Set metrics.token_file or metrics.tls.client_ca, \
                   or listen on 127.0.0.1.";
        return Err(Problem::text("metrics.address", &address.to_string(), why));
    }
    for (index, host) in found.hosts.iter().enumerate() {
        if host.is_empty() || host.contains([':', '/']) {
            let why = "not a host name. Write it as scrapers do, without a port.";
            return Err(Problem::text(&format!("metrics.hosts[{index}]"), host, why));
        }
    }
    Ok(access)
}

/// One of how many allocations is measured.
pub(super) fn quality(found: &file::Quality) -> Result<Option<NonZeroU32>, Problem> {
    let every = number("quality.every", found.every, 1, 1..=1_000_000)?;
    let every = u32::try_from(every).ok().and_then(NonZeroU32::new);
    Ok(every.filter(|_| found.measure.unwrap_or(true)))
}

pub(super) fn control(
    found: &file::Control,
    directory: &Path,
) -> Result<Option<socket::Place>, Problem> {
    let shown = found.mode.as_deref().unwrap_or(OWNER_ALONE);
    let wrong = |why| Problem::text("control.mode", shown, why);
    let mode = u32::from_str_radix(shown, 8)
        .ok()
        .filter(|mode| *mode <= 0o777 && shown.bytes().all(|byte| byte.is_ascii_digit()));
    let mode = mode.ok_or_else(|| {
        wrong("not the mode of a file. \"0600\" lets its owner in, \"0660\" its group as well.")
    })?;
    if mode & 0o007 != 0 {
        return Err(wrong(
            "everybody on this host could end calls. \"0600\" lets its owner in, \"0660\" the \
             group as well that control.group names.",
        ));
    }
    let group = found.group.as_ref().map(|name| {
        socket::group(name).ok_or_else(|| {
            let why = "this host has no such group. Make one with: groupadd --system NAME.";
            Problem::text("control.group", name, why)
        })
    });
    let group = group.transpose()?;
    let place = |path| socket::Place { path: directory.join(path), mode, group };
    Ok(found.path.as_ref().map(place))
}
