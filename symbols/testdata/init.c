/* The first program of a Linux guest: prints what the kernel itself says of its symbols, every 50th, and ends the machine. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	char line[1024];
	long n = 0;
	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, 0);
	FILE *f = fopen("/proc/kallsyms", "r");
	while (f && fgets(line, sizeof line, f)) {
		if (strchr(line, '[')) /* of a module, or made at run time */
			continue;
		if (n++ % 50 == 0 || strstr(line, " T start_kernel\n"))
			printf("SYM %s", line);
	}
	printf("TOTAL %ld\n", n);
	fflush(stdout);
	reboot(RB_AUTOBOOT);
}
