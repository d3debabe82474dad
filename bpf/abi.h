/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Everything that userspace reads too: keys, values, events, and their numbers.
 *
 * nodeagent/datapath/abi.py mirrors its structures and abi_numbers.py its numbers, and a test compares them. A
 * change of any layout raises TG_ABI_VERSION: the loader then takes over flows alone, and those only if theirs is
 * unchanged.
 */
#ifndef TIDEGATE_ABI_H
#define TIDEGATE_ABI_H

#include <linux/types.h>

#define TG_ABI_VERSION 14

#define TG_SLOTS 8                  /* generations that may be loaded at once */
#define TG_NO_SLOT 0xff
#define TG_ENDPOINT_ADDRESSES 8
#define TG_INTERFACE_GROUPS 1024
#define TG_INTERFACES_PER_GROUP 8
#define TG_SHADOWS 2                 /* generations that are asked beside the active one */
#define TG_UNJUDGED_ETHERTYPES 8
#define TG_IDENTITY_NO_ROOM 0xffffffff  /* of an address that the exact ones had no room for */
#define TG_ANY 0                    /* peer class, protocol or port class of a wildcard entry */

/* Ports are packed four to a value: element protocol_index * 16384 + port / 4. */
#define TG_PORTS_PER_ELEMENT 4
#define TG_ELEMENTS_PER_PROTOCOL 16384
#define TG_PORT_PROTOCOLS 5
#define TG_PORT_CLASS_ELEMENTS (TG_PORT_PROTOCOLS * TG_ELEMENTS_PER_PROTOCOL)

/* `counters`: forwarded and dropped packets at reason * 2 + direction, what was lost behind them. */
#define TG_REASONS 256
#define TG_COUNTER_LOST_EVENTS (TG_REASONS * 2)
#define TG_COUNTER_UNTOLD_REFUSALS (TG_REASONS * 2 + 1)  /* packets that a lost event stood for */
#define TG_COUNTERS (TG_REASONS * 2 + 2)

/* Of the event ring: a power of two. As many programs as there are spare records may begin one at once. */
#define TG_EVENT_RECORDS 32768
#define TG_EVENT_RECORDS_SPARE 2048

/* Of a flow that is refused again and again: how many nanoseconds one event stands for. */
#define TG_REFUSAL_INTERVAL_NS 1000000000ULL

/* A packet's mark, in the bits that say what the node does with it: to be encrypted, or decrypted here, or
 * come in the clear from behind a pod's or service's address, or from a pod to an address that the node may
 * yet translate; on its way to the proxy, or sent by it: to a pod
 * here as who opened the flow, to where a pod's flow goes (both as the client), to the pod that opened the
 * flow, to whoever opened a flow to a pod here (both as the server); handed from pod to pod directly. */
#define TG_MARK_MASK 0xff00
#define TG_MARK_REDIRECTED 0x0200
#define TG_MARK_DIRECT 0x0600
#define TG_MARK_IN_THE_CLEAR 0x0700
#define TG_MARK_FROM_POD 0x0800
#define TG_MARK_PROXY_TO_CLIENT 0x0900
#define TG_MARK_PROXY_TO_SERVER 0x0a00
#define TG_MARK_PROXY_TO_WORLD 0x0b00
#define TG_MARK_PROXY_TO_OPENER 0x0c00
#define TG_MARK_DECRYPTED 0x0d00
#define TG_MARK_ENCRYPT 0x0e00

/* A redirected packet's mark bears its listener's port in the upper half, and in the lowest bits whether
 * the proxy must not take it for a connection it has, or has to. */
#define TG_MARK_PORT_SHIFT 16
#define TG_REDIRECT_ANEW 0x01
#define TG_REDIRECT_BACK 0x02

/* The lowest bit of a mark that says "directly": at the sender's interface still, to be put into the pod. */
#define TG_DIRECT_INTO 0x01

/* Seen from the endpoint: to_pod judges ingress, from_pod egress. */
enum tg_direction {
	TG_INGRESS = 0,
	TG_EGRESS = 1,
};

/* Strength order: of several matching entries the largest number wins. */
enum tg_verdict {
	TG_NO_VERDICT = 0,
	TG_ALLOW = 1,
	TG_REDIRECT = 2,
	TG_DENY = 3,
};

