/* clang-format off */
/*
 * launcher.c - from the caller to a snapshot and its collector, leaving no trace in the caller.
 *
 *   caller ──clone(VM, no signal)────────► middle ──clone(VM|VFORK)──► collector ──clone()──► snapshot
 *     │  waits                              │ suspended                 │ files, names
 *     │                                     │                           │ stops the threads, clones, lets them go
 *     │                                     ◄────────── exec ───────────┘ becomes the collector's program
 *     ◄───────────── exits ─────────────────┘
 *
 * The helpers share the caller's memory, so nothing is copied but the snapshot, and they have file
 * descriptors, working directory, signal actions and limits of their own: whatever they do to those stays
 * theirs. The middle one exists so that the collector is not the caller's child: no SIGCHLD, nothing for
 * waitpid(-1), no zombie. The snapshot is the collector's child, which alone reaps it.
 */
/* clang-format on */
#include <linux/futex.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "gencore.h"
#include "runfiles.h"
#include "signal_safe.h"
#include "workers.h"

#define FIRST_SCRATCH_FD (GENCORE_FD_STDERR + 1) /* above the collector's fixed ones */
#define LIMIT_COUNT 16                           /* RLIM_NLIMITS */
#define NUDGE_NS (50 * 1000 * 1000)

/* ---- the collector-to-be ---------------------------------------------------------- */

/*
 * Read the end of what went to a descriptor; the number of bytes, 0 unless it is a file that was
 * opened for reading, too, as those are into which pytest captures. Its position, which is not ours
 * alone, stays where it is.
 */
