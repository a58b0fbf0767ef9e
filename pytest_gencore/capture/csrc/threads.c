/*
 * threads.c - stop the other threads, save their registers, let them go on.
 *
 * The way of garbage collectors: every thread gets a real-time signal; its handler saves the
 * interrupted registers into the thread's own slot, answers, and sleeps on a futex until the
 * snapshot has been taken. No ptrace. The stopping side runs in a helper that shares our memory but
 * is another process.
 */
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "gencore.h"
#include "signal_safe.h"

#define STOP_DEADLINE_NS (200 * 1000 * 1000LL) /* without any new answer */
#define STOP_LIMIT_NS (10 * STOP_DEADLINE_NS)  /* with answers still coming in */
#define LOOK_AFTER_NS (5 * 1000 * 1000LL)      /* silence, before asking the kernel why */
#define STABLE_PASSES 4                        /* listings that disagree with the thread count */

/* The table of the capture under way, for the handler. One capture at a time: engine.c. */
static struct gencore_threads *volatile current;

static long
futex_wait(uint32_t *word, uint32_t expected, int64_t nanoseconds)
{
    struct timespec timeout = {nanoseconds / NANOSECONDS, nanoseconds % NANOSECONDS};

    return raw4(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nanoseconds < 0 ? NULL : &timeout);
}

