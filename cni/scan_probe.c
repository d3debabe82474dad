/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: tell what the scanner makes of each document.
 *
 * In:  documents, each behind its size (four bytes, as the machine orders them)
 * Out: one line a document: "-" if refused, else the value's place of each wanted member, "FROM+SIZE" or "."
 *
 * Each document ends where the next page may not be read: one byte too many ends the program.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include "json_scan.h"

#define PAGE 4096u
#define MAX_BYTES (256 * PAGE)

static void tell(struct slice text)
{
	struct json_member members[] = {{.name = "cniVersion"}, {.name = "prevResult"}};

	if (!json_scan_object(text, members, 2)) {
		puts("-");
		return;
	}
	for (int i = 0; i < 2; i++) {
		if (members[i].value.at)
			printf("%td+%zu ", members[i].value.at - text.at, members[i].value.size);
		else
			printf(". ");
	}
	putchar('\n');
}

int main(void)
{
	char *room = mmap(NULL, MAX_BYTES + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t size;

	if (room == MAP_FAILED || mprotect(room + MAX_BYTES, PAGE, PROT_NONE) != 0)
		return 1;
	while (fread(&size, sizeof(size), 1, stdin) == 1) {
		char *document = room + MAX_BYTES - size;

		if (size > MAX_BYTES || fread(document, 1, size, stdin) != size)
			return 1;
		tell((struct slice){document, size});
	}
	return 0;
}
