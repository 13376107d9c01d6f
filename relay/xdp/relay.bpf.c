/* The relay's fast path: ChannelData from clients goes on as UDP, UDP from peers as ChannelData.
 *
 * It knows legs and nothing else: who may have one, and for how long, is the relay's business in user
 * space. Whatever is not plainly the payload of a live leg goes up to it unchanged: STUN, fragments, IP
 * options and extension headers, what is too large, what is odd. Nothing is dropped here but what is above
 * the limit of its leg, and nothing is copied but headers. A leg may lead from one family to the other.
 *
 * There are two programs, which do the same at two places: in the driver (XDP), where a packet is a frame in the
 * driver's memory, and behind it (TC), where it is a buffer of the kernel's, for drivers that know nothing of XDP.
 *
 * Built by ./build with the compiler named there; relay.bpf.o is committed beside. */
#include "kernel.h"
#include "limit.h"
#include "rings.h"

/* Legs whose datagrams arrive over IPv4. */
struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1);
	TYPE(key, struct key4);
	TYPE(value, struct leg);
} legs4 SEC(".maps");

/* Legs whose datagrams arrive over IPv6. */
struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1);
	TYPE(key, struct key6);
	TYPE(value, struct leg);
} legs6 SEC(".maps");

/* Ways out: a leg names its own by index. */
struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct way);
} ways SEC(".maps");

/* A few rows, `slots` long: what went up, by reason, then what each leg carried. Processors share them evenly. */
struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	UINT(map_flags, MAP_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, u64);
} counts SEC(".maps");

/* The length of a row, and how many there are less one, a power of two; set by the loader. */
const volatile u32 slots = 0;
const volatile u32 last_row = 0;

enum place { IN_DRIVER, BEHIND };

/* Bytes of the longest headers that are written, and of ChannelData. */
#define LONGEST (sizeof(struct ethernet) + sizeof(struct vlan) + sizeof(struct ipv6) + sizeof(struct udp) + \
		 sizeof(struct channel_data))

/* What a datagram says before anything is moved. */
struct arrived {
	/* The sum of both addresses. */
	u16 addresses;
	u8 class;
	u8 hops;
	/* The bytes before IP, and those of its header. */
	u32 link;
	u32 header;
	be16 from_port;
	be16 to_port;
	/* Of UDP, header included. */
	u16 length;
	u16 check;
	/* The first byte of what UDP carries; zero if that is nothing. */
	u8 first;
	/* The bytes of ChannelData that go away. */
	struct channel_data head;
};

INLINE void add(u32 slot, u64 what)
{
	u32 at = (processor() & last_row) * slots + slot;
	u64 *sum = map_lookup(&counts, &at);
	if (sum)
		__sync_fetch_and_add(sum, what);
}

/* Counts a datagram that a leg carries. */
INLINE void count(u32 slot, u16 bytes)
{
	add(slot, (1ull << BYTES_BITS) + bytes);
}

INLINE int up(enum passed why)
{
	add(why, 1);
	return XDP_PASS;
}

/* The sum of 16-bit words that RFC 1071 wants. */
INLINE u16 folded(u64 sum)
{
	sum = (sum >> 32) + (u32)sum;
	sum = (sum >> 16) + (u16)sum;
	sum = (sum >> 16) + (u16)sum;
	sum = (sum >> 16) + (u16)sum;
	return (u16)sum;
}

/* The sum of a few words. */
INLINE u16 sum_of(const void *words, int count)
{
	u64 sum = 0;
	for (int i = 0; i < count; i++)
		sum += ((const u16 *)words)[i];
	return folded(sum);
}

/* The checksum of UDP, mended by what has changed (RFC 1624): the addresses, the ports, both lengths and the
 * head of ChannelData that went away or came. One that is not used stays so. */
INLINE u16 mended(const struct arrived *in, u16 addresses, const struct udp *udp, const struct channel_data *head)
{
	if (!in->check)
		return 0;
	u64 sum = (u16)~in->check;
	sum += (u16)~in->addresses + addresses;
	sum += (u16)~in->from_port + (u16)~in->to_port + udp->from + udp->to;
	sum += 2 * ((u16)~HTONS(in->length) + udp->length);
	sum += (u16)~in->head.number + (u16)~in->head.length + head->number + head->length;
	u16 check = ~folded(sum);
	return check ? check : 0xffff;
}

