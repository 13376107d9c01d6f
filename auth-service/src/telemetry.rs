//! Names, units and labels of the service's metrics.
//!
//! Every service has a recorder of its own rather than the process's, because the relay may run
//! in the same process. All series exist from the start, so that a counter's first step shows.

use std::time::Duration;

use guard::Measures;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram, with_local_recorder,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use proto::addr::Side;
use proto::auth::KeyRing;

use crate::crowd::TooMany;
use crate::mras::telemetry::Counters as MrasCounters;
use crate::refusal::Why;
use crate::server::Place;

/// Upper bounds of the latency histogram, in seconds.
const LATENCY_BOUNDS_S: [f64; 10] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0];

/// The service's metrics.
pub(crate) struct Telemetry {
    recorder: PrometheusRecorder,
    refused: Vec<Counter>,
    latency: Histogram,
    connections: Gauge,
    tls_failures: Counter,
    turned_away: [Counter; TooMany::ALL.len()],
    paused: [Gauge; Place::ALL.len()],
    reloads: [Counter; 2],
    pub(crate) mras: MrasCounters,
}

impl Telemetry {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let buckets = Matcher::Full(LATENCY.to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(buckets, &LATENCY_BOUNDS_S);
        let recorder = builder.expect("the list of bounds is not empty").build_recorder();
        with_local_recorder(&recorder, describe);
        let counters = |name: &'static str, label: &'static str| move |value: &'static str| counter!(name, label => value);
        Self {
            refused: with_local_recorder(&recorder, || Why::ALL.map(refusals).to_vec()),
            latency: with_local_recorder(&recorder, || histogram!(LATENCY)),
            connections: with_local_recorder(&recorder, || gauge!(CONNECTIONS)),
            tls_failures: with_local_recorder(&recorder, || counter!(TLS_FAILURES)),
            turned_away: with_local_recorder(&recorder, || {
                TooMany::ALL.map(TooMany::name).map(counters(TURNED_AWAY, "reason"))
            }),
            paused: with_local_recorder(&recorder, || {
                Place::ALL.map(|place| gauge!(PAUSED, "door" => place.name()))
            }),
            reloads: with_local_recorder(&recorder, || {
                ["done", "failed"].map(counters(RELOADS, "result"))
            }),
            mras: with_local_recorder(&recorder, MrasCounters::new),
            recorder,
        }
    }

    /// Counters for callers, in their order.
    pub(crate) fn callers<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<CallerCounters> {
        with_local_recorder(&self.recorder, || names.map(CallerCounters::new).collect())
    }

    /// Shows which pool keys are held: 1 for those of the ring, 0 for those that left it.
    pub(crate) fn keys(&self, ring: &KeyRing, value: f64) {
        let show = |role: &'static str, id: String| {
            gauge!(POOL_KEY, "key" => id, "role" => role).set(value);
        };
        with_local_recorder(&self.recorder, || {
            show("current", ring.current.id.to_string());
            for key in &ring.previous {
                show("previous", key.id.to_string());
            }
        });
    }

    /// Shows what protects the process.
    pub(crate) fn hardened(&self, measures: Measures) {
        with_local_recorder(&self.recorder, || {
            for (measure, holds) in measures.named() {
                gauge!(HARDENING, "measure" => measure).set(f64::from(u8::from(holds)));
            }
        });
    }

    /// Counts a request, answered after `took`.
    pub(crate) fn answered(&self, refused: Option<Why>, took: Duration) {
        self.latency.record(took.as_secs_f64());
        if let Some(why) = refused {
            self.refused(why);
        }
    }

    /// Counts a refusal; by itself, of what never came to be a request.
    pub(crate) fn refused(&self, why: Why) {
        let index = Why::ALL.iter().position(|&other| other == why);
        if let Some(counter) = index.and_then(|index| self.refused.get(index)) {
            counter.increment(1);
        }
    }

    /// A connection was opened.
    pub(crate) fn opened(&self) {
        self.connections.increment(1.0);
    }

    /// A connection ended.
    pub(crate) fn closed(&self) {
        self.connections.decrement(1.0);
    }

    /// A connection was not served, or had to make room.
    pub(crate) fn turned_away(&self, why: TooMany) {
        if let Some(counter) = self.turned_away.get(why as usize) {
            counter.increment(1);
        }
    }

    /// Whether connections wait at a door for want of descriptors.
    pub(crate) fn accepting_pauses(&self, place: Place, pauses: bool) {
        if let Some(gauge) = self.paused.get(place as usize) {
            gauge.set(f64::from(u8::from(pauses)));
        }
    }

    /// A TLS handshake failed or took too long.
    pub(crate) fn tls_failed(&self) {
        self.tls_failures.increment(1);
    }

    /// The configuration was read again.
    pub(crate) fn reloaded(&self, good: bool) {
        let [done, failed] = &self.reloads;
        if good { done.increment(1) } else { failed.increment(1) }
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.recorder.handle().render()
    }

    /// Folds the latency samples; to be called every few seconds, because nobody may scrape.
    pub(crate) fn upkeep(&self) {
        self.recorder.handle().run_upkeep();
    }
}

/// Counters of one caller, by side: internal, external, both.
pub(crate) struct CallerCounters([Counter; 3]);

