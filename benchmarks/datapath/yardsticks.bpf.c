// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the datapath's programs are measured by: nothing, a bare insertion, and packets that differ.
 *
 *     vary_destination ──▶ measured[0]     the pod's packets, to one peer after another or to any
 *     vary_source      ──▶ measured[0]     the peers' answers
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define ANY_PORT_FROM 1024

/* Which peer the next packet is for. The benchmark writes it, the programs count on. */
struct walk {
	__u32 first_peer;                /* an IPv4 address */
	__u32 peers;
	__u32 next;
	__u32 random;                    /* zero: in turn */
	__u32 fresh_ports;               /* zero: the packet's own */
	__u32 state;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} measured SEC(".maps");

/* As the map of half-open flows is by default. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, struct tg_conntrack_key);
	__type(value, struct tg_conntrack_entry);
} flows SEC(".maps");

static __always_inline __u32 next_of(struct walk *walk)
{
	walk->next++;
	if (!walk->random)
		return walk->next % walk->peers;
	walk->state = walk->state * 1664525 + 1013904223;
	return (walk->state >> 8) % walk->peers;
}

static __always_inline long insert(__u32 peer, __u32 port)
{
	struct tg_conntrack_key key = { .endpoint_id = 1, .remote_port = port };
	struct tg_conntrack_entry entry = {};

	key.remote.words[3] = peer;
	return bpf_map_update_elem(&flows, &key, &entry, BPF_ANY);
}

static __always_inline int vary(struct __sk_buff *skb, bool by_source)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	__u32 zero = 0;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);
	__be32 peer;

	if (!walk || !walk->peers || (void *)(tcp + 1) > data_end)
		return TC_ACT_SHOT;
	peer = bpf_htonl(walk->first_peer + next_of(walk));
	if (by_source)
		ip->saddr = peer;
	else
		ip->daddr = peer;
	if (walk->fresh_ports)
		tcp->source = bpf_htons(ANY_PORT_FROM + walk->next % 60000);
	bpf_tail_call(skb, &measured, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int empty(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

SEC("tc")
int insert_same(struct __sk_buff *skb)
{
	return insert(skb->ifindex, 7) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("tc")
int insert_fresh(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);

	if (!walk || !walk->peers)
		return TC_ACT_SHOT;
	return insert(next_of(walk), walk->next % 60000) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("tc")
int vary_destination(struct __sk_buff *skb)
{
	return vary(skb, false);
}

SEC("tc")
int vary_source(struct __sk_buff *skb)
{
	return vary(skb, true);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
