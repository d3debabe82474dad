/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows that were judged before.
 *
 *     first packet ──▶ half_open ── opener again, after an answer ──▶ conntrack (established)
 *
 * Holds always:
 * 1. An entry belongs to one endpoint, and is judged in the direction it was opened in.
 * 2. A verdict and its revision change together, in one store.
 * 3. A flow found mid-stream lets nothing pass in the direction it was not seen in: else one
 *    retransmission would revive a revoked connection whose entry is gone.
 * 4. What nobody answered, or whose opener did not go on after the answer, takes no room from flows
 *    that did: who forges a million openings hears no answers, and stays in `half_open`.
 * 5. Of an established TCP flow, neither a RST or FIN whose sequence number is a guess nor an opening
 *    shortens the entry's life.
 */
#ifndef TIDEGATE_CONNTRACK_H
#define TIDEGATE_CONNTRACK_H

#include "abi.h"
#include "clock.h"
#include "maps.h"
#include "packet.h"
#include "settings.h"

/* How far beyond what its receiver awaits a last segment may be, in blocks of 64 KiB: what was on the
 * way when the sender gave up. Who cannot hear the flow hits this once in four thousand guesses. */
#define TCP_BELIEVED_BLOCKS 16

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

/* Reset by one side, or finished by both. */
static __always_inline bool are_closed(__u8 forward_tcp_flags, __u8 reply_tcp_flags)
{
	return ((forward_tcp_flags | reply_tcp_flags) & TCP_FLAG_RST) ||
	       (forward_tcp_flags & reply_tcp_flags & TCP_FLAG_FIN);
}

static __always_inline bool is_closed(const struct tg_conntrack_entry *entry)
{
	return are_closed(entry->forward_tcp_flags, entry->reply_tcp_flags);
}

static __always_inline __u64 lifetime_ns(const struct tg_conntrack_entry *entry, __u8 protocol)
{
	if (protocol != IPPROTO_TCP)
		return settings.lifetime_datagram_ns;
	if (is_closed(entry))
		return settings.lifetime_tcp_closed_ns;
	if (!(entry->flags & (TG_CONNTRACK_ESTABLISHED | TG_CONNTRACK_ONE_WAY)))
		return settings.lifetime_tcp_opening_ns;
	return settings.lifetime_tcp_ns;
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

/* Its opener went on after an answer. If there is no room for it in `conntrack` it stays half open,
 * where it can be evicted, but is judged alike. Not inline: the copy gets a stack of its own. */
static __noinline int establish_entry(const struct tg_conntrack_key *key,
				      struct tg_conntrack_entry *entry, bool is_half_open)
{
	struct tg_conntrack_entry moved;

	if (!is_half_open) {
		entry->flags |= TG_CONNTRACK_ESTABLISHED;
		return 0;
	}
	moved = *entry;
	moved.judgement = load_judgement(entry);
	moved.flags |= TG_CONNTRACK_ESTABLISHED;
	if (!bpf_map_update_elem(&conntrack, key, &moved, BPF_ANY))
		bpf_map_delete_elem(&half_open, key);
	return 0;
}

/* Is an opening of this flow an old, late or forged one? To an established connection that nobody has
 * begun to close it is a packet like any other; its receiver answers as RFC 5961 says. */
static __always_inline bool goes_on(const struct tg_conntrack_entry *entry, __u8 direction)
{
	return (entry->flags & (TG_CONNTRACK_ESTABLISHED | TG_CONNTRACK_CUT)) ==
		       TG_CONNTRACK_ESTABLISHED && entry->direction == direction &&
	       !((entry->forward_tcp_flags | entry->reply_tcp_flags) &
		 (TCP_FLAG_FIN | TCP_FLAG_RST));
}

/* The flags to remember: the end of an established flow only if who says so knows where it is. */
static __always_inline __u8 believed_flags(const struct tg_conntrack_entry *entry,
					   const struct packet *packet, bool is_reply)
{
	__u16 awaited = is_reply ? entry->forward_awaits : entry->reply_awaits;
	__u16 beyond = (packet->tcp_sequence >> 16) - awaited;

	if (!(packet->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST)) ||
	    !(entry->flags & TG_CONNTRACK_ESTABLISHED) || beyond <= TCP_BELIEVED_BLOCKS)
		return packet->tcp_flags;
	return packet->tcp_flags & ~(TCP_FLAG_FIN | TCP_FLAG_RST);
}

