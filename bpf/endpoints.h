/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which pod is behind an interface, and which addresses and which MAC are its own. */
#ifndef TIDEGATE_ENDPOINTS_H
#define TIDEGATE_ENDPOINTS_H

#include "abi.h"
#include "maps.h"
#include "packet.h"

#define TG_NO_ENDPOINT 0xffffffff        /* beyond the last slot */

/* The interface before the pod that a packet is judged for, noted in the packet's room for programs: not always
 * the one that it is at (see direct.h). */
static __always_inline void note_pod_interface(struct __sk_buff *skb, __u32 interface)
{
	skb->cb[0] = interface;
}

static __always_inline __u32 pod_interface(const struct __sk_buff *skb)
{
	return skb->cb[0];
}

/* The agent may store another word meanwhile. */
static __always_inline struct tg_interface load_interface(const struct tg_interface *stored)
{
	__u64 word = *(volatile __u64 *)stored;
	struct tg_interface interface;

	__builtin_memcpy(&interface, &word, sizeof(interface));
	return interface;
}

/* NULL: nobody, and every packet is dropped. */
static __always_inline const struct tg_endpoint *endpoint_behind(__u32 interface)
{
	__u32 group = interface % TG_INTERFACE_GROUPS, slot = TG_NO_ENDPOINT;
	struct tg_interface_group *near = bpf_map_lookup_elem(&interfaces, &group);

	if (!near || interface == 0)             /* an empty word is of index zero */
		return NULL;
	for (__u32 i = 0; i < TG_INTERFACES_PER_GROUP; i++) {
		struct tg_interface held = load_interface(&near->held[i]);

		if (held.index == interface) {
			slot = held.slot;
			break;
		}
	}
	return bpf_map_lookup_elem(&endpoints, &slot);
}

static __always_inline bool is_own_address(const struct tg_endpoint *endpoint,
					   const struct tg_address *address)
{
	for (__u32 i = 0; i < TG_ENDPOINT_ADDRESSES; i++) {
		if (i < endpoint->address_count && same_address(&endpoint->addresses[i], address))
			return true;
	}
	return false;
}

static __always_inline bool same_mac(const struct tg_mac *a, const struct tg_mac *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] &&
	       a->words[2] == b->words[2];
}

static __always_inline bool is_known_mac(const struct tg_mac *mac)
{
	return mac->words[0] || mac->words[1] || mac->words[2];
}

/* Does the frame come from the pod's own MAC? One that is not known is not checked. */
static __always_inline bool has_own_mac(struct __sk_buff *skb, const struct tg_endpoint *endpoint)
{
	struct tg_mac sender;

	if (!is_known_mac(&endpoint->mac))
		return true;
	return !load_header(skb, ETH_ALEN, &sender, sizeof(sender)) &&
	       same_mac(&sender, &endpoint->mac);
}

#endif
