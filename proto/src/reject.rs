//! Refusals and drops: what the client hears, what the operator reads.
//!
//! A [`Reject`] answers a request with an error code; one function of the server turns it into
//! bytes. A [`DropReason`] is silence, as the RFC demands for everything that is not a request.
//! Both are counted under [`Why::name`] / [`DropReason::name`], `help` says what to do.

/// A STUN/TURN error code (RFC 8489 §14.8, RFC 8656 §19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub u16);

/// A refusal: the code for the client is `why.code()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The reason, which fixes the code.
    pub why: Why,
    /// Types for UNKNOWN-ATTRIBUTES; empty unless the code is 420.
    pub unknown: Vec<u16>,
}

impl From<Why> for Reject {
    fn from(why: Why) -> Self {
        Self { why, unknown: Vec::new() }
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident $name:literal $([$code:literal])? $help:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(clippy::doc_markdown, reason = "the texts are shown to operators as they are")]
        pub enum $enum {
            $(#[doc = $help] $variant,)*
        }

        impl $enum {
            /// Every variant, in order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// How many variants there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Stable name: the label of the metric.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// A sentence for the operator, with what to do.
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }

            /// Position in an array of [`Self::COUNT`] counters.
            pub fn index(self) -> usize {
                self as usize
            }

            reasons!(@code $($variant $($code)?;)*);
        }
    };
    (@code $($variant:ident $code:literal;)+) => {
        /// The error code the client hears.
        pub fn code(self) -> ErrorCode {
            match self { $(Self::$variant => ErrorCode($code),)* }
        }
    };
    (@code $($variant:ident;)+) => {};
}

