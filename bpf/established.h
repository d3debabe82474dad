/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The short way of a packet whose flow needs no judging: most packets of most nodes take it.
 *
 *     headers where they usually lie ──▶ its own endpoint ──▶ its flow ──▶ counted, and on, or to the proxy
 *     to a pod here that it is handed to directly: the same at that end, and into the pod
 *
 * Holds always:
 * 1. It passes a packet or leaves it to the long way; it refuses none, and reports nothing.
 * 2. What it passes, the long way would pass too, and account alike. So every check of the long way that
 *    an established packet could fail stands here again.
 * 3. A flow's state stays: an opening, a first answer, a close, another revision are the long way's. What
 *    changes is its time, its sums, its place in the stream, and which flags without meaning were seen.
 * 4. What it puts into a pod directly would have passed at that pod's interface too, by the same checks.
 */
#ifndef TIDEGATE_ESTABLISHED_H
#define TIDEGATE_ESTABLISHED_H

#include "abi.h"
#include "conntrack.h"
#include "direct.h"
#include "encryption.h"
#include "endpoints.h"
#include "events.h"
#include "maps.h"
#include "packet.h"
#include "redirect.h"

#define IPV4_WITHOUT_OPTIONS 0x45        /* version and header length */
#define GO_TO_END 0x100                  /* no action of the kernel's: see go_to_end */

struct short_packet {
	struct tg_address source;
	struct tg_address destination;
	__u32 l4_offset;
	__u32 end;
	__u16 source_port;
	__u16 destination_port;
	__u16 tcp_awaits;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 hop_limit;
};

/* Neither options nor fragments. */
static __always_inline bool read_short_ipv4(void *at, void *data_end, struct short_packet *packet)
{
	const struct iphdr *ip = at;

	if ((void *)(ip + 1) > data_end || *(__u8 *)at != IPV4_WITHOUT_OPTIONS ||
	    (ip->frag_off & bpf_htons(IP_FRAGMENTED)))
		return false;
	map_ipv4(&packet->source, ip->saddr);
	map_ipv4(&packet->destination, ip->daddr);
	packet->protocol = ip->protocol;
	packet->hop_limit = ip->ttl;
	packet->l4_offset = ETH_HLEN + sizeof(*ip);
	packet->end = ETH_HLEN + bpf_ntohs(ip->tot_len);
	return true;
}

/* No extension headers. */
static __always_inline bool read_short_ipv6(void *at, void *data_end, struct short_packet *packet)
{
	const struct ipv6hdr *ip = at;

	if ((void *)(ip + 1) > data_end || ip->version != 6)
		return false;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
	packet->protocol = ip->nexthdr;
	packet->hop_limit = ip->hop_limit;
	packet->l4_offset = ETH_HLEN + sizeof(*ip);
	packet->end = packet->l4_offset + bpf_ntohs(ip->payload_len);
	return !is_ipv4_mapped(&packet->source) && !is_ipv4_mapped(&packet->destination);
}

/* The middle of a connection: an acknowledgement, and nothing that opens or ends it. */
static __always_inline bool read_short_tcp(void *at, void *data_end, struct short_packet *packet)
{
	const struct tcphdr *tcp = at;

	if ((void *)(tcp + 1) > data_end)
		return false;
	packet->tcp_flags = ((__u8 *)at)[13];
	if ((packet->tcp_flags & (TCP_FLAGS_OF_CHANGE | TCP_FLAG_ACK)) != TCP_FLAG_ACK)
		return false;
	packet->source_port = bpf_ntohs(tcp->source);
	packet->destination_port = bpf_ntohs(tcp->dest);
	packet->tcp_awaits = bpf_ntohl(tcp->ack_seq) >> 16;
	return tcp->doff * 4 >= sizeof(*tcp) &&
	       packet->l4_offset + tcp->doff * 4 <= packet->end;
}

static __always_inline bool read_short_udp(void *at, void *data_end, struct short_packet *packet)
{
	const struct udphdr *udp = at;

	if ((void *)(udp + 1) > data_end)
		return false;
	packet->source_port = bpf_ntohs(udp->source);
	packet->destination_port = bpf_ntohs(udp->dest);
	packet->tcp_awaits = 0;
	packet->tcp_flags = 0;
	return packet->l4_offset + sizeof(*udp) <= packet->end;
}

static __always_inline bool read_short_l4(void *at, void *data_end, struct short_packet *packet)
{
	if (packet->protocol == IPPROTO_TCP)
		return read_short_tcp(at, data_end, packet);
	return packet->protocol == IPPROTO_UDP && read_short_udp(at, data_end, packet);
}

/* False for whatever is not plain TCP or UDP, with its headers in the linear part of the buffer. A
 * length of zero (the kernel merged more than 64 KiB) fails by the header that does not fit in. */
static __always_inline bool read_short(struct __sk_buff *skb, struct short_packet *packet)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	void *ip = data + ETH_HLEN;
	bool is_read;

	if (ip > data_end || skb->vlan_present)
		return false;
	switch (((struct ethhdr *)data)->h_proto) {
	case bpf_htons(ETH_P_IP):
		is_read = read_short_ipv4(ip, data_end, packet) &&
			  read_short_l4(ip + sizeof(struct iphdr), data_end, packet);
		break;
	case bpf_htons(ETH_P_IPV6):
		is_read = read_short_ipv6(ip, data_end, packet) &&
			  read_short_l4(ip + sizeof(struct ipv6hdr), data_end, packet);
		break;
	default:
		return false;
	}
	return is_read && packet->end <= skb->len;
}

