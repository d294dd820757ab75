/* An app that reads whole files, which its arguments name, in their order and says how long they are. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char buf[4096];

	for (int i = 1; i < argc; i++) {
		int fd = open(argv[i], O_RDONLY);
		long sum = 0;
		ssize_t n;

		while (fd >= 0 && (n = read(fd, buf, sizeof buf)) > 0)
			sum += n;
		printf("%s %ld\n", argv[i], fd < 0 ? -1 : sum);
		close(fd);
	}
	return 0;
}
