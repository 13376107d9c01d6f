//! The XML of a response.

use std::fmt::{self, Write as _};

use proto::auth::Credential;

use crate::mras::reason::Reason;
use crate::mras::relays::{Host, Told};
use crate::mras::request::{Entry, Request};
use crate::mras::{NAMESPACE, SERVER_VERSION};

/// What was granted for an entry.
pub(crate) struct Granted {
    pub(crate) credential: Credential,
    pub(crate) duration_min: u64,
    /// At least one.
    pub(crate) relays: Vec<Told>,
}

/// With credentials, one for each entry in its order.
pub(crate) fn granted(request: &Request, granted: &[Granted], realm: Option<&str>) -> String {
    let mut text = head(Some(request), &request.version, Reason::Ok);
    text.push('>');
    for (entry, granted) in request.entries.iter().zip(granted) {
        write_entry(&mut text, entry, granted, realm);
    }
    text.push_str("</response>");
    text
}

/// Without any. A request that could not be read is not echoed (MRAS-12).
pub(crate) fn refused(request: Option<&Request>, reason: Reason) -> String {
    let echo = request.filter(|_| reason != Reason::RequestMalformed);
    let version = match (echo, reason) {
        (Some(request), Reason::VersionMismatch) => request.nearest_version(),
        (Some(request), _) => &request.version,
        (None, _) => SERVER_VERSION,
    };
    head(echo, version, reason) + "/>"
}

/// Declaration and root, still open.
fn head(echo: Option<&Request>, version: &str, reason: Reason) -> String {
    let mut text = "<?xml version=\"1.0\"?>\r\n<response".to_owned();
    let mut attribute = |name: &str, value: &str| {
        let _ = write!(text, " {name}=\"{}\"", Escaped(value));
    };
    if let Some(request) = echo {
        attribute("requestID", &request.id);
    }
    attribute("version", version);
    attribute("serverVersion", SERVER_VERSION);
    if let Some(request) = echo {
        attribute("to", &request.to);
        attribute("from", &request.from);
    }
    attribute("reasonPhrase", reason.phrase());
    attribute("xmlns", NAMESPACE);
    text
}

fn write_entry(text: &mut String, entry: &Entry, granted: &Granted, realm: Option<&str>) {
    let Granted { credential, duration_min, relays } = granted;
    let mut credentials = String::new();
    let _ = write!(
        credentials,
        "<username>{}</username><password>{}</password><duration>{duration_min}</duration>",
        credential.username, *credential.password
    );
    if let Some(realm) = realm {
        let _ = write!(credentials, "<realm>{}</realm>", Escaped(realm));
    }
    let mut list = String::new();
    for relay in relays {
        write_relay(&mut list, relay);
    }
    let _ = write!(
        text,
        "<credentialsResponse credentialsRequestID=\"{}\"><credentials>{credentials}\
         </credentials><mediaRelayList>{list}</mediaRelayList></credentialsResponse>",
        Escaped(&entry.id)
    );
}

fn write_relay(text: &mut String, relay: &Told) {
    let Told { location, host, udp_port, tcp_port } = relay;
    let _ = write!(text, "<mediaRelay><location>{}</location>", location.name());
    let _ = match host {
        Host::Name(name) => write!(text, "<hostName>{}</hostName>", Escaped(name)),
        Host::Address(address) => write!(text, "<directIPAddress>{address}</directIPAddress>"),
    };
    for (name, port) in [("udpPort", udp_port), ("tcpPort", tcp_port)] {
        if let Some(port) = port {
            let _ = write!(text, "<{name}>{port}</{name}>");
        }
    }
    text.push_str("</mediaRelay>");
}

/// A value as it may stand in an attribute or an element.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            // A parser would make a blank of them, or lose them.
            char if char.is_control() => write!(f, "&#{};", u32::from(char)),
            char => write!(f, "{char}"),
        })
    }
}
