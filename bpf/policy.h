/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What one generation says of one flow, seen from one endpoint.
 *
 * Everything that is missing (a map, a table, an identity, a class) denies.
 */
#ifndef TIDEGATE_POLICY_H
#define TIDEGATE_POLICY_H

#include "abi.h"
#include "maps.h"
#include "packet.h"

#define IPV6_BITS 128
#define EEXIST 17

/* Has the flow a way to go on, if maybe through the proxy? */
static __always_inline bool passes(__u8 verdict)
{
	return verdict == TG_ALLOW || verdict == TG_REDIRECT;
}

/* What is in force, read once: the word may change between two reads. False if there is no word. */
static __always_inline bool load_control(struct tg_control *in_force)
{
	__u32 zero = 0;
	struct tg_control *word = bpf_map_lookup_elem(&control, &zero);
	__u64 now_in_force;

	if (!word)
		return false;
	now_in_force = *(volatile __u64 *)word;
	__builtin_memcpy(in_force, &now_in_force, sizeof(*in_force));
	return true;
}

/* Zero if nobody stands behind the address. Keys are on the stack, here and in `judge`: kernel 6.1 refuses one that
 * lies in what a global function was given. */
static __always_inline __u32 identity_of(const struct tg_address *address)
{
	struct tg_prefix key = { .prefix_bits = IPV6_BITS, .address = *address };
	__u32 *identity = bpf_map_lookup_elem(&addresses, &key.address);

	if (!identity)
		identity = bpf_map_lookup_elem(&prefixes, &key);
	return identity ? *identity : 0;
}

static __always_inline __u32 protocol_index(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return 0;
	case IPPROTO_UDP:
		return 1;
	case IPPROTO_SCTP:
		return 2;
	case IPPROTO_ICMP:
		return 3;
	default:
		return 4;
	}
}

/* The stronger of what is held and what `key` finds; earlier lookups win ties. A kind of entry that the
 * table has none of is not looked for: a miss costs as much as a hit. */
static __always_inline void strengthen(struct ruling *ruling, void *entries, __u8 kinds,
				       enum tg_entry_kind kind, const struct tg_policy_key *key)
{
	struct tg_policy_entry *entry;

	if (!(kinds & 1 << kind))
		return;
	entry = bpf_map_lookup_elem(entries, key);
	if (!entry || entry->verdict <= ruling->verdict)
		return;
	ruling->verdict = entry->verdict;
	ruling->cookie = entry->cookie;
	ruling->proxy_port = entry->proxy_port;
}

/* Class and port, class, port, neither: from the most specific on. */
static __always_inline void match_rules(struct ruling *ruling, void *entries,
					const struct tg_endpoint_table *table, __u32 peer_class,
					__u16 port_class, const struct question *ask)
{
	__u8 kinds = ask->direction == TG_EGRESS ? table->kinds[TG_EGRESS] :
						   table->kinds[TG_INGRESS];
	struct tg_policy_key key = {
		.table = table->table,
		.peer_class = peer_class,
		.direction = ask->direction,
		.protocol = ask->protocol,
		.port_class = port_class,
	};

	if (port_class != TG_ANY)
		strengthen(ruling, entries, kinds, TG_KIND_EXACT, &key);
	key.protocol = TG_ANY;
	key.port_class = TG_ANY;
	strengthen(ruling, entries, kinds, TG_KIND_ANY_PORT, &key);
	key.peer_class = TG_ANY;
	key.protocol = ask->protocol;
	key.port_class = port_class;
	if (port_class != TG_ANY)
		strengthen(ruling, entries, kinds, TG_KIND_ANY_PEER, &key);
	key.protocol = TG_ANY;
	key.port_class = TG_ANY;
	strengthen(ruling, entries, kinds, TG_KIND_ANYTHING, &key);
}

/* From the strongest match to a verdict and its reason. */
static __always_inline void conclude(struct ruling *ruling, const struct question *ask,
				     const struct tg_endpoint_table *table)
{
	__u32 refuses = ask->direction == TG_EGRESS ? TG_TABLE_DENY_EGRESS : TG_TABLE_DENY_INGRESS;

	switch (ruling->verdict) {
	case TG_ALLOW:
		ruling->reason = TG_FORWARDED;
		return;
	case TG_REDIRECT:
		ruling->reason = TG_FORWARDED;
		if (ask->protocol == IPPROTO_TCP && ruling->proxy_port)
			return;
		/* No proxy takes it, and letting it pass would skip its rules. */
		ruling->verdict = TG_DENY;
		ruling->reason = TG_DROP_NO_PROXY;
		return;
	case TG_NO_VERDICT:
		ruling->cookie = ask->direction == TG_EGRESS ? table->egress_cookie :
							       table->ingress_cookie;
		ruling->verdict = table->flags & refuses ? TG_DENY : TG_ALLOW;
		ruling->reason = table->flags & refuses ? TG_DROP_POLICY_DENIED : TG_FORWARDED;
		return;
	default:
		ruling->verdict = TG_DENY;
		ruling->reason = TG_DROP_POLICY_DENY;
	}
}

static __always_inline void refuse(struct ruling *ruling, __u8 reason)
{
	ruling->verdict = TG_DENY;
	ruling->reason = reason;
}

/* Judge a flow by the generation in `ask->slot`; who the remote is, `ruling` says already. Global, as
 * `parse_packet`. */
__noinline int judge(const struct question *ask, struct ruling *ruling)
{
	void *entries, *classes, *ports, *tables;
	struct tg_endpoint_table *table;
	struct tg_port_classes *group;
	__u32 slot, endpoint_id, identity, element, *peer_class;

	if (!ask || !ruling)
		return 0;
	slot = ask->slot;
	endpoint_id = ask->endpoint_id;
	identity = ruling->remote_identity;
	ruling->verdict = TG_NO_VERDICT;
	ruling->cookie = 0;
	ruling->proxy_port = 0;
	entries = bpf_map_lookup_elem(&policy, &slot);
	classes = bpf_map_lookup_elem(&class_of, &slot);
	ports = bpf_map_lookup_elem(&port_class, &slot);
	tables = bpf_map_lookup_elem(&endpoint_tables, &slot);
	if (!entries || !classes || !ports || !tables) {
		refuse(ruling, TG_DROP_NO_GENERATION);
		return 0;
	}
	table = bpf_map_lookup_elem(tables, &endpoint_id);
	if (!table) {
		refuse(ruling, TG_DROP_NO_TABLE);
		return 0;
	}
	peer_class = bpf_map_lookup_elem(classes, &identity);
	if (identity == TG_IDENTITY_NO_ROOM) {
		refuse(ruling, TG_DROP_NO_ROOM);
		return 0;
	}
	if (!peer_class || identity == 0) {
		refuse(ruling, TG_DROP_INVALID_IDENTITY);
		return 0;
	}
	element = protocol_index(ask->protocol) * TG_ELEMENTS_PER_PROTOCOL +
		  ask->port / TG_PORTS_PER_ELEMENT;
	group = bpf_map_lookup_elem(ports, &element);
	if (!group) {
		refuse(ruling, TG_DROP_NO_GENERATION);
		return 0;
	}
	match_rules(ruling, entries, table, *peer_class,
		    group->classes[ask->port % TG_PORTS_PER_ELEMENT], ask);
	conclude(ruling, ask, table);
	return 0;
}

#endif
