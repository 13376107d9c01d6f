//! A stream of Redis or Valkey: an XADD for each record, many in one write.
//!
//! The protocol (RESP2) in the few words that are needed: lists of texts one way, one reply for
//! each the other way. Clients that know more of it come with a parser of URLs and forty crates.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use zeroize::Zeroizing;

use super::courier::{Delivery, Failure};

/// How long it may take for one step.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest line and the longest text of a reply that means something.
const LONGEST: u64 = 4 << 10;

/// What the operator wishes.
#[derive(Clone)]
pub(crate) struct RedisWish {
    /// Where to.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// The key of the stream.
    pub(crate) stream: String,
    /// Who brings records, if not the default user.
    pub(crate) user: Option<String>,
    /// And proves it.
    pub(crate) password: Option<Zeroizing<String>>,
    /// About how many records the stream keeps; `None` for all.
    pub(crate) most: Option<u64>,
}

impl fmt::Debug for RedisWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, stream, .. } = self;
        write!(f, "RedisWish({host}:{port} {stream})")
    }
}

/// The way to it.
pub(super) struct Redis {
    wish: RedisWish,
    connection: Option<BufReader<TcpStream>>,
}

impl Redis {
    pub(super) fn new(wish: RedisWish) -> Self {
        Self { wish, connection: None }
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let RedisWish { host, port, user, password, .. } = &self.wish;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host.trim_matches(['[', ']']), *port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    let mut connection = BufReader::new(stream);
                    if let Some(password) = password {
                        let words = ["AUTH"].into_iter().chain(user.as_deref());
                        let words: Vec<&str> = words.chain([password.as_str()]).collect();
                        let mut bytes = Zeroizing::new(Vec::new());
                        command(&mut bytes, &words);
                        connection.get_mut().write_all(&bytes)?;
                        reply(&mut connection)?;
                    }
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Adds every line to the stream, on a connection.
    fn add(&self, connection: &mut BufReader<TcpStream>, lines: &[u8]) -> io::Result<()> {
        let most = self.wish.most.map(|most| most.to_string());
        let mut bytes = Vec::new();
        let mut count = 0;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = std::str::from_utf8(line).map_err(io::Error::other)?;
            let mut words = vec!["XADD", &self.wish.stream];
            words.extend(most.iter().flat_map(|most| ["MAXLEN", "~", most]));
            words.extend(["*", "record", line]);
            command(&mut bytes, &words);
            count += 1;
        }
        connection.get_mut().write_all(&bytes)?;
        (0..count).try_for_each(|_| reply(connection))
    }
}

impl Delivery for Redis {
    fn deliver(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let told = |error: io::Error| Failure::Away(format!("{}: {error}", self.wish.host), None);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().map_err(told)?,
        };
        self.add(&mut connection, lines).map_err(told)?;
        // After a failure nobody knows which replies are still to come.
        self.connection = Some(connection);
        Ok(())
    }
}

/// Appends a list of texts.
fn command(bytes: &mut Vec<u8>, words: &[&str]) {
    bytes.extend(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend(word.as_bytes());
        bytes.extend(b"\r\n");
    }
}

/// Reads one reply: a text, or why there is none.
fn reply(from: &mut impl BufRead) -> io::Result<()> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "its reply is not that of Redis");
    let mut line = String::new();
    from.by_ref().take(LONGEST).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) =
        line.strip_suffix("\r\n").and_then(|it| it.split_at_checked(1)).ok_or_else(strange)?;
    match kind {
        "+" | ":" => Ok(()),
        // Replies to AUTH repeat no password.
        "-" => Err(io::Error::other(format!("it says {rest:?}"))),
        "$" => {
            let length =
                rest.parse::<u64>().ok().filter(|it| *it <= LONGEST).ok_or_else(strange)?;
            let mut text = Vec::new();
            from.take(length + 2).read_to_end(&mut text)?;
            if text.ends_with(b"\r\n") { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
        _ => Err(strange()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lists_of_texts() {
        let mut bytes = Vec::new();
        command(&mut bytes, &["XADD", "s", "*", "record", "{\"ü\":1}"]);
        let expected =
            "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$6\r\nrecord\r\n$8\r\n{\"ü\":1}\r\n";
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
    }

    #[test]
    fn replies_are_taken_apart() {
        for (case, text, good) in [
            ("a status", &b"+OK\r\n"[..], true),
            ("the id of an entry", b"$15\r\n1526919030474-0\r\n", true),
            ("an error", b"-NOAUTH Authentication required.\r\n", false),
            ("nothing", b"", false),
            ("half", b"$15\r\n152691", false),
            ("no id", b"$-1\r\n", false),
            ("a long one", b"$999999999\r\n", false),
            ("HTTP", b"HTTP/1.1 400 Bad Request\r\n", false),
            ("without end", &[b'+'; 10_000], false),
        ] {
            let mut from = text;
            assert_eq!(reply(&mut from).is_ok(), good, "{case}");
            assert!(!good || from.is_empty(), "{case} leaves {from:?}");
        }
    }
}
