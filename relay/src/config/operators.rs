//! The doors of operators: metrics and administration over HTTP, control on a unix socket; and
//! what is measured for them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;

use guard::certificate::Unusable;
use guard::tls::TlsTable;
use guard::{Access, Token, socket};
use proto::policy::Listener;

use super::check::number;
use super::error::Problem;
use super::{Admin, Metrics, file};

/// Where metrics are served without a word from the operator.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_641);

/// Where administration is served without a word from the operator: 9642 is the credential
/// service's, on the same host perhaps.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_643);

/// Who controls the relay without a word from the operator: whoever started it.
const OWNER_ALONE: &str = "0600";

pub(super) fn metrics(
    found: Option<&file::Metrics>,
    listeners: &[Listener],
    directory: &Path,
) -> Result<Option<Metrics>, Problem> {
    let Some(found) = found else { return Ok(None) };
    let address = address("metrics.address", found.address.as_deref(), METRICS, listeners)?;
    let file::Metrics { token_file, hosts, tls, .. } = found;
    let keys = Keys { table: "metrics", token_file: token_file.as_deref(), hosts, tls };
    let access = keys.access(address, directory)?;
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

pub(super) fn admin(
    found: Option<&file::Admin>,
    listeners: &[Listener],
    metrics: Option<&Metrics>,
    directory: &Path,
) -> Result<Option<Admin>, Problem> {
    let Some(found) = found else { return Ok(None) };
    let key = "admin.address";
    let address = address(key, found.address.as_deref(), ADMIN, listeners)?;
    if metrics.is_some_and(|metrics| metrics.address.port() == address.port()) {
        let why = "metrics are served on this port. Choose another one.";
        return Err(Problem::text(key, &address.to_string(), why));
    }
    let file::Admin { token_file, hosts, tls, .. } = found;
    let keys = Keys { table: "admin", token_file: token_file.as_deref(), hosts, tls };
    Ok(Some(Admin { address, access: keys.access(address, directory)? }))
}

/// Where a door is.
fn address(
    key: &str,
    found: Option<&str>,
    usual: SocketAddr,
    listeners: &[Listener],
) -> Result<SocketAddr, Problem> {
    let address = match found {
        None => usual,
        Some(text) => text.parse().map_err(|_| {
            let port = usual.port();
            let why = format!(
                "not an address with a port. For instance \"127.0.0.1:{port}\" or \
                 \"[::1]:{port}\"."
            );
            Problem::text(key, text, &why)
        })?,
    };
    if address.port() == 0 {
        let why = format!(
            "port 0 would be another one at every start. Choose one, for instance {}.",
            usual.port()
        );
        return Err(Problem::text(key, &address.to_string(), &why));
    }
    if listeners.iter().any(|listener| listener.local.port() == address.port()) {
        let why = "clients are served on this port. Choose another one for operators.";
        return Err(Problem::text(key, &address.to_string(), why));
    }
    Ok(address)
}

/// What says who may come in at a door.
struct Keys<'f> {
    table: &'static str,
    token_file: Option<&'f Path>,
    hosts: &'f [String],
    tls: &'f Option<TlsTable>,
}

impl Keys<'_> {
    /// Everybody on this host, or who knows a token or has a certificate.
    fn access(&self, address: SocketAddr, directory: &Path) -> Result<Access, Problem> {
        let key = |name: &str| format!("{}.{name}", self.table);
        let token = self.token_file.map(|path| {
            let path = directory.join(path);
            Token::read(&path).map_err(|error| {
                let shown = path.display().to_string();
                Problem::text(&key("token_file"), &shown, &error.to_string())
            })
        });
        let tls = self.tls.as_ref().map(|tls| tls.load(directory)).transpose();
        let tls = tls.map_err(|Unusable { file, path, why }| {
            Problem::text(&key(&format!("tls.{file}")), &path, &why)
        })?;
        let access = Access::new(token.transpose()?, self.hosts).over(tls);
        if !access.asks_for_proof() && guard::needs_proof(address) {
            let why = format!(
                "not a loopback address, and nobody need prove who it is: everybody who reaches \
                 it would see who is served. Set {0}.token_file or {0}.tls.client_ca, or listen \
                 on 127.0.0.1.",
                self.table
            );
            return Err(Problem::text(&key("address"), &address.to_string(), &why));
        }
        for (index, host) in self.hosts.iter().enumerate() {
            if host.is_empty() || host.contains([':', '/']) {
                let why = "not a host name. Write it as URLs have it, without a port.";
                return Err(Problem::text(&key(&format!("hosts[{index}]")), host, why));
            }
        }
        Ok(access)
    }
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
