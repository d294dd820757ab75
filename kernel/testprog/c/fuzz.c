// Random system calls from racing threads. Usage: fuzz SEED CALLS. Same seed, same program; how the threads' turns fall differs. It
// ends after that many calls, by a watchdog when they get stuck, or killed: the machine must not mind. What the calls may not do is
// end the program by themselves; to get far they seldom unmap its own memory, and seldom wait for ever.
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

enum { PAGE = 4096, ARENA = 64, THREADS = 4, WORDS = 512 };

static inline __attribute__((always_inline)) long call(long n, const long *a) {
	register long r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
	long ret;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}

static const char *const paths[] = {"/", "/data", "/data/bytes", "/data/link", "/data/loop", "/data/many", "/data/many/17", "/tmp", "/tmp/a", "/tmp/b",
	"/tmp/d/../a", "/proc/self/maps", "/proc/self/fd", "/proc/self/fd/3", "/proc/meminfo", "/proc/self/exe", "/proc/stat", "/dev", "/dev/null",
	"/dev/zero", "/dev/full", "/dev/random", "/dev/shm/x", "", ".", "..", "a", "//tmp//a/", "/none/none", "/proc/self/cwd/tmp"};
static const uint64_t values[] = {0, 1, 2, 3, 7, 8, 16, 24, 64, 128, 255, 256, 511, 512, 1000, 1024, 4095, 4096, 4097, 8192, 65535, 65536, 1 << 20, 0x7fffffff,
	0x80000000, 0xffffffff, 0x100000000, 0x7ffff000, 0x7fffffffffff, 0x7ffffffff000, 0x800000000000, 0x7fffffffffffffff, 0x8000000000000000,
	-1, -2, -4096, -100, 0xffff800000000000, 0xffff800000104000, 0xffffc00000000000, 0xffffffff80201000, 0xdeadbeef000};
enum { NPATHS = sizeof paths / sizeof *paths, NVALUES = sizeof values / sizeof *values };

// What the calls point into: a page for each thread to write, with an unreadable one behind it; a read-only page; and an arena that
// the memory calls work on.
static char *rw, *ro, *arena;
static volatile long left;
static uint64_t seed;

static uint64_t rnd(uint64_t *s) {
	*s ^= *s << 13;
	*s ^= *s >> 7;
	return *s ^= *s << 17;
}
#define R(n) (rnd(s) % (n))

static uint64_t pointer(uint64_t *s, int self) {
	char *mine = rw + 2 * PAGE * (R(8) ? self : R(THREADS));
	switch (R(24)) {
	default: return (uint64_t)(mine + 8 * R(WORDS));
	case 10: return (uint64_t)(mine + R(PAGE));
	case 11: return (uint64_t)(mine + PAGE - R(64));
	case 12: case 13: case 14: return (uint64_t)paths[R(NPATHS)];
	case 15: return (uint64_t)(ro + R(PAGE));
	case 16: return (uint64_t)(arena + R(ARENA * PAGE));
	case 17: case 18: return (uint64_t)(arena + R(ARENA) * PAGE);
	case 19: return values[R(NVALUES)];
	case 20: return 0;
	case 21: return (uint64_t)&pointer;
	case 22: return rnd(s);
	}
}

static uint64_t value(uint64_t *s, int self) {
	switch (R(8)) {
	case 0: case 1: return R(16);
	case 2: return values[R(NVALUES)];
	case 3: return 1ull << R(64);
	case 4: return R(32) ? R(4096) : rnd(s);
	default: return pointer(s, self);
	}
}

// scramble fills a piece of the thread's page with what calls read: pointers, sizes, numbers, small times.
static void scramble(uint64_t *s, int self) {
	volatile uint64_t *w = (uint64_t *)(rw + 2 * PAGE * self);
	for (int i = R(WORDS), n = R(32); n > 0; n--, i = (i + 1) % WORDS)
		w[i] = R(3) ? value(s, self) : R(1000);
}

