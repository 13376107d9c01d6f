//! From a request to credentials: who may have them, for how long, on which relays.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use proto::addr::Side;
use proto::auth::KeyRing;
use proto::auth::ms_token::{self, ClientId, TokenGrant};

use crate::clock;
use crate::limits::{Allowances, Network, Rate};
use crate::mras::reason::Reason;
use crate::mras::relays::{Relay, choose};
use crate::mras::request::{Location, Request};
use crate::mras::response::Granted;
use crate::mras::uri::Pattern;

/// What is handed out, and to whom.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// What clients are told; the relays' own.
    pub(crate) realm: Option<String>,
    /// 1 minute to 180 days.
    pub(crate) max_lifetime_min: u64,
    pub(crate) relays: Vec<Relay>,
    /// Empty: everybody.
    pub(crate) identities: Vec<Pattern>,
    pub(crate) server_rate: Rate,
    pub(crate) identity_rate: Rate,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Server {
    /// Over TLS, by its certificate's name.
    Named(Arc<str>),
    /// In clear, on this host.
    Local(Network),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Local(_) => f.write_str("a local client"),
        }
    }
}

/// How often servers and users have asked.
pub(crate) struct Asked {
    servers: Mutex<Allowances<Server>>,
    identities: Mutex<Allowances<ClientId>>,
}

impl Asked {
    /// Nobody has.
    pub(crate) fn new(rules: &Rules) -> Self {
        Self {
            servers: Mutex::new(Allowances::new(rules.server_rate)),
            identities: Mutex::new(Allowances::new(rules.identity_rate)),
        }
    }

    /// Charges one request to a server, whatever will become of it.
    pub(crate) fn charge_server(&self, server: &Server) -> Result<(), Reason> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now().mono;
        servers.may_try(server, now).map_err(|_| Reason::ServerBusy)?;
        servers.charge(server.clone(), now);
        Ok(())
    }

    /// Charges one credential to each of these, unless one of them has had enough.
    fn charge_identities(&self, identities: &[ClientId]) -> Result<(), Reason> {
        let mut known = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now().mono;
        if identities.iter().any(|identity| known.may_try(identity, now).is_err()) {
            return Err(Reason::ServerBusy);
        }
        for &identity in identities {
            known.charge(identity, now);
        }
        Ok(())
    }
}

/// What credentials are made of.
#[derive(Clone, Copy)]
pub(crate) struct Mint<'r> {
    ring: &'r KeyRing,
    /// Fills bytes at random.
    random: fn(&mut [u8]) -> Result<(), getrandom::Error>,
}

impl<'r> Mint<'r> {
    /// The pool's keys, and the operating system's generator.
    pub(crate) fn of(ring: &'r KeyRing) -> Self {
        Self { ring, random: getrandom::fill }
    }

    fn salt(self) -> Result<u16, Reason> {
        let mut salt = [0; 2];
        (self.random)(&mut salt).map_err(|error| {
            tracing::error!("the operating system gives no random numbers: {error}");
            Reason::InternalServerError
        })?;
        Ok(u16::from_be_bytes(salt))
    }
}

/// Mints for every entry, or for none (MRAS-22). Past the deadline the work is given up.
pub(crate) fn issue(
    rules: &Rules,
    mint: Mint<'_>,
    asked: &Asked,
    request: &Request,
    deadline: Instant,
) -> Result<Vec<Granted>, Reason> {
    request.check()?;
    let allowed = |uri: &str| rules.identities.iter().any(|pattern| pattern.fits(uri));
    let entries = &request.entries;
    if !rules.identities.is_empty() && !entries.iter().all(|entry| allowed(&entry.identity)) {
        return Err(Reason::Forbidden);
    }
    let relays: Vec<_> =
        entries.iter().map(|entry| choose(&rules.relays, entry.location, request.route)).collect();
    if relays.iter().any(Vec::is_empty) {
        return Err(Reason::NotSupported);
    }
    let key = &mint.ring.current;
    let identities: Vec<_> =
        entries.iter().map(|entry| ClientId::of(key, &entry.identity)).collect();
    asked.charge_identities(&identities)?;
    let now = clock::now().unix;
    let mut granted = Vec::with_capacity(entries.len());
    for (entry, relays) in entries.iter().zip(relays) {
        if clock::now().mono > deadline {
            return Err(Reason::TimeOut);
        }
        let wanted = entry.duration_min.unwrap_or(rules.max_lifetime_min);
        let duration_min = wanted.min(rules.max_lifetime_min);
        let grant = TokenGrant {
            identity: &entry.identity,
            expires: now.plus(duration_min * 60),
            side: entry.location.map(side_of),
        };
        let credential = ms_token::mint(key, &grant, mint.salt()?);
        let credential = credential.ok_or(Reason::OtherFailure)?.text();
        granted.push(Granted { credential, duration_min, relays });
    }
    Ok(granted)
}

fn side_of(location: Location) -> Side {
    match location {
        Location::Internet => Side::External,
        Location::Intranet => Side::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pool_key::PrivateKey;

    use super::*;
    use crate::mras::NAMESPACE;

    /// What becomes of a request for one credential.
    fn outcome(
        random: fn(&mut [u8]) -> Result<(), getrandom::Error>,
        deadline: Instant,
    ) -> Result<usize, Reason> {
        let rate = Rate::new(1.0, 10).expect("a good rate");
        let relay = Relay {
            location: Location::Internet,
            host_name: "av.example.com".to_owned(),
            direct_ip: None,
            udp_port: Some(3478),
            tcp_port: None,
        };
        let rules = Rules {
            realm: None,
            max_lifetime_min: 480,
            relays: vec![relay],
            identities: Vec::new(),
            server_rate: rate,
            identity_rate: rate,
        };
        let current = PrivateKey::generate_ed25519().pool_key();
        let ring = KeyRing { current, previous: Vec::new() };
        let body = format!(
            "<request requestID=\"1\" version=\"1.0\" to=\"sip:a\" from=\"sip:b\" \
             xmlns=\"{NAMESPACE}\"><credentialsRequest credentialsRequestID=\"1\">\
             <identity>sip:a@b</identity></credentialsRequest></request>"
        );
        let request = Request::parse(body.as_bytes()).expect("of the schema");
        let mint = Mint { ring: &ring, random };
        issue(&rules, mint, &Asked::new(&rules), &request, deadline).map(|granted| granted.len())
    }

    fn in_a_minute() -> Instant {
        clock::now().mono + Duration::from_secs(60)
    }

    #[test]
    fn mras_019_past_the_deadline_nothing_is_minted() {
        assert_eq!(outcome(getrandom::fill, in_a_minute()), Ok(1));
        let now = clock::now().mono;
        let past = now.checked_sub(Duration::from_millis(1)).expect("no boot just now");
        assert_eq!(outcome(getrandom::fill, past), Err(Reason::TimeOut));
    }

    #[test]
    fn mras_020_without_random_numbers_nothing_is_minted() {
        let nothing = |_: &mut [u8]| Err(getrandom::Error::UNSUPPORTED);
        assert_eq!(outcome(nothing, in_a_minute()), Err(Reason::InternalServerError));
    }
}
