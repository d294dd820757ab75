// Calls the functions of the image in the file argv[1], beside a page of data that this program writes.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct data { volatile uint32_t seq, fine; uint64_t tsc, nanos, mult, wall; };

static uint64_t tsc(void) {
	uint32_t lo, hi;
	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}
static int failed;
#define check(what, cond) do { if (!(cond)) printf("FAIL %s: %s\n", what, #cond), failed = 1; } while (0)
static int between(uint64_t low, struct timespec t, uint64_t high) {
	uint64_t v = t.tv_sec * 1000000000ull + t.tv_nsec;
	return t.tv_nsec < 1000000000 && low <= v && v <= high;
}

int main(int argc, char **argv) {
	char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open(argv[1], O_RDONLY);
	if (fd < 0 || read(fd, m + 4096, 4096) < 1000) return 2;
	mprotect(m + 4096, 4096, PROT_READ | PROT_EXEC);
	struct data *d = (struct data *)m;
	int (*gettime)(long, struct timespec *) = (void *)(m + 4096 + atoi(argv[2]));
	int (*day)(struct timeval *, struct timezone *) = (void *)(m + 4096 + atoi(argv[3]));
	time_t (*seconds)(time_t *) = (void *)(m + 4096 + atoi(argv[4]));
	int (*cpu)(unsigned *, unsigned *) = (void *)(m + 4096 + atoi(argv[5]));
	struct timespec t, k;
	const uint64_t wall = 1600000000123456789;
	// A tick of 1 ns, of 0.4 ns, of 3.5 ns: a TSC below 1 GHz.
	uint64_t mults[] = {1ull << 32, 1717986918, 15032385536};
	for (int i = 0; i < 3; i++) {
		*d = (struct data){.seq = 4, .fine = 1, .tsc = tsc(), .nanos = 5000000000, .mult = mults[i], .wall = wall};
		for (int clk = 0; clk < 12; clk++) {
			int known = 0x8f3 >> clk & 1, isWall = 0x821 >> clk & 1;
			if (!known) continue;
			uint64_t before = tsc();
			check("gettime", gettime(clk, &t) == 0);
			uint64_t after = tsc(), add = 5000000000 + (isWall ? wall : 0);
			check("gettime", between(add + (uint64_t)((unsigned __int128)(before - d->tsc) * mults[i] >> 32), t, add + (uint64_t)((unsigned __int128)(after - d->tsc) * mults[i] >> 32)));
		}
		struct timeval tv;
		uint64_t before = tsc();
		check("gettimeofday", day(&tv, NULL) == 0);
		uint64_t low = wall + 5000000000 + (uint64_t)((unsigned __int128)(before - d->tsc) * mults[i] >> 32);
		uint64_t us = tv.tv_sec * 1000000ull + tv.tv_usec;
		check("gettimeofday", tv.tv_usec < 1000000 && us >= low / 1000 && us < low / 1000 + 1000000);
		time_t s = 0;
		check("time", seconds(&s) == s && (uint64_t)s >= low / 1000000000 && (uint64_t)s <= low / 1000000000 + 1);
		check("time", seconds(NULL) >= s);
	}
	// An hour and a day later: the product takes more than 64 bits.
	d->tsc = tsc() - 86400000000000;
	d->mult = mults[2];
	check("overflow", gettime(1, &t) == 0 && between(5000000000 + 3 * 86400000000000, t, 5000000000 + 4 * 86400000000000));
	// What the page does not know, or is not to be asked for, the kernel answers.
	for (int i = 0; i < 2; i++) {
		d->fine = i, d->seq = 4 + i;
		for (int clk = 0; clk < 12; clk++) {
			if (clk >= 8 && clk <= 10) continue; // those of alarms are not everywhere
			clock_gettime(clk, &k);
			check("slow", gettime(clk, &t) == 0 && t.tv_sec - k.tv_sec <= 1 && t.tv_sec >= k.tv_sec);
		}
		struct timeval tv;
		check("slow", day(&tv, NULL) == 0 && tv.tv_sec - time(NULL) <= 0 && tv.tv_sec > 1600000000);
		check("slow", seconds(NULL) >= tv.tv_sec);
	}
	d->fine = 1, d->seq = 4;
	struct timezone tz;
	struct timeval tv;
	check("zone", day(&tv, &tz) == 0 && tv.tv_sec != 0);
	check("bad", gettime(77, &t) == -EINVAL && gettime(10, &t) == -EINVAL);
	check("cpu clock", gettime(2, &t) == 0 && t.tv_sec < 100);
	unsigned a = 5, b = 6;
	check("cpu", cpu(&a, &b) == 0 && a == 0 && b == 0 && cpu(NULL, NULL) == 0);
	if (!failed) puts("ok");
	return failed;
}
