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
#include <linux/futex.h>
#include <linux/memfd.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "frozen.h"
#include "gencore.h"

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define FIRST_SCRATCH_FD 32 /* above the collector's fixed ones */
#define SEQUENCE_LIMIT 100000u
#define LIMIT_COUNT 16 /* RLIM_NLIMITS */
#define NUDGE_NS (50 * 1000 * 1000)

/* What the collector-to-be holds; -1 if not. All close-on-exec until they get their fixed numbers. */
struct files {
    int directory;
    int run;
    int work;
    int archive;
    int state;
    int log;
    int request[2];
    int reply[2];
    int handover;
    int claimed;
};

static int
fail(struct gencore_capture *capture, enum gencore_stage stage, long error)
{
    capture->result.stage = (int32_t)stage;
    capture->result.error = (int32_t)-error;
    return (int)error;
}

/* ---- names --------------------------------------------------------------------------------------- */

/* Days since 1970-01-01 to a civil date; the usual era arithmetic, proleptic Gregorian, UTC. */
static void
put_time(struct frozen_text *text, int64_t seconds)
{
    int64_t days = seconds / 86400, second = seconds % 86400;
    int64_t shifted = days + 719468; /* from 0000-03-01 */
    int64_t era = shifted / 146097, of_era = shifted % 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * of_year + 2) / 153;
    int64_t day = of_year - (153 * month_from_march + 2) / 5 + 1;
    int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;

    frozen_put_number(text, (uint64_t)(year_of_era + era * 400 + (month <= 2)), 4);
    frozen_put_number(text, (uint64_t)month, 2);
    frozen_put_number(text, (uint64_t)day, 2);
    frozen_put(text, ".");
    frozen_put_number(text, (uint64_t)(second / 3600), 2);
    frozen_put_number(text, (uint64_t)(second / 60 % 60), 2);
    frozen_put_number(text, (uint64_t)(second % 60), 2);
}

/* "core_YYYYMMDD.HHMMSS.PID.SEQ", UTC */
static void
make_name(char name[GENCORE_NAME_SIZE], int64_t nanoseconds, int32_t pid, uint32_t sequence)
{
    struct frozen_text text = frozen_text_in(name, GENCORE_NAME_SIZE);

    frozen_put(&text, "core_");
    put_time(&text, nanoseconds / NANOSECONDS);
    frozen_put(&text, ".");
    frozen_put_number(&text, (uint64_t)pid, 1);
    frozen_put(&text, ".");
    frozen_put_number(&text, sequence, 3);
}

static void
name_with(char *buffer, size_t size, const char *name, const char *suffix)
{
    struct frozen_text text = frozen_text_in(buffer, size);

    frozen_put(&text, name);
    frozen_put(&text, suffix);
}

/* ---- files --------------------------------------------------------------------------------------- */

static void
make_directories(const char *path)
{
    char prefix[4096];
    size_t i;

    for (i = 0; path[i] && i < sizeof(prefix) - 1; i++) {
        if (path[i] == '/' && i > 0) {
            prefix[i] = '\0';
            (void)raw3(SYS_mkdirat, AT_FDCWD, prefix, 0700);
        }
        prefix[i] = path[i];
    }
    prefix[i] = '\0';
    (void)raw3(SYS_mkdirat, AT_FDCWD, prefix, 0700);
}

/* The run's folder is ours alone: never through a link, never somebody else's. */
static long
open_private_directory(int parent, const char *name)
{
    struct stat status;
    long made = raw3(SYS_mkdirat, parent, name, 0700);
    long fd;

    if (made < 0 && made != -EEXIST) {
        return made;
    }
    fd = raw4(SYS_openat, parent, name, DIRECTORY_FLAGS | O_NOFOLLOW, 0);
    if (fd >= 0
        && (raw2(SYS_fstat, fd, &status) < 0 || (long)status.st_uid != raw0(SYS_geteuid)
            || (status.st_mode & 077))) {
        (void)raw1(SYS_close, fd);
        return -EPERM;
    }
    return fd;
}

