// Part of vma.c: random calls in a small room. After each, what every page is and holds goes into a sum that is printed.

static unsigned long state;

static unsigned rnd(unsigned n) {
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 20) % n;
}

static unsigned long look(void) {
	unsigned long h = 14695981039346656037ul;
	for (int i = 0; i < ROOM; i++) {
		unsigned char vec;
		long there = mincore(base + i * P, P, &vec) ? errno : 0;
		h = (h ^ (unsigned long)there) * 1099511628211ul;
		if (there == 0) {
			h = (h ^ (unsigned long)get(base + i * P + 8)) * 1099511628211ul;
			h = (h ^ (unsigned long)get(base + i * P)) * 1099511628211ul;
		}
	}
	return h;
}

static long step(int fd, int verbose) {
	static const int prots[] = {RW, RW, RW, PROT_READ, PROT_READ, PROT_NONE, PROT_WRITE, RW};
	static const int advices[] = {MADV_DONTNEED, MADV_DONTNEED, MADV_NORMAL, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_RANDOM};
	int op = rnd(16), at = rnd(ROOM), n = 1 + rnd(rnd(4) ? 6 : 20), to = rnd(ROOM), m = 1 + rnd(8), prot = prots[rnd(8)];
	if (at + n > ROOM)
		n = ROOM - at;
	if (to + m > ROOM)
		m = ROOM - to;
	char *a = base + at * P;
	void *r;
	long done = 0;
	errno = 0;
	switch (op) {
	case 0: case 1:
		r = mmap(a, n * P, prot, ANON | MAP_FIXED | (rnd(4) ? 0 : MAP_POPULATE), -1, 0);
		done = r == a;
		break;
	case 2:
		done = mmap(a, n * P, prot, MAP_PRIVATE | MAP_FIXED, fd, rnd(8) * P) == a;
		break;
	case 3:
		done = mmap(a, n * P, prot, MAP_SHARED | MAP_FIXED, fd, rnd(8) * P) == a;
		break;
	case 4:
		done = mmap(a, n * P, prot, ANON | MAP_FIXED_NOREPLACE, -1, 0) == a;
		break;
	case 5: case 6:
		done = munmap(a, n * P);
		break;
	case 7: case 8:
		done = mprotect(a, n * P, prot);
		break;
	case 9:
		done = madvise(a, n * P, advices[rnd(6)]);
		break;
	case 10: { // one area only: kernels differ on more
		r = mremap(a, P, m * P, MREMAP_MAYMOVE | MREMAP_FIXED, base + to * P);
		done = r == MAP_FAILED ? -1 : r == base + to * P;
		break;
	}
	case 11:
		r = mremap(a, P, (1 + m % 3) * P, 0);
		done = r == MAP_FAILED ? -1 : r == a;
		break;
	default:
		for (int i = 0; i < n; i++)
			done = done * 3 + put(a + i * P + (rnd(2) ? 0 : 8), 1 + rnd(255));
		errno = 0;
	}
	if (verbose)
		printf("  %d at %d+%d to %d+%d prot %d: %ld errno %d\n", op, at, n, to, m, prot, done, errno);
	return done * 131 + errno;
}

// torture makes some thousand steps; when verbose, it tells each.
static void torture(int seed, int verbose) {
	char name[] = "/tmp/vmaXXXXXX";
	int fd = mkstemp(name);
	unlink(name);
	ftruncate(fd, 6 * P + 50);
	state = seed * 2654435761ul + 88172645463325252ul;
	room();
	unsigned long h = 0;
	for (int i = 0; i < 150; i++) {
		h = h * 31 + step(fd, verbose);
		unsigned long l = look();
		h = h * 31 + l;
		if (rnd(40) == 0)
			ftruncate(fd, rnd(8) * P + rnd(2) * 50);
		if (verbose) {
			printf("%d: %lx\n", i, l);
			show("maps", base, ROOM * P);
		}
	}
	printf("seed %d: %lx\n", seed, h);
	show("maps", base, ROOM * P);
	room();
	close(fd);
}

static int tortureSeeds(int from, int n) {
	for (int i = from; i < from + n; i++)
		torture(i, n == 1);
	return 0;
}
