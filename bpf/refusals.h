/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Refused packets, told so that a flood of them does not fill the ring.
 *
 *     first of a flow ──▶ told at once
 *     the others      ──▶ added up ──▶ told by the next one after a second, or by the agent's sweep
 *
 * Holds always:
 * 1. Of one flow, reason and revision: packets told + untold = packets refused. What is evicted untold,
 *    or told by an event that was lost, is in the drop counters, which count every packet.
 */
#ifndef TIDEGATE_REFUSALS_H
#define TIDEGATE_REFUSALS_H

#include "abi.h"
#include "events.h"
#include "maps.h"

static __always_inline void refusal_key(struct tg_refusal_key *key, const struct passage *passage)
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
	key->reason = passage->ruling.reason;
}

/* Tell what has been added up, if the last event is a second old. Of several processors that find it
 * so, one tells. */
static __always_inline void tell_sum_if_due(struct tg_refusal *refusal, __u64 now)
{
	__u64 told = *(volatile __u64 *)&refusal->told_ns;
	struct tg_event *event;
	__u64 packets, bytes;

	if ((__s64)(now - told) < (__s64)TG_REFUSAL_INTERVAL_NS ||
	    !*(volatile __u64 *)&refusal->untold_packets ||
	    __sync_val_compare_and_swap(&refusal->told_ns, told, now) != told)
		return;
	packets = __sync_lock_test_and_set(&refusal->untold_packets, 0);
	bytes = __sync_lock_test_and_set(&refusal->untold_bytes, 0);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count_lost(packets);
		return;
	}
	*event = refusal->event;
	event->time_ns = bpf_ktime_get_ns();
	event->packets = packets;
	event->bytes = bytes;
	event->occasion = TG_OCCASION_PACKET;
	event->shadow = TG_SHADOW_NONE;
	event->cause = TG_CAUSE_NONE;
	bpf_ringbuf_submit(event, 0);
}

/* Remember that a flow is refused; false if it was known already. */
static __always_inline bool is_first_refusal(const struct tg_refusal_key *key,
					     const struct passage *passage)
{
	__u32 zero = 0;
	struct tg_refusal *fresh = bpf_map_lookup_elem(&fresh_refusal, &zero);

	if (!fresh)
		return true;
	describe(&fresh->event, passage, &passage->ruling);
	fresh->told_ns = passage->now;
	fresh->untold_packets = 0;
	fresh->untold_bytes = 0;
	return bpf_map_update_elem(&refusals, key, fresh, BPF_NOEXIST) != -EEXIST;
}

/* Not inline: the key gets a stack of its own. */
static __noinline int tell_refusal(const struct passage *passage)
{
	struct tg_refusal_key key = {};
	struct tg_refusal *known;

	refusal_key(&key, passage);
	known = bpf_map_lookup_elem(&refusals, &key);
	if (!known && !is_first_refusal(&key, passage))
		known = bpf_map_lookup_elem(&refusals, &key);
	if (!known) {
		emit(passage);
		return 0;
	}
	__sync_fetch_and_add(&known->untold_packets, 1);
	__sync_fetch_and_add(&known->untold_bytes, passage->skb->len);
	tell_sum_if_due(known, passage->now);
	return 0;
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
	__u64 now = bpf_ktime_get_coarse_ns();

	bpf_for_each_map_elem(&refusals, sweep_refusal, &now, 0);
}

#endif
