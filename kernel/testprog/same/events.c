// Pipes, event counters, timers as files, epoll: which events are told and when. What this prints under Linux it has to print in the guest.
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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#define say(...) (printf(__VA_ARGS__), fflush(stdout))
#define result(name, call) do { errno = 0; long r_ = (long)(call); int e_ = errno; say("%s: %ld errno %d\n", name, r_, e_); } while (0)

static char buf[200000];
static int p[2], q[2];
static void nap(int ms) {
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&t, NULL);
}

static int add(int ep, int fd, unsigned ev, int id) {
	struct epoll_event e = {.events = ev, .data.u64 = id};
	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

static int mod(int ep, int fd, unsigned ev, int id) {
	struct epoll_event e = {.events = ev, .data.u64 = id};
	return epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e);
}

static void got(const char *what, int ep) {
	struct epoll_event e[8];
	int n = epoll_wait(ep, e, 8, 0);
	say("%s: %d", what, n);
	for (int i = 0; i < n; i++) for (int j = i + 1; j < n; j++) if (e[j].data.u64 < e[i].data.u64) {
		struct epoll_event t = e[i];
		e[i] = e[j], e[j] = t;
	}
	for (int i = 0; i < n; i++) say(" %d:%x", (int)e[i].data.u64, e[i].events);
	say("\n");
}

static void np(void) {
	pipe2(p, O_NONBLOCK);
}

static void cp(void) {
	close(p[0]), close(p[1]);
}

static void level(void) {
	int ep = epoll_create1(EPOLL_CLOEXEC);
	np();
	add(ep, p[0], EPOLLIN, 1);
	add(ep, p[1], EPOLLOUT, 2);
	got("start", ep);
	write(p[1], "x", 1);
	got("written", ep);
	close(p[1]);
	got("writer closed", ep);
	read(p[0], buf, 10);
	got("empty", ep);
	close(p[0]);
	got("closed", ep);
	np();
	add(ep, p[1], 0, 3);
	got("nothing asked", ep);
	close(p[0]);
	got("reader gone", ep);
	close(p[1]);
	np();
	add(ep, p[1], EPOLLOUT, 4);
	while (write(p[1], buf, 4096) > 0);
	got("full", ep);
	read(p[0], buf, 100);
	got("100 read", ep);
	read(p[0], buf, 4096);
	got("4196 read", ep);
	cp();
	int ev = eventfd(0, EFD_NONBLOCK);
	add(ep, ev, EPOLLIN | EPOLLOUT, 5);
	got("eventfd 0", ep);
	uint64_t v = 1;
	write(ev, &v, 8);
	got("eventfd 1", ep);
	v = -2ULL - 1;
	write(ev, &v, 8);
	got("eventfd full", ep);
	v = 1;
	result("more", write(ev, &v, 8));
	v = -1;
	result("-1", write(ev, &v, 8));
	v = 0;
	result("0 when full", write(ev, &v, 8));
	read(ev, &v, 8);
	say("%llx\n", (long long)v);
	result("short write", write(ev, &v, 4));
	result("long read", read(ev, buf, 100));
	close(ev);
	int es = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
	add(ep, es, EPOLLIN | EPOLLET, 6);
	got("sem", ep);
	got("sem again", ep);
	read(es, &v, 8);
	got("after read", ep);
	v = 1;
	write(es, &v, 8);
	got("after write", ep);
	got("again", ep);
	close(es);
	result("eventfd flags", eventfd(0, 0x100));
	result("eventfd pread", ({ int e = eventfd(1, 0); int r = pread(e, &v, 8, 0); int er = errno; close(e); errno = er; r; }));
	result("eventfd readv", ({ int e = eventfd(9, 0); uint32_t a = 0, b = 0; struct iovec io[2] = {{&a, 4}, {&b, 4}}; int r = readv(e, io, 2); int er
		= errno; close(e); errno = er; say("%u %u\n", a, b); r; }));
	close(ep);
}

