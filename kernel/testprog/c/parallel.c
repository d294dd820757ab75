// Threads that run at once on several CPUs, and what one does to the memory that another is using.

#include "check.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

static atomic_int steps[2];

// Each waits for the other's next step, without a system call. On one CPU that needs a time slice a step.
static void *walker(void *arg) {
	long me = (long)arg;
	for (int i = 1; i <= 300; i++) {
		atomic_store(&steps[me], i);
		while (atomic_load(&steps[!me]) < i)
			;
	}
	return NULL;
}

static char *volatile page;
static atomic_int hits, faults, stop;
static __thread sigjmp_buf env;
static __thread volatile int armed;

static void on_fault(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)uc;
	if (!armed || (char *)si->si_addr < page || (char *)si->si_addr >= page + 4096)
		_exit(99);
	atomic_fetch_add(&faults, 1);
	siglongjmp(env, 1);
}

// Writes through the page as long as it can, and again as soon as it can.
static void *writer(void *arg) {
	(void)arg;
	while (!atomic_load(&stop)) {
		if (sigsetjmp(env, 1) == 0) {
			armed = 1;
			while (!atomic_load(&stop)) {
				*(volatile long *)page += 1;
				atomic_fetch_add(&hits, 1);
			}
		}
		armed = 0;
	}
	return NULL;
}

static void wait_hit(void) {
	int was = atomic_load(&hits);
	while (atomic_load(&hits) - was < 2)
		;
}

static void away(int rounds) {
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &sa, NULL);
	// In the middle of three: what is unmapped is too little for anything else.
	page = (char *)mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 4096;
	pthread_t th;
	pthread_create(&th, NULL, writer, NULL);
	for (int i = 0; i < rounds; i++) {
		wait_hit();
		switch (i % 3) {
		case 0: // what is read-only from here on does not change any more
			mprotect(page, 4096, PROT_READ);
			break;
		case 1: // nor does what is out of the way
			mprotect(page, 4096, PROT_NONE);
			mprotect(page, 4096, PROT_READ);
			break;
		case 2:
			munmap(page, 4096);
			// The frame that was there may be this one's now: nobody writes to it.
			char *other = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
			for (int j = 0; j < 65536; j += 4096)
				other[j] = 0;
			for (int k = 0; k < 200; k++)
				for (int j = 0; j < 65536; j += 4096)
					check("unmap", *(volatile long *)(other + j) == 0);
			munmap(other, 65536);
			mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			break;
		}
		long v = *(volatile long *)page;
		for (int k = 0; k < 2000; k++)
			check("protect", *(volatile long *)page == v);
		int was = atomic_load(&faults);
		while (atomic_load(&faults) == was) // it does fault
			;
		mprotect(page, 4096, PROT_READ | PROT_WRITE);
	}
	atomic_store(&stop, 1);
	pthread_join(th, NULL);
}

// A copy on write is seen by who read the old page.
static char *volatile shared;
static atomic_int go, seen;
static void *reader(void *arg) {
	(void)arg;
	for (int i = 1; i <= 15; i++) {
		while (atomic_load(&go) < 2 * i - 1)
			;
		volatile char c = shared[0]; // maps the page that is zero
		atomic_store(&seen, 2 * i - 1);
		while (atomic_load(&go) < 2 * i)
			;
		c = shared[0];
		check("copy", c == (char)i);
		atomic_store(&seen, 2 * i);
	}
	return NULL;
}

static void copies(void) {
	pthread_t th;
	int fd = open("/proc/self/exe", O_RDONLY);
	pthread_create(&th, NULL, reader, NULL);
	for (int i = 1; i <= 15; i++) {
		shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		atomic_store(&go, 2 * i - 1);
		while (atomic_load(&seen) < 2 * i - 1)
			;
		shared[0] = i;
		atomic_store(&go, 2 * i);
		while (atomic_load(&seen) < 2 * i)
			;
		munmap(shared, 4096);
	}
	pthread_join(th, NULL);
	close(fd);
}

