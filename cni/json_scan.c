/* SPDX-License-Identifier: Apache-2.0 */
#include "json_scan.h"

#include <string.h>

struct cursor {
	const unsigned char *at;
	const unsigned char *end;
};

static bool scan_value(struct cursor *c, int depth);

static int peek(const struct cursor *c)
{
	return c->at < c->end ? *c->at : -1;
}

static bool take(struct cursor *c, int wanted)
{
	if (peek(c) != wanted)
		return false;
	c->at++;
	return true;
}

static void skip_space(struct cursor *c)
{
	while (peek(c) == ' ' || peek(c) == '\t' || peek(c) == '\n' || peek(c) == '\r')
		c->at++;
}

static bool take_word(struct cursor *c, const char *word)
{
	size_t size = strlen(word);

	if ((size_t)(c->end - c->at) < size || memcmp(c->at, word, size) != 0)
		return false;
	c->at += size;
	return true;
}

static bool is_digit(int byte)
{
	return byte >= '0' && byte <= '9';
}

static bool is_hex(int byte)
{
	return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

static bool take_digits(struct cursor *c)
{
	const unsigned char *start = c->at;

	while (is_digit(peek(c)))
		c->at++;
	return c->at > start;
}

static bool scan_number(struct cursor *c)
{
	take(c, '-');
	/* A leading zero stands alone. */
	if (!take(c, '0') && !take_digits(c))
		return false;
	if (take(c, '.') && !take_digits(c))
		return false;
	if (take(c, 'e') || take(c, 'E')) {
		if (!take(c, '+'))
			take(c, '-');
		return take_digits(c);
	}
	return true;
}

/* One character of more than one byte: neither overlong, nor a surrogate, nor past U+10FFFF (RFC 3629). */
static bool scan_wide(struct cursor *c)
{
	int first = *c->at++;
	int low = 0x80, high = 0xBF;
	int more;

	if (first >= 0xC2 && first <= 0xDF)
		more = 1;
	else if (first >= 0xE0 && first <= 0xEF)
		more = 2;
	else if (first >= 0xF0 && first <= 0xF4)
		more = 3;
	else
		return false;
	if (first == 0xE0)
		low = 0xA0;
	if (first == 0xED)
		high = 0x9F;
	if (first == 0xF0)
		low = 0x90;
	if (first == 0xF4)
		high = 0x8F;
	for (; more > 0; more--, low = 0x80, high = 0xBF) {
		if (peek(c) < low || peek(c) > high)
			return false;
		c->at++;
	}
	return true;
}

static bool scan_escape(struct cursor *c)
{
	int byte = peek(c);

	if (byte < 0 || !strchr("\"\\/bfnrtu", byte) || byte == 0)
		return false;
	c->at++;
	for (int digits = byte == 'u' ? 4 : 0; digits > 0; digits--) {
		if (!is_hex(peek(c)))
			return false;
		c->at++;
	}
	return true;
}

static bool scan_string(struct cursor *c)
{
	if (!take(c, '"'))
		return false;
	for (;;) {
		int byte = peek(c);

		if (byte < 0x20) /* the end, too */
			return false;
		if (byte >= 0x80) {
			if (!scan_wide(c))
				return false;
			continue;
		}
		c->at++;
		if (byte == '"')
			return true;
		if (byte == '\\' && !scan_escape(c))
			return false;
	}
}

static bool scan_array(struct cursor *c, int depth)
{
	c->at++;
	skip_space(c);
	if (take(c, ']'))
		return true;
	do {
		if (!scan_value(c, depth))
			return false;
	} while (take(c, ','));
	return take(c, ']');
}

/* Note where the value of a wanted member stands. False if the name is not to be trusted. */
static bool note(struct slice name, struct slice value, struct json_member *members, size_t count)
{
	if (count > 0 && memchr(name.at, '\\', name.size))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (strlen(members[i].name) != name.size || memcmp(members[i].name, name.at, name.size) != 0)
			continue;
		if (members[i].value.at)
			return false;
		members[i].value = value;
	}
	return true;
}

static bool scan_object(struct cursor *c, int depth, struct json_member *members, size_t count)
{
	if (!take(c, '{'))
		return false;
	skip_space(c);
	if (take(c, '}'))
		return true;
	do {
		struct slice name, value;

		skip_space(c);
		name.at = (const char *)c->at + 1;
		if (!scan_string(c))
			return false;
		name.size = (size_t)((const char *)c->at - 1 - name.at);
		skip_space(c);
		if (!take(c, ':'))
			return false;
		skip_space(c);
		value.at = (const char *)c->at;
		if (!scan_value(c, depth))
			return false;
		value.size = (size_t)((const char *)c->at - value.at);
		while (strchr(" \t\n\r", value.at[value.size - 1])) /* what follows the value */
			value.size--;
		if (!note(name, value, members, count))
			return false;
	} while (take(c, ','));
	return take(c, '}');
}

/* A value, and the space around it. */
static bool scan_value(struct cursor *c, int depth)
{
	bool good;

	if (depth == 0)
		return false;
	skip_space(c);
	switch (peek(c)) {
	case '{':
		good = scan_object(c, depth - 1, NULL, 0);
		break;
	case '[':
		good = scan_array(c, depth - 1);
		break;
	case '"':
		good = scan_string(c);
		break;
	case 't':
		good = take_word(c, "true");
		break;
	case 'f':
		good = take_word(c, "false");
		break;
	case 'n':
		good = take_word(c, "null");
		break;
	default:
		good = scan_number(c);
	}
	skip_space(c);
	return good;
}

bool json_scan_object(struct slice text, struct json_member *members, size_t count)
{
	struct cursor c = {(const unsigned char *)text.at, (const unsigned char *)text.at + text.size};

	for (size_t i = 0; i < count; i++)
		members[i].value = (struct slice){NULL, 0};
	skip_space(&c);
	if (!scan_object(&c, JSON_MAX_DEPTH - 1, members, count))
		return false;
	skip_space(&c);
	return c.at == c.end;
}
