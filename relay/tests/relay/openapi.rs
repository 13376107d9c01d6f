//! The API as `deploy/openapi.json` describes it, against a relay that answers.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use client::{AllocateOptions, Credentials, TurnClient};
use serde_json::Value;

use crate::admin::{Office, TOKEN, bearer};
use crate::watch::Call;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The document, and which of its fields were met so far.
struct Described {
    document: Value,
    met: BTreeSet<String>,
}

impl Described {
    fn by(office: &Office) -> Self {
        let (status, _, text) = office.ask("GET /v1/openapi.json", "");
        assert_eq!(status, 200);
        Self { document: serde_json::from_str(&text).unwrap(), met: BTreeSet::new() }
    }

    /// The schema that something refers to, or it itself, with its name.
    fn resolve(&self, schema: &Value, at: &str) -> (Value, String) {
        let Some(reference) = schema["$ref"].as_str() else {
            return (schema.clone(), at.to_owned());
        };
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        let found = &self.document["components"]["schemas"][name];
        assert!(found.is_object(), "{at}: there is no {reference}");
        (found.clone(), name.to_owned())
    }

    /// Whether a value is as its schema says, no field more and no field less.
    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        let (schema, name) = self.resolve(schema, at);
        let kinds = match &schema["type"] {
            Value::String(kind) => vec![kind.clone()],
            Value::Array(kinds) => kinds.iter().map(|it| it.as_str().unwrap().to_owned()).collect(),
            other => panic!("{name}: no type: {other}"),
        };
        let is = |kind: &str| match kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => panic!("{name}: {kind}"),
        };
        assert!(kinds.iter().any(|kind| is(kind)), "{name} is no {kinds:?}: {value}");
        if let Some(known) = schema["enum"].as_array() {
            assert!(known.contains(value), "{name}: {value} is none of {known:?}");
        }
        for element in value.as_array().into_iter().flatten() {
            self.check(&schema["items"], element, &name);
        }
        let Some(fields) = value.as_object() else { return };
        if let Some(each) = schema.get("additionalProperties") {
            fields.values().for_each(|field| self.check(each, field, &name));
            return;
        }
        let Some(described) = schema["properties"].as_object() else { return };
        let names = |all: &serde_json::Map<String, Value>| all.keys().cloned().collect();
        let (here, there): (BTreeSet<_>, BTreeSet<_>) = (names(fields), names(described));
        assert_eq!(here, there, "{name}: what is answered, and what is described");
        for (field, value) in fields {
            let place = format!("{name}.{field}");
            if !value.is_null() {
                self.met.insert(place.clone());
            }
            self.check(&described[field], value, &place);
        }
    }

    /// Asks, and compares the answer with what is described of it.
    fn ask(
        &mut self,
        office: &Office,
        (expected, method, template, path): (u16, &str, &str, &str),
    ) {
        let line = format!("{} {path}", method.to_uppercase());
        let (status, head, body) = office.ask(&line, &bearer(TOKEN));
        assert_eq!(status, expected, "{line}: {body}");
        let operation = self.document["paths"][template][method].clone();
        let exact = &operation["responses"][&status.to_string()];
        let response =
            if exact.is_null() { operation["responses"]["default"].clone() } else { exact.clone() };
        assert!(response.is_object(), "{line}: {status} is not described: {body}");
        let Some(content) = response["content"].as_object() else {
            assert_eq!(body, "", "{line}");
            return;
        };
        let (kind, media) = content.iter().next().unwrap();
        assert!(head.to_lowercase().contains(&format!("content-type: {kind}")), "{line}: {head}");
        let value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{line}: {body}"));
        self.check(&media["schema"], &value, &format!("{line} {status}"));
    }

    /// Every field of a schema that is named, as the place it has.
    fn all(&self) -> BTreeSet<String> {
        let schemas = self.document["components"]["schemas"].as_object().unwrap();
        let mut all = BTreeSet::new();
        for (name, schema) in schemas {
            fields(schema, name, &mut all);
        }
        all
    }
}

fn fields(schema: &Value, at: &str, all: &mut BTreeSet<String>) {
    for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{at}.{field}");
        fields(inner, &place, all);
        fields(&inner["items"], &place, all);
        all.insert(place);
    }
}

