/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to a packet: who sends what to whom. Whatever cannot be read has a drop reason.
 *
 * Lengths are checked against the IP header as well as against the buffer: padding is no payload.
 */
#ifndef TIDEGATE_PACKET_H
#define TIDEGATE_PACKET_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "settings.h"

#define IP_FRAGMENTED 0x3fff             /* more-fragments bit and offset */
#define IP_MORE 0x2000
#define IP_OFFSET 0x1fff                 /* in units of 8 bytes */
#define IPV6_MORE 0x0001
#define IPV6_OFFSET 0xfff8               /* in bytes, as it stands */
#define IP_DATAGRAM_BYTES 0xffff
#define IP_OPTION_BYTES 40
#define IP_OPTION_END 0
#define IP_OPTION_NOTHING 1
#define IP_OPTION_LOOSE_ROUTE 131
#define IP_OPTION_STRICT_ROUTE 137
#define IPV6_EXTENSIONS 6                /* more than any honest packet carries */
#define SCTP_CHUNK_INIT 1
#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PARAMETER_PROBLEM 4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
#define TCP_FLAG_FIN 0x01
#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_RST 0x04
#define TCP_FLAG_ACK 0x10
#define TCP_FLAGS_OF_CHANGE (TCP_FLAG_SYN | TCP_FLAG_FIN | TCP_FLAG_RST)
#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_NEIGHBOUR_ADVERTISEMENT 136
#define ND_HOP_LIMIT 255                 /* a router would have lowered it: the sender is on-link */

enum packet_kind {
	PACKET_FLOW,                     /* has ports, or an echo identifier */
	PACKET_ICMP,                     /* judged by its type, each for itself */
	PACKET_ICMP_ERROR,               /* may speak of a known flow */
	PACKET_ARP,
	PACKET_NEIGHBOUR,                /* IPv6 neighbour discovery */
	PACKET_UNJUDGED,                 /* neither: its ethertype is configured to pass */
};

/* A later fragment has neither ports nor flags: `recall_first` tells what the first one said. */
enum packet_fragment {
	FRAGMENT_NONE,
	FRAGMENT_FIRST,
	FRAGMENT_LATER,
};

/* `opens`: the packet can only be the first of a connection. `streams`: it belongs to a protocol
 * that has such packets. For echo messages both ports are the identifier. */
struct packet {
	struct tg_address source;
	struct tg_address destination;
	__u32 l4_offset;
	__u32 end;                       /* offset behind the last byte, by the IP header */
	__be32 identification;           /* of a fragment's datagram, as the next three */
	__u32 fragment_offset;
	__u32 fragment_bytes;
	__u8 fragment_protocol;
	__u8 fragment;
	__u32 tcp_sequence;
	__u16 tcp_awaits;                /* the upper half of what the segment acknowledges */
	__u16 source_port;
	__u16 destination_port;
	__u8 kind;
	__u8 protocol;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 tcp_flags;
	__u8 hop_limit;
	__u8 opens;
	__u8 streams;
	__u8 echo_reply;
};

struct ip_option {
	__u8 type;
	__u8 bytes;                      /* this header included; END and NOTHING have none */
};

struct ipv6_extension {
	__u8 following;
	__u8 words;                      /* of eight bytes, beyond the first */
	__u8 routing_type;
	__u8 segments_left;              /* of a routing header: addresses still to be visited */
};

struct ipv6_fragment {
	__u8 following;
	__u8 reserved;
	__be16 offset_and_more;
	__be32 identification;
};

struct sctp_start {
	__be16 source;
	__be16 destination;
	__be32 tag;
	__be32 checksum;
	__u8 chunk_type;
	__u8 chunk_flags;
	__be16 chunk_length;
};

/* The first eight bytes of both ICMPs are alike. Defined here, as <linux/icmp.h> drags in libc. */
struct icmp_start {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 echo_identifier;
	__be16 echo_sequence;
};

