// Locked memory and capabilities: mlock and its kin under a limit, without CAP_IPC_LOCK.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define P 4096l
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static void told(const char *what, long r) {
	printf("%s: %s, errno %d\n", what, r == -1 ? "no" : "yes", r == -1 ? errno : 0);
	errno = 0;
}

static long status(const char *field) {
	FILE *f = fopen("/proc/self/status", "r");
	char line[200];
	long v = -1;
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, field, strlen(field)) && line[strlen(field)] == ':')
			sscanf(line + strlen(field) + 1, "%ld", &v);
	fclose(f);
	return v;
}

static long first; // KiB locked before
static void locked(const char *what) { printf("%s: VmLck %ld\n", what, status("VmLck") - first); }

static void resident(const char *what, char *p, int n) {
	unsigned char vec[64];
	printf("%s: ", what);
	if (mincore(p, n * P, vec))
		printf("errno %d", errno);
	else
		for (int i = 0; i < n; i++)
			putchar('0' + (vec[i] & 1));
	printf("\n");
}

struct caps { struct __user_cap_header_struct h; struct __user_cap_data_struct d[2]; };

static void capabilities(void) {
	struct caps c = {{0x12345678, 0}};
	told("capget of another version", syscall(SYS_capget, &c.h, c.d));
	printf("which is %x\n", c.h.version);
	c.h.version = 0x12345678;
	told("capget without room, of another version", syscall(SYS_capget, &c.h, NULL));
	told("capget without room", syscall(SYS_capget, &c.h, NULL));
	c.h.pid = -1;
	told("capget of nobody", syscall(SYS_capget, &c.h, c.d));
	c.h.pid = 0x3ffffff0;
	told("capget of another", syscall(SYS_capget, &c.h, c.d));
	told("capset of another", syscall(SYS_capset, &c.h, c.d));
	c.h.pid = gettid();
	told("capget", syscall(SYS_capget, &c.h, c.d));
	told("capget from nowhere", syscall(SYS_capget, NULL, c.d));
	told("capset from nowhere", syscall(SYS_capset, &c.h, NULL));
	c.h.pid = 0;
	c.d[0].effective &= ~(1u << CAP_IPC_LOCK);
	told("capset of less in effect", syscall(SYS_capset, &c.h, c.d));
	c.d[0].permitted &= ~(1u << CAP_IPC_LOCK);
	told("capset of less", syscall(SYS_capset, &c.h, c.d));
	memset(c.d, 0, sizeof c.d);
	told("capget", syscall(SYS_capget, &c.h, c.d));
	printf("may lock %d\n", (c.d[0].effective | c.d[0].permitted) >> CAP_IPC_LOCK & 1);
	c.d[0].permitted |= 1u << CAP_IPC_LOCK;
	told("capset of more", syscall(SYS_capset, &c.h, c.d));
	c.d[0].permitted &= ~(1u << CAP_IPC_LOCK);
	c.d[0].effective |= 1u << CAP_IPC_LOCK;
	told("capset of more in effect", syscall(SYS_capset, &c.h, c.d));
}

