/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* All maps, and nothing else. */
#ifndef TIDEGATE_MAPS_H
#define TIDEGATE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* A time on the kernel's monotonic clock, and the tick that it is the time of. */
struct instant {
	__u64 tick;
	__u64 ns;
};

/* `port`: the destination's, or the ICMP type. */
struct question {
	struct tg_address remote;
	__u32 endpoint_id;
	__u32 slot;
	__u16 port;
	__u8 protocol;
	__u8 direction;
};
_Static_assert(sizeof(struct question) == 7 * sizeof(__u32), "no hidden padding");

struct ruling {
	__u32 remote_identity;
	__u32 cookie;
	__u16 proxy_port;                    /* of a redirect */
	__u8 verdict;
	__u8 reason;
};

#define LATELY_BITS 8

struct allowed_lately {
	__u64 tick;
	struct question asked;
	__u32 revision;
	struct ruling ruling;
	__u8 padding[12];
};
_Static_assert(sizeof(struct allowed_lately) == 64, "one cache line");

/* The control word; the agent stores into its mapping. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_control);
} control SEC(".maps");

/* Interface index → slot of the endpoint behind it: a hash table of one cache line a group, as a lookup
 * in a map of type hash costs as much as half of what else an established packet does. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TG_INTERFACE_GROUPS);
	__type(key, __u32);
	__type(value, struct tg_interface_group);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct tg_endpoint);
} endpoints SEC(".maps");

/* Address of a pod here → where packets for it are handed to directly; empty unless that is configured. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096 * TG_ENDPOINT_ADDRESSES);
	__type(key, struct tg_address);
	__type(value, struct tg_local_end);
} local_ends SEC(".maps");

/* Interface index → itself, of the devices of those: the kernel takes one out when the device goes, so that
 * another one that gets its index is not taken for it. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} local_devices SEC(".maps");

/* `tg_to_pod`, for packets that are put into a pod from where they came. */
int tg_to_pod(struct __sk_buff *skb);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct __sk_buff *));
} into_pod SEC(".maps") = { .values = { [0] = (void *)&tg_to_pod } };

/* Address → identity, exact matches first. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct tg_address);
	__type(value, __u32);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct tg_prefix);
	__type(value, __u32);
} prefixes SEC(".maps");

/* Whether packets between nodes are encrypted. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_encryption);
} encryption SEC(".maps");

/* Pod addresses, and blocks of them → enum tg_place. The loader sizes it as `addresses`. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct tg_prefix);
	__type(value, __u32);
} pod_places SEC(".maps");

/* Where redirected packets go. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_proxy);
} proxy SEC(".maps");

/* Flows whose opener spoke again after an answer. The loader sets the size of this and the next;
 * judgements outlive a reload of the programs. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 18);
	__type(key, struct tg_conntrack_key);
	__type(value, struct tg_conntrack_entry);
} conntrack SEC(".maps");

/* All other flows. A flood of openings evicts these, and none of the former. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, struct tg_conntrack_key);
	__type(value, struct tg_conntrack_entry);
} half_open SEC(".maps");

/* Datagrams whose first fragment passed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct tg_fragment_key);
	__type(value, struct tg_first_fragment);
} fragments SEC(".maps");

/* One generation a slot. The inner maps declared here are templates: the agent creates each at the
 * size it needs. Templates of libbpf 1.1 want sizes in place of types. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TG_SLOTS);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(struct tg_policy_key));
		__uint(value_size, sizeof(struct tg_policy_entry));
	});
} policy SEC(".maps");

/* Identity → peer class. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TG_SLOTS);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(__u32));
	});
} class_of SEC(".maps");

/* Protocol and port → port class. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TG_SLOTS);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(map_flags, BPF_F_MMAPABLE);
		__uint(max_entries, TG_PORT_CLASS_ELEMENTS);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(struct tg_port_classes));
	});
} port_class SEC(".maps");

/* Endpoint id → the table that judges it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TG_SLOTS);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(struct tg_endpoint_table));
	});
} endpoint_tables SEC(".maps");

/* What each slot holds; read by the agent only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TG_SLOTS);
	__type(key, __u32);
	__type(value, struct tg_generation_label);
} generation_labels SEC(".maps");

/* What shadows judge otherwise. Room is taken when it is used. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, struct tg_difference_key);
	__type(value, struct tg_difference);
} differences SEC(".maps");

/* How many flows were judged under a shadow; every new flow counts, so each processor by itself. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, struct tg_coverage_key);
	__type(value, __u64);
} coverage SEC(".maps");

/* Differences that `differences` had no room for: element (shadow - 1) * TG_SLOTS + slot. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TG_SHADOWS * TG_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} lost_differences SEC(".maps");

/* Events, in the order that they were begun in. The agent maps it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_event_ring);
} events SEC(".maps");

/* What the agent sleeps on while `events` is empty. Its size has to be whole pages, however large they are. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} event_bell SEC(".maps");

/* Flows that were refused of late. What is evicted untold is in `counters` still. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct tg_refusal_key);
	__type(value, struct tg_refusal);
} refusals SEC(".maps");

/* Where a processor puts a refusal together: it is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_refusal);
} fresh_refusal SEC(".maps");

/* What time it was when this processor asked last. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct instant);
} last_instant SEC(".maps");

/* Questions that were answered with an allowance of late; a later one takes the place of an earlier. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << LATELY_BITS);
	__type(key, __u32);
	__type(value, struct allowed_lately);
} allowed_lately SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TG_COUNTERS);
	__type(key, __u32);
	__type(value, struct tg_counter);
} counters SEC(".maps");

#endif
