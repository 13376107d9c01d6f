/* What the kernel path is measured with: frames as fast as one core makes them, the least that an answer can cost,
 * and an end for what comes back. Built by relay/xdp/build. */
#include "../../relay/xdp/kernel.h"

#define WORDS 10
#define FRAME_HEAD (8 * WORDS)

/* The beginning of each frame. A page comes back as it was left, so all of it is written every time. */
const volatile u64 head[WORDS] = {};
/* Where the port stands that tells flows apart, and the checksum of UDP. */
const volatile u32 port_at = 0;
const volatile u32 check_at = 0;
/* How many flows take turns, and the interface they leave by. */
const volatile u32 flows = 1;
const volatile u32 leaves_by = 0;

/* In memory that the measuring process sees: frames reflected, frames that arrived. */
enum { REFLECTED, ARRIVED, COUNTS };

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, COUNTS);
	TYPE(key, u32);
	TYPE(value, u64);
} counts SEC(".maps");

u32 turn = 0;

INLINE void count(u32 which)
{
	u64 *count = map_lookup(&counts, &which);
	if (count)
		*count += 1;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	u8 *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	if ((void *)(data + FRAME_HEAD) > end || port_at > FRAME_HEAD - 2 || check_at > FRAME_HEAD - 2)
		return XDP_ABORTED;
	for (int i = 0; i < WORDS; i++)
		((u64 *)data)[i] = head[i];
	u32 flow = turn++ % flows;
	be16 *port = (void *)(data + port_at);
	u16 *check = (void *)(data + check_at);
	/* The first port may be so many higher: nothing is carried over. */
	u16 before = *port, now = HTONS((u16)(HTONS(before) + flow));
	u32 sum = (u16)~*check + (u16)~before + now;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*port = now;
	*check = ~sum;
	return redirect(leaves_by, 0);
}

INLINE void swap(void *one, void *other, int bytes)
{
	u16 *a = one, *b = other;
	for (int i = 0; i < bytes / 2; i++) {
		u16 it = a[i];
		a[i] = b[i];
		b[i] = it;
	}
}

SEC("xdp")
int reflect(struct xdp_md *ctx)
{
	struct ethernet *ethernet = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	if ((void *)(ethernet + 1) + sizeof(struct ipv6) + sizeof(struct udp) > end)
		return XDP_PASS;
	struct udp *udp;
	if (ethernet->type == ETHERNET_IPV4) {
		struct ipv4 *ip = (void *)(ethernet + 1);
		swap(&ip->from, &ip->to, 4);
		udp = (void *)(ip + 1);
	} else if (ethernet->type == ETHERNET_IPV6) {
		struct ipv6 *ip = (void *)(ethernet + 1);
		swap(ip->from, ip->to, 16);
		udp = (void *)(ip + 1);
	} else {
		return XDP_PASS;
	}
	swap(ethernet->to, ethernet->from, 6);
	swap(&udp->from, &udp->to, 2);
	count(REFLECTED);
	return XDP_TX;
}

SEC("xdp")
int arrive(struct xdp_md *ctx __attribute__((unused)))
{
	count(ARRIVED);
	return XDP_DROP;
}

char licence[] SEC("license") = "MIT";
