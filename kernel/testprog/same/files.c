// Files in memory: transfers at the edge of what is mapped, opening, attributes, names, directories, locks, devices. What this prints under
// Linux it has to print in the guest.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/file.h>
#include <sys/time.h>
#include <sys/sysmacros.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#define say(...) (printf(__VA_ARGS__), fflush(stdout))
#define result(name, call) do { errno = 0; long r_ = (long)(call); int e_ = errno; say("%s: %ld errno %d\n", name, r_, e_); } while (0)

static char buf[70000];
static int d; // a directory of our own in /tmp

static char base[64];
static const char *in(const char *n) {
	static char p[4][300];
	static int i;
	i = (i + 1) % 4;
	sprintf(p[i], "%s/%s", base, n);
	return p[i];
}

static int mk(const char *n, const char *text) {
	int fd = open(in(n), O_RDWR | O_CREAT | O_TRUNC, 0644);
	write(fd, text, strlen(text));
	return fd;
}

static char *none; // two pages, the second without access

static char *edge(int n) {
	return none + 4096 - n;
}

static void rw(void) {
	int fd = mk("f", "0123456789");
	result("readv mix", ({ struct iovec v[3] = {{buf, 3}, {(void *)8, 3}, {buf, 3}}; lseek(fd, 0, 0); readv(fd, v, 3); }));
	result("pos", lseek(fd, 0, 1));
	result("readv first bad", ({ struct iovec v[2] = {{(void *)8, 3}, {buf, 3}}; lseek(fd, 0, 0); readv(fd, v, 2); }));
	result("pos", lseek(fd, 0, 1));
	result("readv zero bad", ({ struct iovec v[2] = {{(void *)8, 0}, {buf, 3}}; lseek(fd, 0, 0); readv(fd, v, 2); }));
	result("readv 0", readv(fd, NULL, 0));
	result("readv neg", readv(fd, NULL, -1));
	result("readv 1025", readv(fd, (void *)buf, 1025));
	result("readv ptr", readv(fd, (void *)8, 1));
	result("readv len neg", ({ struct iovec v = {buf, -1}; readv(fd, &v, 1); }));
	result("readv sum", ({ struct iovec v[2] = {{buf, 0x7fffffffffffffff}, {buf, 10}}; readv(fd, v, 2); }));
	result("kernel ptr", ({ struct iovec v[2] = {{buf, 3}, {(void *)0xffff888000000000, 10}}; readv(fd, v, 2); }));
	lseek(fd, 0, 0);
	result("read over the edge", read(fd, edge(4), 10));
	result("pos", lseek(fd, 0, 1));
	lseek(fd, 0, 0);
	result("write over the edge", write(fd, edge(4), 10));
	result("pos", lseek(fd, 0, 1));
	result("write none", write(fd, none + 4096, 10));
	result("pwrite over", pwrite(fd, edge(3), 6, 100));
	result("read null 0", read(fd, NULL, 0));
	result("read bad 0", read(fd, (void *)0xffff888000000000, 0));
	result("write null 0", write(fd, NULL, 0));
	result("read -1", read(-1, buf, 1));
	result("read len -1", read(fd, buf, -1));
	result("write len -1", syscall(SYS_write, 1000, buf, -1));
	result("pread neg", pread(fd, buf, 1, -1));
	result("pwrite neg", pwrite(fd, buf, 1, -1));
	result("pread max", pread(fd, buf, 1, 0x7fffffffffffffff));
	result("pwrite max", pwrite(fd, "x", 1, 0x7fffffffffffffff));
	result("preadv2 hipri", ({ struct iovec v = {buf, 3}; preadv2(fd, &v, 1, 0, RWF_HIPRI); }));
	result("preadv2 bad", ({ struct iovec v = {buf, 3}; preadv2(fd, &v, 1, 0, 0x1000); }));
	result("preadv2 -1 bad", ({ struct iovec v = {buf, 3}; preadv2(fd, &v, 1, -1, 0x1000); }));
	result("preadv2 nowait", ({ struct iovec v = {buf, 3}; preadv2(fd, &v, 1, 0, RWF_NOWAIT); }));
	result("pwritev2 append", ({ struct iovec v = {"zz", 2}; pwritev2(fd, &v, 1, 0, RWF_APPEND); }));
	result("size", lseek(fd, 0, SEEK_END));
	result("preadv2 append", ({ struct iovec v = {buf, 2}; preadv2(fd, &v, 1, 0, RWF_APPEND); }));
	result("pwritev2 dsync", ({ struct iovec v = {"zz", 2}; pwritev2(fd, &v, 1, 0, RWF_DSYNC | RWF_SYNC); }));
	result("preadv neg", ({ struct iovec v = {buf, 3}; preadv(fd, &v, 1, -5); }));
	int ro = open(in("f"), O_RDONLY), wo = open(in("f"), O_WRONLY);
	result("read wo", read(wo, buf, 1));
	result("write ro", write(ro, buf, 1));
	result("pread wo", pread(wo, buf, 1, 0));
	result("readv wo 0", readv(wo, NULL, 0));
	result("read wo 0", read(wo, NULL, 0));
	result("read dir", read(d, buf, 1));
	result("read dir 0", read(d, buf, 0));
	result("pread dir", pread(d, buf, 1, 0));
	result("write dir", write(d, buf, 1));
	result("lseek past", lseek(fd, 1L << 40, 0));
	result("read there", read(fd, buf, 1));
	result("lseek over", lseek(fd, 0x7fffffffffffffff, 1));
	result("lseek neg", lseek(fd, -1, 0));
	result("lseek whence", lseek(fd, 0, 9));
	result("lseek end -", lseek(fd, -2, 2) > 0);
	result("lseek bad", lseek(-1, 0, 0));
	int p[2];
	pipe(p);
	result("lseek pipe", lseek(p[0], 0, 0));
	result("pread pipe", pread(p[0], buf, 1, 0));
	result("pwrite pipe", pwrite(p[1], buf, 1, 0));
	result("read pipe wrong end", read(p[1], buf, 1));
	result("write wrong end", write(p[0], buf, 1));
	result("ftruncate pipe", ftruncate(p[1], 0));
	result("fsync pipe", fsync(p[0]));
	result("fdatasync", fdatasync(fd));
	result("fsync bad", fsync(-1));
	result("syncfs", syncfs(fd));
	// partial faults in the middle of a copy, pipes
	result("pipe write over", write(p[1], edge(5), 10));
	result("pipe avail", ({ int n = 0; ioctl(p[0], FIONREAD, &n); n; }));
	write(p[1], "abcdefghij", 10);
	result("pipe read over", read(p[0], edge(5), 12));
	result("pipe avail", ({ int n = 0; ioctl(p[0], FIONREAD, &n); n; }));
	result("pipe read none", read(p[0], none + 4096, 12));
	result("pipe avail", ({ int n = 0; ioctl(p[0], FIONREAD, &n); n; }));
	close(p[0]), close(p[1]);
	result("sendfile", ({ int o = mk("o", ""); off_t off = 3; int r = sendfile(o, ro, &off, 5); say("off %ld\n", (long)off); close(o); r; }));
	result("sendfile neg", ({ off_t off = -3; sendfile(fd, ro, &off, 5); }));
	result("sendfile dir", sendfile(fd, d, NULL, 5));
	result("sendfile ptr", sendfile(fd, ro, (void *)8, 5));
	result("sendfile out ro", sendfile(ro, ro, NULL, 5));
	close(ro), close(wo), close(fd);
}