/* The flow's entry among those that were answered; NULL if it is not there. */
static __always_inline struct tg_conntrack_entry *
find_answered(__u32 endpoint_id, const struct short_packet *packet, bool out)
{
	struct tg_conntrack_key key = {
		.endpoint_id = endpoint_id,
		.remote = out ? packet->destination : packet->source,
		.remote_port = out ? packet->destination_port : packet->source_port,
		.local_port = out ? packet->source_port : packet->destination_port,
		.protocol = packet->protocol,
	};

	return bpf_map_lookup_elem(&conntrack, &key);
}

/* Does the flow's verdict stand, and let this packet pass? */
static __always_inline bool is_passing_now(const struct __sk_buff *skb,
					   struct tg_conntrack_entry *entry,
					   struct tg_control in_force, __u8 direction,
					   __u32 *to_proxy)
{
	struct tg_judgement judgement = load_judgement(entry);

	*to_proxy = 0;
	if (in_force.active == TG_NO_SLOT || judgement.revision != in_force.revision)
		return false;
	if (judgement.verdict == TG_REDIRECT)
		return steer_established(skb, entry, direction, judgement.proxy_port, to_proxy);
	return judgement.verdict == TG_ALLOW;
}

/* Is this the packet that makes the flow established, or answered? */
static __always_inline bool changes_state(const struct tg_conntrack_entry *entry, bool is_reply)
{
	if (!is_reply)
		return !(entry->flags & TG_CONNTRACK_ESTABLISHED);
	return (entry->flags & (TG_CONNTRACK_REPLIED | TG_CONNTRACK_ONE_WAY)) !=
	       TG_CONNTRACK_REPLIED;
}

/* Note the time; false if the entry is too old to speak for its flow. The clock is asked once a tick: it
 * costs as much as a third of the map lookup. */
static __always_inline bool keep_alive(struct tg_conntrack_entry *entry, __u8 protocol)
{
	__u32 tick = bpf_jiffies64();
	struct instant now;

	if (entry->last_seen_tick == tick)
		return true;
	now = read_clock();
	if (is_expired(entry, protocol, now.ns))
		return false;
	see_entry(entry, now);
	return true;
}

/* The flow by which the packet passes at this endpoint; NULL if that is the long way's to say. `to_proxy`: as
 * `redirect` of steer_established. */
static __always_inline struct tg_conntrack_entry *
find_passing(struct __sk_buff *skb, const struct tg_endpoint *endpoint,
	     const struct short_packet *packet, struct tg_control in_force, __u8 direction,
	     __u32 *to_proxy)
{
	bool out = direction == TG_EGRESS;
	struct tg_conntrack_entry *entry = find_answered(endpoint->id, packet, out);

	if (!entry || !is_passing_now(skb, entry, in_force, direction, to_proxy) ||
	    changes_state(entry, entry->direction != direction) ||
	    !keep_alive(entry, packet->protocol) ||
	    (needs_securing(skb, direction, *to_proxy) &&
	     secure(skb, out ? &packet->destination : &packet->source, direction)))
		return NULL;
	return entry;
}

static __always_inline void account(struct tg_conntrack_entry *entry,
				    const struct short_packet *packet, __u32 bytes, __u8 direction)
{
	bool is_reply = entry->direction != direction;

	note_awaited(entry, packet->tcp_awaits, is_reply);
	note_tcp_flags(entry, packet->tcp_flags, is_reply);   /* none of change: nothing to tell */
	add_packet(entry, bytes, is_reply);
	count(TG_FORWARDED * 2 + direction, bytes);
}

/* Hand the packet over to a pod here: into it if it passes there by the same checks, else to be judged there.
 * Global, as `parse_packet`. */
__noinline int hand_over_established(struct __sk_buff *skb, const struct short_packet *packet,
				     const struct tg_control *in_force, __u32 end)
{
	struct tg_conntrack_entry *there = NULL;
	const struct tg_endpoint *endpoint;
	__u32 to_proxy = 0;

	if (!packet || !in_force || !turn_to_end(skb, end))
		return TC_ACT_UNSPEC;
	endpoint = endpoint_behind(interface_of(end));
	if (endpoint && (end & END_IS_PAIR))
		there = find_passing(skb, endpoint, packet, *in_force, TG_INGRESS, &to_proxy);
	if (!there || to_proxy)
		return GO_TO_END;
	account(there, packet, skb->len, TG_INGRESS);
	return enter_pod(skb);
}

/* True if the packet passes, and is accounted; `action` is what becomes of it. Else nothing has happened
 * yet. */
static __always_inline bool pass_established(struct __sk_buff *skb, __u8 direction, int *action)
{
	bool out = direction == TG_EGRESS;
	struct tg_conntrack_entry *entry;
	struct short_packet packet;
	const struct tg_endpoint *endpoint;
	struct tg_control in_force;
	__u32 to_proxy, end = 0;

	if (!read_short(skb, &packet) || !load_control(&in_force))
		return false;
	endpoint = endpoint_behind(pod_interface(skb));
	if (!endpoint ||
	    (out && (!has_own_mac(skb, endpoint) || !is_own_address(endpoint, &packet.source))))
		return false;
	entry = find_passing(skb, endpoint, &packet, in_force, direction, &to_proxy);
	if (!entry)
		return false;
	account(entry, &packet, skb->len, direction);
	if (to_proxy) {
		*action = redirect(skb, to_proxy);
		return true;
	}
	if (out && (entry->flags & TG_CONNTRACK_DIRECT))
		end = find_end(skb, &packet.destination, packet.hop_limit);
	*action = end ? hand_over_established(skb, &packet, &in_force, end) : TC_ACT_UNSPEC;
	return true;
}

#endif
