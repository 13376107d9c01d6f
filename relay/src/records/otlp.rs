//! A receiver of traces: OTLP over HTTP in JSON, one span for each allocation.
//!
//! A span is made of the record that ends an allocation, because that one holds all the others:
//! they are taken and not sent. It stands in the trace its credential was minted in, or in one of
//! its own. Its ids come from the name of the allocation, so a record that is brought twice is the
//! same span twice. Times of OTLP are texts of nanoseconds, ids are hex, and integers are texts.
//! What a receiver refuses must not come again, but for 429, 502, 503 and 504.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proto::auth::Trace;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::HttpWish;
use super::accounts::Stage;
use super::courier::{Delivery, Failure};
use super::http::{Judgement, Post};
use super::record::DEFECT;

/// Somebody asked for what the span is about (`SPAN_KIND_SERVER`).
const SERVER: u32 = 2;

/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

/// What attributes tell, and where records have it.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("user.hash", "/user"),
    ("av_edge.id", "/id"),
    ("av_edge.allocation", "/allocation"),
    ("av_edge.transport", "/transport"),
    ("av_edge.relayed", "/relayed"),
    ("av_edge.cause", "/cause"),
    ("av_edge.to_peer.packets", "/to_peer/packets"),
    ("av_edge.to_peer.bytes", "/to_peer/bytes"),
    ("av_edge.to_client.packets", "/to_client/packets"),
    ("av_edge.to_client.bytes", "/to_client/bytes"),
    ("av_edge.client.kind", "/quality/client/kind"),
    ("av_edge.client.expected", "/quality/client/expected"),
    ("av_edge.client.received", "/quality/client/received"),
    ("av_edge.client.mean_jitter_s", "/quality/client/mean_jitter_s"),
    ("av_edge.client.longest_jitter_s", "/quality/client/longest_jitter_s"),
    ("av_edge.client.freezes", "/quality/client/freezes"),
    ("av_edge.client.frozen_s", "/quality/client/frozen_s"),
    ("av_edge.peer.kind", "/quality/peer/kind"),
    ("av_edge.peer.expected", "/quality/peer/expected"),
    ("av_edge.peer.received", "/quality/peer/received"),
    ("av_edge.peer.mean_jitter_s", "/quality/peer/mean_jitter_s"),
    ("av_edge.peer.longest_jitter_s", "/quality/peer/longest_jitter_s"),
    ("av_edge.peer.freezes", "/quality/peer/freezes"),
    ("av_edge.peer.frozen_s", "/quality/peer/frozen_s"),
];

/// The way to it.
pub(super) struct Otlp(Post);

impl Otlp {
    pub(super) fn new(wish: HttpWish) -> Self {
        Self(Post::new(wish, "application/json"))
    }
}

impl Delivery for Otlp {
    fn deliver(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let Some(traces) = traces(lines) else { return Ok(()) };
        self.0.bring(traces.to_string().as_bytes(), |status| {
            let may_come_again = matches!(status.as_u16(), 429 | 502 | 503 | 504);
            let is_refusal = status.is_client_error() || status.is_server_error();
            if is_refusal && !may_come_again { Judgement::Final } else { Judgement::Away }
        })
    }
}

/// The spans of allocations that ended, by relay: an earlier one may have left records in the
/// spool. `None` without any.
fn traces(lines: &[u8]) -> Option<Value> {
    let mut spans: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let records =
        lines.split(|byte| *byte == b'\n').filter_map(|it| serde_json::from_slice(it).ok());
    for record in records.filter(|it: &Value| it["record"] == Stage::Stop.name()) {
        let node = record["node"].as_str().unwrap_or_default();
        spans.entry(node.to_owned()).or_default().extend(span(&record));
    }
    let version = env!("CARGO_PKG_VERSION");
    let resources = spans.into_iter().map(|(node, spans)| {
        let attributes =
            [attribute("service.name", "av-edge"), attribute("service.instance.id", node)];
        json!({
            "resource": {"attributes": attributes},
            "scopeSpans": [{"scope": {"name": "av-edge", "version": version}, "spans": spans}],
        })
    });
    let resources: Vec<_> = resources.collect();
    (!resources.is_empty()).then(|| json!({"resourceSpans": resources}))
}

