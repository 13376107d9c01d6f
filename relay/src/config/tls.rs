//! What TLS is served with, and where TLS goes that is for somebody else.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use guard::certificate::{Files, Unusable};
use proto::addr::Transport;
use proto::policy::Listener;
use rustls::ServerConfig;

use super::check::number;
use super::error::Problem;
use super::{file, limits};
use crate::certificates::Certificates;
use crate::stream::PassThrough;

/// TLS, ready for use.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// What is read again when its files change.
    pub(super) certificates: Arc<Certificates>,
    /// What sessions are made with.
    pub(super) server: Arc<ServerConfig>,
    /// Where foreign TLS goes.
    pub(super) pass_through: Option<PassThrough>,
}

/// The `[tls]` table; listeners that speak TLS need one.
pub(super) fn tls(
    found: Option<&file::Tls>,
    listeners: &[Listener],
    directory: &Path,
    descriptors: u64,
) -> Result<Option<Tls>, Problem> {
    let key = "tls.certificates";
    let has = |transport| listeners.iter().any(|it| it.transport == transport);
    let needed = has(Transport::Tls) || has(Transport::Dtls);
    let Some(found) = found else {
        let why = "missing, while a listener speaks TLS or DTLS. Name a certificate and its key: \
                   certificates = [{ certificate = \"turn.pem\", key = \"turn.key\" }].";
        return if needed { Err(Problem::at(key, why)) } else { Ok(None) };
    };
    if found.certificates.is_empty() {
        let why = "empty. The first certificate is the one for clients that name no host.";
        return Err(Problem::at(key, why));
    }
    let files = found.certificates.iter().map(|it| Files {
        certificate: directory.join(&it.certificate),
        key: directory.join(&it.key),
    });
    let certificates = Certificates::load(files.collect()).map(Arc::new).map_err(unusable)?;
    if has(Transport::Dtls) && certificates.for_dtls().is_none() {
        let why = "none has a key that DTLS can use here, which is ECDSA on P-256 or P-384. Add \
                   such a certificate; TLS goes on with all of them.";
        return Err(Problem::at(key, why));
    }
    let server = Arc::clone(&certificates)
        .server_config()
        .map_err(|error| Problem::at("tls", &format!("{error}.")))?;
    let pass_through =
        found.pass_through.as_ref().map(|it| pass_through(it, listeners, descriptors));
    Ok(Some(Tls { certificates, server, pass_through: pass_through.transpose()? }))
}

/// A certificate that is no good.
fn unusable((index, Unusable { file, path, why }): (usize, Unusable)) -> Problem {
    Problem::text(&format!("tls.certificates[{index}].{file}"), &path, &why)
}

fn pass_through(
    found: &file::PassThrough,
    listeners: &[Listener],
    descriptors: u64,
) -> Result<PassThrough, Problem> {
    let key = "tls.pass_through.to";
    let refuse = |why: &str| Err(Problem::text(key, &found.to, why));
    let Ok(to) = found.to.parse::<SocketAddr>() else {
        return refuse("not an address with a port. For instance \"127.0.0.1:8443\".");
    };
    let is_stream = |it: &Listener| matches!(it.transport, Transport::Tcp | Transport::Tls);
    if to.port() == 0 || to.ip().is_unspecified() {
        return refuse("nobody can be reached there. Name the address of the web server.");
    }
    if listeners.iter().any(|listener| is_stream(listener) && listener.local == to) {
        return refuse("this relay's own listener: connections would go in circles.");
    }
    let mut names = Vec::new();
    for (index, name) in found.names.iter().enumerate() {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || !name.chars().all(good) {
            let why = "not a host name. Write it out, without a wildcard: \"www.example.org\".";
            return Err(Problem::text(&format!("tls.pass_through.names[{index}]"), name, why));
        }
        names.push(name.to_ascii_lowercase());
    }
    let wanted = [found.connections, found.connections_per_network, found.connections_per_client];
    let bounds = limits::bounds("tls.pass_through", wanted, [limits::passages(descriptors), 256])?;
    let idle = number("tls.pass_through.idle_s", found.idle_s, 600, 60..=86_400)?;
    let (proxy_header, idle) = (found.proxy_header, Duration::from_secs(idle));
    Ok(PassThrough { to, names, proxy_header, bounds, idle })
}
