//! Counters of DTLS: what became of hellos, why sessions end, what is lost.

macro_rules! counted {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident $name:literal $explanation:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(clippy::doc_markdown, reason = "the texts are shown to operators as they are")]
        pub enum $enum {
            $(#[doc = $explanation] $variant,)*
        }

        impl $enum {
            /// Every variant, in order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name used in labels.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What an operator should know.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)* }
            }
        }
    };
}

counted! {
    /// What became of a ClientHello.
    Greeting {
        Asked "cookie_asked" "answered with a cookie, and forgotten";
        Taken "taken" "came back with the cookie: a session began";
        BadCookie "bad_cookie" "a cookie too old, or given to another address, and no way to ask again; the client begins anew";
        Malformed "malformed" "handshake bytes that are no hello, or a broken one";
        Pieces "in_pieces" "a hello in several datagrams, which cannot be judged without keeping it";
        Version "version" "a client that speaks neither DTLS 1.2 nor 1.3 in a way that needs no memory";
        Mismatch "mismatch" "no common cipher suite, group or signature; a client may insist on an RSA certificate";
        Long "answer_too_long" "the answer would be longer than the hello, and is not sent to a source that may be forged";
        Throttled "throttled" "more answers to one source than strangers get";
        PerClient "connections_per_client" "the client's network holds limits.connections_per_client sessions without an allocation";
        Handshakes "handshakes" "more handshakes from one address or its network than limits.handshakes_per_s allows: a flood, or many users behind one NAT";
        InAll "connections" "the relay holds limits.connections connections and sessions without an allocation";
    }
}

counted! {
    /// Why a session ended.
    Parting {
        ByClient "by_client" "the client said goodbye; its allocation was released";
        Handshake "handshake" "the handshake was not finished in time, or failed";
        Failed "failed" "records no session can go on after";
        Defect "defect" "a defect of the DTLS library: please report what the log says";
        Idle "idle" "no allocation within the time a stranger has, or none for so long";
        Replaced "replaced" "the client came again from the same port";
        Told "told" "the server no longer needs the session";
        ShutDown "shut_down" "the relay ended, or its worker began anew after a defect";
    }
}

counted! {
    /// What is lost below TURN.
    Loss {
        Stray "stray" "a record of no session: a client that has not noticed the end of its own, or noise";
        Foreign "foreign" "not DTLS, at a listener that serves nothing else";
        Oversize "oversize" "a message for a client longer than a record";
        Unsent "unsent" "a message for a client whose session cannot send now, or is gone";
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
