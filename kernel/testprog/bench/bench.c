// What single operations cost, for make bench-kernel: each loop runs N and then 2N times between named marks, so that a counting
// boot has the instructions of N operations as a difference, without what a mark costs. /data must be a file of FILE_PAGES pages.
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, FILE_PAGES = 1536, AROUND = 16, FAULTS = FILE_PAGES / AROUND };

static inline long call4(long n, long a, long b, long c, long d) {
	register long r10 __asm__("r10") = d;
	long ret;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return ret;
}

static char buf[PAGE] __attribute__((aligned(PAGE)));
static int file;
static char *fresh, *maps[6];

static void empty(int n) {
	for (int i = 0; i < n; i++)
		__asm__ volatile("" ::: "memory");
}

static void null(int n) {
	for (int i = 0; i < n; i++)
		call4(SYS_getppid, 0, 0, 0, 0);
}

static void read4k(int n) {
	for (int i = 0; i < n; i++)
		if (call4(SYS_read, file, (long)buf, PAGE, 0) != PAGE)
			_exit(3);
}

// Each call takes what no call before it took.
static void filefault(int n) {
	static int at;
	for (int end = at + n; at < end; at++)
		*(volatile char *)(maps[at / FAULTS] + at % FAULTS * AROUND * PAGE);
}

static void freshfault(int n) {
	for (int i = 0; i < n; i++, fresh += PAGE)
		*(volatile char *)fresh = 1;
}

static uint32_t turn;

static void wait_for(uint32_t mine) {
	for (uint32_t t; (t = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) != mine;)
		call4(SYS_futex, (long)&turn, FUTEX_WAIT_PRIVATE, t, 0);
}

static void pass_to(uint32_t other) {
	__atomic_store_n(&turn, other, __ATOMIC_RELEASE);
	call4(SYS_futex, (long)&turn, FUTEX_WAKE_PRIVATE, 1, 0);
}

static void *partner(void *arg) {
	for (;;) {
		wait_for(1);
		pass_to(0);
	}
	return arg;
}

static void futex(int n) {
	for (int i = 0; i < n; i++) {
		pass_to(1);
		wait_for(0);
	}
}

// As many areas as there may be but for some, without a page of room between them, so that each mapping is placed below them all.
enum { AREAS = 65000 };

static void areas(int n) {
	for (int i = 0; i < n; i++)
		munmap(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
}

static void middle(int n) {
	static char *at;
	if (!at)
		at = fresh + AREAS / 2 * PAGE;
	for (int i = 0; i < n; i++, at += 4 * PAGE) { // a page goes from one area to the one before, and back
		mprotect(at, PAGE, PROT_NONE);
		mprotect(at, PAGE, PROT_READ);
	}
}

static int marks;

static void mark(const char *name, int i) {
	char m[32];
	write(marks, m, snprintf(m, sizeof m, "%s.%d", name, i));
}

static void measure(const char *name, void (*op)(int), int n) {
	op(1); // its code is there, and what it needs once
	mark(name, 0);
	op(n);
	mark(name, 1);
	op(2 * n);
	mark(name, 2);
}

int main(int argc, char **argv) {
	marks = open("/dev/mark", O_WRONLY);
	file = open("/data", O_RDONLY);
	if (marks < 0 || file < 0)
		return 2;
	if (argc > 1) { // an idle time of so many ms
		int ms = atoi(argv[1]);
		struct timespec t = {ms / 1000, ms % 1000 * 1000000};
		nanosleep(&t, NULL);
		return 0;
	}
	measure("empty", empty, 4000);
	measure("null", null, 4000);
	for (int i = 0; i < FILE_PAGES; i++)
		if (read(file, buf, PAGE) != PAGE)
			return 3;
	lseek(file, 0, SEEK_SET);
	measure("read", read4k, 500);
	for (int i = 0; i < 6; i++)
		if ((maps[i] = mmap(NULL, FILE_PAGES * PAGE, PROT_READ, MAP_PRIVATE, file, 0)) == MAP_FAILED)
			return 4;
	measure("filefault", filefault, 150);
	const size_t size = 3008 * PAGE;
	char *first = fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (first == MAP_FAILED)
		return 5;
	measure("freshfault", freshfault, 1000);
	madvise(first, size, MADV_DONTNEED); // frames that were used
	fresh = first;
	measure("usedfault", freshfault, 1000);
	pthread_t t;
	if (pthread_create(&t, NULL, partner, NULL))
		return 6;
	measure("futex", futex, 1000);
	fresh = mmap(NULL, AREAS * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fresh == MAP_FAILED)
		return 7;
	mark("fill", 0);
	for (int i = 0; i < AREAS; i += 2)
		if (mprotect(fresh + i * 2 * PAGE, 2 * PAGE, PROT_READ))
			return 8;
	mark("fill", 1);
	measure("areas", areas, 100);
	measure("middle", middle, 100);
	munmap(fresh, AREAS * 2 * PAGE);
	mark("fill", 2);
	return 0;
}
