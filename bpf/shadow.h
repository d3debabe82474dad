/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What generations that are not in force would have said of a flow that was just judged.
 *
 *     active ──▶ verdict ──▶ candidate: otherwise? ──▶ preview: otherwise?     each counted, and told
 *
 * Holds always:
 * 1. Nothing here touches a packet's verdict. What a shadow lacks is what it would deny.
 * 2. A difference is counted in `differences`, or if there is no room in `lost_differences`.
 *    Events of it come on top: they may be lost, and leave half of the ring to enforcement.
 */
#ifndef TIDEGATE_SHADOW_H
#define TIDEGATE_SHADOW_H

#include "abi.h"
#include "events.h"
#include "maps.h"
#include "policy.h"
#include "refusals.h"

static __always_inline bool has_shadows(const struct tg_control *control)
{
	return control->candidate != TG_NO_SLOT || control->preview != TG_NO_SLOT;
}

static __always_inline __u8 cause_of(__u8 enforced, __u8 shadowed)
{
	if (enforced == shadowed)
		return TG_CAUSE_NONE;
	if (shadowed == TG_DENY)
		return TG_CAUSE_WOULD_DENY;
	if (enforced == TG_DENY)
		return TG_CAUSE_WOULD_ALLOW;
	return shadowed == TG_REDIRECT ? TG_CAUSE_WOULD_REDIRECT : TG_CAUSE_WOULD_NOT_REDIRECT;
}

/* If there is no room, coverage looks smaller than it is: a gate then waits, and passes nothing. */
static __always_inline void cover(__u32 endpoint_id, __u8 shadow, __u8 slot)
{
	struct tg_coverage_key key = { .endpoint_id = endpoint_id, .shadow = shadow, .slot = slot };
	__u64 *flows = bpf_map_lookup_elem(&coverage, &key);
	__u64 none = 0;

	if (!flows) {
		/* Another processor may have made it meanwhile; each adds to its own value. */
		bpf_map_update_elem(&coverage, &key, &none, BPF_NOEXIST);
		flows = bpf_map_lookup_elem(&coverage, &key);
	}
	if (flows)
		(*flows)++;
}

static __always_inline void count_difference(const struct tg_difference_key *key, __u64 now)
{
	__u32 lost = (key->shadow - 1) * TG_SLOTS + key->slot;
	struct tg_difference first = { .count = 1, .last_seen_ns = now };
	struct tg_difference *known = bpf_map_lookup_elem(&differences, key);
	__u64 *lost_count;
	long failed;

	if (!known) {
		failed = bpf_map_update_elem(&differences, key, &first, BPF_NOEXIST);
		if (!failed)
			return;
		if (failed == -EEXIST)
			known = bpf_map_lookup_elem(&differences, key);
	}
	if (known) {
		__sync_fetch_and_add(&known->count, 1);
		known->last_seen_ns = now;
		return;
	}
	lost_count = bpf_map_lookup_elem(&lost_differences, &lost);
	if (lost_count)
		(*lost_count)++;
}

/* A refused flow leaves no entry, so that each of its packets is judged, and differs, anew: they are added
 * up. Not inline, as `compare`, which leaves it room on the stack by not calling it. */
static __noinline int tell_difference(const struct passage *passage, const struct ruling *ruling,
				      __u8 shadow, __u8 cause)
{
	struct telling telling;
	struct tg_event *event;

	if (!passes(passage->ruling.verdict) && is_told(passage, ruling, shadow, cause))
		return 0;
	event = begin_event(&telling, shadow);
	if (!event) {
		count_lost(0);
		return 0;
	}
	describe(event, passage, ruling);
	event->occasion = TG_OCCASION_AUDIT;
	event->shadow = shadow;
	event->cause = cause;
	end_event(&telling);
	return 0;
}

/* One flow was judged under a shadow too. Not inline: its keys get a stack of their own. */
static __noinline int compare(const struct passage *passage, const struct question *asked,
			      const struct ruling *ruling, __u8 shadow)
{
	bool out = asked->direction == TG_EGRESS;
	__u32 remote = ruling->remote_identity;
	struct tg_difference_key key = {
		.source_identity = out ? passage->local_identity : remote,
		.destination_identity = out ? remote : passage->local_identity,
		.cookie = ruling->cookie,
		.port = asked->port,
		.protocol = asked->protocol,
		.direction = asked->direction,
		.shadow = shadow,
		.slot = asked->slot,
		.cause = cause_of(passage->ruling.verdict, ruling->verdict),
		.reason = ruling->reason,
	};

	cover(passage->endpoint_id, shadow, asked->slot);
	if (key.cause != TG_CAUSE_NONE)
		count_difference(&key, passage->now.ns);
	return key.cause;
}

static __always_inline void ask_shadow(const struct passage *passage, struct question *ask,
				       __u8 shadow, __u8 slot)
{
	struct ruling ruling = { .remote_identity = passage->ruling.remote_identity };
	__u8 cause;

	if (slot == TG_NO_SLOT)
		return;
	ask->slot = slot;
	judge(ask, &ruling);
	cause = compare(passage, ask, &ruling, shadow);
	if (cause != TG_CAUSE_NONE)
		tell_difference(passage, &ruling, shadow, cause);
}

/* Ask every shadow what it says of a flow that `passage->ruling` is already made of. */
static __always_inline void ask_shadows(const struct passage *passage, struct question *ask)
{
	ask_shadow(passage, ask, TG_SHADOW_CANDIDATE, passage->control.candidate);
	ask_shadow(passage, ask, TG_SHADOW_PREVIEW, passage->control.preview);
}

#endif
