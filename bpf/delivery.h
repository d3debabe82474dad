/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* On the proxy's device: redirected packets find their socket, or end.
 *
 *     its mark ──▶ the proxy's connection of these very ends ──▶ else the listener it names ──▶ else dropped
 *
 * Holds always:
 * 1. Whatever bears no mark of ours, or finds no socket, goes no further.
 * 2. What says that it answers the proxy opens nothing; what was cut off goes on as no connection.
 */
#ifndef TIDEGATE_DELIVERY_H
#define TIDEGATE_DELIVERY_H

#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#include "abi.h"
#include "established.h"
#include "events.h"
#include "packet.h"
#include "redirect.h"

/* Hand the packet to a socket, and let that one go. */
static __always_inline bool hand_over(struct __sk_buff *skb, struct bpf_sock *socket)
{
	long failed = bpf_sk_assign(skb, socket, 0);

	bpf_sk_release(socket);
	return !failed;
}

/* Let an opening look like a segment of the connection that was before it. */
static __always_inline bool as_former(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 offset = packet->l4_offset + offsetof(struct tcphdr, ack_seq) + sizeof(__be32);
	__be16 opening, former;

	if (bpf_skb_load_bytes(skb, offset, &opening, sizeof(opening)))
		return false;
	former = (opening & ~bpf_htons(TCP_FLAG_SYN)) | bpf_htons(TCP_FLAG_ACK);
	return !bpf_l4_csum_replace(skb, packet->l4_offset + offsetof(struct tcphdr, check),
				    opening, former, sizeof(former)) &&
	       !bpf_skb_store_bytes(skb, offset, &former, sizeof(former), 0);
}

/* To the socket of a connection that goes on. Not inline, as the next two: a tuple gets a stack of its own. */
static __noinline int give_to_established(struct __sk_buff *skb, const struct short_packet *packet)
{
	struct bpf_sock *socket = find_socket(skb, &packet->source, packet->source_port,
					      &packet->destination, packet->destination_port);

	if (!socket)
		return false;
	if (socket->state == BPF_TCP_LISTEN) {
		bpf_sk_release(socket);
		return false;
	}
	return hand_over(skb, socket);
}

/* The socket of this very connection. Between two ends of which one still waits after their last connection
 * (TIME-WAIT) the kernel makes no new one for a listener that does not bear their address: it drops the
 * opening without a word, for a minute. So the waiting socket is asked first. It answers what it awaits, the
 * client knows of no such connection and resets it (RFC 9293, 3.10.7.3), that ends the waiting, and the
 * client's next opening, some milliseconds later, finds the way free. */
static __noinline int give_to_connection(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_sock *socket = find_socket(skb, &packet->source, packet->source_port,
					      &packet->destination, packet->destination_port);

	if (!socket)
		return false;
	if (socket->state == BPF_TCP_LISTEN ||
	    (packet->opens && socket->state == BPF_TCP_TIME_WAIT && !as_former(skb, packet))) {
		bpf_sk_release(socket);
		return false;
	}
	return hand_over(skb, socket);
}

static __noinline int give_to_listener(struct __sk_buff *skb, const struct packet *packet,
				       __u16 port)
{
	struct bpf_sock *socket = find_listener(skb, packet, port);

	if (!socket)
		return false;
	if (socket->state != BPF_TCP_LISTEN) {
		bpf_sk_release(socket);
		return false;
	}
	return hand_over(skb, socket);
}

/* A redirected packet has arrived on the proxy's device. False: nobody takes it. Of an ICMP error the
 * kernel finds the socket by what it quotes. */
static __always_inline bool deliver(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;
	struct packet packet = {};

	if (parse_packet(skb, &packet) || packet.fragment != FRAGMENT_NONE ||
	    bpf_skb_change_type(skb, PACKET_HOST))
		return false;
	if (packet.kind == PACKET_ICMP_ERROR)
		return true;
	if (packet.kind != PACKET_FLOW || packet.protocol != IPPROTO_TCP)
		return false;
	if (!(mark & TG_REDIRECT_ANEW) && give_to_connection(skb, &packet))
		return true;
	return !(mark & TG_REDIRECT_BACK) &&
	       give_to_listener(skb, &packet, mark >> TG_MARK_PORT_SHIFT);
}

/* The same for the middle of a connection, with less to read. */
static __always_inline bool deliver_established(struct __sk_buff *skb)
{
	struct short_packet packet;

	return !(skb->mark & TG_REDIRECT_ANEW) && read_short(skb, &packet) &&
	       packet.protocol == IPPROTO_TCP && !bpf_skb_change_type(skb, PACKET_HOST) &&
	       give_to_established(skb, &packet);
}

/* The device's own chatter, such as that of IPv6, ends here too, but is no flow's loss. */
static __always_inline int deliver_or_drop(struct __sk_buff *skb)
{
	bool is_redirected = mark_of(skb) == TG_MARK_REDIRECTED;

	if (is_redirected && (deliver_established(skb) || deliver(skb)))
		return TC_ACT_UNSPEC;
	if (is_redirected)
		count(TG_DROP_NO_PROXY * 2 + TG_INGRESS, skb->len);
	return TC_ACT_SHOT;
}

#endif
