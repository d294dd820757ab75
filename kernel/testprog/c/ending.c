// Ends as its argument says, which the host must see.
#include "check.h"
#include <pthread.h>
#include <signal.h>

static void *quits(void *arg) {
	(void)arg;
	exit(9);
}

static void *segv(void *arg) {
	return (void *)(long)*(volatile char *)arg;
}

static int down(volatile int n) {
	return down(n + 1) + n;
}

int main(int argc, char **argv) {
	const char *how = argc > 1 ? argv[1] : "";
	volatile int zero = 0;
	pthread_t th;
	printf("ok %s\n", how);
	fflush(stdout);
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "segv"))
		*(volatile char *)8 = 1;
	if (!strcmp(how, "divide"))
		return 100 / zero;
	if (!strcmp(how, "ud2"))
		__builtin_trap();
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGKILL);
	if (!strcmp(how, "term"))
		raise(SIGTERM);
	if (!strcmp(how, "kernel"))
		return *(volatile char *)0xffff800000200000;
	if (!strcmp(how, "hlt"))
		__asm__ volatile("hlt");
	if (!strcmp(how, "stack"))
		return down(argc);
	if (!strcmp(how, "badsp"))
		__asm__ volatile("mov $0xffff800000200000, %rsp; push %rax");
	if (!strcmp(how, "noncanonical"))
		__asm__ volatile("mov $0x8000000000000000, %rax; jmp *%rax");
	if (!strcmp(how, "sigpipe")) {
		int p[2];
		pipe(p);
		close(p[0]);
		write(p[1], "x", 1);
	}
	if (!strcmp(how, "thread-exit")) {
		pthread_create(&th, NULL, quits, NULL);
		pthread_join(th, NULL);
	}
	if (!strcmp(how, "thread-segv")) {
		pthread_create(&th, NULL, segv, (void *)16);
		pthread_join(th, NULL);
	}
	if (!strcmp(how, "main-leaves")) {
		pthread_create(&th, NULL, quits, NULL);
		pthread_exit(NULL);
	}
	if (!strcmp(how, "deadlock")) {
		pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
		pthread_mutex_lock(&m);
		pthread_mutex_lock(&m);
	}
	if (!strcmp(how, "memory"))
		for (size_t n = 0;; n++)
			memset(malloc(1 << 20), 1, 1 << 20);
	if (!strcmp(how, "pipes")) { // blocking writes that nobody reads
		static char b[65536];
		for (int i = 0; i < 400; i++) {
			int p[2];
			if (pipe(p))
				return 6;
			for (int n, left = sizeof b; left > 0; left -= n)
				if ((n = write(p[1], b, left)) < 0)
					return errno == ENOMEM ? 5 : 7;
		}
	}
	if (!strcmp(how, "exit"))
		return 300;
	if (!strcmp(how, "stdin")) {
		char b[10];
		return fgets(b, 10, stdin) == NULL && feof(stdin) ? 3 : 4;
	}
	if (!strcmp(how, "megabyte"))
		for (int i = 0; i < 1 << 20; i++)
			putchar(i % 64 == 63 ? '\n' : 'a' + i % 26);
	return 0;
}
