/* SPDX-License-Identifier: Apache-2.0 */
/* Find members of a JSON object without making anything of them.
 *
 * In:  bytes, the names of the members wanted
 * Out: where each one's value stands, in the caller's own bytes
 * Pure: no allocation, no state, and no reading past the end.
 *
 * Strict (RFC 8259, UTF-8): what is accepted here, every JSON reader accepts. A wanted name that is there
 * twice is refused, as readers differ in what they make of it; so is any name beside it with an escape.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define JSON_MAX_DEPTH 64 /* values within values, the object itself counted */

/* Bytes of somebody else's. `at` NULL: there is no such member. */
struct slice {
	const char *at;
	size_t size;
};

struct json_member {
	const char *name;
	struct slice value; /* with its quotes, if it is a string */
};

/* False if `text` is no object of JSON; nothing is promised of `members` then. */
bool json_scan_object(struct slice text, struct json_member *members, size_t count);
