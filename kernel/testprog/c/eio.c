// Reads /big, of which the disk cannot read the middle: what can be read still can afterwards.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
	static char b[4096];
	int fd = open("/big", O_RDONLY), errors = 0, other = 0;
	for (int round = 0; round < 2; round++)
		for (long at = 0; at < 1 << 20; at += sizeof b)
			if (pread(fd, b, sizeof b, at) != sizeof b)
				errno == EIO ? errors++ : other++;
	printf("fd %d errors %d other %d first %zd\n", fd, errors > 0 && errors < 256, other, pread(fd, b, 1, 0));
	return 0;
}
