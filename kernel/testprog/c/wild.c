// Every system call with wild pointers and arguments: none may hurt the kernel, and what takes a pointer answers EFAULT.
#include "check.h"
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static long call(long n, long a, long b, long c, long d, long e, long f) {
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long ret;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}

static const uintptr_t wild[] = {0, 8, 0xfff, 0x7fffffffefff, 0x7ffffffff000, 0x800000000000, 0xffff800000000000, 0xffff800000200000,
	0xffffffff80200000, 0xfffffffffffffff8, 0x8000000000000000, 0xdeadbeef000};
enum { NWILD = sizeof wild / sizeof *wild };

static uint64_t seed = 88172645463325252ull;
static uint64_t rnd(void) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

int main(void) {
	int fd = open("/data/bytes", O_RDONLY), tmp = open("/tmp/w", O_RDWR | O_CREAT, 0600), p[2];
	check("setup", fd >= 0 && tmp >= 0 && pipe(p) == 0 && write(p[1], "0123456789abcdef", 16) == 16);
	for (int i = 0; i < NWILD; i++) {
		long w = wild[i];
		if (w == 0x7fffffffefff)
			continue; // may be the stack's last page
#define efault(...) check("efault", (last = call(__VA_ARGS__)) == -EFAULT)
		long last;
		efault(SYS_read, fd, w, 100, 0, 0, 0);
		efault(SYS_pread64, fd, w, 100, 0, 0, 0);
		efault(SYS_write, tmp, w, 100, 0, 0, 0);
		efault(SYS_write, 1, w, 100, 0, 0, 0);
		efault(SYS_read, p[0], w, 10, 0, 0, 0);
		efault(SYS_readv, fd, w, 3, 0, 0, 0);
		efault(SYS_openat, AT_FDCWD, w, 0, 0, 0, 0);
		efault(SYS_newfstatat, AT_FDCWD, w, w, 0, 0, 0);
		efault(SYS_newfstatat, AT_FDCWD, (long)"/data", w, 0, 0, 0);
		efault(SYS_fstat, fd, w, 0, 0, 0, 0);
		efault(SYS_statx, AT_FDCWD, (long)"/data", 0, 0x7ff, w, 0);
		efault(SYS_getcwd, w, 100, 0, 0, 0, 0);
		efault(SYS_readlink, (long)"/data/link", w, 100, 0, 0, 0);
		efault(SYS_pipe2, w, 0, 0, 0, 0, 0);
		efault(SYS_uname, w, 0, 0, 0, 0, 0);
		efault(SYS_sysinfo, w, 0, 0, 0, 0, 0);
		efault(SYS_clock_gettime, 1, w, 0, 0, 0, 0);
		efault(SYS_nanosleep, w, 0, 0, 0, 0, 0);
		efault(SYS_getrandom, w, 16, 0, 0, 0, 0);
		efault(SYS_rt_sigaction, 10, w == 0 ? 8 : w, 0, 8, 0, 0);
		efault(SYS_rt_sigprocmask, 0, w == 0 ? 8 : w, 0, 8, 0, 0);
		efault(SYS_sigaltstack, w == 0 ? 8 : w, 0, 0, 0, 0, 0);
		efault(SYS_poll, w, 2, 0, 0, 0, 0);
		efault(SYS_getrlimit, 3, w == 0 ? 8 : w, 0, 0, 0, 0);
		efault(SYS_getrusage, 0, w, 0, 0, 0, 0);
		efault(SYS_sched_getaffinity, 0, 8, w, 0, 0, 0);
		if (w % 4 == 0)
			efault(SYS_futex, w, 0, 0, 0, 0, 0);
	}
	long end = 0;
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(page + 4096, 4096);
	check("edge", (end = call(SYS_read, fd, (long)page + 4000, 1000, 0, 0, 0)) == 96);
	memset(page + 4090, 'a', 6);
	check("edge", call(SYS_openat, AT_FDCWD, (long)page + 4090, 0, 0, 0, 0) == -EFAULT);
	check("edge", call(SYS_clock_gettime, 1, (long)page + 4088, 0, 0, 0, 0) == -EFAULT);
	check("edge", call(SYS_write, tmp, (long)page + 4000, 1000, 0, 0, 0) == 96);
	ok("efault");

	// Random calls. Left out: what ends the program or stops it for good, and what takes away its memory or its output.
	sigset_t all;
	sigfillset(&all);
	struct sigaction ign = {.sa_handler = SIG_IGN};
	for (int s = 1; s < 65; s++)
		sigaction(s, &ign, NULL);
	for (int i = 0; i < 60000; i++) {
		long n = rnd() % 460, v[6];
		switch (n) {
		case SYS_exit: case SYS_exit_group: case SYS_pause: case SYS_rt_sigsuspend: case SYS_munmap: case SYS_mprotect:
		case SYS_mmap: case SYS_brk: case SYS_mremap: case SYS_madvise: case SYS_rt_sigreturn: case SYS_arch_prctl: case SYS_clone:
		case SYS_clone3: case SYS_fork: case SYS_vfork: case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigaction:
		case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: case SYS_nanosleep: case SYS_clock_nanosleep: case SYS_dup2: case SYS_dup3:
		case SYS_close: case SYS_close_range: case SYS_rt_sigtimedwait: case SYS_select: case SYS_pselect6: case SYS_poll: case SYS_ppoll:
		case SYS_epoll_wait: case SYS_epoll_pwait: case SYS_epoll_pwait2: case SYS_alarm: case SYS_setitimer: case SYS_futex:
		case SYS_write: case SYS_writev: case SYS_pwrite64: case SYS_pwritev: case SYS_pwritev2: case SYS_sendfile: case SYS_set_tid_address:
		case SYS_read: case SYS_readv: case SYS_preadv: case SYS_preadv2: case SYS_pread64: case SYS_set_robust_list: case SYS_rt_sigprocmask:
		case SYS_fcntl: case SYS_getrandom: case SYS_getdents64: case SYS_fallocate:
			continue;
		}
		for (int k = 0; k < 6; k++)
			switch (rnd() % 4) {
			case 0: v[k] = wild[rnd() % NWILD]; break;
			case 1: v[k] = rnd() % 8; break;
			case 2: v[k] = rnd(); break;
			case 3: v[k] = -(long)(rnd() % 4096); break;
			}
		if (n == SYS_ioctl && v[0] < 3)
			continue;
		call(n, v[0], v[1], v[2], v[3], v[4], v[5]);
	}
	ok("random");
	return 0;
}
