// The upper halves of the YMM registers: across signals, in their frames, as programs may edit them, and between threads. What this prints
// under Linux it has to print in the guest. Sizes differ with what else a CPU has, so only what they are beside each other is printed.
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define say(...) (printf(__VA_ARGS__), fflush(stdout))
typedef struct { uint64_t q[4]; } vec __attribute__((aligned(32)));
static const vec before = {{0x1111, 0x2222, 0x3333, 0x4444}};

// The state in a frame: uapi/asm/sigcontext.h.
struct sw { uint32_t magic1, extended; uint64_t features; uint32_t size, padding[7]; };
static struct sw *sw_of(void *fp) { return (struct sw *)((char *)fp + 464); }
static uint64_t *header(void *fp) { return (uint64_t *)((char *)fp + 512); }
static uint32_t *mxcsr(void *fp) { return (uint32_t *)((char *)fp + 24); }
static uint64_t *upper(void *fp, int n) { return (uint64_t *)((char *)fp + 576 + 16 * n); }
static uint64_t *lower(void *fp, int n) { return (uint64_t *)((char *)fp + 160 + 16 * n); }

static void (*edit)(ucontext_t *u);
static int pid, rounds;
static char copy[16384] __attribute__((aligned(64)));

static void handler(int sig, siginfo_t *si, void *ctx) {
	vec in[2];
	__asm__ volatile("vmovups %%ymm0, %0; vmovups %%ymm15, %1" : "=m"(in[0]), "=m"(in[1]));
	static const vec zero;
	if (!rounds) say("  in the handler: %s\n", memcmp(&in[0], &zero, 32) || memcmp(&in[1], &zero, 32) ? "not clean" : "clean");
	__asm__ volatile("vpcmpeqd %%xmm0,%%xmm0,%%xmm0; vinsertf128 $1,%%xmm0,%%ymm0,%%ymm0; vmovaps %%ymm0,%%ymm7; vmovaps %%ymm0,%%ymm15" ::: "xmm0", "xmm7", "xmm15");
	if (edit) edit(ctx);
}

// The registers that a signal finds and that its handler returns to.
static void raise_now(vec out[3], uint32_t *m) {
	uint32_t control = 0x1f80 | 0x6000; // rounds towards zero
	long nr = SYS_kill;
	__asm__ volatile(
		"ldmxcsr %[c]; vmovups %[in], %%ymm0; vmovaps %%ymm0, %%ymm7; vmovaps %%ymm0, %%ymm15; syscall;"
		"vmovups %%ymm0, %[a]; vmovups %%ymm7, %[b]; vmovups %%ymm15, %[d]; stmxcsr %[m]; vzeroupper"
		: "+a"(nr), [a] "=m"(out[0]), [b] "=m"(out[1]), [d] "=m"(out[2]), [m] "=m"(*m)
		: "D"((long)pid), "S"((long)SIGUSR1), [in] "m"(before), [c] "m"(control)
		: "rcx", "r11", "memory", "xmm0", "xmm7", "xmm15");
	uint32_t usual = 0x1f80;
	__asm__ volatile("ldmxcsr %0" ::"m"(usual));
}

static sigjmp_buf jump;
static void refused(int sig, siginfo_t *si, void *ctx) {
	ucontext_t *u = ctx;
	vec v[2];
	uint32_t m;
	__asm__ volatile("stmxcsr %0" : "=m"(m));
	memcpy(&v[0], lower(u->uc_mcontext.fpregs, 7), 16);
	memcpy((char *)&v[0] + 16, upper(u->uc_mcontext.fpregs, 7), 16);
	say("  signal %d code %d addr %p, ymm7 %lx %lx %lx %lx, mxcsr %x, in the handler %x\n", sig, si->si_code, si->si_addr, v[0].q[0], v[0].q[1], v[0].q[2], v[0].q[3],
		*mxcsr(u->uc_mcontext.fpregs), m);
	siglongjmp(jump, 1);
}