reasons! {
    /// Why a request was refused.
    Why {
        NoIntegrity "no_integrity" [401] "request without credentials; every client's first request is refused so and learns realm and nonce";
        UnknownUser "unknown_user" [401] "user name in no form this relay accepts, or minted with a key it does not hold; compare the pool key fingerprints";
        WrongPassword "wrong_password" [401] "the integrity check failed: wrong password, or a pool key that differs from the minting service's";
        WrongRealm "wrong_realm" [401] "the client signed for another realm; it uses a stale challenge or another pool's";
        Expired "expired_credential" [401] "the credential's time is over; mint a new one, and check both hosts' clocks";
        BadToken "bad_access_token" [401] "no access token of ours: broken, sealed with another key than the one it names, or for another auth.server_name";
        TooFarAhead "expiry_too_far_ahead" [401] "the credential claims to live longer than auth.max_lifetime_s allows; check the minting service's clock and settings";
        IncompleteCredentials "incomplete_credentials" [400] "message integrity without user name, realm or nonce";
        MissingUsername "missing_username" [400] "a signed request of MS-TURN without user name: a broken client";
        MissingRealm "missing_realm" [400] "a signed Allocate of MS-TURN without realm: a broken client";
        MissingNonce "missing_nonce" [400] "a signed Allocate of MS-TURN without nonce: a broken client";
        AlgorithmNegotiation "algorithm_negotiation" [400] "PASSWORD-ALGORITHMS does not repeat what was offered, or PASSWORD-ALGORITHM is not in it: a broken client, or somebody on the path weakens the negotiation";
        StaleNonce "stale_nonce" [438] "the nonce expired or belongs to another client address; clients retry by themselves, a loop means a NAT that changes ports";
        BadAttribute "bad_attribute" [400] "an attribute has an impossible length or value, or a required one is missing";
        UnknownAttribute "unknown_attribute" [420] "the client demands an extension this relay does not speak";
        NoAllocation "no_allocation" [437] "request for an allocation that does not exist: it expired, or the client's address changed";
        AllocationExists "allocation_exists" [437] "the five-tuple has an allocation already";
        OtherUser "other_user" [441] "the allocation belongs to another user name; renewed credentials need a new allocation";
        UnsupportedTransport "unsupported_transport" [442] "the client wants a relay for a transport other than UDP";
        UnsupportedFamily "unsupported_family" [440] "no relay address of this family is configured";
        FamilyConflict "family_conflict" [400] "attributes that exclude each other (reservation token, even port, address family)";
        ReservationUnknown "reservation_unknown" [508] "the reservation token is unknown, used, expired or somebody else's";
        OutOfPorts "out_of_ports" [508] "no free relayed port; widen relay.ports or add a relay address";
        OutOfDescriptors "out_of_descriptors" [508] "the process may open no more sockets; raise its limit (LimitNOFILE)";
        OutOfMemory "out_of_memory" [508] "the process holds more memory than limits.memory_mib; calls go on, new ones are refused until there is less: raise it, or add a relay";
        UserQuota "user_quota" [486] "the user holds as many allocations as limits.allocations_per_user allows; raise it, or look for a client that does not release";
        ClientQuota "client_quota" [486] "the client address holds as many allocations as limits.allocations_per_client allows; many users behind one NAT need more";
        TotalQuota "total_quota" [508] "the relay holds as many allocations as limits.allocations allows; add a relay";
        RedirectedAnycast "redirected_anycast" [300] "the client came to an anycast listener, which sends everybody to redirect.alternates";
        RedirectedDraining "redirected_draining" [300] "the relay is shutting down, the client was sent to redirect.alternates";
        RedirectedFull "redirected_full" [300] "the relay holds as many allocations as limits.allocations allows, the client was sent to redirect.alternates; if this lasts, add a relay";
        Draining "draining" [403] "the relay is shutting down and takes no new allocation";
        TunnelledClient "tunnelled_client" [403] "the client's own address is of Teredo or 6to4, which RFC 8656 keeps out of relays";
        WrongSide "wrong_side" [403] "the credential is for the other side of the edge";
        PeerDenied "peer_denied" [403] "the peer policy forbids this address; if it must be reachable, name its range in peers.allow; `av-edge check --peer` says which rule it is";
        PeerPort "peer_port" [403] "peers.deny_ports or peers.allow_ports closes this port of peers";
        PeerSealed "peer_sealed" [403] "the credential itself is good for other peers or ports only; `av-edge credential inspect` says for which";
        PeerFamily "peer_family" [443] "the peer's address family is not the allocation's";
        TooManyPermissions "too_many_permissions" [508] "the allocation has limits.permissions permissions";
        TooManyChannels "too_many_channels" [508] "the allocation has limits.channels channels";
        TooManyNewPeers "too_many_new_peers" [403] "the allocation has turned to limits.new_peers_per_minute new peers within a minute: somebody scans a network through the relay, or a conference is larger than expected";
        ChannelNumber "channel_number" [400] "channel number outside 0x4000-0x4FFF; old clients may need compat.rfc5766_channels";
        ChannelConflict "channel_conflict" [400] "the channel number or the peer is bound otherwise already";
        MobilityForbidden "mobility_forbidden" [405] "the client asks for a mobility ticket, which features.mobility forbids";
        BadTicket "bad_ticket" [400] "a mobility ticket that no key of this relay sealed: forged, damaged, of another pool, or of a key that is no longer among pool.previous";
        SpentTicket "spent_ticket" [400] "the mobility ticket was used for a move already; only the newest one moves the allocation";
        TooManyMoved "too_many_moved" [508] "a client moved to an address whose datagrams another worker receives, and as many have done so as can be served there; it keeps its allocation at the old address, and another port may do";
        NotMoved "not_moved" [400] "a mobility ticket from the very address that the allocation is at";
        UdpForbidden "udp_forbidden" [403] "features.udp_relays forbids relays for UDP";
        StreamNeeded "stream_needed" [400] "a relay for TCP, or one of its connections, is asked for over UDP or DTLS: RFC 6062 wants TCP or TLS";
        UdpAttribute "udp_attribute" [400] "an Allocate for a TCP relay with an attribute that means something for UDP alone: EVEN-PORT, RESERVATION-TOKEN or DONT-FRAGMENT";
        UdpRelay "udp_relay" [403] "Connect for an allocation that relays UDP";
        TcpRelay "tcp_relay" [403] "ChannelBind for an allocation that relays TCP";
        ConnectionExists "connection_exists" [446] "the client has asked for a connection to this peer already";
        PeerUnreachable "peer_unreachable" [447] "the peer refused the connection, or did not answer for half a minute";
        TooManyConnections "too_many_connections" [508] "the allocation has limits.peer_connections connections to peers, or limits.peer_connections_waiting of them wait";
        UnknownConnection "unknown_connection" [400] "ConnectionBind for a connection that never was, is over, or was claimed before; the client has half a minute to claim one";
        ControlConnection "control_connection" [400] "ConnectionBind over a connection that has an allocation: it needs one of its own";
        ClassicDtls "rfc3489_over_dtls" [500] "a Binding request without magic cookie over DTLS, which RFC 3489 never knew: a broken client";
        ServerError "server_error" [500] "the operating system refused the relayed socket for another reason; see the log";
    }
}