enum tg_table_flag {
	TG_TABLE_DENY_INGRESS = 1,
	TG_TABLE_DENY_EGRESS = 2,
};

/* What an entry leaves open; an entry of each is looked for. */
enum tg_entry_kind {
	TG_KIND_EXACT = 0,                   /* class and port */
	TG_KIND_ANY_PORT = 1,
	TG_KIND_ANY_PEER = 2,
	TG_KIND_ANYTHING = 3,
};

/* Why a packet was dropped. Cilium's number where one fits, ours from 220 up; never reused. */
enum tg_reason {
	TG_FORWARDED = 0,
	TG_DROP_INVALID_SOURCE_MAC = 130,
	TG_DROP_INVALID_SOURCE_IP = 132,
	TG_DROP_POLICY_DENIED = 133,         /* no rule allows it */
	TG_DROP_INVALID_PACKET = 134,
	TG_DROP_TRUNCATED = 135,
	TG_DROP_UNSUPPORTED_L3 = 139,
	TG_DROP_UNKNOWN_L4 = 142,
	TG_DROP_CONNTRACK_INSERT = 155,
	TG_DROP_INVALID_IPV6_EXTENSION = 156,
	TG_DROP_UNSUPPORTED_L2 = 166,
	TG_DROP_INVALID_IDENTITY = 171,      /* the peer's address has no identity, or no class */
	TG_DROP_NO_FIRST_FRAGMENT = 175,     /* none passed, or not yet, or too long ago */
	TG_DROP_NO_PROXY = 180,
	TG_DROP_POLICY_DENY = 181,           /* a rule denies it */
	TG_DROP_VLAN = 182,
	TG_DROP_UNENCRYPTED = 195,           /* between pods of two nodes, in the clear, in strict mode */
	TG_DROP_NOT_READY = 202,             /* no generation is active */
	TG_DROP_NO_ENDPOINT = 203,           /* the interface is nobody's */
	TG_DROP_NO_GENERATION = 220,         /* the active slot lacks a map */
	TG_DROP_NO_TABLE = 221,              /* the generation does not know the endpoint */
	TG_DROP_NEIGHBOUR_ADDRESS = 222,     /* ARP or neighbour discovery claims another's address */
	TG_DROP_NEIGHBOUR_MAC = 223,         /* or names another MAC than the frame comes from */
	TG_DROP_ROUTER_ADVERTISEMENT = 224,  /* a pod poses as a router */
	TG_DROP_INVALID_NEIGHBOUR = 225,     /* malformed ARP or neighbour discovery */
	TG_DROP_FRAGMENT = 226,              /* malformed, or of what is never cut */
	TG_DROP_FRAGMENT_OVERLAP = 227,      /* would rewrite the first fragment */
	TG_DROP_MAPPED_ADDRESS = 228,        /* an IPv4-mapped address in IPv6 */
	TG_DROP_NO_ROOM = 229,               /* the address table had no room for the peer */
	TG_DROP_SOURCE_ROUTE = 230,          /* would go on to another address than the judged one */
};

/* What made an event: a new flow's verdict, a changed verdict, refused packets, a shadow's other
 * opinion, a TCP flag that its side had not sent yet, or the end of a connection. */
enum tg_occasion {
	TG_OCCASION_NEW = 1,
	TG_OCCASION_REJUDGED = 2,
	TG_OCCASION_PACKET = 3,
	TG_OCCASION_AUDIT = 4,               /* verdict, reason and cookie are the shadow's */
	TG_OCCASION_FLAGS = 5,               /* SYN, FIN or RST */
	TG_OCCASION_CLOSED = 6,              /* reset, or finished by both: the sums are the flow's */
	TG_OCCASION_IDLE = 7,                /* silent for longer than its lifetime; told by the agent only */
};

/* Why a generation is asked that is not in force: a rollout will enforce it, or nobody will yet. */
enum tg_shadow {
	TG_SHADOW_NONE = 0,
	TG_SHADOW_CANDIDATE = 1,
	TG_SHADOW_PREVIEW = 2,
};

/* How a shadow judges otherwise than the active generation. */
enum tg_cause {
	TG_CAUSE_NONE = 0,
	TG_CAUSE_WOULD_DENY = 1,
	TG_CAUSE_WOULD_ALLOW = 2,
	TG_CAUSE_WOULD_REDIRECT = 3,
	TG_CAUSE_WOULD_NOT_REDIRECT = 4,
};

