/* What the relay and its kernel program tell each other: the twin of relay/src/sys/kernel.rs.
 *
 * A leg is one direction of a route. It is found by where a datagram comes from, where it arrives and
 * the channel it bears, and says where the payload goes on, in what dress and until when. Addresses,
 * ports and channels are in network order, everything else in the machine's. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u16 be16;
typedef u32 be32;

/* How a leg whose datagrams arrive over IPv4 is found. `channel` is zero where payload stands bare: from
 * peers, and from clients of MS-TURN that have a destination. */
struct key4 {
	be32 remote;
	be32 local;
	be16 remote_port;
	be16 local_port;
	be16 channel;
	be16 zero;
};

/* The same over IPv6. */
struct key6 {
	u8 remote[16];
	u8 local[16];
	be16 remote_port;
	be16 local_port;
	be16 channel;
	be16 zero;
};

/* Between what a leg leads. */
enum course {
	/* From a network to a network. */
	ACROSS,
	/* From a network to another client of this relay: it goes on by the leg that is found by its own
	 * `from` and `to`. Its hop is none. */
	INWARD,
	/* The second half of such a way: it is found so alone, never by what comes from a network. */
	OUTWARD,
};

/* Where payload goes on. Addresses are IPv6 or IPv4-mapped. */
struct leg {
	u8 from[16];
	u8 to[16];
	/* CLOCK_MONOTONIC in nanoseconds: from then on the leg is none. */
	u64 expires;
	/* The interface it leaves by, and the next hop there. */
	u32 ifindex;
	/* Where it is counted: see `counts`. */
	u32 slot;
	u8 from_mac[6];
	u8 to_mac[6];
	be16 from_port;
	be16 to_port;
	/* What the payload is dressed with; zero for nothing. */
	be16 channel;
	/* The largest IP packet that fits. */
	u16 mtu;
	/* What it leaves over: 4 or 6. */
	u8 family;
	/* One of `course`. */
	u8 course;
	/* The VLAN it leaves in; zero for none. */
	be16 vlan;
	/* Whether messages to the relay come the same way, told apart by their first byte alone. */
	u8 mixed;
	/* Whether it does not even go back where it came from but by redirection. */
	u8 redirects;
	u8 zero[2];
	/* The index of its allocation's `limit`; zero for none. */
	u32 limit;
};

/* What may be limited. */
enum unit {
	BYTES,
	DATAGRAMS,
	UNITS,
};

/* How many limits hold for a leg: its allocation's own, and those that the allocation shares with others. */
#define LEVELS 4

/* What may pass in one direction: of the legs of an allocation, or of several allocations together. */
struct limit {
	/* Until when everything that passed is paid for: CLOCK_MONOTONIC in nanoseconds. */
	u64 due[UNITS];
	/* What passes in a second; zero for whatever comes. */
	u64 rate[UNITS];
	/* Of an allocation: the indices of those it shares, from the second on; zero for none. */
	u32 above[LEVELS];
	/* Of an allocation: datagrams that were held back, by its own and those it shares. */
	u32 dropped[LEVELS][UNITS];
};

/* What passed. */
struct count {
	u64 packets;
	u64 bytes;
};

/* The first slots count what belongs to a leg and went up to the relay all the same. */
enum passed {
	/* Its leg has expired. */
	PASSED_EXPIRED,
	/* It may not go further. */
	PASSED_HOPS,
	/* It would not fit the next link. */
	PASSED_SIZE,
	/* Its checksum is not computed yet: it comes from this host or another virtual machine. */
	PASSED_PARTIAL,
	/* ChannelData whose length is not the datagram's. */
	PASSED_LENGTH,
	/* Its IP header is damaged. */
	PASSED_DAMAGED,
	/* The driver leaves no room to move the head. */
	PASSED_ROOM,
	/* It has no checksum, which IPv6 does not allow. */
	PASSED_UNCHECKED,
	/* It is for another client of this relay, who has no leg for it. */
	PASSED_WITHIN,
	/* Several datagrams in one buffer, which the kernel has put together. */
	PASSED_RUN,
	/* The slot of the first leg. */
	FIRST_LEG,
};

#define AT(type, field, offset) _Static_assert(__builtin_offsetof(struct type, field) == (offset), #type "." #field)

_Static_assert(sizeof(struct key4) == 16, "key4");
AT(key4, local, 4);
AT(key4, remote_port, 8);
AT(key4, local_port, 10);
AT(key4, channel, 12);
_Static_assert(sizeof(struct key6) == 40, "key6");
AT(key6, local, 16);
AT(key6, remote_port, 32);
AT(key6, local_port, 34);
AT(key6, channel, 36);
_Static_assert(sizeof(struct leg) == 80, "leg");
AT(leg, to, 16);
AT(leg, expires, 32);
AT(leg, ifindex, 40);
AT(leg, slot, 44);
AT(leg, from_mac, 48);
AT(leg, to_mac, 54);
AT(leg, from_port, 60);
AT(leg, to_port, 62);
AT(leg, channel, 64);
AT(leg, mtu, 66);
AT(leg, family, 68);
AT(leg, course, 69);
AT(leg, vlan, 70);
AT(leg, mixed, 72);
AT(leg, redirects, 73);
AT(leg, limit, 76);
_Static_assert(sizeof(struct limit) == 80, "limit");
AT(limit, rate, 16);
AT(limit, above, 32);
AT(limit, dropped, 48);
_Static_assert(sizeof(struct count) == 16, "count");
_Static_assert(FIRST_LEG == 10, "FIRST_LEG");
