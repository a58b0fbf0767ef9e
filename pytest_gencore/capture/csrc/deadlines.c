/*
 * deadlines.c - timers whose handler captures, also while native code holds the GIL.
 *
 * POSIX timers that signal one thread: no clash with SIGALRM and its one timer a process, nor with
 * faulthandler's, and no helper thread that would need the GIL.
 */
#include <linux/types.h>
#include <signal.h>
#include <time.h>

#include "deadlines.h"
#include "gencore.h"
#include "signal_safe.h"
#include "workers.h"

#ifndef SIGEV_THREAD_ID
#define SIGEV_THREAD_ID 4
#endif
#ifndef sigev_notify_thread_id /* timer_create(2); glibc has it from 2.38 on under this name */
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define FIRST_NUDGE_NS 50000000

static struct {
    struct deadline {
        const struct gencore_standby *standby; /* NULL: not set */
        struct gencore_result result;
        int64_t set_at;   /* CLOCK_MONOTONIC */
        int64_t cpu_then; /* of the thread, likewise */
        int32_t timer;
        int32_t has_timer;
        int32_t owner;  /* process that made the timer: children do not inherit it */
        int32_t thread; /* that the timer signals */
        int32_t timer_signal;
        int32_t exits;
        int32_t fired;  /* enum gencore_fired */
        int signal;     /* 0: none chosen yet */
        int64_t length; /* nanoseconds */
        int64_t nudge;  /* likewise: until the next one */
    } all[GENCORE_DEADLINES];
    int64_t progress_at; /* CLOCK_MONOTONIC */
} deadlines;

static const char *const ended[GENCORE_DEADLINES] = {
    [GENCORE_DEADLINE_GENCORE] = "gencore: the test took too long, the process ends: "
                                 "gencore_exit_on_timeout\n",
    [GENCORE_DEADLINE_SESSION] =
        "gencore: the run made no progress for too long, the process ends: "
        "gencore_exit_on_timeout\n",
};

static long set_timer(const struct deadline *deadline, int64_t nanoseconds);

int
gencore_note_progress(void)
{
    const struct deadline *session = &deadlines.all[GENCORE_DEADLINE_SESSION];

    if (__atomic_load_n(&session->standby, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&deadlines.progress_at, safe_now(CLOCK_MONOTONIC), __ATOMIC_RELEASE);
    }
    return session->fired == GENCORE_FIRED;
}

/* Whether the run has made progress since the timer was set: then it is set anew, for the rest. */
static int
has_moved(struct deadline *deadline, unsigned int which)
{
    int64_t now = safe_now(CLOCK_MONOTONIC), left;

    if (which != GENCORE_DEADLINE_SESSION) {
        return 0;
    }
    left = __atomic_load_n(&deadlines.progress_at, __ATOMIC_ACQUIRE) + deadline->length - now;
    if (left <= 0) {
        return 0;
    }
    deadline->set_at = now;
    deadline->cpu_then = safe_now(CLOCK_THREAD_CPUTIME_ID);
    return set_timer(deadline, left) == 0;
}

static int
has_tracer(void)
{
    char value[16];

    return safe_read_field("/proc/self/status", "TracerPid:\t", value, sizeof(value)) > 0
           && value[0] != '0';
}

/*
 * Interrupt the wait of this thread again, later and later, until the deadline is cancelled.
 *
 * The alarm that follows can be missed: another thread may have taken it, one that was chosen while
 * this one had our signal to take (wants_signal() in kernel/signal.c), or one that came back from a
 * handler first; or it came after Python looked for signals and before it waited again. Python
 * would sleep on, and the test would hang.
 */
static void
nudge_later(struct deadline *deadline)
{
    deadline->nudge = deadline->nudge ? 2 * deadline->nudge : FIRST_NUDGE_NS;
    (void)set_timer(deadline, deadline->nudge);
}

/* Signal safe, on the thread that set the deadline. */
static void
on_deadline(int signal, siginfo_t *info, void *context)
{
    struct deadline *deadline;
    gencore_sigset open_signals = 0;
    struct gencore_usage usage;

    (void)signal;
    if (info->si_code != SI_TIMER || (unsigned int)info->si_value.sival_int >= GENCORE_DEADLINES) {
        return;
    }
    deadline = &deadlines.all[info->si_value.sival_int];
    if (!deadline->standby || deadline->owner != raw0(SYS_getpid)) {
        return;
    }
    if (deadline->nudge) {
        nudge_later(deadline);
        return;
    }
    if (deadline->fired || has_moved(deadline, (unsigned int)info->si_value.sival_int)) {
        return;
    }
    if (has_tracer()) {
        deadline->fired = GENCORE_FIRED_IN_DEBUGGER;
        return;
    }
    /*
     * The alarm that follows should come to this thread: while this one blocks it, the kernel gives
     * it to another thread. Python's handler would take notice of it there, and this thread would
     * sleep on until the nudge.
     */
    if (info->si_value.sival_int == GENCORE_DEADLINE_PYTEST_TIMEOUT) {
        open_signals = GENCORE_SIGNAL(SIGALRM);
    }
    usage.cpu_ns = safe_now(CLOCK_THREAD_CPUTIME_ID) - deadline->cpu_then;
    usage.wall_ns = safe_now(CLOCK_MONOTONIC) - deadline->set_at;
    gencore_capture_in_handler(deadline->standby, open_signals, usage, NULL, context,
                               &deadline->result);
    deadline->fired = GENCORE_FIRED;
    if (info->si_value.sival_int == GENCORE_DEADLINE_PYTEST_TIMEOUT) {
        nudge_later(deadline);
    }
    if (deadline->exits) {
        const char *text = ended[info->si_value.sival_int];

        if (text && deadline->standby->plan->stderr_fd >= 0) {
            (void)safe_write_all(deadline->standby->plan->stderr_fd, text, safe_length(text));
        }
        gencore_end_workers(deadline->standby->plan->stderr_fd);
        (void)raw1(SYS_exit_group, 1);
    }
}