/* Whether a checksum covers the addresses only, for the hardware to complete. */
INLINE int is_partial(const struct arrived *in)
{
	return in->check == folded((u64)in->addresses + HTONS(PROTOCOL_UDP) + HTONS(in->length));
}

/* Where payload goes on, and how. */
struct onward {
	const struct leg *leg;
	const struct way *way;
};

/* The way of a leg. */
INLINE const struct way *way_of(const struct leg *leg)
{
	u32 at = leg->expires_way & WAY_MASK;
	return map_lookup(&ways, &at);
}

INLINE int has_expired(const struct leg *leg, u64 now)
{
	return now >= (leg->expires_way & ~WAY_MASK);
}

/* Writes a header of IPv4 for so many bytes behind it; the sum of its addresses. */
INLINE u16 write_ipv4(struct ipv4 *ip, const struct arrived *in, struct onward on, u16 behind)
{
	ip->version_length = 0x45;
	ip->class = in->class;
	ip->length = HTONS((u16)(sizeof(struct ipv4) + behind));
	ip->id = random();
	ip->fragment = 0;
	ip->hops = in->hops - 1;
	ip->protocol = PROTOCOL_UDP;
	ip->check = 0;
	__builtin_memcpy(&ip->from, &on.way->from[12], 4);
	__builtin_memcpy(&ip->to, &on.leg->to[12], 4);
	ip->check = ~sum_of(ip, 10);
	return sum_of(&ip->from, 4);
}

/* The same of IPv6. */
INLINE u16 write_ipv6(struct ipv6 *ip, const struct arrived *in, struct onward on, u16 behind)
{
	ip->start = HTONL(6u << 28 | (u32)in->class << 20);
	ip->length = HTONS(behind);
	ip->protocol = PROTOCOL_UDP;
	ip->hops = in->hops - 1;
	__builtin_memcpy(ip->from, on.way->from, 16);
	__builtin_memcpy(ip->to, on.leg->to, 16);
	return sum_of(ip->from, 16);
}

/* The leg by which payload goes on that one leg brings to another client of this relay, if there is one. */
INLINE struct leg *next(struct onward on)
{
	if (on.way->family == 6) {
		struct key6 key = { .remote_port = on.leg->from_port, .local_port = on.leg->to_port };
		__builtin_memcpy(key.remote, on.way->from, 16);
		__builtin_memcpy(key.local, on.leg->to, 16);
		return map_lookup(&legs6, &key);
	}
	struct key4 key = { .remote_port = on.leg->from_port, .local_port = on.leg->to_port };
	__builtin_memcpy(&key.remote, &on.way->from[12], 4);
	__builtin_memcpy(&key.local, &on.leg->to[12], 4);
	return map_lookup(&legs4, &key);
}

/* Writes the headers of a datagram that has so many bytes behind IP, and the head of ChannelData, from `start` on;
 * their length. Zero cannot be: there was as much before. */
INLINE u32 dress(const struct arrived *in, struct onward on, u16 behind, void *start, const void *end, int vlan)
{
	struct ethernet *ethernet = start;
	void *behind_link = ethernet + 1;
	int is6 = on.way->family == 6;
	be16 type = is6 ? ETHERNET_IPV6 : ETHERNET_IPV4;
	struct udp *udp;
	u16 addresses;
	if (behind_link + sizeof(struct vlan) > end)
		return 0;
	if (vlan) {
		struct vlan *tag = behind_link;
		tag->number = on.way->vlan;
		tag->type = type;
		type = ETHERNET_VLAN;
		behind_link = tag + 1;
	}
	ethernet->type = type;
	if (is6) {
		struct ipv6 *ip = behind_link;
		udp = (void *)(ip + 1);
		if ((void *)(udp + 1) > end)
			return 0;
		addresses = write_ipv6(ip, in, on, behind);
	} else {
		struct ipv4 *ip = behind_link;
		udp = (void *)(ip + 1);
		if ((void *)(udp + 1) > end)
			return 0;
		addresses = write_ipv4(ip, in, on, behind);
	}
	__builtin_memcpy(ethernet->to, on.way->to_mac, 6);
	__builtin_memcpy(ethernet->from, on.way->from_mac, 6);

	u32 length = (is6 ? sizeof(struct ipv6) : sizeof(struct ipv4)) + sizeof(struct ethernet) + sizeof(struct udp) +
		     (vlan ? sizeof(struct vlan) : 0);
	struct channel_data head = {};
	if (on.leg->channel) {
		struct channel_data *data = (void *)(udp + 1);
		head.number = on.leg->channel;
		head.length = HTONS((u16)(behind - sizeof(struct udp) - sizeof(struct channel_data)));
		if ((void *)(data + 1) > end)
			return 0;
		*data = head;
		length += sizeof(struct channel_data);
	}
	udp->from = on.leg->from_port;
	udp->to = on.leg->to_port;
	udp->length = HTONS(behind);
	udp->check = mended(in, addresses, udp, &head);
	return length;
}

