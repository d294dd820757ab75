// What a program must not get away with: contexts, stacks and bases that are not its own, and calls that would keep the kernel busy
// for ever. Each is refused, or hurts the program alone.
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>

static const uintptr_t bad[] = {0x7ffffffff000, 0x800000000000, 0x8000000000000000, 0xffff800000000000, 0xffff800000104000, 0xffffc00000000000,
	0xffffffff80201000, 0xfffffffffffffff8, 0xdeadbeef00000000};
enum { NBAD = sizeof bad / sizeof *bad };

enum { FUTEX_WAIT, FUTEX_WAKE };

static long call(long n, long a, long b, long c, long d, long e) {
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
	long ret;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return ret;
}

// A thread without a stack: it ends before it touches one.
static int child(uintptr_t stack, uintptr_t tls, long flags) {
	static volatile int gone;
	gone = 1;
	register long r10 __asm__("r10") = (long)&gone, r8 __asm__("r8") = tls;
	long ret;
	__asm__ volatile("syscall; test %%eax,%%eax; jne 1f; mov $60,%%eax; xor %%edi,%%edi; syscall; 1:"
		: "=a"(ret) : "a"(SYS_clone), "D"(flags | CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID), "S"(stack), "d"(0L), "r"(r10), "r"(r8)
		: "rcx", "r11", "memory", "cc");
	if (ret > 0)
		while (gone)
			call(SYS_futex, (long)&gone, FUTEX_WAIT, 1, 0, 0);
	return ret;
}

static sigjmp_buf back;
static int got;
static uintptr_t where;
static void (*edit)(ucontext_t *);

