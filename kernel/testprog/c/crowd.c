// Three threads read a mapping of /data, of more than memory holds, at the same time. Argument: its FNV-1a sum, in hex.
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "check.h"

static unsigned char *map;
static size_t size;

static void *sum(void *out)
{
	uint64_t h = 0xcbf29ce484222325;
	for (size_t i = 0; i < size; i++)
		h = (h ^ map[i]) * 0x100000001b3;
	*(uint64_t *)out = h;
	return NULL;
}

int main(int argc, char **argv)
{
	struct stat st;
	int fd = open("/data", O_RDONLY);
	check("map", fd >= 0 && fstat(fd, &st) == 0);
	size = st.st_size;
	map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	check("map", map != MAP_FAILED);
	pthread_t th[3];
	uint64_t got[3];
	for (int i = 0; i < 3; i++)
		check("threads", pthread_create(&th[i], NULL, sum, &got[i]) == 0);
	for (int i = 0; i < 3; i++)
		check("threads", pthread_join(th[i], NULL) == 0 && got[i] == strtoull(argv[1], NULL, 16));
	ok("together");
	return 0;
}
