//! Clients on TCP, against a whole relay.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::site::Site;

#[test]
fn stun_007_answers_go_back_on_the_connection_or_nowhere() {
    let site = Site::open(24, 1);
    let mut stream = TcpStream::connect(site.server).unwrap();
    let at = stream.local_addr().unwrap();
    let binding = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    stream.write_all(&binding).unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    let ear = TcpListener::bind(at).unwrap();
    ear.set_nonblocking(true).unwrap();
    for _ in 0..20 {
        assert_eq!(site.page("/healthz").1, "ok\n");
        assert!(ear.accept().is_err());
    }
    site.close();
}
