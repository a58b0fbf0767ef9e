/* driver_captures.c - captures of many threads, of two at once, in a handler, with masks, amid
 * churn. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "driver.h"

/* ---- threads: N threads blocked in sem_wait --------------------------------------- */

void
run_threads(int count)
{
    pthread_t *threads = calloc((size_t)count + 1, sizeof(*threads));
    struct gencore_result result;

    expect(threads != NULL, "there is memory");
    printf("tid %d\n", thread_id());
    for (int i = 0; i < count; i++) {
        threads[i] = start_thread_of(wait_at_gate, NULL);
    }
    for (int i = 0; i < count; i++) {
        sem_wait(&arrived);
    }
    capture_or_die(&result);
    show_report(&result);
    for (int i = 0; i < count; i++) {
        sem_post(&gate);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    free(threads);
}

/* ---- steps: a capture for each byte on standard input ----------------------------- */

void
run_steps(int count)
{
    pthread_t waiting = start_thread_of(wait_at_gate, NULL);
    struct gencore_result result;

    sem_wait(&arrived);
    for (int i = 0; i < count; i++) {
        expect(getchar() != EOF, "the test says when");
        capture_or_die(&result);
    }
    sem_post(&gate);
    pthread_join(waiting, NULL);
}

/* ---- pair: two threads capture at the same time ----------------------------------- */

static int captures_each;

static void *
capture_many(void *argument)
{
    int *counts = argument; /* done, busy */

    for (int i = 0; i < captures_each; i++) {
        struct gencore_result result;
        int stage = capture(&result);

        if (stage != GENCORE_STAGE_NONE && stage != GENCORE_STAGE_BUSY) {
            die("capture failed at stage %d with errno %d", stage, result.error);
        }
        counts[stage == GENCORE_STAGE_BUSY]++;
    }
    return NULL;
}

void
run_pair(int count)
{
    int first[2] = {0}, second[2] = {0};
    pthread_t threads[2];

    captures_each = count;
    threads[0] = start_thread_of(capture_many, first);
    threads[1] = start_thread_of(capture_many, second);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    printf("done %d busy %d\n", first[0] + second[0], first[1] + second[1]);
}

/* ---- nested: a signal handler captures whatever it interrupts --------------------- */

static int nested[2]; /* done, busy */

static void
capture_in_handler(int signal)
{
    int before = errno;
    struct gencore_result result;
    int stage = capture(&result);

    (void)signal;
    if (stage == GENCORE_STAGE_NONE || stage == GENCORE_STAGE_BUSY) {
        nested[stage == GENCORE_STAGE_BUSY]++;
    }
    sem_post(&handled);
    errno = before;
}

/* One signal at a time, each as soon as the last one was handled: mostly in the midst of a capture.
 */
static void *
send_signals(void *main_thread)
{
    while (!is_finished()) {
        pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
        sem_wait(&handled);
    }
    return NULL;
}

void
run_nested(int count)
{
    struct sigaction action = {.sa_handler = capture_in_handler, .sa_flags = SA_RESTART};
    pthread_t main_thread = pthread_self(), sender;
    int outer[2] = {0};

    expect(sigaction(SIGUSR1, &action, NULL) == 0, "the handler is set");
    captures_each = count;
    sender = start_thread_of(send_signals, &main_thread);
    (void)capture_many(outer);
    finish();
    pthread_join(sender, NULL);
    printf("done %d busy %d nested %d busy %d\n", outer[0], outer[1], nested[0], nested[1]);
}

/* ---- masked: a thread blocks every signal ----------------------------------------- */

static void *
mask_everything(void *argument)
{
    sigset_t all, before;

    (void)argument;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    printf("masked %d\n", thread_id());
    sem_post(&arrived);
    sem_wait(&gate);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sem_post(&arrived);
    sem_wait(&gate);
    return NULL;
}

void
run_masked(int count)
{
    pthread_t thread = start_thread_of(mask_everything, NULL);
    struct gencore_result result;

    (void)count;
    for (int round = 0; round < 2; round++) {
        sem_wait(&arrived);
        printf("round %d\n", round);
        capture_or_die(&result);
        show_report(&result);
        sem_post(&gate);
    }
    pthread_join(thread, NULL);
}

/* ---- churn: threads that start and join short-lived threads ----------------------- */

#define CHURNERS 8

static unsigned long ran;

static void *
end_at_once(void *argument)
{
    (void)argument;
    (void)__atomic_add_fetch(&ran, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void *
churn(void *argument)
{
    unsigned long *started = argument;

    sem_post(&arrived);
    while (!is_finished()) {
        pthread_join(start_thread_of(end_at_once, NULL), NULL);
        ++*started;
    }
    return NULL;
}

void
run_churn(int count)
{
    unsigned long started[CHURNERS] = {0}, sum = 0;
    pthread_t threads[CHURNERS];
    struct gencore_result result;

    for (int i = 0; i < CHURNERS; i++) {
        threads[i] = start_thread_of(churn, &started[i]);
    }
    for (int i = 0; i < CHURNERS; i++) {
        sem_wait(&arrived);
    }
    for (int i = 0; i < count; i++) {
        capture_or_die(&result);
        show_report(&result);
    }
    finish();
    for (int i = 0; i < CHURNERS; i++) {
        pthread_join(threads[i], NULL);
        sum += started[i];
    }
    printf("healthy %d\n", sum == ran && sum > 0);
}