static void one(uint64_t *s, int self) {
	long n = R(64) ? R(462) : R(2) ? 0x1000 + R(20) : rnd(s) >> R(64), a[6];
	if (!R(4))
		scramble(s, self);
	for (int i = 0; i < 6; i++)
		a[i] = value(s, self);
	switch (n) { // what a number alone would hardly ever get right
	case SYS_exit: case SYS_exit_group: case SYS_reboot:
		return;
	case SYS_munmap: case SYS_mprotect: case SYS_madvise: case SYS_mremap: case SYS_msync: case SYS_mincore: case SYS_mlock:
		if (R(40)) {
			a[0] = (long)(arena + R(ARENA) * PAGE), a[1] = R(16) ? R(ARENA) * PAGE : values[R(NVALUES)];
			if (R(4))
				a[2] = n == SYS_mremap ? R(ARENA) * PAGE : n == SYS_madvise ? R(26) : R(8);
			if (n == SYS_mremap)
				a[3] = R(8), a[4] = (long)(arena + R(ARENA) * PAGE);
		}
		break;
	case SYS_mmap:
		if (R(10)) {
			static const int kinds[] = {MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED};
			a[0] = R(4) ? (long)(arena + R(ARENA) * PAGE) : 0, a[1] = R(8) ? R(16) * PAGE : values[R(NVALUES)], a[2] = R(8);
			a[3] = kinds[R(4)] | (a[0] && R(2) ? MAP_FIXED : 0) | (R(8) ? 0 : 1 << R(24)), a[4] = R(16) - 1, a[5] = R(4) ? R(8) * PAGE : value(s, self);
		} else if (a[3] & MAP_FIXED)
			return;
		break;
	case SYS_brk:
		if (R(8))
			return;
		break;
	case SYS_rt_sigreturn: case SYS_clone: case SYS_clone3: case SYS_vfork: case SYS_fork:
		if (R(50))
			return;
		break;
	case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: {
		int at = n == SYS_tgkill || n == SYS_rt_tgsigqueueinfo ? 2 : 1;
		if (R(100) && (a[at] & 0xff) % 65 == SIGKILL)
			return;
		if (at == 2)
			a[1] = 1 + R(THREADS + 2);
		a[0] = 1 + (n == SYS_tkill ? R(THREADS + 2) : 0);
		break;
	}
	case SYS_rt_sigaction:
		if (R(200) && a[1])
			return; // a handler that is no function: the next signal ends the program
		break;
	case SYS_set_tid_address: case SYS_arch_prctl: case SYS_set_robust_list:
		if (R(10))
			return;
		break;
	case SYS_close: case SYS_dup2: case SYS_dup3: case SYS_close_range:
		if (R(3))
			return;
		break;
	case SYS_nanosleep: case SYS_clock_nanosleep: case SYS_pause: case SYS_rt_sigsuspend: case SYS_rt_sigtimedwait:
		if (R(20))
			return;
		break;
	case SYS_poll: case SYS_epoll_wait: case SYS_epoll_pwait:
		a[n == SYS_poll ? 2 : 3] = R(3);
		break;
	case SYS_futex:
		if ((a[1] & 0x7f) % 16 == 0 || (a[1] & 0x7f) == 9)
			a[3] = (long)&(struct timespec){0, R(100000)};
		break;
	case SYS_openat: case SYS_newfstatat: case SYS_statx: case SYS_mkdirat: case SYS_unlinkat: case SYS_readlinkat: case SYS_faccessat:
		if (R(4))
			a[0] = R(4) ? AT_FDCWD : R(16), a[1] = (long)paths[R(NPATHS)];
		break;
	case SYS_open: case SYS_stat: case SYS_lstat: case SYS_access: case SYS_chdir: case SYS_mkdir: case SYS_rmdir: case SYS_unlink: case SYS_truncate:
	case SYS_readlink: case SYS_statfs: case SYS_creat:
		if (R(4))
			a[0] = (long)paths[R(NPATHS)];
		break;
	}
	call(n, a);
}

