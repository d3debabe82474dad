/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows that were judged before.
 *
 *     first packet ──▶ half_open ── opener again, after an answer ──▶ conntrack
 *
 * Holds always:
 * 1. An entry belongs to one endpoint, and is judged in the direction it was opened in.
 * 2. A verdict and its revision change together, in one store.
 * 3. A flow found mid-stream lets nothing pass in the direction it was not seen in: else one
 *    retransmission would revive a revoked connection whose entry is gone.
 * 4. What nobody answered, or whose opener did not go on after the answer, takes no room from flows
 *    that did: who forges a million openings hears no answers, and stays in `half_open`.
 */
#ifndef TIDEGATE_CONNTRACK_H
#define TIDEGATE_CONNTRACK_H

#include "abi.h"
#include "maps.h"
#include "packet.h"

#define SECOND_NS 1000000000ULL

static __always_inline struct tg_judgement load_judgement(struct tg_conntrack_entry *entry)
{
	__u64 word = *(volatile __u64 *)&entry->judgement;
	struct tg_judgement judgement;

	__builtin_memcpy(&judgement, &word, sizeof(judgement));
	return judgement;
}

static __always_inline void store_judgement(struct tg_conntrack_entry *entry,
					    struct tg_judgement judgement)
{
	__u64 word;

	__builtin_memcpy(&word, &judgement, sizeof(word));
	*(volatile __u64 *)&entry->judgement = word;
}

/* Both directions of a flow have the same key; `key` is zeroed. */
static __always_inline void conntrack_key(struct tg_conntrack_key *key, __u32 endpoint_id,
					  const struct packet *packet, __u8 direction)
{
	bool out = direction == TG_EGRESS;

	key->endpoint_id = endpoint_id;
	key->remote = out ? packet->destination : packet->source;
	key->remote_port = out ? packet->destination_port : packet->source_port;
	key->local_port = out ? packet->source_port : packet->destination_port;
	key->protocol = packet->protocol;
	if (packet->protocol != IPPROTO_ICMP && packet->protocol != IPPROTO_ICMPV6)
		return;
	key->opener = out != (packet->echo_reply != 0) ? TG_OPENER_LOCAL : TG_OPENER_REMOTE;
}

/* What a flow with this key is judged by: the port of who did not open it, or the echo request. */
static __always_inline __u16 judged_port(const struct tg_conntrack_key *key, __u8 direction)
{
	if (key->protocol == IPPROTO_ICMP)
		return ICMP_ECHO_REQUEST;
	if (key->protocol == IPPROTO_ICMPV6)
		return ICMPV6_ECHO_REQUEST;
	return direction == TG_EGRESS ? key->remote_port : key->local_port;
}

static __always_inline __u64 lifetime_ns(const struct tg_conntrack_entry *entry, __u8 protocol)
{
	__u8 both = entry->forward_tcp_flags & entry->reply_tcp_flags;
	__u8 any = entry->forward_tcp_flags | entry->reply_tcp_flags;

	if (protocol != IPPROTO_TCP)
		return TG_LIFETIME_DATAGRAM * SECOND_NS;
	if ((any & TCP_FLAG_RST) || (both & TCP_FLAG_FIN))
		return TG_LIFETIME_TCP_CLOSED * SECOND_NS;
	if (!(entry->flags & (TG_CONNTRACK_REPLIED | TG_CONNTRACK_ONE_WAY)))
		return TG_LIFETIME_TCP_OPENING * SECOND_NS;
	return TG_LIFETIME_TCP * SECOND_NS;
}

/* Too old to speak for its flow? Another processor may have stored a later time. */
static __always_inline bool is_expired(const struct tg_conntrack_entry *entry, __u8 protocol,
				       __u64 now)
{
	return (__s64)(now - entry->last_seen_ns) > (__s64)lifetime_ns(entry, protocol);
}

/* The flow's entry, if it has one that is not expired, and which map it is of. A packet that `opens`
 * a flow starts a half-open one anew, so that it need not be found. */
static __always_inline struct tg_conntrack_entry *
find_entry(const struct tg_conntrack_key *key, __u64 now, bool opens, bool *is_half_open)
{
	struct tg_conntrack_entry *entry = bpf_map_lookup_elem(&conntrack, key);

	*is_half_open = !entry || is_expired(entry, key->protocol, now);
	if (!*is_half_open)
		return entry;
	if (opens)
		return NULL;
	entry = bpf_map_lookup_elem(&half_open, key);
	return entry && !is_expired(entry, key->protocol, now) ? entry : NULL;
}