enum tg_encryption_flag {
	TG_ENCRYPTION_ON = 1,
	TG_ENCRYPTION_STRICT = 2,
};

/* Where the pods behind an address are, for encryption. No entry: no pod. */
enum tg_place {
	TG_PLACE_NO_POD = 0,
	TG_PLACE_HERE = 1,
	TG_PLACE_TUNNEL = 2,                 /* elsewhere, at the end of a tunnel */
	TG_PLACE_UNREACHABLE = 3,            /* elsewhere, and no tunnel leads there */
	TG_PLACE_SERVICE = 4,                /* behind a service's address: no pod yet */
	TG_PLACE_NODE = 5,                   /* a node at the end of a tunnel, which nodes' traffic enters */
};

/* Does a packet go into a tunnel, or did it come out of one? Undecided: which pod a service leads to is
 * chosen after the packet was told of. */
enum tg_encrypted {
	TG_ENCRYPTED_NO = 0,
	TG_ENCRYPTED_YES = 1,
	TG_ENCRYPTED_UNDECIDED = 2,
};

enum tg_reply {
	TG_REPLY_UNKNOWN = 0,
	TG_REPLY_NO = 1,
	TG_REPLY_YES = 2,
};

/* Who sent the first echo request; both may use one identifier at the same time. */
enum tg_opener {
	TG_OPENER_NONE = 0,
	TG_OPENER_LOCAL = 1,
	TG_OPENER_REMOTE = 2,
};

enum tg_conntrack_flag {
	TG_CONNTRACK_ONE_WAY = 1,            /* found mid-stream: the other direction is no reply */
	TG_CONNTRACK_REPLIED = 2,
	TG_CONNTRACK_ESTABLISHED = 4,        /* its opener spoke again after an answer */
	TG_CONNTRACK_CUT = 8,                /* redirected elsewhere than where it was accepted */
	TG_CONNTRACK_ENCRYPTED = 16,         /* what its ends send each other goes through a tunnel */
	TG_CONNTRACK_DIRECT = 32,            /* opened past the node's IP stack: all of it goes so */
};

enum tg_local_end_flag {
	TG_LOCAL_END_PAIR = 1,               /* its other end is in the pod: packets may be put there */
};

/* IPv6, or IPv4 as ::ffff:a.b.c.d, in network byte order. */
struct tg_address {
	__be32 words[4];
};
_Static_assert(sizeof(struct tg_address) == 16, "no hidden padding");

/* The whole of what is in force, read and stored as one 8-byte word. */
struct tg_control {
	__u32 revision;                      /* grows by one with every store */
	__u8 active;
	__u8 candidate;
	__u8 preview;
	__u8 previous;                       /* kept loaded for a rollback; not read by packets */
};
_Static_assert(sizeof(struct tg_control) == 8, "one atomic word");

/* Where an interface's endpoint is; read and stored as one word. Index zero: nobody's. */
struct tg_interface {
	__u32 index;
	__u32 slot;
};
_Static_assert(sizeof(struct tg_interface) == 8, "one atomic word");

/* The interfaces whose indices are equal modulo TG_INTERFACE_GROUPS. */
struct tg_interface_group {
	struct tg_interface held[TG_INTERFACES_PER_GROUP];
};
_Static_assert(sizeof(struct tg_interface_group) == 64, "one cache line");

/* By words, as the verifier compares no unaligned longer ones. All zero: unknown. */
struct tg_mac {
	__be16 words[3];
};
_Static_assert(sizeof(struct tg_mac) == 6, "no hidden padding");

/* Read-only data of the programs, set by the loader before it loads them. Lifetimes are those of
 * idle conntrack entries; ethertypes that pass unjudged end with a zero. */
struct tg_settings {
	__u64 lifetime_tcp_ns;
	__u64 lifetime_tcp_opening_ns;
	__u64 lifetime_tcp_closed_ns;
	__u64 lifetime_datagram_ns;
	__u64 lifetime_fragments_ns;
	__u16 unjudged_ethertypes[TG_UNJUDGED_ETHERTYPES];
	__u64 direct_delivery;               /* zero: nobody is handed a packet directly */
};
_Static_assert(sizeof(struct tg_settings) == 64, "no hidden padding");