static atomic_int turn;
static void *ponger(void *arg) {
	(void)arg;
	for (int i = 0; i < 500; i++) {
		while (atomic_load(&turn) != 1)
			syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, 0, NULL);
		atomic_store(&turn, 0);
		syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1);
	}
	return NULL;
}

static atomic_int word, opDone;
static void *adders(void *arg) {
	(void)arg;
	for (int i = 0; i < 20000; i++)
		atomic_fetch_add(&word, 1);
	atomic_fetch_add(&opDone, 1);
	return NULL;
}

static atomic_int caught, spinning;
static void on_usr1(int sig) { (void)sig, atomic_fetch_add(&caught, 1); }
static void *spinner(void *arg) {
	(void)arg;
	double x = 1.5;
	long n = 0;
	atomic_store(&spinning, 1);
	while (!atomic_load(&stop)) {
		x = x * 1.25 / 1.25;
		n++;
	}
	check("fpu", x == 1.5);
	return (void *)n;
}

int main(void) {
	pthread_t th[4];
	cpu_set_t set;
	int cpus = 0;
	check("cpus", sched_getaffinity(0, sizeof set, &set) == 0 && (cpus = CPU_COUNT(&set)) >= 1);
	check("cpus", cpus == sysconf(_SC_NPROCESSORS_ONLN));
	printf("ok %d-cpus\n", cpus);
	if (cpus > 1) {
		for (long i = 0; i < 2; i++)
			pthread_create(&th[i], NULL, walker, (void *)i);
		for (int i = 0; i < 2; i++)
			pthread_join(th[i], NULL);
		ok("at-once");
		away(24);
		ok("away");
		copies();
		ok("copies");
	}
	pthread_create(&th[0], NULL, ponger, NULL);
	for (int i = 0; i < 500; i++) {
		atomic_store(&turn, 1);
		syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1);
		while (atomic_load(&turn) != 0)
			syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, 1, NULL);
	}
	pthread_join(th[0], NULL);
	ok("futex");
	// FUTEX_WAKE_OP changes a word that others change at the same time.
	int ops = 0;
	for (int i = 0; i < 3; i++)
		pthread_create(&th[i], NULL, adders, NULL);
	while (atomic_load(&opDone) < 3 || ops < 500) {
		syscall(SYS_futex, &turn, FUTEX_WAKE_OP_PRIVATE, 0, 0, &word, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
		ops++;
	}
	for (int i = 0; i < 3; i++)
		pthread_join(th[i], NULL);
	check("wake-op", atomic_load(&word) == 60000 + ops);
	ok("wake-op");
	struct sigaction sa = {.sa_handler = on_usr1};
	sigaction(SIGUSR1, &sa, NULL);
	stop = 0;
	for (int i = 0; i < 3; i++)
		pthread_create(&th[i], NULL, spinner, NULL);
	while (!atomic_load(&spinning))
		sched_yield();
	for (int i = 0; i < 12; i++) {
		int was = atomic_load(&caught);
		pthread_kill(th[i % 3], SIGUSR1);
		while (atomic_load(&caught) == was)
			sched_yield();
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0);
	}
	atomic_store(&stop, 1);
	struct timespec t;
	clockid_t clock;
	for (int i = 0; i < 3; i++) {
		void *n;
		pthread_join(th[i], &n);
		check("signals", n != NULL);
	}
	ok("signals");
	stop = 0;
	pthread_create(&th[0], NULL, spinner, NULL);
	pthread_getcpuclockid(th[0], &clock);
	long long last = 0;
	for (int i = 0; i < 100; i++) {
		check("cpu-time", clock_gettime(clock, &t) == 0 && t.tv_sec * 1000000000LL + t.tv_nsec >= last);
		last = t.tv_sec * 1000000000LL + t.tv_nsec;
	}
	while (last < 5000000) {
		clock_gettime(clock, &t);
		last = t.tv_sec * 1000000000LL + t.tv_nsec;
	}
	ok("cpu-time");
	return 0; // with a thread that spins elsewhere
}
