/* Limits of bandwidth, as the relay's own are (proto/src/policy/bandwidth.rs): everything passes as long as
 * what passed before is paid for, or nearly; what a datagram takes more than is left is owed.
 *
 * Time pays. It is that of the last tick, which makes a limit coarser and not wider. Processors that come at once
 * may all pass, and all pay. The relay charges here what passes by itself. */
#pragma once

#include "kernel.h"

/* One for each direction, of allocations and of what they share; none is at zero. */
struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	UINT(map_flags, MAP_MMAPABLE);
	TYPE(key, u32);
	TYPE(value, struct limit);
} limits SEC(".maps");

/* What may pass at once after a pause, as nanoseconds at the full rate; set by the loader. */
const volatile u64 burst = 0;

#define SECOND 1000000000ull

INLINE struct limit *limit_of(const struct leg *leg)
{
	u32 at = leg->limit;
	return at ? map_lookup(&limits, &at) : 0;
}

/* One of those that hold for an allocation, if it is there. */
INLINE struct limit *at_level(struct limit *own, int level)
{
	if (!level)
		return own;
	u32 at = own->above[level];
	return at ? map_lookup(&limits, &at) : 0;
}

/* Whether a datagram may not pass; counts it then. */
INLINE int holds_back(struct limit *own, u64 now)
{
#pragma unroll
	for (int level = 0; level < LEVELS; level++) {
		struct limit *limit = at_level(own, level);
		if (!limit)
			continue;
#pragma unroll
		for (int unit = 0; unit < UNITS; unit++) {
			if (limit->rate[unit] && limit->due[unit] >= now + burst) {
				__sync_fetch_and_add(&own->dropped[level][unit], 1);
				return 1;
			}
		}
	}
	return 0;
}

/* Has one that passed be paid for, at all of them. */
INLINE void charge(struct limit *own, u64 now, u32 bytes)
{
	u64 passed[UNITS] = { bytes, 1 };
#pragma unroll
	for (int level = 0; level < LEVELS; level++) {
		struct limit *limit = at_level(own, level);
		if (!limit)
			continue;
#pragma unroll
		for (int unit = 0; unit < UNITS; unit++) {
			u64 rate = limit->rate[unit], due = limit->due[unit];
			if (!rate)
				continue;
			/* Whoever else does this does the same. */
			if (due < now)
				__sync_val_compare_and_swap(&limit->due[unit], due, now);
			__sync_fetch_and_add(&limit->due[unit], (passed[unit] * SECOND + rate - 1) / rate);
		}
	}
}
