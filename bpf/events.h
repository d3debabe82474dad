/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What userspace is told: counters of every packet, an event for each verdict and each drop. */
#ifndef TIDEGATE_EVENTS_H
#define TIDEGATE_EVENTS_H

#include "abi.h"
#include "clock.h"
#include "encryption.h"
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
	__u32 redirect;                      /* the mark to go to the proxy with; zero: it does not */
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

/* Does it go into a tunnel, if its verdict lets it, or did it come out of one? */
static __always_inline bool travels_encrypted(const struct passage *passage)
{
	if (!(passage->encryption & TG_ENCRYPTION_ON))
		return false;
	if (passage->direction == TG_INGRESS)
		return (passage->skb->mark & TG_MARK_MASK) == TG_MARK_DECRYPTED;
	return passes(passage->ruling.verdict) && passage->place == TG_PLACE_TUNNEL;
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
	event->interface_index = passage->skb->ifindex;
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

/* NULL: no room. A shadow's opinions leave half of the ring to what is enforced. */
static __always_inline struct tg_event *reserve_event(__u8 shadow)
{
	if (shadow != TG_SHADOW_NONE &&
	    bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >
		    bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 2)
		return NULL;
	return bpf_ringbuf_reserve(&events, sizeof(struct tg_event), 0);
}

static __always_inline void emit(const struct passage *passage)
{
	struct tg_event *event = reserve_event(TG_SHADOW_NONE);

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
	bpf_ringbuf_submit(event, 0);
}

#endif
