//! What all requests share: the configuration in force, who failed lately, the metrics.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::http::{HeaderMap, header};

use crate::callers::CallerId;
use crate::clock;
use crate::config::Config;
use crate::limits::{Allowances, Network};
use crate::mras::issue::Asked;
use crate::refusal::{Refusal, Why};
use crate::telemetry::{CallerCounters, Telemetry};

/// Shared by every connection of a service.
pub(crate) struct Shared {
    live: RwLock<Arc<Live>>,
    failures: Mutex<Allowances<Network>>,
    handshakes: Mutex<Allowances<Network>>,
    stopping: AtomicBool,
    pub(crate) telemetry: Telemetry,
}

/// A configuration in force, with the counters of its callers and of its limits.
pub(crate) struct Live {
    pub(crate) config: Config,
    pub(crate) counters: Vec<CallerCounters>,
    /// With MRAS.
    pub(crate) asked: Option<Asked>,
}

impl Shared {
    /// Of a service that starts.
    pub(crate) fn new(config: Config) -> Self {
        let telemetry = Telemetry::new();
        telemetry.keys(&config.issue.ring, 1.0);
        Self {
            failures: Mutex::new(Allowances::new(config.failures)),
            handshakes: Mutex::new(Allowances::new(config.handshakes)),
            stopping: AtomicBool::new(false),
            live: RwLock::new(Arc::new(Live {
                counters: telemetry.callers(config.callers.names()),
                asked: config.mras.as_ref().map(|mras| Asked::new(&mras.rules)),
                config,
            })),
            telemetry,
        }
    }

    /// The configuration in force.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another configuration in force: keys, callers, lifetimes, URIs, limits and the
    /// certificate. The sockets stay as they are.
    pub(crate) fn replace(&self, config: Config) {
        let failures = Allowances::new(config.failures);
        let handshakes = Allowances::new(config.handshakes);
        let old = self.live();
        self.telemetry.keys(&old.config.issue.ring, 0.0);
        self.telemetry.keys(&config.issue.ring, 1.0);
        let counters = self.telemetry.callers(config.callers.names());
        let asked = config.mras.as_ref().map(|mras| Asked::new(&mras.rules));
        *self.live.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Live { config, counters, asked });
        *self.lock_failures() = failures;
        *self.handshakes.lock().unwrap_or_else(PoisonError::into_inner) = handshakes;
    }

    /// From now on the service is not ready.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether requests should be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed)
    }

    /// Finds out who asks, and charges one request to the caller.
    ///
    /// `known` hears of a key that is good, even if its rate is not. A network that failed too often is refused without a look at its key, so that guessing is
    /// throttled; other networks never notice.
    pub(crate) fn admit(
        &self,
        live: &Live,
        client: IpAddr,
        presented: Option<&str>,
        known: impl FnOnce(),
    ) -> Result<CallerId, Refusal> {
        let now = clock::now().mono;
        let network = Network::of(client);
        self.lock_failures().may_try(&network, now).map_err(|wait| {
            Refusal::until(Why::TooManyFailures, wait, "too many failed attempts from your network")
        })?;
        let caller = presented.map(|key| live.config.callers.identify(key));
        let Some(Some(caller)) = caller else {
            self.lock_failures().charge(network, now);
            return Err(match caller {
                None => Refusal::new(
                    Why::MissingKey,
                    "a caller's key is needed: Authorization: Bearer KEY",
                ),
                Some(_) => Refusal::new(Why::WrongKey, "the key is not that of any caller"),
            });
        };
        known();
        live.config.callers.take(caller, now).map_err(|wait| {
            Refusal::until(Why::CallerRate, wait, "you ask more often than your rate_per_s allows")
        })?;
        Ok(caller)
    }

    /// Whether a network may begin one more TLS handshake, which costs us more than it.
    pub(crate) fn lets_shake(&self, network: Network) -> bool {
        let now = clock::now().mono;
        let mut begun = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        let lets = begun.may_try(&network, now).is_ok();
        if lets {
            begun.charge(network, now);
        }
        lets
    }

    fn lock_failures(&self) -> std::sync::MutexGuard<'_, Allowances<Network>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Whether an address is one of the proxies in front of the service.
    pub(crate) fn is_proxy(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.config.trusted_proxies.iter().any(|range| range.contains(&ip))
    }

    /// Who the client is: the peer of the connection, or behind trusted proxies the last
    /// address of `X-Forwarded-For` that is none of theirs.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        let hops = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        for hop in hops.flat_map(|value| value.split(',')).collect::<Vec<_>>().into_iter().rev() {
            if !self.is_proxy(client) {
                break;
            }
            let Ok(ip) = hop.trim().parse::<IpAddr>() else { break };
            client = ip.to_canonical();
        }
        client
    }
}

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The bearer key of a request (RFC 6750 §2.1). Several Authorization headers are none: nobody
/// could say which of them counts.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn rest_013_the_bearer_key_is_read_as_rfc_6750_writes_it() {
        for (case, values, expected) in [
            ("plain", &["Bearer abc"][..], Some("abc")),
            ("scheme in any case", &["bEARER abc"], Some("abc")),
            ("more spaces", &["Bearer   abc "], Some("abc")),
            ("another scheme", &["Basic abc"], None),
            ("no key", &["Bearer"], None),
            ("two headers", &["Bearer abc", "Bearer abc"], None),
            ("no header", &[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            assert_eq!(bearer(&headers), expected, "{case}");
        }
    }
}
