//! Refusals and drops: what the client hears, what the operator reads.
//!
//! A [`Reject`] answers a request with an error code; one function of the server turns it into
//! bytes. A [`DropReason`] is silence, as the RFC demands for everything that is not a request.
//! Both are counted under [`Why::name`] / [`DropReason::name`]; `help` says what it is, `advice`
//! what to do.

use std::net::SocketAddr;

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
    /// The peer it is about, if it is about one; for the operator.
    pub peer: Option<SocketAddr>,
}

impl Reject {
    /// 420 with the types of what the client demands.
    pub fn unknown(unknown: Vec<u16>) -> Self {
        Self { why: Why::UnknownAttribute, unknown, peer: None }
    }

    /// A refusal that is about a peer.
    pub fn about(why: Why, peer: SocketAddr) -> Self {
        Self { peer: Some(peer), ..why.into() }
    }
}

impl From<Why> for Reject {
    fn from(why: Why) -> Self {
        Self { why, unknown: Vec::new(), peer: None }
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident $name:literal $([$code:literal])? $help:literal $advice:literal;)* }) => {
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

            /// A sentence for the operator: what it is.
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }

            /// A sentence for the operator: what to do.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
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
        NoIntegrity "no_integrity" [401] "request without credentials; every client's first request is refused so and learns realm and nonce"
            "nothing to do if it asks again with credentials; if it only ever asks like this, it has none, or our answers do not reach it";
        UnknownUser "unknown_user" [401] "user name in no form this relay accepts, or minted with a key it does not hold"
            "compare the pool key fingerprints of relay and minting service (`av-edge key show`), and look at the name with `av-edge credential inspect`";
        WrongPassword "wrong_password" [401] "the integrity check failed: wrong password, or a pool key that differs from the minting service's"
            "try name and password with `av-edge credential inspect --key`; if it says they fit, the relay has another key";
        WrongRealm "wrong_realm" [401] "the client signed for another realm; it uses a stale challenge or another pool's"
            "give all relays behind one name the same `realm`, and let the client take the realm from the last 401";
        Expired "expired_credential" [401] "the credential's time is over"
            "let the client fetch a new one before each call; if it was new, set the clocks of relay and minting service (NTP)";
        BadToken "bad_access_token" [401] "no access token of ours: broken, sealed with another key than the one it names, or for another auth.server_name"
            "compare auth.server_name and the token keys with what the authorization server seals for";
        TooFarAhead "expiry_too_far_ahead" [401] "the credential claims to live longer than auth.max_lifetime_s allows"
            "check the minting service's clock, then its lifetime; raise auth.max_lifetime_s only if such lifetimes are meant";
        IncompleteCredentials "incomplete_credentials" [400] "message integrity without user name, realm or nonce"
            "update the client, it is broken; a proxy that rewrites STUN would do this too";
        MissingUsername "missing_username" [400] "a signed request of MS-TURN without user name: a broken client"
            "update the client";
        MissingRealm "missing_realm" [400] "a signed Allocate of MS-TURN without realm: a broken client"
            "update the client";
        MissingNonce "missing_nonce" [400] "a signed Allocate of MS-TURN without nonce: a broken client"
            "update the client";
        AlgorithmNegotiation "algorithm_negotiation" [400] "PASSWORD-ALGORITHMS does not repeat what was offered, or PASSWORD-ALGORITHM is not in it: a broken client, or somebody on the path weakens the negotiation"
            "update the client; if others of its kind succeed, look for who changes messages on the way, and use turns:";
        StaleNonce "stale_nonce" [438] "the nonce expired or belongs to another client address; clients retry by themselves"
            "nothing to do for a single one; a loop means a NAT that changes ports: use TCP or TLS for that client, or lengthen the NAT's UDP timeout";
        BadAttribute "bad_attribute" [400] "an attribute has an impossible length or value, or a required one is missing"
            "update the client, or report it to its makers: the request breaks the RFC";
        UnknownAttribute "unknown_attribute" [420] "the client demands an extension this relay does not speak"
            "switch that extension off in the client";
        NoAllocation "no_allocation" [437] "request for an allocation that does not exist: it expired, or the client's address changed"
            "let the client allocate anew; if it happens during calls, refresh earlier, and look for a NAT that changes ports";
        AllocationExists "allocation_exists" [437] "the five-tuple has an allocation already"
            "let the client allocate from another port, or release first";
        OtherUser "other_user" [441] "the allocation belongs to another user name; renewed credentials need a new allocation"
            "let the client allocate anew when it takes new credentials";
        UnsupportedTransport "unsupported_transport" [442] "the client wants a relay for a transport other than UDP"
            "let it ask for UDP; relays for TCP (RFC 6062) are asked for over TCP or TLS and need features.tcp_relays";
        UnsupportedFamily "unsupported_family" [440] "no relay address of this family is configured"
            "add an address of that family to relay.addresses, or let the client ask for the other one";
        FamilyConflict "family_conflict" [400] "attributes that exclude each other (reservation token, even port, address family)"
            "update the client, or report it to its makers";
        ReservationUnknown "reservation_unknown" [508] "the reservation token is unknown, used, expired or somebody else's"
            "let the client use the token within half a minute, once, at the relay that gave it";
        OutOfPorts "out_of_ports" [508] "no free relayed port"
            "widen relay.ports, or add a relay address";
        OutOfDescriptors "out_of_descriptors" [508] "the process may open no more sockets"
            "raise its limit (LimitNOFILE)";
        OutOfMemory "out_of_memory" [508] "the process holds more memory than limits.memory_mib; calls go on, new ones are refused until there is less"
            "raise limits.memory_mib, or add a relay";
        UserQuota "user_quota" [486] "the user holds as many allocations as limits.allocations_per_user allows, ports kept for EVEN-PORT among them"
            "raise it, or look for a client that does not release its allocations";
        ClientQuota "client_quota" [486] "the client address holds as many allocations as limits.allocations_per_client allows, ports kept for EVEN-PORT among them"
            "raise it if many users are behind one NAT; otherwise look for a client that does not release";
        TotalQuota "total_quota" [508] "the relay holds as many allocations as limits.allocations allows"
            "add a relay, or raise it if the host has room";
        RedirectedAnycast "redirected_anycast" [300] "the client came to an anycast listener, which sends everybody to redirect.alternates"
            "nothing to do: this is what the listener is for; a client that goes nowhere then cannot reach the alternates";
        RedirectedDraining "redirected_draining" [300] "the relay is shutting down, the client was sent to redirect.alternates"
            "nothing to do, if the alternates have room";
        RedirectedFull "redirected_full" [300] "the relay holds as many allocations as limits.allocations allows, the client was sent to redirect.alternates"
            "add a relay if this lasts";
        Draining "draining" [403] "the relay is shutting down and takes no new allocation"
            "send clients to another relay; redirect.alternates would do so by itself";
        TunnelledClient "tunnelled_client" [403] "the client's own address is of Teredo or 6to4, which RFC 8656 keeps out of relays"
            "let the client come over native IPv4 or IPv6";
        WrongSide "wrong_side" [403] "the credential is for the other side of the edge"
            "mint it for the side that the client is on (`--side`), or send the client to the listeners of its side";
        PeerDenied "peer_denied" [403] "the peer policy forbids this address"
            "ask `av-edge check --peer` which rule it is; if the peer must be reachable, name its range in peers.allow";
        PeerPort "peer_port" [403] "peers.deny_ports or peers.allow_ports closes this port of peers"
            "open the port there, if media is expected on it";
        PeerSealed "peer_sealed" [403] "the credential itself is good for other peers or ports only"
            "see for which with `av-edge credential inspect`, and mint it for this peer too if that is meant";
        PeerFamily "peer_family" [443] "the peer's address family is not the allocation's"
            "let the client ask for a relay of that family (REQUESTED-ADDRESS-FAMILY), which needs an address of it in relay.addresses";
        TooManyPermissions "too_many_permissions" [508] "the allocation has limits.permissions permissions"
            "raise limits.permissions if conferences are as large as that";
        TooManyChannels "too_many_channels" [508] "the allocation has limits.channels channels"
            "raise limits.channels if conferences are as large as that";
        TooManyNewPeers "too_many_new_peers" [403] "the allocation has turned to limits.new_peers_per_minute new peers within a minute: somebody scans a network through the relay, or a conference is larger than expected"
            "look at the peers of the allocation; raise limits.new_peers_per_minute only for real conferences";
        UserNewPeers "user_new_peers" [403] "the allocations of the user have turned to limits.new_peers_per_minute_per_user new peers within a minute, those that ended included: somebody scans a network through the relay, or many people share one name"
            "look at the peers of the user's allocations; raise the limit if many people use one name";
        ClientNewPeers "client_new_peers" [403] "allocations of the client address have turned to limits.new_peers_per_minute_per_client new peers within a minute, those that ended included: somebody scans a network through the relay, or many users are behind one NAT"
            "look at the peers of allocations from there; raise the limit if many users are behind one NAT";
        ChannelNumber "channel_number" [400] "channel number outside 0x4000-0x4FFF"
            "set compat.rfc5766_channels = true for old clients, or update them";
        ChannelConflict "channel_conflict" [400] "the channel number or the peer is bound otherwise already"
            "update the client: it must keep one number for one peer as long as the channel lives";
        MobilityForbidden "mobility_forbidden" [405] "the client asks for a mobility ticket, which features.mobility forbids"
            "allow features.mobility if clients shall keep their allocation when their address changes";
        BadTicket "bad_ticket" [400] "a mobility ticket that no key of this relay sealed: forged, damaged, of another pool, or of a key that is no longer among pool.previous"
            "keep the last key among pool.previous as long as allocations may live";
        SpentTicket "spent_ticket" [400] "the mobility ticket was used for a move already; only the newest one moves the allocation"
            "update the client: each Refresh brings a new ticket that replaces the one before";
        TooManyMoved "too_many_moved" [508] "a client moved to an address whose datagrams another worker receives, and as many have done so as can be served there; it keeps its allocation at the old address"
            "let it try from another port, or over TCP or TLS";
        NotMoved "not_moved" [400] "a mobility ticket from the very address that the allocation is at"
            "update the client: it need not send the ticket before its address changes";
        UdpForbidden "udp_forbidden" [403] "features.udp_relays forbids relays for UDP"
            "allow features.udp_relays, or let the client ask for TCP";
        StreamNeeded "stream_needed" [400] "a relay for TCP, or one of its connections, is asked for over UDP or DTLS: RFC 6062 wants TCP or TLS"
            "let the client come by TCP or TLS";
        UdpAttribute "udp_attribute" [400] "an Allocate for a TCP relay with an attribute that means something for UDP alone: EVEN-PORT, RESERVATION-TOKEN or DONT-FRAGMENT"
            "update the client, or report it to its makers";
        UdpRelay "udp_relay" [403] "Connect for an allocation that relays UDP"
            "let the client allocate a relay for TCP first";
        TcpRelay "tcp_relay" [403] "ChannelBind for an allocation that relays TCP"
            "let the client use Connect, or allocate a relay for UDP";
        ConnectionExists "connection_exists" [446] "the client has asked for a connection to this peer already"
            "let the client use the connection that it has";
        PeerUnreachable "peer_unreachable" [447] "the peer refused the connection, or did not answer for half a minute"
            "see whether the peer listens, and whether a firewall lets the relay reach it";
        TooManyConnections "too_many_connections" [508] "the allocation has limits.peer_connections connections to peers, or limits.peer_connections_waiting of them wait"
            "raise the limit, or let the client close connections it no longer needs";
        UserConnections "user_connections" [486] "the user has as many connections to peers as limits.peer_connections_per_user allows"
            "raise it, or let the client close connections it no longer needs";
        ClientConnections "client_connections" [486] "the client address has as many connections to peers as limits.peer_connections_per_client allows"
            "raise it if many users are behind one NAT; otherwise look for a client that does not close what it no longer needs";
        TotalConnections "total_connections" [508] "the relay has as many connections to peers as limits.peer_connections_total allows"
            "add a relay, or raise it if the process may open more descriptors (LimitNOFILE)";
        UnknownConnection "unknown_connection" [400] "ConnectionBind for a connection that never was, is over, or was claimed before; the client has half a minute to claim one"
            "let the client claim a connection as soon as it hears of it, and once";
        ControlConnection "control_connection" [400] "ConnectionBind over a connection that has an allocation: it needs one of its own"
            "let the client open another connection for it";
        ClassicDtls "rfc3489_over_dtls" [500] "a Binding request without magic cookie over DTLS, which RFC 3489 never knew: a broken client"
            "update the client";
        ServerError "server_error" [500] "the operating system refused the relayed socket for another reason"
            "see the relay's log, which says what the system answered";
    }
}