/*
 * Where somebody else's alarm follows, system calls are not started again: the alarm may come while
 * our handler runs, and would then interrupt nothing. Python would sleep on without having seen it.
 */
static int
choose_signal(struct deadline *deadline, unsigned int which)
{
    unsigned long restart = which == GENCORE_DEADLINE_PYTEST_TIMEOUT ? 0 : SA_RESTART;
    struct gencore_action previous;
    struct gencore_action action = {
        .handler = (void *)on_deadline,
        .flags = SA_SIGINFO | SA_ONSTACK | restart | gencore_restorer_flag,
        .restorer = gencore_restorer,
        /* Another deadline waits until the test goes on: its capture would show this handler. */
        .mask = which == GENCORE_DEADLINE_SLOW ? ~(gencore_sigset)0 : 0,
    };

    int signal;

    if (gencore_has_signal(deadline->signal, (void *)on_deadline)) {
        return 0;
    }
    signal = gencore_take_signal(&action, &previous);
    if (signal < 0) {
        return signal;
    }
    deadline->signal = signal;
    return 0;
}

static long
set_timer(const struct deadline *deadline, int64_t nanoseconds)
{
    struct itimerspec when = {.it_value = {nanoseconds / NANOSECONDS, nanoseconds % NANOSECONDS}};

    return raw4(SYS_timer_settime, deadline->timer, 0, &when, NULL);
}

static void
delete_timer(struct deadline *deadline)
{
    if (deadline->has_timer && deadline->owner == raw0(SYS_getpid)) {
        (void)raw1(SYS_timer_delete, deadline->timer);
    }
    deadline->has_timer = 0;
}

/* A timer signals one thread; it is kept from one test to the next. */
static long
make_timer(struct deadline *deadline, unsigned int which)
{
    struct sigevent event = {
        .sigev_notify = SIGEV_THREAD_ID,
        .sigev_signo = deadline->signal,
        .sigev_value.sival_int = (int)which,
    };
    int32_t pid = (int32_t)raw0(SYS_getpid), thread = (int32_t)raw0(SYS_gettid);
    long error;

    if (deadline->has_timer && deadline->owner == pid && deadline->thread == thread
        && deadline->timer_signal == deadline->signal) {
        return 0;
    }
    delete_timer(deadline);
    event.sigev_notify_thread_id = thread;
    error = raw3(SYS_timer_create, CLOCK_MONOTONIC, &event, &deadline->timer);
    if (error == 0) {
        deadline->has_timer = 1;
        deadline->owner = pid;
        deadline->thread = thread;
        deadline->timer_signal = deadline->signal;
    }
    return error;
}

int
gencore_set_deadline(unsigned int which, int64_t nanoseconds, const struct gencore_standby *standby,
                     int exits)
{
    struct deadline *deadline = &deadlines.all[which];
    struct gencore_result unused;
    long error;

    (void)gencore_cancel_deadline(which, &unused);
    if ((error = choose_signal(deadline, which)) < 0 || (error = make_timer(deadline, which)) < 0) {
        return (int)error;
    }
    deadline->exits = exits;
    deadline->length = nanoseconds;
    deadline->set_at = safe_now(CLOCK_MONOTONIC);
    deadline->cpu_then = safe_now(CLOCK_THREAD_CPUTIME_ID);
    deadline->fired = GENCORE_NOT_FIRED;
    deadline->nudge = 0;
    deadline->standby = standby;
    (void)gencore_note_progress();
    return (int)set_timer(deadline, nanoseconds > 0 ? nanoseconds : 1);
}

int
gencore_cancel_deadline(unsigned int which, struct gencore_result *result)
{
    struct deadline *deadline = &deadlines.all[which];
    int fired = gencore_deadline_fired(which, result);

    if (deadline->standby && deadline->has_timer && deadline->owner == raw0(SYS_getpid)) {
        (void)set_timer(deadline, 0); /* a signal that is on its way comes now, at the latest */
        fired = gencore_deadline_fired(which, result);
    }
    deadline->standby = NULL;
    deadline->fired = GENCORE_NOT_FIRED;
    return fired;
}

void
gencore_stop_deadlines(void)
{
    for (unsigned int which = 0; which < GENCORE_DEADLINES; which++) {
        struct deadline *deadline = &deadlines.all[which];

        if (deadline->has_timer && deadline->owner == raw0(SYS_getpid)) {
            (void)set_timer(deadline, 0);
        }
        deadline->standby = NULL;
    }
}

void
gencore_release_deadlines(void)
{
    for (unsigned int which = 0; which < GENCORE_DEADLINES; which++) {
        struct deadline *deadline = &deadlines.all[which];
        struct gencore_result unused;

        (void)gencore_cancel_deadline(which, &unused);
        delete_timer(deadline);
        gencore_give_signal_back(deadline->signal, (void *)on_deadline);
        deadline->signal = 0;
    }
}

int
gencore_deadline_fired(unsigned int which, struct gencore_result *result)
{
    const struct deadline *deadline = &deadlines.all[which];

    if (!deadline->fired || deadline->owner != raw0(SYS_getpid)) {
        return GENCORE_NOT_FIRED;
    }
    *result = deadline->result;
    return deadline->fired;
}
