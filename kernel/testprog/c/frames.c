// Signal frames that a program has edited at will: each is taken for what it says, or ends in a signal. None hurts the kernel.
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

static uint64_t seed = 88172645463325252;
static uint64_t rnd(void) { // xorshift
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed;
}
static uint64_t odd(void) { // a value that may hurt
	static const uint64_t v[] = {0, 1, 8, 0xfff, 0x1000, 0x7ffffffff000, 0x7fffffffffff, 0x800000000000, 0xffff7fffffffffff, 0xffff800000000000,
	                             0xffff800000200000, 0xffffffff80000000, 0xffffffff80201000, 0xfffffffffffffff8, ~0ull, 0x8000000000000000};
	return rnd() & 1 ? v[rnd() % 16] : rnd();
}

static sigjmp_buf back;
static volatile long signals, returns;
static char alt[65536] __attribute__((aligned(64)));
static void caught(int sig) {
	signals++;
	siglongjmp(back, sig);
}
static void landed(void) {
	returns++;
	siglongjmp(back, 99);
}

static char page[3 * 4096] __attribute__((aligned(4096)));
static char *edge; // the end of what is mapped

int main(void) {
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
	sigaltstack(&ss, NULL);
	struct sigaction a = {.sa_handler = caught, .sa_flags = SA_ONSTACK | SA_NODEFER};
	for (int s = 1; s < 32; s++) sigaction(s, &a, NULL);
	edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(edge + 4096, 4096);
	edge += 4096;
	for (volatile long i = 0; i < 30000; i++) {
		// The kernel's layout: return address (gone), ucontext, siginfo; the floating-point state where its pointer says.
		char *frame = page + 4096 + 8 * (rnd() % 4);
		uint64_t *w = (uint64_t *)frame;
		ucontext_t *u = (ucontext_t *)frame;
		for (int k = 0; k < 120; k++) w[k] = rnd() & 3 ? 0 : odd();
		greg_t *g = u->uc_mcontext.gregs;
		char *fx = page + 8192;
		for (int k = 0; k < 64; k++) ((uint64_t *)fx)[k] = rnd();
		if (rnd() & 3) *(uint32_t *)(fx + 24) = 0x1f80;
		if (rnd() & 3) { // an XSAVE image, which a CPU without AVX takes for nothing
			uint32_t *sw = (uint32_t *)(fx + 464), size = rnd() & 3 ? 832 : rnd() % 1024;
			sw[0] = 0x46505853, sw[1] = size + 4, sw[2] = rnd() & 3 ? 7 : rnd(), sw[4] = size;
			*(uint32_t *)(fx + size) = 0x46505845;
			uint64_t *header = (uint64_t *)(fx + 512);
			header[0] = rnd() & 3 ? rnd() & 7 : rnd();
			for (int k = 1; k < 8; k++) header[k] = rnd() % 16 ? 0 : rnd();
		}
		g[REG_RIP] = rnd() & 3 ? (greg_t)landed : (greg_t)odd();
		g[REG_RSP] = rnd() & 3 ? (greg_t)(page + 4096 - 8) : (greg_t)odd();
		g[REG_EFL] = rnd() & 1 ? 0x202 : rnd();
		g[REG_EFL] &= ~0x40100; // TF and AC would meet this program's own code
		g[REG_CSGSFS] = rnd() & 1 ? 0x2b000000000033 : (greg_t)odd();
		switch (rnd() % 4) {
		case 0: u->uc_mcontext.fpregs = NULL; break;
		case 1: u->uc_mcontext.fpregs = (void *)odd(); break;
		default: u->uc_mcontext.fpregs = (void *)(fx + (rnd() & 3 ? 0 : rnd() % 64));
		}
		// A stack that the kernel takes has to be one, or the next signal kills.
		u->uc_stack = ss;
		if (rnd() & 1) u->uc_stack.ss_sp = (void *)odd(), u->uc_stack.ss_size = odd(), u->uc_stack.ss_flags = rnd() | 4;
		*(uint64_t *)&u->uc_sigmask = rnd() & 1 ? 0 : rnd() & ~(1ull << 10 | 1ull << 3 | 1ull << 6 | 1ull << 7 | 1ull << 4); // faults stay open
		char *sp = frame;
		if (rnd() % 8 == 0) sp = (char *)odd();
		else if (rnd() % 8 == 0) sp = edge - rnd() % 1200 / 8 * 8;
		if (sigsetjmp(back, 1) == 0)
			__asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" : : "r"(sp) : "memory");
		__asm__ volatile("fninit; ldmxcsr %0; cld" : : "m"((unsigned){0x1f80}));
		sigaltstack(&ss, NULL);
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
	}
	check("frames", signals > 5000 && returns > 1000);
	ok("frames");
	return 0;
}
