/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows whose requests the proxy judges: to it, from it, and never past it.
 *
 *     client ──▶ from_pod or to_pod ──▶ the proxy's device: to_proxy ──▶ the proxy's socket
 *                      marked: redirected, and the listener's port
 *     server ◀── to_pod, uplink ◀── marked by the proxy: from whom, as whose listener
 *
 * Both of the proxy's connections bear the addresses of the flow's own ends, so what is meant for the proxy
 * arrives at pods' interfaces like any other packet, and is known by its flow or by its socket.
 *
 * Holds always:
 * 1. A packet of a redirected flow goes to a socket of the proxy, or comes from one, or is dropped.
 * 2. A connection that the proxy did not accept, or accepted on a port that its flow left, goes to the
 *    listener, which does not know it, and so the kernel resets it.
 * 3. Marks are believed on the way to a pod only: a packet loses its mark when it leaves a pod's namespace.
 */
#ifndef TIDEGATE_REDIRECT_H
#define TIDEGATE_REDIRECT_H

#include "abi.h"
#include "conntrack.h"
#include "events.h"
#include "maps.h"
#include "packet.h"

#define PROXY_IPV4 0x7f000001            /* where it listens */
#define PROXY_IPV6_LAST 1
#define TCP_HEADER_WORDS 12              /* where a TCP header says its length */

static __always_inline __u32 mark_of(const struct __sk_buff *skb)
{
	return skb->mark & TG_MARK_MASK;
}

/* Did a socket of the proxy send it? */
static __always_inline bool is_from_proxy(__u32 mark)
{
	return mark == TG_MARK_PROXY_TO_SERVER || mark == TG_MARK_PROXY_TO_WORLD ||
	       mark == TG_MARK_PROXY_TO_OPENER || mark == TG_MARK_PROXY_TO_CLIENT;
}

/* Zero: there is no proxy. */
static __always_inline __u32 proxy_interface(void)
{
	__u32 zero = 0;
	struct tg_proxy *device = bpf_map_lookup_elem(&proxy, &zero);

	return device ? device->interface_index : 0;
}

