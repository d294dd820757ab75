// Random calls on mappings and the files behind them, with arguments at the ends of what there is. Usage: remap SEED CALLS THREADS. At
// the end each page of RAM must be where the kernel counts it. Same seed, same calls of each thread.
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define P 4096l
enum { PAGES = 24, GUARD = 512, FILES = 5 };

static const uint64_t odd[] = {0, 1, 4095, 4096, 8192, 0x7fffffffffff, 0x7ffffffff000, 1ull << 47, 1ull << 63, -4096ull, -8192ull, -1ull,
	(1ull << 63) - 4096, (1ull << 63) - 8192, 1ull << 46, 1ull << 62, 0x10000, 1ull << 40};
static char *arena; // with nothing to hurt around it
static int fd[FILES];
static long calls;
static __thread sigjmp_buf back;

static void fault(int sig) { siglongjmp(back, 1); }

static void one(uint64_t *s) {
#define R(n) (*s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17, (long)(*s % (n)))
#define ODD ((long)odd[R(sizeof odd / sizeof *odd)])
	static const int kinds[] = {MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, MAP_SHARED_VALIDATE};
	long page = R(PAGES), room = PAGES - page, at = (long)arena + page * P;
	long size = R(room + 1) * P, off = R(4) ? R(8) * P : ODD, file = fd[R(FILES)];
	switch (R(18)) {
	case 0: case 1:
		syscall(SYS_mmap, at, size < 4 * P ? size : 4 * P, R(8), kinds[R(6)] | MAP_FIXED | (R(8) ? 0 : MAP_POPULATE) | (R(16) ? 0 : MAP_LOCKED), file, off);
		break;
	case 2:
		munmap((void *)at, size);
		break;
	case 3: case 4: case 5: { // in place, moved within the arena, or anywhere
		long to = R(PAGES), now = R(6) ? R(PAGES - to + 1) * P : ODD, flags = R(8);
		if (now > (PAGES - to) * P)
			flags &= ~MREMAP_FIXED;
		long r = syscall(SYS_mremap, at, R(3) ? R(6) * P : 0, now, flags, arena + to * P);
		if (r != -1 && (r < (long)arena || r >= (long)arena + PAGES * P)) {
			if (R(2) && !sigsetjmp(back, 1))
				*(volatile char *)(r + R(now)) = 1;
			munmap((void *)r, now);
		}
		break;
	}
	case 6:
		mprotect((void *)at, size, R(8));
		break;
	case 7: {
		static const int advice[] = {MADV_DONTNEED, 8, MADV_REMOVE, 20, 21, 22, 23, 24, 102, 103};
		madvise((void *)at, size, advice[R(10)]);
		break;
	}
	case 8:
		ftruncate(file, R(8) ? R(8) * P + (R(2) ? R(P) : 0) : ODD);
		break;
	case 9:
		fallocate(file, R(4), R(8) ? R(8 * P) : ODD, R(8) ? R(8 * P) : ODD);
		break;
	case 10:
		syscall(R(2) ? SYS_mlock : SYS_munlock, at, size);
		break;
	case 11: {
		unsigned char in[PAGES];
		mincore((void *)at, size, in);
		msync((void *)at, size, R(8));
		break;
	}
	case 12:
		pread(file, (void *)(at + R(P)), R(4 * P), R(8 * P));
		break;
	case 13:
		pwrite(file, (void *)(at + R(P)), R(4 * P), R(8) ? R(8 * P) : ODD);
		break;
	case 14: {
		struct iovec v[3];
		for (int i = 0; i < 3; i++)
			v[i] = (struct iovec){arena + R(PAGES * P), R(2 * P)};
		R(2) ? preadv(file, v, 3, R(8 * P)) : pwritev(file, v, 3, R(8 * P));
		break;
	}
	default: {
		volatile char *c = arena + R(PAGES * P);
		int write = R(2);
		if (sigsetjmp(back, 1))
			break;
		if (write)
			*c = 7;
		else
			*c;
	}
	}
}

static void *thread(void *seed) {
	uint64_t s = (uintptr_t)seed * 0x9e3779b97f4a7c15;
	for (long i = 0; i < calls; i++)
		one(&s);
	return NULL;
}

// owners compares what /proc/memowners counts with what it finds, and returns the pages of the program and of files in memory.
static long owners(const char *when) {
	static char text[4096];
	int f = open("/proc/memowners", O_RDONLY);
	long n = read(f, text, sizeof text - 1), kept = 0;
	close(f);
	check(when, n > 0);
	text[n] = 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char name[64], found[32];
		long counted;
		check(when, sscanf(line, "%63[^\t]\t%ld\t%31s", name, &counted, found) == 3);
		if (*found != '-' && atol(found) != counted) {
			printf("FAIL %s: %s\n", when, line);
			exit(1);
		}
		if (!strcmp(name, "files in memory"))
			kept += counted;
	}
	return kept;
}

int main(int argc, char **argv) {
	long seed = atol(argv[1]), threads = atol(argv[3]);
	calls = atol(argv[2]);
	struct sigaction sa = {.sa_handler = fault, .sa_flags = SA_NODEFER};
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	long before = owners("before");
	char *all = mmap(NULL, (PAGES + 2 * GUARD) * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	arena = all + GUARD * P;
	for (int i = 0; i < FILES; i++)
		check("files", (fd[i] = i ? memfd_create("f", 0) : open(argv[0], O_RDONLY)) >= 0);
	pthread_t t[8];
	for (long i = 0; i < threads; i++)
		check("threads", pthread_create(&t[i], NULL, thread, (void *)(seed * 8 + i + 1)) == 0);
	for (long i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	owners("counts");
	munmap(all, (PAGES + 2 * GUARD) * P);
	for (int i = 0; i < FILES; i++)
		close(fd[i]);
	long after = owners("counts at the end");
	ok("counts");
	printf("%ld pages of files before, %ld after\n", before, after);
	check("files", after == before);
	ok("files");
	return 0;
}
