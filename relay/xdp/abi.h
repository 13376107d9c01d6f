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
	 * `from` and `to`. Its way has an address alone. */
	INWARD,
	/* The second half of such a way: it is found so alone, never by what comes from a network. */
	OUTWARD,
};

/* A way out, which many legs share. It never changes while a leg names it, so no packet sees half of one.
 * Addresses are IPv6 or IPv4-mapped. */
struct way {
	/* The address of ours it leaves from. */
	u8 from[16];
	/* The interface it leaves by, and the next hop there. */
	u32 ifindex;
	u8 from_mac[6];
	u8 to_mac[6];
	/* The largest IP packet that fits. */
	u16 mtu;
	/* The VLAN it leaves in; zero for none. */
	be16 vlan;
	/* What it leaves over: 4 or 6. */
	u8 family;
	/* Whether it does not even go back where it came from but by redirection. */
	u8 redirects;
	u8 zero[2];
};

/* Where payload goes on. */
struct leg {
	/* IPv6 or IPv4-mapped. */
	u8 to[16];
	/* CLOCK_MONOTONIC in nanoseconds: from then on the leg is none. The last bits are not of the time, and name
	 * its way: so an end may be told a millisecond early. */
	u64 expires_way;
	/* Where it is counted: see `counts`. */
	u32 slot;
	/* The index of its allocation's `limit`; zero for none. */
	u32 limit;
	be16 from_port;
	be16 to_port;
	/* What the payload is dressed with; zero for nothing. */
	be16 channel;
	/* One of `course`. */
	u8 course;
	/* Whether messages to the relay come the same way, told apart by their first byte alone. */
	u8 mixed;
};

/* Those bits, which also say how many ways there can be. */
#define WAY_BITS 20
#define WAY_MASK ((1ull << WAY_BITS) - 1)

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
	/* Of one that users share: how many they are. */
	u64 sharers;
	/* Of an allocation: the indices of those it shares, from the second on; zero for none. */
	u32 above[LEVELS];
	/* Of an allocation: where it is due what of them is its user's part; zero for none. */
	u32 part[LEVELS];
	/* Of an allocation: datagrams that were held back, by its own and those it shares. */
	u32 dropped[LEVELS][UNITS];
};

/* What a leg carried: datagrams, and below these bits the bytes of their payload. One addition counts both,
 * and the sums wrap: relay/src/offload/accounts.rs says why nothing is lost by that. */
#define BYTES_BITS 38

/* The first slots count datagrams that belong to a leg and went up to the relay all the same. */
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
_Static_assert(sizeof(struct way) == 40, "way");
AT(way, ifindex, 16);
AT(way, from_mac, 20);
AT(way, to_mac, 26);
AT(way, mtu, 32);
AT(way, vlan, 34);
AT(way, family, 36);
AT(way, redirects, 37);
_Static_assert(sizeof(struct leg) == 40, "leg");
AT(leg, expires_way, 16);
AT(leg, slot, 24);
AT(leg, limit, 28);
AT(leg, from_port, 32);
AT(leg, to_port, 34);
AT(leg, channel, 36);
AT(leg, course, 38);
AT(leg, mixed, 39);
_Static_assert(sizeof(struct limit) == 104, "limit");
AT(limit, rate, 16);
AT(limit, sharers, 32);
AT(limit, above, 40);
AT(limit, part, 56);
AT(limit, dropped, 72);
_Static_assert(FIRST_LEG == 10, "FIRST_LEG");
