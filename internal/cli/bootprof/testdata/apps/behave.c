/* An app that does what its first argument says. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	char buf[4096];

	if (!strcmp(what, "exit"))
		return atoi(argv[2]);
	if (!strcmp(what, "segv"))
		*(volatile int *)16 = 1;
	if (!strcmp(what, "abort"))
		abort();
	if (!strcmp(what, "megabyte")) {
		memset(buf, 'x', sizeof buf);
		buf[sizeof buf - 1] = '\n';
		for (int i = 0; i < 256; i++)
			fwrite(buf, 1, sizeof buf, stdout);
	}
	if (!strcmp(what, "stdin"))
		printf("read %zd\n", read(0, buf, sizeof buf));
	if (!strcmp(what, "env"))
		printf("%s\n", getenv("GREETING"));
	if (!strcmp(what, "args"))
		for (int i = 0; i < argc; i++)
			printf("[%s]\n", argv[i]);
	if (!strcmp(what, "mark")) {
		FILE *f = fopen("/dev/mark", "w");
		fputs("listening", f);
		fclose(f);
		for (;;)
			sleep(1); /* with pause nothing could ever wake it, which the kernel notices */
	}
	if (!strcmp(what, "spin"))
		for (volatile int i = 0;; i++)
			;
	return 0;
}
