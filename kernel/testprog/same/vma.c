// What mmap and its relatives do, told in lines that are the same under Linux 6.1 and later.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define P 4096l
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define DONTNEED_LOCKED 24
#define MADV_COLD_ 20

static sigjmp_buf jump;
static volatile int code;
static void *volatile where;

static void caught(int sig, siginfo_t *si, void *uc) {
	(void)uc;
	code = si->si_code;
	where = si->si_addr;
	siglongjmp(jump, sig);
}

// get and put access a byte; what they return is the byte or, when the access faults, 1000 times the signal and its code.
static int get(volatile void *p) {
	int sig = sigsetjmp(jump, 1);
	if (sig == 0)
		return *(volatile unsigned char *)p;
	return (where == p ? 1000 : -1000) * sig - code;
}

static int put(volatile void *p, int v) {
	int sig = sigsetjmp(jump, 1);
	if (sig == 0) {
		*(volatile unsigned char *)p = v;
		return 0;
	}
	return (where == p ? 1000 : -1000) * sig - code;
}

// told prints the result of a call: an errno, or what was expected as it is.
#define told(name, call) do { \
	errno = 0; \
	long r_ = (long)(call); \
	if (r_ == -1) printf("%s: errno %d\n", name, errno); \
	else printf("%s: done\n", name); \
} while (0)

// value prints a number.
#define value(name, v) printf("%s: %ld\n", name, (long)(v))

static char *base; // of the room in which all happens: nothing else is there
#define ROOM 64

static char *map(int at, int n, int prot, int flags) {
	return mmap(base + at * P, n * P, prot, flags | MAP_FIXED, -1, 0);
}

// room frees the room.
static void room(void) { munmap(base, (ROOM + 8) * P); }

// show prints what lies in [from, from+size) as /proc/self/maps has it; what touches and agrees is one.
static void show(const char *name, char *from, unsigned long size) {
	FILE *f = fopen("/proc/self/maps", "r");
	char line[600], perms[8], last[8] = "";
	unsigned long start, end, off, lastEnd = 0, lastOff = 0, lastStart = 0;
	printf("%s:", name);
	while (f && fgets(line, sizeof line, f)) {
		unsigned long ino = 0;
		if (sscanf(line, "%lx-%lx %7s %lx %*s %lu", &start, &end, perms, &off, &ino) < 5)
			continue;
		if (end <= (unsigned long)from || start >= (unsigned long)from + size)
			continue;
		if (ino == 0)
			off = 0;
		if (lastEnd == start && !strcmp(perms, last) && (ino == 0 ? lastOff == 0 : lastOff == off)) {
			lastEnd = end, lastOff = ino ? off + end - start : 0;
			continue;
		}
		if (last[0])
			printf(" %ld+%ld %s", (long)(lastStart - (unsigned long)from) / P, (long)(lastEnd - lastStart) / P, last);
		printf(ino ? " @%lx:" : "", off);
		strcpy(last, perms);
		lastStart = start, lastEnd = end, lastOff = ino ? off + end - start : 0;
	}
	if (last[0])
		printf(" %ld+%ld %s", (long)(lastStart - (unsigned long)from) / P, (long)(lastEnd - lastStart) / P, last);
	printf("\n");
	if (f)
		fclose(f);
}

// resident prints what mincore says.
static void resident(const char *name, int at, int n) {
	unsigned char vec[ROOM];
	printf("%s: ", name);
	if (mincore(base + at * P, n * P, vec))
		printf("errno %d", errno);
	else
		for (int i = 0; i < n; i++)
			putchar('0' + (vec[i] & 1));
	printf("\n");
}

#include "vma_calls.h"
#include "vma_files.h"
#include "vma_random.h"

int main(int argc, char **argv) {
	static char altstack[65536];
	stack_t alt = {.ss_sp = altstack, .ss_size = sizeof altstack};
	sigaltstack(&alt, NULL);
	struct sigaction sa = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	// Two MiB of nothing around the room.
	base = mmap(NULL, 16 << 20, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);
	munmap(base, 16 << 20);
	base += 8 << 20;
	if (argc > 2)
		return tortureSeeds(atoi(argv[1]), atoi(argv[2]));
	arguments();
	pieces();
	protections();
	advice();
	locks();
	remaps();
	growing();
	files(argv[0]);
	stack();
	tortureSeeds(1, 12);
	return 0;
}