static long
create_private(int parent, const char *name)
{
    return raw4(SYS_openat, parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* The archive's name is taken by creating its .partial; the first free sequence number wins. */
static int
reserve_name(struct gencore_capture *capture, struct files *files)
{
    char *name = capture->result.name;
    char file_name[GENCORE_NAME_SIZE + 16];

    for (uint32_t tries = 0; tries < SEQUENCE_LIMIT; tries++) {
        long error;

        make_name(name, capture->record.started_ns, capture->pid, ++capture->sequence);
        name_with(file_name, sizeof(file_name), name, ".tar.gz");
        if (raw3(SYS_faccessat, files->directory, file_name, 0) == 0) {
            continue;
        }
        name_with(file_name, sizeof(file_name), name, ".tar.gz.partial");
        error = create_private(files->directory, file_name);
        if (error >= 0) {
            files->archive = (int)error;
            return 0;
        }
        if (error != -EEXIST) {
            return fail(capture, GENCORE_STAGE_NAME, error);
        }
    }
    return fail(capture, GENCORE_STAGE_NAME, -EEXIST);
}

/* Count what is refused, a byte each; the file's size is the number. */
static void
count_refusal(int run, const char *name)
{
    long fd = raw4(SYS_openat, run, name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd >= 0) {
        (void)frozen_write_all((int)fd, ".", 1);
        (void)raw1(SYS_close, fd);
    }
}

static int
make_mark(int run, const char *name)
{
    long fd = create_private(run, name);

    if (fd >= 0) {
        (void)raw1(SYS_close, fd);
    }
    return fd < 0 ? (int)fd : 0;
}

static void
slot_name(char *buffer, size_t size, uint32_t slot)
{
    struct frozen_text text = frozen_text_in(buffer, size);

    frozen_put(&text, "slot-");
    frozen_put_number(&text, slot, 1);
}

/* One of the run's captures is ours, shared by all its processes. */
static int
take_slot(struct gencore_capture *capture, const struct files *files)
{
    int32_t limit = capture->plan->max_captures;
    char name[32];

    if (raw3(SYS_faccessat, files->run, "full", 0) == 0) {
        count_refusal(files->run, "refused-full");
        return fail(capture, GENCORE_STAGE_FULL, -EDQUOT);
    }
    for (int32_t slot = 1; slot <= limit; slot++) {
        int error;

        slot_name(name, sizeof(name), (uint32_t)slot);
        error = make_mark(files->run, name);
        if (error == 0) {
            capture->record.slot = (uint32_t)slot;
            return 0;
        }
        if (error != -EEXIST) {
            return fail(capture, GENCORE_STAGE_FILES, error);
        }
    }
    if (limit >= 0) {
        count_refusal(files->run, "refused-limit");
        return fail(capture, GENCORE_STAGE_LIMIT, -EDQUOT);
    }
    return 0;
}

/* One capture a test, also if another worker runs it again. */
static int
take_claim(struct gencore_capture *capture, struct files *files)
{
    const char *claim = capture->request->claim;
    int error;

    if (!claim) {
        return 0;
    }
    error = make_mark(files->run, claim);
    if (error == 0) {
        files->claimed = 1;
        return 0;
    }
    if (error != -EEXIST) {
        return fail(capture, GENCORE_STAGE_FILES, error);
    }
    count_refusal(files->run, claim);
    return fail(capture, GENCORE_STAGE_CLAIMED, error);
}

static int
open_files(struct gencore_capture *capture, struct files *files)
{
    char file_name[GENCORE_NAME_SIZE + 16];
    long fd;

    make_directories(capture->plan->directory);
    fd = raw4(SYS_openat, AT_FDCWD, capture->plan->directory, DIRECTORY_FLAGS, 0);
    if (fd < 0) {
        return fail(capture, GENCORE_STAGE_DIRECTORY, fd);
    }
    files->directory = (int)fd;
    fd = open_private_directory(files->directory, capture->plan->run_name);
    if (fd < 0) {
        return fail(capture, GENCORE_STAGE_RUN_DIRECTORY, fd);
    }
    files->run = (int)fd;
    if (take_claim(capture, files) < 0 || take_slot(capture, files) < 0
        || reserve_name(capture, files) < 0) {
        return -1;
    }
    fd = open_private_directory(files->run, capture->result.name);
    if (fd < 0) {
        return fail(capture, GENCORE_STAGE_FILES, fd);
    }
    files->work = (int)fd;
    name_with(file_name, sizeof(file_name), capture->result.name, ".json");
    fd = create_private(files->run, file_name);
    if (fd < 0) {
        return fail(capture, GENCORE_STAGE_FILES, fd);
    }
    files->state = (int)fd;
    (void)raw2(SYS_flock, files->state, LOCK_EX | LOCK_NB);
    name_with(file_name, sizeof(file_name), capture->result.name, ".log");
    fd = create_private(files->run, file_name);
    if (fd < 0) {
        return fail(capture, GENCORE_STAGE_FILES, fd);
    }
    files->log = (int)fd;
    if ((fd = raw2(SYS_pipe2, files->request, O_CLOEXEC)) < 0
        || (fd = raw2(SYS_pipe2, files->reply, O_CLOEXEC)) < 0
        || (fd = raw2(SYS_memfd_create, "gencore-handover", MFD_CLOEXEC)) < 0) {
        return fail(capture, GENCORE_STAGE_FILES, fd);
    }
    files->handover = (int)fd;
    (void)raw3(SYS_fcntl, files->reply[0], F_SETPIPE_SZ, 1024 * 1024); /* fewer switches; may be refused */
    return 0;
}

static void
remove_files(struct gencore_capture *capture, const struct files *files)
{
    const char *name = capture->result.name;
    char file_name[GENCORE_NAME_SIZE + 16];

    if (files->archive >= 0) {
        name_with(file_name, sizeof(file_name), name, ".tar.gz.partial");
        (void)raw3(SYS_unlinkat, files->directory, file_name, 0);
    }
    if (files->run >= 0) {
        if (capture->record.slot) {
            slot_name(file_name, sizeof(file_name), capture->record.slot);
            (void)raw3(SYS_unlinkat, files->run, file_name, 0);
        }
        if (files->claimed) {
            (void)raw3(SYS_unlinkat, files->run, capture->request->claim, 0);
        }
        name_with(file_name, sizeof(file_name), name, ".json");
        (void)raw3(SYS_unlinkat, files->run, file_name, 0);
        name_with(file_name, sizeof(file_name), name, ".log");
        (void)raw3(SYS_unlinkat, files->run, file_name, 0);
        (void)raw3(SYS_unlinkat, files->run, name, AT_REMOVEDIR);
        (void)raw3(SYS_unlinkat, files->directory, capture->plan->run_name, AT_REMOVEDIR); /* if empty */
    }
}

/* ---- the collector-to-be ------------------------------------------------------------------------- */

/* A process of its own: session, signal actions, limits, umask, no inherited file descriptors. */
static void
become_independent(int stderr_fd)
{
    struct gencore_action default_action = {.handler = (void *)SIG_DFL};
    struct rlimit limit;
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
    if (stderr_fd >= 0) {
        (void)raw3(SYS_dup3, stderr_fd, GENCORE_FD_STDERR, O_CLOEXEC); /* an error if it is that already */
        for (int fd = 0; fd < GENCORE_FD_STDERR; fd++) {
            (void)raw1(SYS_close, fd);
        }
        gencore_close_from(GENCORE_FD_STDERR + 1);
    }
    else {
        gencore_close_from(0);
    }
    null = raw4(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0); /* 0 */
    (void)raw1(SYS_dup, null);                                 /* 1 */
    (void)raw1(SYS_dup, null);                                 /* 2 */
}

static int
take_snapshot(struct gencore_capture *capture, struct gencore_snapshot *snapshot)
{
    struct gencore_threads *threads = capture->threads;
    int64_t started = frozen_now(CLOCK_MONOTONIC), stopped, cloned;
    long pid;
    int error = 0, is_held;

    if (threads->signal) {
        error = gencore_stop(threads, capture->pid, capture->tid);
    }
    stopped = frozen_now(CLOCK_MONOTONIC);
    if (error == -ENOSPC) {
        gencore_release(threads);
        return fail(capture, GENCORE_STAGE_TABLE, error);
    }
    pid = gencore_clone(SIGCHLD, capture->stack_tops[GENCORE_STACK_SNAPSHOT],
                        gencore_snapshot_main, snapshot, NULL);
    cloned = frozen_now(CLOCK_MONOTONIC);
    is_held = threads->signal && capture->request->hold_ns > 0 && pid > 0;
    if (threads->signal && !is_held) {
        gencore_release(threads);
    }
    if (pid < 0) {
        return fail(capture, GENCORE_STAGE_SNAPSHOT, pid);
    }
    capture->result.snapshot_pid = (int32_t)pid;
    capture->record.snapshot_pid = (int32_t)pid;
    capture->record.stop_signal = error < 0 ? 0 : threads->signal;
    capture->record.stop_ns = stopped - started;
    capture->record.snapshot_ns = cloned - stopped;
    capture->record.pause_ns = frozen_now(CLOCK_MONOTONIC) - started;
    capture->record.stopped_at_ns = started;
    capture->record.hold_ns = is_held ? capture->request->hold_ns : 0;
    return 0;
}

static long
write_handover(struct gencore_capture *capture, int fd)
{
    struct gencore_threads *threads = capture->threads;
    struct gencore_record *record = &capture->record;
    long error;

    record->thread_count = 1;
    for (uint32_t i = 0; i < threads->capacity; i++) {
        record->thread_count += threads->slots[i].tid != 0
                                && threads->slots[i].state != GENCORE_THREAD_GONE;
    }
    for (unsigned int i = 0; i < GENCORE_NAME_SIZE; i++) {
        ((volatile char *)record->name)[i] = capture->result.name[i];
    }
    if ((error = frozen_write_all(fd, record, sizeof(*record))) < 0
        || (error = frozen_write_all(fd, &capture->calling, sizeof(capture->calling))) < 0) {
        return error;
    }
    for (uint32_t i = 0; i < threads->capacity; i++) {
        const struct gencore_thread *thread = &threads->slots[i];

        if (thread->tid == 0 || thread->state == GENCORE_THREAD_GONE) {
            continue;
        }
        if ((error = frozen_write_all(fd, thread, sizeof(*thread))) < 0) {
            return error;
        }
    }
    if ((error = frozen_write_all(fd, capture->request->text, capture->request->text_size)) < 0) {
        return error;
    }
    return raw3(SYS_lseek, fd, 0, 0);
}

/* Give each descriptor its fixed number; close all others. */
static long
arrange_files(struct files *files, int has_stderr)
{
    int *wanted[GENCORE_FD_STDERR] = {
        [1] = &files->log,
        [2] = &files->log,
        [GENCORE_FD_HANDOVER] = &files->handover,
        [GENCORE_FD_ARCHIVE] = &files->archive,
        [GENCORE_FD_STATE] = &files->state,
        [GENCORE_FD_REQUEST] = &files->request[1],
        [GENCORE_FD_REPLY] = &files->reply[0],
    };
    int scratch[GENCORE_FD_STDERR];

    for (int i = 1; i < GENCORE_FD_STDERR; i++) {
        scratch[i] = (int)raw3(SYS_fcntl, *wanted[i], F_DUPFD_CLOEXEC, FIRST_SCRATCH_FD);
        if (scratch[i] < 0) {
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
    struct files files = {-1, -1, -1, -1, -1, -1, {-1, -1}, {-1, -1}, -1, 0};
    struct gencore_snapshot snapshot;
    gencore_sigset none = 0;
    long error;

    become_independent(capture->record.has_stderr ? capture->plan->stderr_fd : -1);
    if (open_files(capture, &files) < 0) {
        goto failed;
    }
    snapshot = (struct gencore_snapshot){
        .request_fd = files.request[0],
        .reply_fd = files.reply[1],
        .work_fd = files.work,
        .core_filter = capture->request->core_filter,
        .page_size = capture->page_size,
        .crash_stack_top = capture->stack_tops[GENCORE_STACK_MIDDLE],
    };
    if (take_snapshot(capture, &snapshot) < 0) {
        goto failed;
    }
    gencore_step_back();
    if ((error = write_handover(capture, files.handover)) < 0 || (error = arrange_files(&files, capture->record.has_stderr)) < 0) {
        (void)fail(capture, GENCORE_STAGE_HANDOVER, error);
        goto failed;
    }
    gencore_close_from(FIRST_SCRATCH_FD);
    (void)raw4(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(gencore_sigset));
    error = raw3(SYS_execve, capture->plan->argv[0], capture->plan->argv, capture->plan->envp);
    (void)fail(capture, GENCORE_STAGE_EXEC, error);
    make_directories(capture->plan->directory);
    files.directory = (int)raw4(SYS_openat, AT_FDCWD, capture->plan->directory, DIRECTORY_FLAGS, 0);
    files.run = (int)open_private_directory(files.directory, capture->plan->run_name);

failed:
    if (capture->result.snapshot_pid) {
        (void)raw2(SYS_kill, capture->result.snapshot_pid, SIGKILL);
        (void)raw4(SYS_wait4, capture->result.snapshot_pid, NULL, 0, NULL);
    }
    remove_files(capture, &files);
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
        (void)fail(capture, GENCORE_STAGE_LAUNCH, pid);
    }
    __atomic_store_n(&capture->middle_done, 1, __ATOMIC_RELEASE);
    (void)raw3(SYS_futex, &capture->middle_done, FUTEX_WAKE_PRIVATE, 1);
    return 0;
}

/*
 * Not suspended by CLONE_VFORK, but waiting: a stop signal for our process group can reach the helpers, too,
 * and the collector-to-be leaves the group, so that nobody but us would let it go on again.
 */
static void
wait_for_middle(struct gencore_capture *capture, int32_t middle)
{
    static const struct timespec patience = {0, NUDGE_NS};

    while (!__atomic_load_n(&capture->middle_done, __ATOMIC_ACQUIRE)) {
        int32_t collector;

        if (raw4(SYS_futex, &capture->middle_done, FUTEX_WAIT_PRIVATE, 0, &patience) != -ETIMEDOUT) {
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
    pid = gencore_clone(CLONE_VM, capture->stack_tops[GENCORE_STACK_MIDDLE], middle_main, capture, NULL);
    if (pid < 0) {
        error = fail(capture, GENCORE_STAGE_LAUNCH, pid);
    }
    else {
        wait_for_middle(capture, (int32_t)pid);
        error = -capture->result.error;
    }
    if (subreaper) {
        (void)raw2(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
    }
    if (error == 0 && capture->result.collector_pid <= 0) {
        error = fail(capture, GENCORE_STAGE_DIED, -ECHILD); /* a helper was killed */
    }
    return (int)error;
}
