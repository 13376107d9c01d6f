//! Any bytes as the opening of a connection, and as a ClientHello; records cut otherwise must
//! not change what is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::framing::client_hello::{Broken, LONGEST, Reading, read};
use proto::framing::pseudo_tls::CLIENT_LEN;
use proto::framing::sniff::{Opening, sniff};

fuzz_target!(|data: &[u8]| {
    for (microsoft, longest) in [(false, 12), (true, CLIENT_LEN)] {
        let told = sniff(data, microsoft);
        for have in 0..data.len().min(64) {
            match sniff(&data[..have], microsoft) {
                Opening::NeedMore(missing) => assert!(missing > 0 && have + missing <= longest),
                earlier => assert_eq!(earlier, told, "more bytes do not change it"),
            }
        }
    }
    check(data);
    // The same bytes as the body of an honest message, in records of the length its first says.
    let size = usize::from(data.first().copied().unwrap_or(1)).max(1);
    let length = u32::try_from(data.len()).expect("a fuzzer's input is short").to_be_bytes();
    let message = [&[1, length[1], length[2], length[3]], data].concat();
    let one = records(&message, 1 << 14);
    let many = records(&message, size);
    check(&many);
    if one.len().max(many.len()) <= LONGEST {
        assert_eq!(read(&one), read(&many));
    }
});

fn check(stream: &[u8]) {
    let whole = read(stream);
    match &whole {
        Reading::NeedMore(missing) => {
            assert!(*missing > 0 && stream.len() + missing <= LONGEST);
        }
        Reading::Complete(hello) => {
            let name = hello.server_name.as_deref().unwrap_or("none");
            assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(hello.protocols.iter().all(|name| (1..=255).contains(&name.len())));
            let longer = [stream, b"what follows"].concat();
            assert_eq!(read(&longer), whole, "what follows changes nothing");
        }
        Reading::Broken(Broken::TooLong) => {}
        Reading::Broken(_) => {
            let longer = [stream, &[0; 8]].concat();
            assert!(matches!(read(&longer), Reading::Broken(_)), "no more bytes mend it");
        }
    }
    // As it arrives: only asked again when what was missing has come.
    let (mut have, mut asked) = (0, 0);
    while let Reading::NeedMore(missing) = read(&stream[..have]) {
        asked += 1;
        assert!(asked < 200, "looked at too often");
        if have + missing > stream.len() {
            return;
        }
        have += missing;
    }
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size.min(1 << 14))
        .flat_map(|part| {
            let length = u16::try_from(part.len()).expect("bounded").to_be_bytes();
            [&[22, 3, 1, length[0], length[1]], part].concat()
        })
        .collect()
}