/// The span of an allocation; `None` if the record lacks what every record has.
fn span(record: &Value) -> Option<Value> {
    let hash = digest(&SHA256, record["id"].as_str()?.as_bytes());
    let (own_trace, rest) = hash.as_ref().split_first_chunk()?;
    let own_id = u64::from_be_bytes(*rest.first_chunk()?);
    let carried: Option<Trace> = record["traceparent"].as_str().and_then(|it| it.parse().ok());
    let trace = carried.map_or(u128::from_be_bytes(*own_trace), Trace::id);
    let started = record["started_ms"].as_u64()?;
    let ended = started.checked_add(record["duration_ms"].as_u64()?)?;
    let mut span = json!({
        "traceId": format!("{trace:032x}"),
        "spanId": format!("{own_id:016x}"),
        "name": "allocation",
        "kind": SERVER,
        "startTimeUnixNano": nanoseconds(started),
        "endTimeUnixNano": nanoseconds(ended),
    });
    if let Some(trace) = carried {
        span["parentSpanId"] = format!("{:016x}", trace.parent()).into();
    }
    let told = |(key, place): &(&str, &str)| Some(attribute(key, record.pointer(place)?.clone()));
    let mut attributes: Vec<_> = ATTRIBUTES.iter().filter_map(told).collect();
    attributes.extend(client(record).into_iter().flatten());
    // Other ends are those that clients and operators want, or what happens to clients on the way.
    if record["cause"] == DEFECT {
        span["status"] = json!({"code": ERROR, "message": "a worker of the relay failed"});
        attributes.push(attribute("error.type", DEFECT));
    }
    span["attributes"] = attributes.into();
    Some(span)
}

/// Where the client is, as far as records tell, and what carries its packets.
fn client(record: &Value) -> [Option<Value>; 3] {
    let shown = record["client"].as_str();
    let full: Option<SocketAddr> = shown.and_then(|it| it.parse().ok());
    let address = full.map(|it| it.ip().to_string()).or(shown.map(str::to_owned));
    let below = match record["transport"].as_str() {
        Some("udp" | "dtls") => Some("udp"),
        Some("tcp" | "tls") => Some("tcp"),
        _ => None,
    };
    [
        address.map(|it| attribute("client.address", it)),
        full.map(|it| attribute("client.port", it.port())),
        below.map(|it| attribute("network.transport", it)),
    ]
}

fn attribute(key: &str, value: impl Into<Value>) -> Value {
    json!({"key": key, "value": typed(value.into())})
}

/// A value under the name of its type.
fn typed(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => json!({"doubleValue": number}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::Array(values) => {
            let values: Vec<_> = values.into_iter().map(typed).collect();
            json!({"arrayValue": {"values": values}})
        }
        Value::Bool(is) => json!({"boolValue": is}),
        Value::String(text) => json!({"stringValue": text}),
        // An empty value (AnyValue without a field); records have neither.
        Value::Null | Value::Object(_) => json!({}),
    }
}

