/* Shows what a program is given: its arguments and its environment. */
#include <stdio.h>

extern char **environ;

int main(int argc, char **argv)
{
	printf("Hello from C!\n");
	printf("argc: %d\n", argc);
	for (int i = 0; i < argc; i++)
		printf("argv[%d]: %s\n", i, argv[i]);
	for (char **e = environ; *e; e++)
		printf("env: %s\n", *e);
	/* Output that did not arrive is a failure too. */
	return fflush(stdout) == 0 ? 0 : 1;
}
