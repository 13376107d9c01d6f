/* What the relay takes past the host's network stack: media for its listeners, and whatever comes to relayed
 * ports. The rings of AF_XDP bring it, where the relay has one at the queue a frame came by. What such a port
 * gets by another way (fragments, IP options, other interfaces, this very host) comes by one socket for all of them.
 *
 * Only ports that are open count: others of the same addresses may be other processes'. */
#pragma once

#include "kernel.h"

/* IPv6, or IPv4-mapped. */
struct address {
	u8 octets[16];
};

/* Which of our addresses have ports open, and the words in `ports` where each one's begin. */
struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1);
	TYPE(key, struct address);
	TYPE(value, u32);
} addresses SEC(".maps");

/* An octet for each port: of an address first its relayed ports, then its listeners'. Zero is closed, others say
 * whose port it is: one more than the number of a worker; of listeners, whom steering gives to one, any. */
struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	UINT(map_flags, MAP_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, u64);
} ports SEC(".maps");

/* The words of all ports of one kind. */
#define PORT_WORDS 8192

/* The rings: so many queues of the first interface, as many of the next; for each queue, one of each worker. */
struct {
	UINT(type, MAP_RINGS);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u32);
} rings SEC(".maps");

/* The sockets for the rest: of each worker one of IPv4 and one of IPv6. */
struct {
	UINT(type, MAP_SOCKETS);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u32);
} sockets SEC(".maps");

#define STEER_FACTOR 0x9e3779b1u

#define RING_INTERFACES 8
#define RING_QUEUES 64

/* Clients of which another worker hears than steering says, and which. */
struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1);
	TYPE(key, struct key6);
	TYPE(value, u32);
} diverted SEC(".maps");

/* Interfaces that have rings, in their order; set by the loader, zero where there is none. */
const volatile u32 ring_interfaces[RING_INTERFACES] = {};

/* How many workers there are; set by the loader. */
const volatile u32 workers = 1;

/* Whose a port of a kind is, counted from the words of its address. */
INLINE u8 owner(u32 word, u16 port)
{
	word += port / 8;
	u64 *owners = map_lookup(&ports, &word);
	return owners ? *owners >> port % 8 * 8 : 0;
}

/* Whether a listener is sent media: ChannelData, payload that stands bare, Send indications. Requests and
 * handshakes stay with the host's stack, where they wait apart. */
INLINE int is_media(const u8 *data, const void *end)
{
	if ((const void *)(data + 2) > end)
		return 0;
	return data[0] >= 0x40 || (data[0] == 0 && data[1] == 0x16);
}

/* The worker that hears a client. Steering is that of proto/src/addr.rs: both must say the same. */
INLINE u32 server(const struct key6 *way)
{
	if (workers == 1)
		return 0;
	u32 *other = map_lookup(&diverted, way);
	if (other)
		return *other;
	u32 low;
	__builtin_memcpy(&low, &way->remote[12], 4);
	u32 mixed = (HTONL(low) ^ HTONS(way->remote_port)) * STEER_FACTOR;
	return (mixed >> 16) % workers;
}

/* Where a datagram goes that no leg leads on. Of the way it came the channel is zero. */
INLINE int to_ring(struct xdp_md *ctx, const struct key6 *way, const struct udp *udp, const void *end)
{
	if (!ring_interfaces[0])
		return XDP_PASS;
	u32 *words = map_lookup(&addresses, way->local);
	if (!words)
		return XDP_PASS;
	u16 port = HTONS(way->local_port);
	u32 worker = owner(*words, port);
	if (worker)
		worker--;
	else if (is_media((const u8 *)(udp + 1), end) && owner(*words + PORT_WORDS, port))
		worker = server(way);
	else
		return XDP_PASS;
	u32 queue = ctx->rx_queue_index;
	for (u32 i = 0; i < RING_INTERFACES && queue < RING_QUEUES; i++)
		if (ring_interfaces[i] == ctx->ingress_ifindex)
			return redirect_map(&rings, (i * RING_QUEUES + queue) * workers + worker, XDP_PASS);
	return XDP_PASS;
}

/* What the stack brings to a relayed port belongs to the one socket of its family that the port's worker has. */
SEC("sk_lookup")
int relay_lookup(struct sk_lookup *ctx)
{
	struct address local = {};
	u32 which = ctx->family == FAMILY_IPV6;
	if (ctx->protocol != PROTOCOL_UDP)
		return SK_PASS;
	u32 *octets = (u32 *)local.octets;
	if (which) {
		for (int i = 0; i < 4; i++)
			octets[i] = ctx->local_ip6[i];
	} else {
		octets[2] = HTONL(0xffff);
		octets[3] = ctx->local_ip4;
	}
	u32 *words = map_lookup(&addresses, &local);
	u32 worker = words ? owner(*words, ctx->local_port) : 0;
	if (!worker)
		return SK_PASS;
	which += 2 * (worker - 1);
	void *socket = map_lookup(&sockets, &which);
	if (!socket)
		return SK_PASS;
	sk_assign(ctx, socket, 0);
	sk_release(socket);
	return SK_PASS;
}