reasons! {
    /// Why a packet was dropped in silence.
    DropReason {
        MalformedMs "malformed_ms" "a message of MS-TURN whose header or attributes are broken";
        UnsignedMs "unsigned_ms" "a Send of MS-TURN with the wrong user name, realm or integrity: a broken client, or somebody on the path changes messages";
        Replayed "replayed" "a Send or Set Active Destination of MS-TURN whose sequence number was used before or is too old: duplicates of the network do no harm, many say that somebody replays";
        Multiplexed "multiplexed" "a datagram of a multiplexed MS-TURN session, which this relay never offers";
        NoDestination "no_destination" "bare payload of an MS-TURN client that has set no active destination";
        TooManyPermissions "too_many_permissions" "a Send of MS-TURN to one more peer than limits.permissions allows";
        TooManyNewPeers "too_many_new_peers" "a Send to one more new peer than limits.new_peers_per_minute allows: somebody scans ports or a network through the relay";
        TcpRelay "tcp_relay" "a Send indication for an allocation that relays TCP";
        TooManyConnections "too_many_connections" "a peer's TCP connection to an allocation that has limits.peer_connections of them, or limits.peer_connections_waiting that wait for the client";
        Unrecognised "unrecognised" "not STUN and not ChannelData by its first byte";
        MalformedStun "malformed_stun" "header or attributes of the message are broken";
        ClassicStun "rfc3489" "a Binding request of RFC 3489, without magic cookie; compat.rfc3489 = true would answer those over UDP";
        BadFingerprint "bad_fingerprint" "the FINGERPRINT is wrong: corrupted, or not STUN at all";
        MalformedChannelData "malformed_channel_data" "the datagram is shorter than its length field says";
        UnexpectedMessage "unexpected_message" "a method or class a server does not take: stray responses, unknown methods";
        BadIndication "bad_indication" "an indication with an unknown required attribute, or without peer or data";
        SpoofedSource "spoofed_source" "a source no client can have: port 0, multicast, or one of our own listeners";
        AwaitingSocket "awaiting_socket" "a retransmission while the relayed socket is being opened";
        NoAllocation "no_allocation" "payload from a five-tuple without an allocation";
        NoChannel "no_channel" "ChannelData on a number that is not bound";
        NoPermission "no_permission" "no live permission for the peer";
        PeerDenied "peer_denied" "the peer policy forbids the destination";
        PeerFamily "peer_family" "the peer's address family is not the allocation's";
        DontFragment "dont_fragment" "the client demands DONT-FRAGMENT toward an IPv6 peer, which cannot be promised";
        IrrelevantIcmp "irrelevant_icmp" "an ICMP message of a type that says nothing about delivery";
        ThrottledIcmp "throttled_icmp" "more ICMP messages about one allocation's datagrams than its client is told of: a peer is gone while the client goes on sending, or somebody forges them";
        HopLimit "hop_limit" "the datagram had no hop left: relays that send to each other in a circle, or a sender that limits how far it reaches";
        Oversize "oversize" "the wrapped datagram would exceed what UDP carries";
        Throttled "throttled" "more unauthenticated requests from one source than are answered: somebody forges the source; many clients behind one NAT need a higher limits.strangers_per_s";
        Guessing "guessing" "a login for a name whose password was wrong too often from this source, or one wrong password more than is answered: somebody guesses, or a client goes on with an old password; others behind the same address log in as before";
        AllocationBandwidth "allocation_bandwidth" "an allocation carries more than limits.kbit_per_s_per_allocation in one direction";
        AllocationPackets "allocation_packets" "an allocation carries more datagrams than limits.packets_per_s_per_allocation in one direction";
        UserBandwidth "user_bandwidth" "the allocations of a user carry more than limits.kbit_per_s_per_user in one direction";
        UserPackets "user_packets" "the allocations of a user carry more datagrams than limits.packets_per_s_per_user in one direction";
        ClientBandwidth "client_bandwidth" "the allocations of a client address carry more than limits.kbit_per_s_per_client in one direction; many users behind one NAT need more";
        ClientPackets "client_packets" "the allocations of a client address carry more datagrams than limits.packets_per_s_per_client in one direction; many users behind one NAT need more";
        WorkerBandwidth "worker_bandwidth" "the allocations of a worker carry more than limits.kbit_per_s_per_worker in one direction";
        WorkerPackets "worker_packets" "the allocations of a worker carry more datagrams than limits.packets_per_s_per_worker in one direction";
        RelayBandwidth "relay_bandwidth" "all allocations together carry more than limits.kbit_per_s in one direction; add a relay, or raise it";
        RelayPackets "relay_packets" "all allocations together carry more datagrams than limits.packets_per_s in one direction; add a relay, or raise it";
        StaleRelay "stale_relay" "a packet for a relayed address that was just released";
        ClientAway "client_away" "payload for a client whose connection ended and who may come back with its mobility ticket";
        WorkerBusy "worker_busy" "a client that belongs to another worker could not be handed over, because that worker's inbox is full";
    }
}

impl Why {
    /// Whether credentials were shown that proved nothing.
    pub fn is_failed_login(self) -> bool {
        self != Self::NoIntegrity && self.code() == ErrorCode(401)
    }
}

impl DropReason {
    /// Whether payload was dropped because nothing permits it, or nobody waits for it.
    pub fn is_for_nobody(self) -> bool {
        matches!(
            self,
            Self::NoAllocation
                | Self::NoChannel
                | Self::NoDestination
                | Self::NoPermission
                | Self::PeerDenied
                | Self::PeerFamily
                | Self::StaleRelay
                | Self::ClientAway
                | Self::TcpRelay
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn alloc_028_every_refusal_uses_a_code_of_the_tables() {
        let known =
            [300, 400, 401, 403, 405, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 500, 508];
        for why in Why::ALL {
            assert!(known.contains(&why.code().0), "{why:?}");
        }
    }

    #[test]
    fn names_are_unique_and_snake_case() {
        let mut seen = HashSet::new();
        for name in Why::ALL.iter().map(|w| w.name()) {
            assert!(seen.insert(name), "{name}");
        }
        seen.clear();
        for name in DropReason::ALL.iter().map(|d| d.name()) {
            assert!(seen.insert(name), "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
            );
        }
    }
}
