//! Any bytes as a request to MRAS: read, judged, and echoed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mras::reason::Reason;
use mras::request::Request;
use mras::response::refused;
use roxmltree::Document;

// The files themselves: the whole service would bring an HTTP server along.
#[allow(dead_code, reason = "the service uses more of them")]
#[path = "../../../auth-service/src/mras"]
mod mras {
    pub mod reason;
    pub mod relays;
    pub mod request;
    pub mod response;
    pub mod uri;

    pub const NAMESPACE: &str = "http://schemas.microsoft.com/2006/09/sip/mrasp";
    pub const SERVER_VERSION: &str = "3.0";
}

#[allow(dead_code, reason = "the service uses more of it")]
#[path = "../../../auth-service/src/sip/mod.rs"]
mod sip;

fuzz_target!(|data: &[u8]| {
    let Ok(request) = Request::parse(data) else { return };
    assert!(!request.entries.is_empty());
    let reason = request.check().err().unwrap_or(Reason::Forbidden);
    let text = refused(Some(&request), reason);
    let document = Document::parse(&text).expect("what we write is XML");
    let root = document.root_element();
    assert_eq!(root.attribute("reasonPhrase"), Some(reason.phrase()));
    if reason != Reason::RequestMalformed {
        let own = [&request.id, &request.to, &request.from].map(|value| Some(value.as_str()));
        assert_eq!(["requestID", "to", "from"].map(|name| root.attribute(name)), own);
    }
});
