/* SPDX-License-Identifier: Apache-2.0 */
/* The last plugin of a CNI chain: a pod starts when the node's agent has put it under policy, not before.
 *
 * In:  CNI_* of the environment; the network configuration on standard input
 * Out: the result of the plugin before, unchanged; or an error, and an exit code other than 0
 * Shell. Decides one thing: what a pod gets whose agent did not answer in time.
 *
 * Holds always:
 * 1. ADD succeeds only if the agent said that the pod is under policy, or `failureMode` is "open".
 * 2. Every command ends within `timeoutSeconds`; DEL never fails for want of an agent.
 * 3. The result that is handed on is, byte for byte, what the runtime gave.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent.h"
#include "json_scan.h"

#define MAX_INPUT_BYTES (1u << 20)
#define MAX_FIELD_BYTES 4096
#define DEFAULT_SOCKET "/run/tidegate/cni.sock"
#define DEFAULT_SECONDS 20
#define MAX_SECONDS 300
#define FAREWELL_SECONDS 2 /* a pod that goes does not wait longer for anybody */

/* Codes of the CNI specification; from 100 on they are a plugin's own. */
enum cni_error {
	CNI_INCOMPATIBLE_VERSION = 1,
	CNI_BAD_ENVIRONMENT = 4,
	CNI_IO_FAILURE = 5,
	CNI_CANNOT_DECODE = 6,
	CNI_BAD_CONFIGURATION = 7,
	CNI_TRY_AGAIN = 11,
	CNI_NOT_AVAILABLE = 50,
};

static const char *const VERSIONS[] = {"1.1.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0"};
#define VERSION_COUNT (sizeof(VERSIONS) / sizeof(VERSIONS[0]))

struct configuration {
	struct slice raw;
	struct slice previous; /* the result so far; `at` NULL if there is none */
	const char *version;   /* one of VERSIONS; NULL if it is none of them */
	char socket[sizeof(((struct sockaddr_un *)0)->sun_path)];
	unsigned int seconds;
	bool fails_open;
};

/* Print `text` as JSON's. What is not plain becomes a question mark: this is for people. */
static void print_string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar(*text >= ' ' && *text < 0x7f ? *text : '?');
	}
	putchar('"');
}

static int finish(int status)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		return 1; /* the runtime did not get it all */
	return status;
}

static int fail(const char *version, unsigned int code, const char *message, const char *details)
{
	printf("{\"cniVersion\": \"%s\", \"code\": %u, \"msg\": ", version ? version : VERSIONS[0], code);
	print_string(message);
	fputs(", \"details\": ", stdout);
	print_string(details);
	puts("}");
	finish(1);
	return 1;
}

static int print_previous(const struct configuration *conf)
{
	fwrite(conf->previous.at, 1, conf->previous.size, stdout);
	putchar('\n');
	return finish(0);
}

static int print_versions(const struct configuration *conf)
{
	printf("{\"cniVersion\": \"%s\", \"supportedVersions\": [", conf->version ? conf->version : VERSIONS[0]);
	for (size_t i = VERSION_COUNT; i > 0; i--)
		printf("\"%s\"%s", VERSIONS[i - 1], i > 1 ? ", " : "");
	puts("]}");
	return finish(0);
}

/* All of standard input; false if there is more than `size` bytes, or it cannot be read. */
static bool read_input(char *buffer, size_t size, struct slice *input)
{
	size_t filled = 0;

	for (;;) {
		ssize_t got = read(STDIN_FILENO, buffer + filled, size - filled);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || filled + (size_t)got == size)
			return false;
		if (got == 0)
			break;
		filled += (size_t)got;
	}
	*input = (struct slice){buffer, filled};
	return true;
}

static bool is_string(struct slice value, const char *text)
{
	size_t size = strlen(text);

	return value.size == size + 2 && value.at[0] == '"' && memcmp(value.at + 1, text, size) == 0;
}

static const char *version_of(struct slice value)
{
	for (size_t i = 0; value.at && i < VERSION_COUNT; i++) {
		if (is_string(value, VERSIONS[i]))
			return VERSIONS[i];
	}
	return NULL;
}

static bool read_seconds(struct slice value, unsigned int *seconds)
{
	unsigned int read = 0;

	if (!value.at)
		return true;
	for (size_t i = 0; i < value.size; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return false;
		read = read * 10 + (unsigned int)(value.at[i] - '0');
		if (read > MAX_SECONDS)
			return false;
	}
	*seconds = read;
	return read > 0;
}

static bool read_failure_mode(struct slice value, bool *fails_open)
{
	if (!value.at || is_string(value, "closed"))
		return true;
	*fails_open = is_string(value, "open");
	return *fails_open;
}

static bool read_socket(struct slice value, char *path, size_t size)
{
	if (!value.at)
		return true;
	if (value.size < 3 || value.at[0] != '"' || value.at[1] != '/' || memchr(value.at, '\\', value.size) ||
	    value.size - 2 >= size)
		return false;
	memcpy(path, value.at + 1, value.size - 2);
	path[value.size - 2] = '\0';
	return true;
}