static void opens(void) {
	close(mk("f", "x"));
	symlink("f", in("ln"));
	symlink("nothing", in("dang"));
	symlink("loopb", in("loopa"));
	symlink("loopa", in("loopb"));
	mkdir(in("dir"), 0755);
	symlink("dir", in("dln"));
#define O(name, path, fl) result(name, ({ int f_ = openat(d, path, fl, 0600); if (f_ >= 0) { close(f_); f_ = 0; } f_; })) O("creat dangling", "dang", O_CREAT | O_WRONLY); result("it is there", access(in("nothing"), F_OK)); unlink(in("nothing")); O("excl dangling", "dang", O_CREAT | O_EXCL | O_WRONLY); O("excl link", "ln", O_CREAT | O_EXCL | O_WRONLY); O("nofollow", "ln", O_NOFOLLOW); O("nofollow path", "ln", O_NOFOLLOW | O_PATH); O("nofollow dangling creat", "dang", O_NOFOLLOW | O_CREAT | O_RDWR); O("loop", "loopa", 0); O("loop creat", "loopa", O_CREAT | O_RDWR); O("dir wr", "dir", O_RDWR); O("dir creat", "dir", O_CREAT | O_RDONLY); O("dir trunc", "dir", O_TRUNC); O("dir creat excl", "dir", O_CREAT | O_EXCL); O("dirlink nofollow directory", "dln", O_NOFOLLOW | O_DIRECTORY); O("dirlink/", "dln/", O_NOFOLLOW | O_DIRECTORY); O("file/", "f/", 0); O("new/", "new/", O_CREAT | O_RDWR); O("ln/", "ln/", 0); O("dang/", "dang/", 0); O("dang/ creat", "dang/", O_CREAT | O_RDWR); O("directory creat", "nf", O_CREAT | O_DIRECTORY | O_RDWR); O("directory on f", "f", O_DIRECTORY); O("empty", "", 0); O("dot", ".", 0); O("dot creat", ".", O_CREAT | O_RDWR); O("dotdot excl", "..", O_CREAT | O_EXCL | O_RDWR); O("f/x", "f/x", 0); O("no/x", "no/x", O_CREAT | O_RDWR); O("dang/x", "dang/x", O_CREAT | O_RDWR); O("acc 3", "f", 3); O("wronly|rdwr trunc", "f", O_TRUNC); O("path creat", "newp", O_PATH | O_CREAT); O("bad flags", "f", 0x40000000); O("append trunc", "f", O_APPEND | O_TRUNC | O_WRONLY); result("addr", openat(d, (void *)8, 0)); result("bad dirfd", openat(99, "f", 0)); result("file dirfd", ({ int f_ = open(in("f"), 0); int r = openat(f_, "x", 0); int e = errno; close(f_); errno = e; r; })); result("bad dirfd absolute", ({ int r = openat(99, "/", 0); if (r >= 0) close(r), r = 0; r; })); result("file dirfd dot", ({ int f_ = open(in("f"), 0); int r = openat(f_, ".", 0); int e = errno; close(f_); errno = e; r; })); result("mode", ({ umask(027); close(openat(d, "m", O_CREAT | O_WRONLY, 07777)); struct stat s; fstatat(d, "m", &s, 0); umask(022); s.st_mode & 07777; })); result("mkdir mode", ({ umask(027); mkdirat(d, "md", 07777); struct stat s; fstatat(d, "md", &s, 0); umask(022); s.st_mode & 07777; })); int fl[] = {O_RDONLY, O_WRONLY, O_RDWR | O_APPEND, O_RDWR | O_NONBLOCK | O_CLOEXEC, O_WRONLY | O_CREAT | O_TRUNC, O_PATH, O_RDWR | O_SYNC, O_RDONLY | O_NOATIME, O_RDONLY | O_NOFOLLOW, O_RDWR | O_DSYNC}; for (int i = 0; i < 10; i++) { int f_ = openat(d, "f", fl[i], 0600); say("getfl %x: %x fd %d\n", fl[i], fcntl(f_, F_GETFL), fcntl(f_, F_GETFD)); fcntl(f_, F_SETFL, O_APPEND | O_NONBLOCK | O_ASYNC * 0 | O_WRONLY | O_SYNC); say("  after set %x\n", fcntl(f_, F_GETFL)); close(f_); } int dd = openat(d, "dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC); say("dir getfl %x\n", fcntl(dd, F_GETFL)); close(dd); int op = openat(d, "f", O_PATH); result("opath read", read(op, buf, 1)); result("opath fstat", fstat(op, (struct stat *)buf)); result("opath fchmod", fchmod(op, 0600)); result("opath fchown", fchown(op, 0, 0)); result("opath lseek", lseek(op, 0, 0)); result("opath ftruncate", ftruncate(op, 0)); result("opath fsync", fsync(op)); result("opath ioctl", ioctl(op, FIONREAD, buf)); result("opath mmap", (long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, op, 0)); result("opath fchdir", fchdir(op)); result("opath dup", ({ int r = dup(op); if (r >= 0) close(r), r = 0; r; })); result("opath getdents", syscall(SYS_getdents64, op, buf, 1000)); result("opath poll", ({ struct { int fd; short e, r; } pf = {op, 1, 0}; int r = syscall(SYS_poll, &pf, 1, 0); say("rev %x\n", pf.r); r; })); result("opath fcntl setfl", fcntl(op, F_SETFL, O_APPEND)); result("opath flock", flock(op, LOCK_SH)); result("opath fallocate", fallocate(op, 0, 0, 10)); result("opath write", write(op, "x", 1)); result("opath fstatfs", fstatfs(op, (struct statfs *)buf)); result("opath fgetxattr", syscall(SYS_fgetxattr, op, "user.a", buf, 10)); result("opath futimens", futimens(op, NULL)); result("opath sendfile", sendfile(op, op, NULL, 1)); close(op); int ol = openat(d, "ln", O_PATH | O_NOFOLLOW); result("link readlinkat", readlinkat(ol, "", buf, 100)); result("link fstat", ({ struct stat s; fstat(ol, &s); S_ISLNK(s.st_mode); })); close(ol); result("unlinked then path", ({ int f_ = openat(d, "m", 0); unlinkat(d, "m", 0); char l[64], t[200]; sprintf(l, "/proc/self/fd/%d", f_); int n = readlink(l, t, 199); t[n] = 0; say("%s\n", t + strlen(base)); int g = open(l, O_RDONLY); int r = g >= 0; close(g); close(f_); r; })); 
}

