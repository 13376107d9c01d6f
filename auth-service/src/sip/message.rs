//! The head of a message: start line and headers (RFC 3261 §7).
//!
//! Strict: lines end with CRLF, hold no other control character, and are UTF-8. Compact names are
//! read as their long ones, folded lines as one. What a header says is for others to judge.

use std::fmt;

/// Headers of a head, at most.
const HEADERS_MAX: usize = 128;

/// Start line and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    start: Start,
    /// Names in lower case, values without blanks around them.
    headers: Vec<(String, String)>,
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Something is asked for.
    Request {
        /// As written: methods have a case.
        method: String,
        /// Whether it is SIP/2.0.
        known_version: bool,
    },
    /// Something is answered.
    Response,
}

/// Why bytes are no head of SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSip {
    /// Not UTF-8, or a control character.
    Text,
    /// The first line is neither a request's nor a response's.
    StartLine,
    /// A line has no colon behind a name.
    Header,
    /// There are too many.
    TooMany,
}

impl fmt::Display for NotSip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a control character, or not UTF-8",
            Self::StartLine => "the first line is none of SIP",
            Self::Header => "a line without a header's name",
            Self::TooMany => "too many headers",
        })
    }
}

impl Head {
    /// Reads a head; its empty line stays outside.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NotSip> {
        let text = std::str::from_utf8(bytes).map_err(|_| NotSip::Text)?;
        let mut lines = text.split("\r\n");
        let start = Start::parse(plain(lines.next().unwrap_or_default())?)?;
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            let line = plain(line)?;
            if line.starts_with([' ', '\t']) {
                let (_, value) = headers.last_mut().ok_or(NotSip::Header)?;
                let more = line.trim_matches(BLANKS);
                if !value.is_empty() && !more.is_empty() {
                    value.push(' ');
                }
                value.push_str(more);
                continue;
            }
            let (name, value) = line.split_once(':').ok_or(NotSip::Header)?;
            let name = name.trim_end_matches(BLANKS);
            if !is_token(name) {
                return Err(NotSip::Header);
            }
            if headers.len() == HEADERS_MAX {
                return Err(NotSip::TooMany);
            }
            headers.push((long_name(name), value.trim_matches(BLANKS).to_owned()));
        }
        Ok(Self { start, headers })
    }

    /// The first line.
    pub(crate) fn start(&self) -> &Start {
        &self.start
    }

    /// Values of a header in their order; its long name in lower case.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header that stands there exactly once.
    pub(crate) fn only<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Content-Length; `None` if it is missing, doubled or no number.
    pub(super) fn body_length(&self) -> Option<usize> {
        let digits = self.only("content-length")?;
        let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // More than any memory holds is too long, not malformed.
        good.then(|| digits.parse().unwrap_or(usize::MAX))
    }
}

impl Start {
    fn parse(line: &str) -> Result<Self, NotSip> {
        let mut words = line.split(' ');
        let (Some(first), Some(second), Some(third)) = (words.next(), words.next(), words.next())
        else {
            return Err(NotSip::StartLine);
        };
        if is_version(first) {
            let code = second.len() == 3 && second.bytes().all(|byte| byte.is_ascii_digit());
            return if code { Ok(Self::Response) } else { Err(NotSip::StartLine) };
        }
        if words.next().is_some() || !is_token(first) || second.is_empty() || !is_version(third) {
            return Err(NotSip::StartLine);
        }
        let known_version = third.eq_ignore_ascii_case("SIP/2.0");
        Ok(Self::Request { method: first.to_owned(), known_version })
    }
}

/// `SIP/`, digits, point, digits.
fn is_version(word: &str) -> bool {
    let Some((name, number)) = word.split_once('/') else { return false };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name.eq_ignore_ascii_case("SIP")
        && number.split_once('.').is_some_and(|(major, minor)| digits(major) && digits(minor))
}

const BLANKS: [char; 2] = [' ', '\t'];

/// A line without control characters.
fn plain(line: &str) -> Result<&str, NotSip> {
    let control = |char: char| char.is_control() && char != '\t';
    if line.chars().any(control) { Err(NotSip::Text) } else { Ok(line) }
}

/// RFC 3261 §25.1: token.
fn is_token(word: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    !word.is_empty() && word.bytes().all(good)
}

/// The long name of a compact one (RFC 3261 §7.3.3), in lower case.
fn long_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "v" => "via".to_owned(),
        "f" => "from".to_owned(),
        "t" => "to".to_owned(),
        "i" => "call-id".to_owned(),
        "l" => "content-length".to_owned(),
        "c" => "content-type".to_owned(),
        "e" => "content-encoding".to_owned(),
        _ => name,
    }
}
