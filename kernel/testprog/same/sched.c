// Futexes, scheduling, threads. What this prints under Linux it has to print in the guest.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define say(...) (printf(__VA_ARGS__), fflush(stdout))
#define result(name, call) do { errno = 0; long r_ = (long)(call); int e_ = errno; say("%s: %ld errno %d\n", name, r_, e_); } while (0)

static long fut(void *a, int op, long v, const void *t, void *b, long v3) { return syscall(SYS_futex, a, op, v, t, b, v3); }
static uint64_t now(int clk) {
	struct timespec t;
	clock_gettime(clk, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static volatile int hits;
static void hit(int sig) { hits++; }

static int words[8] __attribute__((aligned(64)));
static volatile int results[8];
struct job { int index, op, val; int *word; struct timespec *t; int bits; };
static void *waiter(void *arg) {
	struct job *j = arg;
	long r = fut(j->word, j->op, j->val, j->t, NULL, j->bits);
	results[j->index] = r < 0 ? -errno : r;
	return NULL;
}
// How many wait for a word: requeued to itself they stay as they are, and are counted.
static long waiting(struct job *j) {
	return fut(j->word, FUTEX_REQUEUE | j->op & FUTEX_PRIVATE_FLAG, 0, (void *)1000, j->word, 0);
}
static pthread_t start(struct job *j) {
	pthread_t t;
	long before = waiting(j);
	pthread_create(&t, NULL, waiter, j);
	while (waiting(j) == before) usleep(100);
	return t;
}

static void futexes(void) {
	struct timespec t = {0, 2000000}, bad = {0, 1000000000};
	result("other value", fut(words, FUTEX_WAIT, 5, NULL, NULL, 0));
	uint64_t a = now(CLOCK_MONOTONIC);
	result("timeout", fut(words, FUTEX_WAIT, 0, &t, NULL, 0));
	say("long enough %d\n", now(CLOCK_MONOTONIC) - a >= 2000000);
	result("bad timeout", fut(words, FUTEX_WAIT, 0, &bad, NULL, 0));
	for (int rt = 0; rt < 2; rt++) {
		uint64_t when = now(rt ? CLOCK_REALTIME : CLOCK_MONOTONIC) + 2000000;
		struct timespec at = {when / 1000000000, when % 1000000000};
		result("absolute", fut(words, FUTEX_WAIT_BITSET | (rt ? FUTEX_CLOCK_REALTIME : 0), 0, &at, NULL, -1));
		say("not early %d\n", now(rt ? CLOCK_REALTIME : CLOCK_MONOTONIC) >= when);
		result("past", fut(words, FUTEX_WAIT_BITSET | (rt ? FUTEX_CLOCK_REALTIME : 0), 0, &at, NULL, -1));
	}
	result("no bits", fut(words, FUTEX_WAIT_BITSET, 0, &t, NULL, 0));
	result("wake no bits", fut(words, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
	result("odd", fut((char *)words + 1, FUTEX_WAIT, 0, &t, NULL, 0));
	result("fault", fut((void *)8, FUTEX_WAIT, 0, &t, NULL, 0));
	result("wait realtime", fut(words, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, &t, NULL, 0));
	result("unknown", fut(words, 99, 0, &t, NULL, 0));
	result("wake nobody", fut(words, FUTEX_WAKE, 10, NULL, NULL, 0));
	struct job js[4] = {{0, FUTEX_WAIT_BITSET_PRIVATE, 0, &words[0], NULL, 1}, {1, FUTEX_WAIT_BITSET_PRIVATE, 0, &words[0], NULL, 2}, {2, FUTEX_WAIT_PRIVATE, 0, &words[0], NULL, 0}, {3, FUTEX_WAIT_PRIVATE, 0, &words[0], NULL, 0}};
	pthread_t th[4];
	for (int i = 0; i < 4; i++) th[i] = start(&js[i]);
	result("wake bit 2", fut(words, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 2));
	pthread_join(th[1], NULL);
	say("result %d\n", results[1]);
	result("requeue value", fut(words, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &words[1], 7));
	result("requeue negative", fut(words, FUTEX_CMP_REQUEUE_PRIVATE, -1, (void *)10, &words[1], 0));
	result("requeue", fut(words, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, &words[1], 0));
	pthread_join(th[0], NULL);
	result("wake there", fut(&words[1], FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0));
	pthread_join(th[2], NULL);
	result("wake here", fut(&words[0], FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0));
	pthread_join(th[3], NULL);
	for (int i = 0; i < 2; i++) js[i] = (struct job){i, FUTEX_WAIT_PRIVATE, 0, &words[i], NULL, 0}, th[i] = start(&js[i]);
	words[1] = 5;
	result("wake op", fut(&words[0], FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &words[1], FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)));
	say("word %d\n", words[1]);
	for (int i = 0; i < 2; i++) pthread_join(th[i], NULL);
	result("op andn", fut(&words[0], FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &words[1], FUTEX_OP(FUTEX_OP_ANDN | FUTEX_OP_OPARG_SHIFT, 3, FUTEX_OP_CMP_GT, 100)));
	say("word %d\n", words[1]);
	result("op xor", fut(&words[0], FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &words[1], FUTEX_OP(FUTEX_OP_XOR, -1, FUTEX_OP_CMP_LT, 0)));
	say("word %d\n", words[1]);
	result("op bad", fut(&words[0], FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &words[1], 0x70000000));
	words[1] = 0;
	// One page of a file at two places is one futex.
	int fd = memfd_create("m", 0);
	ftruncate(fd, 4096);
	int *m1 = mmap(NULL, 4096, 3, MAP_SHARED, fd, 0), *m2 = mmap(NULL, 4096, 3, MAP_SHARED, fd, 0);
	js[0] = (struct job){0, FUTEX_WAIT, 0, m1, NULL, 0};
	th[0] = start(&js[0]);
	result("shared", fut(m2, FUTEX_WAKE, 1, NULL, NULL, 0));
	fut(m1, FUTEX_WAKE, 1, NULL, NULL, 0);
	pthread_join(th[0], NULL);
	// Signals.
	struct sigaction sa = {.sa_handler = hit};
	for (int restart = 0; restart < 2; restart++) for (int timed = 0; timed < 2; timed++) {
		sa.sa_flags = restart ? SA_RESTART : 0;
		sigaction(SIGUSR1, &sa, NULL);
		struct timespec ten = {10, 0};
		js[0] = (struct job){0, FUTEX_WAIT_PRIVATE, 0, &words[0], timed ? &ten : NULL, 0};
		th[0] = start(&js[0]);
		enum { none = 1 << 20 };
		results[0] = none;
		int before = hits;
		pthread_kill(th[0], SIGUSR1);
		while (hits == before || results[0] == none && waiting(&js[0]) == 0) usleep(100);
		say("woken %ld ", fut(words, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
		pthread_join(th[0], NULL);
		say("restart %d timed %d: %d\n", restart, timed, results[0]);
	}
	say("hits %d\n", hits);
}

static pthread_mutex_t pi;
static void *lock(void *arg) {
	int r = pthread_mutex_lock(&pi);
	*(int *)arg = r;
	return NULL;
}
static void *lockUnlock(void *arg) {
	long r = pthread_mutex_lock(&pi);
	pthread_mutex_unlock(&pi);
	return (void *)r;
}
static void owned(void) {
	int tid = gettid(), w = 0;
	struct timespec t = {0, 0};
	result("lock", fut(&w, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	say("mine %d\n", w == tid);
	result("again", fut(&w, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	result("unlock", fut(&w, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	say("word %d\n", w);
	result("unlock free", fut(&w, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	result("try", fut(&w, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	w = 99999999;
	result("owner is none", fut(&w, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	pthread_mutexattr_t at;
	pthread_mutexattr_init(&at);
	result("protocol", pthread_mutexattr_setprotocol(&at, PTHREAD_PRIO_INHERIT));
	result("init", pthread_mutex_init(&pi, &at));
	pthread_mutex_lock(&pi);
	pthread_t th[3];
	for (int i = 0; i < 3; i++) pthread_create(&th[i], NULL, lockUnlock, NULL);
	usleep(10000);
	pthread_mutex_unlock(&pi);
	for (int i = 0; i < 3; i++) { void *r; pthread_join(th[i], &r); say("got it %ld\n", (long)r); }
	pthread_mutex_lock(&pi);
	struct timespec dl;
	clock_gettime(CLOCK_REALTIME, &dl);
	pthread_mutex_unlock(&pi);
	pthread_mutexattr_setrobust(&at, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&pi, &at);
	int r = 9;
	pthread_create(&th[0], NULL, lock, &r);
	pthread_join(th[0], NULL);
	say("locked %d, then %d\n", r, pthread_mutex_lock(&pi));
	pthread_mutex_consistent(&pi);
	pthread_create(&th[1], NULL, lockUnlock, NULL);
	usleep(5000);
	pthread_mutex_unlock(&pi);
	void *v;
	pthread_join(th[1], &v);
	say("after that %ld\n", (long)v);
}

static void policies(void) {
	struct sched_param p = {0};
	cpu_set_t s;
	for (int i = 0; i < 6; i++) say("policy %d: max %d min %d\n", i, sched_get_priority_max(i), sched_get_priority_min(i));
	result("99", sched_get_priority_max(99));
	result("policy", sched_getscheduler(0));
	result("param", sched_getparam(0, &p));
	say("priority %d\n", p.sched_priority);
	result("none", sched_getscheduler(99999999));
	result("negative", sched_getscheduler(-1));
	p.sched_priority = 5;
	result("other with priority", sched_setscheduler(0, SCHED_OTHER, &p));
	p.sched_priority = 0;
	result("fifo without", sched_setscheduler(0, SCHED_FIFO, &p));
	result("batch", sched_setscheduler(0, SCHED_BATCH, &p));
	result("policy", sched_getscheduler(0));
	result("other", sched_setscheduler(0, SCHED_OTHER, &p));
	result("bad policy", sched_setscheduler(0, 77, &p));
	result("no param", syscall(SYS_sched_setscheduler, 0, 0, NULL));
	result("set param of none", sched_setparam(99999999, &p));
	result("set param", sched_setparam(0, &p));
	p.sched_priority = 7;
	result("set param 7", sched_setparam(0, &p));
	CPU_ZERO(&s);
	CPU_SET(0, &s);
	result("affinity", sched_setaffinity(0, sizeof s, &s));
	CPU_ZERO(&s);
	long n = syscall(SYS_sched_getaffinity, 0, sizeof s, &s);
	say("get: %d, of cpu 0 %d, cpus %d\n", n > 0 && n % 8 == 0, CPU_ISSET(0, &s) != 0, CPU_COUNT(&s));
	CPU_ZERO(&s);
	result("no cpu", sched_setaffinity(0, sizeof s, &s));
	result("affinity of none", sched_setaffinity(99999999, sizeof s, &s));
	result("size", syscall(SYS_sched_getaffinity, 0, 7, &s));
	result("fault", syscall(SYS_sched_setaffinity, 0, 8, (void *)8));
	unsigned cpu = 9;
	result("getcpu", getcpu(&cpu, NULL));
	say("cpu %u\n", cpu);
	result("yield", sched_yield());
	setpriority(PRIO_PROCESS, 0, 0); // whoever runs this may be nice
	errno = 0;
	result("getpriority", getpriority(PRIO_PROCESS, 0));
	result("setpriority", setpriority(PRIO_PROCESS, 0, 5));
	result("getpriority", getpriority(PRIO_PROCESS, 0));
	result("setpriority", setpriority(PRIO_PROCESS, 0, 100));
	result("getpriority", getpriority(PRIO_PROCESS, 0));
	result("bad which", getpriority(7, 0));
	result("none", getpriority(PRIO_PROCESS, 99999999));
	void *head;
	size_t len;
	result("robust list", syscall(SYS_get_robust_list, 0, &head, &len));
	say("length %zu\n", len);
	result("robust list of none", syscall(SYS_get_robust_list, 99999999, &head, &len));
	result("robust size", syscall(SYS_set_robust_list, &head, 7));
}

int main(int argc, char **argv) {
	void (*all[])(void) = {futexes, owned, policies};
	const char *names[] = {"futexes", "owned", "policies"};
	for (int i = 0; i < 3; i++)
		if (argc < 2 || !strcmp(argv[1], names[i])) say("[%s]\n", names[i]), all[i]();
	return 0;
}
