// Calls that would keep the kernel busy for long, and so all other threads waiting, if they went about it page by page or file by
// file. Time is counted in instructions where this runs.
#include "check.h"
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#define P 4096l

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double start;

// done ends a check whose calls took less than so many seconds.
static void done(const char *name, double most) {
	double took = now() - start;
	if (took > most) {
		printf("FAIL %s: it took %.3f s\n", name, took);
		exit(1);
	}
	ok(name);
	start = now();
}

int main(void) {
	start = now();
	// A byte for each of 16 million pages that are not there, to the same memory again and again.
	enum { VEC = 1 << 20, TIMES = 16 };
	int fd = memfd_create("vec", 0);
	check("mincore", ftruncate(fd, VEC) == 0);
	unsigned char *vec = mmap(NULL, VEC * TIMES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (long i = 0; i < TIMES; i++)
		check("mincore", mmap(vec + i * VEC, VEC, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED);
	char *big = mmap(NULL, VEC * TIMES * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *last = big + (VEC * TIMES - 1) * P;
	*last = 1;
	start = now();
	check("mincore", big != MAP_FAILED && mincore(big, VEC * TIMES * P, vec) == 0);
	check("mincore", vec[VEC - 1] == 1 && vec[VEC - 2] == 0 && vec[0] == 0);
	munmap(big, VEC * TIMES * P);
	done("mincore", 0.5);

	// What /proc/self/maps tells of 4,000 areas, in one call and in many.
	enum { AREAS = 4000, ROOM = 1 << 20 };
	char *m = mmap(NULL, AREAS * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (long i = 0; i < AREAS; i += 2)
		check("maps", mprotect(m + i * P, P, PROT_READ) == 0);
	char *text = malloc(ROOM), *again = malloc(ROOM);
	memset(text, 0, ROOM), memset(again, 0, ROOM);
	start = now();
	int f = open("/proc/self/maps", O_RDONLY);
	long n = read(f, text, ROOM);
	check("maps", n > AREAS * 40 && n < ROOM && read(f, text + n, ROOM - n) == 0);
	check("maps", lseek(f, 0, SEEK_SET) == 0);
	long all = 0, c;
	while ((c = read(f, again + all, 1000)) > 0)
		all += c;
	check("maps", all == n && !memcmp(text, again, n));
	char name[16] = {0};
	int other = open("/proc/self/comm", O_RDONLY); // what one reads does not come from another
	check("maps", pread(f, again, 1000, 0) == 1000 && pread(other, name, 15, 0) == 5 && !strcmp(name, "busy\n"));
	check("maps", pread(f, again, 1000, 1000) == 1000 && !memcmp(again, text + 1000, 1000));
	done("maps", 3);
	return 0;
}
