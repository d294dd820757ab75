// Futexes that hand a lock over: FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI; and those of which a thread waits for any.
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
struct waitv { uint64_t val, addr; uint32_t flags, reserved; };
enum { U32 = 2, PRIVATE = 128 };

static long futex(void *a, int op, long val, void *timeout, void *a2, long val3) { return syscall(SYS_futex, a, op, val, timeout, a2, val3); }
static void told(const char *what, long r) { printf("%s: %ld, errno %d\n", what, r, r == -1 ? errno : 0); }

static struct timespec in(long ms) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += ms * 1000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

static void nap(void) { usleep(1000); }

static uint32_t cond, cond2, lock, word[4];

struct waiter { pthread_t t; struct timespec *until; long r; int err, owned; volatile int tid; };

static void *waits(void *arg) {
	struct waiter *w = arg;
	w->tid = gettid();
	w->r = futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, w->until, &lock, 0);
	w->err = w->r == -1 ? errno : 0;
	w->owned = (__atomic_load_n(&lock, __ATOMIC_SEQ_CST) & FUTEX_TID_MASK) == gettid();
	if (w->owned)
		futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
	return NULL;
}

static void start(struct waiter *w, int n, struct timespec *until) {
	for (int i = 0; i < n; i++) {
		w[i] = (struct waiter){.until = until};
		pthread_create(&w[i].t, NULL, waits, &w[i]);
	}
}

static void ended(const char *what, struct waiter *w, int n) {
	for (int i = 0; i < n; i++) {
		pthread_join(w[i].t, NULL);
		printf("%s: %ld, errno %d, owner %d\n", what, w[i].r, w[i].err, w[i].owned);
	}
	printf("%s: lock %x\n", what, lock);
}

static long requeue(int move, uint32_t val) { return futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)(long)move, &lock, val); }

