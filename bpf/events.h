/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What userspace is told: counters of every packet, an event for each verdict and each drop. */
#ifndef TIDEGATE_EVENTS_H
#define TIDEGATE_EVENTS_H

#include "abi.h"
#include "clock.h"
#include "encryption.h"
#include "endpoints.h"
#include "maps.h"
#include "packet.h"
#include "policy.h"

/* What is known of a packet on its way through the program. */
struct passage {
	struct __sk_buff *skb;
	struct packet packet;
	struct ruling ruling;
	struct instant now;
	struct tg_control control;
	__u32 endpoint_id;
	__u32 local_identity;
	__u8 direction;
	__u8 occasion;                       /* zero: nothing to tell */
	__u8 reply;
	__u8 encryption;                     /* its flags */
	__u8 place;                          /* of the other end, where encryption is on */
	__u8 is_tunnelled;                   /* its flow goes through a tunnel */
	__u32 redirect;                      /* the mark to go to the proxy with; zero: it does not */
	__u32 end;                           /* who it is handed to directly, as `find_end` says */
	const struct tg_conntrack_entry *closed;  /* the flow that the packet ends */
};

static __always_inline void count(__u32 index, __u32 bytes)
{
	struct tg_counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

/* An event that the ring has no room for. `refused`: how many refused packets it stood for. */
static __always_inline void count_lost(__u64 refused)
{
	__u32 index = TG_COUNTER_UNTOLD_REFUSALS;
	struct tg_counter *counter = bpf_map_lookup_elem(&counters, &index);

	count(TG_COUNTER_LOST_EVENTS, 0);
	if (counter)
		counter->packets += refused;
}

/* Does it go into a tunnel, if its verdict lets it, or did it come out of one? A pod's address is a better
 * witness than its flow; of a node's or a service's the flow is the only one. */
static __always_inline __u8 travels_encrypted(const struct passage *passage)
{
	if (!(passage->encryption & TG_ENCRYPTION_ON))
		return TG_ENCRYPTED_NO;
	if (passage->direction == TG_INGRESS)
		return is_marked(passage->skb, TG_MARK_DECRYPTED) ? TG_ENCRYPTED_YES :
								    TG_ENCRYPTED_NO;
	if (!passes(passage->ruling.verdict))
		return TG_ENCRYPTED_NO;
	if (is_pod(passage->place))
		return passage->place == TG_PLACE_TUNNEL ? TG_ENCRYPTED_YES : TG_ENCRYPTED_NO;
	if (passage->is_tunnelled || passage->place == TG_PLACE_NODE)
		return TG_ENCRYPTED_YES;
	return passage->place == TG_PLACE_SERVICE ? TG_ENCRYPTED_UNDECIDED : TG_ENCRYPTED_NO;
}

/* All but what the event is told for. */
static __always_inline void describe(struct tg_event *event, const struct passage *passage,
				     const struct ruling *ruling)
{
	const struct packet *packet = &passage->packet;

	event->time_ns = passage->now.ns;
	event->packets = 1;
	event->bytes = passage->skb->len;
	event->reply_packets = 0;
	event->reply_bytes = 0;
	event->source = packet->source;
	event->destination = packet->destination;
	event->endpoint_id = passage->endpoint_id;
	event->interface_index = pod_interface(passage->skb);
	event->local_identity = passage->local_identity;
	event->remote_identity = ruling->remote_identity;
	event->cookie = ruling->cookie;
	event->revision = passage->control.revision;
	event->source_port = packet->source_port;
	event->destination_port = packet->destination_port;
	event->protocol = packet->protocol;
	event->icmp_type = packet->icmp_type;
	event->icmp_code = packet->icmp_code;
	event->tcp_flags = packet->tcp_flags;
	event->direction = passage->direction;
	event->verdict = ruling->verdict;
	event->reason = ruling->reason;
	event->reply = passage->reply;
	event->encrypted = travels_encrypted(passage);
}

/* An event that is being written. */
struct telling {
	struct tg_event_ring *ring;
	struct tg_event_record *record;
	__u64 number;
};

/* Where to write the next event; NULL: no room. A shadow's opinions leave half of the ring to what is
 * enforced. Several programs may find the same last room: the spare records are for them. */
static __always_inline struct tg_event *begin_event(struct telling *telling, __u8 shadow)
{
	__u64 room = shadow != TG_SHADOW_NONE ? TG_EVENT_RECORDS / 2 :
						TG_EVENT_RECORDS - TG_EVENT_RECORDS_SPARE;
	__u32 zero = 0;
	struct tg_event_ring *ring = bpf_map_lookup_elem(&events, &zero);
	__u64 before;

	if (!ring || *(volatile __u64 *)&ring->begun - *(volatile __u64 *)&ring->taken >= room)
		return NULL;
	before = __sync_fetch_and_add(&ring->begun, 1);
	telling->ring = ring;
	telling->record = &ring->records[before & (TG_EVENT_RECORDS - 1)];
	telling->number = before + 1;
	return &telling->record->event;
}

/* The event is written: let the agent see it, and wake it if it sleeps. The exchange is a barrier on both
 * sides: no earlier store is seen later than the number, and `is_awaited` is not read before it is seen. So
 * either the agent, which looks again after it has set it, sees the event, or this sees that it is to ring.
 * A bell that is full has been heard. */
static __always_inline void end_event(const struct telling *telling)
{
	struct tg_event_ring *ring = telling->ring;

	__sync_lock_test_and_set(&telling->record->number, telling->number);
	if (*(volatile __u64 *)&ring->is_awaited && __sync_lock_test_and_set(&ring->is_awaited, 0))
		bpf_ringbuf_output(&event_bell, &ring->is_awaited, sizeof(ring->is_awaited),
				   BPF_RB_FORCE_WAKEUP);
}

static __always_inline void emit(const struct passage *passage)
{
	struct telling telling;
	struct tg_event *event = begin_event(&telling, TG_SHADOW_NONE);

	if (!event) {
		count_lost(!passes(passage->ruling.verdict));
		return;
	}
	describe(event, passage, &passage->ruling);
	event->occasion = passage->occasion;
	event->shadow = TG_SHADOW_NONE;
	event->cause = TG_CAUSE_NONE;
	if (passage->closed) {
		event->packets = passage->closed->forward_packets;
		event->bytes = passage->closed->forward_bytes;
		event->reply_packets = passage->closed->reply_packets;
		event->reply_bytes = passage->closed->reply_bytes;
	}
	end_event(&telling);
}

#endif
