// Signals. What this prints under Linux it has to print in the guest.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
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
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <poll.h>

#define say(...) (printf(__VA_ARGS__), fflush(stdout))
#define result(name, call) do { errno = 0; long r_ = (long)(call); say("%s: %ld errno %d\n", name, r_, errno); } while (0)

static char log_[4096];
static int ln;
static char alt[65536] __attribute__((aligned(64)));
static siginfo_t last;
static sigset_t lastMask;
static volatile int hits;

static void note(int sig, siginfo_t *si, void *uc) {
	ucontext_t *u = uc;
	char here;
	ln += sprintf(log_ + ln, " %d%s", sig, &here >= alt && &here < alt + sizeof alt ? "@alt" : "");
	last = *si;
	hits++;
	sigprocmask(SIG_BLOCK, NULL, &lastMask);
	(void)u;
}
static void flush(const char *what) { say("%s:%s\n", what, log_); ln = 0, log_[0] = 0; }
static void set(int sig, void *h, int flags, int masked) {
	struct sigaction a = {.sa_flags = flags | SA_SIGINFO};
	a.sa_sigaction = h;
	sigemptyset(&a.sa_mask);
	if (masked) sigaddset(&a.sa_mask, masked);
	sigaction(sig, &a, NULL);
}
static void block(int how, int a, int b, int c) {
	sigset_t s;
	sigemptyset(&s);
	if (a) sigaddset(&s, a);
	if (b) sigaddset(&s, b);
	if (c) sigaddset(&s, c);
	sigprocmask(how, &s, NULL);
}

static sigjmp_buf jump;
static char *page, *filePage, *readOnly;
static void fault(int sig, siginfo_t *si, void *ctx) {
	ucontext_t *u = ctx;
	char *a = si->si_addr;
	const char *base = "";
	long off = (long)a;
	if (a >= page && a < page + 8192) base = "page+", off = a - page;
	else if (a >= filePage && a < filePage + 16384) base = "file+", off = a - filePage;
	else if (a >= readOnly && a < readOnly + 4096) base = "ro+", off = a - readOnly;
	else if (a == (char *)u->uc_mcontext.gregs[REG_RIP]) base = "rip+", off = 0;
	greg_t *g = u->uc_mcontext.gregs;
	say("  signal %d code %d addr %s%lx trap %ld err %ld cr2 %s fp %d\n", sig, si->si_code, base, off, (long)g[REG_TRAPNO], (long)g[REG_ERR],
	    sig == SIGSEGV || sig == SIGBUS ? ((char *)g[REG_CR2] == a ? "addr" : "other") : "-", u->uc_mcontext.fpregs != NULL);
	siglongjmp(jump, 1);
}
#define try(name, stmt) do { say("%s\n", name); if (!sigsetjmp(jump, 1)) { stmt; say("  went on\n"); } } while (0)

static void order(void) {
	set(SIGUSR1, note, 0, 0); set(SIGUSR2, note, 0, 0); set(SIGTERM, note, 0, 0);
	set(SIGRTMIN, note, 0, 0); set(SIGRTMIN + 3, note, 0, 0);
	block(SIG_BLOCK, SIGUSR1, SIGUSR2, SIGTERM); block(SIG_BLOCK, SIGRTMIN, SIGRTMIN + 3, 0);
	union sigval v = {.sival_int = 1};
	sigqueue(getpid(), SIGRTMIN + 3, v); sigqueue(getpid(), SIGRTMIN, v); v.sival_int = 2; sigqueue(getpid(), SIGRTMIN, v);
	raise(SIGTERM); raise(SIGUSR2); raise(SIGUSR1); kill(getpid(), SIGUSR1);
	sigset_t p;
	sigpending(&p);
	for (int i = 1; i < 40; i++) if (sigismember(&p, i)) say("pending %d\n", i);
	block(SIG_SETMASK, 0, 0, 0);
	flush("stacked, last first");
	set(SIGUSR1, note, 0, SIGUSR2); set(SIGUSR2, note, SA_NODEFER, 0);
	block(SIG_BLOCK, SIGUSR1, SIGUSR2, 0);
	raise(SIGUSR2); raise(SIGUSR1);
	block(SIG_SETMASK, 0, 0, 0);
	flush("masked by the first");
	raise(SIGUSR1);
	say("mask in handler: usr1 %d usr2 %d\n", sigismember(&lastMask, SIGUSR1), sigismember(&lastMask, SIGUSR2));
	raise(SIGUSR2);
	say("mask in handler: usr1 %d usr2 %d\n", sigismember(&lastMask, SIGUSR1), sigismember(&lastMask, SIGUSR2));
	flush("masks");
	set(SIGUSR1, note, SA_RESETHAND, 0);
	raise(SIGUSR1);
	struct sigaction a;
	sigaction(SIGUSR1, NULL, &a);
	say("reset: %d flags %x\n", a.sa_handler == SIG_DFL, a.sa_flags & ~0x04000000);
	flush("reset");
	struct { void *h; unsigned long fl, re, mask; } k = {note, 0xffffffffUL & ~0x04000000UL, 0, ~0UL};
	result("set", syscall(SYS_rt_sigaction, SIGUSR1, &k, NULL, 8));
	result("get", syscall(SYS_rt_sigaction, SIGUSR1, NULL, &k, 8));
	say("flags %lx mask %lx\n", k.fl, k.mask);
	result("kill", syscall(SYS_rt_sigaction, SIGKILL, &k, NULL, 8));
	result("size", syscall(SYS_rt_sigaction, SIGUSR1, NULL, &k, 4));
	result("65", syscall(SYS_rt_sigaction, 65, NULL, &k, 8));
	result("mask how", syscall(SYS_rt_sigprocmask, 7, &k.mask, NULL, 8));
	set(SIGCHLD, note, SA_NOCLDSTOP, 0);
	raise(SIGCHLD);
	flush("chld");
}