struct tg_endpoint {
	__u32 id;
	__u32 identity;
	__u32 address_count;
	struct tg_mac mac;
	__u8 padding[2];
	struct tg_address addresses[TG_ENDPOINT_ADDRESSES];
};
_Static_assert(sizeof(struct tg_endpoint) == 148, "no hidden padding");

/* Where packets for a pod's address are handed to directly. */
struct tg_local_end {
	__u32 interface_index;
	__u32 flags;                         /* of tg_local_end_flag */
};
_Static_assert(sizeof(struct tg_local_end) == 8, "no hidden padding");

/* Longest-prefix key; IPv4 prefixes count 96 bits more. */
struct tg_prefix {
	__u32 prefix_bits;
	struct tg_address address;
};
_Static_assert(sizeof(struct tg_prefix) == 20, "no hidden padding");

struct tg_encryption {
	__u32 flags;
};
_Static_assert(sizeof(struct tg_encryption) == 4, "one atomic word");

/* The device that leads to the proxy. Index zero: there is none. */
struct tg_proxy {
	__u32 interface_index;
};
_Static_assert(sizeof(struct tg_proxy) == 4, "one atomic word");

struct tg_policy_key {
	__u32 table;
	__u32 peer_class;
	__u8 direction;
	__u8 protocol;
	__u16 port_class;
};
_Static_assert(sizeof(struct tg_policy_key) == 12, "no hidden padding");

struct tg_policy_entry {
	__u8 verdict;
	__u8 padding;
	__u16 proxy_port;
	__u32 cookie;
};
_Static_assert(sizeof(struct tg_policy_entry) == 8, "no hidden padding");

struct tg_endpoint_table {
	__u32 table;
	__u8 flags;
	__u8 kinds[2];                       /* by direction: 1 << kind for each that the table has */
	__u8 padding;
	__u32 ingress_cookie;
	__u32 egress_cookie;
};
_Static_assert(sizeof(struct tg_endpoint_table) == 16, "no hidden padding");

struct tg_port_classes {
	__u16 classes[TG_PORTS_PER_ELEMENT];
};
_Static_assert(sizeof(struct tg_port_classes) == 8, "no hidden padding");

/* What a slot holds, for the agent that restarts. Zero: nothing whole. */
struct tg_generation_label {
	__u8 generation[32];
	__u8 bundle[32];
	__u64 sequence;
	__u8 commit[20];
	__u8 padding[4];
};
_Static_assert(sizeof(struct tg_generation_label) == 96, "no hidden padding");

/* One lookup serves both directions. Two endpoints never share an entry: each judges for itself. */
struct tg_conntrack_key {
	__u32 endpoint_id;
	struct tg_address remote;
	__u16 remote_port;
	__u16 local_port;                    /* or the identifier of an echo request */
	__u8 protocol;
	__u8 opener;
	__u8 padding[2];
};
_Static_assert(sizeof(struct tg_conntrack_key) == 28, "no hidden padding");

/* Stored as one word, so that no verdict is ever paired with another one's revision. */
struct tg_judgement {
	__u32 revision;
	__u8 verdict;
	__u8 reason;
	__u16 proxy_port;
};
_Static_assert(sizeof(struct tg_judgement) == 8, "one atomic word");

struct tg_conntrack_entry {
	struct tg_judgement judgement;
	__u64 last_seen_ns;
	__u32 last_seen_tick;                /* the kernel's jiffies at that time; zero: not noted */
	__u16 forward_awaits;                /* upper half of the opener's last acknowledgement */
	__u16 reply_awaits;
	__u64 forward_packets;
	__u64 forward_bytes;
	__u64 reply_packets;
	__u64 reply_bytes;
	__u32 cookie;
	__u8 direction;                      /* of the packet that opened the flow */
	__u8 flags;
	__u8 forward_tcp_flags;
	__u8 reply_tcp_flags;
};
_Static_assert(sizeof(struct tg_conntrack_entry) == 64, "one cache line");

/* One datagram that travels in fragments. */
struct tg_fragment_key {
	struct tg_address source;
	struct tg_address destination;
	__u32 endpoint_id;
	__be32 identification;
	__u8 protocol;                       /* zero in IPv6, where later fragments may lie about it */
	__u8 direction;
	__u8 padding[2];
};
_Static_assert(sizeof(struct tg_fragment_key) == 44, "no hidden padding");

