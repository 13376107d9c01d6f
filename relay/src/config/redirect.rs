//! Where clients are sent that this relay does not take.

use std::net::SocketAddr;

use proto::addr::Family;
use proto::policy::Listener;
use proto::turn::config::Redirect;

use super::error::Problem;
use super::file;

pub(super) fn redirect(
    found: &file::Redirect,
    listeners: &[Listener],
    discovery: bool,
) -> Result<Redirect, Problem> {
    if discovery && !found.alternates.is_empty() {
        let why = "features.nat_discovery is on, and who asks it must not be sent elsewhere \
                   (RFC 5780 §6.1). Leave one of the two out.";
        return Err(Problem::at("redirect.alternates", why));
    }
    let mut alternates = [Vec::new(), Vec::new()];
    for (index, text) in found.alternates.iter().enumerate() {
        let server = alternate(&format!("redirect.alternates[{index}]"), text, listeners)?;
        alternates[Family::of(server.ip()).index()].push(server);
    }
    if let Some(listener) = listeners
        .iter()
        .find(|l| l.anycast && alternates[Family::of(l.local.ip()).index()].is_empty())
    {
        let why = format!(
            "none is of the family of {}, an anycast listener. Name where its clients shall go.",
            listener.local
        );
        return Err(Problem::at("redirect.alternates", &why));
    }
    let [mut when_draining, mut when_full] = [found.when.is_none(); 2];
    for (index, cause) in found.when.iter().flatten().enumerate() {
        match cause.as_str() {
            "drain" => when_draining = true,
            "overload" => when_full = true,
            other => {
                let why = "\"drain\" (the relay ends) and \"overload\" (limits.allocations is \
                           reached) are known.";
                return Err(Problem::text(&format!("redirect.when[{index}]"), other, why));
            }
        }
    }
    let domain = found.domain.clone();
    if let Some(domain) = domain.as_deref().filter(|domain| !is_domain(domain)) {
        let why = "not a DNS name. The name in the certificate of the alternates is right, in \
                   ASCII, at most 255 characters.";
        return Err(Problem::text("redirect.domain", domain, why));
    }
    Ok(Redirect { alternates, domain, when_draining, when_full })
}

fn alternate(key: &str, text: &str, listeners: &[Listener]) -> Result<SocketAddr, Problem> {
    let refuse = |why: &str| Err(Problem::text(key, text, why));
    let Ok(server) = text.parse::<SocketAddr>() else {
        return refuse("not an address with a port. For instance \"198.51.100.9:3478\".");
    };
    if server.port() == 0 || server.ip().is_unspecified() || server.ip().is_multicast() {
        return refuse("no client can reach this. Give the address and port of another relay.");
    }
    let ours = |listener: &Listener| {
        let names = [Some(listener.local.ip()), listener.advertised];
        !listener.anycast
            && listener.local.port() == server.port()
            && names.contains(&Some(server.ip()))
    };
    // A unicast listener of ours is a fine place for clients of an anycast one.
    let has_anycast = listeners.iter().any(|listener| listener.anycast);
    if listeners.iter().any(ours) && !has_anycast {
        return refuse("this relay itself. Clients would come back; name another one.");
    }
    Ok(server)
}

/// Labels of letters, digits and hyphens, joined by dots.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    (1..=255).contains(&name.len()) && name.split('.').all(label)
}
