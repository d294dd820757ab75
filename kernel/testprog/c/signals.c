// Signals.
#include "check.h"
#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

static volatile int hits, last, onAlt;
static char alt[65536];
static volatile siginfo_t info;

static void count(int sig, siginfo_t *si, void *uc) {
	(void)uc;
	hits++;
	last = sig;
	info = *si;
	char here;
	onAlt = &here >= alt && &here < alt + sizeof alt;
}

static sigjmp_buf jump;
static void recover(int sig, siginfo_t *si, void *uc) {
	count(sig, si, uc);
	siglongjmp(jump, sig);
}

static void skip(int sig, siginfo_t *si, void *ctx) {
	ucontext_t *uc = ctx;
	count(sig, si, ctx);
	uc->uc_mcontext.gregs[REG_RIP] += 2; // over ud2
	uc->uc_mcontext.gregs[REG_RBX] = 0x1122334455667788;
	uc->uc_mcontext.gregs[REG_RCX] = 0xc0ffee;
	uc->uc_mcontext.gregs[REG_R11] = 0xbeef;
}

static void clobber(int sig) {
	(void)sig;
	__asm__ volatile("pxor %%xmm7, %%xmm7; fldz" ::: "xmm7", "memory");
	fesetround(FE_TOWARDZERO);
	hits++;
}

static volatile int tid; // of the thread that is to sleep, once it runs

// asleep waits until that thread sleeps, however long the host keeps the machine waiting.
static void asleep(void) {
	struct timespec ms = {0, 1000000};
	for (char state = 0; state != 'S'; nanosleep(&ms, NULL)) {
		char path[40], b[512] = "";
		sprintf(path, "/proc/self/task/%d/stat", tid);
		FILE *f = tid ? fopen(path, "r") : NULL;
		if (f && fgets(b, sizeof b, f) && strrchr(b, ')'))
			state = strrchr(b, ')')[2];
		if (f)
			fclose(f);
	}
}

static volatile int woken;
static void *sleeper(void *arg) {
	(void)arg;
	struct timespec t = {100000, 0}, rem = {0, 0};
	tid = gettid();
	int r = nanosleep(&t, &rem);
	woken = r == -1 && errno == EINTR && rem.tv_sec >= 50000;
	return NULL;
}

static int fds[2];
static void *reader(void *arg) {
	(void)arg;
	char c = 0;
	tid = gettid();
	long n = read(fds[0], &c, 1);
	return (void *)(n == 1 ? (long)c : -(long)errno);
}

static void set(int sig, void (*h)(int, siginfo_t *, void *), int flags) {
	struct sigaction sa = {.sa_sigaction = h, .sa_flags = SA_SIGINFO | flags};
	sigaction(sig, &sa, NULL);
}

static volatile long spun;