static __always_inline bool is_redirected(struct tg_conntrack_entry *entry)
{
	return load_judgement(entry).verdict == TG_REDIRECT;
}

/* Its packets go to another listener from now on than the connection was accepted by, if by any. */
static __always_inline void cut_entry(struct tg_conntrack_entry *entry)
{
	entry->flags |= TG_CONNTRACK_CUT;
}

static __always_inline void see_entry(struct tg_conntrack_entry *entry, struct instant now)
{
	entry->last_seen_ns = now.ns;
	entry->last_seen_tick = now.tick;
}

static __always_inline void add_packet(struct tg_conntrack_entry *entry, __u32 bytes, bool is_reply)
{
	__sync_fetch_and_add(is_reply ? &entry->reply_packets : &entry->forward_packets, 1);
	__sync_fetch_and_add(is_reply ? &entry->reply_bytes : &entry->forward_bytes, bytes);
}

/* Note which block of the stream a side awaits next. */
static __always_inline void note_awaited(struct tg_conntrack_entry *entry, __u16 awaits,
					 bool is_reply)
{
	if (is_reply)
		entry->reply_awaits = awaits;
	else
		entry->forward_awaits = awaits;
}

/* Note the flags of a packet, and say what is news of them: of several processors that see the same, to
 * one. A closed flow has no news. */
static __always_inline __u8 note_tcp_flags(struct tg_conntrack_entry *entry, __u8 tcp_flags,
					   bool is_reply)
{
	union tcp_flags_word {
		struct {
			__u8 direction;
			__u8 flags;
			__u8 forward;
			__u8 reply;
		};
		__u32 word;
	} added = {}, before;

	_Static_assert(offsetof(struct tg_conntrack_entry, reply_tcp_flags) ==
		       offsetof(struct tg_conntrack_entry, direction) + 3, "in one word");
	if (!(tcp_flags & ~(is_reply ? entry->reply_tcp_flags : entry->forward_tcp_flags)))
		return 0;
	if (is_reply)
		added.reply = tcp_flags;
	else
		added.forward = tcp_flags;
	before.word = __sync_fetch_and_or((__u32 *)&entry->direction, added.word);
	if (are_closed(before.forward, before.reply))
		return 0;
	if (are_closed(before.forward | added.forward, before.reply | added.reply))
		return TG_OCCASION_CLOSED;
	tcp_flags &= ~(is_reply ? before.reply : before.forward);
	return tcp_flags & TCP_FLAGS_OF_CHANGE ? TG_OCCASION_FLAGS : 0;
}

/* Account a packet that passes; return what it makes an event of, or zero. Refused ones do not keep an
 * entry alive. */
static __always_inline __u8 touch_entry(struct tg_conntrack_entry *entry, struct instant now, __u32 bytes,
					const struct packet *packet, bool is_reply)
{
	__u8 tcp_flags = believed_flags(entry, packet, is_reply);

	see_entry(entry, now);
	add_packet(entry, bytes, is_reply);
	if (packet->tcp_flags & TCP_FLAG_ACK)
		note_awaited(entry, packet->tcp_awaits, is_reply);
	if (is_reply)
		entry->flags |= TG_CONNTRACK_REPLIED;
	return note_tcp_flags(entry, tcp_flags, is_reply);
}

/* Turn the packet inside an ICMP error into the packet that travelled the other way.
 * Returns false if it cannot be told which flow it was of. Not inline: a header gets a stack of its own. */
static __noinline bool parse_quoted(struct __sk_buff *skb, const struct packet *error,
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
