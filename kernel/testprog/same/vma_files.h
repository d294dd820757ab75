// Part of vma.c: moving, growing, files, the stack.

static void fill(int at, int n, int prot) {
	map(at, n, RW, ANON);
	for (int i = 0; i < n; i++)
		base[(at + i) * P] = 10 + i;
	if (prot != RW)
		mprotect(base + at * P, n * P, prot);
}

static int sum(int at, int n) {
	int s = 0;
	for (int i = 0; i < n; i++)
		s = s * 3 + get(base + (at + i) * P);
	return s;
}

static void remaps(void) {
	fill(0, 4, RW);
	told("mremap odd", mremap(base + 1, P, P, 0));
	told("mremap to nothing", mremap(base, P, 0, 0));
	told("mremap with odd flags", mremap(base, P, P, 64));
	told("mremap fixed alone", mremap(base, P, P, MREMAP_FIXED, base + 20 * P));
	told("mremap to an odd address", mremap(base, P, P, MREMAP_FIXED | MREMAP_MAYMOVE, base + 20 * P + 1));
	told("mremap over itself", mremap(base, 2 * P, 2 * P, MREMAP_FIXED | MREMAP_MAYMOVE, base + P));
	told("mremap of what is not there", mremap(base + 30 * P, P, 2 * P, MREMAP_MAYMOVE));
	told("mremap of more than there is", mremap(base + 2 * P, 4 * P, 8 * P, MREMAP_MAYMOVE));
	told("mremap of nothing private", mremap(base, 0, P, MREMAP_MAYMOVE));
	told("mremap to too much", mremap(base, P, 1ul << 47, MREMAP_MAYMOVE));
	value("the same", mremap(base, 4 * P, 4 * P, 0) == base);
	value("smaller", mremap(base, 4 * P, 3 * P, 0) == base);
	show("after", base, ROOM * P);
	value("larger", mremap(base, 3 * P, 6 * P, 0) == base);
	value("contents", sum(0, 6));
	value("a piece larger where there is room", mremap(base + 4 * P, 2 * P, 4 * P, 0) == base + 4 * P);
	told("a piece larger where there is none", mremap(base + P, 2 * P, 4 * P, 0));
	map(8, 1, PROT_READ, ANON);
	told("larger where something is", mremap(base, 8 * P, 9 * P, 0));
	show("after", base, ROOM * P);
	value("moved", mremap(base + P, 2 * P, 3 * P, MREMAP_FIXED | MREMAP_MAYMOVE, base + 20 * P) == base + 20 * P);
	show("after", base, ROOM * P);
	value("contents", sum(20, 3));
	value("where it was", get(base + P));
	value("moved and smaller", mremap(base + 20 * P, 3 * P, P, MREMAP_FIXED | MREMAP_MAYMOVE, base + 8 * P) == base + 8 * P);
	show("after", base, ROOM * P);
	value("contents", get(base + 8 * P));
	char *far = mremap(base + 8 * P, P, 5000 * P, MREMAP_MAYMOVE);
	value("to anywhere", far != MAP_FAILED && far[0] == 11 && far[4999 * P] == 0);
	value("back", mremap(far, 5000 * P, 2 * P, MREMAP_FIXED | MREMAP_MAYMOVE, base + 40 * P) == base + 40 * P);
	value("where it was", get(far));
	show("after", base, ROOM * P);
	room();
	fill(0, 4, PROT_READ);
	value("for reading", mremap(base, 4 * P, 4 * P, MREMAP_FIXED | MREMAP_MAYMOVE, base + 10 * P) == base + 10 * P);
	show("after", base, ROOM * P);
	value("contents", sum(10, 4));
	value("write", put(base + 10 * P, 1));
	mprotect(base + 10 * P, 4 * P, PROT_NONE);
	value("none", mremap(base + 10 * P, 4 * P, 4 * P, MREMAP_FIXED | MREMAP_MAYMOVE, base + 20 * P) == base + 20 * P);
	value("read", get(base + 20 * P));
	mprotect(base + 20 * P, 4 * P, RW);
	value("contents", sum(20, 4));
	told("left empty, not moved", mremap(base + 20 * P, 4 * P, 4 * P, MREMAP_DONTUNMAP));
	told("left empty, larger", mremap(base + 20 * P, 4 * P, 5 * P, MREMAP_DONTUNMAP | MREMAP_MAYMOVE));
	value("left empty", mremap(base + 20 * P, 4 * P, 4 * P, MREMAP_DONTUNMAP | MREMAP_FIXED | MREMAP_MAYMOVE, base + 30 * P) == base + 30 * P);
	value("contents", sum(30, 4));
	value("where it was", sum(20, 4));
	show("after", base, ROOM * P);
	room();
	map(0, 2, RW, MAP_SHARED | MAP_ANONYMOUS);
	base[0] = 42;
	char *twin = mremap(base, 0, 2 * P, MREMAP_FIXED | MREMAP_MAYMOVE, base + 10 * P);
	value("a twin", twin == base + 10 * P);
	base[1] = 17;
	value("sees it", twin == base + 10 * P ? get(twin) + get(twin + 1) : 0);
	put(base + 11 * P, 9);
	value("and is seen", get(base + P));
	told("dontneed", madvise(base, 2 * P, MADV_DONTNEED));
	value("keeps it", get(base));
	told("remove", madvise(base, P, MADV_REMOVE));
	value("does not", get(base) + get(base + 10 * P));
	told("free", madvise(base, P, MADV_FREE));
	value("larger", mremap(base, 2 * P, 3 * P, 0) == base);
	value("behind its end", get(base + 2 * P));
	room();
}