static void segv(int s, siginfo_t *si, void *uc) {
	got = s;
	where = ((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP];
	siglongjmp(back, 1);
}

static void usr1(int s, siginfo_t *si, void *uc) { edit(uc); }

// signalled returns the signal that comes when a handler's edits take effect, 0 for none.
static int signalled(void (*f)(ucontext_t *)) {
	edit = f;
	got = 0;
	if (!sigsetjmp(back, 1))
		raise(SIGUSR1);
	return got;
}

static uintptr_t value;
static void to_rip(ucontext_t *u) { u->uc_mcontext.gregs[REG_RIP] = value; }
static void to_rsp(ucontext_t *u) { u->uc_mcontext.gregs[REG_RSP] = value; }
static void to_flags(ucontext_t *u) { u->uc_mcontext.gregs[REG_EFL] = value; }
static void to_fpstate(ucontext_t *u) { u->uc_mcontext.fpregs = (void *)value; }
static void to_segments(ucontext_t *u) { u->uc_mcontext.gregs[REG_CSGSFS] = value; }
static void to_float(ucontext_t *u) { memset(u->uc_mcontext.fpregs, value, 512); }

static uint64_t flags(void) {
	uint64_t f;
	__asm__ volatile("pushf; pop %0" : "=r"(f));
	return f;
}

static void contexts(void) {
	static char alt[65536];
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
	struct sigaction a = {.sa_sigaction = segv, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER}, b = {.sa_sigaction = usr1, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	check("context", !sigaltstack(&ss, NULL));
	for (int s = 1; s < 32; s++)
		sigaction(s, &a, NULL);
	sigaction(SIGUSR1, &b, NULL);
	for (int i = 0; i < NBAD; i++) {
		value = bad[i];
		check("context", signalled(to_rip) == SIGSEGV && where == value);
		int s = signalled(to_rsp);
		check("context", s == SIGSEGV || s == SIGBUS);
		s = signalled(to_fpstate);
		check("context", s == SIGSEGV || s == SIGBUS);
		got = 0; // sigreturn from where no frame can be
		if (!sigsetjmp(back, 1))
			__asm__ volatile("mov %0,%%rsp; mov $15,%%eax; syscall; hlt" : : "r"(value) : "rax", "rcx", "r11", "memory");
		check("context", got == SIGSEGV);
		got = 0; // a fault on such a stack
		if (!sigsetjmp(back, 1))
			__asm__ volatile("mov %0,%%rsp; ud2" : : "r"(value) : "memory");
		check("context", got == SIGILL);
	}
	value = 0x3000 | 0x4000 | 0x20000 | 0x80000 | 0x100000 | 0x8000 | 0x46; // IOPL, NT, VM, VIF, VIP; no IF
	check("context", signalled(to_flags) == 0);
	check("context", (flags() & 0x1bf000) == 0 && (flags() & 0x200));
	value = 0x102; // single step
	check("context", signalled(to_flags) == SIGTRAP);
	__asm__ volatile("pushf; andl $~0x100,(%rsp); popf");
	value = 0x0008000000000008; // the kernel's segments
	check("context", signalled(to_segments) == 0);
	uint16_t cs;
	__asm__ volatile("mov %%cs,%0" : "=r"(cs));
	check("context", (cs & 3) == 3);
	value = 0xff; // every bit of MXCSR and of the x87, exceptions pending
	int s = signalled(to_float);
	__asm__ volatile("fninit; ldmxcsr %0" : : "m"((uint32_t){0x1f80}));
	check("context", s == 0 || s == SIGSEGV || s == SIGFPE);
	for (s = 1; s < 32; s++)
		signal(s, SIG_DFL);
	ok("context");
}

static void *with_list(void *head) {
	syscall(SYS_set_robust_list, head, 24);
	return NULL;
}

static void robust(void) {
	static struct { void *next; long offset; void *pending; } loop, wild, far;
	static void *chain[5000];
	loop.next = &loop;
	wild.next = (void *)bad[3], wild.pending = (void *)bad[6];
	for (int i = 0; i < 5000; i++)
		chain[i] = &chain[(i + 1) % 5000];
	far.next = chain, far.offset = (long)0x8000000000000000;
	void *heads[] = {&loop, &wild, &far, (void *)bad[1], (void *)bad[5], (void *)8};
	for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
		pthread_t t;
		check("robust", !pthread_create(&t, NULL, with_list, heads[i]) && !pthread_join(t, NULL));
	}
	ok("robust");
}

static void *sleeps(void *at) {
	while (*(volatile int *)at == 0)
		call(SYS_futex, (long)at, FUTEX_WAIT, 0, 0, 0);
	return NULL;
}

// Calls whose sizes are far beyond what they could do.
static void sizes(void) {
	static struct iovec v[1024];
	static char page[4096];
	int null = open("/dev/null", O_WRONLY), tmp = open("/tmp/h", O_RDWR | O_CREAT, 0600);
	for (int i = 0; i < 1024; i++)
		v[i] = (struct iovec){page, 4096};
	check("sizes", writev(null, v, 1024) == 1024 * 4096);
	check("sizes", call(SYS_writev, null, (long)v, 1025, 0, 0) == -EINVAL);
	for (int i = 0; i < 1024; i++)
		v[i].iov_len = 4ull << 30;
	long n = call(SYS_writev, tmp, (long)v, 1024, 0, 0); // up to the end of what is mapped
	check("sizes", n == -EFAULT || n > 0 && n < 64 << 20);
	v[5].iov_len = -1;
	check("sizes", call(SYS_writev, null, (long)v, 1024, 0, 0) == -EINVAL);
	for (int i = 0; i < NBAD; i++) {
		v[0] = (struct iovec){(void *)bad[i], 100};
		check("sizes", call(SYS_writev, tmp, (long)v, 1, 0, 0) == -EFAULT && call(SYS_writev, tmp, bad[i], 1, 0, 0) == -EFAULT);
	}
	check("sizes", call(SYS_poll, (long)page, 1u << 31, 0, 0, 0) == -EINVAL);
	check("sizes", call(SYS_select, 0x7fffffff, 0, 0, 0, (long)&(struct timeval){0}) <= 0);
	check("sizes", call(SYS_open, (long)"/data/loop", 0, 0, 0, 0) == -ELOOP);
	check("sizes", call(SYS_fallocate, tmp, 0, 0, 1l << 62, 0) < 0 && call(SYS_ftruncate, tmp, 1l << 62, 0, 0, 0) <= 0);
	char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(two + 4096, 4096, PROT_NONE);
	n = call(SYS_getrandom, (long)two, -1, 0, 0, 0);
	check("sizes", n == -EFAULT || n == 4096);
	size_t huge = 64ull << 40;
	char *p = mmap(NULL, huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p != MAP_FAILED) {
		for (int i = 0; i < 51; i++)
			check("sizes", !mprotect(p, huge, i & 1 ? PROT_NONE : PROT_READ | PROT_WRITE));
		p[0] = p[huge / 3] = p[huge - 1] = 1; // page tables far apart
		for (int i = 0; i < 50; i++)
			check("sizes", !mprotect(p, huge, i & 1 ? PROT_READ | PROT_WRITE : PROT_NONE));
		check("sizes", call(SYS_mincore, (long)p, huge, (long)two, 0, 0) == -EFAULT);
		check("sizes", !madvise(p, huge, MADV_DONTNEED) && p[huge / 3] == 0);
		check("sizes", msync(p, huge, MS_SYNC) <= 0);
		check("sizes", mlock(p, huge) < 0 && errno == ENOMEM && mlockall(MCL_CURRENT) < 0 && errno == ENOMEM); // before the first page
		check("sizes", !call(SYS_mlock2, (long)p, huge, 1, 0, 0) && !munlock(p, huge));
		check("sizes", !munmap(p, huge));
		p = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_LOCKED | MAP_POPULATE, -1, 0);
		check("sizes", p == MAP_FAILED || !munmap(p, huge));
	}
	ok("sizes");
}