static void queue(void) {
	union sigval v = {.sival_ptr = (void *)0x123456789abcdef0};
	set(SIGRTMIN, note, 0, 0);
	sigqueue(getpid(), SIGRTMIN, v);
	say("queue: code %d pid %d uid %d value %p\n", last.si_code, last.si_pid == getpid(), last.si_uid, last.si_value.sival_ptr);
	siginfo_t si;
	memset(&si, 0, sizeof si);
	si.si_code = -7, si.si_pid = 77, si.si_uid = 88, si.si_value.sival_int = 99;
	result("tgsigqueueinfo", syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGRTMIN, &si));
	say("tgqueue: code %d pid %d uid %d value %d\n", last.si_code, last.si_pid, last.si_uid, last.si_value.sival_int);
	result("tgsigqueueinfo bad tid", syscall(SYS_rt_tgsigqueueinfo, getpid(), 999999, SIGRTMIN, &si));
	result("sigqueueinfo bad sig", syscall(SYS_rt_sigqueueinfo, getpid(), 65, &si));
	result("sigqueueinfo bad addr", syscall(SYS_rt_sigqueueinfo, getpid(), 10, (void *)8));
	result("sig 0", kill(getpid(), 0));
	result("tgkill -1", syscall(SYS_tgkill, -1, gettid(), SIGUSR1));
	result("tgkill none", syscall(SYS_tgkill, getpid(), 999999, 0));
	struct rlimit l = {8, 8}, old;
	getrlimit(RLIMIT_SIGPENDING, &old);
	block(SIG_BLOCK, SIGRTMIN, SIGUSR1, 0);
	l.rlim_max = old.rlim_max;
	result("setrlimit", setrlimit(RLIMIT_SIGPENDING, &l));
	int n = 0;
	errno = 0;
	while (n < 100 && sigqueue(getpid(), SIGRTMIN, v) == 0) n++;
	say("queued no more than 8 %d errno %d\n", n <= 8, errno);
	result("kill beyond", kill(getpid(), SIGUSR1));
	setrlimit(RLIMIT_SIGPENDING, &old);
	hits = 0;
	set(SIGUSR1, note, 0, 0);
	block(SIG_SETMASK, 0, 0, 0);
	say("all came %d\n", hits == n + 1);
	ln = 0, log_[0] = 0;
	block(SIG_BLOCK, SIGUSR1, SIGUSR2, SIGRTMIN);
	sigset_t w;
	sigemptyset(&w), sigaddset(&w, SIGUSR1), sigaddset(&w, SIGUSR2), sigaddset(&w, SIGRTMIN);
	sigqueue(getpid(), SIGRTMIN, v), kill(getpid(), SIGUSR2), kill(getpid(), SIGUSR1);
	for (int i = 0; i < 3; i++) { int r = sigwaitinfo(&w, &si); say("waited %d code %d\n", r, si.si_code); }
	struct timespec ts = {0, 1000000};
	result("timeout", sigtimedwait(&w, &si, &ts));
	ts.tv_nsec = 0;
	result("poll", sigtimedwait(&w, &si, &ts));
	ts.tv_nsec = 1000000000;
	result("bad time", sigtimedwait(&w, &si, &ts));
	int fd = signalfd(-1, &w, SFD_NONBLOCK | SFD_CLOEXEC);
	struct signalfd_siginfo fi[3];
	result("signalfd empty", read(fd, fi, sizeof fi));
	struct pollfd pf = {fd, POLLIN, 0};
	result("poll empty", poll(&pf, 1, 0));
	sigqueue(getpid(), SIGRTMIN, v), kill(getpid(), SIGUSR2);
	result("poll", poll(&pf, 1, -1));
	result("short", read(fd, fi, 100));
	long r = read(fd, fi, sizeof fi);
	say("signalfd %ld:", r);
	for (int i = 0; i < r / 128; i++) say(" %u code %d pid %d int %x ptr %llx", fi[i].ssi_signo, fi[i].ssi_code, fi[i].ssi_pid == getpid(), fi[i].ssi_int, (unsigned long long)fi[i].ssi_ptr);
	say("\n");
	result("signalfd wrong", signalfd(0, &w, 0));
	result("signalfd write", write(fd, fi, 8));
	sigdelset(&w, SIGUSR2);
	say("changed %d\n", signalfd(fd, &w, 0) == fd);
	kill(getpid(), SIGUSR2);
	result("not in the set", read(fd, fi, sizeof fi));
	set(SIGUSR2, SIG_IGN, 0, 0);
	block(SIG_SETMASK, 0, 0, 0);
	flush("rest");
}