static void owned(void) {
	struct waiter w[3];
	struct timespec past = {1, 0}, later;
	told("wait, itself", futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, NULL, &cond, 0));
	told("wait, odd", futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, NULL, (char *)&lock + 1, 0));
	told("wait, nowhere", futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, NULL, (void *)-4096, 0));
	told("wait, another value", futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 7, NULL, &lock, 0));
	told("wait, in the past", futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, &past, &lock, 0));
	told("wait, in the past of the other clock", futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &past, &lock, 0));
	told("requeue, itself", futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, 0, &cond, 0));
	told("requeue, wakes two", futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 2, 0, &lock, 0));
	told("requeue, wakes none", futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 0, 0, &lock, 0));
	told("requeue, another value", requeue(1, 3));
	told("requeue of nobody", requeue(1, 0));
	told("requeue, less than none", requeue(-1, 0));

	// The lock is free: the first gets it.
	long n;
	start(w, 1, NULL);
	while ((n = requeue(INT_MAX, 0)) == 0)
		nap();
	told("a free lock", n);
	ended("a free lock", w, 1);
	start(w, 1, NULL);
	while ((n = requeue(0, 0)) == 0)
		nap();
	told("a free lock, no more", n);
	ended("a free lock, no more", w, 1);

	// It is not: all wait, and get it one after the other.
	told("lock", futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	start(w, 3, NULL);
	for (n = 0; n < 3; nap()) {
		long r = requeue(INT_MAX, 0);
		if (r < 0) {
			told("requeue", r);
			return;
		}
		n += r;
	}
	told("three wait", n);
	printf("it is mine: %d, waiters %d\n", (lock & FUTEX_TID_MASK) == gettid(), lock >> 31);
	told("unlock", futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	ended("three", w, 3);

	// One for each call.
	told("lock", futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	start(w, 3, NULL);
	for (n = 0; n < 3; nap()) {
		long r = requeue(0, 0);
		if (r > 1 || r < 0)
			told("requeue of one", r);
		n += r;
	}
	told("unlock", futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	ended("one by one", w, 3);

	// What such a one is not woken by.
	start(w, 1, NULL);
	while ((n = futex(&cond, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0)) == 0)
		nap();
	told("wake", n);
	told("requeue, not to own", futex(&cond, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)1, &cond2, 0));
	told("requeue to another lock", futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, 0, &cond2, 0));
	told("requeue", requeue(0, 0));
	ended("not woken", w, 1);

	// Time ends the wait, before and after.
	later = in(20);
	start(w, 1, &later);
	ended("late", w, 1);
	told("lock", futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	later = in(400);
	start(w, 1, &later);
	while ((n = requeue(1, 0)) == 0)
		nap();
	told("requeued", n);
	pthread_join(w[0].t, NULL);
	printf("late: %ld, errno %d, owner %d\n", w[0].r, w[0].err, w[0].owned);
	told("unlock", futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	printf("lock %x\n", lock);

	// The owner is nobody.
	lock = 0x3ffffff0;
	start(w, 1, NULL);
	while ((n = requeue(1, 0)) == 0)
		nap();
	told("an owner that is gone", n);
	lock = 0;
	told("requeue", requeue(1, 0));
	ended("in the end", w, 1);
}

static long waitv(struct waitv *v, long n, long flags, struct timespec *until, long clock) { return syscall(SYS_futex_waitv, v, n, flags, until, clock); }

static struct waitv four[4];
static volatile long got;

static void *waits_any(void *arg) {
	got = waitv(four, 4, 0, NULL, 0);
	return NULL;
}

static void any(void) {
	struct timespec past = {1, 0}, bad = {1, 1000000000}, later;
	struct waitv v[129];
	for (int i = 0; i < 129; i++)
		v[i] = (struct waitv){0, (uintptr_t)&word[i % 4], U32 | PRIVATE};
	memcpy(four, v, sizeof four);
	told("waitv of none", waitv(v, 0, 0, NULL, 0));
	told("waitv of nothing", waitv(NULL, 1, 0, NULL, 0));
	told("waitv, flags", waitv(v, 1, 1, NULL, 0));
	told("waitv of too many", waitv(v, 129, 0, NULL, 0));
	told("waitv of nowhere", waitv((void *)-4096, 1, 0, NULL, 0));
	told("waitv, a clock of no use", waitv(v, 1, 0, &past, CLOCK_BOOTTIME));
	told("waitv, no time", waitv(v, 1, 0, &bad, CLOCK_MONOTONIC));
	told("waitv, in the past", waitv(v, 128, 0, &past, CLOCK_MONOTONIC));
	told("waitv, in the past of the other clock", waitv(v, 1, 0, &past, CLOCK_REALTIME));
	v[1].val = 5;
	told("waitv, another value", waitv(v, 2, 0, NULL, 0));
	v[1].val = 0, v[1].addr++;
	told("waitv, odd", waitv(v, 2, 0, NULL, 0));
	v[1].addr = -4096;
	told("waitv, an address nowhere", waitv(v, 2, 0, NULL, 0));
	v[1].addr = (uintptr_t)&word[1], v[1].reserved = 1;
	told("waitv, reserved", waitv(v, 2, 0, NULL, 0));
	v[1].reserved = 0, v[1].flags = 1;
	told("waitv, another size", waitv(v, 2, 0, NULL, 0));
	v[1].flags = U32 | 64;
	told("waitv, odd flags", waitv(v, 2, 0, NULL, 0));
	v[1].flags = U32;
	v[0].val = 5;
	told("waitv, the first", waitv(v, 2, 0, NULL, 0));
	v[0].val = 0;
	later = in(20);
	told("waitv, late", waitv(v, 2, 0, &later, CLOCK_MONOTONIC));
	for (int i = 3; i >= 0; i--) {
		pthread_t t;
		pthread_create(&t, NULL, waits_any, NULL);
		long n;
		while ((n = futex(&word[i], FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0)) == 0)
			nap();
		pthread_join(t, NULL);
		printf("woken %ld, by %ld\n", n, got);
	}
	pthread_t t;
	pthread_create(&t, NULL, waits_any, NULL);
	long n;
	while ((n = futex(&word[2], FUTEX_REQUEUE_PRIVATE, 0, (void *)1, &cond2, 0)) == 0)
		nap();
	told("requeue", n);
	told("wake where it was", futex(&word[2], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
	told("wake where it is", futex(&cond2, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
	pthread_join(t, NULL);
	printf("by %ld\n", got);
	uint32_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	four[1] = (struct waitv){0, (uintptr_t)shared, U32};
	pthread_create(&t, NULL, waits_any, NULL);
	while ((n = futex(shared, FUTEX_WAKE, 1, NULL, NULL, 0)) == 0)
		nap();
	pthread_join(t, NULL);
	printf("woken %ld, by %ld\n", n, got);
}

int main(void) {
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	owned();
	any();
	return 0;
}
