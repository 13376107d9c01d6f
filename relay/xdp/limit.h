/* Limits of bandwidth, as the relay's own are (proto/src/policy/bandwidth.rs): everything passes as long as
 * what passed before is paid for, or nearly; what a datagram takes more than is left is owed. Where users share
 * one, those that are modest pass in any case (proto/src/policy/bandwidth/fairness.rs).
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

/* What of it others leave to the modest at most, and what these may save up together. */
const volatile u64 kept = 0;

/* What one may save up in any case. */
const volatile u64 least[UNITS] = {};

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

/* What of such a limit is the part of the allocation's user; none if there is nobody else. */
INLINE struct limit *part_at(struct limit *own, struct limit *limit, int level)
{
	if (!level || limit->sharers <= 1)
		return 0;
	u32 at = own->part[level];
	return at ? map_lookup(&limits, &at) : 0;
}

/* Whether the user has sent no more than its part. */
INLINE int is_modest(const struct limit *limit, const struct limit *part, int unit, u64 now)
{
	u64 saved = least[unit] * SECOND / limit->rate[unit] * limit->sharers;
	return part->due[unit] < now + (saved > kept ? saved : kept);
}

/* Whether a datagram may not pass; counts it then. */
INLINE int holds_back(struct limit *own, u64 now)
{
#pragma unroll
	for (int level = 0; level < LEVELS; level++) {
		struct limit *limit = at_level(own, level);
		if (!limit)
			continue;
		struct limit *part = part_at(own, limit, level);
#pragma unroll
		for (int unit = 0; unit < UNITS; unit++) {
			if (!limit->rate[unit])
				continue;
			u64 until = now + burst;
			if (part && is_modest(limit, part, unit, now))
				continue;
			if (part)
				until -= kept / limit->sharers * (limit->sharers - 1);
			if (limit->due[unit] >= until) {
				__sync_fetch_and_add(&own->dropped[level][unit], 1);
				return 1;
			}
		}
	}
	return 0;
}

/* Adds to what is due. */
INLINE void owe(struct limit *limit, int unit, u64 now, u64 time)
{
	u64 due = limit->due[unit];
	/* Whoever else does this does the same. */
	if (due < now)
		__sync_val_compare_and_swap(&limit->due[unit], due, now);
	__sync_fetch_and_add(&limit->due[unit], time);
}

/* Has one that passed be paid for, at all of them; of its part by a modest user alone. */
INLINE void charge(struct limit *own, u64 now, u32 bytes)
{
	u64 passed[UNITS] = { bytes, 1 };
#pragma unroll
	for (int level = 0; level < LEVELS; level++) {
		struct limit *limit = at_level(own, level);
		if (!limit)
			continue;
		struct limit *part = part_at(own, limit, level);
#pragma unroll
		for (int unit = 0; unit < UNITS; unit++) {
			u64 rate = limit->rate[unit];
			if (!rate)
				continue;
			u64 time = (passed[unit] * SECOND + rate - 1) / rate;
			if (part && is_modest(limit, part, unit, now))
				owe(part, unit, now, time * limit->sharers);
			owe(limit, unit, now, time);
		}
	}
}
