//! Where usage records go, and what they tell.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::Uri;
use ureq::tls::Certificate;
use zeroize::Zeroizing;

use super::check::{number, seconds};
use super::error::Problem;
use super::file;
use super::secrets;
use crate::records::{HttpWish, Place, RedisWish, SpoolWish, Wish};
use crate::shown::Shown;

/// How often an open allocation is told of, without a word.
const INTERIM_S: u64 = 300;

/// Room for a day of a busy relay.
const SPOOL_MIB: u64 = 64;

/// The `[records]` table; one that names no place keeps none.
pub(super) fn records(
    found: Option<&file::Records>,
    directory: &Path,
) -> Result<Option<Wish>, Problem> {
    let Some(found) = found else { return Ok(None) };
    let receiver = |name, table: &Option<file::HttpReceiver>| {
        table.as_ref().map(|it| http(name, it, directory)).transpose()
    };
    let http = receiver("http", &found.http)?;
    let otlp = receiver("otlp", &found.otlp)?;
    let redis = found.redis.as_ref().map(|it| redis(it, directory)).transpose()?;
    let file = found.file.as_ref().map(|path| place(path, directory)).transpose()?;
    let receivers = http.is_some() || otlp.is_some() || redis.is_some();
    let spool_mib = number("records.spool_mib", found.spool_mib, SPOOL_MIB, 1..=65_536)?;
    let spool = match &found.spool {
        None if receivers => {
            let why = "missing. Name a folder where records wait while a receiver is away, for \
                       instance \"/var/lib/av-edge/records\".";
            return Err(Problem::at("records.spool", why));
        }
        None => None,
        Some(folder) => {
            let folder = directory.join(folder);
            if !folder.is_dir() {
                let why = "no folder. Make it, for the relay's user: install -d -o av-edge FOLDER.";
                return Err(Problem::text("records.spool", &folder.display().to_string(), why));
            }
            receivers.then_some(SpoolWish { folder, limit: spool_mib << 20 })
        }
    };
    let interim = seconds("records.interim_s", found.interim_s, INTERIM_S, 0..=86_400)?;
    let addresses = shown("records.addresses", found.addresses.as_deref())?;
    let node = node(found.node.as_deref())?;
    let interim = Some(interim).filter(|it| !it.is_zero());
    let kept = file.is_some() || receivers;
    Ok(kept.then_some(Wish { node, interim, addresses, file, spool, http, otlp, redis }))
}

/// What is told of addresses.
pub(super) fn shown(key: &str, found: Option<&str>) -> Result<Shown, Problem> {
    match found {
        None | Some("full") => Ok(Shown::Full),
        Some("network") => Ok(Shown::Network),
        Some("none") => Ok(Shown::Nothing),
        Some(other) => {
            let why = "not a way to tell addresses. \"full\" tells them with their ports, \
                       \"network\" the network around them, \"none\" nothing.";
            Err(Problem::text(key, other, why))
        }
    }
}

/// The name of this relay: that of its host without a word.
fn node(found: Option<&str>) -> Result<String, Problem> {
    let Some(name) = found else {
        let host = nix::unistd::gethostname();
        return Ok(host.map_or_else(|_| String::new(), |it| it.to_string_lossy().into_owned()));
    };
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        let why = "a name has 1 to 255 characters, none of them a control character.";
        return Err(Problem::text("records.node", name, why));
    }
    Ok(name.to_owned())
}

fn place(path: &Path, directory: &Path) -> Result<Place, Problem> {
    if path.as_os_str() == "-" {
        return Ok(Place::Stdout);
    }
    let path = directory.join(path);
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = path.display().to_string();
    if !folder.is_dir() {
        let why = "its folder is not there. Make it, for the relay's user: install -d -o av-edge \
                   FOLDER.";
        return Err(Problem::text("records.file", &shown, why));
    }
    if folder == Path::new("/") || path.is_dir() {
        let why = "not a place for a file of the relay. For instance \
                   \"/var/log/av-edge/records.jsonl\"; \"-\" is standard output.";
        return Err(Problem::text("records.file", &shown, why));
    }
    Ok(Place::Path(path))
}

