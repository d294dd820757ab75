// Makes and gives back everything there is, many times: nothing may be left behind.
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

static long memfree(void) {
	static char buf[1000];
	int fd = open("/proc/meminfo", O_RDONLY);
	int n = read(fd, buf, sizeof buf - 1);
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	char *a = strstr(buf, "MemAvailable:");
	return a ? atol(a + 13) : -1;
}

static void *nothing(void *arg) { return arg; }

int main(void) {
	struct stat st;
	int p[2];
	static char big[100000];
	long first = 0, last = 0;
	for (int round = 0; round < 40; round++) {
		for (int i = 0; i < 500; i++) {
			char name[40];
			int fd = open("/data/many/7", O_RDONLY);
			check("open", fd >= 0 && close(fd) == 0 && stat("/data/none/x", &st) == -1);
			check("pipe", pipe(p) == 0 && write(p[1], "x", 1) == 1 && close(p[0]) == 0 && close(p[1]) == 0);
			sprintf(name, "/tmp/f%d", i);
			fd = open(name, O_RDWR | O_CREAT, 0600);
			check("tmp", fd >= 0 && write(fd, big, 5000) == 5000 && unlink(name) == 0 && close(fd) == 0);
			char *m = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			m[0] = m[50000] = 1;
			check("mmap", munmap(m, 100000) == 0);
		}
		for (int i = 0; i < 50; i++) {
			pthread_t t;
			check("thread", pthread_create(&t, NULL, nothing, NULL) == 0 && pthread_join(t, NULL) == 0);
		}
		check("big", pipe(p) == 0 && write(p[1], big, 60000) == 60000 && close(p[0]) == 0 && close(p[1]) == 0);
		last = memfree();
		if (round == 20)
			first = last;
	}
	printf("available %ld KiB, then %ld KiB\n", first, last);
	check("leak", last > first - 1024);
	ok("churn");
	// A hole as large as a file can be, and more than there is.
	int fd = open("/tmp/hole", O_RDWR | O_CREAT, 0600);
	check("hole", pwrite(fd, "x", 1, (64l << 30) - 1) == 1 && pwrite(fd, "x", 1, 64l << 30) == -1 && errno == EFBIG);
	check("hole", pread(fd, big, 1, 1l << 35) == 1 && big[0] == 0 && fstat(fd, &st) == 0 && st.st_blocks == 8 && close(fd) == 0 && unlink("/tmp/hole") == 0);
	fd = open("/tmp/full", O_RDWR | O_CREAT, 0600);
	long n, total = 0;
	while ((n = write(fd, big, sizeof big)) > 0)
		total += n;
	check("full", write(fd, big, sizeof big) == -1 && errno == ENOSPC);
	check("full", ftruncate(fd, 0) == 0 && write(fd, big, sizeof big) == sizeof big && close(fd) == 0 && unlink("/tmp/full") == 0);
	ok("full");
	fd = memfd_create("m", MFD_CLOEXEC);
	check("memfd", fd >= 0 && ftruncate(fd, 8192) == 0);
	char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check("memfd", m != MAP_FAILED && (m[4096] = 'q', 1) && pread(fd, big, 1, 4096) == 1 && big[0] == 'q');
	ok("memfd");
	return 0;
}