int main(void) {
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	capabilities();
	struct rlimit l;
	getrlimit(RLIMIT_MEMLOCK, &l);
	l.rlim_cur = 16 * P;
	told("a limit of 16 pages", setrlimit(RLIMIT_MEMLOCK, &l));
	locked("at first"); // makes room for what stdio wants
	first = status("VmLck");
	char *p = mmap(NULL, 64 * P, RW, ANON, -1, 0);
	told("mlock2, odd flags", syscall(SYS_mlock2, p, P, 2));
	told("8 pages", mlock(p, 8 * P));
	locked("8 pages");
	told("4 of them again, and 10 more", mlock(p + 4 * P, 14 * P));
	told("all of them again, and 9 more", mlock(p, 17 * P));
	told("all of them again, and 8 more", mlock(p, 16 * P));
	locked("16 pages");
	told("another", mlock(p + 20 * P, P));
	told("another, mapped and locked", (long)mmap(NULL, P, RW, ANON | MAP_LOCKED, -1, 0));
	told("nothing", mlock(p + 20 * P, 0));
	told("far too much", mlock(p, 1ul << 46));
	told("more than that", mlock(p, -P));
	told("half of it no more", munlock(p, 8 * P));
	locked("8 pages");
	char *q = mmap(NULL, 4 * P, RW, ANON | MAP_LOCKED, -1, 0);
	told("4 mapped and locked", (long)q);
	resident("mapped and locked", q, 4);
	locked("12 pages");
	told("larger by too much", (long)mremap(q, 4 * P, 9 * P, MREMAP_MAYMOVE));
	q = mremap(q, 4 * P, 6 * P, MREMAP_MAYMOVE);
	told("larger by two", (long)q);
	resident("larger", q, 6);
	locked("14 pages");
	told("not writable", mprotect(q, 6 * P, PROT_READ));
	locked("14 pages");
	told("unmapped", munmap(q + P, 5 * P));
	locked("9 pages");
	told("over a hole", mlock(q, 2 * P));
	munmap(q, P);
	told("dropped though locked", madvise(p + 8 * P, P, MADV_DONTNEED));
	munlock(p, 64 * P);
	locked("none");

	told("pages dropped", madvise(p, 64 * P, MADV_DONTNEED));
	told("on fault", syscall(SYS_mlock2, p, 6 * P, MLOCK_ONFAULT));
	resident("on fault", p, 6);
	p[P] = 1;
	resident("one touched", p, 6);
	locked("6 pages");
	told("two of them at once", mlock(p + 2 * P, 2 * P));
	resident("two at once", p, 6);
	locked("6 pages");
	told("not writable", mprotect(p + 8 * P, P, PROT_NONE));
	told("a page of no access", mlock(p + 8 * P, P));
	locked("7 pages");
	told("writable", mprotect(p + 8 * P, P, RW));
	resident("writable", p + 8 * P, 2);
	told("munlock", munlock(p, 64 * P));

	told("mlockall of nothing", mlockall(0));
	told("mlockall, odd", mlockall(8));
	told("mlockall of all there is", mlockall(MCL_CURRENT));
	told("mlockall of what comes", mlockall(MCL_FUTURE));
	locked("none");
	q = mmap(NULL, 4 * P, RW, ANON, -1, 0);
	resident("what came", q, 4);
	locked("4 pages");
	told("too much comes", (long)mmap(NULL, 13 * P, RW, ANON, -1, 0));
	told("too much of none comes", (long)mmap(NULL, 13 * P, PROT_NONE, ANON, -1, 0));
	char *b = (char *)syscall(SYS_brk, 0);
	b = (char *)((long)b + P - 1 & -P);
	syscall(SYS_brk, b);
	locked("before brk");
	printf("too much of brk: %d\n", (char *)syscall(SYS_brk, b + 20 * P) == b);
	printf("brk: %d\n", (char *)syscall(SYS_brk, b + 3 * P) == b + 3 * P);
	resident("brk", b, 3);
	syscall(SYS_brk, b);
	told("mlockall on fault of what comes", mlockall(MCL_FUTURE | MCL_ONFAULT));
	char *r = mmap(NULL, 4 * P, RW, ANON, -1, 0);
	r[2 * P] = 1;
	resident("what came", r, 4);
	told("munlockall", munlockall());
	locked("none");
	munmap(q, 4 * P);
	munmap(r, 4 * P);
	l.rlim_cur = 0;
	told("a limit of nothing", setrlimit(RLIMIT_MEMLOCK, &l));
	told("mlock", mlock(p, P));
	told("mlock of nothing", mlock(p, 0));
	told("munlock", munlock(p, P));
	told("mlockall", mlockall(MCL_CURRENT));
	told("mapped and locked", (long)mmap(NULL, P, RW, ANON | MAP_LOCKED, -1, 0));
	return 0;
}