static void try(const char *name, void (*f)(ucontext_t *)) {
	vec out[3];
	uint32_t m;
	say("%s\n", name);
	edit = f;
	if (sigsetjmp(jump, 1)) return;
	raise_now(out, &m);
	for (int i = 0; i < 3; i++) say("  %lx %lx %lx %lx\n", out[i].q[0], out[i].q[1], out[i].q[2], out[i].q[3]);
	say("  mxcsr %x\n", m);
}

#define FP(u) ((void *)(u)->uc_mcontext.fpregs)
static void look(ucontext_t *u) {
	struct sw *s = sw_of(FP(u));
	uint32_t magic2;
	memcpy(&magic2, (char *)FP(u) + s->size, 4);
	say("  flags %lx magic %x %x, extended is size + %d, room for AVX %d, features %lx, state %lx, aligned %d\n", (long)u->uc_flags, s->magic1, magic2,
		s->extended - s->size, s->size >= 832, s->features & 7, header(FP(u))[0] & 7, (uintptr_t)FP(u) % 64 == 0);
	say("  ymm7 %lx %lx %lx %lx, mxcsr %x\n", lower(FP(u), 7)[0], lower(FP(u), 7)[1], upper(FP(u), 7)[0], upper(FP(u), 7)[1], *mxcsr(FP(u)));
	char *top = (char *)FP(u) + s->extended;
	say("  AT_MINSIGSTKSZ holds it %d\n", getauxval(AT_MINSIGSTKSZ) >= (unsigned long)(top - (char *)u + 8) && getauxval(AT_MINSIGSTKSZ) < (unsigned long)(top - (char *)u + 8 + 1024));
}
static void change(ucontext_t *u) { upper(FP(u), 7)[1] = 0x7777; lower(FP(u), 15)[0] = 0x5555; upper(FP(u), 0)[0] = 0; *mxcsr(FP(u)) = 0x1f80 | 0x2000; }
static void no_avx(ucontext_t *u) { header(FP(u))[0] &= ~4; }
static void no_sse(ucontext_t *u) { header(FP(u))[0] &= ~2; }
static void nothing(ucontext_t *u) { header(FP(u))[0] = 0; }
static void only_x87(ucontext_t *u) { sw_of(FP(u))->features = 1; *mxcsr(FP(u)) = 0xffffffff; }
static void only_legacy(ucontext_t *u) { sw_of(FP(u))->features = 3; }
static void only_avx(ucontext_t *u) { sw_of(FP(u))->features = 4; }
static void more(ucontext_t *u) { sw_of(FP(u))->features |= 1ull << 40; }
static void bad_magic1(ucontext_t *u) { sw_of(FP(u))->magic1++; }
static void bad_magic2(ucontext_t *u) { ((char *)FP(u))[sw_of(FP(u))->size]++; }
static void small(ucontext_t *u) { sw_of(FP(u))->size = 575; }
static void large(ucontext_t *u) { sw_of(FP(u))->size = 1 << 30; }
static void beyond(ucontext_t *u) { sw_of(FP(u))->extended = sw_of(FP(u))->size - 1; }
static void just(ucontext_t *u) { struct sw *s = sw_of(FP(u)); s->size = 576; uint32_t m = 0x46505845; memcpy((char *)FP(u) + 576, &m, 4); }
static void bad_state(ucontext_t *u) { header(FP(u))[0] |= 1ull << 40; }
static void bad_zero1(ucontext_t *u) { header(FP(u))[1] = 1; }
static void bad_zero2(ucontext_t *u) { header(FP(u))[2] = 1; }
static void compacted(ucontext_t *u) { header(FP(u))[1] = 1ull << 63 | 7; }
static void bad_mxcsr(ucontext_t *u) { *mxcsr(FP(u)) |= 0x10000; }
static void bad_mxcsr_fx(ucontext_t *u) { bad_magic1(u); bad_mxcsr(u); }
static void mxcsr_unused(ucontext_t *u) { header(FP(u))[0] = 0; bad_mxcsr(u); }
static void null(ucontext_t *u) { u->uc_mcontext.fpregs = NULL; }
static void hole(ucontext_t *u) { u->uc_mcontext.fpregs = (void *)0x40; }
static void kernel(ucontext_t *u) { u->uc_mcontext.fpregs = (void *)0xffff800000000000; }
static void moved(ucontext_t *u) { memcpy(copy, FP(u), sw_of(FP(u))->extended); u->uc_mcontext.fpregs = (void *)copy; upper(copy, 0)[0] = 0x99; }
static void crooked(ucontext_t *u) { memcpy(copy + 16, FP(u), sw_of(FP(u))->extended); u->uc_mcontext.fpregs = (void *)(copy + 16); }
static void crooked_fx(ucontext_t *u) { bad_magic1(u); crooked(u); }
static void more_crooked_fx(ucontext_t *u) { bad_magic1(u); memcpy(copy + 8, FP(u), sw_of(FP(u))->extended); u->uc_mcontext.fpregs = (void *)(copy + 8); }

