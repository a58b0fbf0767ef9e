/*
 * crashes.c - handlers of fatal signals: capture, then hand on to whoever was there before.
 *
 * Installed after faulthandler's and taken out before it, so that its text, the exit status and a
 * core of the kernel stay what they would have been. Handing on means: the previous action is put
 * back and the signal comes again. A fault that the processor raised comes by itself, as the
 * handler returns to the very instruction; a signal that was sent is queued again with the same
 * siginfo.
 *
 * A second one lies under faulthandler's, as what that puts back when it is disabled: Py_FatalError
 * does so just before it aborts.
 */
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>

#include "deadlines.h"
#include "gencore.h"
#include "place.h"
#include "signal_safe.h"

/*
 * Room for what the kernel saves (AT_MINSIGSTKSZ: 3 KiB with AVX-512, 11 KiB with AMX; up to 76 KiB
 * with SME's matrix, which is not in that) and for our deepest handler, which takes less than 4
 * KiB: complain() in engine.c has the largest buffers.
 */
#define STACK_SIZE (128 * 1024)
#define PAGE 65536                         /* the largest there is */
#define OTHER_CRASH_NS (310 * NANOSECONDS) /* longer than the first one waits for its collector */

static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}; /* the usual ones outside */
#define FATAL_COUNT (sizeof(fatal) / sizeof(fatal[0]))

static struct {
    struct gencore_action previous[FATAL_COUNT];
    struct gencore_action under[FATAL_COUNT]; /* previous ones of that handler */
    struct gencore_action saved[FATAL_COUNT];
    void *known[FATAL_COUNT]; /* handlers that we have been put in front of on purpose */
    const struct gencore_standby *standby;
    const struct gencore_standby *child; /* of children by fork: they have inherited the handlers */
    int32_t owner;                       /* process that the handlers are for; 0: nobody's */
    int32_t crashed;                     /* futex: thread that captures, then DONE */
    int was_installed;                   /* ever */
    void *stack;
} watch;

#define DONE (-1)

static int
position_of(int signal)
{
    for (unsigned int i = 0; i < FATAL_COUNT; i++) {
        if (fatal[i] == signal) {
            return (int)i;
        }
    }
    return -1;
}

static void
hand_on(int signal, siginfo_t *info, const struct gencore_action *previous)
{
    int at = position_of(signal);

    if (at >= 0) {
        (void)raw4(SYS_rt_sigaction, signal, &previous[at], NULL, sizeof(gencore_sigset));
    }
    if (info->si_code <= 0) {
        /* Blocked until this handler returns, then it finds the process as the first one did. */
        (void)raw4(SYS_rt_tgsigqueueinfo, raw0(SYS_getpid), raw0(SYS_gettid), signal, info);
    }
}

/* Signal safe. A fault in here, with the signal blocked, makes the kernel end the process: no loop.
 */
static void
capture_crash(siginfo_t *info, void *context)
{
    static const struct timespec patience = {OTHER_CRASH_NS / NANOSECONDS, 0};
    int32_t tid = (int32_t)raw0(SYS_gettid), nobody = 0;

    int is_owner = raw0(SYS_getpid) == watch.owner;

    if (__atomic_compare_exchange_n(&watch.crashed, &nobody, tid, 0, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST)) {
        const struct gencore_standby *standby = __atomic_load_n(
            is_owner ? &watch.standby : &watch.child, __ATOMIC_SEQ_CST);
        struct gencore_result result;

        if (is_owner) {
            gencore_stop_deadlines(); /* waiting for the collector is not the test's time */
        }
        if (standby) {
            gencore_capture_in_handler(standby, 0, (struct gencore_usage){0}, info, context,
                                       &result);
        }
        __atomic_store_n(&watch.crashed, DONE, __ATOMIC_SEQ_CST);
        (void)raw3(SYS_futex, &watch.crashed, FUTEX_WAKE_PRIVATE, INT32_MAX);
    }
    else if (nobody != tid && nobody != DONE) {
        (void)raw4(SYS_futex, &watch.crashed, FUTEX_WAIT_PRIVATE, nobody, &patience);
    }
}

static void
on_any_crash(int signal, siginfo_t *info, void *context, const struct gencore_action *previous)
{
    if (signal == SIGBUS && info->si_code > 0 && gencore_is_list(info->si_addr)) {
        return; /* the instruction is run again */
    }
    capture_crash(info, context);
    hand_on(signal, info, previous);
}

static void
on_crash(int signal, siginfo_t *info, void *context)
{
    on_any_crash(signal, info, context, watch.previous);
}

static void
on_crash_under(int signal, siginfo_t *info, void *context)
{
    on_any_crash(signal, info, context, watch.under);
}

/* Without it a stack overflow leaves no room for a handler. It stays for the life of the process:
 * whoever had one before may have freed it meanwhile. */
static int
give_alternate_stack(void)
{
    stack_t stack = {.ss_size = STACK_SIZE};
    long memory;

    if (!watch.stack) {
        memory = raw6(SYS_mmap, 0, STACK_SIZE + PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory < 0 && memory > -4096) {
            return (int)memory;
        }
        (void)raw3(SYS_mprotect, memory, PAGE, PROT_NONE);
        watch.stack = (char *)memory + PAGE;
    }
    stack.ss_sp = watch.stack;
    return (int)raw2(SYS_sigaltstack, &stack, NULL);
}

