/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections to measure policy by, as netperf makes them.
 *
 *	load server ADDRESS PORT
 *	load crr    ADDRESS PORT SECONDS SERVER    connect, ask a byte, close; over and over
 *	load rr     ADDRESS PORT SECONDS SERVER    connect once, ask over and over
 *	load stream ADDRESS PORT SECONDS SERVER    connect once, and only send
 *
 * The client prints the seconds of processor time that one transaction (of a stream: one byte) cost it and
 * SERVER, a process id. With both on one processor that includes what the kernel does for their packets,
 * and nothing of what else runs there.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define QUESTION 'q'
#define STREAM 's'

static char buffer[128 * 1024];

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

static double processor_time(clockid_t clock)
{
	struct timespec at;

	if (clock_gettime(clock, &at))
		fail("clock");
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

/* A question is answered; what begins as a stream is read to its end. */
static void answer(int fd)
{
	ssize_t got;

	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		if (buffer[0] == QUESTION && write(fd, buffer, 1) != 1)
			return;
}

static void serve(const struct sockaddr_in *address)
{
	int listening = open_socket();

	if (bind(listening, (const void *)address, sizeof(*address)) || listen(listening, 128))
		fail("listen");
	puts("listening");
	fflush(stdout);
	for (;;) {
		int fd = accept(listening, NULL, NULL);

		if (fd < 0)
			fail("accept");
		answer(fd);
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

static void ask(int fd)
{
	char byte = QUESTION;

	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
		fail("question");
}

static double ask_on_new_connections(const struct sockaddr_in *address, double end)
{
	long done;

	for (done = 0; now() < end; done++) {
		int fd = connected(address);

		ask(fd);
		close(fd);
	}
	return done;
}

static double ask_on_one_connection(const struct sockaddr_in *address, double end)
{
	int fd = connected(address);
	long done;

	for (done = 0; now() < end; done++)
		ask(fd);
	return done;
}

static double send_on_one_connection(const struct sockaddr_in *address, double end)
{
	int fd = connected(address);
	double sent = 0;

	memset(buffer, STREAM, sizeof(buffer));
	while (now() < end) {
		ssize_t taken = write(fd, buffer, sizeof(buffer));

		if (taken < 0)
			fail("stream");
		sent += taken;
	}
	return sent;
}

int main(int count, char **arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	clockid_t servers;
	double begun, done, end;

	if (count < 4 || inet_pton(AF_INET, arguments[2], &address.sin_addr) != 1)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	address.sin_port = htons(atoi(arguments[3]));
	if (!strcmp(arguments[1], "server"))
		serve(&address);
	if (count < 6 || clock_getcpuclockid(atoi(arguments[5]), &servers))
		return 2;
	begun = processor_time(CLOCK_PROCESS_CPUTIME_ID) + processor_time(servers);
	end = now() + atof(arguments[4]);
	if (!strcmp(arguments[1], "crr"))
		done = ask_on_new_connections(&address, end);
	else if (!strcmp(arguments[1], "rr"))
		done = ask_on_one_connection(&address, end);
	else
		done = send_on_one_connection(&address, end);
	printf("%.12f\n", (processor_time(CLOCK_PROCESS_CPUTIME_ID) + processor_time(servers) -
			   begun) / done);
	return 0;
}