enum moved { MOVED, NO_ROOM, BROKEN };

/* Gives a frame in the driver's memory its new headers, where `less` bytes go away before the payload. */
INLINE enum moved move_frame(struct xdp_md *ctx, const struct arrived *in, struct onward on, u16 behind, int less)
{
	if (less && adjust_head(ctx, less))
		return NO_ROOM;
	void *start = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;
	return dress(in, on, behind, start, end, on.way->vlan != 0) ? MOVED : BROKEN;
}

#define ROOM_BEHIND_LINK 1
#define RECOMPUTE_CHECKSUM 1

/* The same of a buffer of the kernel's, which knows by itself what protocol it is and its VLAN. */
INLINE enum moved move_buffer(struct sk_buff *ctx, const struct arrived *in, struct onward on, u16 behind, int less)
{
	int is6 = on.way->family == 6;
	int turns = is6 != (in->header == sizeof(struct ipv6));
	if (turns) {
		if (change_protocol(ctx, is6 ? ETHERNET_IPV6 : ETHERNET_IPV4, 0))
			return NO_ROOM;
		less += is6 ? (int)(sizeof(struct ipv6) - sizeof(struct ipv4)) :
			      (int)(sizeof(struct ipv4) - sizeof(struct ipv6));
	}
	if (less && adjust_room(ctx, -less, ROOM_BEHIND_LINK, 0))
		return turns ? BROKEN : NO_ROOM;
	u8 head[LONGEST];
	u32 length = dress(in, on, behind, head, head + LONGEST, 0);
	if (!length || length > LONGEST || store_bytes(ctx, 0, head, length, RECOMPUTE_CHECKSUM))
		return BROKEN;
	if (ctx->vlan_present && vlan_pop(ctx))
		return BROKEN;
	if (on.way->vlan && vlan_push(ctx, ETHERNET_VLAN, HTONS(on.way->vlan)))
		return BROKEN;
	return MOVED;
}

/* Sends payload on by its leg. `strip` is the length of what it was dressed with. */
INLINE int relay(void *ctx, enum place place, struct arrived *in, const struct leg *leg, int strip)
{
	u16 payload = in->length - sizeof(struct udp) - strip;
	const struct leg *inward = 0;

	/* Nobody but ourselves sends from our relayed addresses. */
	if (leg->course == OUTWARD)
		return XDP_PASS;
	/* RTP and RTCP: no message of any kind begins so. */
	if (leg->mixed && (in->first & 0xc0) != 0x80)
		return XDP_PASS;
	u64 now = coarse_ns();
	if (has_expired(leg, now))
		return up(PASSED_EXPIRED);
	const struct way *way = way_of(leg);
	if (!way)
		return XDP_PASS;
	if (leg->course == INWARD) {
		inward = leg;
		leg = next((struct onward){ leg, way });
		if (!leg || leg->course != OUTWARD)
			return up(PASSED_WITHIN);
		if (has_expired(leg, now))
			return up(PASSED_EXPIRED);
		way = way_of(leg);
		if (!way)
			return XDP_PASS;
		/* It passes two relayed addresses. */
		if (!in->hops--)
			return up(PASSED_HOPS);
	}
	int grow = leg->channel ? (int)sizeof(struct channel_data) : 0;
	int is6 = way->family == 6;
	u32 link = sizeof(struct ethernet) + (place == IN_DRIVER && way->vlan ? sizeof(struct vlan) : 0);
	u32 header = is6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
	u16 behind = sizeof(struct udp) + payload + grow;

	if (in->hops <= 1)
		return up(PASSED_HOPS);
	if (header + behind > way->mtu)
		return up(PASSED_SIZE);
	if (place == BEHIND && ((struct sk_buff *)ctx)->gso_size)
		return up(PASSED_RUN);
	if (is_partial(in))
		return up(PASSED_PARTIAL);
	if (!in->check && (is6 || in->header != sizeof(struct ipv4)))
		return up(PASSED_UNCHECKED);
	struct limit *outer = limit_of(leg), *inner = inward ? limit_of(inward) : 0;
	if (inner && holds_back(inner, now))
		return XDP_DROP;
	if (outer && holds_back(outer, now)) {
		/* The first client has sent it all the same. */
		if (inner)
			charge(inner, now, payload);
		if (inward)
			count(inward->slot, payload);
		return XDP_DROP;
	}
	int less = (int)(in->link + in->header) - (int)(link + header) + strip - grow;
	struct onward on = { leg, way };
	enum moved moved = place == IN_DRIVER ? move_frame(ctx, in, on, behind, less) :
						move_buffer(ctx, in, on, behind, less);
	if (moved == NO_ROOM)
		return up(PASSED_ROOM);
	if (moved == BROKEN)
		return XDP_ABORTED;

	if (inner)
		charge(inner, now, payload);
	if (outer)
		charge(outer, now, payload);
	if (inward)
		count(inward->slot, payload);
	count(leg->slot, payload);
	if (place == IN_DRIVER && way->ifindex == ((struct xdp_md *)ctx)->ingress_ifindex && !way->redirects)
		return XDP_TX;
	return redirect(way->ifindex, 0);
}

