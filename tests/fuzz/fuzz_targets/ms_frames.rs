//! Any bytes as a stream of the Microsoft dialect's frames: cut at once, cut as they arrive byte
//! by byte, and written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::framing::ms::{Cut, HEADER_LEN, LONGEST, cut, header};

fuzz_target!(|data: &[u8]| {
    let Some((&first, stream)) = data.split_first() else { return };
    let longest = if first & 1 == 0 { LONGEST } else { 64 };
    let mut rest = stream;
    loop {
        let whole = cut(rest, longest);
        let mut wanted = 1;
        for have in 1..=rest.len().min(256) {
            let seen = cut(&rest[..have], longest);
            match seen {
                Cut::Complete { wire, .. } => assert_eq!((seen, wire <= have), (whole, true)),
                Cut::Broken(_) => assert_eq!(seen, whole, "no more bytes mend a stream"),
                Cut::NeedMore(missing) => {
                    assert!(missing > 0 && have + missing >= wanted, "it asks for ever more");
                    assert!(have + missing <= longest);
                    wanted = have + missing;
                }
            }
        }
        let Cut::Complete { kind, wire } = whole else { return };
        assert!(HEADER_LEN <= wire && wire <= rest.len() && wire <= longest);
        let (taken, behind) = rest.split_at(wire);
        let (head, content) = taken.split_at(HEADER_LEN);
        assert_eq!(header(kind, content.len()).expect("it was read").as_slice(), head);
        rest = behind;
    }
});