int main(void) {
	sigset_t s, old;
	set(SIGUSR1, count, 0);
	check("raise", raise(SIGUSR1) == 0 && hits == 1 && last == SIGUSR1 && info.si_code == SI_TKILL && info.si_pid == getpid());
	check("raise", kill(getpid(), SIGUSR1) == 0 && hits == 2 && info.si_code == SI_USER);
	ok("raise");

	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, &old);
	raise(SIGUSR1);
	raise(SIGUSR1);
	sigset_t pend;
	check("mask", hits == 2 && sigpending(&pend) == 0 && sigismember(&pend, SIGUSR1));
	sigprocmask(SIG_SETMASK, &old, NULL);
	check("mask", hits == 3);
	sigprocmask(SIG_BLOCK, &s, NULL);
	raise(SIGUSR1);
	sigset_t none;
	sigemptyset(&none);
	check("suspend", sigsuspend(&none) == -1 && errno == EINTR && hits == 4);
	raise(SIGUSR1);
	siginfo_t si;
	check("sigwait", sigwaitinfo(&s, &si) == SIGUSR1 && hits == 4);
	struct timespec ms = {0, 2000000};
	check("sigwait", sigtimedwait(&s, &si, &ms) == -1 && errno == EAGAIN);
	sigprocmask(SIG_SETMASK, &old, NULL);
	ok("mask");

	union sigval val = {.sival_int = 77};
	set(SIGRTMIN, count, 0);
	sigaddset(&s, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &s, NULL);
	hits = 0;
	for (int i = 0; i < 5; i++)
		sigqueue(getpid(), SIGRTMIN, val);
	sigprocmask(SIG_SETMASK, &old, NULL);
	check("queue", hits == 5 && info.si_value.sival_int == 77);
	ok("queue");

	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt}, was;
	check("altstack", sigaltstack(&ss, NULL) == 0 && sigaltstack(NULL, &was) == 0 && was.ss_sp == alt && was.ss_flags == 0);
	set(SIGUSR2, count, SA_ONSTACK);
	raise(SIGUSR2);
	check("altstack", onAlt == 1);
	raise(SIGUSR1);
	check("altstack", onAlt == 0);
	ok("altstack");

	set(SIGSEGV, recover, SA_ONSTACK);
	set(SIGFPE, recover, 0);
	set(SIGTRAP, count, 0);
	if (sigsetjmp(jump, 1) == 0)
		*(volatile int *)16 = 1;
	check("segv", last == SIGSEGV && info.si_addr == (void *)16 && info.si_code == SEGV_MAPERR && onAlt);
	last = 0;
	volatile int zero = 0;
	if (sigsetjmp(jump, 1) == 0)
		zero = 100 / zero;
	check("fpe", last == SIGFPE && info.si_code == FPE_INTDIV);
	last = 0;
	unsigned mxcsr = 0x1f80 & ~0x200; // division by zero faults
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	volatile double d = 0;
	if (sigsetjmp(jump, 1) == 0)
		d = 1 / d;
	mxcsr = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	check("fpe", last == 0 || (last == SIGFPE && info.si_code == FPE_FLTDIV)); // QEMU's TCG never raises it
	__asm__ volatile("int3");
	check("trap", last == SIGTRAP);
	ok("faults");

	set(SIGILL, skip, 0);
	uint64_t rbx, rcx, r11, rdx = 0x5555;
	__asm__ volatile("ud2" : "=b"(rbx), "=c"(rcx), "+d"(rdx) : : "memory");
	__asm__ volatile("ud2; mov %%r11, %0" : "=a"(r11) : : "rbx", "rcx", "r11", "memory");
	check("edit", rbx == 0x1122334455667788 && rcx == 0xc0ffee && rdx == 0x5555 && r11 == 0xbeef && last == SIGILL);
	ok("edit");

	signal(SIGUSR1, clobber);
	uint64_t in = 0x123456789abcdef0, out = 0;
	__asm__ volatile("movq %1, %%xmm7; mov $39, %%eax; syscall; movq %%xmm7, %0" : "=r"(out) : "r"(in) : "rax", "rcx", "r11", "xmm7");
	check("fpu", in == out);
	pid_t pid = getpid();
	__asm__ volatile("movq %1, %%xmm7; mov $62, %%eax; mov %2, %%edi; mov $10, %%esi; syscall; movq %%xmm7, %0"
	                 : "=r"(out) : "r"(in), "r"(pid) : "rax", "rcx", "r11", "rdi", "rsi", "xmm7", "memory");
	check("fpu", in == out && fegetround() == FE_TONEAREST);
	ok("fpu");

	pthread_t th;
	void *r;
	set(SIGUSR1, count, 0);
	tid = 0;
	pthread_create(&th, NULL, sleeper, NULL);
	asleep();
	pthread_kill(th, SIGUSR1);
	pthread_join(th, NULL);
	check("eintr", woken);
	pipe(fds);
	set(SIGUSR1, count, SA_RESTART);
	tid = 0;
	pthread_create(&th, NULL, reader, NULL);
	asleep();
	hits = 0;
	pthread_kill(th, SIGUSR1);
	while (!hits)
		sched_yield();
	asleep(); // again
	write(fds[1], "z", 1);
	pthread_join(th, &r);
	check("restart", hits == 1 && (long)r == 'z');
	set(SIGUSR1, count, 0);
	tid = 0;
	pthread_create(&th, NULL, reader, NULL);
	asleep();
	pthread_kill(th, SIGUSR1);
	pthread_join(th, &r);
	check("restart", (long)r == -EINTR);
	ok("eintr");

	set(SIGALRM, count, 0);
	struct itimerval it = {{0, 0}, {0, 5000}};
	hits = 0;
	setitimer(ITIMER_REAL, &it, NULL);
	while (!hits)
		spun++;
	check("alarm", last == SIGALRM);
	ok("alarm");
	signal(SIGTERM, SIG_IGN);
	check("ignore", raise(SIGTERM) == 0 && raise(SIGWINCH) == 0 && raise(SIGCHLD) == 0);
	ok("ignore");
	return 0;
}