impl CallerCounters {
    fn new(caller: &str) -> Self {
        Self(
            ["internal", "external", "both"]
                .map(|side| counter!(MINTED, "caller" => caller.to_owned(), "side" => side)),
        )
    }

    /// Counts a credential.
    pub(crate) fn minted(&self, side: Option<Side>) {
        let [internal, external, both] = &self.0;
        match side {
            Some(Side::Internal) => internal.increment(1),
            Some(Side::External) => external.increment(1),
            None => both.increment(1),
        }
    }
}

const MINTED: &str = "av_edge_auth_minted_total";
const REFUSED: &str = "av_edge_auth_refused_total";
const LATENCY: &str = "av_edge_auth_request_seconds";
const CONNECTIONS: &str = "av_edge_auth_connections";
const TURNED_AWAY: &str = "av_edge_auth_connections_refused_total";
const PAUSED: &str = "av_edge_auth_accept_paused";
const TLS_FAILURES: &str = "av_edge_auth_tls_failures_total";
const RELOADS: &str = "av_edge_auth_reloads_total";
const POOL_KEY: &str = "av_edge_auth_pool_key";
const HARDENING: &str = "av_edge_auth_hardening";

fn refusals(why: Why) -> Counter {
    counter!(REFUSED, "reason" => why.name())
}

fn describe() {
    describe_counter!(MINTED, "Credentials minted, by caller and by the side they are good on");
    describe_counter!(
        REFUSED,
        "Requests refused, by reason; caller_rate and too_many_failures are the rate limits"
    );
    describe_histogram!(LATENCY, "Time from a request's head to its answer, in seconds");
    describe_gauge!(CONNECTIONS, "Connections open now");
    describe_counter!(
        TURNED_AWAY,
        "Connections closed unserved, by what was reached: the limit in all (total), of a client, of TLS handshakes; network and crowded, all places of a network or of the door were taken, and the oldest connection that had shown no valid key or certificate left for a new one; exhausted, no descriptor or memory was left, and it waits"
    );
    describe_gauge!(PAUSED, "1 while connections wait at a door because no descriptor is left");
    describe_counter!(TLS_FAILURES, "TLS handshakes that failed or took too long");
    describe_counter!(RELOADS, "Times the configuration was read again, by result");
    describe_gauge!(
        HARDENING,
        "1 for each measure that protects the process, as the kernel tells it"
    );
    describe_gauge!(POOL_KEY, "1 for each pool key held; the current one mints");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    /// The part of the page of metrics that is about this service.
    const TITLE: &str = "## The credential service\n";

    /// A metric's type, the labels of its series, and its help.
    type Row<'a> = (&'a str, Vec<&'a str>, &'a str);

    /// Every metric of a scrape.
    fn shown(page: &str) -> BTreeMap<&str, Row<'_>> {
        let mut found: BTreeMap<_, Row<'_>> = BTreeMap::new();
        for line in page.lines() {
            let mut words = line.splitn(4, ' ');
            let (mark, what) = (words.next(), words.next());
            let (name, text) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            if (mark, what) == (Some("#"), Some("HELP")) {
                found.entry(name).or_default().2 = text;
            } else if (mark, what) == (Some("#"), Some("TYPE")) {
                found.entry(name).or_default().0 = text;
            }
        }
        for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|it| name.strip_suffix(it));
            let base = base.filter(|base| found.get(base).is_some_and(|it| it.0 == "histogram"));
            let (_, labels, _) = found.get_mut(base.unwrap_or(name)).expect(name);
            let text = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            for label in text.map_or("", |(text, _)| text).split("\",") {
                let key = label.split('=').next().unwrap();
                if !labels.contains(&key) && !["", "le"].contains(&key) {
                    labels.push(key);
                }
            }
        }
        found
    }

    #[test]
    fn the_page_of_metrics_is_made_from_the_code() {
        let telemetry = Telemetry::new();
        telemetry.callers(["somebody"].into_iter());
        telemetry.hardened(Measures::default());
        telemetry.answered(None, Duration::from_millis(1));
        with_local_recorder(&telemetry.recorder, || {
            gauge!(POOL_KEY, "key" => "0", "role" => "current").set(1.0);
        });
        telemetry.upkeep();
        let page = telemetry.render();
        let mut made =
            format!("{TITLE}\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for (name, (kind, labels, help)) in shown(&page) {
            assert!(!kind.is_empty() && !help.is_empty(), "{name} has a type and a help");
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let (labels, help) = (labels.join(", "), help.replace('|', "\\|"));
            writeln!(made, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
        }
        for name in [MINTED, REFUSED, LATENCY, CONNECTIONS, TURNED_AWAY, PAUSED, RELOADS, POOL_KEY]
        {
            assert!(made.contains(&format!("`{name}`")), "{name} is on the page");
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/METRICS.md");
        let text = std::fs::read_to_string(&file).unwrap();
        let begin = text.find(TITLE).expect("the page has a part for this service");
        let end = text[begin + 1..].find("\n## ").map_or(text.len(), |end| begin + 1 + end);
        if std::env::var_os("GENERATE").is_some() {
            std::fs::write(&file, format!("{}{made}{}", &text[..begin], &text[end..])).unwrap();
        } else {
            assert!(text[begin..end] == made, "run: GENERATE=1 cargo test page_of_metrics");
        }
    }
}
