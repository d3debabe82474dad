/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The time, to a tick: nothing here needs it better, and a precise clock costs as much as a map lookup. Even
 * the kernel's coarse one is a call, so that each processor makes it once a tick. */
#ifndef TIDEGATE_CLOCK_H
#define TIDEGATE_CLOCK_H

#include "maps.h"

static __always_inline struct instant read_clock(void)
{
	__u64 tick = bpf_jiffies64();
	__u32 zero = 0;
	struct instant *last = bpf_map_lookup_elem(&last_instant, &zero);
	struct instant now = { .tick = tick };

	if (last && last->tick == tick)
		return *last;
	now.ns = bpf_ktime_get_coarse_ns();
	if (last)
		*last = now;
	return now;
}

#endif
