//! Any bytes as a PROXY header: read, and what names a client written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::framing::proxy::{LONGEST, Origin, Reading, SIGNATURE, read, write};

fuzz_target!(|data: &[u8]| {
    check(data);
    // The same bytes behind an honest signature.
    check(&[&SIGNATURE, data].concat());
});

fn check(stream: &[u8]) {
    match read(stream) {
        Reading::NeedMore(missing) => {
            assert!(missing > 0 && stream.len() + missing <= LONGEST);
        }
        Reading::Complete { origin, wire } => {
            assert!(wire <= stream.len() && wire <= LONGEST);
            assert_eq!(read(&stream[..wire]), Reading::Complete { origin, wire });
            assert!(matches!(read(&stream[..wire - 1]), Reading::NeedMore(1)));
            if let Origin::Client { source, destination } = origin {
                let (bytes, len) = write(source, destination);
                let expected = Reading::Complete { origin, wire: len };
                assert_eq!(read(&bytes[..len]), expected);
            }
        }
        Reading::Broken(_) => {
            let longer = [stream, &[0; 8]].concat();
            assert!(matches!(read(&longer), Reading::Broken(_)), "no more bytes mend it");
        }
    }
}
