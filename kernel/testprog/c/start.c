// Arguments, environment, auxiliary vector, exit code.
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>
#include <sys/utsname.h>

extern char **environ;
static char bss[100000];
static int data[5000] = {1, 2, 3};

int main(int argc, char **argv) {
	check("args", argc == 3 && !strcmp(argv[1], "one two") && !strcmp(argv[2], "") && argv[3] == NULL);
	ok("args");
	check("env", getenv("KEY") && !strcmp(getenv("KEY"), "a value") && getenv("EMPTY") && !*getenv("EMPTY"));
	ok("env");
	const Elf64_Phdr *ph = (void *)getauxval(AT_PHDR);
	check("auxv", ph && getauxval(AT_PHENT) == 56 && getauxval(AT_PHNUM) > 1 && getauxval(AT_PAGESZ) == 4096);
	int loads = 0;
	for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
		loads += ph[i].p_type == PT_LOAD;
	check("auxv", loads > 1 && getauxval(AT_CLKTCK) == 100 && getauxval(AT_SECURE) == 0 && getauxval(AT_UID) == 0);
	check("auxv", !strcmp((char *)getauxval(AT_PLATFORM), "x86_64") && !strcmp((char *)getauxval(AT_EXECFN), argv[0]));
	const unsigned char *rnd = (void *)getauxval(AT_RANDOM);
	int zeros = 0;
	for (int i = 0; i < 16; i++)
		zeros += rnd[i] == 0;
	check("auxv", zeros < 8);
	ok("auxv");
	for (size_t i = 0; i < sizeof bss; i++)
		check("bss", bss[i] == 0);
	for (int i = 3; i < 5000; i++)
		check("data", data[i] == 0);
	check("data", data[0] == 1 && data[2] == 3);
	ok("bss");
	struct utsname u;
	check("uname", uname(&u) == 0 && !strcmp(u.sysname, "Linux") && !strcmp(u.machine, "x86_64") && !strcmp(u.nodename, "firstlight"));
	ok("uname");
	char *p = malloc(3 << 20);
	memset(p, 7, 3 << 20);
	p = realloc(p, 6 << 20);
	check("malloc", p[(3 << 20) - 1] == 7);
	free(p);
	for (int i = 0; i < 1000; i++) {
		char *q = malloc(i * 37);
		memset(q, i, i * 37);
		if (i % 3)
			free(q);
	}
	ok("malloc");
	double x = 1;
	for (int i = 1; i < 20; i++)
		x *= i * 1.5;
	char buf[64];
	snprintf(buf, sizeof buf, "%.6e", x);
	check("float", !strcmp(buf, "2.696675e+20"));
	ok("float");
	return 42;
}