static void stats(void) {
	struct stat s;
	struct statx x;
	int fd = mk("f", "hello");
	link(in("f"), in("g"));
	fstat(fd, &s);
	say("mode %o nlink %ld size %ld blksize %ld blocks>0 %d dev %d ino %d\n", s.st_mode, s.st_nlink, (long)s.st_size, (long)s.st_blksize, s.st_blocks
		> 0, s.st_dev != 0, s.st_ino != 0);
	result("empty no flag", fstatat(d, "", &s, 0));
	result("empty", fstatat(fd, "", &s, AT_EMPTY_PATH));
	result("null empty", syscall(SYS_newfstatat, fd, NULL, &s, AT_EMPTY_PATH));
	result("null", syscall(SYS_newfstatat, fd, NULL, &s, 0));
	result("bad flag", fstatat(d, "f", &s, 0x8000));
	result("buf", syscall(SYS_newfstatat, d, "f", 8, 0));
	result("bad fd", fstatat(99, "f", &s, 0));
	result("cwd empty", fstatat(AT_FDCWD, "", &s, AT_EMPTY_PATH));
	result("fd empty 99", fstatat(99, "", &s, AT_EMPTY_PATH));
	result("not dir rel", fstatat(fd, "f", &s, 0));
	result("pipe dirfd", ({ int p[2]; pipe(p); int r = fstatat(p[0], "x", &s, 0); int e = errno; close(p[0]), close(p[1]); errno = e; r; }));
	memset(&x, 0, sizeof x);
	result("statx", statx(d, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &x));
	say("mask basic %d mode %o size %llu nlink %u blksize %u mnt %d\n", (x.stx_mask & 0x7ff) == 0x7ff, x.stx_mode, x.stx_size, x.stx_nlink,
		x.stx_blksize, 0);
	result("statx reserved", statx(d, "f", 0, 0x80000000, &x));
	result("statx both sync", statx(d, "f", 0x6000, 0, &x));
	result("statx bad flag", statx(d, "f", 0x10, 0, &x));
	result("statx fd", statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &x));
	result("statx null", syscall(SYS_statx, fd, NULL, AT_EMPTY_PATH, STATX_SIZE, &x));
	result("statx buf", syscall(SYS_statx, d, "f", 0, 0, 8));
	result("statx mask 0", statx(d, "f", 0, 0, &x));
	result("statx nofollow", statx(d, "ln", AT_SYMLINK_NOFOLLOW, STATX_MODE, &x));
	result("access f", faccessat(d, "f", X_OK, 0));
	chmod(in("f"), 0);
	result("access rw mode 0", faccessat(d, "f", R_OK | W_OK, 0));
	result("access x mode 0", faccessat(d, "f", X_OK, 0));
	result("open mode 0", ({ int r = open(in("f"), O_RDWR); if (r >= 0) close(r), r = 0; r; }));
	chmod(in("f"), 010);
	result("access x mode 010", faccessat(d, "f", X_OK, 0));
	result("access bad mode", syscall(SYS_faccessat, d, "f", 8));
	result("access bad flag", syscall(SYS_faccessat2, d, "f", 0, 0x8000));
	result("access dang", faccessat(d, "dang", F_OK, 0));
	result("access dang nofollow", faccessat(d, "dang", F_OK, AT_SYMLINK_NOFOLLOW));
	result("access empty", syscall(SYS_faccessat2, fd, "", 0, AT_EMPTY_PATH));
	result("access eaccess", faccessat(d, "f", R_OK, AT_EACCESS));
	result("access empty str", access("", 0));
	result("access null", access(NULL, 0));
	result("chmod", fchmod(fd, 07777));
	fstat(fd, &s);
	say("mode %o\n", s.st_mode);
	result("chown", fchown(fd, 5, 6));
	fstat(fd, &s);
	say("mode %o uid %d gid %d\n", s.st_mode, s.st_uid, s.st_gid);
	result("chown -1", fchown(fd, -1, 7));
	fstat(fd, &s);
	say("uid %d gid %d\n", s.st_uid, s.st_gid);
	result("lchown", fchownat(d, "ln", 9, 9, AT_SYMLINK_NOFOLLOW));
	fstatat(d, "ln", &s, AT_SYMLINK_NOFOLLOW);
	say("uid %d\n", s.st_uid);
	result("fchownat empty", fchownat(fd, "", 1, 1, AT_EMPTY_PATH));
	result("fchownat flag", fchownat(fd, "", 1, 1, 0x8000));
	result("fchmodat link", fchmodat(d, "ln", 0600, 0));
	result("fchmodat null", syscall(SYS_fchmodat, d, NULL, 0));
	result("write clears suid", ({ fchmod(fd, 06755); write(fd, "x", 1); fstat(fd, &s); s.st_mode & 07777; }));
	struct timespec ts[2] = {{1000, 5}, {2000, 7}};
	result("utimens", futimens(fd, ts));
	fstat(fd, &s);
	say("%ld.%ld %ld.%ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
	ts[0].tv_nsec = UTIME_OMIT;
	ts[1].tv_sec = 3000;
	result("omit", futimens(fd, ts));
	fstat(fd, &s);
	say("%ld %ld\n", s.st_atim.tv_sec, s.st_mtim.tv_sec);
	ts[1].tv_nsec = 1000000000;
	result("bad nsec", futimens(fd, ts));
	ts[0].tv_nsec = ts[1].tv_nsec = UTIME_OMIT;
	result("both omit", utimensat(d, "nothere", ts, 0));
	ts[0].tv_sec = -5;
	ts[0].tv_nsec = 3;
	result("negative", futimens(fd, ts));
	fstat(fd, &s);
	say("%ld\n", s.st_atim.tv_sec);
	result("utimensat link", utimensat(d, "dang", NULL, AT_SYMLINK_NOFOLLOW));
	result("utimensat flag", utimensat(d, "f", NULL, 0x8000));
	result("utimensat null path cwd", syscall(SYS_utimensat, AT_FDCWD, NULL, NULL, 0));
	result("futimesat", syscall(SYS_futimesat, d, "f", NULL));
	result("utimes", syscall(SYS_utimes, in("f"), NULL));
	result("utimes usec", ({ struct timeval t[2] = {{1, 1000000}, {1, 1}}; utimes(in("f"), t); }));
	fstat(fd, &s);
	struct stat s2;
	fstat(d, &s);
	usleep(20000);
	close(mk("zz", ""));
	fstat(d, &s2);
	say("directory changed %d\n", s2.st_mtim.tv_sec > s.st_mtim.tv_sec || s2.st_mtim.tv_nsec > s.st_mtim.tv_nsec);
	fstat(fd, &s);
	usleep(20000);
	write(fd, "y", 1);
	fstat(fd, &s2);
	say("mtime %d ctime %d\n", memcmp(&s.st_mtim, &s2.st_mtim, 16) != 0, memcmp(&s.st_ctim, &s2.st_ctim, 16) != 0);
	usleep(20000);
	fchmod(fd, 0600);
	fstat(fd, &s);
	say("chmod: mtime %d ctime %d\n", memcmp(&s.st_mtim, &s2.st_mtim, 16) != 0, memcmp(&s.st_ctim, &s2.st_ctim, 16) != 0);
	usleep(20000);
	link(in("f"), in("h"));
	fstat(fd, &s2);
	say("link: nlink %ld ctime %d\n", s2.st_nlink, memcmp(&s.st_ctim, &s2.st_ctim, 16) != 0);
	usleep(20000);
	ftruncate(fd, 2);
	fstat(fd, &s);
	say("trunc: mtime %d\n", memcmp(&s.st_mtim, &s2.st_mtim, 16) != 0);
	result("statfs", ({ struct statfs f; int r = statfs(base, &f); say("bsize %ld namelen %ld\n", (long)f.f_bsize, (long)f.f_namelen); r; }));
	result("statfs none", statfs(in("nix"), (void *)buf));
	result("statfs buf", statfs(base, (void *)8));
	result("fstatfs bad", fstatfs(99, (void *)buf));
	stat(base, &s);
	say("dir nlink>=2 %d mode %o\n", s.st_nlink >= 2, s.st_mode);
	mkdirat(d, "sub", 0700);
	stat(base, &s2);
	say("subdirectory adds %ld\n", (long)(s2.st_nlink - s.st_nlink));
	unlinkat(d, "sub", AT_REMOVEDIR);
	close(fd);
}