/* Why a datagram that should be one and is longer than its first goes up. */
INLINE enum passed why_odd(void *ctx, enum place place)
{
	return place == BEHIND && ((struct sk_buff *)ctx)->gso_size ? PASSED_RUN : PASSED_LENGTH;
}

/* Reads what stands in UDP, if it is whole; whether it may be payload of a leg. */
INLINE int read_udp(void *ctx, enum place place, struct arrived *in, const struct udp *udp, const void *end)
{
	const struct channel_data *data = (const void *)(udp + 1);
	in->from_port = udp->from;
	in->to_port = udp->to;
	in->length = HTONS(udp->length);
	in->check = udp->check;
	if (in->length < sizeof(struct udp))
		return 0;
	/* Of a buffer `end` is the end of its first piece. */
	if (place == IN_DRIVER ? (const void *)udp + in->length > end :
				 in->link + in->header + in->length > ((struct sk_buff *)ctx)->len)
		return 0;
	const u8 *first = (const u8 *)data;
	if (in->length > sizeof(struct udp) && (const void *)(first + 1) <= end)
		in->first = *first;
	/* What could be the number of a channel. */
	if (in->length >= sizeof(struct udp) + sizeof(struct channel_data) && (const void *)(data + 1) <= end &&
	    (in->first & 0xc0) == 0x40)
		in->head = *data;
	return 1;
}

/* Whether ChannelData is as long as its datagram. */
INLINE int fills(const struct arrived *in)
{
	return HTONS(in->head.length) == in->length - sizeof(struct udp) - sizeof(struct channel_data);
}

INLINE int over_ipv4(void *ctx, enum place place, u32 link, const struct ipv4 *ip, const void *end)
{
	const struct udp *udp = (const void *)(ip + 1);
	if ((const void *)(udp + 1) > end)
		return XDP_PASS;
	/* Whole, and without options. */
	if (ip->version_length != 0x45 || ip->protocol != PROTOCOL_UDP || ip->fragment & HTONS(0xbfff))
		return XDP_PASS;
	struct arrived in = { .class = ip->class, .hops = ip->hops, .link = link, .header = sizeof(struct ipv4) };
	if (!read_udp(ctx, place, &in, udp, end) || HTONS(ip->length) != sizeof(struct ipv4) + in.length)
		return XDP_PASS;

	struct key4 key = {
		.remote = ip->from,
		.local = ip->to,
		.remote_port = in.from_port,
		.local_port = in.to_port,
		.channel = in.head.number,
	};
	struct leg *leg = key.channel ? map_lookup(&legs4, &key) : 0;
	int strip = leg ? sizeof(struct channel_data) : 0;
	if (leg && !fills(&in))
		return up(why_odd(ctx, place));
	if (!leg) {
		in.head = (struct channel_data){};
		key.channel = 0;
		leg = map_lookup(&legs4, &key);
		if (!leg) {
			if (place == BEHIND)
				return XDP_PASS;
			struct key6 way = {
				.remote = { [10] = 0xff, [11] = 0xff },
				.local = { [10] = 0xff, [11] = 0xff },
				.remote_port = in.from_port,
				.local_port = in.to_port,
			};
			__builtin_memcpy(way.remote + 12, &ip->from, 4);
			__builtin_memcpy(way.local + 12, &ip->to, 4);
			return to_ring(ctx, &way, udp, end);
		}
	}
	if (sum_of(ip, 10) != 0xffff)
		return up(PASSED_DAMAGED);
	in.addresses = sum_of(&ip->from, 4);
	return relay(ctx, place, &in, leg, strip);
}

