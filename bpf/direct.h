/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a pod to another one here without the node's IP stack between them, where the agent is told to.
 *
 *     pod ──▶ from_pod ──▶ to_pod, called there ──▶ pod               each end judges
 *     pod ──▶ from_pod ─────────────────────────▶ pod               established at both (established.h)
 *     pod ──▶ from_pod ──▶ the other's interface: to_pod ──▶ pod      where that is no pair's end
 *
 * Holds always:
 * 1. The packet that opens a TCP connection decides for all of it, and both ends' flows note it: the node's own
 *    filters see the whole of a connection, or nothing. A service's address is no pod's, so what they have to
 *    translate, answers too, goes their way.
 * 2. A packet goes to an interface only if the kernel still has the very device that the agent meant, and the
 *    endpoint known behind it has the packet's destination: whoever comes after a pod that went gets nothing
 *    of it.
 * 3. Where anything is missing the packet takes the node's way.
 */
#ifndef TIDEGATE_DIRECT_H
#define TIDEGATE_DIRECT_H

#include <linux/if_packet.h>

#include "abi.h"
#include "encryption.h"
#include "endpoints.h"
#include "events.h"
#include "maps.h"
#include "packet.h"
#include "settings.h"

#define LAST_HOP 1

/* The head of a frame, as far as a router changes it, and the IPv4 header behind it. */
struct routed_head {
	struct tg_mac to;
	struct tg_mac from;
	__be16 ethertype;
	__u8 before_lifetime[8];
	__u8 lifetime;
	__u8 protocol;
	__u16 checksum;
};
_Static_assert(sizeof(struct routed_head) == 26, "no hidden padding");

#define ROUTED_MACS (2 * sizeof(struct tg_mac))

#define END_IS_PAIR 0x80000000           /* beside an interface's index */

/* Who is handed a packet for this address directly: the interface before that pod, and END_IS_PAIR if its other
 * end is in the pod. Zero: nobody. Global, as `parse_packet`. */
__noinline int find_end(struct __sk_buff *skb, const struct tg_address *destination, __u32 hop_limit)
{
	const struct tg_endpoint *endpoint;
	struct tg_address address;
	struct tg_local_end *held;
	__u32 interface;

	if (!destination || hop_limit <= LAST_HOP || skb->pkt_type != PACKET_HOST)
		return 0;
	address = *destination;          /* keys are on the stack: kernel 6.1 */
	held = bpf_map_lookup_elem(&local_ends, &address);
	if (!held)
		return 0;
	interface = held->interface_index;
	if (interface == skb->ifindex || !bpf_map_lookup_elem(&local_devices, &interface))
		return 0;
	endpoint = endpoint_behind(interface);
	if (!endpoint || !is_known_mac(&endpoint->mac) || !is_own_address(endpoint, &address))
		return 0;
	return interface | (held->flags & TG_LOCAL_END_PAIR ? END_IS_PAIR : 0);
}

static __always_inline __u32 interface_of(__u32 end)
{
	return end & ~END_IS_PAIR;
}

static __always_inline __u32 find_end_of(struct passage *passage)
{
	const struct packet *packet = &passage->packet;

	return find_end(passage->skb, &packet->destination, packet->hop_limit);
}

/* The packet that opens a flow: will all of it go directly? What comes so into a pod says it itself. Where the
 * setting says that nobody is handed to, the verifier takes the question out: a new flow pays nothing for it. */
static __always_inline bool opens_direct(struct passage *passage)
{
	const struct packet *packet = &passage->packet;

	if (passage->direction == TG_INGRESS)
		return is_marked(passage->skb, TG_MARK_DIRECT);
	if (settings.direct_delivery && packet->opens && packet->protocol == IPPROTO_TCP &&
	    packet->fragment == FRAGMENT_NONE && passage->ruling.verdict == TG_ALLOW)
		passage->end = find_end_of(passage);
	return passage->end;
}

/* A packet of a known flow goes as its opening did. */
static __always_inline void follow_direct(struct passage *passage,
					  const struct tg_conntrack_entry *entry)
{
	if (passage->direction == TG_EGRESS && (entry->flags & TG_CONNTRACK_DIRECT))
		passage->end = find_end_of(passage);
}

/* RFC 1624: the lifetime is the upper byte of its word. */
static __always_inline void lower_lifetime(struct routed_head *head)
{
	__u32 checksum = head->checksum + bpf_htons(0x0100);

	head->lifetime--;
	head->checksum = checksum + (checksum >= 0xffff);
}

/* Do what a router does for the pod behind an interface: its MAC, one's own, one hop less. False: the packet
 * is as it was, or one hop poorer. Global, as the above. */
__noinline int route_frame(struct __sk_buff *skb, __u32 interface)
{
	const __u32 hops_at = ETH_HLEN + offsetof(struct ipv6hdr, nexthdr);
	const struct tg_endpoint *endpoint = endpoint_behind(interface);
	struct routed_head head = {};
	__u8 hops[2];

	if (!endpoint || load_header(skb, 0, &head, sizeof(head)))
		return false;
	head.from = head.to;
	head.to = endpoint->mac;
	if (head.ethertype == bpf_htons(ETH_P_IP)) {
		lower_lifetime(&head);
		return !bpf_skb_store_bytes(skb, 0, &head, sizeof(head), 0);
	}
	hops[0] = ((__u8 *)&head)[hops_at];
	hops[1] = ((__u8 *)&head)[hops_at + 1] - 1;
	return !bpf_skb_store_bytes(skb, hops_at, hops, sizeof(hops), BPF_F_RECOMPUTE_CSUM) &&
	       !bpf_skb_store_bytes(skb, 0, &head, ROUTED_MACS, 0);
}

/* Towards the other pod, where it is judged as one that the node sends there. False: it could not be turned
 * that way. */
static __always_inline bool turn_to_end(struct __sk_buff *skb, __u32 end)
{
	if (!route_frame(skb, interface_of(end)))
		return false;
	note_pod_interface(skb, interface_of(end));
	skb->mark = TG_MARK_DIRECT | (end & END_IS_PAIR ? TG_DIRECT_INTO : 0);
	return true;
}

/* Which interface the packet reaches its pod by: the one that it is at, unless it is put into the pod from
 * the sender's. A mark that a process of the node forges leads nowhere: no packet enters a pod from where it is
 * judged then. */
static __always_inline bool is_put_into_pod(const struct __sk_buff *skb)
{
	return skb->mark == (TG_MARK_DIRECT | TG_DIRECT_INTO);
}

/* It has been turned to the other pod. The call does not come back, unless the programs that this one belongs to
 * have just been replaced: then nothing is in the map any more. */
static __always_inline int go_to_end(struct __sk_buff *skb)
{
	if (is_put_into_pod(skb))
		bpf_tail_call(skb, &into_pod, 0);
	skb->mark = TG_MARK_DIRECT;
	return bpf_redirect(pod_interface(skb), 0);
}

/* The kernel takes no mark off what is put into a pod. */
static __always_inline int enter_pod(struct __sk_buff *skb)
{
	skb->mark = 0;
	return bpf_redirect_peer(pod_interface(skb), 0);
}

#endif
