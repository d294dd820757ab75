// Reads and maps more of files than memory holds. Arguments: FNV-1a sums, in hex, of /data/0, /data/1, ...
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "check.h"

#define START 0xcbf29ce484222325

static uint64_t add(uint64_t h, const unsigned char *p, size_t n)
{
	while (n-- > 0)
		h = (h ^ *p++) * 0x100000001b3;
	return h;
}

static size_t size;

static int open_file(int i)
{
	char name[32];
	struct stat st;
	snprintf(name, sizeof name, "/data/%d", i);
	int fd = open(name, O_RDONLY);
	check("open", fd >= 0 && fstat(fd, &st) == 0);
	size = st.st_size;
	return fd;
}

static unsigned char *map(int i)
{
	int fd = open_file(i);
	unsigned char *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	check("map", p != MAP_FAILED);
	close(fd);
	return p;
}

int main(int argc, char **argv)
{
	static unsigned char buf[50000];
	unsigned char *all[64];
	uint64_t want[64];
	int files = argc - 1;
	for (int i = 0; i < files; i++)
		want[i] = strtoull(argv[i + 1], NULL, 16);

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < files; i++) {
			uint64_t h = START;
			int fd = open_file(i);
			for (ssize_t n; (n = read(fd, buf, sizeof buf)) != 0;) {
				check("read", n > 0);
				h = add(h, buf, n);
			}
			check("read", h == want[i]);
			close(fd);
		}
	ok("read");

	for (int i = 0; i < files; i++) {
		unsigned char *p = map(i);
		check("map", add(START, p, size) == want[i]);
		munmap(p, size);
	}
	ok("map");

	// A page here and there, of all files in turn, read and mapped at once.
	unsigned x = 1;
	for (int k = 0; k < 400; k++) {
		x = x * 1103515245 + 12345;
		int i = x >> 8 & 0xff;
		i %= files;
		int fd = open_file(i);
		size_t at = (size_t)(x >> 4) % (size / 4096) * 4096;
		unsigned char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, at);
		check("mixed", p != MAP_FAILED && pread(fd, buf, 4096, at) == 4096 && memcmp(p, buf, 4096) == 0);
		munmap(p, 4096);
		close(fd);
	}
	ok("mixed");

	for (int i = 0; i < files; i++)
		all[i] = map(i);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < files; i++) {
			open_file(i);
			check("together", add(START, all[i], size) == want[i]);
		}
	ok("together");
	return 0;
}
