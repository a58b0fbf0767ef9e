/*
 * cancels.c - handlers of the signals with which a run is cancelled: capture, then their own
 * action.
 *
 * Only where nobody has a handler of his own: in front of the default action, and of Python's usual
 * handler of SIGINT. A second signal ends the wait for the collector at once, but not the snapshot:
 * a job that is cancelled often gets two, one from whoever cancels it and one that is passed on.
 *
 * A child by fork has inherited the handlers: there they only do what would have been done.
 */
#include <signal.h>

#include "cancels.h"
#include "deadlines.h"
#include "gencore.h"
#include "place.h"
#include "signal_safe.h"

static const int ends[] = {SIGTERM, SIGHUP};
#define END_COUNT (sizeof(ends) / sizeof(ends[0]))

#define SNAPSHOT_NS (5 * NANOSECONDS) /* longer than any snapshot has taken */
#define TICK_NS (NANOSECONDS / 1000)

static struct {
    const struct gencore_standby *end, *interrupt;
    struct gencore_action python; /* the handler of SIGINT */
    int32_t owner;                /* process that the handlers are for */
    int32_t busy;                 /* thread that captures a cancel; 0: none */
    int accepted;                 /* real-time signal of a worker, 0: none */
    int passed_on;                /* and that of a controller */
    unsigned int worker_count;
    int workers[GENCORE_WORKERS];
    siginfo_t forwarded[GENCORE_SIGNAL_COUNT + 1]; /* by signal: as it came to another thread */
} cancels;

static void
pass_on(int signal)
{
    unsigned int count = __atomic_load_n(&cancels.worker_count, __ATOMIC_ACQUIRE);
    siginfo_t info = {.si_signo = cancels.passed_on, .si_code = SI_QUEUE};

    info.si_pid = (pid_t)raw0(SYS_getpid);
    info.si_uid = (uid_t)raw0(SYS_getuid);
    info.si_value.sival_int = signal;
    for (unsigned int i = 0; i < count; i++) {
        (void)raw4(SYS_pidfd_send_signal, cancels.workers[i], cancels.passed_on, &info, 0);
    }
}

/* The thread that captures already, a cancel or a crash; 0: it is this thread's turn now. */
static int32_t
take_turn(int32_t tid)
{
    int32_t other = gencore_crashing_thread();

    if (!other) {
        (void)__atomic_compare_exchange_n(&cancels.busy, &other, tid, 0, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST);
    }
    return other;
}

static void
give_turn_back(void)
{
    __atomic_store_n(&cancels.busy, 0, __ATOMIC_SEQ_CST);
}

static int
is_before_snapshot(void)
{
    int32_t thread = gencore_crashing_thread();

    return (thread ? thread : __atomic_load_n(&cancels.busy, __ATOMIC_SEQ_CST)) > 0
           && !gencore_is_held();
}

/* What another thread captures is not lost by the end of the process. */
static void
await_snapshot(void)
{
    static const struct timespec tick = {0, TICK_NS};
    int64_t deadline = safe_now(CLOCK_MONOTONIC) + SNAPSHOT_NS;

    while (is_before_snapshot() && safe_now(CLOCK_MONOTONIC) < deadline) {
        (void)raw2(SYS_nanosleep, &tick, NULL);
    }
}

static void
capture_cancel(const struct gencore_standby *standby, siginfo_t *info, void *context)
{
    struct gencore_usage usage = gencore_find_place().usage;
    struct gencore_result result;

    if (usage.cpu_ns < 0 || usage.wall_ns < NANOSECONDS) {
        /* Another thread's is not known; a moment says nothing. */
        usage = (struct gencore_usage){0};
    }
    if (standby) {
        gencore_capture_in_handler(standby, 0, usage, info, context, &result);
    }
    give_turn_back();
}

