//! Any datagram as what opens DTLS: read, and put back to what it was before its cookie.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::framing::dtls::{Hello, is_dtls, is_handshake};

fuzz_target!(|data: &[u8]| {
    let Ok(hello) = Hello::parse(data) else { return };
    assert!(is_dtls(data) && is_handshake(data));
    for (index, first) in hello.firsts().enumerate() {
        let before = Hello::parse(&first).expect("what is put back can be read");
        assert_eq!((before.cookie(), before.sequence()), (None, 0));
        assert_eq!(before.random(), hello.random());
        assert!(before.firsts().eq([first.clone()]));
        if let Some(cookie) = hello.cookie() {
            assert_eq!(first.len() < data.len(), index == 0);
            assert!(first.len() <= data.len() && cookie.len() < data.len());
        }
        assert_eq!(before.offers_1_3(&[29]), hello.offers_1_3(&[29]));
        assert_eq!(before.offers_1_2(), hello.offers_1_2());
    }
});