static void growing(void) {
	struct rlimit old, low;
	getrlimit(RLIMIT_STACK, &old);
	// In a space of its own: 16 MiB of nothing below a page that grows.
	char *at = mmap(NULL, 32 << 20, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);
	munmap(at, 32 << 20);
	char *top = at + (24 << 20);
	value("grows down", mmap(top, P, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0) == top);
	value("just below", put(top - 1, 5));
	value("far below", put(top - 500 * P, 5));
	value("in between", get(top - 200 * P) + get(top - 500 * P));
	show("after", top - 1000 * P, 1001 * P);
	value("above", get(top + P));
	// A neighbour keeps 256 pages of distance.
	mmap(top - 900 * P, P, RW, ANON | MAP_FIXED, -1, 0);
	value("near the neighbour", put(top - 643 * P + 5, 5));
	value("at the gap", put(top - 644 * P, 5));
	value("too near", put(top - 800 * P, 5));
	munmap(top - 900 * P, P);
	mmap(top - 900 * P, P, PROT_NONE, ANON | MAP_FIXED, -1, 0);
	value("near a neighbour that is none", put(top - 850 * P, 5));
	value("at it", put(top - 900 * P, 5));
	show("after", top - 1000 * P, 1001 * P);
	munmap(top - 900 * P, P);
	low = old;
	low.rlim_cur = 1000 * P;
	told("a limit", setrlimit(RLIMIT_STACK, &low));
	value("to the limit", put(top - 999 * P, 5));
	value("beyond", put(top - 1000 * P, 5));
	told("none", setrlimit(RLIMIT_STACK, &old));
	value("beyond", put(top - 1000 * P, 5));
	munmap(at, 32 << 20);
	mmap(top, 4 * P, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
	put(top - 3 * P, 1);
	told("mprotect that grows down", mprotect(top + 2 * P, P, PROT_READ | PROT_GROWSDOWN));
	show("after", top - 10 * P, 20 * P);
	value("a place below it", mmap(top - 100 * P, P, RW, ANON, -1, 0) == top - 100 * P);
	value("by force", mmap(top - 50 * P, P, RW, ANON | MAP_FIXED, -1, 0) == top - 50 * P);
	value("no more growth", put(top - 10 * P, 1));
	munmap(at, 32 << 20);
}

static int deep(int n) {
	volatile char frame[4096];
	frame[0] = n;
	return n == 0 ? 0 : deep(n - 1) + frame[0] - (char)n + 1;
}

static void stack(void) {
	struct rlimit l = {8 << 20, 64 << 20};
	told("8 MiB of stack", setrlimit(RLIMIT_STACK, &l));
	value("6 MiB deep", deep(1500));
	value("too deep", ({ int sig = sigsetjmp(jump, 1); sig == 0 ? deep(4000) : sig * 1000 - code; }));
	l.rlim_cur = 24 << 20;
	told("24 MiB of stack", setrlimit(RLIMIT_STACK, &l));
	value("16 MiB deep", deep(4000));
	value("too deep", ({ int sig = sigsetjmp(jump, 1); sig == 0 ? deep(8000) : sig * 1000 - code; }));
	getrlimit(RLIMIT_STACK, &l);
	value("the limit", l.rlim_cur);
	l.rlim_cur = 8 << 20;
	setrlimit(RLIMIT_STACK, &l);
	char *b = (char *)syscall(SYS_brk, 0);
	value("brk", (char *)syscall(SYS_brk, b + 5 * P) == b + 5 * P);
	char *end = (char *)(((unsigned long)b + P - 1) & -P);
	value("what it gave", put(end, 4) + get(end + 4 * P));
	value("less", (char *)syscall(SYS_brk, b + P) == b + P);
	value("gone", get(end + 2 * P));
	value("again", (char *)syscall(SYS_brk, b + 5 * P) == b + 5 * P);
	value("zero", get(end + 2 * P));
	value("too little", (char *)syscall(SYS_brk, 4096) == b + 5 * P);
	value("too much", (char *)syscall(SYS_brk, (char *)0x7fffffff0000) == b + 5 * P);
	void *m = mmap(end + 20 * P, P, RW, ANON | MAP_FIXED, -1, 0);
	value("what is in the way", (char *)syscall(SYS_brk, b + 30 * P) == b + 5 * P);
	munmap(m, P);
	value("no more", (char *)syscall(SYS_brk, b + 30 * P) == b + 30 * P);
}

static void files(const char *self) {
	char name[] = "/tmp/vmaXXXXXX";
	int fd = mkstemp(name);
	told("a file", ftruncate(fd, 3 * P + 100));
	char *s = mmap(base, 8 * P, RW, MAP_SHARED | MAP_FIXED, fd, 0);
	char *p = mmap(base + 10 * P, 8 * P, RW, MAP_PRIVATE | MAP_FIXED, fd, 0);
	value("mapped", s == base && p == base + 10 * P);
	told("at another offset", mmap(base + 20 * P, 2 * P, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 2 * P));
	show("after", base, ROOM * P);
	put(s + 2 * P, 7);
	value("the private one sees it", get(p + 2 * P));
	value("the other offset", get(base + 20 * P));
	put(p + 2 * P, 8);
	value("but is not seen", get(s + 2 * P));
	put(s + 2 * P, 9);
	value("nor sees more", get(p + 2 * P));
	char c = 0;
	value("read", pread(fd, &c, 1, 2 * P) + c);
	pwrite(fd, "x", 1, P);
	value("written", get(s + P) + get(p + P));
	value("in the last page", get(s + 3 * P + 200) + put(s + 3 * P + 200, 3) + get(s + 3 * P + 200));
	value("behind the end", get(s + 4 * P));
	value("behind the end, private", get(p + 4 * P));
	value("write there", put(p + 5 * P, 1));
	told("dontneed", madvise(p, 4 * P, MADV_DONTNEED));
	value("the file's again", get(p + 2 * P));
	put(p + 2 * P, 5);
	told("cut", ftruncate(fd, P + 10));
	value("gone", get(s + 2 * P));
	value("the copy too", get(p + 2 * P));
	value("still there", get(s + P));
	told("longer", ftruncate(fd, 5 * P));
	value("zero", get(s + 2 * P) + get(p + 2 * P) + get(s + 4 * P) + get(s + P + 100));
	value("writes past the end", get(s + 3 * P + 200));
	told("msync", msync(s, 8 * P, MS_SYNC));
	told("msync that drops", msync(s, 8 * P, MS_INVALIDATE));
	told("free", madvise(p, P, MADV_FREE));
	told("wipe on fork", madvise(p, P, MADV_WIPEONFORK));
	put(p, 33);
	value("moved", mremap(p, 3 * P, 4 * P, MREMAP_FIXED | MREMAP_MAYMOVE, base + 30 * P) == base + 30 * P);
	show("after", base, ROOM * P);
	value("contents", get(base + 30 * P) + get(base + 31 * P));
	pwrite(fd, "y", 1, 3 * P);
	value("its new page", get(base + 33 * P));
	value("a twin", mremap(s, 0, 2 * P, MREMAP_FIXED | MREMAP_MAYMOVE, base + 50 * P) == base + 50 * P);
	put(base + 50 * P, 21);
	value("seen", get(s));
	told("unlink", unlink(name));
	told("close", close(fd));
	value("still", get(s) + put(s, 1) + get(s));
	room();

	fd = open(self, O_RDONLY);
	told("for reading, shared and writable", mmap(base, P, RW, MAP_SHARED | MAP_FIXED, fd, 0));
	told("shared", mmap(base, 2 * P, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
	told("made writable", mprotect(base, P, RW));
	told("private", mmap(base + 2 * P, 2 * P, RW, MAP_PRIVATE | MAP_FIXED, fd, 0));
	value("elf", get(base + 1) + get(base + 2 * P + 2));
	put(base + 2 * P, 1);
	value("elf", get(base) + get(base + 2 * P));
	close(fd);
	room();
	fd = open("/dev/zero", O_RDWR);
	told("zeros", mmap(base, 2 * P, RW, MAP_PRIVATE | MAP_FIXED, fd, 0));
	value("write", put(base, 3) + get(base) + get(base + P));
	close(fd);
	room();
}
