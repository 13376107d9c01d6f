//! Every metric by name, unit and meaning: the only place that knows what a counter is called
//! outside, with [`media`] and [`product`].
//!
//! `deploy/prometheus/METRICS.md` is made from here.

use metrics::Unit;

use super::{media, offload, product, records};

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[cfg(test)]
impl Kind {
    /// What Prometheus calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Kind, name, unit, help.
pub(super) type Row = (Kind, &'static str, Unit, &'static str);

/// Every metric that has no file of its own.
const METRICS: &[Row] = &[
    (Kind::Gauge, "av_edge_relay_build_info", Unit::Count, "always 1; the labels say what runs"),
    (Kind::Gauge, "av_edge_relay_draining", Unit::Count, "1 while new allocations are refused"),
    (
        Kind::Counter,
        "av_edge_relay_reloads_total",
        Unit::Count,
        "how often SIGHUP had the configuration read again, by result; a failed one changed nothing",
    ),
    (
        Kind::Counter,
        "av_edge_relay_office_defects_total",
        Unit::Count,
        "parts of the work for operators that a defect has ended, while relaying goes on: restart the relay when it suits, and report it with the log",
    ),
    (
        Kind::Counter,
        "av_edge_relay_visitors_refused_total",
        Unit::Count,
        "connections and requests of operators that were refused, by door: metrics, admin, control; and by reason: unaccepted, no descriptor was left; crowded, all places were taken, and who was granted nothing yet or asked for nothing left first; handshakes, more TLS handshakes than limits.handshakes_per_s; handshake, no TLS or no known certificate; malformed, no HTTP that is well-formed; too_large and too_slow, head or body; host, not a name of this relay; token, none or a wrong one; forbidden, nobody may do that at this door; unknown, nothing is there; unread, an answer was given up that nobody read",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_hardening",
        Unit::Count,
        "1 for each measure that protects the process, as the kernel tells it; 0 for those that do not",
    ),
    (Kind::Gauge, "av_edge_relay_allocations", Unit::Count, "allocations alive"),
    (Kind::Gauge, "av_edge_relay_permissions", Unit::Count, "permissions alive"),
    (Kind::Gauge, "av_edge_relay_channels", Unit::Count, "channels bound"),
    (
        Kind::Gauge,
        "av_edge_relay_peer_connections",
        Unit::Count,
        "TCP connections to peers: being made, waiting for their client, or in use; see limits.peer_connections_total",
    ),
    (Kind::Gauge, "av_edge_relay_ports_used", Unit::Count, "relayed ports in use or reserved"),
    (
        Kind::Gauge,
        "av_edge_relay_ports",
        Unit::Count,
        "relayed ports there are, over all relay addresses",
    ),
    (
        Kind::Counter,
        "av_edge_relay_succeeded_total",
        Unit::Count,
        "requests answered with success, by procedure",
    ),
    (
        Kind::Counter,
        "av_edge_relay_rejected_total",
        Unit::Count,
        "requests refused, by reason and the code the client heard",
    ),
    (
        Kind::Counter,
        "av_edge_relay_dropped_total",
        Unit::Count,
        "packets dropped in silence, by reason",
    ),
    (
        Kind::Counter,
        "av_edge_relay_relayed_packets_total",
        Unit::Count,
        "datagrams relayed for clients of a listener",
    ),
    (
        Kind::Counter,
        "av_edge_relay_relayed_bytes_total",
        Unit::Bytes,
        "payload relayed for clients of a listener, without any header",
    ),
    (
        Kind::Counter,
        "av_edge_relay_framed_packets_total",
        Unit::Count,
        "datagrams relayed, by how they were dressed between client and relay",
    ),
    (
        Kind::Counter,
        "av_edge_relay_framed_bytes_total",
        Unit::Bytes,
        "payload relayed, by how it was dressed between client and relay",
    ),
    (
        Kind::Counter,
        "av_edge_relay_paced_total",
        Unit::Count,
        "pauses of TCP relays whose allocation or user had carried what a limit allows (limits.kbit_per_s_…); nothing of a stream is dropped, it is read later",
    ),
    (
        Kind::Counter,
        "av_edge_relay_icmp_reported_total",
        Unit::Count,
        "ICMP messages about relayed datagrams that clients were told of",
    ),
    (
        Kind::Counter,
        "av_edge_relay_control_messages_total",
        Unit::Count,
        "STUN messages without payload, received and sent",
    ),
    (
        Kind::Counter,
        "av_edge_relay_control_bytes_total",
        Unit::Bytes,
        "their size without UDP and IP headers",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_allocation_age_seconds",
        Unit::Seconds,
        "time since an allocation was opened",
    ),
    (
        Kind::Counter,
        "av_edge_relay_allocation_packets_total",
        Unit::Count,
        "datagrams one allocation relayed so far; `other` sums the less busy ones beyond metrics.sessions",
    ),
    (
        Kind::Counter,
        "av_edge_relay_allocation_bytes_total",
        Unit::Bytes,
        "payload one allocation relayed so far; `other` sums the less busy ones beyond metrics.sessions",
    ),
    (
        Kind::Counter,
        "av_edge_relay_datagrams_total",
        Unit::Count,
        "datagrams of any kind received and sent",
    ),
    (
        Kind::Counter,
        "av_edge_relay_system_calls_total",
        Unit::Count,
        "calls that moved datagrams; datagrams per call tell how well batching works",
    ),
    (
        Kind::Counter,
        "av_edge_relay_runs_sent_total",
        Unit::Count,
        "runs of equal datagrams handed to the kernel as one",
    ),
    (
        Kind::Counter,
        "av_edge_relay_send_lost_total",
        Unit::Count,
        "datagrams that could not be sent: send queue full, refused by the kernel (route, firewall, size), socket just closed",
    ),
    (
        Kind::Counter,
        "av_edge_relay_receive_lost_total",
        Unit::Count,
        "datagrams lost before the relay could read them: receive queue full at listeners or at relayed sockets (told when these close, and while a worker gets more than it reads), or larger than UDP allows",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_listener_lanes",
        Unit::Count,
        "2 where media and requests wait in queues of their own, so that a flood of requests costs no media; 1 where the kernel cannot tell them apart",
    ),
    (
        Kind::Counter,
        "av_edge_relay_listener_datagrams_total",
        Unit::Count,
        "datagrams received at a listener, by lane: media (ChannelData, Send, bare payload, data of DTLS) and requests (everything else)",
    ),
    (
        Kind::Counter,
        "av_edge_relay_listener_lost_total",
        Unit::Count,
        "datagrams a listener lost because the queue of their lane was full; of requests a flood, or more of them than a worker can answer; of media more than it can relay",
    ),
    (
        Kind::Counter,
        "av_edge_relay_worker_restarts_total",
        Unit::Count,
        "how often a worker lost its allocations to a defect and began anew; report it with the log",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_worker_niceness",
        Unit::Count,
        "niceness of the workers' threads; above the configured nice, the system did not let them go before other programs, and in a flood they may get too little time",
    ),
    (
        Kind::Counter,
        "av_edge_relay_overloads_total",
        Unit::Count,
        "how often more datagrams came than a worker read, for a tenth of a second without a pause: its queues were cut to what it reads in ten milliseconds, so that some are lost and none is late",
    ),
    (
        Kind::Counter,
        "av_edge_relay_diversions_failed_total",
        Unit::Count,
        "clients that moved, and whose datagrams could not be brought to the worker that has their allocation: out of descriptors",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_connections",
        Unit::Count,
        "connections of clients open, by transport",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_connections_passing",
        Unit::Count,
        "connections open that are passed on to tls.pass_through.to",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_accept_paused",
        Unit::Count,
        "1 while no connections are taken because the process is out of descriptors or the system out of memory; UDP goes on",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_memory_tight",
        Unit::Count,
        "1 while new allocations are refused because the process holds more than limits.memory_mib",
    ),
    (Kind::Counter, "av_edge_relay_tls_handshakes_total", Unit::Count, "TLS handshakes completed"),
    (
        Kind::Counter,
        "av_edge_relay_pseudo_tls_total",
        Unit::Count,
        "connections that opened with pseudo-TLS, of the Microsoft dialect",
    ),
    (
        Kind::Counter,
        "av_edge_relay_connections_accepted_total",
        Unit::Count,
        "connections of clients taken",
    ),
    (
        Kind::Counter,
        "av_edge_relay_connections_refused_total",
        Unit::Count,
        "connections closed at once or not taken: limits.connections_per_client, limits.connections_per_network or limits.connections reached by clients without an allocation, the same limits of tls.pass_through by those that are passed on, more handshakes than limits.handshakes_per_s, descriptors or memory exhausted",
    ),
    (
        Kind::Counter,
        "av_edge_relay_connections_passed_idle_total",
        Unit::Count,
        "connections passed on that were closed because nothing moved for tls.pass_through.idle_s",
    ),
    (
        Kind::Counter,
        "av_edge_relay_connections_closed_total",
        Unit::Count,
        "connections ended, by reason",
    ),
    (
        Kind::Counter,
        "av_edge_relay_stream_bytes_total",
        Unit::Bytes,
        "bytes read from and written to connections of clients",
    ),
    (
        Kind::Counter,
        "av_edge_relay_stream_system_calls_total",
        Unit::Count,
        "calls that moved those bytes",
    ),
    (
        Kind::Counter,
        "av_edge_relay_stream_dropped_packets_total",
        Unit::Count,
        "datagrams for clients on connections dropped, oldest first, because the client reads too slowly (limits.stream_queue_bytes)",
    ),
    (
        Kind::Counter,
        "av_edge_relay_stream_dropped_bytes_total",
        Unit::Bytes,
        "their size with the headers of TURN",
    ),
    (
        Kind::Counter,
        "av_edge_relay_dtls_hellos_total",
        Unit::Count,
        "hellos of DTLS clients, by what became of them; each client sends two, the second with the cookie it was asked for",
    ),
    (Kind::Counter, "av_edge_relay_dtls_handshakes_total", Unit::Count, "DTLS handshakes finished"),
    (
        Kind::Counter,
        "av_edge_relay_dtls_closed_total",
        Unit::Count,
        "DTLS sessions ended, by reason",
    ),
    (
        Kind::Counter,
        "av_edge_relay_dtls_lost_total",
        Unit::Count,
        "records of no session, datagrams that are not DTLS, and messages no session could carry",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_certificate_not_after_timestamp_seconds",
        Unit::Seconds,
        "when a certificate in use ends, in Unix time",
    ),
    (
        Kind::Gauge,
        "av_edge_relay_worker_cpu_seconds",
        Unit::Seconds,
        "processor time of a worker; near one second a second it carries what it can",
    ),
    (Kind::Gauge, "process_open_fds", Unit::Count, "descriptors open"),
    (Kind::Gauge, "process_max_fds", Unit::Count, "descriptors the process may have"),
    (Kind::Gauge, "process_resident_memory_bytes", Unit::Bytes, "memory in use"),
];

/// Every metric.
pub(super) fn all() -> impl Iterator<Item = &'static Row> {
    let others = [product::METRICS, media::METRICS, offload::METRICS, records::METRICS];
    METRICS.iter().chain(others.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write;
    use std::path::Path;

    use super::super::exposition::render;
    use super::super::tests::{metrics, scrape, session};
    use super::*;

    /// The part of the page that is about this service.
    const TITLE: &str = "## The relay\n";

    /// What one scrape shows of each metric: its type, and the labels of its series.
    fn shown(page: &str) -> BTreeMap<&str, (&str, Vec<&str>)> {
        let mut found = BTreeMap::new();
        for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            found.insert(name, (kind, Vec::new()));
        }
        for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|it| name.strip_suffix(it));
            let base = base.filter(|base| found.get(base).is_some_and(|it| it.0 == "histogram"));
            let (_, labels) = found.get_mut(base.unwrap_or(name)).expect(name);
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
        let page = render(&scrape(vec![session(1, 1_000), session(2, 100)]), &metrics(1));
        let shown = shown(&page);
        let rows: BTreeSet<_> = all().collect::<Vec<_>>().iter().map(|row| row.1).collect();
        assert_eq!(rows.len(), all().count(), "each has one row");
        let names: BTreeSet<_> = shown.keys().copied().collect();
        // Those of an interface need one that has the program.
        let interfaces = |name: &&str| name.starts_with("av_edge_relay_offload");
        let absent: Vec<_> = rows.difference(&names).filter(|name| !interfaces(name)).collect();
        assert!(names.is_subset(&rows) && absent.is_empty(), "without a series: {absent:?}");
        let mut made =
            format!("{TITLE}\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for (kind, name, _, help) in all() {
            let unseen = (kind.name(), Vec::new());
            let (_, labels) = shown.get(name).unwrap_or(&unseen);
            let kind = kind.name();
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let (labels, help) = (labels.join(", "), help.replace('|', "\\|"));
            writeln!(made, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
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

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for (kind, name, unit, help) in all() {
            let says = |word: &str| name.split('_').any(|part| part == word);
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(*unit == Unit::Seconds, says("seconds"), "{name}");
            assert_eq!(*unit == Unit::Bytes, says("bytes"), "{name}");
            assert!(!help.ends_with('.') && help.len() > 10, "{name}: {help}");
        }
    }
}