reasons! {
    /// Why a packet was dropped in silence.
    DropReason {
        MalformedMs "malformed_ms" "a message of MS-TURN whose header or attributes are broken"
            "nothing to do for a few; many from one client say that it, or a device on its way, is broken";
        UnsignedMs "unsigned_ms" "a Send of MS-TURN with the wrong user name, realm or integrity: a broken client, or somebody on the path changes messages"
            "update the client; if others of its kind work, look for who changes messages on the way, and use TLS";
        Replayed "replayed" "a Send or Set Active Destination of MS-TURN whose sequence number was used before or is too old"
            "nothing to do for a few: the network duplicates; many say that somebody replays: look at where they come from";
        Multiplexed "multiplexed" "a datagram of a multiplexed MS-TURN session, which this relay never offers"
            "update the client, or switch multiplexing off in it";
        NoDestination "no_destination" "bare payload of an MS-TURN client that has set no active destination"
            "nothing to do for a few; a client that goes on so has lost its allocation or is broken";
        TooManyPermissions "too_many_permissions" "a Send of MS-TURN to one more peer than limits.permissions allows"
            "raise limits.permissions if conferences are as large as that";
        TooManyNewPeers "too_many_new_peers" "a Send to one more new peer than limits.new_peers_per_minute allows"
            "look at the peers of the allocation: somebody scans ports or a network through the relay; raise the limit only for real conferences";
        UserNewPeers "user_new_peers" "a Send to one more new peer than limits.new_peers_per_minute_per_user allows the user's allocations together"
            "look at the peers of the user's allocations: somebody scans ports or a network through the relay; raise the limit if many people use one name";
        ClientNewPeers "client_new_peers" "a Send to one more new peer than limits.new_peers_per_minute_per_client allows a client address"
            "look at the peers of allocations from there: somebody scans ports or a network through the relay; raise the limit if many users are behind one NAT";
        TcpRelay "tcp_relay" "a Send indication for an allocation that relays TCP"
            "update the client: payload of TCP relays goes through connections";
        TooManyConnections "too_many_connections" "a peer's TCP connection to an allocation that has limits.peer_connections of them, or limits.peer_connections_waiting that wait for the client"
            "raise the limit, or see why the client does not claim the connections that wait";
        UserConnections "user_connections" "a TCP connection to or from a peer of a user who has limits.peer_connections_per_user of them"
            "raise it, or let the client close connections it no longer needs";
        ClientConnections "client_connections" "a TCP connection to or from a peer of a client address that has limits.peer_connections_per_client of them"
            "raise it if many users are behind one NAT; otherwise look for a client that does not close what it no longer needs";
        TotalConnections "total_connections" "a TCP connection to or from a peer while the relay has limits.peer_connections_total of them"
            "add a relay, or raise it if the process may open more descriptors (LimitNOFILE)";
        Unrecognised "unrecognised" "not STUN and not ChannelData by its first byte"
            "nothing to do: scans and stray media look like this; from a good client it is media sent without channel or indication";
        MalformedStun "malformed_stun" "header or attributes of the message are broken"
            "nothing to do for a few; many from one client say that it, or a device on its way, is broken";
        ClassicStun "rfc3489" "a Binding request of RFC 3489, without magic cookie"
            "set compat.rfc3489 = true to answer those over UDP, if such clients are yours";
        BadFingerprint "bad_fingerprint" "the FINGERPRINT is wrong: corrupted, or not STUN at all"
            "look for a device on the client's way that rewrites addresses inside of packets (an ALG), and switch that off";
        MalformedChannelData "malformed_channel_data" "the datagram is shorter than its length field says"
            "look at the client's path for what cuts datagrams, its MTU first; otherwise update the client";
        UnexpectedMessage "unexpected_message" "a method or class a server does not take: stray responses, unknown methods"
            "nothing to do for a few; a client that goes on so takes the relay for a peer: check its list of ICE servers";
        BadIndication "bad_indication" "an indication with an unknown required attribute, or without peer or data"
            "update the client, or report it to its makers";
        SpoofedSource "spoofed_source" "a source no client can have: port 0, multicast, or one of our own listeners"
            "filter forged sources where the network begins (BCP 38)";
        AwaitingSocket "awaiting_socket" "a retransmission while the relayed socket is being opened"
            "nothing to do: the answer is on its way";
        NoAllocation "no_allocation" "payload from a five-tuple without an allocation"
            "nothing to do for a few after the end of a call; during a call it is a NAT that changed the client's port, or an allocation that was not refreshed";
        NoChannel "no_channel" "ChannelData on a number that is not bound"
            "let the client bind channels anew at least every ten minutes, and wait for the answer before it uses one";
        NoPermission "no_permission" "no live permission for the peer"
            "let the client install a permission for every candidate of the peer and renew it within five minutes; packets of unknown peers are scans";
        PeerDenied "peer_denied" "the peer policy forbids the destination"
            "ask `av-edge check --peer` which rule it is; if the peer must be reachable, name its range in peers.allow";
        PeerFamily "peer_family" "the peer's address family is not the allocation's"
            "let the client ask for a relay of that family, which needs an address of it in relay.addresses";
        DontFragment "dont_fragment" "the client demands DONT-FRAGMENT toward an IPv6 peer, which cannot be promised"
            "let the client leave DONT-FRAGMENT away for IPv6 peers";
        IrrelevantIcmp "irrelevant_icmp" "an ICMP message of a type that says nothing about delivery"
            "nothing to do";
        ThrottledIcmp "throttled_icmp" "more ICMP messages about one allocation's datagrams than its client is told of"
            "nothing to do if the peer is gone while the client goes on sending; otherwise somebody forges them";
        HopLimit "hop_limit" "the datagram had no hop left"
            "look for relays that send to each other in a circle, or a sender that limits how far it reaches";
        Oversize "oversize" "the wrapped datagram would exceed what UDP carries"
            "let the peer send smaller datagrams";
        Throttled "throttled" "more unauthenticated requests from one source than are answered"
            "look whether many clients are behind one NAT, then raise limits.strangers_per_s; otherwise somebody forges the source, and nothing is to do: clients ask again, and are answered before a flood is";
        Disproportionate "disproportionate" "an error that weighs more than 2.67 times the request, whose source may be forged"
            "nothing to do: it is for requests shorter than clients send, where the realm is long";
        Guessing "guessing" "a login where too many passwords were wrong: for this name, or for many names, from this source or its network; or one wrong password more than is answered. Who asked little so far, and who has an allocation, is heard as before"
            "look for a client that goes on with an old password; otherwise somebody guesses, and a firewall may block the source";
        AllocationBandwidth "allocation_bandwidth" "an allocation carries more than limits.kbit_per_s_per_allocation in one direction"
            "raise it, or let clients send less";
        AllocationPackets "allocation_packets" "an allocation carries more datagrams than limits.packets_per_s_per_allocation in one direction"
            "raise it, or let clients send fewer";
        UserBandwidth "user_bandwidth" "the allocations of a user carry more than limits.kbit_per_s_per_user in one direction"
            "raise it, or let clients send less";
        UserPackets "user_packets" "the allocations of a user carry more datagrams than limits.packets_per_s_per_user in one direction"
            "raise it, or let clients send fewer";
        ClientBandwidth "client_bandwidth" "the allocations of a client address carry more than limits.kbit_per_s_per_client in one direction"
            "raise it if many users are behind one NAT";
        ClientPackets "client_packets" "the allocations of a client address carry more datagrams than limits.packets_per_s_per_client in one direction"
            "raise it if many users are behind one NAT";
        WorkerBandwidth "worker_bandwidth" "the allocations of a worker carry more than limits.kbit_per_s_per_worker in one direction"
            "add workers or a relay, or raise it";
        WorkerPackets "worker_packets" "the allocations of a worker carry more datagrams than limits.packets_per_s_per_worker in one direction"
            "add workers or a relay, or raise it";
        RelayBandwidth "relay_bandwidth" "all allocations together carry more than limits.kbit_per_s in one direction"
            "add a relay, or raise it";
        RelayPackets "relay_packets" "all allocations together carry more datagrams than limits.packets_per_s in one direction"
            "add a relay, or raise it";
        StaleRelay "stale_relay" "a packet for a relayed address that was just released"
            "nothing to do: the peer has not heard yet that the call is over";
        ClientAway "client_away" "payload for a client whose connection ended and who may come back with its mobility ticket"
            "nothing to do if the client comes back; otherwise the allocation ends when it expires";
        WorkerBusy "worker_busy" "a client that belongs to another worker could not be handed over, because that worker's inbox is full"
            "add workers or a relay if this goes on: one worker is saturated";
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

    /// Whether only packets of an allocation are dropped for it; others are sent by strangers too.
    pub fn befalls_allocations_alone(self) -> bool {
        match self {
            Self::UnsignedMs
            | Self::Replayed
            | Self::TooManyPermissions
            | Self::TooManyNewPeers
            | Self::UserNewPeers
            | Self::ClientNewPeers
            | Self::TcpRelay
            | Self::TooManyConnections
            | Self::UserConnections
            | Self::ClientConnections
            | Self::TotalConnections
            | Self::NoChannel
            | Self::NoPermission
            | Self::PeerDenied
            | Self::PeerFamily
            | Self::DontFragment
            | Self::IrrelevantIcmp
            | Self::ThrottledIcmp
            | Self::Oversize
            | Self::AllocationBandwidth
            | Self::AllocationPackets
            | Self::UserBandwidth
            | Self::UserPackets
            | Self::ClientBandwidth
            | Self::ClientPackets
            | Self::WorkerBandwidth
            | Self::WorkerPackets
            | Self::RelayBandwidth
            | Self::RelayPackets
            | Self::StaleRelay
            | Self::ClientAway => true,
            Self::MalformedMs
            | Self::Multiplexed
            | Self::NoDestination
            | Self::Unrecognised
            | Self::MalformedStun
            | Self::ClassicStun
            | Self::BadFingerprint
            | Self::MalformedChannelData
            | Self::UnexpectedMessage
            | Self::BadIndication
            | Self::SpoofedSource
            | Self::AwaitingSocket
            | Self::NoAllocation
            | Self::HopLimit
            | Self::Throttled
            | Self::Disproportionate
            | Self::Guessing
            | Self::WorkerBusy => false,
        }
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