int
gencore_watch_crashes(void)
{
    struct gencore_action action = {
        .handler = (void *)on_crash,
        .flags = SA_SIGINFO | SA_ONSTACK | gencore_restorer_flag,
        .restorer = gencore_restorer,
    };
    int32_t pid = (int32_t)raw0(SYS_getpid);
    int is_first = !watch.was_installed, count = 0;

    if (watch.owner != pid) {
        int error = give_alternate_stack();

        if (error < 0) {
            return error;
        }
        watch.crashed = 0;
    }
    for (unsigned int i = 0; i < FATAL_COUNT; i++) {
        struct gencore_action current;

        if (raw4(SYS_rt_sigaction, fatal[i], NULL, &current, sizeof(gencore_sigset)) < 0) {
            continue;
        }
        if (current.handler != (void *)on_crash && current.handler != (void *)on_crash_under) {
            if (!is_first && current.handler != (void *)SIG_DFL
                && current.handler != watch.known[i]) {
                continue; /* the user's own, on purpose */
            }
            watch.previous[i] = current;
            if (current.handler != (void *)SIG_DFL) {
                watch.known[i] = current.handler;
            }
            if (raw4(SYS_rt_sigaction, fatal[i], &action, NULL, sizeof(gencore_sigset)) < 0) {
                continue;
            }
        }
        count++;
    }
    watch.owner = pid;
    watch.was_installed = 1;
    return count;
}

static int
is_ours(unsigned int at)
{
    struct gencore_action current;

    return raw4(SYS_rt_sigaction, fatal[at], NULL, &current, sizeof(gencore_sigset)) == 0
           && (current.handler == (void *)on_crash || current.handler == (void *)on_crash_under);
}

/*
 * For each test: to look takes a system call. Who displaces handlers, as faulthandler does,
 * displaces SIGSEGV's, too; so of the rare ones one is looked at each time.
 */
void
gencore_rewatch_crashes(void)
{
    static unsigned int turn;
    unsigned int others = FATAL_COUNT - 2, other = 1 + turn++ % others;

    if (watch.owner != raw0(SYS_getpid) || !is_ours(0) || !is_ours(FATAL_COUNT - 1)
        || !is_ours(other)) {
        (void)gencore_watch_crashes();
    }
}

void
gencore_unwatch_crashes(void)
{
    for (unsigned int i = 0; i < FATAL_COUNT && watch.owner; i++) {
        struct gencore_action current;

        if (raw4(SYS_rt_sigaction, fatal[i], NULL, &current, sizeof(gencore_sigset)) == 0
            && current.handler == (void *)on_crash) {
            (void)raw4(SYS_rt_sigaction, fatal[i], &watch.previous[i], NULL,
                       sizeof(gencore_sigset));
        }
    }
    watch.owner = 0;
}

void
gencore_forget_handlers(void)
{
    watch.was_installed = 0;
}

int32_t
gencore_crashing_thread(void)
{
    int32_t thread = __atomic_load_n(&watch.crashed, __ATOMIC_SEQ_CST);

    return thread && watch.owner == raw0(SYS_getpid) ? thread : 0;
}

int
gencore_is_crashing(void)
{
    return gencore_crashing_thread() != 0;
}

void
gencore_save_actions(void)
{
    for (unsigned int i = 0; i < FATAL_COUNT; i++) {
        (void)raw4(SYS_rt_sigaction, fatal[i], NULL, &watch.saved[i], sizeof(gencore_sigset));
    }
}

static void
change_under_faulthandler(int is_installing)
{
    struct gencore_action action = {
        .handler = (void *)on_crash_under,
        .flags = SA_SIGINFO | SA_ONSTACK | gencore_restorer_flag,
        .restorer = gencore_restorer,
    };

    for (unsigned int i = 0; i < FATAL_COUNT; i++) {
        struct gencore_action current;

        if (raw4(SYS_rt_sigaction, fatal[i], NULL, &current, sizeof(gencore_sigset)) < 0
            || (current.handler == (void *)on_crash_under) == is_installing) {
            continue;
        }
        if (is_installing) {
            watch.under[i] = current;
        }
        (void)raw4(SYS_rt_sigaction, fatal[i], is_installing ? &action : &watch.under[i], NULL,
                   sizeof(gencore_sigset));
    }
}

void
gencore_install_under_faulthandler(void)
{
    change_under_faulthandler(1);
}

void
gencore_remove_under_faulthandler(void)
{
    change_under_faulthandler(0);
}

void
gencore_restore_actions(void)
{
    for (unsigned int i = 0; i < FATAL_COUNT; i++) {
        struct gencore_action current;

        if (raw4(SYS_rt_sigaction, fatal[i], NULL, &current, sizeof(gencore_sigset)) == 0
            && current.handler != watch.saved[i].handler) {
            (void)raw4(SYS_rt_sigaction, fatal[i], &watch.saved[i], NULL, sizeof(gencore_sigset));
        }
    }
}

int
gencore_set_crash_standby(const struct gencore_standby *standby)
{
    const struct gencore_standby *before = __atomic_exchange_n(&watch.standby, standby,
                                                               __ATOMIC_SEQ_CST);

    return before && __atomic_load_n(&watch.crashed, __ATOMIC_SEQ_CST);
}

void
gencore_set_child_standby(const struct gencore_standby *standby)
{
    __atomic_store_n(&watch.child, standby, __ATOMIC_SEQ_CST);
}
