//! Counters of streams, and why connections end or are refused.

use proto::addr::Transport;

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client's network holds as many unauthenticated connections as it may.
    PerClient,
    /// All clients together do.
    InAll,
    /// Descriptors or memory of the kernel ran out.
    Exhausted,
    /// The client's address or network began too many handshakes of TLS.
    Handshakes,
}

impl Refusal {
    /// Every refusal, in order of its index.
    pub const ALL: [Self; 4] = [Self::PerClient, Self::InAll, Self::Exhausted, Self::Handshakes];

    /// The name used in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerClient => "connections_per_client",
            Self::InAll => "connections",
            Self::Exhausted => "exhausted",
            Self::Handshakes => "handshakes",
        }
    }

    /// What an operator should know.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::PerClient => {
                "the client's network holds limits.connections_per_client connections without an \
                 allocation; many users behind one NAT need more"
            }
            Self::InAll => {
                "the relay holds limits.connections connections without an allocation: a flood, \
                 or the limit is too low"
            }
            Self::Exhausted => {
                "the system gave no descriptor or memory for a connection; raise LimitNOFILE. \
                 Connections wait meanwhile and are taken when there is room"
            }
            Self::Handshakes => {
                "more TLS handshakes from one address or its network than \
                 limits.handshakes_per_s allows: a flood, or many users behind one NAT"
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

    /// What an operator should know.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::ByClient => "the client closed the connection; its allocation was released",
            Self::Reset => "the connection broke, or the client reset it",
            Self::Garbled => {
                "bytes that start neither STUN nor ChannelData nor, behind features.microsoft, a \
                 frame of that dialect: something else speaks to this port, or an old client \
                 needs compat.rfc5766_channels"
            }
            Self::FrameType => {
                "a client of the Microsoft dialect sent a frame that is neither a message nor \
                 data: a broken client, or something between that changes bytes"
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
