// How threads share the processor, how exact sleeping is, and what an idle second costs. To be run where time is exact.
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

static uint64_t now(int clk) {
	struct timespec t;
	clock_gettime(clk, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}
#define M 1000000ull

static volatile int stop;
static volatile long turns[8];
static uint64_t had[8];
static void *spinner(void *arg) {
	long i = (long)arg;
	while (!stop) turns[i]++;
	had[i] = now(CLOCK_THREAD_CPUTIME_ID);
	return NULL;
}

// The longest that a sleep of 1 ms took too long, in ns.
static uint64_t late(int rounds) {
	uint64_t worst = 0;
	for (int i = 0; i < rounds; i++) {
		uint64_t due = now(CLOCK_MONOTONIC) + M;
		struct timespec t = {0, M};
		nanosleep(&t, NULL);
		uint64_t got = now(CLOCK_MONOTONIC);
		if (got < due) return ~0ull;
		if (got - due > worst) worst = got - due;
	}
	return worst;
}

static int pair[2];
static void *echo(void *arg) {
	char c;
	while (read(pair[0], &c, 1) == 1) write(((int *)arg)[1], &c, 1);
	return NULL;
}

static long timerInterrupts(void) {
	char line[200];
	long n = -1;
	FILE *f = fopen("/proc/interrupts", "r");
	while (f && fgets(line, sizeof line, f)) sscanf(line, " LOC: %ld", &n);
	if (f) fclose(f);
	return n;
}

static volatile int hits;
static void hit(int sig) { hits++; }

int main(void) {
	pthread_t th[8];
	late(1); // what is used for the first time is read from the disk
	// Sleeping alone: within 100 us.
	for (uint64_t ns = 1000; ns <= 1000 * M; ns *= 10) {
		struct timespec t = {ns / 1000000000, ns % 1000000000};
		uint64_t a = now(CLOCK_MONOTONIC);
		nanosleep(&t, NULL);
		uint64_t took = now(CLOCK_MONOTONIC) - a;
		check("sleep", took >= ns && took < ns + M / 10);
	}
	ok("sleep");

	long before = timerInterrupts();
	sleep(1);
	long after = timerInterrupts();
	check("idle", before >= 0 && after - before <= 5);
	before = after;
	struct timespec t = {30, 0};
	nanosleep(&t, NULL);
	after = timerInterrupts();
	check("idle", after - before <= 5 + 30 / 4);
	ok("idle");
	// One thread alone is not interrupted either.
	before = timerInterrupts();
	for (uint64_t end = now(CLOCK_MONOTONIC) + 200 * M; now(CLOCK_MONOTONIC) < end;);
	check("alone", timerInterrupts() - before <= 2);
	ok("alone");

	// The clock is read without the kernel: a system call takes 400 instructions and more, of 8 ns here.
	struct timeval tv;
	uint64_t a0 = now(CLOCK_MONOTONIC);
	for (int i = 0; i < 1000; i++) now(CLOCK_REALTIME), gettimeofday(&tv, NULL), time(NULL), sched_getcpu();
	uint64_t took = now(CLOCK_MONOTONIC) - a0;
	check("vdso", took > 1000 * 1000 && took < 1000 * 3500);
	ok("vdso");

	// Equal shares.
	for (long i = 0; i < 3; i++) pthread_create(&th[i], NULL, spinner, (void *)i);
	check("shares", late(200) < M);
	usleep(300000);
	stop = 1;
	long least = -1, most = 0;
	for (int i = 0; i < 3; i++) {
		pthread_join(th[i], NULL);
		if (least < 0 || turns[i] < least) least = turns[i];
		if (turns[i] > most) most = turns[i];
	}
	check("shares", least > 0 && most - least <= most / 20);
	check("shares", had[0] + had[1] + had[2] > 300 * M);
	ok("shares");

	// Two threads that wake each other all the time take no more than their part from one that spins.
	int a[2], b[2];
	char c = 1;
	pipe(a), pipe(b);
	pair[0] = a[0], pair[1] = b[1];
	stop = 0;
	pthread_create(&th[0], NULL, echo, pair);
	pthread_create(&th[1], NULL, spinner, (void *)4);
	uint64_t spun = turns[4], end = now(CLOCK_MONOTONIC) + 200 * M;
	long rounds = 0;
	while (now(CLOCK_MONOTONIC) < end) {
		write(a[1], &c, 1);
		read(b[0], &c, 1);
		rounds++;
	}
	stop = 1;
	pthread_join(th[1], NULL);
	check("wakers", rounds > 1000);
	check("wakers", had[4] > 60 * M && had[4] < 140 * M);
	close(a[1]);
	pthread_join(th[0], NULL);
	ok("wakers");

	// A thread that spins is interrupted by its timer's signal at once.
	signal(SIGALRM, hit);
	struct itimerval it = {{0, 1000}, {0, 1000}};
	setitimer(ITIMER_REAL, &it, NULL);
	for (end = now(CLOCK_MONOTONIC) + 100 * M; now(CLOCK_MONOTONIC) < end;);
	it.it_value.tv_usec = 0;
	setitimer(ITIMER_REAL, &it, NULL);
	check("signals", hits >= 95 && hits <= 101);
	ok("signals");

	// A timer that is always over leaves a thread half of its time and more.
	timer_t tick;
	struct sigevent silent = {.sigev_notify = SIGEV_NONE};
	struct itimerspec each = {{0, 1}, {0, 1}}, never = {{0}};
	check("storm", timer_create(CLOCK_MONOTONIC, &silent, &tick) == 0 && timer_settime(tick, 0, &each, NULL) == 0);
	before = timerInterrupts();
	struct rusage ru0, ru1;
	getrusage(RUSAGE_THREAD, &ru0);
	for (end = now(CLOCK_MONOTONIC) + 100 * M; now(CLOCK_MONOTONIC) < end;);
	getrusage(RUSAGE_THREAD, &ru1);
	after = timerInterrupts();
	long ran = (ru1.ru_utime.tv_sec - ru0.ru_utime.tv_sec) * 1000000 + ru1.ru_utime.tv_usec - ru0.ru_utime.tv_usec;
	check("storm", timer_settime(tick, 0, &never, NULL) == 0);
	check("storm", after - before < 6000);
	check("storm", ran > 50000);
	ok("storm");

	// CPU time adds up: what all threads had is what passed, less what nobody had.
	stop = 0;
	uint64_t p0 = now(CLOCK_PROCESS_CPUTIME_ID), m0 = now(CLOCK_MONOTONIC);
	for (long i = 0; i < 2; i++) pthread_create(&th[i], NULL, spinner, (void *)i);
	usleep(100000);
	stop = 1;
	for (int i = 0; i < 2; i++) pthread_join(th[i], NULL);
	usleep(100000);
	uint64_t p = now(CLOCK_PROCESS_CPUTIME_ID) - p0, m = now(CLOCK_MONOTONIC) - m0;
	check("adds", p > 99 * M && p < 106 * M && m >= 200 * M);
	check("adds", had[0] + had[1] <= p + M);
	ok("adds");
	sched_yield();
	return 0;
}
