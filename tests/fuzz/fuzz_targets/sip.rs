//! Any bytes as a stream of SIP, whole and in pieces: cut, read, and answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sip::answer::{Answer, Status, can_answer, is_complete};
use sip::framing::{BODY_LIMIT, Framer, HEAD_LIMIT, Item};
use sip::message::{Head, Start};

// The files themselves: the whole service would bring an HTTP server along.
#[allow(dead_code, reason = "the service uses more of it")]
#[path = "../../../auth-service/src/sip/mod.rs"]
mod sip;

fuzz_target!(|data: &[u8]| {
    let whole = items(data, data.len().max(1));
    let piece = usize::from(data.first().copied().unwrap_or(1)).max(1);
    assert_eq!(items(data, piece), whole, "pieces make no difference");
    for item in &whole {
        match item {
            Item::KeepAlive => {}
            Item::Message(message) => {
                assert!(message.body.len() <= BODY_LIMIT);
                answer(&message.head);
            }
            Item::Broken(broken) => assert!(!broken.to_string().is_empty()),
        }
    }
});

/// Everything up to the first break.
fn items(data: &[u8], piece: usize) -> Vec<Item> {
    let mut framer = Framer::default();
    let mut items = Vec::new();
    for bytes in data.chunks(piece) {
        framer.push(bytes);
        while let Some(item) = framer.next_item() {
            let broken = matches!(item, Item::Broken(_));
            items.push(item);
            if broken {
                return items;
            }
        }
    }
    items
}

/// An answer is SIP itself: it can be cut out again and says what the request said.
fn answer(request: &Head) {
    let Start::Request { method, .. } = request.start() else { return };
    if !can_answer(request) {
        return;
    }
    let bytes = Answer::bare(Status::Ok).to_bytes(request, "none");
    if bytes.len() > HEAD_LIMIT {
        return;
    }
    let answered = items(&bytes, bytes.len());
    let [Item::Message(response)] = &answered[..] else { panic!("no response: {answered:?}") };
    assert_eq!(response.head.start(), &Start::Response);
    for name in ["via", "from", "call-id", "cseq", "record-route"] {
        assert!(response.head.all(name).eq(request.all(name)), "{name}");
    }
    let _ = is_complete(request, method);
}