/// A receiver over HTTP, by the name of its table.
fn http(name: &str, found: &file::HttpReceiver, directory: &Path) -> Result<HttpWish, Problem> {
    let key = |key: &str| format!("records.{name}.{key}");
    let wrong = |why: &str| Problem::text(&key("url"), &found.url, why);
    let example = "not a URL of HTTP. For instance \"https://billing.example.com/records\".";
    let uri: Uri = found.url.parse().map_err(|_| wrong(example))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong(example));
    };
    if authority.as_str().contains('@') {
        // It may hold a password.
        let why =
            format!("no name or password belongs into it. Put a token into {}.", key("token_file"));
        return Err(Problem::at(&key("url"), &why));
    }
    let is_tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(wrong(example)),
    };
    let host = authority.host().to_owned();
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let token = found.token_file.as_ref();
    let token = token.map(|path| secret(&key("token_file"), &directory.join(path))).transpose()?;
    let is_near = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if token.is_some() && !is_tls && !is_near {
        return Err(wrong("everybody on the way would read the token. Use https."));
    }
    let file = found.ca_file.as_ref().map(|it| directory.join(it));
    let authorities = Arc::new(authorities(&key("ca_file"), file, is_tls)?);
    Ok(HttpWish { url: found.url.clone(), host, port, token, authorities })
}

/// Whom the receiver's certificate may come from: those of a file, or those this host trusts.
fn authorities(
    key: &str,
    file: Option<std::path::PathBuf>,
    wanted: bool,
) -> Result<Vec<Certificate<'static>>, Problem> {
    let own = |it: &CertificateDer<'_>| Certificate::from_der(it).to_owned();
    let Some(path) = file else {
        let found =
            if wanted { rustls_native_certs::load_native_certs().certs } else { Vec::new() };
        // That there are none is told by `unknown`: a relay that runs need not look again.
        return Ok(found.iter().map(own).collect());
    };
    let wrong = |why: &str| Problem::text(key, &path.display().to_string(), why);
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
    let found = found.map_err(|error| wrong(&format!("cannot be read: {error}.")))?;
    if found.is_empty() {
        return Err(wrong("holds no certificate in PEM."));
    }
    Ok(found.iter().map(own).collect())
}

/// What is wrong if a receiver's certificate can come from nobody.
pub(super) fn unknown(wish: &Wish) -> Option<Problem> {
    let why = "missing, and this host trusts no authority (package ca-certificates). Name a file \
               of PEM with whom the receiver's certificate comes from.";
    let nobody = |it: &HttpWish| it.url.starts_with("https") && it.authorities.is_empty();
    let receivers = [("records.http.ca_file", &wish.http), ("records.otlp.ca_file", &wish.otlp)];
    let mut unknown = receivers.into_iter().filter(|(_, it)| it.as_ref().is_some_and(nobody));
    unknown.next().map(|(key, _)| Problem::at(key, why))
}

fn redis(found: &file::RedisReceiver, directory: &Path) -> Result<RedisWish, Problem> {
    let key = "records.redis.address";
    let parts = found.address.rsplit_once(':');
    let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts.filter(|(host, port)| !host.is_empty() && *port > 0) else {
        let why = "not a host with a port. For instance \"127.0.0.1:6379\".";
        return Err(Problem::text(key, &found.address, why));
    };
    if found.stream.is_empty() {
        let why = "empty. Name the stream, for instance \"av-edge:records\".";
        return Err(Problem::at("records.redis.stream", why));
    }
    let password = found
        .password_file
        .as_ref()
        .map(|path| secret("records.redis.password_file", &directory.join(path)));
    let password = password.transpose()?;
    if found.user.is_some() && password.is_none() {
        let why = "missing. A user proves who it is: name the file of its password.";
        return Err(Problem::at("records.redis.password_file", why));
    }
    let most = found
        .max_length
        .map(|_| number("records.redis.max_length", found.max_length, 1, 1..=1_000_000_000_000));
    Ok(RedisWish {
        host: host.to_owned(),
        port,
        stream: found.stream.clone(),
        user: found.user.clone(),
        password,
        most: most.transpose()?,
    })
}

/// The only line of a file that others may not read.
fn secret(key: &str, path: &Path) -> Result<Zeroizing<String>, Problem> {
    let text = secrets::read(key, path)?;
    let line = text.trim();
    if line.is_empty() || line.chars().any(|it| it.is_control() || it.is_whitespace()) {
        let why = "one line without blanks is right.";
        return Err(Problem::text(key, &path.display().to_string(), why));
    }
    Ok(Zeroizing::new(line.to_owned()))
}
