/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ARP and IPv6 neighbour discovery: who may say which MAC is behind which address.
 *
 * Holds always:
 * 1. What is not well formed is dropped, in both directions.
 * 2. A pod claims its own addresses only, and only for the MAC that its frame comes from. (That this
 *    is the pod's own MAC, where it is known, was checked before, as for every frame.)
 * 3. A pod poses neither as a router nor as one who redirects.
 */
#ifndef TIDEGATE_NEIGHBOURS_H
#define TIDEGATE_NEIGHBOURS_H

#include "abi.h"
#include "endpoints.h"
#include "packet.h"

#define ARP_HARDWARE_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define ND_TARGET_OFFSET 8
#define ND_SOLICITATION_OPTIONS 8        /* of a router's; the others have a target before them */
#define ND_ADVERTISEMENT_OPTIONS 16      /* of a router's */
#define ND_OPTIONS 24
#define ND_OPTIONS_AT_MOST 8
#define ND_OPTION_SOURCE_MAC 1
#define ND_OPTION_TARGET_MAC 2

struct arp_ipv4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_bytes;
	__u8 protocol_bytes;
	__be16 operation;
	struct tg_mac sender_mac;
	__be32 sender;
	struct tg_mac target_mac;
	__be32 target;
} __attribute__((packed, aligned(2)));

struct neighbour_option {
	__u8 type;
	__u8 words;                      /* of eight bytes, this header included */
	struct tg_mac mac;
};

/* A pod may probe for an address (RFC 5227: from 0.0.0.0), but claim its own only. */
static __always_inline __u8 check_arp(struct __sk_buff *skb, struct packet *packet,
				      const struct tg_endpoint *endpoint,
				      const struct tg_mac *sender, __u8 direction)
{
	struct arp_ipv4 arp;

	if (load_header(skb, ETH_HLEN, &arp, sizeof(arp)))
		return TG_DROP_TRUNCATED;
	if (arp.hardware != bpf_htons(ARP_HARDWARE_ETHERNET) ||
	    arp.protocol != bpf_htons(ETH_P_IP) || arp.protocol_bytes != sizeof(arp.sender) ||
	    arp.hardware_bytes != ETH_ALEN ||
	    (arp.operation != bpf_htons(ARP_REQUEST) && arp.operation != bpf_htons(ARP_REPLY)))
		return TG_DROP_INVALID_NEIGHBOUR;
	map_ipv4(&packet->source, arp.sender);
	map_ipv4(&packet->destination, arp.target);
	if (direction == TG_INGRESS)
		return TG_FORWARDED;
	if (!same_mac(&arp.sender_mac, sender))
		return TG_DROP_NEIGHBOUR_MAC;
	if (arp.sender == 0 && arp.operation == bpf_htons(ARP_REQUEST))
		return TG_FORWARDED;
	return is_own_address(endpoint, &packet->source) ? TG_FORWARDED :
							   TG_DROP_NEIGHBOUR_ADDRESS;
}

/* Options fill the message to its end. A link-layer one names the MAC the frame comes from. */
static __always_inline __u8 check_options(struct __sk_buff *skb, const struct packet *packet,
					  __u32 offset, const struct tg_mac *sender,
					  __u8 direction)
{
	__u32 at = packet->l4_offset + offset;
	struct neighbour_option option;

	for (int i = 0; i < ND_OPTIONS_AT_MOST && at < packet->end; i++) {
		if (at + sizeof(option) > packet->end ||
		    load_header(skb, at, &option, sizeof(option)))
			return TG_DROP_TRUNCATED;
		if (option.words == 0)
			return TG_DROP_INVALID_NEIGHBOUR;
		if (option.type == ND_OPTION_SOURCE_MAC || option.type == ND_OPTION_TARGET_MAC) {
			if (option.words != 1)
				return TG_DROP_INVALID_NEIGHBOUR;
			if (direction == TG_EGRESS && !same_mac(&option.mac, sender))
				return TG_DROP_NEIGHBOUR_MAC;
		}
		at += option.words * 8;
	}
	return at == packet->end ? TG_FORWARDED : TG_DROP_INVALID_NEIGHBOUR;
}

static __always_inline __u32 options_offset(__u8 icmp_type)
{
	if (icmp_type == ND_ROUTER_SOLICITATION)
		return ND_SOLICITATION_OPTIONS;
	return icmp_type == ND_ROUTER_ADVERTISEMENT ? ND_ADVERTISEMENT_OPTIONS : ND_OPTIONS;
}

static __always_inline __u8 check_discovery(struct __sk_buff *skb, const struct packet *packet,
					    const struct tg_endpoint *endpoint,
					    const struct tg_mac *sender, __u8 direction)
{
	__u32 options = options_offset(packet->icmp_type);
	struct tg_address target;
	__u8 reason;

	if (packet->l4_offset + options > packet->end)
		return TG_DROP_TRUNCATED;
	if (direction == TG_EGRESS) {
		if (!is_unspecified(&packet->source) && !is_link_local(&packet->source) &&
		    !is_own_address(endpoint, &packet->source))
			return TG_DROP_INVALID_SOURCE_IP;
		if (packet->icmp_type == ND_ROUTER_ADVERTISEMENT)
			return TG_DROP_ROUTER_ADVERTISEMENT;
	}
	reason = check_options(skb, packet, options, sender, direction);
	if (reason || direction == TG_INGRESS || packet->icmp_type != ND_NEIGHBOUR_ADVERTISEMENT)
		return reason;
	if (load_header(skb, packet->l4_offset + ND_TARGET_OFFSET, &target, sizeof(target)))
		return TG_DROP_TRUNCATED;
	return is_link_local(&target) || is_own_address(endpoint, &target) ?
	       TG_FORWARDED : TG_DROP_NEIGHBOUR_ADDRESS;
}

/* Why the message is dropped, if it is. A global function, verified by itself: see `parse_packet`. */
__noinline int check_neighbour(struct __sk_buff *skb, struct packet *packet,
			       const struct tg_endpoint *endpoint, __u8 direction)
{
	struct tg_mac sender;

	if (!packet || !endpoint || load_header(skb, ETH_ALEN, &sender, sizeof(sender)))
		return TG_DROP_INVALID_NEIGHBOUR;
	if (packet->kind == PACKET_ARP)
		return check_arp(skb, packet, endpoint, &sender, direction);
	return check_discovery(skb, packet, endpoint, &sender, direction);
}

#endif
