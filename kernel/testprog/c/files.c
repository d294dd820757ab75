// Files, directories, links, the file systems of the kernel.
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <termios.h>

static int has(const char *dir, const char *name, int type) {
	DIR *d = opendir(dir);
	int n = 0;
	if (!d)
		return -1;
	for (struct dirent *e; (e = readdir(d));)
		n += !strcmp(e->d_name, name) && (type == 0 || e->d_type == type);
	closedir(d);
	return n;
}

static char *slurp(const char *path, char *buf, size_t size) {
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return NULL;
	ssize_t n, at = 0;
	while ((n = read(fd, buf + at, size - 1 - at)) > 0)
		at += n;
	close(fd);
	buf[at] = 0;
	return n < 0 ? NULL : buf;
}

int main(void) {
	static unsigned char big[300000];
	static char buf[65536];
	struct stat st;
	void *volatile nowhere = NULL;
	int fd = open("/data/bytes", O_RDONLY);
	check("read", fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 300000 && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0640);
	ssize_t at = 0;
	for (int step = 1; at < 300000; step = step * 3 % 5003 + 1) {
		ssize_t n = read(fd, big + at, step);
		check("read", n > 0);
		at += n;
	}
	check("read", at == 300000 && read(fd, big, 10) == 0);
	for (int i = 0; i < 300000; i++)
		check("read", big[i] == (unsigned char)(i * 7 + i / 251));
	check("read", lseek(fd, -5, SEEK_END) == 299995 && read(fd, buf, 100) == 5 && (unsigned char)buf[4] == (unsigned char)(299999 * 7 + 299999 / 251));
	check("read", pread(fd, buf, 3, 65535) == 3 && (unsigned char)buf[1] == (unsigned char)(65536 * 7 + 65536 / 251));
	struct iovec iov[3] = {{buf, 10}, {buf + 100, 0}, {buf + 200, 20}};
	check("read", lseek(fd, 0, SEEK_SET) == 0 && readv(fd, iov, 3) == 30 && (unsigned char)buf[219] == (unsigned char)(29 * 7));
	check("read", read(fd, nowhere, 10) == -1 && errno == EFAULT);
	check("read", write(fd, "x", 1) == -1 && errno == EBADF);
	close(fd);
	check("read", read(fd, buf, 1) == -1 && errno == EBADF);
	ok("read");

	check("stat", stat("/data/none", &st) == -1 && errno == ENOENT);
	check("stat", stat("/data/bytes/x", &st) == -1 && errno == ENOTDIR);
	check("stat", stat("/data/bytes/", &st) == -1 && errno == ENOTDIR);
	check("stat", stat("/data/", &st) == 0 && S_ISDIR(st.st_mode));
	check("stat", lstat("/data/link", &st) == 0 && S_ISLNK(st.st_mode) && st.st_size == 5);
	check("stat", stat("/data/link", &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 300000);
	check("stat", readlink("/data/link", buf, 3) == 3 && !memcmp(buf, "byt", 3));
	check("stat", stat("/data/loop", &st) == -1 && errno == ELOOP);
	check("stat", stat("/data/up/data/up/data/bytes", &st) == 0 && stat("/data/../../data/./bytes", &st) == 0);
	check("stat", open("/data/link", O_RDONLY | O_NOFOLLOW) == -1 && errno == ELOOP);
	check("stat", open("/data/bytes", O_RDONLY | O_DIRECTORY) == -1 && errno == ENOTDIR);
	check("stat", open("/data", O_WRONLY) == -1 && errno == EISDIR);
	memset(buf, 'a', 300);
	buf[300] = 0;
	check("stat", stat(buf, &st) == -1 && errno == ENAMETOOLONG);
	memset(buf, '/', 5000);
	buf[5000] = 0;
	check("stat", stat(buf, &st) == -1 && errno == ENAMETOOLONG);
	check("stat", stat("", &st) == -1 && errno == ENOENT);
	unsigned long sx[32];
	check("stat", syscall(SYS_statx, AT_FDCWD, "/data/bytes", 0, 0x7ff, sx) == 0 && sx[5] == 300000);
	check("stat", access("/data/bytes", R_OK) == 0 && access("/data/bytes", X_OK) == -1 && access("/data/bytes", W_OK) == -1 && access("/data", X_OK) == 0);
	ok("stat");

	check("rofs", open("/data/new", O_RDWR | O_CREAT, 0600) == -1 && errno == EROFS);
	check("rofs", open("/data/bytes", O_RDWR) == -1 && errno == EROFS);
	check("rofs", mkdir("/data/d", 0700) == -1 && errno == EROFS);
	check("rofs", mkdir("/data", 0700) == -1 && errno == EEXIST);
	check("rofs", unlink("/data/bytes") == -1 && errno == EROFS);
	check("rofs", rename("/data/bytes", "/data/b") == -1 && errno == EROFS);
	check("rofs", rename("/data/bytes", "/tmp/b") == -1 && errno == EXDEV);
	check("rofs", chmod("/data/bytes", 0) == -1 && errno == EROFS);
	check("rofs", truncate("/data/bytes", 0) == -1 && errno == EROFS);
	struct statfs sf;
	check("rofs", statfs("/data", &sf) == 0 && sf.f_flags & 1);
	ok("rofs");

	check("dir", has("/", "data", DT_DIR) == 1 && has("/", "dev", DT_DIR) == 1 && has("/", "tmp", 0) == 1 && has("/", "proc", 0) == 1);
	check("dir", has("/", ".", 0) == 1 && has("/", "..", 0) == 1);
	check("dir", has("/data", "bytes", DT_REG) == 1 && has("/data", "link", DT_LNK) == 1);
	DIR *d = opendir("/data/many");
	int n = 0;
	long middle = 0;
	char name[300] = "";
	for (struct dirent *e; d && (e = readdir(d));) {
		if (n == 500)
			strcpy(name, e->d_name);
		if (++n == 500)
			middle = telldir(d);
	}
	check("dir", n == 1002);
	seekdir(d, middle);
	check("dir", !strcmp(readdir(d)->d_name, name));
	rewinddir(d);
	for (n = 0; readdir(d); n++)
		;
	check("dir", n == 1002 && closedir(d) == 0);
	ok("dir");

	check("cwd", getcwd(buf, sizeof buf) && !strcmp(buf, "/") && chdir("/data/many") == 0 && getcwd(buf, sizeof buf) && !strcmp(buf, "/data/many"));
	check("cwd", access("../bytes", F_OK) == 0 && chdir("../..") == 0 && access("data", F_OK) == 0);
	int dir = open("/data", O_RDONLY | O_DIRECTORY);
	check("cwd", dir >= 0 && faccessat(dir, "bytes", F_OK, 0) == 0 && fstatat(dir, "", &st, AT_EMPTY_PATH) == 0 && S_ISDIR(st.st_mode));
	check("cwd", fchdir(dir) == 0 && access("bytes", F_OK) == 0 && chdir("bytes") == -1 && errno == ENOTDIR && chdir("/") == 0);
	ok("cwd");

	fd = open("/tmp/f", O_RDWR | O_CREAT | O_EXCL, 0666);
	check("tmp", fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0644 && st.st_size == 0 && st.st_nlink == 1);
	check("tmp", open("/tmp/f", O_RDWR | O_CREAT | O_EXCL, 0666) == -1 && errno == EEXIST);
	check("tmp", write(fd, big, 300000) == 300000 && lseek(fd, 0, SEEK_CUR) == 300000);
	check("tmp", lseek(fd, 1000000, SEEK_SET) == 1000000 && write(fd, "end", 3) == 3 && fstat(fd, &st) == 0 && st.st_size == 1000003);
	check("tmp", pread(fd, buf, 10, 500000) == 10 && !memcmp(buf, "\0\0\0\0\0\0\0\0\0\0", 10));
	check("tmp", pread(fd, buf, 65536, 200000) == 65536 && !memcmp(buf, big + 200000, 65536));
	int fd2 = dup(fd);
	check("tmp", fd2 >= 0 && lseek(fd2, 5, SEEK_SET) == 5 && lseek(fd, 0, SEEK_CUR) == 5 && close(fd2) == 0);
	check("tmp", ftruncate(fd, 100) == 0 && pread(fd, buf, 1000, 0) == 100 && ftruncate(fd, 5000) == 0 && pread(fd, buf, 1, 150) == 1 && buf[0] == 0);
	check("tmp", link("/tmp/f", "/tmp/g") == 0 && fstat(fd, &st) == 0 && st.st_nlink == 2);
	check("tmp", mkdir("/tmp/d", 0755) == 0 && rename("/tmp/g", "/tmp/d/h") == 0 && access("/tmp/g", F_OK) == -1 && access("/tmp/d/h", F_OK) == 0);
	check("tmp", rmdir("/tmp/d") == -1 && errno == ENOTEMPTY && unlink("/tmp/d") == -1 && errno == EISDIR);
	check("tmp", symlink("../f", "/tmp/d/s") == 0 && stat("/tmp/d/s", &st) == 0 && st.st_size == 5000);
	check("tmp", rename("/tmp/d", "/tmp/d/sub") == -1 && errno == EINVAL);
	check("tmp", chdir("/tmp/d") == 0 && rename("/tmp/d", "/tmp/e") == 0 && getcwd(buf, sizeof buf) && !strcmp(buf, "/tmp/e"));
	check("tmp", has("/tmp/e", "h", DT_REG) == 1 && has(".", "s", DT_LNK) == 1 && unlink("h") == 0 && unlink("s") == 0 && chdir("/") == 0 && rmdir("/tmp/e") == 0);
	check("tmp", unlink("/tmp/f") == 0 && pread(fd, buf, 5, 0) == 5 && fstat(fd, &st) == 0 && st.st_nlink == 0 && close(fd) == 0);
	fd = open("/tmp/a", O_WRONLY | O_CREAT | O_APPEND, 0600);
	check("tmp", write(fd, "abc", 3) == 3 && lseek(fd, 0, SEEK_SET) == 0 && write(fd, "def", 3) == 3 && fstat(fd, &st) == 0 && st.st_size == 6);
	close(fd);
	fd = open("/tmp/a", O_RDWR | O_TRUNC);
	check("tmp", fstat(fd, &st) == 0 && st.st_size == 0 && close(fd) == 0 && unlink("/tmp/a") == 0);
	FILE *f = tmpfile();
	check("tmp", f && fprintf(f, "%d\n", 77) == 3 && (rewind(f), fscanf(f, "%d", &n)) == 1 && n == 77);
	fclose(f);
	fd = shm_open("/seg", O_RDWR | O_CREAT, 0600);
	check("tmp", fd >= 0 && access("/dev/shm/seg", F_OK) == 0 && shm_unlink("/seg") == 0 && close(fd) == 0);
	ok("tmp");

	fd = open("/dev/null", O_RDWR);
	check("dev", fd >= 0 && write(fd, buf, 100) == 100 && read(fd, buf, 100) == 0 && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && close(fd) == 0);
	memset(buf, 1, 100);
	fd = open("/dev/zero", O_RDWR);
	check("dev", read(fd, buf, 100) == 100 && buf[0] == 0 && buf[99] == 0 && close(fd) == 0);
	fd = open("/dev/full", O_RDWR);
	check("dev", write(fd, "x", 1) == -1 && errno == ENOSPC && close(fd) == 0);
	fd = open("/dev/urandom", O_RDONLY);
	char other[32];
	check("dev", read(fd, buf, 32) == 32 && read(fd, other, 32) == 32 && memcmp(buf, other, 32) && close(fd) == 0);
	struct termios tio;
	check("dev", !isatty(0) && !isatty(1) && tcgetattr(1, &tio) == -1 && errno == ENOTTY);
	check("dev", read(0, buf, 10) == 0);
	fd = open("/dev/stdout", O_WRONLY);
	check("dev", fd >= 0 && write(fd, "", 0) == 0 && close(fd) == 0);
	fd = open("/dev/mark", O_WRONLY);
	check("dev", fd >= 0 && write(fd, "files", 5) == 5 && close(fd) == 0);
	ok("dev");

	check("proc", readlink("/proc/self/exe", buf, sizeof buf) > 0 && strstr(buf, "files"));
	check("proc", slurp("/proc/self/cmdline", buf, sizeof buf) && strstr(buf, "files"));
	check("proc", slurp("/proc/self/maps", buf, sizeof buf) && strstr(buf, "[stack]") && strstr(buf, "r-xp") && strstr(buf, "files"));
	check("proc", slurp("/proc/meminfo", buf, sizeof buf) && strstr(buf, "MemTotal:") && strstr(buf, "MemAvailable:"));
	check("proc", slurp("/proc/self/status", buf, sizeof buf) && strstr(buf, "VmRSS:") && strstr(buf, "Threads:\t1\n"));
	check("proc", slurp("/proc/self/stat", buf, sizeof buf) && !strncmp(buf, "1 (", 3));
	check("proc", slurp("/proc/self/mountinfo", buf, sizeof buf) && !strcmp(buf, "2 1 0:2 / / ro - rofs rofs ro\n3 2 0:3 / /dev rw - devtmpfs devtmpfs rw\n"
		"4 3 0:4 / /dev/shm rw - tmpfs tmpfs rw\n5 2 0:5 / /proc rw - proc proc rw\n6 2 0:6 / /tmp rw - tmpfs tmpfs rw\n"));
	check("proc", slurp("/proc/mounts", buf, sizeof buf) && strstr(buf, "rofs / rofs ro") && strstr(buf, "tmpfs /dev/shm tmpfs rw"));
	check("proc", slurp("/proc/sys/kernel/osrelease", buf, sizeof buf) && slurp("/proc/cpuinfo", buf, sizeof buf) && slurp("/proc/uptime", buf, sizeof buf));
	check("proc", has("/proc/self/fd", "0", 0) == 1 && has("/proc/self/fd", "77", 0) == 0);
	ok("proc");

	check("fcntl", fcntl(1, F_GETFL) >= 0 && fcntl(99, F_GETFL) == -1 && errno == EBADF);
	fd = open("/data/bytes", O_RDONLY | O_CLOEXEC);
	check("fcntl", fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(fd, F_SETFD, 0) == 0 && fcntl(fd, F_GETFD) == 0);
	check("fcntl", dup2(fd, 50) == 50 && fcntl(fd, F_DUPFD, 60) == 60 && dup2(fd, fd) == fd && close(50) == 0 && close(60) == 0 && close(fd) == 0);
	ok("fcntl");
	return 0;
}