static void names(void) {
	close(mk("a", "A")), close(mk("b", "B"));
	mkdir(in("da"), 0755), mkdir(in("db"), 0755);
	close(mk("da/x", ""));
	symlink("a", in("la"));
	symlink("da", in("lda"));
#define R(n, a, b) result(n, renameat(d, a, d, b))
	R("same", "a", "a");
	R("dir on file", "da", "a");
	R("file on dir", "a", "da");
	R("dir on empty", "db", "db");
	R("dir on full", "db", "da");
	R("full on empty", "da", "db");
	R("back", "db", "da");
	R("into itself", "da", "da/y");
	R("deep into itself", "da", "da/y/z");
	R("parent on", "da/x", "da");
	R("none", "nix", "y");
	R("to none/", "a", "nix/y");
	R("dot", "da/.", "q");
	R("dotdot", "da/..", "q");
	R("to dot", "a", ".");
	R("slash file", "a/", "q");
	R("file to slash", "a", "q/");
	R("dir to slash", "da", "dq/");
	R("dir slash back", "dq/", "da");
	R("link", "la", "lb");
	R("link slash", "lda/", "lc");
	R("link to dir over", "a", "lda");
	R("hard links same", ({ linkat(d, "b", d, "b2", 0); "b"; }), "b2");
	result("b still", faccessat(d, "b", F_OK, 0));
	R("empty", "", "q");
	R("to empty", "b", "");
	result("noreplace", renameat2(d, "b", d, "b2", RENAME_NOREPLACE));
	result("noreplace new", renameat2(d, "b", d, "b3", RENAME_NOREPLACE));
	result("link dir", linkat(d, "da", d, "dlink", 0));
	result("link exist", linkat(d, "b2", d, "b3", 0));
	result("link sym", ({ linkat(d, "lb", d, "lc", 0); struct stat s; fstatat(d, "lc", &s, AT_SYMLINK_NOFOLLOW); S_ISLNK(s.st_mode); }));
	result("link sym follow", ({ symlinkat("b2", d, "lb2"); int r = linkat(d, "lb2", d, "ld", AT_SYMLINK_FOLLOW); struct stat s; fstatat(d, "ld", &s,
		AT_SYMLINK_NOFOLLOW); r ? r : S_ISREG(s.st_mode); }));
	result("link flag", linkat(d, "b2", d, "z", 0x8000));
	result("link empty", ({ int f = openat(d, "b2", O_PATH); int r = linkat(f, "", d, "viafd", AT_EMPTY_PATH); close(f); r; }));
	result("link unlinked", ({ int f = openat(d, "viafd", O_RDONLY); unlinkat(d, "viafd", 0); char l[40]; sprintf(l, "/proc/self/fd/%d", f); int r =
		linkat(AT_FDCWD, l, d, "again", AT_SYMLINK_FOLLOW); int e = errno; close(f); errno = e; r; }));
	result("link to slash", linkat(d, "b2", d, "z/", 0));
	result("link from slash", linkat(d, "b2/", d, "z", 0));
	result("unlink dir", unlinkat(d, "da", 0));
	result("rmdir file", unlinkat(d, "b2", AT_REMOVEDIR));
	result("rmdir full", unlinkat(d, "da", AT_REMOVEDIR));
	result("rmdir dot", unlinkat(d, "da/.", AT_REMOVEDIR));
	result("rmdir dotdot", unlinkat(d, "da/..", AT_REMOVEDIR));
	result("rmdir link", unlinkat(d, "lda", AT_REMOVEDIR));
	result("rmdir link slash", ({ symlinkat("db", d, "ldb"); unlinkat(d, "ldb/", AT_REMOVEDIR); }));
	result("unlink slash", unlinkat(d, "b2/", 0));
	result("unlink flag", unlinkat(d, "b2", 0x100));
	result("unlink none", unlinkat(d, "nix", 0));
	result("unlink dot", unlinkat(d, ".", 0));
	result("unlink root", unlink("/"));
	result("rmdir root", rmdir("/"));
	result("unlink loop", unlinkat(d, "loopa", 0));
	result("mkdir exist", mkdirat(d, "da", 0));
	result("mkdir on link", mkdirat(d, "lb2", 0));
	result("mkdir dangling", ({ symlinkat("nirgends", d, "dg"); mkdirat(d, "dg", 0); }));
	result("mkdir slash", mkdirat(d, "ms///", 0700));
	result("mkdir dot", mkdirat(d, "da/.", 0));
	result("mkdir dotdot", mkdirat(d, "da/..", 0));
	result("mkdir none", mkdirat(d, "no/x", 0));
	result("mkdir in file", mkdirat(d, "b2/x", 0));
	result("mkdir empty", mkdirat(d, "", 0));
	char longname[300];
	memset(longname, 'n', 255);
	longname[255] = 0;
	result("255", mkdirat(d, longname, 0700));
	result("rm", unlinkat(d, longname, AT_REMOVEDIR));
	longname[255] = 'n';
	longname[256] = 0;
	result("256", mkdirat(d, longname, 0700));
	result("symlink empty", symlinkat("", d, "se"));
	result("symlink exist", symlinkat("x", d, "b2"));
	result("symlink slash", symlinkat("x", d, "sl/"));
	result("readlink none", readlinkat(d, "b2", buf, 10));
	result("readlink 0", readlinkat(d, "lb2", buf, 0));
	result("readlink cut", readlinkat(d, "lb2", buf, 1));
	result("readlink slash", readlinkat(d, "lda/", buf, 100));
	result("readlink buf", syscall(SYS_readlinkat, d, "lb2", 8, 10));
	static char lt[4097];
	memset(lt, 'x', 4095);
	result("symlink 4095", symlinkat(lt, d, "s4095"));
	result("readlink", readlinkat(d, "s4095", buf, 60000));
	result("open it", openat(d, "s4095", 0));
	lt[4095] = 'x';
	result("symlink 4096", symlinkat(lt, d, "s4096"));
	result("mknod reg", mknodat(d, "nreg", S_IFREG | 0600, 0));
	result("mknod 0", mknodat(d, "n0", 0600, 0));
	result("mknod dir", mknodat(d, "nd", S_IFDIR | 0600, 0));
	result("mknod bad", mknodat(d, "nb", 0170000, 0));
	result("mknod exist", mknodat(d, "b2", S_IFREG, 0));
	// depth of links
	close(mk("end", ""));
	for (int i = 0; i < 45; i++) {
		char n[20], t[20];
		sprintf(n, "c%d", i);
		if (i) sprintf(t, "c%d", i - 1); else strcpy(t, "end");
		symlinkat(t, d, n);
	}
	result("39 links", faccessat(d, "c38", F_OK, 0));
	result("40 links", faccessat(d, "c39", F_OK, 0));
	result("41 links", faccessat(d, "c40", F_OK, 0));
	result("chdir removed", ({ mkdirat(d, "gone", 0700); chdir(in("gone")); unlinkat(d, "gone", AT_REMOVEDIR); long r = syscall(SYS_getcwd, buf, 100);
		int e = errno; result("  open dot", ({ int q = open(".", 0); if (q >= 0) close(q), q = 0; q; })); result("  create", open("x", O_CREAT |
		O_RDWR, 0600)); result("  dotdot", access("..", F_OK)); result("  mkdir", mkdir("y", 0700)); result("  readdir", ({ int q = open(".", 0); long
		n = syscall(SYS_getdents64, q, buf, 1000); int e2 = errno; close(q); errno = e2; n; })); chdir("/"); errno = e; r; }));
	result("getcwd small", syscall(SYS_getcwd, buf, 1));
	result("getcwd", syscall(SYS_getcwd, buf, 100));
	result("getcwd ptr", syscall(SYS_getcwd, 8, 100));
	result("fchdir file", ({ int q = openat(d, "b2", 0); int r = fchdir(q), e = errno; close(q); errno = e; r; }));
	result("chdir none", chdir("/nix"));
	result("chdir empty", chdir(""));
}

