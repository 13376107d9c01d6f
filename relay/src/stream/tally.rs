//! Counters of streams, and why connections end or are refused.

use proto::addr::Transport;

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client's network holds as many unauthenticated connections as it may.
    PerClient,
    /// The network around it does.
    PerNetwork,
    /// All clients together do.
    InAll,
    /// As many connections of the client are passed on as may be.
    PassedPerClient,
    /// The same of the network around it.
    PassedPerNetwork,
    /// The same of everybody.
    PassedInAll,
    /// Descriptors or memory of the kernel ran out.
    Exhausted,
    /// The client's address or network began too many handshakes of TLS.
    Handshakes,
}

impl Refusal {
    /// Every refusal, in order of its index.
    pub const ALL: [Self; 8] = [
        Self::PerClient,
        Self::PerNetwork,
        Self::InAll,
        Self::PassedPerClient,
        Self::PassedPerNetwork,
        Self::PassedInAll,
        Self::Exhausted,
        Self::Handshakes,
    ];

    /// The name used in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerClient => "connections_per_client",
            Self::PerNetwork => "connections_per_network",
            Self::InAll => "connections",
            Self::PassedPerClient => "passed_per_client",
            Self::PassedPerNetwork => "passed_per_network",
            Self::PassedInAll => "passed",
            Self::Exhausted => "exhausted",
            Self::Handshakes => "handshakes",
        }
    }

    /// A sentence for the operator: what it is.
    pub fn help(self) -> &'static str {
        match self {
            Self::PerClient => {
                "the client's network holds limits.connections_per_client connections without an \
                 allocation"
            }
            Self::PerNetwork => {
                "the IPv4 /24 or IPv6 /48 around the client holds limits.connections_per_network \
                 connections without an allocation"
            }
            Self::InAll => "the relay holds limits.connections connections without an allocation",
            Self::PassedPerClient => {
                "as many connections of the client are passed on as \
                 tls.pass_through.connections_per_client allows"
            }
            Self::PassedPerNetwork => {
                "as many connections of the IPv4 /24 or IPv6 /48 around the client are passed on \
                 as tls.pass_through.connections_per_network allows"
            }
            Self::PassedInAll => {
                "as many connections are passed on as tls.pass_through.connections allows"
            }
            Self::Exhausted => {
                "the system gave no descriptor or memory for a connection, which waits and is \
                 taken when there is room"
            }
            Self::Handshakes => {
                "more TLS handshakes from one address or its network than \
                 limits.handshakes_per_s allows"
            }
        }
    }

    /// A sentence for the operator: what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::PerClient => {
                "raise it if many users are behind one NAT; otherwise look for who opens \
                 connections and does not use them"
            }
            Self::PerNetwork => {
                "look for who opens connections there and does not use them; raise it if many \
                 users are in that network"
            }
            Self::InAll => "look for a flood of connections; if there is none, raise the limit",
            Self::PassedPerClient | Self::PassedPerNetwork => {
                "raise it if many visitors of the other server are behind one NAT; otherwise look \
                 for who opens connections and does not use them"
            }
            Self::PassedInAll => {
                "raise it if the other server has so many visitors; otherwise look for a flood of \
                 connections"
            }
            Self::Exhausted => "raise the limit of descriptors (LimitNOFILE)",
            Self::Handshakes => {
                "raise it if many users are behind one NAT; otherwise it is a flood, and nothing \
                 is to do"
            }
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closed it.
    ByClient,
    /// The network or the client broke it.
    Reset,
    /// What arrived is no TURN: no end of a frame can be found any more.
    Garbled,
    /// A frame of the Microsoft dialect of a type that there is not.
    FrameType,
    /// A frame longer than allowed.
    FrameTooLong,
    /// A frame was begun and not finished in time.
    HalfFrame,
    /// No allocation in time, or none any more.
    Idle,
    /// An answer found no room: the client does not read.
    QueueFull,
    /// The TLS handshake was not finished in time, or nothing was said at a shared port.
    HandshakeTimeout,
    /// The client's TLS is not ours.
    Tls,
    /// A balancer did not say whom it brings.
    ProxyHeader,
    /// TURN on a connection that was opened for NAT discovery.
    NotForTurn,
    /// It is for another server, to which it was passed on.
    PassedOn,
    /// The client opened another connection from the same address and port.
    Replaced,
    /// The server asked for it.
    Told,
    /// The relay ended, or its worker began anew.
    ShutDown,
}

impl Ending {
    /// Every ending, in order of its index.
    pub const ALL: [Self; 16] = [
        Self::ByClient,
        Self::Reset,
        Self::Garbled,
        Self::FrameType,
        Self::FrameTooLong,
        Self::HalfFrame,
        Self::Idle,
        Self::QueueFull,
        Self::HandshakeTimeout,
        Self::Tls,
        Self::ProxyHeader,
        Self::NotForTurn,
        Self::PassedOn,
        Self::Replaced,
        Self::Told,
        Self::ShutDown,
    ];

