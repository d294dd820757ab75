// Holes in files in memory: fallocate, MADV_REMOVE, and what mappings see of them.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define P 4096l
#define RW (PROT_READ | PROT_WRITE)

static void told(const char *what, long r) { printf("%s: %s, errno %d\n", what, r == -1 ? "no" : "yes", r == -1 ? errno : 0); }

static int fd, data; // Linux takes pages that nobody wrote for holes

// look prints the file's size and blocks, where data and holes are, and a byte in the middle of each page.
static void look(const char *what) {
	struct stat s;
	fstat(fd, &s);
	printf("%s: size %ld, blocks %ld,", what, (long)s.st_size, (long)s.st_blocks);
	for (long at = data ? 0 : -1; at >= 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
		long hole = lseek(fd, at, SEEK_HOLE);
		printf(" data %ld+%ld", at, hole - at);
		at = hole;
	}
	for (long at = 0; at < s.st_size && at < 12 * P; at += P / 2) {
		char c = 0;
		pread(fd, &c, 1, at);
		printf(" %d", c);
	}
	printf("\n");
}

static void fill(int pages) {
	char b[P];
	ftruncate(fd, 0);
	for (int i = 0; i < pages; i++)
		memset(b, i + 1, P), pwrite(fd, b, P, i * P);
}

static void show(const char *what, const char *p, int pages) {
	printf("%s:", what);
	for (int i = 0; i < pages; i++)
		printf(" %d %d", p[i * P], p[i * P + P / 2]);
	printf("\n");
}

enum { KEEP = FALLOC_FL_KEEP_SIZE, PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };

int main(void) {
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	fd = memfd_create("holes", 0);
	told("fallocate of nothing", fallocate(fd, 0, 0, 0));
	told("fallocate of less", fallocate(fd, 0, -1, P));
	told("fallocate of too much", fallocate(fd, 0, 1l << 62, 1l << 62));
	told("fallocate of no file", fallocate(1000, 0, 0, P));
	told("fallocate of nothing, of no file", fallocate(1000, 0, 0, 0));
	told("fallocate, another mode", fallocate(fd, 0x4000, 0, P));
	told("punch without keeping the size", fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, P));
	told("collapse", fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, P));
	int p[2];
	pipe(p);
	told("of a pipe", fallocate(p[1], 0, 0, P));
	told("of a pipe for reading", fallocate(p[0], 0, 0, P));
	told("of a pipe, another mode", fallocate(p[1], 0x4000, 0, P));
	int null = open("/dev/null", O_RDWR), dir = open("/", O_RDONLY);
	told("of a device", fallocate(null, 0, 0, P));
	told("of a directory", fallocate(dir, 0, 0, P));
	char path[40];
	sprintf(path, "/proc/self/fd/%d", fd);
	int ro = open(path, O_RDONLY);
	told("of what is for reading", fallocate(ro, 0, 0, P));
	look("empty");
	told("3 pages", fallocate(fd, 0, 0, 3 * P));
	look("3 pages");
	told("a page behind the end", fallocate(fd, 0, 5 * P, 10));
	look("a page behind the end");
	told("less than there is", fallocate(fd, 0, P, 5));
	look("the same");
	told("a hole, kept size", fallocate(fd, KEEP, 3 * P, P));
	look("filled");

	fill(6);
	data = 1;
	look("full");
	told("punch two pages", fallocate(fd, PUNCH, P, 2 * P));
	look("two less");
	told("punch from the middle", fallocate(fd, PUNCH, 3 * P + P / 2, P));
	look("zeros");
	told("punch to behind the end", fallocate(fd, PUNCH, 5 * P, 100 * P));
	look("zeros at the end");
	told("punch behind the end", fallocate(fd, PUNCH, 50 * P, P));
	fill(6);
	ftruncate(fd, 5 * P + 100);
	told("punch to the end", fallocate(fd, PUNCH, 5 * P, 100));
	look("to the end");
	told("punch of what is for reading", fallocate(ro, PUNCH, 0, P));

	fill(8);
	char *m = mmap(NULL, 8 * P, RW, MAP_SHARED, fd, 0), *r = mmap(NULL, 8 * P, RW, MAP_PRIVATE, fd, 0);
	m[0] = 50, r[P] = 60, r[2 * P + P / 2] = 61;
	show("shared", m, 8);
	show("private", r, 8);
	told("punch below both", fallocate(fd, PUNCH, P, 2 * P + P / 2));
	show("shared", m, 8);
	show("private", r, 8);
	m[2 * P] = 70;
	show("private", r, 8);
	look("written again");
	told("remove", madvise(m + 4 * P, 2 * P, MADV_REMOVE));
	show("shared", m, 8);
	look("removed");
	told("remove of a private one", madvise(r, P, MADV_REMOVE));
	char *anon = mmap(NULL, 8 * P, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *sh = mmap(NULL, 8 * P, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	told("remove of memory", madvise(anon, P, MADV_REMOVE));
	memset(sh, 7, 8 * P);
	told("remove of shared memory", madvise(sh + P, 2 * P, MADV_REMOVE));
	show("shared memory", sh, 8);
	munmap(sh + 4 * P, P);
	told("remove over a hole", madvise(sh + 3 * P, 3 * P, MADV_REMOVE));
	printf("around it: %d %d %d\n", sh[3 * P], sh[5 * P], sh[6 * P]);
	mlock(sh, P);
	told("remove of what is locked", madvise(sh, P, MADV_REMOVE));
	char *rd = mmap(NULL, P, PROT_READ, MAP_SHARED, ro, 0);
	told("remove of what cannot be written", madvise(rd, P, MADV_REMOVE));
	told("punch the first page", fallocate(fd, PUNCH, 0, P));
	printf("it is %d\n", *rd);
	munmap(m, 8 * P);
	munmap(r, 8 * P);
	ftruncate(fd, 0);
	look("empty");

	// A tmpfs has room for so much.
	int tmp = open("/dev/shm/holes", O_RDWR | O_CREAT | O_TRUNC, 0600);
	unlink("/dev/shm/holes");
	told("far more than fits", fallocate(tmp, 0, 0, 1l << 42));
	struct stat s;
	fstat(tmp, &s);
	printf("size %ld, blocks %ld\n", (long)s.st_size, (long)s.st_blocks);

	// Locked pages are told in smaps.
	char *l = mmap(NULL, 4 * P, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(l, P, PROT_NONE);
	mlock(l + P, P);
	mlock2(l + 3 * P, P, MLOCK_ONFAULT);
	l[2 * P] = 1;
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[600];
	unsigned long start, end;
	int ours = 0;
	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, ' ') && line[0] != 'S')
			ours = start >= (unsigned long)l && start < (unsigned long)l + 4 * P;
		else if (ours && (!strncmp(line, "Size", 4) || !strncmp(line, "Rss", 3) || !strncmp(line, "Locked", 6) || !strncmp(line, "Anonymous:", 10) || !strncmp(line, "Private_C", 9) || !strncmp(line, "Private_D", 9)))
			fputs(line, stdout);
	}
	fclose(f);
	return 0;
}