static int cmp(const void *a, const void *b) {
	return strcmp(*(char **)a, *(char **)b);
}

static void dents(void) {
	mkdir(in("ls"), 0755);
	int l = open(in("ls"), O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 300; i++) { char n[40]; sprintf(n, "file-%d", i); close(openat(l, n, O_CREAT | O_WRONLY, 0600)); }
	symlinkat("x", l, "sym");
	mkdirat(l, "sub", 0700);
	result("small", syscall(SYS_getdents64, l, buf, 10));
	result("bad", syscall(SYS_getdents64, l, 8, 1000));
	result("file", ({ int q = openat(l, "file-1", 0); long r = syscall(SYS_getdents64, q, buf, 1000); int e = errno; close(q); errno = e; r; }));
	int seen[300] = {0}, other = 0, calls = 0, types[16] = {0};
	long n;
	lseek(l, 0, 0);
	while ((n = syscall(SYS_getdents64, l, buf, 200)) > 0) {
		calls++;
		for (long o = 0; o < n;) {
			struct dirent64 *e = (void *)(buf + o);
			int k;
			if (sscanf(e->d_name, "file-%d", &k) == 1) seen[k]++; else other++;
			types[e->d_type & 15]++;
			o += e->d_reclen;
		}
	}
	int once = 1;
	for (int i = 0; i < 300; i++) once &= seen[i] == 1;
	say("once each %d, others %d, regular %d dir %d link %d, end %ld\n", once, other, types[DT_REG], types[DT_DIR], types[DT_LNK], n);
	// removing while reading: all the others are seen, once
	lseek(l, 0, 0);
	memset(seen, 0, sizeof seen);
	int removed = 0;
	while ((n = syscall(SYS_getdents64, l, buf, 400)) > 0) for (long o = 0; o < n;) {
		struct dirent64 *e = (void *)(buf + o);
		int k;
		if (sscanf(e->d_name, "file-%d", &k) == 1) { seen[k]++; unlinkat(l, e->d_name, 0); removed++; }
		o += e->d_reclen;
	}
	once = 1;
	for (int i = 0; i < 300; i++) once &= seen[i] == 1;
	say("removed %d, once each %d\n", removed, once);
	unlinkat(l, "sym", 0);
	unlinkat(l, "sub", AT_REMOVEDIR);
	result("rmdir now empty", rmdir(in("ls")));
	result("getdents of removed", (lseek(l, 0, 0), syscall(SYS_getdents64, l, buf, 1000)));
	result("create in removed", openat(l, "x", O_CREAT | O_RDWR, 0600));
	result("lseek dir end", lseek(l, 0, SEEK_END) >= -1);
	close(l);
	// nftw style removal of a deep tree
	chdir(base);
	for (int i = 0; i < 60; i++) mkdir("deep", 0700), chdir("deep");
	result("deep cwd", strlen(getcwd(buf, 4096)) - strlen(base));
	for (int i = 0; i < 60; i++) chdir(".."), rmdir("deep");
	result("gone", access(in("deep"), F_OK));
	chdir("/");
	for (int i = 0; i < 300; i++) { char nn[40]; sprintf(nn, "k%d", i); close(mk(nn, "")); }
	DIR *dp = opendir(base);
	int cnt = 0;
	for (struct dirent *e; (e = readdir(dp));) if (e->d_name[0] == 'k') {
		struct stat s;
		cnt += fstatat(d, e->d_name, &s, 0) == 0 && s.st_ino == e->d_ino;
	}
	say("inodes agree %d\n", cnt);
	closedir(dp);
}

