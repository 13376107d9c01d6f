//! Cuts messages out of a byte stream (RFC 3261 §18.3).
//!
//! A head ends at an empty line, the body is as long as Content-Length says. Whatever cannot be
//! cut safely ends the connection. Memory is bounded by the two limits here, and nothing is kept
//! for a length that has only been claimed.

use std::fmt;

use crate::sip::message::{Head, NotSip};

/// Longest head, bytes; its empty line included.
pub(crate) const HEAD_LIMIT: usize = 16 * 1024;

/// Longest body, bytes (MRAS-23).
pub(crate) const BODY_LIMIT: usize = 256 * 1024;

/// Collects bytes and gives messages.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    bytes: Vec<u8>,
    /// Bytes that hold no end of a head.
    scanned: usize,
    /// A head whose body is awaited, and that body's length.
    head: Option<(Head, usize)>,
}

/// What stands next in the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A double CRLF between messages, to be answered with one (RFC 5626 §3.5.1).
    KeepAlive,
    /// A whole message.
    Message(Message),
    /// Nothing behind this can be understood.
    Broken(Broken),
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Start line and headers.
    pub(crate) head: Head,
    /// As long as Content-Length says.
    pub(crate) body: Vec<u8>,
}

/// Why a stream cannot be cut any further.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The head is longer than [`HEAD_LIMIT`].
    HeadTooLong,
    /// The head is none of SIP.
    NotSip(NotSip),
    /// Content-Length is missing, doubled or no number.
    NoLength(Head),
    /// The body would be longer than [`BODY_LIMIT`].
    BodyTooLong(Head),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadTooLong => write!(f, "a head of more than {HEAD_LIMIT} bytes"),
            Self::NotSip(why) => write!(f, "no SIP: {why}"),
            Self::NoLength(_) => f.write_str("Content-Length is missing, doubled or no number"),
            Self::BodyTooLong(_) => write!(f, "a body of more than {BODY_LIMIT} bytes"),
        }
    }
}

impl Framer {
    /// Takes bytes over; to be followed by [`Framer::next_item`] until there is none.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether no message has begun.
    pub(crate) fn is_between(&self) -> bool {
        self.head.is_none() && b"\r\n\r".starts_with(&self.bytes)
    }

    /// The next item; `None`: more bytes are needed. After [`Item::Broken`] it is over.
    pub(crate) fn next_item(&mut self) -> Option<Item> {
        if self.head.is_none() {
            match self.next_head()? {
                Ok((head, length)) => self.head = Some((head, length)),
                Err(item) => return Some(item),
            }
        }
        let (head, length) = self.head.take()?;
        if self.bytes.len() < length {
            self.head = Some((head, length));
            return None;
        }
        let rest = self.bytes.split_off(length);
        let body = std::mem::replace(&mut self.bytes, rest);
        Some(Item::Message(Message { head, body }))
    }

    /// A head with the length of its body, or what comes instead.
    fn next_head(&mut self) -> Option<Result<(Head, usize), Item>> {
        if self.bytes.starts_with(b"\r\n\r\n") {
            self.discard(4);
            return Some(Err(Item::KeepAlive));
        }
        if self.is_between() {
            return None;
        }
        // RFC 3261 §7.5: an empty line before a start line is ignored.
        if self.bytes.starts_with(b"\r\n") {
            self.discard(2);
        }
        let Some(end) = self.end_of_head() else {
            let broken = Item::Broken(Broken::HeadTooLong);
            return (self.bytes.len() >= HEAD_LIMIT).then_some(Err(broken));
        };
        if end + END.len() > HEAD_LIMIT {
            return Some(Err(Item::Broken(Broken::HeadTooLong)));
        }
        let head = Head::parse(self.bytes.get(..end).unwrap_or_default());
        self.discard(end + END.len());
        let broken = |broken| Some(Err(Item::Broken(broken)));
        match head {
            Err(why) => broken(Broken::NotSip(why)),
            Ok(head) => match head.body_length() {
                None => broken(Broken::NoLength(head)),
                Some(length) if length > BODY_LIMIT => broken(Broken::BodyTooLong(head)),
                Some(length) => Some(Ok((head, length))),
            },
        }
    }

    /// Where the empty line begins.
    fn end_of_head(&mut self) -> Option<usize> {
        let from = self.scanned.saturating_sub(END.len() - 1);
        let found = self.bytes.get(from..)?.windows(END.len()).position(|bytes| bytes == END);
        self.scanned = self.bytes.len();
        found.map(|at| from + at)
    }

    fn discard(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
        self.scanned = 0;
    }
}

/// Ends a head.
const END: &[u8] = b"\r\n\r\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "\r\n\r\nSERVICE sip:a SIP/2.0\r\nVia: x\r\nl: 5\r\n\r\n\r\n\r\n\r\r\n\
        SIP/2.0 200 OK\r\nContent-Length:0\r\n\r\n\r\n\r\nX sip:b SIP/2.0\r\nContent-Length: 3\r\n\r\nend";

    /// What comes out when the stream comes in pieces of these lengths, then byte by byte.
    fn items(cuts: &[usize]) -> Vec<Item> {
        let (mut framer, mut items) = (Framer::default(), Vec::new());
        let mut rest = STREAM.as_bytes();
        let lengths = cuts.iter().copied().chain(std::iter::repeat(1));
        for length in lengths {
            let (now, later) = rest.split_at(length.min(rest.len()));
            framer.push(now);
            items.extend(std::iter::from_fn(|| framer.next_item()));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        assert!(framer.is_between(), "nothing is left");
        items
    }

    #[test]
    fn mras_005_messages_are_as_long_as_they_say() {
        let items = items(&[STREAM.len()]);
        let bodies: Vec<_> = items
            .iter()
            .map(|item| match item {
                Item::KeepAlive => "keep-alive",
                Item::Message(message) => std::str::from_utf8(&message.body).expect("a text"),
                Item::Broken(broken) => panic!("{broken}"),
            })
            .collect();
        assert_eq!(bodies, ["keep-alive", "\r\n\r\n\r", "", "keep-alive", "end"]);
    }

    proptest! {
        #[test]
        fn mras_005_any_cut_of_the_stream_gives_the_same_messages(
            cuts in prop::collection::vec(1..90_usize, 0..20),
        ) {
            prop_assert_eq!(items(&cuts), items(&[STREAM.len()]));
        }

        #[test]
        fn mras_023_no_bytes_make_it_keep_more_than_its_limits(
            bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        ) {
            let mut framer = Framer::default();
            framer.push(&bytes);
            while let Some(item) = framer.next_item() {
                if let Item::Broken(broken) = item {
                    prop_assert!(!broken.to_string().is_empty());
                    break;
                }
            }
            prop_assert!(framer.bytes.len() <= bytes.len());
        }
    }
}
