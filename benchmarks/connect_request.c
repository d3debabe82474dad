/* SPDX-License-Identifier: Apache-2.0
 *
 * Connect, ask one byte, get one byte, close: over and over, as netperf's TCP_CRR does.
 *
 *	connect_request server ADDRESS PORT
 *	connect_request client ADDRESS PORT SECONDS [keep]   prints transactions a second
 *
 * With `keep` the client connects once and only asks.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static int open_socket(void)
{
	/* Reset on close: no port is left waiting, so a run of seconds cannot exhaust them. */
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void serve(const struct sockaddr_in *address)
{
	int listening = open_socket();
	char byte;

	if (bind(listening, (const void *)address, sizeof(*address)) || listen(listening, 128))
		fail("listen");
	puts("listening");
	fflush(stdout);
	for (;;) {
		int fd = accept(listening, NULL, NULL);

		if (fd < 0)
			fail("accept");
		while (read(fd, &byte, 1) == 1)
			if (write(fd, &byte, 1) != 1)
				break;
		close(fd);
	}
}

static int connected(const struct sockaddr_in *address)
{
	int fd = open_socket();

	if (connect(fd, (const void *)address, sizeof(*address)))
		fail("connect");
	return fd;
}

static void ask(const struct sockaddr_in *address, double seconds, int keep)
{
	double begun = now(), end = begun + seconds;
	int fd = keep ? connected(address) : -1;
	long done = 0;
	char byte = 'x';

	for (; now() < end; done++) {
		if (!keep)
			fd = connected(address);
		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			fail("request");
		if (!keep)
			close(fd);
	}
	printf("%.1f\n", done / (now() - begun));
}

int main(int count, char **arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	if (count < 4 || inet_pton(AF_INET, arguments[2], &address.sin_addr) != 1)
		return 2;
	address.sin_port = htons(atoi(arguments[3]));
	if (!strcmp(arguments[1], "server"))
		serve(&address);
	else if (count >= 5)
		ask(&address, atof(arguments[4]), count > 5 && !strcmp(arguments[5], "keep"));
	return 0;
}
