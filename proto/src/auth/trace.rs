//! The trace a credential was minted in, so that what a relay tells of its calls can be found there.
//!
//! W3C Trace Context, `traceparent` of version 00: nothing in it grants or takes anything away.

use std::fmt;
use std::str::FromStr;

/// Where a `traceparent` has its hyphens.
const HYPHENS: [usize; 3] = [2, 35, 52];

/// Its length.
const LENGTH: usize = 55;

/// A place in a trace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    parent: u64,
    flags: u8,
}

impl Trace {
    /// The trace.
    pub fn id(self) -> u128 {
        self.id
    }

    /// Where in it.
    pub fn parent(self) -> u64 {
        self.parent
    }
}

/// Text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTrace;

impl fmt::Display for NoTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write it as W3C Trace Context does: 00-TRACE-PARENT-FLAGS in small hex digits")
    }
}

impl std::error::Error for NoTrace {}

impl FromStr for Trace {
    type Err = NoTrace;

    fn from_str(text: &str) -> Result<Self, NoTrace> {
        let is_hyphen = |at: usize| HYPHENS.contains(&at);
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fits =
            |(at, byte): (usize, u8)| if is_hyphen(at) { byte == b'-' } else { is_hex(byte) };
        if text.len() != LENGTH || !text.bytes().enumerate().all(fits) {
            return Err(NoTrace);
        }
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NoTrace);
        if part()? != "00" {
            return Err(NoTrace);
        }
        let id = u128::from_str_radix(part()?, 16).map_err(|_| NoTrace)?;
        let parent = u64::from_str_radix(part()?, 16).map_err(|_| NoTrace)?;
        let flags = u8::from_str_radix(part()?, 16).map_err(|_| NoTrace)?;
        // Zero means that there is none (§3.2.2.3, §3.2.2.4).
        if id == 0 || parent == 0 { Err(NoTrace) } else { Ok(Self { id, parent, flags }) }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.id, self.parent, self.flags)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_written_alike() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(text.parse::<Trace>().unwrap().to_string(), text);
        for (case, wrong) in [
            ("nothing", String::new()),
            ("another version", text.replacen("00", "01", 1)),
            ("capitals", text.replace('a', "A")),
            ("no hex", text.replace('b', "g")),
            ("no trace", format!("00-{:032x}-b7ad6b7169203331-01", 0)),
            ("no parent", format!("00-0af7651916cd43dd8448eb211c80319c-{:016x}-01", 0)),
            ("longer", format!("{text}-00")),
            ("shorter", text[..54].to_owned()),
            ("signs", text.replacen("b7ad", "+7ad", 1)),
            ("a letter of two bytes", text.replacen("b7", "ü", 1)),
        ] {
            assert_eq!(wrong.parse::<Trace>(), Err(NoTrace), "{case}");
        }
    }
}