/* Start a flow, or start it anew where it is. Zero, or an error. */
static __always_inline long insert_entry(const struct tg_conntrack_key *key,
					 const struct tg_conntrack_entry *entry, bool is_half_open)
{
	if (is_half_open)
		return bpf_map_update_elem(&half_open, key, entry, BPF_ANY);
	return bpf_map_update_elem(&conntrack, key, entry, BPF_ANY);
}

/* If there is no room the flow stays half open, where it can be evicted, but is judged alike. */
static __always_inline void promote_entry(const struct tg_conntrack_key *key,
					  struct tg_conntrack_entry *entry)
{
	struct tg_conntrack_entry moved = *entry;

	moved.judgement = load_judgement(entry);
	if (!bpf_map_update_elem(&conntrack, key, &moved, BPF_ANY))
		bpf_map_delete_elem(&half_open, key);
}

static __always_inline void see_entry(struct tg_conntrack_entry *entry, __u64 now, __u64 tick)
{
	entry->last_seen_ns = now;
	entry->last_seen_tick = tick;
}

static __always_inline void add_packet(struct tg_conntrack_entry *entry, __u32 bytes, bool is_reply)
{
	__sync_fetch_and_add(is_reply ? &entry->reply_packets : &entry->forward_packets, 1);
	__sync_fetch_and_add(is_reply ? &entry->reply_bytes : &entry->forward_bytes, bytes);
}

/* Account a packet that passes. Refused ones do not keep an entry alive. */
static __always_inline void touch_entry(struct tg_conntrack_entry *entry, __u64 now, __u32 bytes,
					__u8 tcp_flags, bool is_reply)
{
	see_entry(entry, now, bpf_jiffies64());
	add_packet(entry, bytes, is_reply);
	if (is_reply) {
		entry->reply_tcp_flags |= tcp_flags;
		entry->flags |= TG_CONNTRACK_REPLIED;
	} else {
		entry->forward_tcp_flags |= tcp_flags;
	}
}

/* Turn the packet inside an ICMP error into the packet that travelled the other way.
 * Returns false if it cannot be told which flow it was of. */
static __always_inline bool parse_quoted(struct __sk_buff *skb, const struct packet *error,
					 struct packet *quoted)
{
	__u32 at = error->l4_offset + sizeof(struct icmp_start);
	__be16 ports[4];

	if (error->protocol == IPPROTO_ICMP) {
		struct iphdr ip;

		if (load_header(skb, at, &ip, sizeof(ip)) || ip.version != 4 ||
		    ip.ihl < 5 || (ip.frag_off & bpf_htons(IP_OFFSET)))
			return false;
		map_ipv4(&quoted->source, ip.saddr);
		map_ipv4(&quoted->destination, ip.daddr);
		quoted->protocol = ip.protocol;
		at += ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (load_header(skb, at, &ip, sizeof(ip)) || ip.version != 6)
			return false;
		__builtin_memcpy(&quoted->source, &ip.saddr, sizeof(quoted->source));
		__builtin_memcpy(&quoted->destination, &ip.daddr, sizeof(quoted->destination));
		quoted->protocol = ip.nexthdr;
		at += sizeof(ip);
	}
	if (load_header(skb, at, ports, sizeof(ports)))
		return false;
	if (quoted->protocol == IPPROTO_TCP || quoted->protocol == IPPROTO_UDP ||
	    quoted->protocol == IPPROTO_SCTP) {
		quoted->source_port = bpf_ntohs(ports[0]);
		quoted->destination_port = bpf_ntohs(ports[1]);
		return true;
	}
	if (quoted->protocol != error->protocol)
		return false;
	/* Of the ICMPs only echo has flows: type in the first byte, identifier in the third word. */
	quoted->source_port = bpf_ntohs(ports[2]);
	quoted->destination_port = quoted->source_port;
	quoted->icmp_type = *(__u8 *)ports;
	quoted->echo_reply = quoted->icmp_type == (error->protocol == IPPROTO_ICMP ?
						   ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY);
	return quoted->echo_reply ||
	       quoted->icmp_type == (error->protocol == IPPROTO_ICMP ? ICMP_ECHO_REQUEST :
								       ICMPV6_ECHO_REQUEST);
}

#endif
