//! How many connections the doors take: what an operator says, or what descriptors leave room for.

use super::{Config, ConfigError, Reader, file};

/// Connections that may be open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connections {
    /// In all.
    pub(crate) total: usize,
    /// From an IPv4 /24, or an IPv6 /48, of those that have shown nothing.
    pub(crate) per_network: usize,
    /// From an IPv4 address, or an IPv6 /64.
    pub(crate) per_client: usize,
}

/// What the door of the metrics takes: a few scrapers.
pub(crate) const SCRAPERS: Connections = Connections { total: 64, per_network: 64, per_client: 64 };

/// Descriptors that are kept from connections: for files that are read again, for the service
/// itself, and for connections that have left and are about to be closed.
const SPARE: u64 = 192;

/// How many the doors take without a word of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) api: usize,
    pub(super) mras: usize,
}

impl Shares {
    /// As the limit of descriptors allows, once it is raised.
    pub(super) fn of_this_process() -> Self {
        Self::of(guard::descriptors::limit().map_or(u64::MAX, |(_, most)| most))
    }

    fn of(descriptors: u64) -> Self {
        let room = descriptors.saturating_sub(SPARE + SCRAPERS.total as u64);
        let share = |most: u64, parts: u64| usize::try_from((room / 5 * parts).clamp(8, most));
        Self { api: share(1024, 4).unwrap_or(8), mras: share(256, 1).unwrap_or(8) }
    }
}

impl Config {
    /// What an operator should know who lets in more connections than there are descriptors for.
    pub(crate) fn shortage(&self) -> Option<String> {
        let (_, most) = guard::descriptors::limit().ok()?;
        self.short_of(most)
    }

    fn short_of(&self, descriptors: u64) -> Option<String> {
        let mras = self.mras.as_ref().map_or(0, |mras| mras.connections.total);
        let doors = [self.connections.total, mras, SCRAPERS.total];
        let wanted = doors.iter().fold(SPARE, |sum, &door| sum.saturating_add(door as u64));
        (wanted > descriptors).then(|| {
            format!(
                "limits.connections = {} and mras.limits.connections = {mras} want {wanted} \
                 descriptors, and this process may have {descriptors}: raise the limit \
                 (LimitNOFILE=) or lower those; until then connections may have to wait",
                self.connections.total,
            )
        })
    }
}

impl Reader<'_> {
    /// Of `[limits]`.
    pub(super) fn connections(
        &self,
        found: &file::Limits,
        default: usize,
    ) -> Result<Connections, ConfigError> {
        let total = ("limits.connections", found.connections.unwrap_or(default));
        let per_client = ("limits.connections_per_client", found.connections_per_client);
        self.bounds(
            total,
            per_client,
            ("limits.connections_per_network", found.connections_per_network),
        )
    }

    /// Of `[mras.limits]`.
    pub(super) fn mras_connections(
        &self,
        found: &file::MrasLimits,
        default: usize,
    ) -> Result<Connections, ConfigError> {
        let total = ("mras.limits.connections", found.connections.unwrap_or(default));
        let per_server = ("mras.limits.connections_per_server", found.connections_per_server);
        let network = ("mras.limits.connections_per_network", found.connections_per_network);
        self.bounds(total, per_server, network)
    }

    /// Without a word, a network has so few that it keeps nobody else out.
    fn bounds(
        &self,
        total: (&str, usize),
        per_client: (&str, usize),
        (key, per_network): (&str, Option<usize>),
    ) -> Result<Connections, ConfigError> {
        let per_network = (key, per_network.unwrap_or_else(|| (total.1 / 4).max(per_client.1)));
        for (key, found) in [total, per_client, per_network] {
            if found == 0 {
                return Err(self.wrong(key, 0, "must be at least 1"));
            }
        }
        let (total, per_network, per_client) = (total.1, per_network.1, per_client.1);
        Ok(Connections { total, per_network, per_client })
    }
}

#[cfg(test)]
mod tests {
    use pool_key::PrivateKey;
    use proto::auth::KeyRing;

    use super::*;

    #[test]
    fn sec_009_more_connections_than_descriptors_are_said() {
        let ring = || KeyRing { current: PrivateKey::generate().pool_key(), previous: Vec::new() };
        let config = |total: usize| {
            let text = format!(
                "listen = \"127.0.0.1:0\"\nuris = [\"turn:192.0.2.1:3478\"]\n\
                 callers = [{{ name = \"web\", key = \"0123456789abcdef\" }}]\n\
                 [limits]\nconnections = {total}"
            );
            Config::from_toml(&text, "auth.toml", Some(ring())).expect("a valid text")
        };
        assert_eq!(config(768).short_of(1_024), None);
        let said = config(769).short_of(1_024).expect("one too many");
        assert!(
            said.contains("limits.connections = 769 ") && said.contains("want 1025 "),
            "{said}"
        );
        assert!(said.contains("may have 1024:"), "{said}");
    }

    #[test]
    fn sec_009_all_doors_together_leave_descriptors_for_reloads() {
        for (descriptors, api, mras) in
            [(u64::MAX, 1024, 256), (4096, 1024, 256), (1024, 612, 153), (512, 204, 51), (0, 8, 8)]
        {
            let shares = Shares::of(descriptors);
            assert_eq!(shares, Shares { api, mras }, "{descriptors}");
            let sum = (shares.api + shares.mras + SCRAPERS.total) as u64;
            assert!(sum + SPARE <= descriptors || descriptors == 0, "{descriptors}: {sum}");
        }
    }
}