/* What would have happened without us. */
static void
act(int signal, siginfo_t *info, void *context)
{
    struct gencore_action usual = {.handler = (void *)SIG_DFL};

    if (signal == SIGINT) {
        if (cancels.python.flags & SA_SIGINFO) {
            ((void (*)(int, siginfo_t *, void *))cancels.python.handler)(signal, info, context);
        }
        else {
            ((void (*)(int))cancels.python.handler)(signal);
        }
        return;
    }
    (void)raw4(SYS_rt_sigaction, signal, &usual, NULL, sizeof(gencore_sigset));
    (void)raw4(SYS_rt_tgsigqueueinfo, raw0(SYS_getpid), raw0(SYS_gettid), signal, info);
}

static int
does_block(int tid, int signal)
{
    char path[64], value[24];
    struct safe_text text = safe_text_in(path, sizeof(path));
    gencore_sigset blocked = 0;

    safe_put(&text, "/proc/self/task/");
    safe_put_number(&text, (uint64_t)tid, 1);
    safe_put(&text, "/status");
    if (safe_read_field(path, "SigBlk:\t", value, sizeof(value)) <= 0) {
        return 1;
    }
    for (const char *digit = value; *digit; digit++) {
        blocked = blocked << 4 | (gencore_sigset)(*digit <= '9' ? *digit - '0' : *digit - 'a' + 10);
    }
    return blocked >> (signal - 1) & 1;
}

/*
 * Whether the thread of the tests gets the signal instead: it is the one to be looked at, and the
 * kernel may have chosen another one. *info is the signal as it came first: what the kernel or
 * kill(2) sends may not be queued again for another thread (do_rt_tgsigqueueinfo() in
 * kernel/signal.c).
 */
static int
is_forwarded(int signal, siginfo_t **info)
{
    siginfo_t *first = &cancels.forwarded[signal];
    siginfo_t again = {.si_signo = signal, .si_code = SI_QUEUE};
    int tid = gencore_find_place().tid;

    if ((*info)->si_code == SI_QUEUE && (*info)->si_value.sival_ptr == first) {
        *info = first;
        return 0;
    }
    if (!tid || tid == (int)raw0(SYS_gettid) || does_block(tid, signal)) {
        return 0;
    }
    *first = **info;
    again.si_pid = (pid_t)raw0(SYS_getpid);
    again.si_uid = (uid_t)raw0(SYS_getuid);
    again.si_value.sival_ptr = first;
    return raw4(SYS_rt_tgsigqueueinfo, again.si_pid, tid, signal, &again) == 0;
}

static void
on_cancel(int signal, siginfo_t *info, void *context)
{
    int pid = (int)raw0(SYS_getpid);

    if (pid == cancels.owner) {
        int32_t tid = (int32_t)raw0(SYS_gettid), other;

        if (is_forwarded(signal, &info)) {
            return;
        }
        other = take_turn(tid);
        /* A crash of this thread may not yet have come to its snapshot: then this one captures. */
        if (other && (other != tid || gencore_is_held())) {
            await_snapshot();
            gencore_end_hold();
        }
        /* A process that interrupts itself tests how it takes that. */
        else if (signal == SIGINT && info->si_code <= 0 && info->si_pid == pid) {
            give_turn_back();
        }
        else {
            pass_on(signal);
            if (signal != SIGINT) {
                gencore_stop_deadlines(); /* waiting for the collector is not the test's time */
            }
            capture_cancel(__atomic_load_n(signal == SIGINT ? &cancels.interrupt : &cancels.end,
                                           __ATOMIC_SEQ_CST),
                           info, context);
        }
    }
    act(signal, info, context);
}

void
gencore_capture_interrupt(void)
{
    siginfo_t info = {.si_signo = SIGINT, .si_code = SI_QUEUE}; /* no sender: not known any more */

    if ((int32_t)raw0(SYS_getpid) == cancels.owner && take_turn((int32_t)raw0(SYS_gettid)) == 0) {
        capture_cancel(__atomic_load_n(&cancels.interrupt, __ATOMIC_SEQ_CST), &info, NULL);
    }
}