    /// The name used in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::ByClient => "by_client",
            Self::Reset => "reset",
            Self::Garbled => "garbled",
            Self::FrameType => "frame_type",
            Self::FrameTooLong => "frame_too_long",
            Self::HalfFrame => "half_frame",
            Self::Idle => "idle",
            Self::QueueFull => "queue_full",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Tls => "tls",
            Self::ProxyHeader => "proxy_header",
            Self::NotForTurn => "not_for_turn",
            Self::PassedOn => "passed_on",
            Self::Replaced => "replaced",
            Self::Told => "told",
            Self::ShutDown => "shut_down",
        }
    }

    /// A sentence for the operator: what it is.
    pub fn help(self) -> &'static str {
        match self {
            Self::ByClient => "the client closed the connection; its allocation was released",
            Self::Reset => "the connection broke, or the client reset it",
            Self::Garbled => {
                "bytes that start neither STUN nor ChannelData nor, behind features.microsoft, a \
                 frame of that dialect"
            }
            Self::FrameType => {
                "a client of the Microsoft dialect sent a frame that is neither a message nor data"
            }
            Self::FrameTooLong => "a frame longer than a connection without an allocation may send",
            Self::HalfFrame => "a frame was begun and not finished in time",
            Self::Idle => "no allocation within the time a stranger has, or none for so long",
            Self::QueueFull => {
                "an answer could not be queued: the client does not read what it asked for"
            }
            Self::HandshakeTimeout => {
                "no complete TLS handshake in ten seconds, or not a word at a shared port"
            }
            Self::Tls => {
                "the TLS handshake failed: a client that trusts another authority, speaks TLS 1.1 \
                 or older, or no TLS at all; or a record was broken"
            }
            Self::ProxyHeader => {
                "a host of proxy_protocol_from did not begin with a PROXY header, version 2"
            }
            Self::NotForTurn => {
                "TURN on a connection that was opened for NAT discovery (stun.nat-discovery)"
            }
            Self::PassedOn => "TLS for another server; it went to tls.pass_through.to",
            Self::Replaced => "the client came again from the same port before it had closed",
            Self::Told => "the server no longer needs the connection",
            Self::ShutDown => "the relay ended, or its worker began anew after a defect",
        }
    }

    /// A sentence for the operator: what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::ByClient | Self::PassedOn | Self::Replaced | Self::Told => "nothing to do",
            Self::Reset => {
                "nothing to do for a few; if calls end by it, look for a firewall that forgets \
                 connections, and let clients send keepalives"
            }
            Self::Garbled => {
                "see what speaks to this port: something else than TURN, or an old client that \
                 needs compat.rfc5766_channels"
            }
            Self::FrameType => "update the client, or look for what changes bytes on its way",
            Self::FrameTooLong => {
                "nothing to do for strangers; a good client allocates before it sends much"
            }
            Self::HalfFrame => "look at the client's network: what it sends comes in pieces",
            Self::Idle => {
                "nothing to do for strangers; a client that means to wait has to allocate first"
            }
            Self::QueueFull => "look at the client, or at its network: it does not take answers",
            Self::HandshakeTimeout => {
                "nothing to do for scans; for a good client look at its network, or let it say \
                 what it wants at once"
            }
            Self::Tls => {
                "try `av-edge probe turns:HOST`; see whether the certificate names that host, is in \
                 time and comes with its chain, and whether the client trusts its authority"
            }
            Self::ProxyHeader => {
                "let that balancer send PROXY headers of version 2, or take it out of \
                 proxy_protocol_from"
            }
            Self::NotForTurn => "update the client: ALPN stun.turn is for TURN",
            Self::ShutDown => "see the log if it was not meant: a defect is told there",
        }
    }
}

/// Counters of one worker's streams; monotonic but for the gauge at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamTally {
    /// Connections taken.
    pub(crate) accepted: u64,
    /// Connections refused, by [`Refusal`].
    pub(crate) refused: [u64; Refusal::ALL.len()],
    /// Connections ended, by [`Ending`].
    pub(crate) closed: [u64; Ending::ALL.len()],
    /// Reads that brought something.
    pub(crate) reads: u64,
    /// Writes.
    pub(crate) writes: u64,
    /// Bytes read.
    pub(crate) bytes_in: u64,
    /// Bytes written.
    pub(crate) bytes_out: u64,
    /// Frames dropped because their reader was slow.
    pub(crate) dropped_frames: u64,
    /// Their bytes.
    pub(crate) dropped_bytes: u64,
    /// Connections passed on that ended because nothing moved.
    pub(crate) passed_idle: u64,
    /// Records of pseudo-TLS answered.
    pub(crate) pseudo_tls: u64,
    /// TLS handshakes done.
    pub(crate) handshakes: u64,
    /// Gauge: 1 while nobody is taken because descriptors or memory ran out.
    pub(crate) paused: u64,
    /// Gauge: connections that are passed on.
    pub(crate) passing: u64,
    /// Gauge: connections open, by transport.
    pub(crate) open: [u64; TRANSPORTS.len()],
}

/// Transports of streams, in order of their place in [`StreamTally::open`].
pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Tls];