fn nanoseconds(ms: u64) -> String {
    (u128::from(ms) * 1_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// A record as the book writes it, altered.
    fn stop(alter: impl FnOnce(&mut Value)) -> Value {
        let leg = json!({
            "kind": "audio", "streams": 1, "expected": 10, "received": 9, "duplicates": 0,
            "late": 0, "mean_jitter_s": 0.004, "longest_jitter_s": 0.0, "longest_gap_s": 0.1,
            "freezes": 1, "frozen_s": 0.25,
        });
        let mut record = json!({
            "record": "stop", "id": "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "sequence": 3,
            "node": "relay-1", "time_ms": 1_700_000_001_500_u64, "allocation": "3-7-2",
            "user": "00000000000000ab", "client": "198.51.100.9:5000", "transport": "tls",
            "relayed": ["203.0.113.5:50000"], "started_ms": 1_700_000_000_000_u64,
            "duration_ms": 1_500, "cause": "released",
            "to_peer": {"packets": 3, "bytes": 300}, "to_client": {"packets": 5, "bytes": 500},
            "quality": {"client": leg, "peer": leg},
        });
        alter(&mut record);
        record
    }

    /// What is sent for records, by relay.
    fn resources(records: &[Value]) -> Vec<Value> {
        let lines: Vec<_> = records.iter().map(Value::to_string).collect();
        let traces = traces(lines.join("\n").as_bytes()).unwrap_or_default();
        traces["resourceSpans"].as_array().cloned().unwrap_or_default()
    }

    /// The spans of records, each with its attributes in one object.
    fn spans(records: &[Value]) -> Vec<Value> {
        let resources = resources(records);
        let spans =
            resources.iter().flat_map(|it| it["scopeSpans"][0]["spans"].as_array().unwrap());
        let spans = spans.cloned().map(|mut span| {
            let attributes = span["attributes"].as_array().unwrap().iter();
            let pair = |it: &Value| (it["key"].as_str().unwrap().to_owned(), it["value"].clone());
            span["attributes"] = Value::Object(attributes.map(pair).collect());
            span
        });
        spans.collect()
    }

    fn only(record: Value) -> Value {
        let [span] = &spans(&[record])[..] else { panic!("not one span") };
        span.clone()
    }

    #[test]
    fn an_allocation_without_a_trace_begins_one_that_is_always_the_same() {
        let span = only(stop(|_| ()));
        // sha256 of the id: 16 bytes, and 8 behind them.
        assert_eq!(span["traceId"], "5c28b2022dca14affa8ab4a2e6676510");
        assert_eq!(span["spanId"], "0f31a990e159022e");
        assert!(span["parentSpanId"].is_null() && span["status"].is_null(), "{span}");
        assert_eq!((&span["name"], &span["kind"]), (&"allocation".into(), &2.into()));
        assert_eq!(span["startTimeUnixNano"], "1700000000000000000");
        assert_eq!(span["endTimeUnixNano"], "1700000001500000000");
        let later = only(stop(|it| it["sequence"] = 4.into()));
        assert_eq!(span, later, "the name of the allocation decides");
        let other = only(stop(|it| it["id"] = "another".into()));
        assert_ne!((&other["traceId"], &other["spanId"]), (&span["traceId"], &span["spanId"]));
    }

    #[test]
    fn an_allocation_with_a_trace_is_a_child_in_it() {
        let own = only(stop(|_| ()));
        let span = only(stop(|it| it["traceparent"] = TRACEPARENT.into()));
        assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
        assert_eq!(span["spanId"], own["spanId"]);
        let span = only(stop(|it| it["traceparent"] = "00-0-0-00".into()));
        assert_eq!(span, own, "what is no trace counts for nothing");
    }

    #[test]
    fn attributes_tell_what_records_tell_with_types() {
        let span = only(stop(|_| ()));
        for (key, value) in [
            ("user.hash", json!({"stringValue": "00000000000000ab"})),
            ("client.address", json!({"stringValue": "198.51.100.9"})),
            ("client.port", json!({"intValue": "5000"})),
            ("network.transport", json!({"stringValue": "tcp"})),
            ("av_edge.transport", json!({"stringValue": "tls"})),
            ("av_edge.allocation", json!({"stringValue": "3-7-2"})),
            ("av_edge.cause", json!({"stringValue": "released"})),
            (
                "av_edge.relayed",
                json!({"arrayValue": {"values": [{"stringValue": "203.0.113.5:50000"}]}}),
            ),
            ("av_edge.to_peer.packets", json!({"intValue": "3"})),
            ("av_edge.to_client.bytes", json!({"intValue": "500"})),
            ("av_edge.client.expected", json!({"intValue": "10"})),
            ("av_edge.peer.received", json!({"intValue": "9"})),
            ("av_edge.client.mean_jitter_s", json!({"doubleValue": 0.004})),
            ("av_edge.peer.longest_jitter_s", json!({"doubleValue": 0.0})),
            ("av_edge.peer.freezes", json!({"intValue": "1"})),
        ] {
            assert_eq!(span["attributes"][key], value, "{key}");
        }
        assert_eq!(span["attributes"].as_object().unwrap().len(), ATTRIBUTES.len() + 3);
    }

    #[test]
    fn what_records_leave_out_spans_leave_out() {
        let leave_out = |key: &'static str| {
            move |record: &mut Value| drop(record.as_object_mut().unwrap().remove(key))
        };
        let span = only(stop(leave_out("quality")));
        assert!(!span.to_string().contains("expected"), "{span}");
        let span = only(stop(leave_out("client")));
        assert!(!span.to_string().contains("client.address"), "{span}");
        let span = only(stop(|it| it["client"] = "198.51.100.0/24".into()));
        let attributes = &span["attributes"];
        assert_eq!(attributes["client.address"]["stringValue"], "198.51.100.0/24");
        assert!(attributes["client.port"].is_null(), "{span}");
    }

    #[test]
    fn only_a_defect_is_an_error() {
        for (cause, failed) in [("released", false), ("expired", false), (DEFECT, true)] {
            let span = only(stop(|it| it["cause"] = cause.into()));
            assert_eq!(span["status"]["code"] == ERROR, failed, "{cause}");
            let kind = &span["attributes"]["error.type"]["stringValue"];
            assert_eq!(kind == cause, failed, "{cause}");
        }
    }

    #[test]
    fn ends_are_sent_under_the_name_of_their_relay_and_nothing_else_is() {
        let of_stage = |stage: Stage| stop(|it| it["record"] = stage.name().into());
        assert_eq!(traces(format!("{}\nhalf a li", of_stage(Stage::Start)).as_bytes()), None);
        let old = stop(|it| it["node"] = "old".into());
        let records = [of_stage(Stage::Start), of_stage(Stage::Interim), old, stop(|_| ())];
        assert_eq!(spans(&records).len(), 2);
        let resources = resources(&records);
        assert_eq!(resources.len(), 2);
        for (resource, node) in resources.iter().zip(["old", "relay-1"]) {
            let attributes = json!([
                {"key": "service.name", "value": {"stringValue": "av-edge"}},
                {"key": "service.instance.id", "value": {"stringValue": node}},
            ]);
            assert_eq!(resource["resource"]["attributes"], attributes);
        }
    }
}