// Threads that spin, each with its own registers, while a timer's signal comes to any of them.
static volatile int wrong, done;
static void *spin(void *arg) {
	uint64_t v = (uint64_t)arg * 0x0101010101010101;
	vec want = {{v, ~v, v + 1, v + 2}};
	while (!done) {
		long bad;
		__asm__ volatile(
			"vmovups %[w], %%ymm0\n"
			".irp n,1,2,3,4,5,6,7,8,9,10,11,12,13,14\n vmovaps %%ymm0, %%ymm\\n\n .endr\n"
			"mov $20000, %%ecx\n"
			"1: vmovaps %%ymm0, %%ymm15\n"
			".irp n,1,2,3,4,5,6,7,8,9,10,11,12,13,14\n vandps %%ymm\\n, %%ymm15, %%ymm15\n .endr\n"
			"vxorps %[w], %%ymm15, %%ymm15\n vptest %%ymm15, %%ymm15\n jnz 2f\n"
			"dec %%ecx\n jnz 1b\n"
			"2: mov %%rcx, %0\n vzeroall"
			: "=r"(bad) : [w] "m"(want) : "rcx", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
		if (bad) wrong++;
	}
	return NULL;
}
static void tick(int sig, siginfo_t *si, void *ctx) {
	handler(sig, si, ctx);
	if (++rounds == 100) done = 1;
}

int main(void) {
	if (!__builtin_cpu_supports("avx2")) { say("no AVX\n"); return 1; }
	pid = getpid();
	struct sigaction a = {.sa_flags = SA_SIGINFO, .sa_sigaction = handler};
	sigaction(SIGUSR1, &a, NULL);
	a.sa_sigaction = refused;
	sigaction(SIGSEGV, &a, NULL);
	static const struct { const char *name; void (*f)(ucontext_t *); } edits[] = {
		{"none", NULL}, {"look", look}, {"change", change}, {"no avx", no_avx}, {"no sse", no_sse}, {"nothing", nothing}, {"only x87", only_x87},
		{"only legacy", only_legacy}, {"only avx", only_avx}, {"more", more}, {"magic1", bad_magic1}, {"magic2", bad_magic2}, {"small", small}, {"large", large},
		{"beyond", beyond}, {"just", just}, {"state", bad_state}, {"zero1", bad_zero1}, {"zero2", bad_zero2}, {"compacted", compacted}, {"mxcsr", bad_mxcsr},
		{"mxcsr fx", bad_mxcsr_fx}, {"mxcsr unused", mxcsr_unused}, {"null", null}, {"hole", hole}, {"kernel", kernel}, {"moved", moved}, {"crooked", crooked},
		{"crooked fx", crooked_fx}, {"more crooked fx", more_crooked_fx}};
	for (int i = 0; i < sizeof edits / sizeof *edits; i++) try(edits[i].name, edits[i].f);

	edit = NULL, rounds = 1;
	a.sa_sigaction = tick;
	sigaction(SIGALRM, &a, NULL);
	struct itimerval it = {{0, 1000}, {0, 1000}};
	setitimer(ITIMER_REAL, &it, NULL);
	pthread_t t[4];
	for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, spin, (void *)(i + 1));
	for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
	say("threads: %d wrong\n", wrong);
	return 0;
}
