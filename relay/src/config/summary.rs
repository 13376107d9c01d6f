//! What a relay of a configuration would be, in words.

use super::Config;

impl Config {
    /// What would be started: one line per fact.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "media relay of realm {:?}, {} workers, {} allocations at most",
            self.realm, self.workers, self.limits.allocations
        )];
        lines.extend(self.listeners.iter().map(|listener| {
            let outside =
                listener.advertised.map_or_else(String::new, |ip| format!(", advertised as {ip}"));
            let (transport, side) = (listener.transport.name(), listener.side.name());
            format!("listens on {}/{transport}, {side} side{outside}", listener.local)
        }));
        if let Some(tls) = &self.tls {
            lines.push(format!("shows {} TLS certificates by name", tls.certificates.count()));
            lines.extend(tls.pass_through.iter().map(|pass| {
                format!("passes TLS of others on to {}, {} host names", pass.to, pass.names.len())
            }));
        }
        lines.extend(self.relays.iter().map(|relay| {
            let outside = if relay.local == relay.advertised {
                String::new()
            } else {
                format!(", advertised as {}", relay.advertised)
            };
            let (first, last) = (self.ports.start(), self.ports.end());
            format!("relays on {}, ports {first}-{last}{outside}", relay.local)
        }));
        lines.extend(self.corners.iter().map(|corners| {
            let places = corners.listeners().iter();
            let places = places.filter_map(|it| self.listeners.get(it.index()));
            let names: Vec<_> = places.map(|it| it.local.to_string()).collect();
            format!("NAT behaviour discovery between {}", names.join(", "))
        }));
        if let Some(ring) = &self.authority.ring {
            lines.push(format!("verifies pool key {}", ring.current.id));
            lines.extend(ring.previous.iter().map(|key| format!("and previous key {}", key.id)));
        }
        if !self.authority.rest_secrets.is_empty() {
            lines.push(format!("verifies {} shared secrets", self.authority.rest_secrets.len()));
        }
        if let Some(users) = &self.authority.users {
            lines.push(format!("knows {} users by name", users.len()));
        }
        if let Some(tokens) = &self.authority.tokens {
            let keys: Vec<_> = tokens.keys.iter().map(|key| format!("{:?}", key.id())).collect();
            lines.push(format!(
                "takes access tokens for {:?}, sealed with keys {}",
                tokens.server_name,
                keys.join(", ")
            ));
        }
        let others: Vec<_> =
            self.redirect.alternates.iter().flatten().map(ToString::to_string).collect();
        if !others.is_empty() {
            lines.push(format!("sends clients it does not take to {}", others.join(", ")));
        }
        lines.push(self.metrics.as_ref().map_or_else(
            || "no metrics".to_owned(),
            |it| format!("metrics on {}://{}/metrics", it.access.scheme(), it.address),
        ));
        lines.extend(self.records.iter().map(|it| format!("usage records to {}", it.places())));
        lines.extend(
            self.admin
                .iter()
                .map(|it| format!("administration on {}://{}/", it.access.scheme(), it.address)),
        );
        lines.extend(
            self.control
                .iter()
                .map(|it| format!("control on {} ({:04o})", it.path.display(), it.mode)),
        );
        lines
    }
}