static void stacks(void) {
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt}, was;
	result("get", sigaltstack(NULL, &was));
	say("none: sp %p flags %x size %zu\n", was.ss_sp, was.ss_flags, was.ss_size);
	ss.ss_size = 1000;
	result("small", sigaltstack(&ss, NULL));
	ss.ss_size = sizeof alt, ss.ss_flags = 77;
	result("flags", sigaltstack(&ss, NULL));
	ss.ss_flags = 0;
	result("set", sigaltstack(&ss, NULL));
	set(SIGUSR1, note, SA_ONSTACK, 0), set(SIGUSR2, note, 0, 0);
	raise(SIGUSR1), raise(SIGUSR2);
	flush("alt");
	ss.ss_flags = SS_ONSTACK;
	result("set", sigaltstack(&ss, &was));
	say("was: ours %d flags %x size %zu\n", was.ss_sp == alt, was.ss_flags, was.ss_size);
	ss.ss_flags = SS_DISABLE;
	result("disable", sigaltstack(&ss, NULL));
	sigaltstack(NULL, &was);
	say("now: sp %p flags %x size %zu\n", was.ss_sp, was.ss_flags, was.ss_size);
}
static void inside(int sig, siginfo_t *si, void *ctx) {
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt}, was;
	ucontext_t *u = ctx;
	(void)sig, (void)si;
	result("  in handler get", sigaltstack(NULL, &was));
	say("  flags %x size %zu; in context %x\n", was.ss_flags, was.ss_size, u->uc_stack.ss_flags);
	if (u->uc_stack.ss_flags == 0)
		result("  in handler set", sigaltstack(&ss, NULL));
}
static void stacks2(void) {
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt, .ss_flags = 0}, was;
	sigaltstack(&ss, NULL);
	set(SIGUSR1, inside, SA_ONSTACK, 0);
	raise(SIGUSR1);
	ss.ss_flags = 1 << 31;
	result("autodisarm", sigaltstack(&ss, NULL));
	raise(SIGUSR1);
	sigaltstack(NULL, &was);
	say("after: ours %d flags %x size %zu\n", was.ss_sp == alt, was.ss_flags, was.ss_size);
}

