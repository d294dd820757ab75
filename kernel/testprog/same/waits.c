// What a signal does to each call that waits, with SA_RESTART and without. What this prints under Linux it has to print in the guest.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <linux/futex.h>
#include <time.h>
#include <unistd.h>
#define say(...) (printf(__VA_ARGS__), fflush(stdout))

static pthread_t waiter;
static volatile int hits, done, stage, mode;
static void hit(int sig) {
	(void)sig;
	hits++;
}

static int pr[2], full[2], ev, evfull, tfd, sfd, ep;
static uint32_t word, pi;
static volatile int tid;
static void nap(int ms) {
	struct timespec t = {0, ms * 1000000};
	nanosleep(&t, NULL);
}

// What ends each wait in the end.
static void enough(int which);
static char big[200000];
static long call(int which) {
	char b[8];
	uint64_t v = 1;
	struct iovec iov = {b, 1};
	int ms = mode == 2 ? 60 : 950;
	struct timespec t = {0, ms * 1000000}, rem = {0, 0}, abs;
	struct epoll_event e;
	fd_set set;
	struct timeval tv = {0, ms * 1000};
	sigset_t s;
	struct pollfd p = {pr[0], POLLIN, 0};
	clock_gettime(CLOCK_MONOTONIC, &abs);
	abs.tv_nsec += ms * 1000000;
	if (abs.tv_nsec >= 1000000000) abs.tv_sec++, abs.tv_nsec -= 1000000000;
	FD_ZERO(&set);
	FD_SET(pr[0], &set);
	sigemptyset(&s);
	switch (which) {
		case 0: return read(pr[0], b, 1);
		case 1: return readv(pr[0], &iov, 1);
		case 2: return write(full[1], big, 1);
		case 3: return write(full[1], big, 4096 + 100);
		case 4: return read(ev, &v, 8);
		case 5: v = 5;
		return write(evfull, &v, 8);
		case 6: return read(tfd, &v, 8);
		case 7: return read(sfd, big, 128);
		case 8: return poll(&p, 1, ms);
		case 9: return ppoll(&p, 1, &t, NULL);
		case 10: return select(pr[0] + 1, &set, NULL, NULL, &tv);
		case 11: return pselect(pr[0] + 1, &set, NULL, NULL, &t, NULL);
		case 12: return epoll_wait(ep, &e, 1, ms);
		case 13: return epoll_pwait(ep, &e, 1, ms, &s);
		case 14: return nanosleep(&t, &rem);
		case 15: return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &abs, NULL) ? -1 : 0;
		case 16: return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
		case 17: return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0);
		case 18: return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &abs, NULL, -1);
		case 19: return pause();
		case 20: return sigsuspend(&s);
		case 21: sigaddset(&s, SIGUSR2);
		return sigtimedwait(&s, NULL, &t);
		case 22: sigaddset(&s, SIGUSR2);
		return sigwaitinfo(&s, NULL);
		case 23: return syscall(SYS_futex, &pi, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
		case 24: return poll(&p, 1, -1);
		case 25: return epoll_wait(ep, &e, 1, -1);
		case 26: return write(full[1], big, 70000);
		case 27: return preadv2(pr[0], &iov, 1, -1, 0);
		case 28: return syscall(SYS_epoll_pwait2, ep, &e, 1, &t, NULL, 8);
	}
	return -2;
}

static const char *names[] = {"read pipe", "readv pipe", "write pipe 1", "write pipe 4196", "read eventfd", "write eventfd", "read timerfd",
	"read signalfd", "poll", "ppoll", "select", "pselect", "epoll_wait", "epoll_pwait", "nanosleep", "clock_nanosleep abs", "futex", "futex timeout",
	"futex bitset", "pause", "sigsuspend", "sigtimedwait", "sigwaitinfo", "futex pi", "poll ever", "epoll ever", "write pipe 70000", "preadv2",
	"epoll_pwait2"};