INLINE int over_ipv6(void *ctx, enum place place, u32 link, const struct ipv6 *ip, const void *end)
{
	const struct udp *udp = (const void *)(ip + 1);
	if ((const void *)(udp + 1) > end)
		return XDP_PASS;
	/* Without extension headers. */
	u32 start = HTONL(ip->start);
	if (start >> 28 != 6 || ip->protocol != PROTOCOL_UDP)
		return XDP_PASS;
	struct arrived in = { .class = start >> 20, .hops = ip->hops, .link = link, .header = sizeof(struct ipv6) };
	if (!read_udp(ctx, place, &in, udp, end) || HTONS(ip->length) != in.length)
		return XDP_PASS;

	struct key6 key = {
		.remote_port = in.from_port,
		.local_port = in.to_port,
		.channel = in.head.number,
	};
	__builtin_memcpy(key.remote, ip->from, 16);
	__builtin_memcpy(key.local, ip->to, 16);
	struct leg *leg = key.channel ? map_lookup(&legs6, &key) : 0;
	int strip = leg ? sizeof(struct channel_data) : 0;
	if (leg && !fills(&in))
		return up(why_odd(ctx, place));
	if (!leg) {
		in.head = (struct channel_data){};
		key.channel = 0;
		leg = map_lookup(&legs6, &key);
		if (!leg) {
			return place == BEHIND ? XDP_PASS : to_ring(ctx, &key, udp, end);
		}
	}
	in.addresses = sum_of(ip->from, 16);
	return relay(ctx, place, &in, leg, strip);
}

INLINE int over_ethernet(void *ctx, enum place place, const struct ethernet *ethernet, const void *end)
{
	/* To this host alone. */
	if ((const void *)(ethernet + 1) > end || ethernet->to[0] & 1)
		return XDP_PASS;
	/* Which VLAN it is says nothing that addresses do not, and hardware may have taken the number away. */
	const void *ip = ethernet + 1;
	be16 type = ethernet->type;
	u32 link = sizeof(struct ethernet);
	if (place == IN_DRIVER && type == ETHERNET_VLAN) {
		const struct vlan *vlan = ip;
		if ((const void *)(vlan + 1) > end)
			return XDP_PASS;
		type = vlan->type;
		ip = vlan + 1;
		link += sizeof(struct vlan);
	}
	if (type == ETHERNET_IPV4)
		return over_ipv4(ctx, place, link, ip, end);
	if (type == ETHERNET_IPV6)
		return over_ipv6(ctx, place, link, ip, end);
	return XDP_PASS;
}

SEC("xdp")
int relay_xdp(struct xdp_md *ctx)
{
	return over_ethernet(ctx, IN_DRIVER, (void *)(long)ctx->data, (void *)(long)ctx->data_end);
}

SEC("classifier")
int relay_tc(struct sk_buff *ctx)
{
	u32 need = ctx->len < LONGEST ? ctx->len : LONGEST;
	if ((void *)(long)ctx->data + need > (void *)(long)ctx->data_end && pull_data(ctx, need))
		return TC_NEXT;
	int verdict = over_ethernet(ctx, BEHIND, (void *)(long)ctx->data, (void *)(long)ctx->data_end);
	if (verdict == XDP_PASS)
		return TC_NEXT;
	return verdict == XDP_DROP || verdict == XDP_ABORTED ? TC_DROP : verdict;
}

char licence[] SEC("license") = "MIT";
