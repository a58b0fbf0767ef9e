/*
 * workers.c - of a controller of pytest-xdist: what it has heard of each worker; and their end with
 * it.
 *
 * One thread at a time changes the table; whoever stops it at any instruction finds it whole.
 */
#include <poll.h>
#include <signal.h>
#include <time.h>

#include "signal_safe.h"
#include "workers.h"

#define TICK_MILLISECONDS 100
/*
 * execnet gives a worker whose controller has gone 5 s to end, interrupts it, and gives it 10 s
 * more: WorkerGateway._terminate_execution().
 */
#define END_SECONDS 20

static struct gencore_worker workers[GENCORE_WORKERS];
static int descriptors[GENCORE_WORKERS];
static uint32_t worker_count; /* places that have been used */

int
gencore_add_worker(const char *name, int32_t pid, int descriptor)
{
    unsigned int place = 0;
    struct gencore_worker *worker;
    struct safe_text text;

    while (place < worker_count && workers[place].state) {
        place++;
    }
    if (place == GENCORE_WORKERS) {
        return -ENOSPC;
    }
    worker = &workers[place];
    text = safe_text_in(worker->name, sizeof(worker->name));
    safe_put(&text, name);
    worker->pid = pid;
    worker->test = 0;
    worker->heard_at = safe_now(CLOCK_MONOTONIC);
    descriptors[place] = descriptor;
    __atomic_store_n(&worker->state, GENCORE_WORKER_HEARD, __ATOMIC_RELEASE);
    if (place == worker_count) {
        __atomic_store_n(&worker_count, place + 1, __ATOMIC_RELEASE);
    }
    return (int)place;
}

void
gencore_hear_worker(unsigned int place)
{
    if (place < worker_count) {
        __atomic_store_n(&workers[place].heard_at, safe_now(CLOCK_MONOTONIC), __ATOMIC_RELEASE);
    }
}

const struct gencore_worker_test *
gencore_set_worker_test(unsigned int place, const struct gencore_worker_test *test)
{
    uint64_t before;

    if (place >= worker_count) {
        return test;
    }
    before = __atomic_exchange_n(&workers[place].test, (uint64_t)(uintptr_t)test, __ATOMIC_ACQ_REL);
    return (const struct gencore_worker_test *)(uintptr_t)before;
}

void
gencore_dismiss_worker(unsigned int place)
{
    if (place < worker_count) {
        __atomic_store_n(&workers[place].state, GENCORE_WORKER_DISMISSED, __ATOMIC_RELEASE);
    }
}

void
gencore_remove_worker(unsigned int place)
{
    if (place < worker_count) {
        __atomic_store_n(&workers[place].state, GENCORE_WORKER_FREE, __ATOMIC_RELEASE);
    }
}

void
gencore_find_workers(uint64_t *address, uint64_t *count)
{
    *address = (uint64_t)(uintptr_t)workers;
    *count = __atomic_load_n(&worker_count, __ATOMIC_ACQUIRE);
}

/* ---- their end -------------------------------------------------------------------- */

static int
has_ended(int descriptor)
{
    struct pollfd poll = {.fd = descriptor, .events = POLLIN};
    struct timespec now = {0, 0};

    return raw5(SYS_ppoll, &poll, 1, &now, NULL, 0) != 0;
}

/* The value of a line of /proc/PID/status begins with this character. */
static int
has_status(int32_t pid, const char *label, char expected)
{
    char path[64], value[16];
    struct safe_text text = safe_text_in(path, sizeof(path));

    safe_put(&text, "/proc/");
    safe_put_number(&text, (uint64_t)pid, 1);
    safe_put(&text, "/status");
    return safe_read_field(path, label, value, sizeof(value)) > 0 && value[0] == expected;
}

/* Close all that are open but the workers' own: workers read from the others. */
static void
close_others(void)
{
    int last = -1;

    for (;;) {
        int next = -1;

        for (uint32_t i = 0; i < worker_count; i++) {
            if (workers[i].state && descriptors[i] > last && (next < 0 || descriptors[i] < next)) {
                next = descriptors[i];
            }
        }
        if (next < 0) {
            break;
        }
        for (int fd = last + 1; fd < next; fd++) {
            (void)raw1(SYS_close, fd);
        }
        last = next;
    }
    gencore_close_from((unsigned int)last + 1);
}

/*
 * Kill those that are stopped, and at last all that are there; nobody who is traced: somebody
 * debugs it. How many are left.
 */
static int
kill_some(int is_last)
{
    int left = 0;

    for (uint32_t i = 0; i < worker_count; i++) {
        if (!workers[i].state || descriptors[i] < 0 || has_ended(descriptors[i])) {
            continue;
        }
        left++;
        if ((is_last || has_status(workers[i].pid, "State:\t", 'T'))
            && has_status(workers[i].pid, "TracerPid:\t", '0')) {
            (void)raw4(SYS_pidfd_send_signal, descriptors[i], SIGKILL, NULL, 0);
        }
    }
    return left;
}

static _Noreturn void
watch_their_end(void)
{
    int64_t until = safe_now(CLOCK_MONOTONIC) + END_SECONDS * NANOSECONDS;
    struct timespec tick = {0, TICK_MILLISECONDS * 1000000L};

    close_others();
    while (kill_some(0) && safe_now(CLOCK_MONOTONIC) < until) {
        (void)raw2(SYS_nanosleep, &tick, NULL);
    }
    (void)kill_some(1);
    for (;;) {
        (void)raw1(SYS_exit_group, 0);
    }
}

void
gencore_end_workers(int stderr_fd)
{
    static const char text[] = "gencore: workers that do not end within 20 s, or are stopped, are "
                               "killed\n";
    uint32_t count = 0;

    for (uint32_t i = 0; i < worker_count; i++) {
        count += workers[i].state && descriptors[i] >= 0 && !has_ended(descriptors[i]);
    }
    if (!count) {
        return;
    }
    if (stderr_fd >= 0) {
        (void)safe_write_all(stderr_fd, text, sizeof(text) - 1);
    }
    /* As fork(2), which would call handlers of libc. */
    if (raw5(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0) {
        watch_their_end();
    }
}