/// A call that loses packets, and a client that nobody lets in.
fn happen(office: &Office) -> Call {
    let mut call = Call::begin(office);
    let nobody = Credentials::new("nobody", "a password that is wrong");
    let mut stranger = TurnClient::connect(office.server, nobody).unwrap();
    stranger.allocate(&AllocateOptions::default()).unwrap_err();
    let found = |office: &Office| {
        let (_, _, overview) = office.ask("GET /v1/overview", "");
        overview.contains("\"loss_client\"")
    };
    for _ in 0..50 {
        (0..20).for_each(|_| call.go_on());
        if found(office) {
            return call;
        }
    }
    panic!("the loss was not found");
}

#[test]
fn answers_are_as_the_document_says_and_the_document_says_no_more() {
    let office = Office::open(75, "127.0.0.1:22075", "token_file = \"token\"");
    let mut described = Described::by(&office);
    let mut call = happen(&office);
    let (_, _, page) = office.ask("GET /v1/allocations", "");
    let page: Value = serde_json::from_str(&page).unwrap();
    let id = page["allocations"][0]["id"].as_str().unwrap().to_owned();
    let client = call.client.local_addr().unwrap();
    let one = format!("/v1/allocations/{id}");
    for asked in [
        (200, "get", "/v1/openapi.json", "/v1/openapi.json"),
        (200, "get", "/v1/state", "/v1/state"),
        (200, "get", "/v1/overview", "/v1/overview"),
        (200, "get", "/v1/samples", "/v1/samples"),
        (400, "get", "/v1/samples", "/v1/samples?since_ms=x"),
        (200, "get", "/v1/allocations", "/v1/allocations?limit=1"),
        (200, "get", "/v1/allocations", "/v1/allocations?sort=loss"),
        (400, "get", "/v1/allocations", "/v1/allocations?sort=none"),
        (200, "get", "/v1/allocations/{id}", &*one),
        (404, "get", "/v1/allocations/{id}", "/v1/allocations/7-7-7"),
        (400, "get", "/v1/events", "/v1/events?since=1"),
        (400, "post", "/v1/allocations/{id}/capture", &*format!("{one}/capture?payload=some")),
        (404, "post", "/v1/allocations/{id}/capture", "/v1/allocations/7-7-7/capture"),
        (200, "get", "/v1/explain", &*format!("/v1/explain?subject={client}")),
        (200, "get", "/v1/explain", "/v1/explain?subject=127.0.0.1"),
        (200, "get", "/v1/explain", &*format!("/v1/explain?subject={id}")),
        (200, "get", "/v1/explain", "/v1/explain?subject=no_permission"),
        (400, "get", "/v1/explain", "/v1/explain"),
        (200, "get", "/v1/reasons", "/v1/reasons"),
        (200, "post", "/v1/reload", "/v1/reload"),
        (204, "delete", "/v1/allocations/{id}", &*one),
        (404, "delete", "/v1/allocations/{id}", &*one),
        (202, "post", "/v1/drain", "/v1/drain"),
    ] {
        described.ask(&office, asked);
    }
    call.client.release().ok();
    // What only comes with video, TCP, drops to be explained, or loops.
    let rare = ["Stream.frame_rate", "Entry.about", "Explanation.findings"];
    let unmet: Vec<_> = described
        .all()
        .into_iter()
        .filter(|place| !described.met.contains(place))
        .filter(|place| !rare.iter().any(|rare| place.starts_with(rare)))
        .collect();
    assert_eq!(unmet, [""; 0], "described, and never answered");
    office.relay.wait().unwrap();
}

#[test]
fn no_method_is_there_that_is_not_described() {
    let office = Office::open(76, "127.0.0.1:22076", "token_file = \"token\"");
    let document = Described::by(&office).document;
    let mut wrong = String::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            let described = item[method].is_object();
            if described && method != "get" {
                // It would do something; the test above does.
                continue;
            }
            // A word that nobody knows, so that no stream begins.
            let path = path.replace("{id}", "7-7-7") + "?none=1";
            let line = format!("{} {path}", method.to_uppercase());
            let (status, ..) = office.ask(&line, &bearer(TOKEN));
            if (status != 405) != described {
                writeln!(wrong, "{line}: {status}, described: {described}").unwrap();
            }
        }
    }
    let paths = document["paths"].as_object().unwrap().values();
    for operation in paths.flat_map(|item| METHODS.map(|method| (method, item[method].clone()))) {
        let (method, operation) = operation;
        let wants_token = operation["security"].is_array();
        assert!(operation.is_null() || wants_token == (method != "get"), "{operation}: who may?");
    }
    assert_eq!(wrong, "");
    office.close();
}
