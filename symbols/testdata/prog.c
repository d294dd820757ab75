/* A program whose lines and inlined functions the tests compare with what addr2line says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

volatile int sink;

static inline __attribute__((always_inline)) int twice(int x)
{
	sink = x;
	return x * 2 + sink;
}

static inline __attribute__((always_inline)) int nested(int x)
{
	int sum = twice(x);
	for (int i = 0; i < sink; i++)
		sum += twice(sum ^ i);
	return sum;
}

static __attribute__((noinline)) int alone(int x)
{
	return nested(x) + twice(sink);
}

__attribute__((noinline, cold)) void rare(const char *why)
{
	fprintf(stderr, "%s\n", why);
	exit(1);
}

int split(int x)
{
	if (__builtin_expect(x == 4711, 0)) {
		sink = nested(x);
		rare("4711");
	}
	return alone(x) + 1;
}

int main(int argc, char **argv)
{
	char *copy = strdup(argv[0]);
	int sum = 0;
	for (int i = 0; i < argc; i++)
		sum += split(i) + nested((int)strlen(argv[i]));
	printf("%s %d\n", copy, sum);
	free(copy);
	return sum == sink;
}
