/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What was allowed this very tick, so that a pod which opens flow after flow to one peer is not judged from the
 * beginning for each.
 *
 *     question ──▶ asked this tick, on this processor, under this revision? ──▶ the same ruling
 *              └─▶ judged by the maps ──▶ remembered, if allowed
 *
 * Holds always:
 * 1. A ruling is given again to the same question only: same endpoint, peer, port, protocol, direction, slot.
 * 2. Nothing outlives its tick or its revision: what changes in any map is heeded by the next tick.
 * 3. A refusal is never given again unasked: what is allowed from now on passes from now on.
 */
#ifndef TIDEGATE_LATELY_H
#define TIDEGATE_LATELY_H

#include "clock.h"
#include "maps.h"
#include "policy.h"

static __always_inline __u32 line_of(const struct question *ask)
{
	__u32 mixed = ask->remote.words[0] ^ ask->remote.words[1] ^ ask->remote.words[2] ^
		      ask->remote.words[3];

	mixed ^= (ask->endpoint_id << 8) ^ ((__u32)ask->port << 16) ^ ask->direction;
	/* The upper bits of a product depend on all bits below. */
	return (mixed * 0x9e3779b1u) >> (32 - LATELY_BITS);
}

/* By words, whatever the fields in them, and without a branch for each. */
static __always_inline bool same_question(const struct question *a, const struct question *b)
{
	typedef __u32 __attribute__((may_alias)) word;
	const word *these = (const word *)a, *those = (const word *)b;
	__u32 difference = 0;

	for (__u32 i = 0; i < sizeof(*a) / sizeof(word); i++)
		difference |= these[i] ^ those[i];
	return !difference;
}

/* Judge a flow, its peer's identity too. */
static __always_inline void judge_anew(const struct question *ask, struct ruling *ruling)
{
	ruling->remote_identity = identity_of(&ask->remote);
	judge(ask, ruling);
}

/* Judge a flow, or say again what was said of it. Global, as `parse_packet`. */
__noinline int judge_lately(const struct question *ask, __u32 revision, __u64 tick,
				   struct ruling *ruling)
{
	struct allowed_lately *line;
	__u32 index;

	if (!ask || !ruling)
		return 0;
	index = line_of(ask);
	line = bpf_map_lookup_elem(&allowed_lately, &index);
	if (line && line->tick == tick && line->revision == revision &&
	    same_question(&line->asked, ask)) {
		*ruling = line->ruling;
		return 0;
	}
	judge_anew(ask, ruling);
	if (line && ruling->verdict == TG_ALLOW) {
		line->tick = tick;
		line->revision = revision;
		line->asked = *ask;
		line->ruling = *ruling;
	}
	return 0;
}

#endif
