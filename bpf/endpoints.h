/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which pod is behind an interface, and which addresses are its own. */
#ifndef TIDEGATE_ENDPOINTS_H
#define TIDEGATE_ENDPOINTS_H

#include "abi.h"
#include "maps.h"
#include "packet.h"

/* NULL: nobody, and every packet is dropped. */
static __always_inline const struct tg_endpoint *endpoint_behind(__u32 interface)
{
	return bpf_map_lookup_elem(&endpoints, &interface);
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

#endif
