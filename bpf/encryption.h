/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Pod packets between nodes: into the tunnel, out of it, and never beside it.
 *
 *     pod ──▶ from_pod marks it ──▶ a service's address is translated ──▶ routing rules ──▶ tunnel ──▶ link
 *                                                          to_uplink, beside the tunnel ──▶ ✗
 *     pod ◀── to_pod asks for the mark ◀── routing ◀── from_tunnel marks it ◀── link
 *                                          routing ◀── from_uplink marks it, too: in the clear ◀── link
 *
 * Holds always:
 * 1. In strict mode a packet between a pod here and one elsewhere passes only if it goes into a tunnel,
 *    or came out of one. Who stands elsewhere is a longest-prefix map that may hold whole blocks of pod
 *    addresses, so that an address nobody has heard of yet is not taken for the world's.
 *    An answer of a service bears the service's address when it reaches the pod, so what came in the clear
 *    from behind a pod's or service's address bears a mark from the moment it is here.
 * 2. `to_uplink` believes neither routes nor marks: whatever led a packet there, in the clear it ends there. A
 *    mark only tells more packets for pods', whose source was translated as well.
 * 3. A fragment in the clear never meets the fragments of a datagram that came out of a tunnel: put together,
 *    they would bear one mark.
 * 4. Switched off, it costs one array lookup.
 */
#ifndef TIDEGATE_ENCRYPTION_H
#define TIDEGATE_ENCRYPTION_H

#include "abi.h"
#include "maps.h"
#include "packet.h"
#include "policy.h"

static __always_inline __u32 encryption_flags(void)
{
	__u32 zero = 0;
	struct tg_encryption *in_force = bpf_map_lookup_elem(&encryption, &zero);

	return in_force ? in_force->flags : 0;
}

static __always_inline __u8 place_of(const struct tg_address *address)
{
	struct tg_prefix key = { .prefix_bits = IPV6_BITS, .address = *address };
	__u32 *place = bpf_map_lookup_elem(&pod_places, &key);

	return place ? *place : TG_PLACE_NO_POD;
}

static __always_inline bool is_elsewhere(__u8 place)
{
	return place == TG_PLACE_TUNNEL || place == TG_PLACE_UNREACHABLE;
}

static __always_inline bool is_pod(__u8 place)
{
	return place == TG_PLACE_HERE || is_elsewhere(place);
}

/* Does a tunnel lead there? */
static __always_inline bool is_behind_tunnel(__u8 place)
{
	return place == TG_PLACE_TUNNEL || place == TG_PLACE_NODE;
}

/* Where the other end of a packet is. Not inline: the key gets a stack of its own. */
static __noinline int find_place(const struct tg_address *remote)
{
	return place_of(remote);
}

/* Volatile: the compiler would store the one byte that changes, and the verifier wants the whole word. */
static __always_inline void put_mark(struct __sk_buff *skb, __u32 mark)
{
	volatile __u32 *whole = &skb->mark;

	*whole = (*whole & ~TG_MARK_MASK) | mark;
}

static __always_inline bool is_marked(const struct __sk_buff *skb, __u32 mark)
{
	return (skb->mark & TG_MARK_MASK) == mark;
}

/* Mark a packet of a pod that goes there; false if it cannot but go in the clear. */
static __always_inline bool lead_by_mark(struct __sk_buff *skb, __u8 place)
{
	if (place == TG_PLACE_UNREACHABLE)
		return false;
	if (is_behind_tunnel(place))
		put_mark(skb, TG_MARK_ENCRYPT);
	else if (!is_pod(place))
		put_mark(skb, TG_MARK_FROM_POD);   /* a service, perhaps, that its selector does not tell of */
	return true;
}

/* TG_FORWARDED, or why a packet whose other end is there must not go on. */
static __always_inline __u8 secure_by_place(struct __sk_buff *skb, __u8 place, __u8 direction,
					    __u32 flags)
{
	bool is_secure;

	if (!(flags & TG_ENCRYPTION_ON))
		return TG_FORWARDED;
	if (direction == TG_EGRESS)
		is_secure = lead_by_mark(skb, place);
	else
		is_secure = is_marked(skb, TG_MARK_DECRYPTED) ||
			    (!is_elsewhere(place) && !is_marked(skb, TG_MARK_IN_THE_CLEAR));
	return is_secure || !(flags & TG_ENCRYPTION_STRICT) ? TG_FORWARDED : TG_DROP_UNENCRYPTED;
}

