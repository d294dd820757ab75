// Clocks, timers, sleeping. What this prints under Linux it has to print in the guest.
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
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

#define say(...) (printf(__VA_ARGS__), fflush(stdout))
#define result(name, call) do { errno = 0; long r_ = (long)(call); int e_ = errno; say("%s: %ld errno %d\n", name, r_, e_); } while (0)

static uint64_t now(int clk) {
	struct timespec t;
	clock_gettime(clk, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static uint64_t trap(int clk) { // by the system call
	struct timespec t;
	syscall(SYS_clock_gettime, clk, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static void spin(uint64_t ns) { for (uint64_t end = now(CLOCK_MONOTONIC) + ns; now(CLOCK_MONOTONIC) < end;); }

static volatile int hits, overrun;
static volatile siginfo_t last;
static void hit(int sig, siginfo_t *si, void *uc) { (void)sig, (void)uc; hits++; last = *si; }
static void set(int sig, int flags) {
	struct sigaction a = {.sa_sigaction = hit, .sa_flags = SA_SIGINFO | flags};
	sigaction(sig, &a, NULL);
}

static void clocks(void) {
	struct timespec t;
	say("vdso %d\n", getauxval(AT_SYSINFO_EHDR) != 0);
	for (int c = 0; c < 14; c++) if (c != 10 && c != 8 && c != 9) result("gettime", clock_gettime(c, &t) || t.tv_nsec < 0 || t.tv_nsec > 999999999);
	for (int c = 0; c < 14; c++) if (c != 10 && c != 8 && c != 9) result("getres", clock_getres(c, &t));
	result("raw gettime -1", syscall(SYS_clock_gettime, -1, &t));
	result("raw gettime fault", syscall(SYS_clock_gettime, 1, (void *)8));
	result("raw getres null", syscall(SYS_clock_getres, 1, NULL));
	clockid_t id;
	result("getcpuclockid", clock_getcpuclockid(getpid(), &id));
	result("its gettime", clock_gettime(id, &t));
	result("getcpuclockid none", clock_getcpuclockid(99999999, &id));
	result("thread", pthread_getcpuclockid(pthread_self(), &id));
	result("its gettime", clock_gettime(id, &t));
	result("none", syscall(SYS_clock_gettime, (~99999999 << 3) | 6, &t));
	int back = 0;
	uint64_t a = now(CLOCK_MONOTONIC), b;
	for (int i = 0; i < 20000; i++, a = b) {
		b = i & 1 ? now(CLOCK_MONOTONIC) : trap(CLOCK_MONOTONIC);
		if (b < a) back++;
	}
	say("monotonic went back %d times\n", back);
	for (back = 0, a = now(CLOCK_REALTIME); now(CLOCK_MONOTONIC) % 1000000000 < 100 && back < 5; back++);
	struct timeval tv;
	int64_t d = (gettimeofday(&tv, NULL), tv.tv_sec * 1000000ll + tv.tv_usec) - (int64_t)(now(CLOCK_REALTIME) / 1000);
	say("gettimeofday is realtime %d, time too %d\n", d <= 0 && d > -1000000, llabs((long long)time(NULL) - (long long)(now(CLOCK_REALTIME) / 1000000000)) <= 1);
	unsigned cpu = 9, node = 9;
	result("getcpu", getcpu(&cpu, &node));
}

static void sleeping(void) {
	struct timespec t = {0, 3000000}, rem = {77, 77}, at;
	uint64_t a = now(CLOCK_MONOTONIC);
	result("nanosleep", nanosleep(&t, &rem));
	say("long enough %d, rem %ld\n", now(CLOCK_MONOTONIC) - a >= 3000000, (long)rem.tv_sec);
	t.tv_nsec = 1000000000;
	result("nsec", nanosleep(&t, &rem));
	t.tv_nsec = -1;
	result("negative", nanosleep(&t, &rem));
	t.tv_sec = -1, t.tv_nsec = 0;
	result("negative s", nanosleep(&t, &rem));
	result("fault", syscall(SYS_nanosleep, (void *)8, NULL));
	t.tv_sec = 0, t.tv_nsec = 1000;
	for (int c = 0; c < 14; c++) if (c != 10 && c != 8 && c != 9 && c != 2 && c != 3) result("clock_nanosleep", syscall(SYS_clock_nanosleep, c, 0, &t, NULL));
	for (int c = 0; c < 2; c++) {
		uint64_t when = now(c) + 2000000;
		at.tv_sec = when / 1000000000, at.tv_nsec = when % 1000000000;
		result("absolute", clock_nanosleep(c, TIMER_ABSTIME, &at, NULL));
		say("not early %d\n", now(c) >= when);
		result("in the past", clock_nanosleep(c, TIMER_ABSTIME, &at, NULL));
	}
	set(SIGALRM, SA_RESTART);
	struct itimerval it = {{0, 0}, {0, 2000}};
	setitimer(ITIMER_REAL, &it, NULL);
	t.tv_sec = 100, t.tv_nsec = 0;
	result("interrupted", nanosleep(&t, &rem));
	say("rem %d\n", rem.tv_sec == 99 && rem.tv_nsec > 0);
	rem.tv_sec = 5;
	setitimer(ITIMER_REAL, &it, NULL);
	uint64_t when = now(CLOCK_MONOTONIC) / 1000000000 + 100;
	at.tv_sec = when, at.tv_nsec = 0;
	result("absolute interrupted", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, &rem));
	say("rem %ld\n", (long)rem.tv_sec);
	setitimer(ITIMER_REAL, &it, NULL);
	result("poll interrupted", poll(NULL, 0, 10000));
	setitimer(ITIMER_REAL, &it, NULL);
	result("pause", pause());
	say("hits %d\n", hits);
	result("alarm", alarm(100));
	result("alarm", alarm(0));
	result("alarm", alarm(0));
}

static void itimers(void) {
	struct itimerval it = {{0, 1000}, {0, 3000}}, old;
	hits = 0;
	set(SIGVTALRM, SA_RESTART), set(SIGPROF, SA_RESTART), set(SIGALRM, SA_RESTART);
	for (int w = 0; w < 3; w++) {
		hits = 0;
		result("set", setitimer(w, &it, NULL));
		while (hits < 3);
		say("sig %d code %d\n", last.si_signo, last.si_code);
		result("get", getitimer(w, &old));
		say("every %ld, left %d\n", (long)old.it_interval.tv_usec, old.it_value.tv_sec == 0 && old.it_value.tv_usec > 0 && old.it_value.tv_usec < 10000);
		struct itimerval off = {{0, 0}, {0, 0}};
		result("off", setitimer(w, &off, &old));
		say("every %ld\n", (long)old.it_interval.tv_usec);
		getitimer(w, &old);
		say("off %ld %ld\n", (long)old.it_interval.tv_usec, (long)old.it_value.tv_usec);
	}
	result("3", setitimer(3, &it, NULL));
	result("get 3", getitimer(3, &it));
	it.it_value.tv_usec = 1000000;
	result("usec", setitimer(0, &it, NULL));
	// A timer of CPU time stands still while the program sleeps.
	it = (struct itimerval){{0, 0}, {0, 20000}};
	hits = 0;
	setitimer(ITIMER_VIRTUAL, &it, NULL);
	usleep(40000);
	say("asleep %d\n", hits);
	while (!hits);
	say("awake %d\n", hits);
}

static void posix(void) {
	timer_t id, id2;
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	ev.sigev_value.sival_int = 4711;
	set(SIGRTMIN, 0);
	hits = 0;
	result("create", timer_create(CLOCK_MONOTONIC, &ev, &id));
	struct itimerspec its = {{0, 0}, {0, 2000000}}, old;
	result("set", timer_settime(id, 0, &its, NULL));
	while (!hits);
	say("sig %d code %d value %d overrun %d\n", last.si_signo - SIGRTMIN, last.si_code, last.si_value.sival_int, last.si_overrun);
	result("get", timer_gettime(id, &old));
	say("left %ld %ld\n", (long)old.it_value.tv_sec, (long)old.it_value.tv_nsec);
	sigset_t s;
	sigemptyset(&s), sigaddset(&s, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &s, NULL);
	its.it_interval.tv_nsec = 1000000;
	timer_settime(id, 0, &its, NULL);
	usleep(20000);
	siginfo_t si;
	result("wait", sigwaitinfo(&s, &si) == SIGRTMIN);
	say("overruns %d, the same %d\n", si.si_overrun >= 15, timer_getoverrun(id) == si.si_overrun);
	result("get", timer_gettime(id, &old));
	say("every %ld left %d\n", (long)old.it_interval.tv_nsec, old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 1000000);
	usleep(3000);
	its = (struct itimerspec){{0, 0}, {0, 0}};
	result("off", timer_settime(id, 0, &its, &old));
	struct timespec zero = {0, 0};
	sigtimedwait(&s, &si, &zero);
	uint64_t when = now(CLOCK_MONOTONIC) + 2000000;
	its.it_value.tv_sec = when / 1000000000, its.it_value.tv_nsec = when % 1000000000;
	result("absolute", timer_settime(id, TIMER_ABSTIME, &its, NULL));
	result("wait", sigwaitinfo(&s, &si) == SIGRTMIN && now(CLOCK_MONOTONIC) >= when);
	say("overrun %d\n", si.si_overrun);
	its.it_value.tv_nsec = 1000000000;
	result("bad", timer_settime(id, 0, &its, NULL));
	result("null", syscall(SYS_timer_settime, 0, 0, NULL, NULL));
	result("bad id", syscall(SYS_timer_settime, 77, 0, &old, NULL));
	result("bad id", syscall(SYS_timer_gettime, 77, &old));
	result("bad id", syscall(SYS_timer_getoverrun, 77));
	result("bad id", syscall(SYS_timer_delete, 77));
	result("delete", timer_delete(id));
	sigprocmask(SIG_UNBLOCK, &s, NULL);
	ev.sigev_notify = SIGEV_NONE;
	result("none", timer_create(CLOCK_REALTIME, &ev, &id));
	its = (struct itimerspec){{0, 500000}, {0, 500000}};
	timer_settime(id, 0, &its, NULL);
	usleep(2000);
	timer_gettime(id, &old);
	say("left %d hits %d\n", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 500000, hits);
	timer_delete(id);
	ev.sigev_notify = SIGEV_THREAD_ID, ev._sigev_un._tid = gettid();
	result("thread", timer_create(CLOCK_MONOTONIC, &ev, &id));
	its = (struct itimerspec){{0, 0}, {0, 1}};
	hits = 0;
	timer_settime(id, 0, &its, NULL);
	while (!hits);
	say("value %d\n", last.si_value.sival_int);
	timer_delete(id);
	ev._sigev_un._tid = 9999999;
	result("bad thread", timer_create(CLOCK_MONOTONIC, &ev, &id));
	ev.sigev_notify = SIGEV_SIGNAL, ev.sigev_signo = 65;
	result("bad signal", timer_create(CLOCK_MONOTONIC, &ev, &id));
	ev.sigev_notify = 77;
	result("bad notify", syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id));
	result("bad clock", syscall(SYS_timer_create, 99, NULL, &id));
	result("raw clock", syscall(SYS_timer_create, CLOCK_MONOTONIC_RAW, NULL, &id));
	set(SIGALRM, 0);
	result("default", timer_create(CLOCK_PROCESS_CPUTIME_ID, NULL, &id));
	result("thread clock", timer_create(CLOCK_THREAD_CPUTIME_ID, NULL, &id2));
	its = (struct itimerspec){{0, 0}, {0, 5000000}};
	hits = 0;
	timer_settime(id, 0, &its, NULL);
	while (!hits);
	say("cpu sig %d code %d\n", last.si_signo, last.si_code);
	timer_settime(id2, 0, &its, NULL);
	while (hits < 2);
	say("cpu sig %d code %d\n", last.si_signo, last.si_code);
	// An ignored signal costs nothing and the timer goes on.
	signal(SIGALRM, SIG_IGN);
	its.it_interval.tv_nsec = 100000;
	timer_settime(id, 0, &its, NULL);
	spin(8000000);
	result("delete", timer_delete(id));
	result("delete", timer_delete(id2));
}

static void files(void) {
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	uint64_t n = 77;
	struct itimerspec its = {{0, 1000000}, {0, 1000000}}, old;
	result("empty", read(fd, &n, 8));
	result("set", timerfd_settime(fd, 0, &its, NULL));
	struct pollfd p = {fd, POLLIN, 0};
	result("poll", poll(&p, 1, -1));
	usleep(10000);
	result("read", read(fd, &n, 8));
	say("ticks %d\n", n >= 8);
	result("short", read(fd, &n, 7));
	result("get", timerfd_gettime(fd, &old));
	say("every %ld left %d\n", (long)old.it_interval.tv_nsec, old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 1000000);
	its.it_interval.tv_nsec = its.it_value.tv_nsec = 0;
	result("off", timerfd_settime(fd, 0, &its, NULL));
	result("empty", read(fd, &n, 8));
	result("write", write(fd, &n, 8));
	int ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 5};
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	result("epoll empty", epoll_wait(ep, &ev, 1, 0));
	uint64_t when = now(CLOCK_MONOTONIC) + 1000000;
	its.it_value.tv_sec = when / 1000000000, its.it_value.tv_nsec = when % 1000000000;
	timerfd_settime(fd, TFD_TIMER_ABSTIME, &its, NULL);
	result("epoll", epoll_wait(ep, &ev, 1, -1));
	int fd2 = timerfd_create(CLOCK_REALTIME, 0);
	its = (struct itimerspec){{0, 0}, {0, 1000000}};
	timerfd_settime(fd2, 0, &its, NULL);
	result("blocking", read(fd2, &n, 8));
	say("ticks %ld\n", (long)n);
	its = (struct itimerspec){{0, 0}, {1, 0}};
	timerfd_settime(fd2, TFD_TIMER_ABSTIME, &its, NULL);
	result("long ago", read(fd2, &n, 8));
	result("bad clock", timerfd_create(2, 0));
	result("bad flags", timerfd_create(1, 1));
	result("bad flags", timerfd_settime(fd, 8, &its, NULL));
	result("no timer", timerfd_settime(0, 0, &its, NULL));
	result("no file", timerfd_settime(99, 0, &its, NULL));
	its.it_value.tv_nsec = -1;
	result("bad time", timerfd_settime(fd, 0, &its, NULL));
	char link[64], want[64];
	sprintf(want, "/proc/self/fd/%d", fd);
	link[readlink(want, link, 63)] = 0;
	say("%s\n", link);
}

static void cpu(void) {
	struct rusage r0, r1;
	struct tms t0, t1;
	getrusage(RUSAGE_SELF, &r0), times(&t0);
	uint64_t p0 = now(CLOCK_PROCESS_CPUTIME_ID), th0 = now(CLOCK_THREAD_CPUTIME_ID), m0 = now(CLOCK_MONOTONIC);
	volatile long n = 0;
	while (now(CLOCK_THREAD_CPUTIME_ID) < th0 + 60000000) n++;
	uint64_t p1 = now(CLOCK_PROCESS_CPUTIME_ID), th1 = now(CLOCK_THREAD_CPUTIME_ID), m1 = now(CLOCK_MONOTONIC);
	getrusage(RUSAGE_SELF, &r1), times(&t1);
	#define us(r) ((r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000ll + r.ru_utime.tv_usec + r.ru_stime.tv_usec)
	say("spun %d process as the thread %d no more than passed %d rusage %d times %d\n", th1 - th0 >= 60000000, llabs((long long)(p1 - p0 - (th1 - th0))) < 2000000,
	    th1 - th0 <= m1 - m0 + 1000000, us(r1) - us(r0) >= 50000, t1.tms_utime + t1.tms_stime - t0.tms_utime - t0.tms_stime >= 4);
	usleep(30000);
	uint64_t p2 = now(CLOCK_PROCESS_CPUTIME_ID);
	say("sleeping costs nothing %d\n", p2 - p1 < 20000000);
	getrusage(RUSAGE_SELF, &r1);
	say("adds up %d\n", llabs(us(r1) * 1000 - (long long)now(CLOCK_PROCESS_CPUTIME_ID)) < 30000000);
	result("children", getrusage(RUSAGE_CHILDREN, &r1));
	say("none %lld\n", (long long)us(r1));
	result("thread", getrusage(RUSAGE_THREAD, &r1));
	result("bad", syscall(SYS_getrusage, 5, &r1));
	result("fault", syscall(SYS_getrusage, 0, (void *)8));
	clock_t c = times(NULL);
	usleep(30000);
	say("ticks %d\n", times(NULL) - c >= 2 && sysconf(_SC_CLK_TCK) == 100);
}

// Timers of a nanosecond or a microsecond leave the program time.
static void shortest(void) {
	static volatile long n;
	#define goOn(what) do { for (n = 0; n < 1000000; n++); say("%s: went on\n", what); } while (0)
	timer_t id[200];
	struct sigevent ev = {.sigev_notify = SIGEV_NONE};
	struct itimerspec its = {{0, 1}, {0, 1}};
	for (int i = 0; i < 200; i++) timer_create(CLOCK_MONOTONIC, &ev, &id[i]), timer_settime(id[i], 0, &its, NULL);
	goOn("200 that tell nobody");
	its.it_interval.tv_nsec = 0;
	timer_settime(id[0], 0, &its, NULL);
	usleep(10);
	timer_gettime(id[0], &its);
	say("left %ld %ld\n", (long)its.it_value.tv_sec, its.it_value.tv_nsec);
	for (int i = 0; i < 200; i++) timer_delete(id[i]);
	signal(SIGUSR1, SIG_IGN);
	ev.sigev_notify = SIGEV_SIGNAL, ev.sigev_signo = SIGUSR1;
	its = (struct itimerspec){{0, 1}, {0, 1}};
	for (int i = 0; i < 50; i++) timer_create(CLOCK_MONOTONIC, &ev, &id[i]), timer_settime(id[i], 0, &its, NULL);
	goOn("50 ignored");
	for (int i = 0; i < 50; i++) timer_delete(id[i]);
	struct itimerval it = {{0, 1}, {0, 1}}, off = {{0, 0}, {0, 0}};
	signal(SIGALRM, SIG_IGN);
	setitimer(ITIMER_REAL, &it, NULL);
	goOn("ignored alarm");
	sigset_t s;
	sigemptyset(&s), sigaddset(&s, SIGALRM);
	sigprocmask(SIG_BLOCK, &s, NULL);
	set(SIGALRM, 0);
	goOn("blocked alarm");
	setitimer(ITIMER_REAL, &off, NULL);
	sigprocmask(SIG_UNBLOCK, &s, NULL);
	set(SIGPROF, 0), set(SIGVTALRM, 0);
	hits = 0;
	setitimer(ITIMER_PROF, &it, NULL), setitimer(ITIMER_VIRTUAL, &it, NULL);
	goOn("CPU time");
	while (hits < 4);
	setitimer(ITIMER_PROF, &off, NULL), setitimer(ITIMER_VIRTUAL, &off, NULL);
	for (int i = 0; i < 50; i++) timerfd_settime(timerfd_create(CLOCK_MONOTONIC, 0), 0, &its, NULL);
	goOn("50 files");
}

int main(int argc, char **argv) {
	void (*all[])(void) = {clocks, sleeping, itimers, posix, files, cpu, shortest};
	const char *names[] = {"clocks", "sleeping", "itimers", "posix", "files", "cpu", "shortest"};
	for (int i = 0; i < 7; i++)
		if (argc < 2 || !strcmp(argv[1], names[i])) say("[%s]\n", names[i]), all[i]();
	return 0;
}
