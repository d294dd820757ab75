// What the programs of this folder share: each check that holds prints "ok NAME", the first that does not ends the program
// with status 1.
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define check(name, cond) \
	do { \
		errno = 0; \
		if (!(cond)) { \
			printf("FAIL %s: %s (errno %d: %s) at line %d\n", name, #cond, errno, strerror(errno), __LINE__); \
			fflush(stdout); \
			_exit(1); \
		} \
	} while (0)
#define ok(name) (printf("ok %s\n", name), fflush(stdout))
#endif
