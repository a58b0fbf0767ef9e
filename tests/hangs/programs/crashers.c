/* crashers.c - every way to die in C, and to hang; called by the tests of sample projects. */
#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEPT __attribute__((noinline, noclone, used, visibility("default")))
#define NO_TAIL_CALL __asm__ volatile("" ::: "memory")

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int zero, one = 1;
static volatile int *volatile nowhere;
static sigjmp_buf before;
static volatile int recovered;
static pthread_barrier_t barrier;

KEPT void
deadlock_inner(void)
{
    (void)pthread_mutex_lock(&mutex);
    (void)pthread_mutex_lock(&mutex);
    NO_TAIL_CALL;
}

KEPT void
deadlock_outer(void)
{
    deadlock_inner();
    NO_TAIL_CALL;
}

KEPT int
overflow(int depth)
{
    volatile char room[4096];

    room[0] = (char)depth;
    return zero ? 0 : overflow(depth + 1) + room[0];
}

KEPT void
write_nowhere(void)
{
    *nowhere = 1;
}

KEPT void
illegal(void)
{
#if defined(__x86_64__)
    __asm__ volatile("ud2");
#else
    __asm__ volatile(".inst 0");
#endif
}

KEPT int
divide(void)
{
#if defined(__x86_64__)
    return one / zero;
#else
    return raise(SIGFPE);
#endif
}

KEPT void
fail_assertion(void)
{
    assert(zero && "never");
}

KEPT void
fall_asleep(void)
{
    for (;;) {
        (void)pause();
    }
}

static void *
crash_together(void *unused)
{
    (void)unused;
    (void)pthread_barrier_wait(&barrier);
    write_nowhere();
    return NULL;
}

KEPT void
crash_in_two_threads(void)
{
    pthread_t threads[2];

    (void)pthread_barrier_init(&barrier, NULL, 2);
    for (int i = 0; i < 2; i++) {
        (void)pthread_create(&threads[i], NULL, crash_together, NULL);
    }
    (void)pthread_join(threads[0], NULL);
}

static void
on_fault(int signal)
{
    recovered++;
    siglongjmp(before, signal);
}

/* A handler that comes back, as garbage collectors and emulators have them. Returns how often it
 * was called. */
KEPT int
recover(int times)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_fault;
    (void)sigaction(SIGSEGV, &action, NULL);
    for (volatile int i = 0; i < times; i++) {
        if (sigsetjmp(before, 1) == 0) {
            write_nowhere();
        }
    }
    return recovered;
}

/* Fail an assertion, and come back from the abort: what glibc said of it stays behind. */
KEPT void
survive_assertion(void)
{
    struct sigaction action, usual;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_fault;
    (void)sigaction(SIGABRT, &action, &usual);
    if (sigsetjmp(before, 1) == 0) {
        fail_assertion();
    }
    (void)sigaction(SIGABRT, &usual, NULL);
}

/* Address of the handler of a signal, as the kernel has it. */
KEPT unsigned long
handler_of(int signal)
{
    struct sigaction action;

    (void)sigaction(signal, NULL, &action);
    return (unsigned long)action.sa_handler;
}