static uint32_t
read_end(int fd, uint8_t buffer[GENCORE_OUTPUT_SIZE])
{
    struct stat status;
    long start, count;

    if (raw2(SYS_fstat, fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size == 0) {
        return 0;
    }
    start = status.st_size > GENCORE_OUTPUT_SIZE ? (long)status.st_size - GENCORE_OUTPUT_SIZE : 0;
    count = raw4(SYS_pread64, fd, buffer, GENCORE_OUTPUT_SIZE, start);
    return count > 0 ? (uint32_t)count : 0;
}

/*
 * Close all descriptors but the test run's standard error and the hand-over, negative if there is
 * none. They are moved: the first to its fixed number, the other to the one that is returned.
 */
static int
close_inherited(int stderr_fd, long handover)
{
    int first_closed = GENCORE_FD_STDERR;

    if (stderr_fd >= 0) {
        if (handover == GENCORE_FD_STDERR) {
            handover = raw3(SYS_fcntl, handover, F_DUPFD_CLOEXEC, FIRST_SCRATCH_FD);
        }
        /* An error if it is that already. */
        (void)raw3(SYS_dup3, stderr_fd, GENCORE_FD_STDERR, O_CLOEXEC);
        first_closed = FIRST_SCRATCH_FD;
    }
    for (int fd = 0; fd < GENCORE_FD_STDERR; fd++) {
        if (fd != handover) {
            (void)raw1(SYS_close, fd);
        }
    }
    if (handover < 0) {
        gencore_close_from((unsigned int)first_closed);
        return -1;
    }
    if (handover != first_closed) {
        (void)raw3(SYS_dup3, handover, first_closed, O_CLOEXEC);
        if (handover < first_closed) {
            (void)raw1(SYS_close, handover);
        }
    }
    gencore_close_from((unsigned int)first_closed + 1);
    return first_closed;
}

/*
 * A process of its own: session, signal actions, limits, umask, no inherited file descriptors.
 * `stderr_fd` is moved to its fixed number, -1 if there is none; standard input, output and error
 * are /dev/null. The hand-over with what was inherited, -1 if there is none.
 */
static int
become_independent(struct gencore_capture *capture, int stderr_fd)
{
    struct gencore_action default_action = {.handler = (void *)SIG_DFL};
    struct rlimit limit;
    int handover;
    long null;

    (void)raw0(SYS_setsid);
    for (int signal = 1; signal <= GENCORE_SIGNAL_COUNT; signal++) {
        (void)raw4(SYS_rt_sigaction, signal, &default_action, NULL, sizeof(gencore_sigset));
    }
    for (int resource = 0; resource < LIMIT_COUNT; resource++) {
        if (raw4(SYS_prlimit64, 0, resource, NULL, &limit) == 0 && limit.rlim_cur != limit.rlim_max
            && resource != RLIMIT_CORE) {
            limit.rlim_cur = limit.rlim_max;
            (void)raw4(SYS_prlimit64, 0, resource, &limit, NULL);
        }
    }
    (void)raw1(SYS_umask, 077);
    handover = close_inherited(stderr_fd,
                               gencore_describe_process(capture, capture->plan->stderr_fd));
    null = raw4(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0); /* 0 */
    (void)raw1(SYS_dup, null);                                 /* 1 */
    (void)raw1(SYS_dup, null);                                 /* 2 */
    return handover;
}

/*
 * Stop the threads, clone, let them go on. 0, or -errno with stage and error in the result; then
 * the threads run again and there is no snapshot. If the request holds the process, the threads of
 * a success stand until gencore_capture() releases them. The caller ends the snapshot if a later
 * step fails.
 */
static int
take_snapshot(struct gencore_capture *capture, struct gencore_snapshot *snapshot)
{
    struct gencore_threads *threads = capture->threads;
    int64_t started = safe_now(CLOCK_MONOTONIC), stopped, cloned;
    long pid;
    int error = 0, is_held;

    if (threads->signal) {
        error = gencore_stop(threads, capture->pid, capture->tid);
    }
    stopped = safe_now(CLOCK_MONOTONIC);
    if (error == -ENOSPC) {
        gencore_release(threads);
        return gencore_fail(capture, GENCORE_STAGE_TABLE, error);
    }
    /* Now that the thread that writes notes stands still. */
    gencore_find_journal(&capture->record.journal_address, &capture->record.journal_size);
    gencore_find_workers(&capture->record.workers_address, &capture->record.workers_count);
    pid = gencore_clone(SIGCHLD, capture->stack_tops[GENCORE_STACK_SNAPSHOT], gencore_snapshot_main,
                        snapshot, NULL);
    cloned = safe_now(CLOCK_MONOTONIC);
    is_held = threads->signal && capture->request->hold_ns > 0 && pid > 0;
    if (threads->signal && !is_held) {
        gencore_release(threads);
    }
    if (pid < 0) {
        return gencore_fail(capture, GENCORE_STAGE_SNAPSHOT, pid);
    }
    capture->result.snapshot_pid = (int32_t)pid;
    capture->record.snapshot_pid = (int32_t)pid;
    capture->record.stop_signal = error < 0 ? 0 : threads->signal;
    capture->record.signed_bits = gencore_signed_bits();
    capture->record.stop_ns = stopped - started;
    capture->record.snapshot_ns = cloned - stopped;
    capture->record.pause_ns = safe_now(CLOCK_MONOTONIC) - started;
    capture->record.stopped_at_ns = started;
    capture->record.hold_ns = is_held ? capture->request->hold_ns : 0;
    return 0;
}

/*
 * Write threads, text and output behind what the hand-over has already, then the record, and go
 * back to the start. 0 or -errno; `fd` stays the caller's.
 */
static long
write_handover(struct gencore_capture *capture, int fd)
{
    struct gencore_threads *threads = capture->threads;
    struct gencore_record *record = &capture->record;
    const struct gencore_request *request = capture->request;
    long error;

    record->thread_count = 1;
    for (uint32_t i = 0; i < threads->capacity; i++) {
        record->thread_count += threads->slots[i].tid != 0
                                && threads->slots[i].state != GENCORE_THREAD_GONE;
    }
    for (unsigned int i = 0; i < GENCORE_NAME_SIZE; i++) {
        record->name[i] = capture->result.name[i];
    }
    error = raw3(SYS_lseek, fd, sizeof(*record) + record->children_size + record->descriptors_size,
                 SEEK_SET);
    if (error < 0
        || (error = safe_write_all(fd, &capture->calling, sizeof(capture->calling))) < 0) {
        return error;
    }
    for (uint32_t i = 0; i < threads->capacity; i++) {
        const struct gencore_thread *thread = &threads->slots[i];

        if (thread->tid == 0 || thread->state == GENCORE_THREAD_GONE) {
            continue;
        }
        if ((error = safe_write_all(fd, thread, sizeof(*thread))) < 0) {
            return error;
        }
    }
    if ((error = safe_write_all(fd, request->text, request->text_size)) < 0
        || (error = safe_write_all(fd, request->test, safe_length(request->test))) < 0
        || (error = safe_write_all(fd, capture->text_end, safe_length(capture->text_end))) < 0
        || (error = safe_write_all(fd, capture->stdout_end, record->stdout_size)) < 0
        || (error = safe_write_all(fd, capture->stderr_end, record->stderr_size)) < 0
        || (error = raw3(SYS_lseek, fd, 0, SEEK_SET)) < 0
        || (error = safe_write_all(fd, record, sizeof(*record))) < 0) {
        return error;
    }
    return raw3(SYS_lseek, fd, 0, SEEK_SET);
}

/*
 * Give each descriptor its fixed number. 0 or -errno. Whatever was open below FIRST_SCRATCH_FD may
 * be closed by it, also after a failure: `files` is worth nothing any more, except that all is
 * closed on exec or exit.
 */
static long
arrange_files(struct gencore_files *files, int has_stderr)
{
    int *wanted[GENCORE_FD_STDERR] = {
        [1] = &files->log,
        [2] = &files->log,
        [GENCORE_FD_HANDOVER] = &files->handover,
        [GENCORE_FD_ARCHIVE] = &files->archive,
        [GENCORE_FD_STATE] = &files->state,
        [GENCORE_FD_COMMANDS] = &files->commands[1],
        [GENCORE_FD_REPLIES] = &files->replies[0],
    };
    int scratch[GENCORE_FD_STDERR];

    for (int i = 1; i < GENCORE_FD_STDERR; i++) {
        scratch[i] = (int)raw3(SYS_fcntl, *wanted[i], F_DUPFD_CLOEXEC, FIRST_SCRATCH_FD);
        if (scratch[i] < 0) {
            /* The snapshot's ends: without them the folders can be opened, to clean up. */
            (void)raw1(SYS_close, files->commands[0]);
            (void)raw1(SYS_close, files->replies[1]);
            return scratch[i];
        }
    }
    for (int i = 1; i < GENCORE_FD_STDERR; i++) {
        long error = raw3(SYS_dup3, scratch[i], i, 0);

        if (error < 0) {
            return error;
        }
    }
    return has_stderr ? raw3(SYS_fcntl, GENCORE_FD_STDERR, F_SETFD, 0) : 0;
}

static int
collector_main(void *argument)
{
    struct gencore_capture *capture = argument;
    struct gencore_files files = GENCORE_NO_FILES;
    struct gencore_snapshot snapshot;
    gencore_sigset none = 0;
    long error;

    if (capture->request->context) { /* a handler: nobody may live to show what was printed */
        capture->record.stdout_size = read_end(1, capture->stdout_end);
        capture->record.stderr_size = read_end(2, capture->stderr_end);
    }
    files.handover = become_independent(capture,
                                        capture->record.has_stderr ? capture->plan->stderr_fd : -1);
    if (gencore_open_files(capture, &files) < 0) {
        goto failed;
    }
    snapshot = (struct gencore_snapshot){
        .command_fd = files.commands[0],
        .reply_fd = files.replies[1],
        .work_fd = files.work,
        .core_filter = capture->request->core_filter,
        .page_size = capture->page_size,
        .is_awaited = capture->request->hold_ns > 0,
        .crash_stack_top = capture->stack_tops[GENCORE_STACK_MIDDLE],
    };
    if (take_snapshot(capture, &snapshot) < 0) {
        goto failed;
    }
    if (!snapshot.is_awaited) {
        gencore_lower_priority();
    }
    error = write_handover(capture, files.handover);
    if (error == 0) {
        error = arrange_files(&files, capture->record.has_stderr);
    }
    if (error < 0) {
        (void)gencore_fail(capture, GENCORE_STAGE_HANDOVER, error);
        gencore_reopen_folders(capture, &files);
        goto failed;
    }
    gencore_close_from(FIRST_SCRATCH_FD);
    (void)raw4(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(gencore_sigset));
    error = raw3(SYS_execve, capture->plan->argv[0], capture->plan->argv, capture->plan->envp);
    (void)gencore_fail(capture, GENCORE_STAGE_EXEC, error);
    gencore_reopen_folders(capture, &files); /* their descriptors made room for the collector's */

failed:
    if (capture->result.snapshot_pid) {
        (void)raw2(SYS_kill, capture->result.snapshot_pid, SIGKILL);
        (void)raw4(SYS_wait4, capture->result.snapshot_pid, NULL, 0, NULL);
    }
    gencore_remove_files(capture, &files);
    return 1;
}

static int
middle_main(void *argument)
{
    struct gencore_capture *capture = argument;
    long pid = gencore_clone(CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID,
                             capture->stack_tops[GENCORE_STACK_COLLECTOR], collector_main, capture,
                             &capture->result.collector_pid);

    if (pid < 0) {
        (void)gencore_fail(capture, GENCORE_STAGE_LAUNCH, pid);
    }
    __atomic_store_n(&capture->middle_done, 1, __ATOMIC_RELEASE);
    (void)raw3(SYS_futex, &capture->middle_done, FUTEX_WAKE_PRIVATE, 1);
    return 0;
}

/*
 * Not suspended by CLONE_VFORK, but waiting: a stop signal for our process group can reach the
 * helpers, too, and the collector-to-be leaves the group, so that nobody but us would let it go on
 * again.
 */
static void
wait_for_middle(struct gencore_capture *capture, int32_t middle)
{
    static const struct timespec patience = {0, NUDGE_NS};

    while (!__atomic_load_n(&capture->middle_done, __ATOMIC_ACQUIRE)) {
        int32_t collector;

        if (raw4(SYS_futex, &capture->middle_done, FUTEX_WAIT_PRIVATE, 0, &patience)
            != -ETIMEDOUT) {
            continue;
        }
        if (raw4(SYS_wait4, middle, NULL, __WALL | WNOHANG, NULL) == middle) {
            return; /* killed */
        }
        collector = __atomic_load_n(&capture->result.collector_pid, __ATOMIC_ACQUIRE);
        (void)raw2(SYS_kill, middle, SIGCONT);
        if (collector > 0) {
            (void)raw2(SYS_kill, collector, SIGCONT);
        }
    }
    while (raw4(SYS_wait4, middle, NULL, __WALL, NULL) == -EINTR) {
    }
}

int
gencore_launch(struct gencore_capture *capture)
{
    int subreaper = 0;
    long pid, error;

    capture->result.stage = GENCORE_STAGE_NONE;
    capture->result.error = 0;
    capture->result.snapshot_pid = 0;
    capture->result.collector_pid = 0;
    capture->record.slot = 0;
    capture->middle_done = 0;

    /* A subreaper would inherit the collector from the middle process and see it as its child. */
    (void)raw2(SYS_prctl, PR_GET_CHILD_SUBREAPER, &subreaper);
    if (subreaper) {
        (void)raw2(SYS_prctl, PR_SET_CHILD_SUBREAPER, 0);
    }
    pid = gencore_clone(CLONE_VM, capture->stack_tops[GENCORE_STACK_MIDDLE], middle_main, capture,
                        NULL);
    if (pid < 0) {
        error = gencore_fail(capture, GENCORE_STAGE_LAUNCH, pid);
    }
    else {
        wait_for_middle(capture, (int32_t)pid);
        error = -capture->result.error;
    }
    if (subreaper) {
        (void)raw2(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
    }
    if (error == 0 && capture->result.collector_pid <= 0) {
        error = gencore_fail(capture, GENCORE_STAGE_DIED, -ECHILD); /* a helper was killed */
    }
    return (int)error;
}
