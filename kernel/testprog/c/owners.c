// Checks that the owners of RAM add up to it, and that what is counted is what is found: at the start, amid all kinds of use, at the end.
// With arguments: touches that many MiB, the first and the last pages of a mapping of them.
#include "check.h"
#include <fcntl.h>
#include <sys/mman.h>

static long ram, app, bss;

static void owners(const char *when) {
	static char b[4096]; // static: a page that this touches would be counted after it was found
	int fd = open("/proc/memowners", O_RDONLY);
	int n = read(fd, b, sizeof b - 1);
	close(fd);
	check("proc", n > 0);
	b[n] = 0;
	long sum = 0, free = 0;
	for (char *line = strtok(b, "\n"); line; line = strtok(NULL, "\n")) {
		char *tab = strchr(line, '\t');
		check("line", tab != NULL);
		*tab = 0;
		char *end;
		long counted = strtol(tab + 1, &end, 10);
		check("number", counted >= 0 && *end == '\t');
		sum += counted;
		// The kernel's heap may take a page between the two.
		long found = end[1] == '-' ? counted : strtol(end + 1, NULL, 10);
		long slack = !strcmp(line, "kernel heap") || !strcmp(line, "free") ? 40 : !strcmp(line, "kernel page tables") ? 1 : 0;
		if (labs(found - counted) > slack) {
			printf("%s: %s: counted %ld, found %ld\n", when, line, counted, found);
			check("found", 0);
		}
		if (!strcmp(line, "app"))
			app = counted;
		if (!strcmp(line, "free"))
			free = counted;
		if (!strcmp(line, "kernel bss"))
			bss = counted;
	}
	check("sum", ram == 0 || sum == ram);
	ram = sum;
	check("some free", free > 0);
	printf("ok %s\n", when);
	fflush(stdout);
}

static char large[32 << 20];

int main(int argc, char **argv) {
	owners("start");
	if (argc > 1) { // at both ends of RAM: what is taken first and what last
		long n = atol(argv[1]) << 20, step = atol(argv[2]) << 12;
		volatile char *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		check("map", m != MAP_FAILED);
		for (long i = 0; i < n; i += step)
			*(volatile long *)(m + i) = i ^ 0x5a5a5a5a;
		for (long i = 0; i < n; i += step)
			check("kept", *(volatile long *)(m + i) == (i ^ 0x5a5a5a5a));
		check("app", app >= 0);
		owners("full");
		munmap((void *)m, n);
		printf("%ld MiB\n", ram >> 8);
		owners("end");
		return 0;
	}
	long before = app;
	check("BSS costs nothing", app < 300);
	large[5 << 20] = large[31 << 20] = 1;
	owners("bss");
	check("but where it is touched", app - before >= 2 && app - before < 20);
	int p[2];
	char *m = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 32; i++)
		m[i << 21] = 1;
	check("pipe", pipe(p) == 0 && write(p[1], large, 50000) == 50000);
	int fd = open("/tmp/f", O_RDWR | O_CREAT, 0600);
	check("file", write(fd, large, 200000) == 200000);
	char *f = mmap(NULL, 200000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	f[100000] = 1;
	int self = open(argv[0], O_RDONLY);
	volatile char *g = mmap(NULL, 200000, PROT_READ | PROT_WRITE, MAP_PRIVATE, self, 0);
	g[5000] = g[100000];
	owners("mid");
	close(p[0]);
	close(p[1]);
	munmap(m, 64 << 20);
	munmap(f, 200000);
	munmap((void *)g, 200000);
	close(fd);
	unlink("/tmp/f");
	owners("end");
	check("given back", app - before < 100);
	return 0;
}