static __thread sigjmp_buf again;

void restorer(void);
__asm__(".text; restorer: mov $15,%eax; syscall");

static void nothing(int s) {}
static void faulted(int s) { siglongjmp(again, 1); }

// mend makes the program's memory and signal handlers what they were, so that it goes on.
static void mend(void) {
	for (int i = 0; i < THREADS; i++)
		mmap(rw + 2 * i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap(arena, ARENA * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	for (int i = 1; i < 65; i++) {
		struct { void (*handler)(int); long flags; void (*restorer)(void); long mask; } a = {
			i == SIGSEGV || i == SIGBUS || i == SIGFPE || i == SIGILL ? faulted : nothing, SA_RESTART | SA_ONSTACK | SA_NODEFER | 0x04000000, restorer};
		syscall(SYS_rt_sigaction, i, &a, NULL, 8);
	}
}

static void *fuzz(void *arg) {
	static char alt[THREADS][65536];
	int self = (long)arg;
	uint64_t state = seed * 1000003 + self * 7919 + 88172645463325252ull, *s = &state;
	long count = 0;
	if (sigsetjmp(again, 1))
		mend();
	while (__atomic_fetch_sub(&left, 1, __ATOMIC_RELAXED) > 0) {
		if (seed % 4 && count++ % 200 == 0) { // else signals end the program
			sigaltstack(&(stack_t){.ss_sp = alt[self], .ss_size = sizeof alt[self]}, NULL);
			mend();
		}
		one(s, self);
	}
	for (;;)
		call(SYS_exit_group, (long[6]){0});
}

// The watchdog has no stack and no data but its time to sleep: 40 naps of 50 ms.
static const struct timespec nap = {0, 50000000};
static __attribute__((noreturn)) void watch(void) {
	for (register int i __asm__("ebx") = 0; i < 40; i++)
		call(SYS_nanosleep, (long[6]){(long)&nap});
	for (;;)
		call(SYS_exit_group, (long[6]){3});
}

int main(int argc, char **argv) {
	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	left = argc > 2 ? atol(argv[2]) : 20000;
	printf("fuzz: seed %llu, %ld calls\n", (unsigned long long)seed, left);
	fflush(stdout);
	rw = mmap(NULL, 2 * THREADS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ro = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	arena = mmap((void *)0x10000000000, ARENA * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < THREADS; i++)
		mprotect(rw + (2 * i + 1) * PAGE, PAGE, PROT_NONE);
	// No console: what is printed takes time. Some files to work on instead, from 0 on.
	for (int i = 0; i < 3; i++)
		close(i);
	open("/dev/null", O_RDWR), open("/data/bytes", O_RDONLY), open("/tmp/a", O_RDWR | O_CREAT, 0600);
	int p[2], e = epoll_create1(0);
	pipe2(p, O_NONBLOCK);
	eventfd(3, EFD_NONBLOCK);
	open("/data", O_RDONLY), open("/tmp", O_RDONLY);
	syscall(SYS_memfd_create, "m", 0);
	epoll_ctl(e, EPOLL_CTL_ADD, p[0], &(struct epoll_event){.events = EPOLLIN});
	register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0, r12 __asm__("r12") = (long)watch;
	static char stack[256] __attribute__((aligned(16)));
	long tid;
	sigset_t all, old;
	sigfillset(&all);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8); // the watchdog's for ever
	__asm__ volatile("syscall; test %%eax,%%eax; jne 1f; jmp *%%r12; 1:" : "=a"(tid)
		: "a"(SYS_clone), "D"(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM), "S"(stack + 240), "d"(0L), "r"(r10), "r"(r8), "r"(r12)
		: "rcx", "r11", "memory", "cc");
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
	pthread_t t;
	for (long i = 1; i < THREADS; i++)
		pthread_create(&t, NULL, fuzz, (void *)i);
	fuzz(0);
}
