//! Pseudo-TLS: two fixed records that look like the start of TLS, and nothing is encrypted.
//!
//! Clients of the Microsoft dialect send the first on port 443 where a proxy lets nothing but TLS
//! through. The server answers with the second, and then both speak [`super::ms`] frames in the
//! clear (MST-2). A connection so has two states: the record is awaited, or has been answered.
//!
//! No client of real TLS sends the record: its one cipher, without authentication, is of 1996.

/// Bytes of the client's record.
pub const CLIENT_LEN: usize = 50;

/// Bytes of the server's record. It leaves in one write: libnice reads it in one piece (MST-21).
pub const SERVER_LEN: usize = 83;

/// The client's record: one `ClientHello` of TLS 1.0, without session, with one cipher and no
/// compression. `None`: any byte, which are time and randomness (MST-23).
const CLIENT: [Option<u8>; CLIENT_LEN] = {
    let mut record = [None; CLIENT_LEN];
    put(&mut record, 0, &[0x16, 3, 1, 0, 0x2D, 1, 0, 0, 0x29, 3, 1]);
    put(&mut record, 43, &[0, 0, 2, 0, 0x18, 1, 0]);
    record
};

/// The server's record: `ServerHello` and `ServerHelloDone` in one (MST-20). `None` is filled by
/// [`Freshness`].
const SERVER: [Option<u8>; SERVER_LEN] = {
    let mut record = [None; SERVER_LEN];
    put(&mut record, 0, &[0x16, 3, 1, 0, 0x4E, 2, 0, 0, 0x46, 3, 1]);
    put(&mut record, 43, &[0x20]);
    put(&mut record, 76, &[0, 0x18, 0, 0x0E, 0, 0, 0]);
    record
};

/// Bytes of the answer that are any: time, randomness, and the name of a session.
pub const FRESH_LEN: usize = 4 + 28 + 32;

/// What is random in an answer. Nobody looks at it; it only has to look like TLS.
pub type Freshness = [u8; FRESH_LEN];

/// What the first bytes of a stream say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The client's record is here, in the first [`CLIENT_LEN`] bytes.
    Complete,
    /// It may be; so many bytes are missing.
    NeedMore(usize),
    /// It is not.
    Other,
}

/// Compares the first bytes of a stream with the client's record.
pub fn read(stream: &[u8]) -> Reading {
    let same = |(byte, wanted): (&u8, &Option<u8>)| wanted.is_none_or(|wanted| wanted == *byte);
    if !stream.iter().zip(&CLIENT).all(same) {
        return Reading::Other;
    }
    match CLIENT_LEN.saturating_sub(stream.len()) {
        0 => Reading::Complete,
        missing => Reading::NeedMore(missing),
    }
}

/// The server's record.
pub fn answer(fresh: &Freshness) -> [u8; SERVER_LEN] {
    let mut fresh = fresh.iter();
    SERVER.map(|fixed| fixed.or_else(|| fresh.next().copied()).unwrap_or_default())
}

#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "at compile time")]
const fn put(record: &mut [Option<u8>], at: usize, bytes: &[u8]) {
    let mut index = 0;
    while index < bytes.len() {
        record[at + index] = Some(bytes[index]);
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::framing::vector;

    /// TV15: the records of client and server.
    const TV15: [&str; 2] = [
        "160301002d01000029030169227a10404142434445464748494a4b4c4d4e4f505152535455565758595a5b\
         00000200180100",
        "160301004e02000046030169227a11606162636465666768696a6b6c6d6e6f707172737475767778797a7b\
         20808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f0018000e000000",
    ];

    #[test]
    fn mst_020_the_answer_is_one_record_of_83_bytes() {
        let expected = vector(TV15[1]);
        let fresh = [&expected[11..43], &expected[44..76]].concat();
        assert_eq!(answer(fresh.first_chunk().unwrap())[..], expected[..]);
    }

    #[test]
    fn mst_023_the_record_is_known_by_its_fixed_bytes_one_at_a_time() {
        let record = vector(TV15[0]);
        for have in 0..CLIENT_LEN {
            assert_eq!(read(&record[..have]), Reading::NeedMore(CLIENT_LEN - have));
        }
        assert_eq!(read(&record), Reading::Complete);
        let more = [&record[..], &[2, 0]].concat();
        assert_eq!(read(&more), Reading::Complete, "what follows changes nothing");
        for at in 0..CLIENT_LEN {
            let mut other = record.clone();
            other[at] ^= 0x80;
            let free = (11..43).contains(&at);
            let expected = if free { Reading::Complete } else { Reading::Other };
            assert_eq!(read(&other), expected, "byte {at}");
            assert_eq!(read(&other[..=at]) == Reading::Other, !free, "no later than byte {at}");
        }
    }

    proptest! {
        #[test]
        fn mst_022_what_clients_compare_is_the_same_whatever_is_random(
            fresh in proptest::collection::vec(any::<u8>(), FRESH_LEN),
        ) {
            let (expected, written) = (vector(TV15[1]), answer(fresh.first_chunk().unwrap()));
            for range in [0..11, 43..44, 76..83] {
                prop_assert_eq!(&written[range.clone()], &expected[range]);
            }
            prop_assert_eq!(&written[11..43], &fresh[..32]);
            prop_assert_eq!(&written[44..76], &fresh[32..]);
        }
    }
}
