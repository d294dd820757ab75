/* The first program of a Linux guest: works for a while in a function of its own, says hello and ends the machine. */
#include <stdio.h>
#include <sys/io.h>
#include <unistd.h>

__attribute__((noinline)) static unsigned work(unsigned n)
{
	unsigned sum = 1;
	for (unsigned i = 0; i < n; i++) {
		sum = sum * 1664525 + i;
		__asm__ volatile("" : "+r"(sum));
	}
	return sum;
}

int main(void)
{
	unsigned sum = work(1000000);
	dprintf(1, "hello from init: %u\n", sum);
	if (iopl(3) != 0)
		return 1;
	outb(0, 0x501);
	for (;;)
		pause();
}
