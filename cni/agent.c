/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define RETRY_MILLISECONDS 25
/* The agent stops this long before we do, so that it is heard why. */
#define MARGIN_MILLISECONDS 200
#define ANSWER_HEAD 9

typedef int64_t moment; /* milliseconds of the monotonic clock */

static moment now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (moment)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static bool wait_for(int fd, short what, moment deadline)
{
	for (;;) {
		moment left = deadline - now();
		struct pollfd waiting = {.fd = fd, .events = what};
		int found;

		if (left <= 0)
			return false;
		found = poll(&waiting, 1, (int)left);
		if (found > 0)
			return true;
		if (found < 0 && errno != EINTR)
			return false;
	}
}

static int open_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static bool send_all(int fd, const void *data, size_t size, moment deadline)
{
	const char *at = data;

	while (size > 0) {
		ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);

		if (sent > 0) {
			at += sent;
			size -= (size_t)sent;
		} else if (errno == EAGAIN) {
			if (!wait_for(fd, POLLOUT, deadline))
				return false;
		} else if (errno != EINTR) {
			return false;
		}
	}
	return true;
}

static bool receive_all(int fd, void *data, size_t size, moment deadline)
{
	char *at = data;

	while (size > 0) {
		ssize_t got = recv(fd, at, size, 0);

		if (got > 0) {
			at += got;
			size -= (size_t)got;
		} else if (got == 0) {
			return false; /* the agent went: ask it again */
		} else if (errno == EAGAIN) {
			if (!wait_for(fd, POLLIN, deadline))
				return false;
		} else if (errno != EINTR) {
			return false;
		}
	}
	return true;
}

static uint32_t number_at(const unsigned char *at)
{
	uint32_t number;

	memcpy(&number, at, sizeof(number));
	return ntohl(number);
}

static bool send_request(int fd, const struct slice fields[AGENT_FIELDS], moment deadline)
{
	moment left = deadline - now() - MARGIN_MILLISECONDS;
	uint32_t size = 1 + 4, budget = htonl((uint32_t)(left > 0 ? left : 0)), total;
	unsigned char head[9];

	for (int i = 0; i < AGENT_FIELDS; i++)
		size += 4 + (uint32_t)fields[i].size;
	total = htonl(size);
	memcpy(head, &total, 4);
	head[4] = AGENT_PROTOCOL;
	memcpy(head + 5, &budget, 4);
	if (!send_all(fd, head, sizeof(head), deadline))
		return false;
	for (int i = 0; i < AGENT_FIELDS; i++) {
		uint32_t length = htonl((uint32_t)fields[i].size);

		if (!send_all(fd, &length, sizeof(length), deadline) ||
		    !send_all(fd, fields[i].at, fields[i].size, deadline))
			return false;
	}
	return true;
}

static bool receive_answer(int fd, struct agent_answer *answer, moment deadline)
{
	unsigned char head[ANSWER_HEAD];
	uint32_t size;

	if (!receive_all(fd, head, sizeof(head), deadline))
		return false;
	size = number_at(head);
	if (size < ANSWER_HEAD - 4 || size - (ANSWER_HEAD - 4) > AGENT_MAX_TEXT || head[4] > AGENT_NOT_READY)
		return false;
	size -= ANSWER_HEAD - 4;
	if (!receive_all(fd, answer->text, size, deadline))
		return false;
	answer->text[size] = '\0';
	answer->outcome = head[4];
	answer->code = number_at(head + 5);
	return true;
}

static void pause_until(moment deadline)
{
	moment left = deadline - now();
	long milliseconds = left < RETRY_MILLISECONDS ? (left > 0 ? (long)left : 0) : RETRY_MILLISECONDS;
	struct timespec pause = {.tv_nsec = milliseconds * 1000000};

	nanosleep(&pause, NULL);
}

void agent_ask(const char *socket_path, const struct slice fields[AGENT_FIELDS], unsigned int milliseconds,
	       struct agent_answer *answer)
{
	moment deadline = now() + milliseconds;

	do {
		int fd = open_socket(socket_path);

		if (fd >= 0) {
			bool answered = send_request(fd, fields, deadline) && receive_answer(fd, answer, deadline);

			close(fd);
			if (answered)
				return;
		}
		pause_until(deadline);
	} while (now() < deadline);
	answer->outcome = AGENT_AWAY;
	answer->code = 0;
	snprintf(answer->text, sizeof(answer->text), "nobody answers on %s", socket_path);
}