/* Without a branch for each word. */
static __always_inline bool same_address(const struct tg_address *a, const struct tg_address *b)
{
	return !((a->words[0] ^ b->words[0]) | (a->words[1] ^ b->words[1]) |
		 (a->words[2] ^ b->words[2]) | (a->words[3] ^ b->words[3]));
}

static __always_inline void map_ipv4(struct tg_address *to, __be32 address)
{
	to->words[0] = 0;
	to->words[1] = 0;
	to->words[2] = bpf_htonl(0xffff);
	to->words[3] = address;
}

static __always_inline bool is_ipv4_mapped(const struct tg_address *a)
{
	return a->words[0] == 0 && a->words[1] == 0 && a->words[2] == bpf_htonl(0xffff);
}

static __always_inline bool is_link_local(const struct tg_address *a)
{
	return (a->words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_unspecified(const struct tg_address *a)
{
	return a->words[0] == 0 && a->words[1] == 0 && a->words[2] == 0 && a->words[3] == 0;
}

/* Beyond this the verifier follows no packet pointer. */
#define DIRECT_ACCESS_BYTES 0x3fff

/* Copy a header out; nonzero if the packet ends before it does. Headers nearly always lie in the
 * linear part of the buffer, where they are read without a call: a call costs more than the rest of
 * the parser. What lies elsewhere, the helper reads. */
static __always_inline long load_header(struct __sk_buff *skb, __u32 offset, void *header,
					__u32 bytes)
{
	void *at = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__u64 checked = offset;

	/* One register is compared and added: kernel 6.1 does not know the bound of a copy in 32 bits. */
	asm volatile("" : "+r"(checked));
	if (checked <= DIRECT_ACCESS_BYTES) {
		at += checked;
		if (at + bytes <= end) {
			/* By words, not bytes: the verifier refuses this where a machine cannot. */
			__builtin_memcpy(header, __builtin_assume_aligned(at, 4), bytes);
			return 0;
		}
	}
	return bpf_skb_load_bytes(skb, offset, header, bytes);
}

/* Copy a transport header out, which must lie within the IP packet. */
#define LOAD_L4(skb, packet, header)                                                      \
	((packet)->l4_offset + sizeof(header) <= (packet)->end &&                         \
	 !load_header(skb, (packet)->l4_offset, &(header), sizeof(header)))

static __always_inline __u8 parse_tcp(struct __sk_buff *skb, struct packet *packet)
{
	struct tcphdr tcp;

	if (!LOAD_L4(skb, packet, tcp) || tcp.doff * 4 < sizeof(tcp) ||
	    packet->l4_offset + tcp.doff * 4 > packet->end)
		return TG_DROP_TRUNCATED;
	packet->source_port = bpf_ntohs(tcp.source);
	packet->destination_port = bpf_ntohs(tcp.dest);
	packet->tcp_sequence = bpf_ntohl(tcp.seq);
	packet->tcp_awaits = bpf_ntohl(tcp.ack_seq) >> 16;
	packet->tcp_flags = ((__u8 *)&tcp)[13];
	packet->opens = (packet->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN;
	packet->streams = 1;
	return TG_FORWARDED;
}

static __always_inline __u8 parse_udp(struct __sk_buff *skb, struct packet *packet)
{
	struct udphdr udp;

	if (!LOAD_L4(skb, packet, udp))
		return TG_DROP_TRUNCATED;
	packet->source_port = bpf_ntohs(udp.source);
	packet->destination_port = bpf_ntohs(udp.dest);
	return TG_FORWARDED;
}

static __always_inline __u8 parse_sctp(struct __sk_buff *skb, struct packet *packet)
{
	struct sctp_start sctp;

	if (!LOAD_L4(skb, packet, sctp))
		return TG_DROP_TRUNCATED;
	packet->source_port = bpf_ntohs(sctp.source);
	packet->destination_port = bpf_ntohs(sctp.destination);
	packet->opens = sctp.chunk_type == SCTP_CHUNK_INIT;
	packet->streams = 1;
	return TG_FORWARDED;
}

static __always_inline __u8 icmp_kind(const struct packet *packet)
{
	__u8 type = packet->icmp_type;

	if (packet->protocol == IPPROTO_ICMP) {
		if (type == ICMP_ECHO_REQUEST || type == ICMP_ECHO_REPLY)
			return PACKET_FLOW;
		return type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH ||
		       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM ?
		       PACKET_ICMP_ERROR : PACKET_ICMP;
	}
	if (type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY)
		return PACKET_FLOW;
	if (type >= ND_ROUTER_SOLICITATION && type <= ND_NEIGHBOUR_ADVERTISEMENT &&
	    packet->hop_limit == ND_HOP_LIMIT && packet->icmp_code == 0)
		return PACKET_NEIGHBOUR;
	return type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER_PROBLEM ?
	       PACKET_ICMP_ERROR : PACKET_ICMP;
}

static __always_inline __u8 parse_icmp(struct __sk_buff *skb, struct packet *packet)
{
	struct icmp_start icmp;

	if (!LOAD_L4(skb, packet, icmp))
		return TG_DROP_TRUNCATED;
	packet->icmp_type = icmp.type;
	packet->icmp_code = icmp.code;
	packet->kind = icmp_kind(packet);
	if (packet->kind != PACKET_FLOW)
		return TG_FORWARDED;
	packet->source_port = bpf_ntohs(icmp.echo_identifier);
	packet->destination_port = packet->source_port;
	packet->echo_reply = icmp.type == (packet->protocol == IPPROTO_ICMP ?
					   ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY);
	return TG_FORWARDED;
}

/* Note where in its datagram a fragment lies; `l4_offset` is that of its payload. Refused is what no
 * honest sender cuts, and what would end beyond the longest datagram. */
static __always_inline __u8 note_fragment(struct packet *packet, __u32 offset, bool more)
{
	if (packet->l4_offset >= packet->end)
		return TG_DROP_TRUNCATED;
	packet->fragment = offset ? FRAGMENT_LATER : FRAGMENT_FIRST;
	packet->fragment_offset = offset;
	packet->fragment_bytes = packet->end - packet->l4_offset;
	if ((more && packet->fragment_bytes % 8) ||
	    offset + packet->fragment_bytes > IP_DATAGRAM_BYTES)
		return TG_DROP_FRAGMENT;
	return TG_FORWARDED;
}

static __always_inline __u8 parse_transport(struct __sk_buff *skb, struct packet *packet)
{
	switch (packet->protocol) {
	case IPPROTO_TCP:
		return parse_tcp(skb, packet);
	case IPPROTO_UDP:
		return parse_udp(skb, packet);
	case IPPROTO_SCTP:
		return parse_sctp(skb, packet);
	default:
		return parse_icmp(skb, packet);
	}
}

/* The transport header, if the packet has one. Neighbour discovery is never cut (RFC 6980), and errors
 * are too short to be. */
static __always_inline __u8 parse_l4(struct __sk_buff *skb, struct packet *packet)
{
	__u8 reason;

	if (packet->fragment == FRAGMENT_LATER)
		return TG_FORWARDED;
	reason = parse_transport(skb, packet);
	if (!reason && packet->fragment == FRAGMENT_FIRST && packet->kind != PACKET_FLOW &&
	    packet->kind != PACKET_ICMP)
		return TG_DROP_FRAGMENT;
	return reason;
}

/* A length of zero is honest only where the kernel merged more than 64 KiB. */
static __always_inline __u32 packet_end(struct __sk_buff *skb, __u32 length, bool is_zero)
{
	return is_zero && skb->len > 0xffff ? skb->len : ETH_HLEN + length;
}

/* Options are well formed and do not send the packet on from the judged destination to others.
 * Global for the same reason as `parse_packet`. Of offsets that it knows nothing of, and that are no pointers,
 * the verifier follows one through the loop, not every sum of lengths. */
__noinline int check_ipv4_options(struct __sk_buff *skb, __u32 at, __u32 end)
{
	struct ip_option option;

	for (int i = 0; i < IP_OPTION_BYTES && at < end; i++) {
		if (bpf_skb_load_bytes(skb, at, &option.type, sizeof(option.type)))
			return TG_DROP_TRUNCATED;
		if (option.type == IP_OPTION_END)
			return TG_FORWARDED;
		if (option.type == IP_OPTION_LOOSE_ROUTE || option.type == IP_OPTION_STRICT_ROUTE)
			return TG_DROP_SOURCE_ROUTE;
		if (option.type == IP_OPTION_NOTHING) {
			at++;
			continue;
		}
		if (at + sizeof(option) > end ||
		    bpf_skb_load_bytes(skb, at, &option, sizeof(option)) || option.bytes < sizeof(option))
			return TG_DROP_INVALID_PACKET;
		at += option.bytes;
	}
	return at > end ? TG_DROP_INVALID_PACKET : TG_FORWARDED;
}

static __always_inline __u8 parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;
	__u16 fragment;
	__u8 reason = TG_FORWARDED;

	if (load_header(skb, ETH_HLEN, &ip, sizeof(ip)))
		return TG_DROP_TRUNCATED;
	if (ip.version != 4 || ip.ihl < 5)
		return TG_DROP_INVALID_PACKET;
	fragment = bpf_ntohs(ip.frag_off);
	map_ipv4(&packet->source, ip.saddr);
	map_ipv4(&packet->destination, ip.daddr);
	packet->protocol = ip.protocol;
	packet->hop_limit = ip.ttl;
	packet->l4_offset = ETH_HLEN + ip.ihl * 4;
	packet->end = packet_end(skb, bpf_ntohs(ip.tot_len), ip.tot_len == 0);
	if (packet->end > skb->len || packet->l4_offset > packet->end)
		return TG_DROP_TRUNCATED;
	if (ip.ihl > 5) {
		reason = check_ipv4_options(skb, ETH_HLEN + sizeof(ip), packet->l4_offset);
		if (reason)
			return reason;
	}
	if (ip.protocol != IPPROTO_TCP && ip.protocol != IPPROTO_UDP &&
	    ip.protocol != IPPROTO_SCTP && ip.protocol != IPPROTO_ICMP)
		return TG_DROP_UNKNOWN_L4;
	if (fragment & IP_FRAGMENTED) {
		packet->identification = ip.id;
		packet->fragment_protocol = ip.protocol;
		reason = note_fragment(packet, (fragment & IP_OFFSET) * 8, fragment & IP_MORE);
	}
	return reason ? reason : parse_l4(skb, packet);
}

static __always_inline bool is_extension(__u8 header)
{
	return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING || header == IPPROTO_DSTOPTS;
}

/* Walk to the transport header. A routing header that still has segments would be sent on from the
 * judged destination to others. */
static __always_inline __u8 skip_extensions(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6_extension extension;

	for (int i = 0; i < IPV6_EXTENSIONS && is_extension(packet->protocol); i++) {
		if (!LOAD_L4(skb, packet, extension))
			return TG_DROP_TRUNCATED;
		if (packet->protocol == IPPROTO_ROUTING && extension.segments_left)
			return TG_DROP_SOURCE_ROUTE;
		packet->protocol = extension.following;
		packet->l4_offset += (extension.words + 1) * 8;
	}
	return is_extension(packet->protocol) ? TG_DROP_INVALID_IPV6_EXTENSION : TG_FORWARDED;
}

/* Walk past a fragment header, too; what follows it in a first fragment are extensions again. One that
 * is the whole datagram (RFC 6946) is a packet like any other. */
static __always_inline __u8 skip_fragment(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6_fragment fragment;
	__u16 where;
	__u8 reason;

	if (!LOAD_L4(skb, packet, fragment))
		return TG_DROP_TRUNCATED;
	where = bpf_ntohs(fragment.offset_and_more);
	packet->identification = fragment.identification;
	packet->protocol = fragment.following;
	packet->l4_offset += sizeof(fragment);
	if (where & (IPV6_OFFSET | IPV6_MORE)) {
		reason = note_fragment(packet, where & IPV6_OFFSET, where & IPV6_MORE);
		if (reason || packet->fragment == FRAGMENT_LATER)
			return reason;
	}
	reason = skip_extensions(skb, packet);
	return !reason && packet->protocol == IPPROTO_FRAGMENT ? TG_DROP_FRAGMENT : reason;
}

/* IPv4-mapped addresses never travel in IPv6: here they would pass for the IPv4 ones. */
static __always_inline __u8 parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6hdr ip;
	__u8 reason;

	if (load_header(skb, ETH_HLEN, &ip, sizeof(ip)))
		return TG_DROP_TRUNCATED;
	__builtin_memcpy(&packet->source, &ip.saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip.daddr, sizeof(packet->destination));
	if (ip.version != 6)
		return TG_DROP_INVALID_PACKET;
	if (is_ipv4_mapped(&packet->source) || is_ipv4_mapped(&packet->destination))
		return TG_DROP_MAPPED_ADDRESS;
	packet->protocol = ip.nexthdr;
	packet->hop_limit = ip.hop_limit;
	packet->l4_offset = ETH_HLEN + sizeof(ip);
	packet->end = packet_end(skb, sizeof(ip) + bpf_ntohs(ip.payload_len), ip.payload_len == 0);
	if (packet->end > skb->len)
		return TG_DROP_TRUNCATED;
	reason = skip_extensions(skb, packet);
	if (reason)
		return reason;
	if (packet->protocol == IPPROTO_FRAGMENT)
		reason = skip_fragment(skb, packet);
	if (reason || packet->fragment == FRAGMENT_LATER)
		return reason;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP &&
	    packet->protocol != IPPROTO_SCTP && packet->protocol != IPPROTO_ICMPV6)
		return TG_DROP_UNKNOWN_L4;
	return parse_l4(skb, packet);
}

