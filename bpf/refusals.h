/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Refused packets, and what shadows say of them, told so that a flood of them does not fill the ring.
 *
 *     first of a flow ──▶ told at once
 *     the others      ──▶ added up ──▶ told by the next one after a second, or by the agent's sweep
 *
 * Holds always:
 * 1. Of one flow, reason, revision and shadow: packets told + untold = packets refused. What is evicted
 *    untold, or told by an event that was lost, is in the drop counters, which count every packet, or in
 *    `differences`.
 */
#ifndef TIDEGATE_REFUSALS_H
#define TIDEGATE_REFUSALS_H

#include "abi.h"
#include "events.h"
#include "maps.h"

static __always_inline void refusal_key(struct tg_refusal_key *key, const struct passage *passage,
					const struct ruling *ruling, __u8 shadow)
{
	const struct packet *packet = &passage->packet;

	key->source = packet->source;
	key->destination = packet->destination;
	key->endpoint_id = passage->endpoint_id;
	key->revision = passage->control.revision;
	key->source_port = packet->source_port;
	key->destination_port = packet->destination_port;
	key->protocol = packet->protocol;
	key->icmp_type = packet->icmp_type;
	key->icmp_code = packet->icmp_code;
	key->direction = passage->direction;
	key->reason = ruling->reason;
	key->shadow = shadow;
}

/* Tell what has been added up, if the last event is a second old. Of several processors that find it
 * so, one tells. */
static __always_inline void tell_sum_if_due(struct tg_refusal *refusal, __u64 now)
{
	__u64 told = *(volatile __u64 *)&refusal->told_ns;
	struct telling telling;
	struct tg_event *event;
	__u64 packets, bytes;

	if ((__s64)(now - told) < (__s64)TG_REFUSAL_INTERVAL_NS ||
	    !*(volatile __u64 *)&refusal->untold_packets ||
	    __sync_val_compare_and_swap(&refusal->told_ns, told, now) != told)
		return;
	packets = __sync_lock_test_and_set(&refusal->untold_packets, 0);
	bytes = __sync_lock_test_and_set(&refusal->untold_bytes, 0);
	event = begin_event(&telling, refusal->event.shadow);
	if (!event) {
		count_lost(refusal->event.shadow == TG_SHADOW_NONE ? packets : 0);
		return;
	}
	*event = refusal->event;
	event->time_ns = now;
	event->packets = packets;
	event->bytes = bytes;
	end_event(&telling);
}

/* Remember a flow, and what its next packets are told by; false if it was known already. */
static __always_inline bool is_first(const struct tg_refusal_key *key, const struct passage *passage,
				     const struct ruling *ruling, __u8 cause)
{
	__u32 zero = 0;
	struct tg_refusal *fresh = bpf_map_lookup_elem(&fresh_refusal, &zero);

	if (!fresh)
		return true;
	describe(&fresh->event, passage, ruling);
	fresh->event.occasion = cause ? TG_OCCASION_AUDIT : TG_OCCASION_PACKET;
	fresh->event.shadow = key->shadow;
	fresh->event.cause = cause;
	fresh->told_ns = passage->now.ns;
	fresh->untold_packets = 0;
	fresh->untold_bytes = 0;
	return bpf_map_update_elem(&refusals, key, fresh, BPF_NOEXIST) != -EEXIST;
}

/* Add a refused packet to those of its flow; false if it is the first, and to be told by itself. `shadow`
 * and `cause`: whose opinion `ruling` is, and how it differs; none: it is in force. Not inline: the key gets
 * a stack of its own. */
static __noinline bool is_told(const struct passage *passage, const struct ruling *ruling, __u8 shadow,
			       __u8 cause)
{
	struct tg_refusal_key key = {};
	struct tg_refusal *known;

	refusal_key(&key, passage, ruling, shadow);
	known = bpf_map_lookup_elem(&refusals, &key);
	if (!known && !is_first(&key, passage, ruling, cause))
		known = bpf_map_lookup_elem(&refusals, &key);
	if (!known)
		return false;
	__sync_fetch_and_add(&known->untold_packets, 1);
	__sync_fetch_and_add(&known->untold_bytes, passage->skb->len);
	tell_sum_if_due(known, passage->now.ns);
	return true;
}

static __always_inline void tell_refusal(const struct passage *passage)
{
	if (!is_told(passage, &passage->ruling, TG_SHADOW_NONE, TG_CAUSE_NONE))
		emit(passage);
}

static long sweep_refusal(void *map, const void *key, struct tg_refusal *refusal, const __u64 *now)
{
	(void)map;
	(void)key;
	tell_sum_if_due(refusal, *now);
	return 0;
}

static __always_inline void sweep_refusals(void)
{
	__u64 now = read_clock().ns;

	bpf_for_each_map_elem(&refusals, sweep_refusal, &now, 0);
}

#endif
