// Arguments at the ends of what there is: offsets of files near 2^64, mappings that are moved onto themselves, buffers that end a page.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define P 4096l
#define RW (PROT_READ | PROT_WRITE)

static void told(const char *what, long r) { printf("%s: %s, errno %d\n", what, r == -1 ? "no" : "yes", r == -1 ? errno : 0); }

static void *map(int fd, unsigned long size, unsigned long off, int flags) {
	return (void *)syscall(SYS_mmap, NULL, size, RW, flags, fd, off);
}

// A mapping whose offset passes the end of 64 bits would show the file's first pages, which truncating it would not take away.
static void offsets(void) {
	int fd = memfd_create("f", 0);
	ftruncate(fd, P);
	told("mapped at the end of 2^64", (long)map(fd, P, -P, MAP_SHARED));
	char *p = map(fd, P, -2 * P, MAP_SHARED);
	told("mapped before the end of 2^64", (long)p);
	if (p != MAP_FAILED) {
		char *q = mremap(p, P, 8 * P, MREMAP_MAYMOVE);
		told("longer", (long)q);
		q[2 * P] = 1; // the file's first page
		ftruncate(fd, 0);
		q[2 * P] = 2; // nobody's, or another's
	}
	told("mapped at 2^63", (long)map(fd, P, 1ul << 63, MAP_SHARED));
	told("mapped below 2^63", (long)map(fd, P, (1ul << 63) - P, MAP_SHARED));
	told("mapped farther below 2^63", (long)map(fd, P, (1ul << 63) - 2 * P, MAP_PRIVATE));
	told("no file, at the end of 2^64", (long)map(-1, P, -2 * P, MAP_PRIVATE | MAP_ANONYMOUS));
	close(fd);
}

static void moves(void) {
	char *p = mmap(NULL, 8 * P, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	p[P] = 1;
	told("a twin over the first half", (long)mremap(p, 0, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, p + 4 * P));
	told("a twin in its own place", (long)mremap(p, 0, P, MREMAP_MAYMOVE | MREMAP_FIXED, p));
	told("a larger twin before its own place", (long)mremap(p + 2 * P, 0, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, p + P));
	printf("what is left: %d\n", p[P]);
}

// Reads that are longer than what there is to read, into a buffer whose first bytes are the last ones of a page.
static void pages(void) {
	char *b = mmap(NULL, 4 * P, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + P - 3;
	int e = eventfd(5, EFD_NONBLOCK);
	printf("counter: %ld", (long)read(e, b, 2 * P));
	printf(" %d\n", b[0]);
	int t = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec once = {.it_value = {0, 1}};
	timerfd_settime(t, 0, &once, NULL);
	printf("timer: %ld", (long)read(t, b, 2 * P));
	printf(" %d\n", b[0]);
	sigset_t usr;
	sigemptyset(&usr);
	sigaddset(&usr, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr, NULL);
	int s = signalfd(-1, &usr, 0);
	raise(SIGUSR1);
	printf("signal: %ld", (long)read(s, b, 2 * P));
	printf(" %d\n", b[0]);
}

int main(void) {
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	offsets();
	moves();
	pages();
	return 0;
}