/* Let a frame pass that no rule can speak of, if its ethertype is configured to. */
static __always_inline __u8 pass_unjudged(struct packet *packet, __u16 ethertype, __u8 reason)
{
	for (int i = 0; i < TG_UNJUDGED_ETHERTYPES && settings.unjudged_ethertypes[i]; i++) {
		if (settings.unjudged_ethertypes[i] == ethertype) {
			packet->kind = PACKET_UNJUDGED;
			return TG_FORWARDED;
		}
	}
	return reason;
}

/* What is neither IP nor ARP. A length in place of the type: 802.3. */
static __always_inline __u8 parse_other(struct packet *packet, __u16 ethertype)
{
	if (ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD)
		return pass_unjudged(packet, ethertype, TG_DROP_VLAN);
	if (ethertype < ETH_P_802_3_MIN)
		return pass_unjudged(packet, ETH_P_802_3, TG_DROP_UNSUPPORTED_L2);
	return pass_unjudged(packet, ethertype, TG_DROP_UNSUPPORTED_L3);
}

/* Fill `packet`, which is zeroed, or say why it cannot be judged. A global function, so that the
 * verifier walks it once: from each of its ends it would else walk the rest of the program anew, and
 * loading took a hundred times as long. */
__noinline int parse_packet(struct __sk_buff *skb, struct packet *packet)
{
	struct ethhdr ethernet;

	if (!packet)
		return TG_DROP_INVALID_PACKET;
	if (load_header(skb, 0, &ethernet, sizeof(ethernet)))
		return TG_DROP_TRUNCATED;
	/* A device may have moved the tag out of the bytes. */
	if (skb->vlan_present)
		return pass_unjudged(packet, bpf_ntohs(skb->vlan_proto), TG_DROP_VLAN);
	if (ethernet.h_proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, packet);
	if (ethernet.h_proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, packet);
	if (ethernet.h_proto == bpf_htons(ETH_P_ARP)) {
		packet->kind = PACKET_ARP;
		return TG_FORWARDED;
	}
	return parse_other(packet, bpf_ntohs(ethernet.h_proto));
}

#endif
