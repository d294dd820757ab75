// Takes of one thing, which its argument names, until there is no more of it. That is the program's own end at worst.
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>

static char name[400], big[65536];

static int file(long i) {
	sprintf(name, "/tmp/%0200ld", i);
	int f = open(name, O_CREAT | O_WRONLY, 0600);
	return f < 0 ? -1 : close(f);
}
static int dir(long i) {
	sprintf(name, "/dev/shm/%0200ld", i);
	return mkdir(name, 0700);
}
static int link_(long i) {
	sprintf(name, "/tmp/%ld", i);
	memset(big, 'a', 3999), big[3999] = 0;
	return symlink(big, name);
}
static int xattr(long i) {
	sprintf(name, "user.%0200ld", i);
	return setxattr("/tmp", name, big, 60000, 0);
}
static int pipe_(long i) {
	int p[2];
	if (pipe(p))
		return -1;
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	write(p[1], big, sizeof big);
	return 0;
}
static int event(long i) { return eventfd(0, 0); }
static int open_(long i) { return open("/dev/null", O_RDONLY); }
static int set(long i) {
	int e = epoll_create1(0);
	return i == 2000 || e < 0 ? -1 : epoll_ctl(e, EPOLL_CTL_ADD, eventfd(0, 0), &(struct epoll_event){.events = EPOLLIN});
}
static int memfd(long i) {
	int f = syscall(SYS_memfd_create, "x", 0);
	return f < 0 || pwrite(f, "x", 1, (1l << 35) - 1) != 1 ? -1 : 0;
}
static int timer(long i) {
	timer_t t;
	return timer_create(CLOCK_MONOTONIC, &(struct sigevent){.sigev_notify = SIGEV_NONE}, &t);
}
static int signal_(long i) {
	sigset_t s;
	sigfillset(&s);
	sigprocmask(SIG_BLOCK, &s, NULL);
	return sigqueue(getpid(), SIGRTMIN + 3, (union sigval){0});
}
static int table(long i) {
	static volatile char *p;
	if (!p)
		p = mmap(NULL, 100l << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? -1 : p[i << 21];
}
static int area(long i) { return mprotect(mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096, PROT_READ) || i == 5000 ? -1 : 0; }
static void *sleeps(void *arg) { return pause(), NULL; }
static int thread(long i) {
	static pthread_attr_t small;
	pthread_t t;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	return (errno = pthread_create(&t, &small, sleeps, NULL)) ? -1 : 0;
}
static int child(long i) {
	return mkdir("d", 0700) || chdir("d") ? -1 : 0;
}

static const struct { const char *name; int (*take)(long); } things[] = {{"files", file}, {"dirs", dir}, {"links", link_}, {"xattrs", xattr},
	{"pipes", pipe_}, {"eventfds", event}, {"opens", open_}, {"sets", set}, {"memfds", memfd}, {"timers", timer}, {"signals", signal_},
	{"tables", table}, {"areas", area}, {"threads", thread}, {"depth", child}};

int main(int argc, char **argv) {
	chdir("/tmp");
	for (size_t i = 0; i < sizeof things / sizeof *things; i++)
		if (argc > 1 && !strcmp(argv[1], things[i].name)) {
			long n = 0;
			while (n < 5000000 && things[i].take(n) >= 0)
				n++;
			printf("%s: %ld, then %s\n", argv[1], n, strerror(errno));
			fflush(stdout);
			_exit(0);
		}
	return 1;
}
