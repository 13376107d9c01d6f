//! Counters of DTLS: what became of hellos, why sessions end, what is lost.

macro_rules! counted {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident $name:literal $help:literal $advice:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(clippy::doc_markdown, reason = "the texts are shown to operators as they are")]
        pub enum $enum {
            $(#[doc = $help] $variant,)*
        }

        impl $enum {
            /// Every variant, in order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name used in labels.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// A sentence for the operator: what it is.
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }

            /// A sentence for the operator: what to do.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

counted! {
    /// What became of a ClientHello.
    Greeting {
        Asked "cookie_asked" "answered with a cookie, and forgotten"
            "nothing to do: the client comes back with it";
        Taken "taken" "came back with the cookie: a session began"
            "nothing to do";
        BadCookie "bad_cookie" "a cookie too old, or given to another address, and no way to ask again; the client begins anew"
            "nothing to do for a few; many from one host mean a NAT that changes ports";
        Malformed "malformed" "handshake bytes that are no hello, or a broken one"
            "nothing to do for scans; update a client that is yours";
        Pieces "in_pieces" "a hello in several datagrams, which cannot be judged without keeping it"
            "let the client offer fewer extensions or certificates, or use TLS";
        Version "version" "a client that speaks neither DTLS 1.2 nor 1.3 in a way that needs no memory"
            "update the client, or let it use TLS";
        Mismatch "mismatch" "no common cipher suite, group or signature"
            "update the client; one that insists on an RSA certificate needs TLS";
        Long "answer_too_long" "the answer would be longer than the hello, and is not sent to a source that may be forged"
            "update the client, whose hello is shorter than any good one, or let it use TLS";
        Throttled "throttled" "more answers to one source than strangers get"
            "raise limits.strangers_per_s if many users are behind one NAT";
        PerClient "connections_per_client" "the client's network holds limits.connections_per_client sessions without an allocation"
            "raise it if many users are behind one NAT";
        PerNetwork "connections_per_network" "the IPv4 /24 or IPv6 /48 around the client holds limits.connections_per_network connections and sessions without an allocation"
            "look for who opens them there and does not use them; raise it if many users are in that network";
        Handshakes "handshakes" "more handshakes from one address or its network than limits.handshakes_per_s allows"
            "raise it if many users are behind one NAT; otherwise it is a flood, and nothing is to do";
        InAll "connections" "the relay holds limits.connections connections and sessions without an allocation"
            "look for a flood; if there is none, raise the limit";
    }
}

counted! {
    /// Why a session ended.
    Parting {
        ByClient "by_client" "the client said goodbye; its allocation was released"
            "nothing to do";
        Handshake "handshake" "the handshake was not finished in time, or failed"
            "try `av-edge probe` with transport=dtls; see whether the client trusts the certificate's authority";
        Failed "failed" "records no session can go on after"
            "nothing to do for a few; otherwise look for what changes datagrams on the client's way";
        Defect "defect" "a defect of the DTLS library"
            "please report what the log says";
        Idle "idle" "no allocation within the time a stranger has, or none for so long"
            "nothing to do for strangers; a client that means to wait has to allocate first";
        Replaced "replaced" "the client came again from the same port"
            "nothing to do";
        Told "told" "the server no longer needs the session"
            "nothing to do";
        ShutDown "shut_down" "the relay ended, or its worker began anew after a defect"
            "see the log if it was not meant: a defect is told there";
    }
}

counted! {
    /// What is lost below TURN.
    Loss {
        Stray "stray" "a record of no session: a client that has not noticed the end of its own, or noise"
            "nothing to do";
        Foreign "foreign" "not DTLS, at a listener that serves nothing else"
            "see whether a client is configured for UDP at this port; otherwise it is noise";
        Oversize "oversize" "a message for a client longer than a record"
            "let the peer send smaller datagrams";
        Unsent "unsent" "a message for a client whose session cannot send now, or is gone"
            "nothing to do";
    }
}

/// Counters of one worker's DTLS; monotonic but for the gauge at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DtlsTally {
    /// Hellos, by [`Greeting`].
    pub(crate) greeted: [u64; Greeting::ALL.len()],
    /// Sessions ended, by [`Parting`].
    pub(crate) parted: [u64; Parting::ALL.len()],
    /// Datagrams and messages lost, by [`Loss`].
    pub(crate) lost: [u64; Loss::ALL.len()],
    /// Handshakes finished.
    pub(crate) finished: u64,
    /// Gauge: sessions, those in their handshake included.
    pub(crate) open: u64,
}
