// Guard pages (MADV_GUARD_INSTALL), told in lines that are the same under Linux 6.15 and later.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define P 4096l
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define GUARD 102
#define NO_GUARD 103

static sigjmp_buf jump;
static volatile int code;

static void caught(int sig, siginfo_t *si, void *uc) {
	code = si->si_code;
	siglongjmp(jump, sig);
}

static int put(volatile char *p, int v) {
	int sig = sigsetjmp(jump, 1);
	if (sig == 0)
		return *p = v, 0;
	return -sig * 1000 - code;
}

static int get(volatile char *p) {
	int sig = sigsetjmp(jump, 1);
	return sig == 0 ? *p : -sig * 1000 - code;
}

static void told(const char *what, long r) { printf("%s: %s, errno %d\n", what, r == -1 ? "no" : "yes", r == -1 ? errno : 0); }

static void look(const char *what, char *p, int n) {
	printf("%s:", what);
	for (int i = 0; i < n; i++)
		printf(" %d", get(p + i * P));
	unsigned char vec[64];
	mincore(p, n * P, vec);
	printf(", there ");
	for (int i = 0; i < n; i++)
		putchar('0' + (vec[i] & 1));
	printf("\n");
}

// lines counts the lines of maps that [p, p + n pages) has.
static int lines(char *p, int n) {
	FILE *f = fopen("/proc/self/maps", "r");
	char line[600];
	unsigned long start, end;
	int c = 0;
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start < (unsigned long)p + n * P && end > (unsigned long)p)
			c++;
	fclose(f);
	return c;
}

static void all(char *p) {
	for (int i = 0; i < 8; i++)
		put(p + i * P, i + 1);
	look("at first", p, 8);
	told("guard", madvise(p + 2 * P, 2 * P, GUARD));
	look("guarded", p, 8);
	printf("write: %d\n", put(p + 2 * P, 5));
	printf("areas: %d\n", lines(p, 8));
	told("again, and one more", madvise(p + P, 3 * P, GUARD));
	look("guarded", p, 8);
	told("dontneed", madvise(p, 8 * P, MADV_DONTNEED));
	look("dropped", p, 8);
	told("free", madvise(p, 8 * P, MADV_FREE));
	told("cold", madvise(p, 8 * P, MADV_COLD));
	told("populate to read", madvise(p, 8 * P, MADV_POPULATE_READ));
	told("populate to write", madvise(p, 8 * P, MADV_POPULATE_WRITE));
	told("populate what is not guarded", madvise(p + 4 * P, 4 * P, MADV_POPULATE_WRITE));
	told("mprotect", mprotect(p, 8 * P, PROT_NONE));
	look("none", p, 8);
	told("mprotect", mprotect(p, 8 * P, RW));
	look("as before", p, 8);
	told("mlock", mlock(p, 8 * P));
	told("guard of what is locked", madvise(p + 6 * P, P, GUARD));
	told("no guard of what is locked", madvise(p + P, P, NO_GUARD));
	told("munlock", munlock(p, 8 * P));
	look("less", p, 8);
	told("no guard anywhere", madvise(p, 8 * P, NO_GUARD));
	look("open", p, 8);
	told("guard", madvise(p + 3 * P, P, GUARD));
	told("mapped anew", mmap(p + 2 * P, 3 * P, RW, ANON | MAP_FIXED, -1, 0) == p + 2 * P);
	look("mapped anew", p, 8);
	munmap(p + 5 * P, P);
	told("guard over a hole", madvise(p + 4 * P, 4 * P, GUARD));
	printf("around it: %d %d\n", get(p + 4 * P), get(p + 6 * P));
	told("no guard over a hole", madvise(p + 4 * P, 4 * P, NO_GUARD));
	printf("around it: %d %d\n", get(p + 4 * P), get(p + 6 * P));
	int fd[2];
	pipe(fd);
	told("guard", madvise(p, P, GUARD));
	told("a call that reads it", write(fd[1], p, 1));
	told("a call that writes it", pipe((int *)p));
	munmap(p, 8 * P);
}

int main(void) {
	struct sigaction sa = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	all(mmap(NULL, 8 * P, RW, ANON, -1, 0));
	int fd = memfd_create("x", 0);
	ftruncate(fd, 8 * P);
	puts("shared");
	all(mmap(NULL, 8 * P, RW, MAP_SHARED, fd, 0));
	puts("private");
	all(mmap(NULL, 8 * P, RW, MAP_PRIVATE, fd, 0));
	told("odd", madvise((char *)1, P, GUARD));
	told("of nothing", madvise((char *)P, 0, GUARD));
	return 0;
}
