//! Any bytes as the record that opens pseudo-TLS, and as what is random in its answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::framing::client_hello;
use proto::framing::pseudo_tls::{CLIENT_LEN, FRESH_LEN, Reading, answer, read};

fuzz_target!(|data: &[u8]| {
    let whole = read(data);
    for have in 0..data.len().min(CLIENT_LEN + 8) {
        match read(&data[..have]) {
            Reading::NeedMore(missing) => assert_eq!(have + missing, CLIENT_LEN),
            earlier => assert_eq!(earlier, whole, "more bytes do not change it"),
        }
    }
    if whole == Reading::Complete {
        // It is a ClientHello to whoever reads it as one, and asks for nothing by name.
        let Some(record) = data.get(..CLIENT_LEN) else { panic!("complete without its bytes") };
        let expected = client_hello::Reading::Complete(client_hello::ClientHello::default());
        assert_eq!(client_hello::read(record), expected);
    }
    let mut fresh = [0; FRESH_LEN];
    fresh.iter_mut().zip(data).for_each(|(byte, random)| *byte = *random);
    let record = answer(&fresh);
    assert_eq!((record[..3].to_vec(), record[3..5].to_vec()), (vec![22, 3, 1], vec![0, 78]));
    assert_eq!([&record[11..43], &record[44..76]].concat(), fresh);
});
