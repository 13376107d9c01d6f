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

/* A bit for each port: of an address first its relayed ports, then its listeners'. */
struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	UINT(map_flags, MAP_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, u64);
} ports SEC(".maps");

/* The words of all ports of one kind. */
#define PORT_WORDS 1024

/* The rings: so many queues of the first interface, as many of the next. */
struct {
	UINT(type, MAP_RINGS);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u32);
} rings SEC(".maps");

/* The sockets for the rest: of IPv4, of IPv6. */
struct {
	UINT(type, MAP_SOCKETS);
	UINT(max_entries, 2);
	TYPE(key, u32);
	TYPE(value, u32);
} sockets SEC(".maps");

#define RING_INTERFACES 8
#define RING_QUEUES 64

/* Interfaces that have rings, in their order; set by the loader, zero where there is none. */
const volatile u32 ring_interfaces[RING_INTERFACES] = {};

/* Whether a port of a kind is open, counted from the words of its address. */
INLINE int is_open(u32 word, u16 port)
{
	word += port / 64;
	u64 *open = map_lookup(&ports, &word);
	return open && *open >> port % 64 & 1;
}

/* Whether a listener is sent media: ChannelData, payload that stands bare, Send indications. Requests and
 * handshakes stay with the host's stack, where they wait apart. */
INLINE int is_media(const u8 *data, const void *end)
{
	if ((const void *)(data + 2) > end)
		return 0;
	return data[0] >= 0x40 || (data[0] == 0 && data[1] == 0x16);
}

/* Where a datagram goes that no leg leads on. */
INLINE int to_ring(struct xdp_md *ctx, const struct address *local, const struct udp *udp, const void *end)
{
	if (!ring_interfaces[0])
		return XDP_PASS;
	u32 *words = map_lookup(&addresses, local);
	if (!words)
		return XDP_PASS;
	u16 port = HTONS(udp->to);
	if (!is_open(*words, port) &&
	    !(is_media((const u8 *)(udp + 1), end) && is_open(*words + PORT_WORDS, port)))
		return XDP_PASS;
	u32 queue = ctx->rx_queue_index;
	for (u32 i = 0; i < RING_INTERFACES && queue < RING_QUEUES; i++)
		if (ring_interfaces[i] == ctx->ingress_ifindex)
			return redirect_map(&rings, i * RING_QUEUES + queue, XDP_PASS);
	return XDP_PASS;
}

/* What the stack brings to a relayed port belongs to the one socket of its family. */
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
	if (!words || !is_open(*words, ctx->local_port))
		return SK_PASS;
	void *socket = map_lookup(&sockets, &which);
	if (!socket)
		return SK_PASS;
	sk_assign(ctx, socket, 0);
	sk_release(socket);
	return SK_PASS;
}
