/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Datagrams in fragments: only the first has ports, so the others are judged by what it said.
 *
 *     first, passed ──▶ fragments ──▶ later ones: the same ports, judged as any packet of the flow
 *
 * Holds always:
 * 1. A later fragment passes only behind a first one that passed, through the same endpoint, in the
 *    same direction, not long ago.
 * 2. It never begins before the first one's end: else it could rewrite the ports when the receiver
 *    puts the datagram together (RFC 1858, 3128, 5722).
 */
#ifndef TIDEGATE_FRAGMENTS_H
#define TIDEGATE_FRAGMENTS_H

#include "abi.h"
#include "conntrack.h"
#include "maps.h"
#include "packet.h"

/* `key` is zeroed. */
static __always_inline void fragment_key(struct tg_fragment_key *key, __u32 endpoint_id,
					 const struct packet *packet, __u8 direction)
{
	key->source = packet->source;
	key->destination = packet->destination;
	key->endpoint_id = endpoint_id;
	key->identification = packet->identification;
	key->protocol = packet->fragment_protocol;
	key->direction = direction;
}

/* Zero, or an error. Not inline, as the next: its key gets a stack of its own. */
static __noinline long remember_first(const struct packet *packet, __u32 endpoint_id,
					   __u64 now, __u8 direction)
{
	struct tg_fragment_key key = {};
	struct tg_first_fragment first = {
		.seen_ns = now,
		.payload_bytes = packet->fragment_bytes,
		.source_port = packet->source_port,
		.destination_port = packet->destination_port,
		.kind = packet->kind,
		.protocol = packet->protocol,
		.icmp_type = packet->icmp_type,
		.icmp_code = packet->icmp_code,
		.streams = packet->streams,
		.echo_reply = packet->echo_reply,
	};

	fragment_key(&key, endpoint_id, packet, direction);
	return bpf_map_update_elem(&fragments, &key, &first, BPF_ANY);
}

/* Complete a later fragment by what the first one said, or say why it is dropped. Not inline: its
 * key gets a stack of its own. */
static __noinline int recall_first(struct packet *packet, __u32 endpoint_id, __u64 now,
				   __u8 direction)
{
	struct tg_fragment_key key = {};
	struct tg_first_fragment *first;

	fragment_key(&key, endpoint_id, packet, direction);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first || (__s64)(now - first->seen_ns) > (__s64)settings.lifetime_fragments_ns)
		return TG_DROP_NO_FIRST_FRAGMENT;
	if (packet->fragment_offset < first->payload_bytes)
		return TG_DROP_FRAGMENT_OVERLAP;
	packet->source_port = first->source_port;
	packet->destination_port = first->destination_port;
	packet->kind = first->kind;
	packet->protocol = first->protocol;
	packet->icmp_type = first->icmp_type;
	packet->icmp_code = first->icmp_code;
	packet->streams = first->streams;
	packet->echo_reply = first->echo_reply;
	return TG_FORWARDED;
}

#endif