static void misc(void) {
	int fd = mk("t", "0123456789");
	result("trunc neg", ftruncate(fd, -1));
	result("trunc up", ftruncate(fd, 10000));
	result("byte", (pread(fd, buf, 1, 9999), buf[0]));
	result("seek data", lseek(fd, 0, SEEK_DATA));
	result("seek data beyond", lseek(fd, 10000, SEEK_DATA));
	result("seek hole", lseek(fd, 0, SEEK_HOLE) > 0);
	result("seek neg", lseek(fd, -1, SEEK_DATA));
	result("trunc path none", truncate(in("nix"), 0));
	result("trunc dir", truncate(base, 0));
	int ro = open(in("t"), O_RDONLY);
	result("trunc ro", ftruncate(ro, 0));
	result("trunc bad", ftruncate(99, 0));
	result("fallocate", fallocate(fd, 0, 0, 20000));
	struct stat s;
	fstat(fd, &s);
	say("%ld\n", (long)s.st_size);
	result("neg", fallocate(fd, 0, -1, 5));
	result("zero len", fallocate(fd, 0, 0, 0));
	result("ro", fallocate(ro, 0, 0, 5));
	result("dir", fallocate(d, 0, 0, 5));
	result("flock", flock(fd, LOCK_EX));
	result("flock nb same", flock(fd, LOCK_SH | LOCK_NB));
	int fd2 = open(in("t"), O_RDWR);
	result("flock other nb", flock(fd2, LOCK_EX | LOCK_NB));
	result("flock un", flock(fd, LOCK_UN));
	result("flock other", flock(fd2, LOCK_EX | LOCK_NB));
	result("flock again", flock(fd, LOCK_SH | LOCK_NB));
	close(fd2);
	result("flock after close", flock(fd, LOCK_EX | LOCK_NB));
	result("flock bad", flock(fd, 77));
	result("flock bad fd", flock(99, LOCK_SH));
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
	result("setlk", fcntl(fd, F_SETLK, &fl));
	fl.l_type = F_RDLCK;
	result("getlk", fcntl(fd, F_GETLK, &fl));
	say("type %d\n", fl.l_type);
	fl.l_type = 9;
	result("bad type", fcntl(fd, F_SETLK, &fl));
	fl.l_type = F_WRLCK;
	result("setlk ro", fcntl(ro, F_SETLK, &fl));
	fl.l_whence = 7;
	result("whence", fcntl(fd, F_SETLK, &fl));
	fl.l_whence = 0;
	fl.l_start = -5;
	result("neg", fcntl(fd, F_SETLK, &fl));
	result("ptr", fcntl(fd, F_SETLK, 8));
	result("dup2 neg", dup2(fd, -1));
	result("dup2 big", dup2(fd, 1 << 30));
	result("dup2 bad", dup2(99, 50));
	result("dup3 same", dup3(fd, fd, 0));
	result("dup3 flag", dup3(fd, 60, 1));
	result("dupfd", ({ int r = fcntl(fd, F_DUPFD, 100); close(r); r; }));
	result("dupfd neg", fcntl(fd, F_DUPFD, -1));
	result("fcntl bad", fcntl(fd, 9999));
	result("close_range", ({ dup2(fd, 200); dup2(fd, 201); close_range(200, 300, 0); }));
	result("closed", fcntl(201, F_GETFD));
	result("close_range bad", close_range(5, 4, 0));
	result("close_range flag", close_range(5, 6, 0x100));
	result("close_range cloexec", ({ dup2(fd, 200); close_range(200, 200, CLOSE_RANGE_CLOEXEC); int r = fcntl(200, F_GETFD); close(200); r; }));
	result("getpipe", ({ int p[2]; pipe(p); int r = fcntl(p[0], F_GETPIPE_SZ); close(p[0]); close(p[1]); r; }));
	result("getpipe file", fcntl(fd, F_GETPIPE_SZ));
	result("getown", fcntl(fd, F_GETOWN));
	result("getsig", fcntl(fd, F_GETSIG));
	result("getlease", fcntl(fd, F_GETLEASE));
	result("seals file", fcntl(fd, F_GET_SEALS));
	int n;
	result("fionread file", ({ lseek(fd, 3, 0); ioctl(fd, FIONREAD, &n); }));
	result("tcgets", ioctl(fd, 0x5401, buf));
	result("fionbio", ({ n = 1; ioctl(fd, FIONBIO, &n); }));
	result("fioclex", ioctl(fd, FIOCLEX));
	result("getfd", fcntl(fd, F_GETFD));
	result("ioctl bad", ioctl(fd, 0xdeadbeef, 0));
	result("ioctl bad fd", ioctl(99, FIONREAD, &n));
	result("fionread dir", ioctl(d, FIONREAD, &n));
	result("fadvise", posix_fadvise(fd, 0, 0, 9));
	result("fadvise bad", posix_fadvise(99, 0, 0, 0));
	result("readahead", readahead(fd, 0, 100));
	int p2[2];
	pipe(p2);
	result("fadvise pipe", posix_fadvise(p2[0], 0, 0, 0));
	result("readahead pipe", readahead(p2[0], 0, 0));
	result("umask", umask(0177777));
	result("umask", umask(022));
	close(ro), close(fd);
}

