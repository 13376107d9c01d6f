//! SIP URIs, as far as a credential service must understand them (RFC 3261 §19.1).

/// User and host of a SIP URI, or `None` if it is none. A user is not needed; parameters,
/// headers, password and port are taken off.
pub(crate) fn parts(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once(':')?;
    if !["sip", "sips"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let unfit = |char: char| char.is_control() || char.is_whitespace() || "<>\"".contains(char);
    if rest.contains(unfit) {
        return None;
    }
    let (user, rest) = match rest.rsplit_once('@') {
        Some(("", _)) => return None,
        Some((user, rest)) => (user.split([':', ';']).next().unwrap_or_default(), rest),
        None => ("", rest),
    };
    let host_port = rest.split([';', '?']).next().unwrap_or_default();
    let host = match host_port.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => host_port.split(':').next().unwrap_or_default(),
    };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    (!host.is_empty() && host.bytes().all(good)).then_some((user, host))
}

/// Which identities may have credentials: `user@host`, or `*@host` for all of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// `None`: anybody.
    user: Option<String>,
    host: String,
}

impl Pattern {
    /// Reads one; `None` if it is none.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let (user, host) = text.split_once('@')?;
        let uri = format!("sip:{user}@{host}");
        if parts(&uri) != Some((user, host)) {
            return None;
        }
        let user = (user != "*").then(|| user.to_lowercase());
        Some(Self { user, host: host.to_lowercase() })
    }

    /// Whether a SIP URI is one of them, in any case.
    pub(crate) fn fits(&self, uri: &str) -> bool {
        parts(uri).is_some_and(|(user, host)| {
            host.eq_ignore_ascii_case(&self.host)
                && self.user.as_ref().is_none_or(|own| user.to_lowercase() == *own)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mras_015_sip_uris_are_told_from_others() {
        for (uri, expected) in [
            ("sip:alice@example.com", Some(("alice", "example.com"))),
            ("SIPS:alice@example.com", Some(("alice", "example.com"))),
            ("sip:example.com", Some(("", "example.com"))),
            (
                "sip:MRASLoc.edge@example.com:5061;gruu;opaque=srvr:MRAS:x?a=b",
                Some(("MRASLoc.edge", "example.com")),
            ),
            ("sip:bob:secret@[2001:db8::1]:5060", Some(("bob", "2001:db8::1"))),
            ("", None),
            ("alice@example.com", None),
            ("tel:+123", None),
            ("http://example.com", None),
            ("sip:", None),
            ("sip:alice@", None),
            ("sip:@example.com", None),
            ("sip:alice@ex ample.com", None),
            ("sip:<alice@example.com>", None),
            ("sip:alice@example.com\n", None),
            ("sip:alice@[2001:db8::1", None),
        ] {
            assert_eq!(parts(uri), expected, "{uri:?}");
        }
    }

    #[test]
    fn mras_016_patterns_name_a_host_or_one_user_of_it() {
        let all = Pattern::new("*@Example.com").expect("a pattern");
        let one = Pattern::new("Bob@example.com").expect("a pattern");
        for (uri, by_all, by_one) in [
            ("sip:alice@example.com", true, false),
            ("SIP:BOB@EXAMPLE.COM;x=1", true, true),
            ("sip:bob@example.com.evil.example", false, false),
            ("sip:bob@evil.example", false, false),
            ("tel:bob@example.com", false, false),
        ] {
            assert_eq!((all.fits(uri), one.fits(uri)), (by_all, by_one), "{uri}");
        }
        for bad in ["", "*", "example.com", "@example.com", "*@", "*@*", "*@a b", "*@a:5061"] {
            assert_eq!(Pattern::new(bad), None, "{bad:?}");
        }
    }
}
