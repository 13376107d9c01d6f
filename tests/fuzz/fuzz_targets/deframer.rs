//! Any bytes as a stream of TURN frames: cut at once, and cut as they arrive byte by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::channel_data::ChannelData;
use proto::framing::turn::{Cut, LONGEST, Rules, cut, padding};

fuzz_target!(|data: &[u8]| {
    let Some((&first, stream)) = data.split_first() else { return };
    let longest = if first & 2 == 0 { LONGEST } else { 64 };
    let rules = Rules { rfc5766_channels: first & 1 == 1, longest };
    let mut rest = stream;
    loop {
        let whole = cut(rest, rules);
        let mut wanted = 1;
        for have in 1..=rest.len().min(256) {
            let seen = cut(&rest[..have], rules);
            match seen {
                Cut::Complete { wire, .. } => assert_eq!((seen, wire <= have), (whole, true)),
                Cut::Broken(_) => assert_eq!(seen, whole, "no more bytes mend a stream"),
                Cut::NeedMore(missing) => {
                    assert!(missing > 0 && have + missing >= wanted, "it asks for ever more");
                    assert!(have + missing <= rules.longest);
                    wanted = have + missing;
                }
            }
        }
        let Cut::Complete { frame, wire } = whole else { return };
        assert!(0 < frame && frame <= wire && wire <= rest.len() && wire <= rules.longest);
        assert_eq!((wire % 4, wire - frame), (0, padding(frame)));
        let (taken, behind) = rest.split_at(wire);
        if let Ok(message) = ChannelData::parse(&taken[..frame]) {
            assert_eq!(message.payload().len() + 4, frame);
        }
        rest = behind;
    }
});
