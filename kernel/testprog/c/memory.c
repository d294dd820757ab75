// mmap and its relatives.
#include "check.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static sigjmp_buf jump;
static volatile int code;
static void *volatile where;

static void caught(int sig, siginfo_t *si, void *uc) {
	(void)uc;
	code = si->si_code;
	where = si->si_addr;
	siglongjmp(jump, sig);
}

// faults returns the signal that an access ends with, 0 for none.
static int faults(volatile char *p, int write) {
	int sig = sigsetjmp(jump, 1);
	if (sig == 0) {
		if (write)
			*p = 1;
		else
			(void)*p;
	}
	return sig;
}

static int deep(int n) {
	volatile char frame[4096];
	frame[0] = n;
	return n == 0 ? 0 : deep(n - 1) + frame[0] - (char)n + 1;
}

int main(void) {
	struct sigaction sa = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);

	char *p = mmap(NULL, 10 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check("anon", p != MAP_FAILED);
	for (int i = 0; i < 10 * 4096; i++)
		check("anon", p[i] == 0);
	memset(p, 0x55, 10 * 4096);
	check("unmap", munmap(p + 3 * 4096, 2 * 4096) == 0);
	check("unmap", p[3 * 4096 - 1] == 0x55 && p[5 * 4096] == 0x55);
	check("unmap", faults(p + 3 * 4096, 0) == SIGSEGV && code == SEGV_MAPERR && where == p + 3 * 4096);
	check("unmap", faults(p + 5 * 4096 - 1, 1) == SIGSEGV);
	ok("unmap");

	check("protect", mprotect(p, 4096, PROT_NONE) == 0);
	check("protect", faults(p + 17, 0) == SIGSEGV && code == SEGV_ACCERR && where == p + 17);
	check("protect", mprotect(p, 4096, PROT_READ) == 0 && p[17] == 0x55);
	check("protect", faults(p + 17, 1) == SIGSEGV && code == SEGV_ACCERR);
	check("protect", mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0);
	check("protect", faults(p + 17, 1) == 0 && p[17] == 1 && p[18] == 0x55);
	check("protect", mprotect(p, 4 * 4096, PROT_READ) == -1 && errno == ENOMEM && faults(p, 1) == SIGSEGV);
	check("protect", mprotect(p, 3 * 4096, PROT_READ | PROT_WRITE) == 0);
	ok("protect");

	check("wx", mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EACCES);
	check("wx", mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == -1 && errno == EACCES);
	int sig = sigsetjmp(jump, 1);
	if (sig == 0)
		((void (*)(void))p)();
	check("nx", sig == SIGSEGV && code == SEGV_ACCERR && where == p);
	unsigned char ret[] = {0xb8, 42, 0, 0, 0, 0xc3};
	memcpy(p, ret, sizeof ret);
	check("wx", mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0 && ((int (*)(void))p)() == 42);
	check("wx", faults(p, 1) == SIGSEGV);
	check("wx", faults((char *)main, 1) == SIGSEGV && faults((char *)main, 0) == 0);
	ok("wx");

	char *huge = mmap(NULL, 500ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check("reserve", huge != MAP_FAILED && faults(huge + (300ul << 30), 0) == SIGSEGV);
	check("reserve", mprotect(huge + (300ul << 30), 4096, PROT_READ | PROT_WRITE) == 0 && faults(huge + (300ul << 30), 1) == 0);
	check("reserve", munmap(huge, 500ul << 30) == 0);
	ok("reserve");

	void *hint = (void *)0xc000000000;
	char *q = mmap(hint, 64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check("hint", q == hint);
	check("hint", mmap(hint, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
	check("hint", mmap(hint, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == hint);
	q[5] = 6;
	check("hint", mmap(hint, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == hint && q[5] == 0);
	ok("hint");

	p = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 1, 4 * 4096);
	check("dontneed", madvise(p + 4096, 4096, MADV_DONTNEED) == 0 && p[4096] == 0 && p[0] == 1 && p[8192] == 1);
	ok("dontneed");
	unsigned char vec[4];
	madvise(p + 4096, 4096, MADV_DONTNEED);
	check("mincore", mincore(p, 4 * 4096, vec) == 0 && vec[0] == 1 && vec[1] == 0 && vec[2] == 1);
	ok("mincore");
	p[4096] = 9;
	char *r = mremap(p, 4 * 4096, 4000 * 4096, MREMAP_MAYMOVE);
	check("mremap", r != MAP_FAILED && r[0] == 1 && r[4096] == 9 && r[4 * 4096 - 1] == 1 && r[3999 * 4096] == 0);
	check("mremap", mremap(r, 4000 * 4096, 2 * 4096, 0) == r && faults(r + 2 * 4096, 0) == SIGSEGV);
	char *to = mmap(NULL, 16 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check("mremap", mremap(r, 2 * 4096, 2 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to + 4096) == to + 4096);
	check("mremap", to[4096] == 1 && to[2 * 4096] == 9 && faults(r, 0) == SIGSEGV && faults(to, 0) == SIGSEGV);
	ok("mremap");

	int fd = open("/data/bytes", O_RDONLY);
	check("file", fd >= 0);
	unsigned char *f = mmap(NULL, 300000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	unsigned char *g = mmap(NULL, 300000, PROT_READ, MAP_SHARED, fd, 0);
	check("file", f != MAP_FAILED && g != MAP_FAILED);
	for (int i = 0; i < 300000; i++)
		check("file", f[i] == (unsigned char)(i * 7 + i / 251) && g[i] == f[i]);
	for (int i = 300000; i < (300000 + 4095) / 4096 * 4096; i++)
		check("file", f[i] == 0);
	f[70000] ^= 0xff;
	check("file", g[70000] == (unsigned char)(70000 * 7 + 70000 / 251) && f[70000] == (unsigned char)~g[70000]);
	check("file", madvise(f, 300000, MADV_DONTNEED) == 0 && f[70000] == g[70000]);
	check("file", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES);
	check("file", mprotect(g, 4096, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
	unsigned char *h = mmap(NULL, 4 * 4096, PROT_READ, MAP_PRIVATE, fd, 73 * 4096);
	check("file", h != MAP_FAILED && h[0] == (unsigned char)(73 * 4096 * 7 + 73 * 4096 / 251));
	check("file", faults((char *)h + 4096, 0) == SIGBUS && code == BUS_ADRERR);
	ok("file");

	fd = open("/tmp/map", O_RDWR | O_CREAT, 0600);
	check("shared", fd >= 0 && ftruncate(fd, 10000) == 0);
	char *s = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check("shared", s != MAP_FAILED);
	strcpy(s + 5000, "through the mapping");
	char b[32];
	check("shared", pread(fd, b, 20, 5000) == 20 && !strcmp(b, "through the mapping"));
	check("shared", pwrite(fd, "and back", 9, 9000) == 9 && !strcmp(s + 9000, "and back"));
	check("shared", ftruncate(fd, 100) == 0 && faults(s + 5000, 0) == SIGBUS && faults(s + 50, 0) == 0);
	check("shared", close(fd) == 0 && unlink("/tmp/map") == 0 && faults(s + 50, 1) == 0 && munmap(s, 12288) == 0);
	ok("shared");

	check("null", faults(NULL, 0) == SIGSEGV && code == SEGV_MAPERR && where == NULL);
	check("null", faults((char *)0xffff800000000000, 0) == SIGSEGV);
	check("null", faults((char *)0xffffffff80200000, 1) == SIGSEGV);
	check("null", faults((char *)0x8000000000000000, 1) == SIGSEGV && code == SI_KERNEL);
	ok("null");

	check("stack", deep(1500) == 1500); // 6 MiB
	ok("stack");
	char *b0 = (char *)syscall(SYS_brk, 0); // musl's sbrk does not move it
	check("brk", (char *)syscall(SYS_brk, b0 + (1 << 20)) == b0 + (1 << 20));
	memset(b0, 3, 1 << 20);
	check("brk", (char *)syscall(SYS_brk, b0 + 10) == b0 + 10 && b0[9] == 3 && faults(b0 + 8192, 0) == SIGSEGV);
	check("brk", (char *)syscall(SYS_brk, b0 + 9000) == b0 + 9000 && b0[8192] == 0 && (char *)syscall(SYS_brk, 1) == b0 + 9000);
	ok("brk");
	return 0;
}