static void enough(int which) {
	uint64_t v = 1, x;
	switch (which) {
		case 0: case 1: case 24: case 25: case 27: write(pr[1], "x", 1);
		break;
		case 2: case 3: case 26: while (!done) if (poll(&(struct pollfd){full[0], POLLIN, 0}, 1, 0) == 1) read(full[0], big + 100000, 8192); else
			nap(1);
		break;
		case 4: write(ev, &v, 8);
		break;
		case 5: read(evfull, &x, 8);
		break;
		case 6: timerfd_settime(tfd, 0, &(struct itimerspec){{0, 0}, {0, 1}}, NULL);
		break;
		case 7: kill(getpid(), SIGWINCH);
		break;
		case 16: word = 1, syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
		break;
		case 23: syscall(SYS_futex, &pi, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
		break;
		case 19: case 20: hits = 100;
		pthread_kill(waiter, SIGUSR1);
		break;
		case 22: pthread_kill(waiter, SIGUSR2);
		break;
	}
}

static volatile int which;
static long r_;
static int e_;
static void *wait_(void *arg) {
	sigset_t s;
	sigemptyset(&s), sigaddset(&s, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &s, NULL);
	tid = gettid();
	stage = 1;
	errno = 0;
	r_ = call(which), e_ = errno;
	done = 1;
	return NULL;
}

// asleep waits until the thread sleeps in its call.
static int asleep(void) {
	char path[64], b[512];
	sprintf(path, "/proc/self/task/%d/stat", tid);
	for (int i = 0; i < 5000 && !done; i++) {
		int fd = open(path, O_RDONLY);
		int n = read(fd, b, 511);
		close(fd);
		b[n > 0 ? n : 0] = 0;
		char *q = strrchr(b, ')');
		if (q && q[2] == 'S') { nap(1); return 1; }
		nap(1);
	}
	return 0;
}

int main(void) {
	sigset_t s;
	sigemptyset(&s), sigaddset(&s, SIGUSR1), sigaddset(&s, SIGUSR2), sigaddset(&s, SIGWINCH);
	sigprocmask(SIG_BLOCK, &s, NULL);
	struct epoll_event e = {.events = EPOLLIN};
	for (mode = 0; mode < 3; mode++) {
		struct sigaction a = {.sa_handler = mode == 2 ? SIG_IGN : hit, .sa_flags = mode == 1 ? SA_RESTART : 0};
		for (which = 0; which < 29; which++) {
			if (mode == 2 && (which == 19 || which == 20)) continue;
			sigaction(SIGUSR1, &a, NULL);
			pipe(pr), pipe2(full, O_NONBLOCK);
			while (write(full[1], big, 4096) > 0);
			fcntl(full[1], F_SETFL, 0);
			ev = eventfd(0, 0), evfull = eventfd(0, 0);
			uint64_t v = -2;
			write(evfull, &v, 8);
			tfd = timerfd_create(CLOCK_MONOTONIC, 0);
			sigemptyset(&s), sigaddset(&s, SIGWINCH);
			sfd = signalfd(-1, &s, 0);
			ep = epoll_create1(0);
			epoll_ctl(ep, EPOLL_CTL_ADD, pr[0], &e);
			word = 0, pi = gettid();
			hits = done = stage = 0;
			pthread_create(&waiter, NULL, wait_, NULL);
			while (!stage) nap(1);
			asleep();
			pthread_kill(waiter, SIGUSR1);
			for (int i = 0; i < 5000 && mode != 2 && !hits; i++) nap(1);
			nap(2);
			if (!done) enough(which);
			pthread_join(waiter, NULL);
			struct timespec zero = {0, 0};
			sigemptyset(&s), sigaddset(&s, SIGWINCH), sigaddset(&s, SIGUSR2);
			sigtimedwait(&s, NULL, &zero);
			say("%s, mode %d: result %ld errno %d\n", names[which], mode, r_, r_ < 0 ? e_ : 0);
			close(pr[0]), close(pr[1]), close(full[0]), close(full[1]), close(ev), close(evfull), close(tfd), close(sfd), close(ep);
		}
	}
	return 0;
}