static __always_inline struct bpf_sock *
find_socket(struct __sk_buff *skb, const struct tg_address *source, __u16 source_port,
	    const struct tg_address *destination, __u16 destination_port)
{
	struct bpf_sock_tuple ends = {};

	if (is_ipv4_mapped(source)) {
		ends.ipv4.saddr = source->words[3];
		ends.ipv4.daddr = destination->words[3];
		ends.ipv4.sport = bpf_htons(source_port);
		ends.ipv4.dport = bpf_htons(destination_port);
		return bpf_skc_lookup_tcp(skb, &ends, sizeof(ends.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(ends.ipv6.saddr, source, sizeof(*source));
	__builtin_memcpy(ends.ipv6.daddr, destination, sizeof(*destination));
	ends.ipv6.sport = bpf_htons(source_port);
	ends.ipv6.dport = bpf_htons(destination_port);
	return bpf_skc_lookup_tcp(skb, &ends, sizeof(ends.ipv6), BPF_F_CURRENT_NETNS, 0);
}

static __always_inline struct bpf_sock *find_listener(struct __sk_buff *skb,
						      const struct packet *packet, __u16 port)
{
	struct tg_address listens = {};

	if (is_ipv4_mapped(&packet->source))
		map_ipv4(&listens, bpf_htonl(PROXY_IPV4));
	else
		listens.words[3] = bpf_htonl(PROXY_IPV6_LAST);
	return find_socket(skb, &packet->source, packet->source_port, &listens, port);
}

/* Not inline, as the next: a socket's tuple gets a stack of its own. */
static __noinline int is_listening(struct __sk_buff *skb, const struct packet *packet, __u16 port)
{
	struct bpf_sock *socket = find_listener(skb, packet, port);
	bool listens = socket && socket->state == BPF_TCP_LISTEN;

	if (socket)
		bpf_sk_release(socket);
	return listens;
}

/* The state of the proxy's own socket that hears these ends; zero if there is none. Its mark tells it from
 * sockets of others on this node. */
static __noinline int proxy_socket_state(struct __sk_buff *skb, const struct tg_address *source,
					 __u16 source_port, const struct tg_address *destination,
					 __u16 destination_port)
{
	struct bpf_sock *found = find_socket(skb, source, source_port, destination,
					     destination_port);
	struct bpf_sock *whole;
	int state = 0;

	if (!found)
		return 0;
	whole = bpf_sk_fullsock(found);
	if (whole && is_from_proxy(whole->mark & TG_MARK_MASK))
		state = whole->state;
	bpf_sk_release(found);
	return state;
}

/* Is it an answer to a connection of the proxy's, of which no flow here is known? */
static __always_inline bool is_for_proxy(const struct passage *passage)
{
	const struct packet *packet = &passage->packet;

	return packet->protocol == IPPROTO_TCP && !packet->opens && proxy_interface() &&
	       proxy_socket_state(passage->skb, &packet->source, packet->source_port,
				  &packet->destination, packet->destination_port);
}

/* Did the proxy send the packet that an ICMP error quotes? */
static __always_inline bool is_by_proxy(struct __sk_buff *skb, const struct packet *quoted)
{
	return quoted->protocol == IPPROTO_TCP && proxy_interface() &&
	       proxy_socket_state(skb, &quoted->destination, quoted->destination_port,
				  &quoted->source, quoted->source_port);
}

/* May a new flow be redirected? Of one that is found mid-stream the proxy's sockets tell. */
static __always_inline bool has_proxy(const struct passage *passage)
{
	return proxy_interface() &&
	       (!passage->packet.opens || is_from_proxy(mark_of(passage->skb)) ||
		is_listening(passage->skb, &passage->packet, passage->ruling.proxy_port));
}

/* Does the proxy send it to a pod here, as the other end of this flow? */
static __always_inline bool is_for_pod(const struct __sk_buff *skb, __u8 direction, bool is_reply)
{
	__u32 from_proxy = is_reply ? TG_MARK_PROXY_TO_OPENER : TG_MARK_PROXY_TO_SERVER;

	return direction == TG_INGRESS && mark_of(skb) == from_proxy;
}

/* The mark of a packet on its way to the proxy. */
static __always_inline __u32 mark_towards_proxy(bool is_reply, bool is_cut, __u16 port)
{
	if (is_reply)
		return TG_MARK_REDIRECTED | TG_REDIRECT_BACK;
	return TG_MARK_REDIRECTED | (is_cut ? TG_REDIRECT_ANEW : 0) |
	       (__u32)port << TG_MARK_PORT_SHIFT;
}

static __always_inline void send_back(struct passage *passage)
{
	passage->ruling.verdict = TG_REDIRECT;
	passage->redirect = mark_towards_proxy(true, false, 0);
}

/* The answer of a proxy's socket that still waits after a connection of these ends, and was of a listener on
 * the other end's side (see give_to_connection): the client must see it, to end the waiting. It holds nothing
 * but numbers that this client knew before. */
static __always_inline bool is_from_waiting(const struct passage *passage)
{
	const struct packet *packet = &passage->packet;
	__u8 header_words;      /* in the upper half */

	return mark_of(passage->skb) == TG_MARK_PROXY_TO_CLIENT &&
	       packet->tcp_flags == TCP_FLAG_ACK &&
	       !bpf_skb_load_bytes(passage->skb, packet->l4_offset + TCP_HEADER_WORDS,
				   &header_words, sizeof(header_words)) &&
	       passage->skb->len == packet->l4_offset + (header_words >> 4) * 4;
}

/* Where a packet of a redirected flow goes on to: what the proxy sends, to the pod; all else, to the proxy. */
static __always_inline void steer(struct passage *passage, bool is_reply, bool is_cut)
{
	if (is_for_pod(passage->skb, passage->direction, is_reply) ||
	    (passage->direction == TG_INGRESS && is_reply && is_from_waiting(passage)))
		passage->ruling.verdict = TG_ALLOW;
	else
		passage->redirect =
			mark_towards_proxy(is_reply, is_cut, passage->ruling.proxy_port);
}

/* The same of a connection's middle. `redirect`: the mark of a packet that goes to the proxy, zero of one for the
 * pod. False if there is more to ask: of a flow that was cut, of what may come from a waiting socket. */
static __always_inline bool steer_established(const struct __sk_buff *skb,
					      const struct tg_conntrack_entry *entry,
					      __u8 direction, __u16 port, __u32 *redirect)
{
	bool is_reply = entry->direction != direction;

	*redirect = 0;
	if (is_for_pod(skb, direction, is_reply))
		return true;
	if ((entry->flags & TG_CONNTRACK_CUT) || mark_of(skb) == TG_MARK_PROXY_TO_CLIENT)
		return false;
	*redirect = mark_towards_proxy(is_reply, false, port);
	return true;
}

/* Of a flow into a pod only the opener's packets are seen here: the proxy answers it by another way. So the
 * proxy's socket says whether there was an answer, and the end that the opener asks for is the end. Forged,
 * it forgets a flow that the next packet finds again by its socket. Returns what the packet makes an event
 * of, or zero. */
static __always_inline __u8 follow_opener(const struct passage *passage,
					  struct tg_conntrack_entry *entry)
{
	const struct packet *packet = &passage->packet;

	if (!(entry->flags & TG_CONNTRACK_REPLIED) && !packet->opens &&
	    proxy_socket_state(passage->skb, &packet->source, packet->source_port,
			       &packet->destination,
			       packet->destination_port) == BPF_TCP_ESTABLISHED)
		entry->flags |= TG_CONNTRACK_REPLIED;
	if (!(packet->tcp_flags & (TCP_FLAG_FIN | TCP_FLAG_RST)))
		return 0;
	note_tcp_flags(entry, TCP_FLAG_FIN, true);
	return note_tcp_flags(entry, packet->tcp_flags, false);
}

/* What stays on this node on its way, to the proxy or from it, needs no tunnel; nor did it need one to come
 * here as the proxy's. */
static __always_inline bool needs_securing(const struct __sk_buff *skb, __u8 direction, __u32 redirect)
{
	return direction == TG_EGRESS ? !redirect : !is_from_proxy(mark_of(skb));
}

static __always_inline int redirect(struct __sk_buff *skb, __u32 mark)
{
	skb->mark = mark;
	return bpf_redirect(proxy_interface(), BPF_F_INGRESS);
}

#endif