static void dev(void) {
	const char *n[] = {"null", "zero", "full", "urandom", "random"};
	for (int i = 0; i < 5; i++) {
		char p[30];
		sprintf(p, "/dev/%s", n[i]);
		int fd = open(p, O_RDWR);
		say("%s\n", n[i]);
		struct stat s;
		fstat(fd, &s);
		say(" %o %lx\n", s.st_mode & S_IFMT, (long)s.st_rdev);
		result(" read", read(fd, buf, 100));
		result(" write", i < 3 ? write(fd, buf, 100) : 0);
		result(" pread", pread(fd, buf, 10, 5));
		result(" lseek", lseek(fd, 10, SEEK_SET));
		result(" end", lseek(fd, 0, SEEK_END));
		result(" trunc", ftruncate(fd, 0));
		result(" over", read(fd, edge(5), 10));
		struct { int fd; short e, r; }
		pf = {fd, 1, 0};
		result(" poll", syscall(SYS_poll, &pf, 1, 0));
		say(" %x\n", pf.r);
		result(" fsync", fsync(fd));
		result(" o_trunc", ({ int q = open(p, O_WRONLY | O_TRUNC | O_CREAT, 0600); if (q >= 0) close(q), q = 0; q; }));
		result(" directory", open(p, O_DIRECTORY));
		result(" slash", ({ char q[40]; sprintf(q, "%s/", p); open(q, 0); }));
		close(fd);
	}
	result("mmap zero", ({ int fd = open("/dev/zero", O_RDWR); char *a = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0); int r = a !=
		MAP_FAILED; if (r) a[5000] = 1, r = a[5000] + a[0]; close(fd); r; }));
	result("mmap zero shared", ({ int fd = open("/dev/zero", O_RDWR); char *a = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); int r = a !=
		MAP_FAILED; if (r) a[5000] = 1, r = a[5000]; close(fd); r; }));
	result("mmap null", (long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, open("/dev/null", 0), 0) == -1);
	result("dev fd", ({ int fd = mk("df", "abc"); char p[30]; sprintf(p, "/dev/fd/%d", fd); int q = open(p, O_RDONLY); long r = read(q, buf, 10);
		close(q); close(fd); r; }));
	result("getrandom", getrandom(buf, 256, 0));
	result("getrandom flags", getrandom(buf, 10, 8));
	result("both", getrandom(buf, 10, 6));
	result("fault", syscall(SYS_getrandom, 8, 10, 0));
	result("over", getrandom(edge(5), 10, 0));
	result("zero", syscall(SYS_getrandom, 8, 0, 0));
}

int main(int argc, char **argv) {
	sprintf(base, "/tmp/kadvt-%d", getpid());
	mkdir(base, 0700);
	d = open(base, O_RDONLY | O_DIRECTORY);
	none = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(none + 4096, 4096, PROT_NONE);
	memset(none, 'e', 4096);
	void (*all[])(void) = {rw, opens, stats, names, dents, misc, dev};
	const char *nm[] = {"rw", "opens", "stats", "names", "dents", "misc", "dev"};
	for (int i = 0; i < 7; i++) if (argc < 2 || !strcmp(argv[1], nm[i])) say("[%s]\n", nm[i]), all[i]();
	char cmd[100];
	sprintf(cmd, "rm -rf %s", base);
	system(cmd);
	return 0;
}