// Many small areas, and many threads on one futex.
static void numbers(void) {
	enum { AREAS = 3000, THREADS = 200 };
	char *p = mmap(NULL, AREAS * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check("numbers", p != MAP_FAILED);
	for (long i = 0; i < AREAS; i += 2)
		if (mprotect(p + i * 4096, 4096, PROT_READ | PROT_WRITE)) {
			check("numbers", errno == ENOMEM);
			break;
		}
	check("numbers", !munmap(p, AREAS * 4096));
	static int futex;
	pthread_t t[THREADS];
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int i = 0; i < THREADS; i++)
		check("numbers", !pthread_create(&t[i], &small, sleeps, &futex));
	futex = 1;
	call(SYS_futex, (long)&futex, FUTEX_WAKE, THREADS + 1, 0, 0);
	for (int i = 0; i < THREADS; i++)
		check("numbers", !pthread_join(t[i], NULL));
	ok("numbers");
}

// Sets that watch sets that watch sets, each all of the next level: 30 to the fifth ways through.
static void sets(void) {
	enum { WIDE = 30, DEEP = 5 };
	static int set[DEEP][WIDE];
	for (int d = 0; d < DEEP; d++)
		for (int i = 0; i < WIDE; i++) {
			check("sets", (set[d][i] = epoll_create1(0)) >= 0);
			for (int k = 0; d > 0 && k < WIDE; k++)
				epoll_ctl(set[d][i], EPOLL_CTL_ADD, set[d - 1][k], &(struct epoll_event){.events = EPOLLIN});
		}
	struct epoll_event e;
	check("sets", epoll_wait(set[DEEP - 1][0], &e, 1, 0) == 0);
	int p[2];
	check("sets", !pipe(p) && !epoll_ctl(set[0][WIDE - 1], EPOLL_CTL_ADD, p[0], &(struct epoll_event){.events = EPOLLIN}));
	check("sets", write(p[1], "x", 1) == 1 && epoll_wait(set[DEEP - 2][0], &e, 1, 0) == 1);
	check("sets", read(p[0], &e, 1) == 1 && epoll_wait(set[DEEP - 2][0], &e, 1, 0) == 0);
	for (int d = 0; d < DEEP; d++)
		for (int i = 0; i < WIDE; i++)
			close(set[d][i]);
	ok("sets");
}

int main(void) {
	for (int i = 0; i < NBAD; i++) {
		check("bases", call(SYS_arch_prctl, 0x1002, bad[i], 0, 0, 0) == -EPERM && call(SYS_arch_prctl, 0x1001, bad[i], 0, 0, 0) == -EPERM);
		check("bases", child(0, bad[i], CLONE_SETTLS) == -EPERM);
	}
	ok("bases");
	for (int i = 0; i < NBAD; i++)
		check("stacks", child(bad[i], 0, 0) > 0);
	ok("stacks");
	contexts();
	robust();
	sizes();
	numbers();
	sets();
	return 0;
}