static void edge(void) {
	int ep = epoll_create1(0);
	np();
	add(ep, p[0], EPOLLIN | EPOLLET, 1);
	got("start", ep);
	write(p[1], "ab", 2);
	got("2", ep);
	got("again", ep);
	read(p[0], buf, 1);
	got("partly read", ep);
	write(p[1], "c", 1);
	got("more", ep);
	write(p[1], "d", 1);
	write(p[1], "e", 1);
	got("two more", ep);
	got("again", ep);
	mod(ep, p[0], EPOLLIN | EPOLLET, 1);
	got("mod", ep);
	got("again", ep);
	close(p[1]);
	got("hup", ep);
	got("again", ep);
	close(p[0]);
	np();
	add(ep, p[1], EPOLLOUT | EPOLLET, 2);
	got("out", ep);
	got("out again", ep);
	write(p[1], "x", 1);
	got("written", ep);
	read(p[0], buf, 1);
	got("read: not full before", ep);
	while (write(p[1], buf, 4096) > 0);
	got("full", ep);
	read(p[0], buf, 4096);
	got("room", ep);
	got("again", ep);
	cp();
	np();
	write(p[1], "x", 1);
	add(ep, p[0], EPOLLIN | EPOLLONESHOT, 3);
	got("oneshot", ep);
	write(p[1], "y", 1);
	got("disarmed", ep);
	mod(ep, p[0], EPOLLIN | EPOLLONESHOT, 4);
	got("armed", ep);
	got("again", ep);
	close(p[1]);
	got("hup disarmed", ep);
	mod(ep, p[0], EPOLLIN, 5);
	got("level", ep);
	got("level", ep);
	close(p[0]);
	np();
	result("exclusive", add(ep, p[0], EPOLLIN | EPOLLEXCLUSIVE, 6));
	result("exclusive mod", mod(ep, p[0], EPOLLIN, 6));
	write(p[1], "x", 1);
	got("excl", ep);
	result("excl oneshot", add(ep, p[1], EPOLLOUT | EPOLLEXCLUSIVE | EPOLLONESHOT, 7));
	result("excl et", add(ep, p[1], EPOLLOUT | EPOLLEXCLUSIVE | EPOLLET, 7));
	result("mod excl", mod(ep, p[0], EPOLLIN | EPOLLEXCLUSIVE, 6));
	cp();
	np();
	add(ep, p[0], EPOLLIN | EPOLLET, 8);
	int dupd = dup(p[0]);
	result("dup add", add(ep, dupd, EPOLLIN, 9));
	close(p[0]);
	write(p[1], "x", 1);
	got("closed but a dup", ep);
	result("del closed", epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
	close(dupd);
	got("all closed", ep);
	close(p[1]);
	close(ep);
}

static void sets(void) {
	int ep = epoll_create1(0), e2 = epoll_create1(0);
	np();
	struct epoll_event e;
	result("badf", add(ep, 99, EPOLLIN, 0));
	result("badf ep", add(99, p[0], EPOLLIN, 0));
	result("not ep", add(p[0], p[1], EPOLLIN, 0));
	result("self", add(ep, ep, EPOLLIN, 0));
	result("op", epoll_ctl(ep, 9, p[0], &e));
	result("null", epoll_ctl(ep, EPOLL_CTL_ADD, p[0], NULL));
	result("mod none", mod(ep, p[0], EPOLLIN, 0));
	result("del none", epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
	result("file", ({ int f = open("/proc/self/exe", O_RDONLY); int r = add(ep, f, EPOLLIN, 0); int er = errno; close(f); errno = er; r; }));
	result("dir", ({ int f = open("/", O_RDONLY); int r = add(ep, f, EPOLLIN, 0); int er = errno; close(f); errno = er; r; }));
	result("null dev", ({ int f = open("/dev/null", O_RDONLY); int r = add(ep, f, EPOLLIN, 0); int er = errno; close(f); errno = er; r; }));
	result("urandom", ({ int f = open("/dev/urandom", O_RDONLY); int r = add(ep, f, EPOLLIN, 0); int er = errno; close(f); errno = er; r; }));
	result("wait 0", epoll_wait(ep, &e, 0, 0));
	result("wait -1", epoll_wait(ep, &e, -1, 0));
	result("wait ptr", epoll_wait(ep, (void *)8, 1, 0));
	result("wait big", epoll_wait(ep, &e, 0x7fffffff, 0));
	result("wait kernel ptr", epoll_wait(ep, (void *)0xffff888000000000, 1, 0));
	result("create 0", epoll_create(0));
	result("create flags", epoll_create1(1));
	result("pwait2", ({ struct timespec t = {0, 1000000}; syscall(SYS_epoll_pwait2, ep, &e, 1, &t, NULL, 8); }));
	result("pwait2 bad", ({ struct timespec t = {0, 1000000000}; syscall(SYS_epoll_pwait2, ep, &e, 1, &t, NULL, 8); }));
	result("nest", add(e2, ep, EPOLLIN, 1));
	result("loop", add(ep, e2, EPOLLIN, 1));
	add(ep, p[0], EPOLLIN, 2);
	got("nested idle", e2);
	write(p[1], "x", 1);
	got("nested ready", e2);
	struct pollfd pf = {e2, POLLIN, 0};
	result("poll it", poll(&pf, 1, 0));
	read(p[0], buf, 1);
	got("nested after", e2);
	result("poll it", poll(&pf, 1, 0));
	int chain[8];
	chain[0] = epoll_create1(0);
	int k = 1;
	for (; k < 8; k++) { chain[k] = epoll_create1(0); if (add(chain[k], chain[k - 1], EPOLLIN, 0)) break; }
	say("chain ends at %d\n", k);
	// fair: of many ready files all are told in turn
	int fd[20][2];
	int e3 = epoll_create1(0);
	for (int i = 0; i < 20; i++) { pipe(fd[i]); write(fd[i][1], "x", 1); add(e3, fd[i][0], EPOLLIN, i); }
	int seen[20] = {0};
	for (int i = 0; i < 10; i++) { struct epoll_event r[4]; int n = epoll_wait(e3, r, 4, 0); for (int j = 0; j < n; j++) seen[r[j].data.u64]++; }
	int all = 1;
	for (int i = 0; i < 20; i++) all &= seen[i] == 2;
	say("fair %d\n", all);
	for (int i = 0; i < 20; i++) close(fd[i][0]), close(fd[i][1]);
	got("all gone", e3);
	cp();
	close(ep);
	close(e2);
	close(e3);
}

static void *closer(void *a) {
	nap(20);
	close(*(int *)a);
	return NULL;
}

static void *writer(void *a) {
	nap(20);
	write(*(int *)a, "hello", 5);
	return NULL;
}

static void *adder(void *a) {
	nap(20);
	add(((int *)a)[0], ((int *)a)[1], EPOLLIN, 77);
	return NULL;
}

static void blocking(void) {
	pthread_t t;
	char c;
	signal(SIGPIPE, SIG_IGN);
	pipe(p);
	pthread_create(&t, 0, closer, &p[1]);
	result("reader, writer closes", read(p[0], &c, 1));
	pthread_join(t, 0);
	close(p[0]);
	pipe(p);
	while (fcntl(p[1], F_SETFL, O_NONBLOCK), write(p[1], buf, 4096) > 0);
	fcntl(p[1], F_SETFL, 0);
	pthread_create(&t, 0, closer, &p[0]);
	result("writer, reader closes", write(p[1], "x", 1));
	pthread_join(t, 0);
	close(p[1]);
	pipe(p);
	pthread_create(&t, 0, writer, &p[1]);
	struct pollfd pf = {p[0], POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
	result("poll", poll(&pf, 1, -1));
	say("%x\n", pf.revents);
	pthread_join(t, 0);
	cp();
	pipe(p);
	pthread_create(&t, 0, closer, &p[1]);
	pf = (struct pollfd){p[0], 0, 0};
	result("poll hup", poll(&pf, 1, -1));
	say("%x\n", pf.revents);
	pthread_join(t, 0);
	close(p[0]);
	int ep = epoll_create1(0);
	pipe(p);
	write(p[1], "x", 1);
	int a[2] = {ep, p[0]};
	pthread_create(&t, 0, adder, a);
	struct epoll_event e;
	result("epoll, added by another", epoll_wait(ep, &e, 1, 2000));
	say("%d\n", (int)e.data.u64);
	pthread_join(t, 0);
	cp();
	close(ep);
	ep = epoll_create1(0);
	pipe(p);
	add(ep, p[0], EPOLLIN | EPOLLET, 1);
	pthread_create(&t, 0, writer, &p[1]);
	result("epoll et", epoll_wait(ep, &e, 1, 2000));
	pthread_join(t, 0);
	result("then", epoll_wait(ep, &e, 1, 20));
	cp();
	close(ep);
	// a transfer of several spans, longer than the pipe
	pipe(p);
	pthread_create(&t, 0, ({ void *f(void *x) { long n = 0, r; while ((r = read(p[0], buf + 100000, 3000)) > 0) n += r; return (void *)n; } f; }), 0);
	struct iovec v[3] = {{buf, 50000}, {buf, 0}, {buf, 40000}};
	result("writev long", writev(p[1], v, 3));
	close(p[1]);
	void *r;
	pthread_join(t, &r);
	say("read %ld\n", (long)r);
	close(p[0]);
	// a bad pointer in the middle of a long write
	pipe(p);
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	char *m = mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(m + 8192, 4096, PROT_NONE);
	result("write 3 pages", write(p[1], m, 12288));
	int n;
	ioctl(p[0], FIONREAD, &n);
	say("in the pipe %d\n", n);
	result("read over", read(p[0], m, 16384));
	cp();
	pipe(p);
	result("nonblock big", ({ fcntl(p[1], F_SETFL, O_NONBLOCK); write(p[1], buf, 100000); }));
	result("nonblock atomic", write(p[1], buf, 10));
	read(p[0], buf, 5000);
	result("atomic too big for room", write(p[1], buf, 4097) > 0);
	cp();
	result("pipe2 flags", pipe2(p, 1));
	result("pipe ptr", syscall(SYS_pipe2, 8, 0));
	result("poll many", poll(NULL, 1 << 30, 0));
	result("poll ptr", syscall(SYS_poll, 8, 1, 0));
	pf = (struct pollfd){-5, POLLIN, 77};
	result("poll neg fd", poll(&pf, 1, 0));
	say("%x\n", pf.revents);
	struct pollfd f2[3] = {{0x7fffffff, POLLIN, 0}, {1000, 0, 0}, {-1, 0, 0}};
	result("nval", poll(f2, 3, -1));
	say("%x %x %x\n", f2[0].revents, f2[1].revents, f2[2].revents);
	int f = open("/proc/self/exe", O_RDONLY);
	pf = (struct pollfd){f, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM, 0};
	result("poll file", poll(&pf, 1, -1));
	say("%x\n", pf.revents);
	close(f);
	pipe(p);
	pf = (struct pollfd){p[1], POLLIN | POLLOUT | POLLWRNORM | POLLWRBAND, 0};
	result("poll w", poll(&pf, 1, 0));
	say("%x\n", pf.revents);
	cp();
}

static void tfd(void) {
	int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	struct itimerspec its = {{0, 0}, {100, 0}}, old;
	uint64_t v;
	result("cancel flag", timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &its, NULL));
	its.it_value.tv_sec = 0;
	result("disarm", timerfd_settime(fd, 0, &its, &old));
	result("read", read(fd, &v, 8));
	its = (struct itimerspec){{1, 5}, {1000, 7}};
	timerfd_settime(fd, 0, &its, NULL);
	timerfd_gettime(fd, &old);
	say("%ld.%09ld %d\n", (long)old.it_interval.tv_sec, old.it_interval.tv_nsec, old.it_value.tv_sec == 1000 || old.it_value.tv_sec == 999);
	result("gettime ptr", timerfd_gettime(fd, (void *)8));
	result("settime ptr", timerfd_settime(fd, 0, (void *)8, NULL));
	result("settime old ptr", timerfd_settime(fd, 0, &its, (void *)8));
	result("lseek", lseek(fd, 0, 0));
	result("pread", pread(fd, &v, 8, 0));
	int ep = epoll_create1(0);
	add(ep, fd, EPOLLIN | EPOLLET, 1);
	its = (struct itimerspec){{0, 5000000}, {0, 1}};
	timerfd_settime(fd, 0, &its, NULL);
	nap(2);
	got("et 1", ep);
	got("et again", ep);
	nap(20);
	got("et later, not read", ep);
	result("read", read(fd, &v, 8));
	say("%d\n", v >= 3);
	nap(10);
	got("et after read", ep);
	its = (struct itimerspec){{0, 0}, {0, 1}};
	timerfd_settime(fd, 0, &its, NULL);
	nap(2);
	result("read once", read(fd, &v, 8));
	say("%ld\n", (long)v);
	result("read twice", read(fd, &v, 8));
	its = (struct itimerspec){{0, 1}, {0, 1}};
	timerfd_settime(fd, 0, &its, NULL);
	nap(5);
	result("1 ns", read(fd, &v, 8));
	say("%d\n", v > 100000);
	timerfd_settime(fd, 0, &(struct itimerspec){0}, NULL);
	its = (struct itimerspec){{0, 0}, {0x7fffffffffffffff, 999999999}};
	result("far", timerfd_settime(fd, 0, &its, NULL));
	timerfd_gettime(fd, &old);
	say("%d\n", old.it_value.tv_sec > 1000000000);
	result("far abs", timerfd_settime(fd, 1, &its, NULL));
	result("fionread", ioctl(fd, FIONREAD, &v));
	close(fd);
	close(ep);
	int a = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
	say("fd flags %d fl %x\n", fcntl(a, F_GETFD), fcntl(a, F_GETFL));
	result("invalid", timerfd_create(77, 0));
	close(a);
	int s = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	say("eventfd fl %x\n", fcntl(s, F_GETFL));
	close(s);
	s = epoll_create1(0);
	say("epoll fl %x\n", fcntl(s, F_GETFL));
	result("read epoll", read(s, buf, 8));
	result("write epoll", write(s, buf, 8));
	close(s);
	sigset_t m;
	sigemptyset(&m);
	s = signalfd(-1, &m, SFD_NONBLOCK);
	say("signalfd fl %x\n", fcntl(s, F_GETFL));
	close(s);
	pipe(p);
	say("pipe fl %x %x\n", fcntl(p[0], F_GETFL), fcntl(p[1], F_GETFL));
	cp();
	struct { int fd; }
	z;
	s = memfd_create("m", 0);
	say("memfd fl %x\n", fcntl(s, F_GETFL));
	close(s);
}

int main(int argc, char **argv) {
	void (*all[])(void) = {level, edge, sets, blocking, tfd};
	const char *nm[] = {"level", "edge", "sets", "blocking", "timerfd"};
	for (int i = 0; i < 5; i++) if (argc < 2 || !strcmp(argv[1], nm[i])) say("[%s]\n", nm[i]), all[i]();
	return 0;
}