static void
on_passed_on(int signal, siginfo_t *info, void *context)
{
    if (info->si_code == SI_QUEUE && raw0(SYS_getpid) == cancels.owner
        && !is_forwarded(signal, &info) && take_turn((int32_t)raw0(SYS_gettid)) == 0) {
        capture_cancel(__atomic_load_n(&cancels.interrupt, __ATOMIC_SEQ_CST), info, context);
    }
}

/* They interrupt each other only while the process is held: the alternate stack is small. */
static int
put_handler(int signal, unsigned long restart)
{
    struct gencore_action action = {
        .handler = (void *)on_cancel,
        .flags = SA_SIGINFO | SA_ONSTACK | restart | gencore_restorer_flag,
        .restorer = gencore_restorer,
        .mask = GENCORE_CANCELS,
    };

    return (int)raw4(SYS_rt_sigaction, signal, &action, NULL, sizeof(gencore_sigset));
}

static int
get_action(int signal, struct gencore_action *action)
{
    return (int)raw4(SYS_rt_sigaction, signal, NULL, action, sizeof(gencore_sigset));
}

int
gencore_watch_cancels(int with_interrupt)
{
    struct gencore_action current;

    if (!cancels.end) {
        return 0; /* not armed */
    }
    for (unsigned int i = 0; i < END_COUNT; i++) {
        if (get_action(ends[i], &current) == 0 && current.handler == (void *)SIG_DFL) {
            (void)put_handler(ends[i], 0);
        }
    }
    if (get_action(SIGINT, &current) < 0 || current.handler == (void *)on_cancel
        || current.handler == (void *)SIG_DFL || current.handler == (void *)SIG_IGN) {
        return 0;
    }
    if (!with_interrupt) {
        return 1;
    }
    cancels.python = current;
    return put_handler(SIGINT, current.flags & SA_RESTART) < 0;
}

void
gencore_unwatch_cancels(void)
{
    struct gencore_action current, usual = {.handler = (void *)SIG_DFL};

    for (unsigned int i = 0; i < END_COUNT; i++) {
        if (get_action(ends[i], &current) == 0 && current.handler == (void *)on_cancel) {
            (void)raw4(SYS_rt_sigaction, ends[i], &usual, NULL, sizeof(gencore_sigset));
        }
    }
    if (get_action(SIGINT, &current) == 0 && current.handler == (void *)on_cancel) {
        (void)raw4(SYS_rt_sigaction, SIGINT, &cancels.python, NULL, sizeof(gencore_sigset));
    }
    gencore_give_signal_back(cancels.accepted, (void *)on_passed_on);
    cancels.accepted = 0;
}

int
gencore_set_cancel_standbys(const struct gencore_standby *end,
                            const struct gencore_standby *interrupt)
{
    cancels.owner = end ? (int32_t)raw0(SYS_getpid) : 0;
    gencore_set_test_thread();
    __atomic_store_n(&cancels.end, end, __ATOMIC_SEQ_CST);
    __atomic_store_n(&cancels.interrupt, interrupt, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&cancels.busy, __ATOMIC_SEQ_CST) != 0;
}

int
gencore_accept_cancels(int number)
{
    struct gencore_action current;
    struct gencore_action action = {
        .handler = (void *)on_passed_on,
        .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | gencore_restorer_flag,
        .restorer = gencore_restorer,
        .mask = GENCORE_CANCELS,
    };

    if (get_action(number, &current) < 0 || current.handler != (void *)SIG_DFL) {
        return -EBUSY;
    }
    cancels.accepted = number;
    return (int)raw4(SYS_rt_sigaction, number, &action, NULL, sizeof(gencore_sigset));
}

void
gencore_set_cancel_workers(int number, const int *descriptors, unsigned int count)
{
    __atomic_store_n(&cancels.worker_count, 0, __ATOMIC_SEQ_CST);
    cancels.passed_on = number;
    count = count < GENCORE_WORKERS ? count : GENCORE_WORKERS;
    for (unsigned int i = 0; i < count; i++) {
        cancels.workers[i] = descriptors[i];
    }
    __atomic_store_n(&cancels.worker_count, count, __ATOMIC_SEQ_CST);
}
