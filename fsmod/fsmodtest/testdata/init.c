// The first program of an initial RAM file system for Linux. It loads the drivers in /modules in the order of their names. If the
// kernel was told root=, it mounts the partition called root, as an initial RAM disk does, and runs the program init= there. Else it
// mounts /dev/NAME with the type TYPE for each file /want/NAME.TYPE, and prints what there is not as a line of that file says.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static void fail(const char *what, const char *which)
{
	printf("init: %s %s: %s\n", what, which, strerror(errno));
	exit(1);
}

static void load_modules(void)
{
	struct dirent **list;
	int n = scandir("/modules", &list, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char name[300];
		if (list[i]->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "/modules/%s", list[i]->d_name);
		int fd = open(name, O_RDONLY);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)
			fail("module", name);
		close(fd);
	}
}

// word copies the value of a parameter of the kernel.
static int word(const char *line, const char *key, char *value)
{
	const char *at = line;
	while ((at = strstr(at, key)) && at > line && at[-1] != ' ')
		at++;
	return at && sscanf(at + strlen(key), "%255[^ \n]", value) == 1;
}

static void switch_root(const char *line, char **argv)
{
	char type[256], program[256], device[300] = "";
	if (!word(line, "rootfstype=", type) || !word(line, "init=", program))
		fail("no type or program in", line);
	DIR *d = opendir("/sys/class/block");
	for (struct dirent *e; d && (e = readdir(d));) {
		char name[300], text[500] = "";
		snprintf(name, sizeof name, "/sys/class/block/%s/uevent", e->d_name);
		int fd = open(name, O_RDONLY);
		if (fd >= 0 && read(fd, text, sizeof text - 1) > 0 && strstr(text, "PARTNAME=root\n"))
			snprintf(device, sizeof device, "/dev/%s", e->d_name);
		if (fd >= 0)
			close(fd);
	}
	if (mount(device, "/root", type, MS_RDONLY, NULL) != 0)
		fail("root", device);
	if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) != 0)
		fail("move", "/dev");
	if (chdir("/root") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0)
		fail("switch to", device);
	argv[0] = program;
	execv(program, argv);
	fail("run", program);
}

static uint64_t hash(uint64_t h, const void *p, size_t n)
{
	for (const unsigned char *b = p; n > 0; n--)
		h = (h ^ *b++) * 0x100000001b3;
	return h;
}

#define HASH 0xcbf29ce484222325 // FNV-1a's start

static uint64_t content(const char *path, mode_t mode)
{
	static char buf[1 << 16];
	uint64_t h = HASH;
	if (S_ISLNK(mode)) {
		ssize_t n = readlink(path, buf, sizeof buf);
		return n < 0 ? 1 : hash(h, buf, n);
	}
	if (!S_ISREG(mode))
		return h;
	int fd = open(path, O_RDONLY);
	for (ssize_t n; (n = read(fd, buf, sizeof buf)) != 0;) {
		if (n < 0) {
			printf("init: %s: %s\n", path, strerror(errno));
			return 1;
		}
		h = hash(h, buf, n);
	}
	close(fd);
	return h;
}

// attributes is the sum of the hashes of all extended attributes, so that their order does not matter.
static uint64_t attributes(const char *path)
{
	static char names[1 << 16], value[1 << 16];
	uint64_t sum = 0;
	ssize_t n = llistxattr(path, names, sizeof names);
	for (char *name = names; name < names + n; name += strlen(name) + 1) {
		ssize_t v = lgetxattr(path, name, value, sizeof value);
		sum += v < 0 ? 1 : hash(hash(HASH, name, strlen(name) + 1), value, v);
	}
	return sum;
}

static int entries;

static int count(const char *path, const struct stat *st, int type, struct FTW *at)
{
	entries++;
	return 0;
}

// same compares the words of both lines, of which - stands for any.
static int same(char *want, char *got)
{
	char *w, *g, *ws, *gs;
	for (w = strtok_r(want, " \n", &ws), g = strtok_r(got, " \n", &gs); w && g; w = strtok_r(NULL, " \n", &ws), g = strtok_r(NULL, " \n", &gs))
		if (strcmp(w, "-") != 0 && strcmp(w, g) != 0)
			return 0;
	return !w && !g;
}

// verify prints what is otherwise in the file system at /root than the file called list says.
static void verify(const char *list)
{
	static char line[8192], path[8192], got[8192], want[8192];
	int wrong = 0, lines = 0, total;
	FILE *f = fopen(list, "r");
	if (!f || fscanf(f, "%d\n", &total) != 1)
		fail("list", list);
	for (; fgets(line, sizeof line, f); lines++) {
		char *out = path + sprintf(path, "/root/"), *in = line;
		unsigned byte;
		for (; sscanf(in, "%2x", &byte) == 1 && *in != ' '; in += 2)
			*out++ = byte;
		*out = 0;
		struct stat st;
		if (lstat(path, &st) != 0) {
			printf("init: %s\n", strerror(errno));
			memset(&st, 0, sizeof st);
		}
		snprintf(want, sizeof want, "%s", in);
		snprintf(got, sizeof got, " %o %u %u %lu %lld %lld.%09ld %u:%u %016llx %016llx\n", st.st_mode, st.st_uid, st.st_gid, (unsigned long)st.st_nlink,
			(long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, major(st.st_rdev), minor(st.st_rdev),
			(unsigned long long)content(path, st.st_mode), (unsigned long long)attributes(path));
		char was[8192];
		strcpy(was, got);
		if (!same(want, was) && wrong++ < 10)
			printf("init: %s is%sinit: want%s", path, got, in);
	}
	fclose(f);
	entries = 0;
	nftw("/root", count, 20, FTW_PHYS | FTW_MOUNT);
	if (entries != total)
		printf("init: %d entries, want %d\n", entries, total);
	printf("init: %s: %d lines, %d wrong\n", list, lines, wrong);
}

int main(int argc, char **argv)
{
	static char line[4096];
	setvbuf(stdout, NULL, _IOLBF, 0);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/root", 0755);
	if (mount("dev", "/dev", "devtmpfs", 0, NULL) != 0 || mount("proc", "/proc", "proc", 0, NULL) != 0 || mount("sys", "/sys", "sysfs", 0, NULL) != 0)
		fail("mount", "/dev, /proc, /sys");
	load_modules();
	int fd = open("/proc/cmdline", O_RDONLY);
	if (fd < 0 || read(fd, line, sizeof line - 1) < 0)
		fail("read", "/proc/cmdline");
	if (strstr(line, " root="))
		switch_root(line, argv);
	struct dirent **list;
	int n = scandir("/want", &list, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char device[300], want[300], *type;
		if (list[i]->d_name[0] == '.')
			continue;
		snprintf(want, sizeof want, "/want/%s", list[i]->d_name);
		snprintf(device, sizeof device, "/dev/%s", list[i]->d_name);
		type = strchr(device, '.');
		*type++ = 0;
		if (mount(device, "/root", type, MS_RDONLY, NULL) != 0)
			fail("mount", want);
		verify(want);
		umount("/root");
	}
	puts("init: done");
	return 0;
}
