// What would be one area more than vm.max_map_count is refused, whichever call makes it; what makes none is done.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define P 4096l
enum { MOST = 65530, ROOM = 2 * MOST + 64 };

static void told(const char *what, long r) { printf("%s: %s, errno %d\n", what, r == -1 ? "no" : "yes", r == -1 ? errno : 0); }

static char *map(long pages, int prot) { return mmap(NULL, pages * P, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); }

int main(void) {
	static char out[4096];
	setvbuf(stdout, out, _IOFBF, sizeof out);
	printf("the limit\n");
	char *a = map(ROOM, PROT_READ), *b = map(16, PROT_READ | PROT_WRITE), *c = map(16, PROT_READ);
	long n = 0;
	while (n < MOST && munmap(a + (2 * n + 1) * P, P) == 0)
		n++;
	told("that many pieces", n > MOST - 64 && n < MOST ? 0 : -1);
	char *rest = a + (2 * n + 4) * P;
	told("one more", munmap(rest, P));
	told("of a lock", mlock(b + P, P));
	told("of a lock at an end", mlock(b, P));
	told("no lock's end", munlock(b + P, P));
	told("all locked", mlock(b, 16 * P));
	told("a locked piece let go", munlock(b + P, P));
	told("all let go", munlock(b, 16 * P));
	told("made shorter inside", (long)mremap(b + P, 4 * P, P, 0));
	told("made shorter at the end", (long)mremap(b, 16 * P, 15 * P, 0));
	told("moved into another", (long)mremap(b + 2 * P, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, rest));
	told("the end of one", munmap(a + ROOM * P - P, P));
	told("a piece", munmap(a, P));
	told("a whole with its neighbours' ends", munmap(b + 14 * P, P));
	told("now one more", munmap(rest, P));
	told("and no more", munmap(rest + 2 * P, P));
	told("all", munmap(a, ROOM * P));
	told("of a lock", mlock(c + P, P));
	return 0;
}