/* 0, or what is wrong, after it was printed. */
static int read_configuration(struct slice input, struct configuration *conf)
{
	enum { VERSION, PREVIOUS, SECONDS, MODE, SOCKET, COUNT };
	struct json_member member[COUNT] = {
		[VERSION] = {.name = "cniVersion"},	[PREVIOUS] = {.name = "prevResult"},
		[SECONDS] = {.name = "timeoutSeconds"}, [MODE] = {.name = "failureMode"},
		[SOCKET] = {.name = "socket"},
	};

	*conf = (struct configuration){.raw = input, .socket = DEFAULT_SOCKET, .seconds = DEFAULT_SECONDS};
	if (!json_scan_object(input, member, COUNT))
		return fail(NULL, CNI_CANNOT_DECODE, "the network configuration is no sound JSON object",
			    "on standard input; members that are read here may be there once only");
	conf->version = version_of(member[VERSION].value);
	conf->previous = member[PREVIOUS].value;
	if (!read_seconds(member[SECONDS].value, &conf->seconds))
		return fail(conf->version, CNI_BAD_CONFIGURATION, "bad timeoutSeconds", "write 1 to 300");
	if (!read_failure_mode(member[MODE].value, &conf->fails_open))
		return fail(conf->version, CNI_BAD_CONFIGURATION, "bad failureMode", "write closed or open");
	if (!read_socket(member[SOCKET].value, conf->socket, sizeof(conf->socket)))
		return fail(conf->version, CNI_BAD_CONFIGURATION, "bad socket", "write an absolute path");
	return 0;
}

/* Ask the agent. False if a variable is too long to be passed on. */
static bool ask(const struct configuration *conf, const char *command, unsigned int seconds,
		struct agent_answer *answer)
{
	static const char *const NAMES[] = {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"};
	struct slice fields[AGENT_FIELDS] = {{command, strlen(command)}};

	for (int i = 0; i < 4; i++) {
		const char *value = getenv(NAMES[i]);

		fields[i + 1] = (struct slice){value ? value : "", value ? strlen(value) : 0};
		if (fields[i + 1].size > MAX_FIELD_BYTES)
			return false;
	}
	fields[AGENT_FIELDS - 1] = conf->raw;
	agent_ask(conf->socket, fields, seconds * 1000, answer);
	return true;
}

/* ADD and CHECK: nothing but the agent's yes, or leave to do without it, is good enough. */
static int demand(const struct configuration *conf, const char *command, bool prints_result)
{
	struct agent_answer answer;

	if (!conf->previous.at || conf->previous.at[0] != '{')
		return fail(conf->version, CNI_BAD_CONFIGURATION, "there is no prevResult",
			    "tidegate-cni belongs behind the plugin that makes the pod's interface");
	if (!ask(conf, command, conf->seconds, &answer))
		return fail(conf->version, CNI_BAD_ENVIRONMENT, "a CNI_ variable is too long", "");
	if (answer.outcome == AGENT_REFUSED)
		return fail(conf->version, answer.code, "the Tidegate agent refused the pod", answer.text);
	if (answer.outcome != AGENT_DONE && !conf->fails_open)
		return fail(conf->version, CNI_TRY_AGAIN, "the pod is not under policy yet", answer.text);
	if (answer.outcome != AGENT_DONE)
		fprintf(stderr, "tidegate-cni: failureMode is open, and the pod is not under policy: %s\n", answer.text);
	return prints_result ? print_previous(conf) : finish(0);
}

/* DEL and GC: the agent is told; if it is away, it finds out by itself. */
static int tell(const struct configuration *conf, const char *command)
{
	struct agent_answer answer;
	unsigned int seconds = conf->seconds < FAREWELL_SECONDS ? conf->seconds : FAREWELL_SECONDS;

	if (ask(conf, command, seconds, &answer) && answer.outcome != AGENT_DONE)
		fprintf(stderr, "tidegate-cni: %s: %s\n", command, answer.text);
	return finish(0);
}

static int report_status(const struct configuration *conf)
{
	struct agent_answer answer = {.text = ""};

	if (!ask(conf, "STATUS", conf->seconds, &answer) || answer.outcome != AGENT_DONE)
		return fail(conf->version, CNI_NOT_AVAILABLE, "the Tidegate agent is not ready", answer.text);
	return finish(0);
}

static int run(const char *command, struct slice input)
{
	struct configuration conf;
	int refused = read_configuration(input, &conf);

	if (refused)
		return refused;
	if (strcmp(command, "VERSION") == 0)
		return print_versions(&conf);
	if (!conf.version)
		return fail(NULL, CNI_INCOMPATIBLE_VERSION, "cniVersion is not supported", "0.3.0 to 1.1.0 are");
	if (strcmp(command, "ADD") == 0)
		return demand(&conf, "ADD", true);
	if (strcmp(command, "CHECK") == 0)
		return demand(&conf, "CHECK", false);
	if (strcmp(command, "DEL") == 0 || strcmp(command, "GC") == 0)
		return tell(&conf, command);
	if (strcmp(command, "STATUS") == 0)
		return report_status(&conf);
	return fail(conf.version, CNI_BAD_ENVIRONMENT, "unknown CNI_COMMAND", command);
}

int main(void)
{
	static char buffer[MAX_INPUT_BYTES + 1];
	const char *command = getenv("CNI_COMMAND");
	struct slice input;

	if (!command)
		return fail(NULL, CNI_BAD_ENVIRONMENT, "CNI_COMMAND is not set",
			    "this is a CNI plugin: a container runtime calls it");
	if (!read_input(buffer, sizeof(buffer), &input))
		return fail(NULL, CNI_IO_FAILURE, "standard input cannot be read, or is larger than 1 MiB", "");
	return run(command, input);
}