/* What only the first fragment says. */
struct tg_first_fragment {
	__u64 seen_ns;
	__u32 payload_bytes;                 /* no other fragment may begin before */
	__u16 source_port;
	__u16 destination_port;
	__u8 kind;
	__u8 protocol;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 streams;
	__u8 echo_reply;
	__u8 padding[2];
};
_Static_assert(sizeof(struct tg_first_fragment) == 24, "no hidden padding");

/* Flows that a shadow judges otherwise. `direction`, `reason` and `cookie` are the judging side's;
 * the slot tells counts of one shadow from those of the shadow before. */
struct tg_difference_key {
	__u32 source_identity;
	__u32 destination_identity;
	__u32 cookie;
	__u16 port;                          /* the destination's, or the ICMP type */
	__u8 protocol;
	__u8 direction;
	__u8 shadow;
	__u8 slot;
	__u8 cause;
	__u8 reason;
};
_Static_assert(sizeof(struct tg_difference_key) == 20, "no hidden padding");

struct tg_difference {
	__u64 count;
	__u64 last_seen_ns;
};
_Static_assert(sizeof(struct tg_difference) == 16, "no hidden padding");

/* Whose flows were judged under a shadow. */
struct tg_coverage_key {
	__u32 endpoint_id;
	__u8 shadow;
	__u8 slot;
	__u8 padding[2];
};
_Static_assert(sizeof(struct tg_coverage_key) == 8, "no hidden padding");

struct tg_counter {
	__u64 packets;
	__u64 bytes;
};
_Static_assert(sizeof(struct tg_counter) == 16, "no hidden padding");

struct tg_event {
	__u64 time_ns;                       /* since boot, without sleep; to a tick of the kernel */
	__u64 packets;                       /* that it stands for */
	__u64 bytes;
	__u64 reply_packets;                 /* of a closed flow only, as the next */
	__u64 reply_bytes;
	struct tg_address source;
	struct tg_address destination;
	__u32 endpoint_id;
	__u32 interface_index;
	__u32 local_identity;
	__u32 remote_identity;
	__u32 cookie;
	__u32 revision;
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 tcp_flags;
	__u8 direction;
	__u8 verdict;
	__u8 reason;
	__u8 occasion;
	__u8 reply;
	__u8 shadow;                         /* of an audit: who judges otherwise, and how */
	__u8 cause;
	__u8 encrypted;                      /* of tg_encrypted */
};
_Static_assert(sizeof(struct tg_event) == 112, "no hidden padding");

/* `number`: how many events were begun up to this one. It is written last: until then it is an earlier lap's. */
struct tg_event_record {
	__u64 number;
	struct tg_event event;
};
_Static_assert(sizeof(struct tg_event_record) == 120, "no hidden padding");

/* Event n is in record (n - 1) % TG_EVENT_RECORDS. What is written by different sides is on lines of its own. */
struct tg_event_ring {
	__u64 begun;                         /* by programs, written to the end or not */
	__u64 padding_begun[7];
	__u64 taken;                         /* by the agent: their records are free */
	__u64 padding_taken[7];
	__u64 is_awaited;                    /* the agent found nothing: the next event rings for it */
	__u64 padding_awaited[7];
	struct tg_event_record records[TG_EVENT_RECORDS];
};
_Static_assert(sizeof(struct tg_event_ring) == 192 + 120 * TG_EVENT_RECORDS, "no hidden padding");

/* Refused packets that one event tells of. The revision: so that none is told under another policy. */
struct tg_refusal_key {
	struct tg_address source;
	struct tg_address destination;
	__u32 endpoint_id;
	__u32 revision;
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 direction;
	__u8 reason;
	__u8 shadow;                         /* whose opinion of them is told; none: that they were refused */
	__u8 padding[2];
};
_Static_assert(sizeof(struct tg_refusal_key) == 52, "no hidden padding");

struct tg_refusal {
	__u64 told_ns;
	__u64 untold_packets;
	__u64 untold_bytes;
	struct tg_event event;               /* the first one */
};
_Static_assert(sizeof(struct tg_refusal) == 136, "no hidden padding");

#endif
