/* SPDX-License-Identifier: Apache-2.0 */
/* Ask the node's agent one question over its socket.
 *
 * In:  a request, a deadline
 * Out: the agent's answer, or that there was none
 * Shell over one Unix socket.
 *
 * A question may be asked twice: an agent that dies meanwhile is asked again when it is back.
 *
 * Request:  size | 1 | milliseconds the agent may take | six fields, each behind its size
 * Answer:   size | outcome | code | text
 * Sizes, milliseconds and codes are 32 bits, the highest byte first; version and outcome are one byte. Sizes
 * do not count themselves.
 */
#pragma once

#include <stdint.h>

#include "json_scan.h"

#define AGENT_PROTOCOL 1
#define AGENT_FIELDS 6
#define AGENT_MAX_TEXT 4096

enum agent_outcome {
	AGENT_DONE = 0,
	AGENT_REFUSED = 1,   /* `code` and `text` say why, for the runtime */
	AGENT_NOT_READY = 2, /* the time is up; `text` says what was waited for */
	AGENT_AWAY = 3,      /* never sent: nobody answered */
};

struct agent_answer {
	enum agent_outcome outcome;
	uint32_t code;
	char text[AGENT_MAX_TEXT + 1];
};

/* `fields`: command, container, namespace, interface, arguments, configuration. */
void agent_ask(const char *socket_path, const struct slice fields[AGENT_FIELDS], unsigned int milliseconds,
	       struct agent_answer *answer);
