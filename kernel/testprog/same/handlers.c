// Handlers: nested, faulting, what they are told, in which order they run, and the masks of calls that wait. What this prints under Linux it
// has to print in the guest.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <poll.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#define say(...) (printf(__VA_ARGS__), fflush(stdout))
#define result(name, call) do { errno = 0; long r_ = (long)(call); int e_ = errno; say("%s: %ld errno %d\n", name, r_, e_); } while (0)

static void set(int sig, void *h, int flags) {
	struct sigaction a = {.sa_flags = flags | SA_SIGINFO};
	a.sa_sigaction = h;
	sigemptyset(&a.sa_mask);
	sigaction(sig, &a, NULL);
}

static void mask(int how, int sig) {
	sigset_t s;
	sigemptyset(&s);
	if (sig) sigaddset(&s, sig);
	sigprocmask(how, &s, NULL);
}

static char alt[65536];
static volatile int depth, most, hits;
static siginfo_t last;

// nested: a handler that raises its own signal, SA_NODEFER and not.
static void nest(int sig, siginfo_t *si, void *uc) {
	int d = ++depth;
	if (d > most) most = d;
	hits++;
	if (hits < 5) raise(sig);
	depth--;
}

static void nested(void) {
	set(SIGUSR1, nest, 0);
	hits = most = 0;
	raise(SIGUSR1);
	say("deferred: hits %d depth %d\n", hits, most);
	set(SIGUSR1, nest, SA_NODEFER);
	hits = most = 0;
	raise(SIGUSR1);
	say("nodefer: hits %d depth %d\n", hits, most);
	set(SIGUSR1, nest, SA_RESETHAND | SA_NODEFER);
	hits = 10, most = 0;
	raise(SIGUSR1);
	struct sigaction a;
	sigaction(SIGUSR1, NULL, &a);
	say("reset: hits %d dfl %d\n", hits, a.sa_handler == SIG_DFL);
	set(SIGSEGV, nest, SA_RESETHAND);
	hits = 10;
	raise(SIGSEGV);
	sigaction(SIGSEGV, NULL, &a);
	say("segv reset: dfl %d\n", a.sa_handler == SIG_DFL);
}

// recursive faults: a handler that faults itself, SA_NODEFER; each fault's handler jumps further.
static sigjmp_buf jb;
static void refault(int sig, siginfo_t *si, void *uc) {
	int d = ++depth;
	if (d > most) most = d;
	say("  fault at %lx depth %d code %d\n", (long)si->si_addr, d, si->si_code);
	if (d < 6) *(volatile int *)(long)(d * 64) = 1;
	siglongjmp(jb, 1);
}

static void recursive(void) {
	set(SIGSEGV, refault, SA_NODEFER);
	depth = most = 0;
	if (!sigsetjmp(jb, 1)) *(volatile int *)8 = 1;
	say("depth %d\n", most);
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
	sigaltstack(&ss, NULL);
	set(SIGSEGV, refault, SA_NODEFER | SA_ONSTACK);
	depth = most = 0;
	if (!sigsetjmp(jb, 1)) *(volatile int *)8 = 1;
	say("alt depth %d\n", most);
	sigaltstack(NULL, &ss);
	say("left by longjmp: flags %x\n", ss.ss_flags);
}

// The fault is repeated until the handler mends it.
static char *pg;
static volatile int times;
static void mend(int sig, siginfo_t *si, void *uc) {
	times++;
	if (times == 3) mprotect(pg, 4096, PROT_READ | PROT_WRITE);
}

static void mending(void) {
	pg = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	set(SIGSEGV, mend, 0);
	times = 0;
	*(volatile char *)pg = 5;
	say("mended after %d, value %d\n", times, *pg);
	// a system call on such memory faults without a signal
	mprotect(pg, 4096, PROT_NONE);
	times = 0;
	int p[2];
	pipe(p);
	result("write from none", write(p[1], pg, 10));
	write(p[1], "abc", 3);
	result("read to none", read(p[0], pg, 3));
	say("signals %d\n", times);
	close(p[0]), close(p[1]);
}

// siginfo of each way to send.
static void keep(int sig, siginfo_t *si, void *uc) {
	last = *si;
	hits++;
}