static void faults(void) {
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
	sigaltstack(&ss, NULL);
	for (int i = 0; i < 5; i++) set((int[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}[i], fault, SA_ONSTACK, 0);
	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	readOnly = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/tmp/same-file", 0102, 0600);
	unlink("/tmp/same-file");
	write(fd, "x", 1);
	filePage = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	munmap(page + 4096, 4096);
	volatile int zero = 0, x = 1;
	try("read null", x = *(volatile int *)16);
	try("write null", *(volatile int *)24 = 1);
	try("unmapped", page[4096] = 1);
	try("read only", *(volatile char *)readOnly = 1);
	mprotect(page, 4096, PROT_NONE);
	try("no access", x = *(volatile char *)page);
	x = *(volatile char *)readOnly;
	try("execute data", ((void (*)(void))readOnly)());
	try("behind the file", filePage[4096] = 1);
	try("read behind the file", x = *(volatile char *)(filePage + 8192));
	try("kernel address", x = *(volatile char *)0xffffffff81000000);
	try("not canonical", x = *(volatile char *)0x8000000000000000);
	try("jump nowhere", ((void (*)(void))0x1000)());
	try("divide", x = 1 / zero);
	try("overflow", __asm__ volatile("mov $0x80000000, %%eax; cdq; mov $-1, %%ecx; idiv %%ecx" : : : "eax", "ecx", "edx"));
	try("undefined", __asm__ volatile("ud2"));
	try("privileged", __asm__ volatile("hlt"));
	try("port", __asm__ volatile("outb %%al, $0x80" : : "a"(0)));
	try("breakpoint", __asm__ volatile("int3"));
	try("step", __asm__ volatile("pushf; orl $0x100, (%%rsp); popf; nop" : : : "memory"));
	try("x87", __asm__ volatile("fninit; fldcw %0; fldz; fld1; fdivp; fwait" : : "m"((short){0x37b})));
	__asm__ volatile("fninit");
}

static uint64_t seen[2];
static void edit(int sig, siginfo_t *si, void *ctx) {
	ucontext_t *u = ctx;
	greg_t *g = u->uc_mcontext.gregs;
	(void)sig, (void)si;
	memcpy(seen, &u->uc_mcontext.fpregs->_xmm[7], 16);
	g[REG_RIP] += 2;
	g[REG_RAX] = 0x1111, g[REG_RCX] = 0x2222, g[REG_R11] = 0x3333, g[REG_R15] = 0x4444;
	g[REG_EFL] |= 0x3000 | 0x4000 | 0x20000 | 1; // IOPL, NT, VM: not for programs; carry
	u->uc_mcontext.fpregs->mxcsr = 0x1f80 | 0x6000;
	u->uc_mcontext.fpregs->_xmm[6].element[0] = 0xabcdef;
	sigaddset(&u->uc_sigmask, SIGUSR2);
	sigaddset(&u->uc_sigmask, SIGKILL);
}
static void edits(void) {
	set(SIGILL, edit, 0, 0);
	uint64_t a, c, r11, r15, fl, x6, x7 = 0x7777888899990000;
	uint32_t mx = 0, normal = 0x1f80;
	__asm__ volatile("movq %[in], %%xmm7\n ud2\n mov %%r11, %%rdx\n pushf\n pop %%rbx\n movq %%xmm6, %%rsi\n stmxcsr %[mx]\n movq %%xmm7, %%rdi"
	                 : "=a"(a), "=c"(c), "=d"(r11), "=b"(fl), "=S"(x6), "=D"(x7), [mx] "=m"(mx) : [in] "r"(x7) : "r11", "r15", "xmm6", "xmm7", "cc", "memory");
	__asm__ volatile("ldmxcsr %0" : : "m"(normal));
	(void)r15;
	say("rax %lx rcx %lx r11 %lx carry %ld iopl %ld nt %ld vm %ld xmm6 %lx xmm7 %lx %lx rounding %x\n", a, c, r11, fl & 1, fl >> 12 & 3, fl >> 14 & 1, fl >> 17 & 1, x6, x7, seen[0], mx & 0x6000);
	sigset_t m;
	sigprocmask(SIG_BLOCK, NULL, &m);
	say("mask: usr2 %d kill %d\n", sigismember(&m, SIGUSR2), sigismember(&m, SIGKILL));
}

static volatile int step;
static void *taker(void *arg) {
	(void)arg;
	while (step == 0) usleep(1000);
	return NULL;
}
static pthread_t mainThread;
static volatile int inMain;
static void which(int sig) { (void)sig; inMain = pthread_equal(pthread_self(), mainThread); hits++; }
static void *sender(void *arg) {
	(void)arg;
	kill(getpid(), SIGUSR1);
	for (int i = 0; i < 1000 && !hits; i++) usleep(1000);
	say("taken %d\n", hits);
	return NULL;
}
static void threads(void) {
	pthread_t t;
	mainThread = pthread_self();
	struct sigaction a = {.sa_handler = which, .sa_flags = SA_RESTART};
	sigaction(SIGUSR1, &a, NULL);
	hits = 0;
	pthread_create(&t, NULL, sender, NULL);
	pthread_join(t, NULL);
	pthread_create(&t, NULL, taker, NULL);
	block(SIG_BLOCK, SIGUSR1, 0, 0);
	hits = 0;
	kill(getpid(), SIGUSR1);
	for (int i = 0; i < 1000 && !hits; i++) usleep(1000);
	say("taken by the other %d %d\n", hits, !inMain);
	step = 1;
	pthread_join(t, NULL);
	kill(getpid(), SIGUSR1);
	sigset_t s;
	sigemptyset(&s);
	hits = 0;
	result("suspend", sigsuspend(&s));
	say("hits %d in main %d\n", hits, inMain);
	sigprocmask(SIG_BLOCK, NULL, &s);
	say("still blocked %d\n", sigismember(&s, SIGUSR1));
}

int main(int argc, char **argv) {
	void (*all[])(void) = {order, queue, stacks, stacks2, faults, edits, threads};
	const char *names[] = {"order", "queue", "stacks", "inside", "faults", "edits", "threads"};
	for (int i = 0; i < 7; i++)
		if (argc < 2 || !strcmp(argv[1], names[i])) say("[%s]\n", names[i]), all[i]();
	return 0;
}