/* Global, so that it is verified once and has a stack of its own. */
__noinline int secure_packet(struct __sk_buff *skb, const struct tg_address *remote, __u32 direction,
			     __u32 flags)
{
	if (!remote)
		return TG_DROP_UNENCRYPTED;
	return secure_by_place(skb, place_of(remote), direction, flags);
}

static __always_inline __u8 secure(struct __sk_buff *skb, const struct tg_address *remote,
				   __u8 direction)
{
	__u32 flags = encryption_flags();

	return flags & TG_ENCRYPTION_ON ? secure_packet(skb, remote, direction, flags) :
					  TG_FORWARDED;
}

/* Addresses of the IP packet that leaves; relative to its network header, as a device may have no
 * Ethernet one. False if there are none. */
static __always_inline bool read_ends(struct __sk_buff *skb, struct tg_address *source,
				      struct tg_address *destination)
{
	struct iphdr ip;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(ip), BPF_HDR_START_NET))
			return false;
		map_ipv4(source, ip.saddr);
		map_ipv4(destination, ip.daddr);
		return true;
	}
	return skb->protocol == bpf_htons(ETH_P_IPV6) &&
	       !bpf_skb_load_bytes_relative(skb, offsetof(struct ipv6hdr, saddr), source,
					    sizeof(*source), BPF_HDR_START_NET) &&
	       !bpf_skb_load_bytes_relative(skb, offsetof(struct ipv6hdr, daddr), destination,
					    sizeof(*destination), BPF_HDR_START_NET);
}

static __always_inline bool is_marked_from_pod(const struct __sk_buff *skb)
{
	__u32 mark = skb->mark & TG_MARK_MASK;

	return mark == TG_MARK_ENCRYPT || mark == TG_MARK_FROM_POD;
}

/* Does the packet travel from a pod to a pod elsewhere, or to a node as it should through a tunnel? The
 * tunnel's own packets are the nodes'. */
static __always_inline bool is_pod_traffic(struct __sk_buff *skb)
{
	struct tg_address source = {}, destination = {};
	__u8 place;

	if (!read_ends(skb, &source, &destination))
		return false;
	place = place_of(&destination);
	return (is_elsewhere(place) || place == TG_PLACE_NODE) &&
	       (is_pod(place_of(&source)) || is_marked_from_pod(skb));
}

/* Is all that follows the IP header one whole datagram or segment? */
static __always_inline bool is_plain(struct __sk_buff *skb)
{
	__be16 fragment;
	__u8 next;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		return !bpf_skb_load_bytes_relative(skb, offsetof(struct iphdr, frag_off), &fragment,
						    sizeof(fragment), BPF_HDR_START_NET) &&
		       !(fragment & bpf_htons(IP_FRAGMENTED));
	return !bpf_skb_load_bytes_relative(skb, offsetof(struct ipv6hdr, nexthdr), &next, sizeof(next),
					    BPF_HDR_START_NET) &&
	       (next == IPPROTO_TCP || next == IPPROTO_UDP || next == IPPROTO_ICMPV6 ||
		next == IPPROTO_SCTP);
}

/* Mark what comes in the clear from behind a pod's or service's address; false for what must not even wait
 * for the rest of its datagram. */
static __always_inline bool admit_in_the_clear(struct __sk_buff *skb)
{
	struct tg_address source = {}, destination = {};
	__u8 place;

	if (is_marked(skb, TG_MARK_DECRYPTED) || !read_ends(skb, &source, &destination))
		return true;
	place = place_of(&source);
	if (!is_elsewhere(place) && place != TG_PLACE_SERVICE)
		return true;
	put_mark(skb, TG_MARK_IN_THE_CLEAR);
	return is_plain(skb) || !is_pod(place_of(&destination));
}

#endif
