// Sleeping until a process or another thread has had so much CPU time.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int stop;

static void *spin(void *arg) {
	while (!stop)
		;
	return NULL;
}

static long sleeps(clockid_t c, int flags, const struct timespec *t, struct timespec *left) {
	return syscall(SYS_clock_nanosleep, c, flags, t, left) == 0 ? 0 : errno;
}

static long nanos(clockid_t c) {
	struct timespec t;
	clock_gettime(c, &t);
	return t.tv_sec * 1000000000 + t.tv_nsec;
}

static void none(int sig) {}

int main(void) {
	struct timespec t = {0, 30000000}, zero = {0, 0}, bad = {0, 1000000000}, past = {0, 1}, left;
	clockid_t self, other;
	pthread_getcpuclockid(pthread_self(), &self);
	printf("own thread: %ld\n", sleeps(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL));
	printf("own thread, bad: %ld\n", sleeps(CLOCK_THREAD_CPUTIME_ID, 0, &bad, NULL));
	printf("own thread, by its number: %ld\n", sleeps(self, 0, &t, NULL));
	printf("own thread, by its number, bad: %ld\n", sleeps(self, 0, &bad, NULL));
	printf("bad: %ld\n", sleeps(CLOCK_PROCESS_CPUTIME_ID, 0, &bad, NULL));
	printf("nowhere: %ld\n", sleeps(CLOCK_PROCESS_CPUTIME_ID, 0, NULL, NULL));
	printf("zero: %ld\n", sleeps(CLOCK_PROCESS_CPUTIME_ID, 0, &zero, NULL));
	printf("past: %ld\n", sleeps(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &past, NULL));
	pthread_t p;
	pthread_create(&p, NULL, spin, NULL);
	pthread_getcpuclockid(p, &other);
	for (int i = 0; i < 2; i++) {
		clockid_t c = i ? other : CLOCK_PROCESS_CPUTIME_ID;
		long before = nanos(c), r = sleeps(c, 0, &t, NULL), had = nanos(c) - before;
		printf("so much: %ld, %d\n", r, had >= 30000000);
		long until = nanos(c) + 20000000;
		struct timespec abs = {until / 1000000000, until % 1000000000};
		r = sleeps(c, TIMER_ABSTIME, &abs, NULL);
		printf("until: %ld, %d\n", r, nanos(c) >= until);
	}
	struct sigaction sa = {.sa_handler = none, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &sa, NULL);
	struct itimerval it = {{0, 20000}, {0, 20000}}; // again and again, lest the first comes before the sleep has begun
	setitimer(ITIMER_REAL, &it, NULL);
	struct timespec s = {1000, 0};
	long r = sleeps(CLOCK_PROCESS_CPUTIME_ID, 0, &s, &left);
	printf("interrupted: %ld, left %d\n", r, left.tv_sec >= 900 && left.tv_sec < 1000);
	left = zero;
	r = sleeps(other, TIMER_ABSTIME, &s, &left);
	printf("interrupted, absolute: %ld, left %ld\n", r, (long)left.tv_sec);
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	stop = 1;
	pthread_join(p, NULL);
	// A joined thread is not gone at once on Linux, and a sleep on its clock could last for ever.
	while (clock_gettime(other, &t) == 0)
		;
	printf("gone: %ld\n", sleeps(other, 0, &t, NULL));
	return 0;
}
