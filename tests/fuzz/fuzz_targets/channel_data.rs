//! Any bytes as a client's packet: told apart, read as ChannelData, written anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::channel_data::{ChannelData, HEADER_LEN, Malformed, header};
use proto::demux::Kind;

fuzz_target!(|data: &[u8]| {
    let parsed = ChannelData::parse(data);
    let old = Kind::of_rfc5766(data) == Kind::ChannelData;
    assert!(old || Kind::of(data) != Kind::ChannelData, "the newer range lies in the older");
    match parsed {
        Ok(message) => {
            assert!(old);
            let payload = message.payload();
            assert_eq!(payload, &data[HEADER_LEN..HEADER_LEN + payload.len()]);
            let length = u16::try_from(payload.len()).expect("a 16-bit length was read");
            assert_eq!(header(message.number(), length), data[..HEADER_LEN]);
            let exact = &data[..HEADER_LEN + payload.len()];
            assert_eq!(ChannelData::parse(exact), Ok(message), "padding changes nothing");
            let cut = exact.split_last().map_or(&[][..], |(_, rest)| rest);
            assert!(ChannelData::parse(cut).is_err(), "every byte is needed");
        }
        Err(Malformed::Short) => assert!(data.len() < HEADER_LEN),
        Err(Malformed::Number) => assert!(!old),
        Err(Malformed::Length) => {
            let longer = [data, &[0; 65_535]].concat();
            assert!(ChannelData::parse(&longer).is_ok(), "only bytes were missing");
        }
    }
});