static void ways(void) {
	int sigs[] = {SIGUSR1, SIGRTMIN + 2, SIGSEGV, SIGFPE};
	for (int i = 0; i < 4; i++) {
		int s = sigs[i];
		set(s, keep, 0);
		memset(&last, 0xff, sizeof last);
		kill(getpid(), s);
		say("kill %d: code %d errno %d pid %d uid %d\n", i, last.si_code, last.si_errno, last.si_pid == getpid(), last.si_uid);
		memset(&last, 0xff, sizeof last);
		syscall(SYS_tgkill, getpid(), gettid(), s);
		say("tgkill %d: code %d pid %d uid %d\n", i, last.si_code, last.si_pid == getpid(), last.si_uid);
		memset(&last, 0xff, sizeof last);
		syscall(SYS_tkill, gettid(), s);
		say("tkill %d: code %d pid %d\n", i, last.si_code, last.si_pid == getpid());
		union sigval v = {.sival_int = 42};
		memset(&last, 0xff, sizeof last);
		sigqueue(getpid(), s, v);
		say("sigqueue %d: code %d val %d\n", i, last.si_code, last.si_value.sival_int);
		siginfo_t si;
		memset(&si, 0, sizeof si);
		si.si_code = SI_MESGQ;
		si.si_errno = 77;
		si.si_signo = 99;
		si.si_pid = 5;
		result("rt_sigqueueinfo", syscall(SYS_rt_sigqueueinfo, getpid(), s, &si));
		say("  code %d errno %d signo %d pid %d\n", last.si_code, last.si_errno, last.si_signo == s, last.si_pid);
		si.si_code = 5;
		si.si_addr = (void *)0x1234;
		result("self code>0", syscall(SYS_rt_sigqueueinfo, getpid(), s, &si));
		say("  code %d addr %p\n", last.si_code, last.si_addr);
	}
	struct itimerval it = {{0, 0}, {0, 1000}};
	set(SIGALRM, keep, 0);
	hits = 0;
	setitimer(ITIMER_REAL, &it, NULL);
	while (!hits);
	say("alrm code %d pid %d uid %d\n", last.si_code, last.si_pid, last.si_uid);
	set(SIGPIPE, keep, 0);
	int p[2];
	pipe(p);
	close(p[0]);
	result("epipe", write(p[1], "x", 1));
	say("sigpipe code %d pid %d\n", last.si_code, last.si_pid == getpid());
	close(p[1]);
	result("sigqueue pid 0", syscall(SYS_rt_sigqueueinfo, 0, SIGUSR1, &last));
	result("kill -pid bad", kill(-99999, 0));
	result("kill bad sig", kill(getpid(), 65));
	result("kill neg sig", kill(getpid(), -1));
	result("tkill 0", syscall(SYS_tkill, 0, 0));
	result("tkill -1", syscall(SYS_tkill, -1, 0));
	result("tgkill 0 tid", syscall(SYS_tgkill, getpid(), 0, 0));
	result("tgkill wrong tgid", syscall(SYS_tgkill, getpid() + 1000000, gettid(), 0));
	result("kill 99999", kill(99999, 0));
}

// real-time order among numbers, between process and thread queues
static int seq[64], ns;
static void rec(int sig, siginfo_t *si, void *uc) {
	if (ns < 64) seq[ns++] = sig * 100 + (si->si_code == SI_QUEUE ? si->si_value.sival_int : 0);
}

static void order(void) {
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	struct sigaction a = {.sa_flags = SA_SIGINFO};
	a.sa_sigaction = rec;
	sigfillset(&a.sa_mask);
	for (int s = SIGRTMIN; s < SIGRTMIN + 4; s++) sigaction(s, &a, NULL);
	sigaction(SIGUSR1, &a, NULL);
	sigaction(SIGSEGV, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	sigaction(SIGHUP, &a, NULL);
	siginfo_t si;
	memset(&si, 0, sizeof si);
	si.si_code = SI_QUEUE;
	for (int k = 0; k < 3; k++) for (int s = SIGRTMIN + 3; s >= SIGRTMIN; s--) {
		union sigval v = {.sival_int = k};
		sigqueue(getpid(), s, v);
		si.si_value.sival_int = 50 + k;
		syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), s, &si);
	}
	raise(SIGUSR1);
	kill(getpid(), SIGSEGV);
	kill(getpid(), SIGTERM);
	raise(SIGHUP);
	kill(getpid(), SIGHUP);
	kill(getpid(), SIGHUP);
	sigset_t none;
	sigemptyset(&none);
	for (int i = 0; i < 5; i++) {
		siginfo_t x;
		sigset_t w;
		sigemptyset(&w);
		sigaddset(&w, SIGRTMIN + 1);
		if (i < 4) { struct timespec z = {0}; int r = sigtimedwait(&w, &x, &z); say("wait %d %d\n", r == SIGRTMIN + 1, x.si_value.sival_int); }
	}
	ns = 0;
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 0; i < ns; i++) say(" %d", seq[i] - (seq[i] >= SIGRTMIN * 100 ? SIGRTMIN * 100 : 0));
	say("\n");
}

// masks of ppoll, pselect, epoll_pwait: the pending signal is taken during the call, the mask restored; ready files win.
static void masks(void) {
	mask(SIG_BLOCK, SIGUSR1);
	set(SIGUSR1, keep, 0);
	sigset_t none, now;
	sigemptyset(&none);
	int p[2];
	pipe(p);
	struct pollfd pf = {p[0], POLLIN, 0};
	fd_set fs;
	struct timespec t0 = {0, 0}, t1 = {0, 1000000};
	int ep = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN};
	epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e);