static void
futex_wake_all(uint32_t *word)
{
    (void)raw3(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

/* Slot of `tid`, or the free slot where it would go. */
static struct gencore_thread *
slot_of(struct gencore_threads *threads, int32_t tid)
{
    uint32_t mask = threads->capacity - 1;
    uint32_t at = (uint32_t)tid * 2654435761u & mask;

    while (threads->slots[at].tid != 0 && threads->slots[at].tid != tid) {
        at = (at + 1) & mask;
    }
    return &threads->slots[at];
}

static int
change_state(struct gencore_thread *thread, uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(&thread->state, &from, to, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* In the stopped thread. Signal safe. A signal that comes too late finds no slot that waits. */
static void
on_stop_signal(int signal, siginfo_t *info, void *context)
{
    struct gencore_threads *threads = current;
    struct gencore_thread *thread;
    uint32_t epoch, released;

    (void)signal;
    (void)info;
    if (!threads) {
        return;
    }
    (void)__atomic_add_fetch(&threads->inside, 1, __ATOMIC_ACQ_REL);
    epoch = __atomic_load_n(&threads->epoch, __ATOMIC_ACQUIRE);
    thread = slot_of(threads, (int32_t)raw0(SYS_gettid));
    if (thread->tid == 0
        || __atomic_load_n(&thread->state, __ATOMIC_ACQUIRE) != GENCORE_THREAD_ASKED) {
        goto leave;
    }
    gencore_registers_from_context(thread, context);
    (void)raw2(SYS_prctl, PR_GET_NAME, thread->name);
    if (!change_state(thread, GENCORE_THREAD_ASKED, GENCORE_THREAD_STOPPED)) {
        goto leave; /* given up on meanwhile */
    }
    (void)__atomic_add_fetch(&threads->stopped, 1, __ATOMIC_ACQ_REL);
    futex_wake_all(&threads->stopped);
    /* By distance, not equality: a thread that wakes late may find a later capture's epoch. */
    while ((int32_t)((released = __atomic_load_n(&threads->released, __ATOMIC_ACQUIRE)) - epoch)
           < 0) {
        (void)futex_wait(&threads->released, released, -1);
    }
leave:
    (void)__atomic_sub_fetch(&threads->inside, 1, __ATOMIC_ACQ_REL);
}

int
gencore_arm(struct gencore_threads *threads, struct gencore_action *previous)
{
    struct gencore_action action = {
        .handler = (void *)on_stop_signal,
        .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | gencore_restorer_flag,
        .restorer = gencore_restorer,
        .mask = ~(gencore_sigset)0,
    };

    int signal;

    current = threads;
    signal = gencore_take_signal(&action, previous);
    threads->signal = signal > 0 ? signal : 0;
    return signal > 0 ? 0 : signal;
}

void
gencore_disarm(struct gencore_threads *threads, const struct gencore_action *previous)
{
    struct gencore_action ignore = {.handler = (void *)SIG_IGN};

    if (!threads->signal) {
        return;
    }
    /* A thread that blocks the signal has it pending. POSIX: ignoring a signal discards it, blocked
     * or not; with the default action it would end the process as soon as the thread unblocks it.
     */
    (void)raw4(SYS_rt_sigaction, threads->signal, &ignore, NULL, sizeof(gencore_sigset));
    (void)raw4(SYS_rt_sigaction, threads->signal, previous, NULL, sizeof(gencore_sigset));
}

/* "/proc/PID/task/TID/file" */
static void
task_path(char *buffer, size_t size, int32_t pid, int32_t tid, const char *file)
{
    struct safe_text text = safe_text_in(buffer, size);

    safe_put(&text, "/proc/");
    safe_put_number(&text, (uint64_t)pid, 1);
    safe_put(&text, "/task");
    if (tid) {
        safe_put(&text, "/");
        safe_put_number(&text, (uint64_t)tid, 1);
        safe_put(&text, file);
    }
}

/* Signal a thread; 0 or -errno. UNASKED if RLIMIT_SIGPENDING is reached: answers make room. */
static long
ask(struct gencore_threads *threads, struct gencore_thread *thread, int32_t pid)
{
    long error;

    __atomic_store_n(&thread->state, GENCORE_THREAD_ASKED, __ATOMIC_RELEASE);
    threads->asked++;
    error = raw3(SYS_tgkill, pid, thread->tid, threads->signal);
    if (error < 0) {
        thread->state = error == -EAGAIN ? GENCORE_THREAD_UNASKED : GENCORE_THREAD_GONE;
        threads->asked--;
    }
    return error;
}

/* List the task directory once and signal who is new or could not be asked. New threads and those
 * asked at last, or -errno; *listed: entries seen. */
static long
ask_new_threads(struct gencore_threads *threads, long directory, int32_t pid, int32_t tid,
                uint32_t *listed)
{
    static _Alignas(8) char buffer[32768]; /* one capture at a time */
    long added = 0, size;

    *listed = 0;
    (void)raw3(SYS_lseek, directory, 0, 0);
    while ((size = raw3(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
        for (long at = 0; at < size;) {
            const struct safe_entry *entry = (const struct safe_entry *)(buffer + at);
            int32_t found = safe_entry_number(entry);
            struct gencore_thread *thread;

            at += entry->size;
            if (found <= 0) {
                continue;
            }
            ++*listed;
            if (found == tid) {
                continue;
            }
            thread = slot_of(threads, found);
            if (thread->tid == found) {
                if (__atomic_load_n(&thread->state, __ATOMIC_ACQUIRE) == GENCORE_THREAD_UNASKED) {
                    added += ask(threads, thread, pid) == 0;
                }
                continue;
            }
            if (threads->used + 1 > threads->capacity / 2) {
                return -ENOSPC;
            }
            thread->tid = found;
            threads->used++;
            (void)ask(threads, thread, pid);
            added++;
        }
    }
    return size < 0 ? size : added;
}

/* Where a thread that was not reached is, from /proc/PID/task/TID/syscall: see proc(5). */
static void
describe_unreached(struct gencore_thread *thread, int32_t pid)
{
    char path[96], text[512];
    const char *at = text;
    uint64_t numbers[9];
    int count = 0;
    long size;

    task_path(path, sizeof(path), pid, thread->tid, "/comm");
    size = safe_read_file(path, thread->name, sizeof(thread->name));
    if (size > 0 && thread->name[size - 1] == '\n') {
        thread->name[size - 1] = '\0';
    }
    task_path(path, sizeof(path), pid, thread->tid, "/syscall");
    if (safe_read_file(path, text, sizeof(text)) <= 0 || text[0] == 'r') {
        return; /* not allowed, or "running" */
    }
    while (*at && *at != ' ') {
        at++; /* the call's number, decimal, -1 if blocked outside a call */
    }
    while (*at == ' ') {
        at++;
    }
    while (*at && *at != '\n' && count < 9) {
        const char *before = at;

        numbers[count] = safe_hex(&at);
        if (at == before) {
            return;
        }
        count++;
    }
    if (count >= 2) {
        gencore_registers_from_position(thread, numbers[count - 1], numbers[count - 2]);
    }
}

/*
 * Why a thread has not answered: GONE if it has ended, MASKED if it has blocked the signal twice in
 * a row (libraries block all signals for a moment, when they create a thread for example); 0 if it
 * may still answer: where the signal is not pending the thread has it, and is on its way.
 */
static uint32_t
judge_silent(struct gencore_thread *thread, int32_t pid, uint64_t signal_bit)
{
    char path[96], value[32];
    const char *at = value;
    long size;
    uint64_t blocked;
    int is_masked;

    task_path(path, sizeof(path), pid, thread->tid, "/status");
    size = safe_read_field(path, "State:\t", value, sizeof(value));
    if (size == -ENOENT || size == -ESRCH || (size > 0 && (value[0] == 'Z' || value[0] == 'X'))) {
        return GENCORE_THREAD_GONE;
    }
    if (safe_read_field(path, "SigPnd:\t", value, sizeof(value)) <= 0
        || !(safe_hex(&at) & signal_bit)) {
        return 0;
    }
    at = value;
    if (safe_read_field(path, "SigBlk:\t", value, sizeof(value)) <= 0) {
        return 0;
    }
    blocked = safe_hex(&at);
    is_masked = (blocked & signal_bit) && (thread->sigmask & signal_bit);
    thread->sigmask = blocked;
    return is_masked ? GENCORE_THREAD_MASKED : 0;
}

/* After a silence: threads that ended or that block the signal will never answer. */
static void
look_at_silent(struct gencore_threads *threads, int32_t pid, int last_look)
{
    uint64_t bit = GENCORE_SIGNAL(threads->signal);

    for (uint32_t i = 0; i < threads->capacity; i++) {
        struct gencore_thread *thread = &threads->slots[i];
        uint32_t verdict;

        if (thread->tid == 0
            || __atomic_load_n(&thread->state, __ATOMIC_ACQUIRE) != GENCORE_THREAD_ASKED) {
            continue;
        }
        verdict = judge_silent(thread, pid, bit);
        if (!verdict && last_look) {
            verdict = GENCORE_THREAD_SILENT;
        }
        if (verdict && change_state(thread, GENCORE_THREAD_ASKED, verdict)) {
            threads->asked--;
            if (verdict != GENCORE_THREAD_GONE) {
                describe_unreached(thread, pid);
            }
        }
    }
}

/* At the end: who could not be asked, and has not ended. */
static void
look_at_unasked(struct gencore_threads *threads, int32_t pid)
{
    for (uint32_t i = 0; i < threads->capacity; i++) {
        struct gencore_thread *thread = &threads->slots[i];

        if (thread->tid == 0
            || __atomic_load_n(&thread->state, __ATOMIC_ACQUIRE) != GENCORE_THREAD_UNASKED) {
            continue;
        }
        if (judge_silent(thread, pid, 0) == GENCORE_THREAD_GONE) {
            thread->state = GENCORE_THREAD_GONE;
        }
        else {
            describe_unreached(thread, pid);
        }
    }
}

static void
wait_for_answers(struct gencore_threads *threads, int32_t pid, int64_t limit)
{
    uint32_t answers = __atomic_load_n(&threads->stopped, __ATOMIC_ACQUIRE);
    int64_t last_answer = safe_now(CLOCK_MONOTONIC);

    while (answers < threads->asked) {
        int64_t now;
        uint32_t seen = answers;

        (void)futex_wait(&threads->stopped, seen, LOOK_AFTER_NS);
        answers = __atomic_load_n(&threads->stopped, __ATOMIC_ACQUIRE);
        now = safe_now(CLOCK_MONOTONIC);
        if (answers != seen && now < limit) {
            last_answer = now;
            continue;
        }
        look_at_silent(threads, pid, now - last_answer >= STOP_DEADLINE_NS || now >= limit);
        answers = __atomic_load_n(&threads->stopped, __ATOMIC_ACQUIRE);
    }
}

int
gencore_stop(struct gencore_threads *threads, int32_t pid, int32_t tid)
{
    char path[64];
    long directory;
    int passes = 0;
    int64_t limit = safe_now(CLOCK_MONOTONIC) + STOP_LIMIT_NS;

    task_path(path, sizeof(path), pid, 0, "");
    directory = raw4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0) {
        return (int)directory;
    }
    for (;;) {
        struct stat status;
        uint32_t listed;
        long added = ask_new_threads(threads, directory, pid, tid, &listed);

        if (added < 0) {
            (void)raw1(SYS_close, directory);
            return (int)added;
        }
        wait_for_answers(threads, pid, limit);
        if (safe_now(CLOCK_MONOTONIC) >= limit) {
            break;
        }
        if (added > 0) {
            continue;
        }
        /* A listing can pass over a thread while another one ends; the link count tells how many
         * there are: 2 + threads, fs/proc/base.c proc_task_getattr(). */
        if (raw2(SYS_fstat, directory, &status) < 0 || status.st_nlink == (nlink_t)listed + 2
            || ++passes >= STABLE_PASSES) {
            break;
        }
    }
    (void)raw1(SYS_close, directory);
    look_at_unasked(threads, pid);
    return 0;
}

void
gencore_release(struct gencore_threads *threads)
{
    __atomic_store_n(&threads->released, threads->epoch, __ATOMIC_RELEASE);
    futex_wake_all(&threads->released);
}

long
gencore_count_threads(void)
{
    struct stat status;
    long error = raw4(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &status, 0);

    return error < 0 ? error : (long)status.st_nlink - 2;
}
