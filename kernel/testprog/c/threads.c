// Threads, mutexes, condition variables, robust mutexes, thread-local storage.
#include "check.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <time.h>

enum { N = 8, ROUNDS = 20000 };
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long counter, turn;
static __thread long local;

static void *adder(void *arg) {
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&mu);
		counter++;
		pthread_mutex_unlock(&mu);
		local++;
	}
	return (void *)(local + (long)arg);
}

static void *player(void *arg) {
	long me = (long)arg;
	for (int i = 0; i < 300; i++) {
		pthread_mutex_lock(&mu);
		while (turn % N != me)
			pthread_cond_wait(&cond, &mu);
		turn++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&mu);
	}
	return NULL;
}

static volatile int stop;
static volatile long spins[3];
static void *spinner(void *arg) {
	while (!stop)
		spins[(long)arg]++;
	return NULL;
}

static void *dies(void *arg) {
	pthread_mutex_lock(arg);
	return NULL;
}

static sem_t sem;
static void *poster(void *arg) {
	(void)arg;
	struct timespec t = {0, 3000000};
	nanosleep(&t, NULL);
	sem_post(&sem);
	return NULL;
}

static void *floats(void *arg) {
	double x = (long)arg + 0.5, y = x;
	for (int i = 0; i < 2000000; i++) {
		y = y * 1.0000001;
		y = y / 1.0000001;
	}
	return (void *)(long)(y > x - 0.01 && y < x + 0.01);
}

int main(void) {
	pthread_t th[64];
	for (long i = 0; i < N; i++)
		check("mutex", pthread_create(&th[i], NULL, adder, (void *)i) == 0);
	for (long i = 0; i < N; i++) {
		void *r;
		check("mutex", pthread_join(th[i], &r) == 0 && (long)r == ROUNDS + i);
	}
	check("mutex", counter == N * ROUNDS);
	ok("mutex");
	for (long i = 0; i < N; i++)
		check("cond", pthread_create(&th[i], NULL, player, (void *)i) == 0);
	for (int i = 0; i < N; i++)
		pthread_join(th[i], NULL);
	check("cond", turn == 300 * N);
	ok("cond");
	for (long i = 0; i < 3; i++)
		pthread_create(&th[i], NULL, spinner, (void *)i);
	// Each gets its turns, however long the host keeps the machine waiting.
	struct timespec t = {0, 60000000};
	for (int i = 0; i < 3; i++)
		for (int n = 0; spins[i] <= 1000; n++)
			check("slice", n < 500 && nanosleep(&t, NULL) == 0);
	stop = 1;
	for (int i = 0; i < 3; i++)
		pthread_join(th[i], NULL);
	ok("slice");
	for (long i = 0; i < 4; i++)
		pthread_create(&th[i], NULL, floats, (void *)(i * 1000));
	for (int i = 0; i < 4; i++) {
		void *r;
		pthread_join(th[i], &r);
		check("fpu", r == (void *)1);
	}
	ok("fpu");
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_nsec += 5000000;
	if (now.tv_nsec >= 1000000000)
		now.tv_sec++, now.tv_nsec -= 1000000000;
	pthread_mutex_lock(&mu);
	check("timedwait", pthread_cond_timedwait(&cond, &mu, &now) == ETIMEDOUT);
	pthread_mutex_unlock(&mu);
	ok("timedwait");
	sem_init(&sem, 0, 0);
	pthread_create(&th[0], NULL, poster, NULL);
	check("sem", sem_wait(&sem) == 0);
	pthread_join(th[0], NULL);
	ok("sem");
	pthread_mutexattr_t at;
	pthread_mutex_t rm;
	pthread_mutexattr_init(&at);
	pthread_mutexattr_setrobust(&at, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&rm, &at);
	pthread_create(&th[0], NULL, dies, &rm);
	pthread_join(th[0], NULL);
	check("robust", pthread_mutex_lock(&rm) == EOWNERDEAD && pthread_mutex_consistent(&rm) == 0);
	ok("robust");
	for (int k = 0; k < 10; k++) {
		for (long i = 0; i < 50; i++)
			check("many", pthread_create(&th[i], NULL, poster, NULL) == 0);
		for (int i = 0; i < 50; i++)
			pthread_join(th[i], NULL);
	}
	ok("many");
	return 0;
}