#define state(n) do { sigprocmask(SIG_BLOCK, NULL, &now); say("  " n " hits %d blocked %d\n", hits, sigismember(&now, SIGUSR1)); hits = 0; } while (0)
	hits = 0;
	raise(SIGUSR1);
	result("ppoll", ppoll(&pf, 1, NULL, &none));
	state("");
	raise(SIGUSR1);
	result("ppoll 0", ppoll(&pf, 1, &t0, &none));
	state("");
	raise(SIGUSR1);
	FD_ZERO(&fs);
	FD_SET(p[0], &fs);
	result("pselect", pselect(p[0] + 1, &fs, 0, 0, NULL, &none));
	say("  set %d\n", FD_ISSET(p[0], &fs));
	state("");
	raise(SIGUSR1);
	FD_ZERO(&fs);
	FD_SET(p[0], &fs);
	result("pselect 0", pselect(p[0] + 1, &fs, 0, 0, &t0, &none));
	say("  set %d\n", FD_ISSET(p[0], &fs));
	state("");
	raise(SIGUSR1);
	result("epoll_pwait", epoll_pwait(ep, &e, 1, -1, &none));
	state("");
	raise(SIGUSR1);
	result("epoll_pwait 0", epoll_pwait(ep, &e, 1, 0, &none));
	state("");
	write(p[1], "x", 1);
	raise(SIGUSR1);
	result("ppoll ready", ppoll(&pf, 1, NULL, &none));
	state("");
	raise(SIGUSR1);
	FD_ZERO(&fs);
	FD_SET(p[0], &fs);
	result("pselect ready", pselect(p[0] + 1, &fs, 0, 0, NULL, &none));
	state("");
	raise(SIGUSR1);
	result("epoll_pwait ready", epoll_pwait(ep, &e, 1, -1, &none));
	state("");
	raise(SIGUSR1);
	result("ppoll bad", syscall(SYS_ppoll, 8, 1, NULL, &none, 8));
	state("");
	result("ppoll mask size", syscall(SYS_ppoll, &pf, 1, NULL, &none, 4));
	result("epoll_pwait size", syscall(SYS_epoll_pwait, ep, &e, 1, 0, &none, 4));
	state("");
	struct { void *p; long n; }
	arg = {&none, 4};
	result("pselect size", syscall(SYS_pselect6, 0, 0, 0, 0, &t0, &arg));
	result("sigsuspend size", syscall(SYS_rt_sigsuspend, &none, 4));
	state("");
	result("ppoll bad mask", syscall(SYS_ppoll, &pf, 1, NULL, 8, 8));
	result("ppoll bad time", syscall(SYS_ppoll, &pf, 1, 8, &none, 8));
	struct timespec neg = {-1, 0};
	result("ppoll neg", ppoll(&pf, 1, &neg, &none));
	state("");
	result("epoll_pwait badfd", epoll_pwait(99, &e, 1, -1, &none));
	state("");
	raise(SIGUSR1);
	result("sigsuspend fault", syscall(SYS_rt_sigsuspend, 8, 8));
	state("");
	raise(SIGUSR1);
	result("sigsuspend", sigsuspend(&none));
	state("");
	// time left is told
	struct timespec left = {5, 0};
	result("raw ppoll", syscall(SYS_ppoll, &pf, 1, &left, NULL, 8));
	say("left %ld\n", left.tv_sec);
	char c;
	read(p[0], &c, 1);
	left = (struct timespec){0, 2000000};
	result("raw ppoll", syscall(SYS_ppoll, &pf, 1, &left, NULL, 8));
	say("left %ld %ld\n", left.tv_sec, left.tv_nsec);
	struct timeval tv = {0, 2000};
	FD_ZERO(&fs);
	FD_SET(p[0], &fs);
	result("select", select(p[0] + 1, &fs, 0, 0, &tv));
	say("left %ld %ld\n", tv.tv_sec, tv.tv_usec);
	write(p[1], "x", 1);
	tv.tv_sec = 7;
	FD_ZERO(&fs);
	FD_SET(p[0], &fs);
	result("select", select(p[0] + 1, &fs, 0, 0, &tv));
	say("left %d\n", tv.tv_sec == 6);
	tv = (struct timeval){0, 1500000};
	read(p[0], &c, 1);
	FD_ZERO(&fs);
	result("select usec", select(p[0] + 1, &fs, 0, 0, &(struct timeval){0, 1000000}));
	tv = (struct timeval){-1, 0};
	result("select neg", select(0, 0, 0, 0, &tv));
	// Linux passes over numbers beyond the table that the process happens to have, whose least size is 64.
	result("select badfd", (FD_SET(45, &fs), select(46, &fs, 0, 0, &(struct timeval){0})));
	result("select neg n", select(-1, 0, 0, 0, &(struct timeval){0}));
	mask(SIG_UNBLOCK, SIGUSR1);
	close(p[0]);
	close(p[1]);
	close(ep);
}

int main(int argc, char **argv) {
	void (*all[])(void) = {nested, recursive, mending, ways, order, masks};
	const char *names[] = {"nested", "recursive", "mending", "ways", "order", "masks"};
	for (int i = 0; i < 6; i++) if (argc < 2 || !strcmp(argv[1], names[i])) say("[%s]\n", names[i]), all[i]();
	return 0;
}
