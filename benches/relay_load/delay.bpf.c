/* How late arrives what a relay sends on: in each payload stands when it was sent. Built by relay/xdp/build. */
#include "../../relay/xdp/kernel.h"

/* Where that stands in a frame; set by the loader. */
const volatile u32 stamp_at = 0;

/* Powers of two of nanoseconds, each in so many steps. */
#define POWERS 36
#define STEP_BITS 3
#define ROOMS (POWERS << STEP_BITS)

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, ROOMS);
	TYPE(key, u32);
	TYPE(value, u64);
} delays SEC(".maps");

static u64 (*const now_ns)(void) = (void *)5;
static long (*const load_bytes)(const struct sk_buff *ctx, u32 at, void *to, u32 length) = (void *)26;

SEC("classifier")
int arrive(struct sk_buff *ctx)
{
	u64 sent = 0;
	if (load_bytes(ctx, stamp_at, &sent, sizeof(sent)) || !sent)
		return TC_NEXT;
	u64 took = now_ns() - sent;
	/* Nothing of ours takes a minute. */
	if (took >> POWERS)
		return TC_NEXT;
	u32 power = 0;
	for (u64 rest = took >> 1; rest && power < POWERS - 1; rest >>= 1)
		power++;
	u32 step = power < STEP_BITS ? 0 : took >> (power - STEP_BITS) & ((1 << STEP_BITS) - 1);
	u32 room = power << STEP_BITS | step;
	u64 *count = map_lookup(&delays, &room);
	if (count)
		__sync_fetch_and_add(count, 1);
	return TC_DROP;
}

char licence[] SEC("license") = "Dual MIT/GPL";
