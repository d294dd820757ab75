// tunable executes 2 · TURNS instructions more than without them, and prints a line.
#include <stdio.h>

#ifndef TURNS
#define TURNS 0L
#endif

__attribute__((noinline)) static void work(long turns)
{
	if (turns > 0)
		__asm__ volatile("1: sub $1, %0; jnz 1b" : "+r"(turns));
}

int main(void)
{
	work(TURNS);
	puts("worked");
	return 0;
}
