/*
 * snapshot.c - life of the snapshot: a copy-on-write child of the captured process.
 *
 * It serves its memory to the collector through two pipes and, if asked to, lets a copy of itself
 * die of SIGSEGV so that the kernel writes a core. It ends when the collector does. It may run
 * nothing but raw system calls: whatever lock another thread held when it was copied is held here
 * for ever.
 */
#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "gencore.h"
#include "signal_safe.h"

#ifndef SYS_close_range
#define SYS_close_range 436 /* the same number on every architecture */
#endif

#define COMMAND_FD 0
#define REPLY_FD 1
#define STDERR_FD 2
#define TRACE_SECONDS 2
#define PIECE (1024 * 1024)
#define LOWER_BY 10 /* of nice(2), which ends at 19 by itself */
#ifndef IOPRIO_WHO_PROCESS
#define IOPRIO_WHO_PROCESS 1 /* ioprio_set(2); <linux/ioprio.h> came with Linux 5.15 */
#endif
#define IOPRIO_LOWEST_BEST_EFFORT (2 << 13 | 7)

/* Without close_range (before Linux 5.9) only what is open is closed: nofile may be a billion. */
static void
close_from_listing(unsigned int first)
{
    static _Alignas(8) char buffer[4096];
    long directory = raw4(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                          0);
    long size;
    int closed;

    if (directory < 0) {
        return;
    }
    do {
        closed = 0;
        (void)raw3(SYS_lseek, directory, 0, 0);
        while ((size = raw3(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
            for (long at = 0; at < size;) {
                const struct safe_entry *entry = (const struct safe_entry *)(buffer + at);
                int32_t fd = safe_entry_number(entry);

                at += entry->size;
                if (fd >= (int32_t)first && fd != directory && raw1(SYS_close, fd) == 0) {
                    closed++;
                }
            }
        }
    } while (closed);
    (void)raw1(SYS_close, directory);
}

void
gencore_close_from(unsigned int first)
{
    if (raw3(SYS_close_range, first, ~0u, 0) < 0) {
        close_from_listing(first);
    }
}

static int32_t
write_setting(const char *path, const char *text)
{
    long fd = raw4(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    long error;
    size_t size = 0;

    if (fd < 0) {
        return (int32_t)-fd;
    }
    while (text[size]) {
        size++;
    }
    error = safe_write_all((int)fd, text, size);
    (void)raw1(SYS_close, fd);
    return (int32_t)-error;
}

static int32_t
raise_limit(int resource)
{
    struct rlimit limit;
    long error = raw4(SYS_prlimit64, 0, resource, NULL, &limit);

    if (error == 0) {
        limit.rlim_cur = limit.rlim_max;
        error = raw4(SYS_prlimit64, 0, resource, &limit, NULL);
    }
    return (int32_t)-error;
}

void
gencore_lower_priority(void)
{
    long raised = raw2(SYS_getpriority, PRIO_PROCESS, 0); /* the kernel's: 20 - nice */

    if (raised > 0) {
        (void)raw3(SYS_setpriority, PRIO_PROCESS, 0, 20 - raised + LOWER_BY);
    }
    /* The lowest of the usual class; threads that are started later have it, too. */
    (void)raw3(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_LOWEST_BEST_EFFORT);
}

static void
send_status(const struct gencore_snapshot *snapshot)
{
    char filter[24];
    struct safe_text text = safe_text_in(filter, sizeof(filter));
    struct gencore_snapshot_status status;

    safe_put_number(&text, snapshot->core_filter, 1);
    status.pid = (int32_t)raw0(SYS_getpid);
    status.filter_error = write_setting("/proc/self/coredump_filter", filter);
    status.oom_error = write_setting("/proc/self/oom_score_adj", "1000");
    status.limit_error = raise_limit(RLIMIT_CORE);
    (void)raise_limit(RLIMIT_FSIZE);
    status.chdir_error = (int32_t)-raw1(SYS_fchdir, snapshot->work_fd);
    status.page_size = snapshot->page_size;
    (void)safe_write_all(REPLY_FD, &status, sizeof(status));
}

/*
 * Put a piece of memory into the pipe; return how much, or -errno.
 *
 * vmsplice(2) puts the pages themselves in, which saves a copy: they never change, for nothing runs
 * here but this file. What it cannot take (mappings of devices, sandboxes without it) is copied by
 * write(2).
 */
static long
send_piece(uint64_t address, uint64_t size)
{
    const struct iovec piece = {(void *)(uintptr_t)address, size};
    long count = raw4(SYS_vmsplice, REPLY_FD, &piece, 1, 0);

    return count > 0 || count == -EINTR ? count : raw3(SYS_write, REPLY_FD, address, size);
}

/* Send `size` bytes at `address`; what cannot be read even after mprotect goes out as zeros. */
static uint64_t
send_memory(uint64_t address, uint64_t size, uint32_t page_size)
{
    static const char zeros[4096];
    uint64_t unreadable = 0, end = address + size;

    while (address < end) {
        uint64_t piece = end - address < PIECE ? end - address : PIECE;
        uint64_t page_end = (address | (page_size - 1)) + 1;
        uint64_t left_of_page = (page_end < end ? page_end : end) - address;
        long count = send_piece(address, piece);

        if (count > 0) {
            address += (uint64_t)count;
            continue;
        }
        if (count == -EINTR) {
            continue;
        }
        if (count != -EFAULT) {
            (void)raw1(SYS_exit_group, 1); /* the collector is gone */
        }
        /* A pipe refuses a whole piece for its unreadable end: first what is left of this page. */
        count = send_piece(address, left_of_page);
        if (count > 0) {
            address += (uint64_t)count;
            continue;
        }
        /* A private copy: whoever protected this page will not see it readable. */
        if (raw3(SYS_mprotect, page_end - page_size, page_size, PROT_READ) == 0) {
            count = send_piece(address, left_of_page);
            if (count > 0) {
                address += (uint64_t)count;
                continue;
            }
        }
        unreadable++;
        for (page_end = page_end < end ? page_end : end; address < page_end;) {
            piece = page_end - address < sizeof(zeros) ? page_end - address : sizeof(zeros);
            if (safe_write_all(REPLY_FD, zeros, piece) < 0) {
                (void)raw1(SYS_exit_group, 1);
            }
            address += piece;
        }
    }
    return unreadable;
}

static void
send_mincore(uint64_t address, uint64_t pages, uint32_t page_size)
{
    static unsigned char answer[16384];

    while (pages) {
        uint64_t piece = pages < sizeof(answer) ? pages : sizeof(answer);

        if (raw3(SYS_mincore, address, piece * page_size, answer) < 0) {
            for (uint64_t i = 0; i < piece; i++) {
                answer[i] = 0xff;
            }
        }
        (void)safe_write_all(REPLY_FD, answer, piece);
        address += piece * page_size;
        pages -= piece;
    }
}

/*
 * A copy of the snapshot that waits for its SIGSEGV: the collector sends it when the place for the
 * core is made. A copy, so that the snapshot can still be read if no core appears.
 */
static _Noreturn int
crash_main(void *unused)
{
    gencore_sigset fault = GENCORE_SIGNAL(SIGSEGV);
    struct gencore_action action = {.handler = (void *)SIG_DFL};

    (void)unused;
    (void)raw2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    (void)raw4(SYS_rt_sigaction, SIGSEGV, &action, NULL, sizeof(gencore_sigset));
    (void)raw4(SYS_rt_sigprocmask, SIG_UNBLOCK, &fault, NULL, sizeof(gencore_sigset));
    for (;;) {
        (void)raw4(SYS_ppoll, NULL, 0, NULL, NULL);
    }
}

static void
crash(const struct gencore_snapshot *snapshot)
{
    struct gencore_crash crashed = {0, 0};
    long error;

    crashed.pid = (int32_t)gencore_clone(SIGCHLD, snapshot->crash_stack_top, crash_main, NULL,
                                         NULL);
    (void)safe_write_all(REPLY_FD, &crashed.pid, sizeof(crashed.pid));
    if (crashed.pid > 0) {
        do {
            error = raw4(SYS_wait4, crashed.pid, &crashed.status, 0, NULL);
        } while (error == -EINTR);
    }
    (void)safe_write_all(REPLY_FD, &crashed.status, sizeof(crashed.status));
}

int
gencore_trace_main(void *argument)
{
    static const struct rlimit time_limit = {TRACE_SECONDS, TRACE_SECONDS};
    static const struct rlimit no_core = {1, 1}; /* 0: a pipe gets one, core(5) */
    const struct gencore_copy_call *call = argument;
    long null;

    (void)raw2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    gencore_set_child_standby(NULL); /* its end says nothing: what it reads may be damaged */
    (void)raw4(SYS_prlimit64, 0, RLIMIT_CPU, &time_limit, NULL);
    (void)raw4(SYS_prlimit64, 0, RLIMIT_CORE, &no_core, NULL);
    (void)raw3(SYS_dup3, call->output, STDERR_FD, 0);
    gencore_close_from(STDERR_FD + 1);
    /* Whoever prints may not write into the pipes of the snapshot. */
    null = raw4(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    (void)raw3(SYS_dup3, null, COMMAND_FD, 0);
    (void)raw3(SYS_dup3, null, REPLY_FD, 0);
    (void)raw1(SYS_close, null);
    call->function(call->signal);
    return 0;
}

static void
send_trace(const struct gencore_snapshot *snapshot, uint64_t function, int signal,
           int64_t nanoseconds)
{
    static char buffer[4096];
    int ends[2];
    uint32_t size = 0;
    long count, pid;
    int64_t deadline = safe_now(CLOCK_MONOTONIC) + nanoseconds;

    if (raw2(SYS_pipe2, ends, O_CLOEXEC) == 0) {
        struct gencore_copy_call call = {(void (*)(int))(uintptr_t)function, signal, ends[1]};

        pid = gencore_clone(SIGCHLD, snapshot->crash_stack_top, gencore_trace_main, &call, NULL);
        (void)raw1(SYS_close, ends[1]);
        while (pid > 0) {
            int64_t left = deadline - safe_now(CLOCK_MONOTONIC);
            struct timespec timeout = {left / NANOSECONDS, left % NANOSECONDS};
            struct pollfd readable = {.fd = ends[0], .events = POLLIN};

            if (left <= 0 || raw5(SYS_ppoll, &readable, 1, &timeout, NULL, 0) <= 0) {
                break;
            }
            count = raw3(SYS_read, ends[0], buffer, sizeof(buffer));
            if (count <= 0) {
                break;
            }
            size = (uint32_t)count;
            (void)safe_write_all(REPLY_FD, &size, sizeof(size));
            (void)safe_write_all(REPLY_FD, buffer, size);
        }
        if (pid > 0) {
            (void)raw2(SYS_kill, pid, SIGKILL);
            (void)raw4(SYS_wait4, pid, NULL, 0, NULL);
        }
        (void)raw1(SYS_close, ends[0]);
    }
    size = 0;
    (void)safe_write_all(REPLY_FD, &size, sizeof(size));
}

_Noreturn int
gencore_snapshot_main(void *argument)
{
    const struct gencore_snapshot *snapshot = argument;
    struct gencore_command command;
    uint64_t unreadable = 0;

    /* The collector is our parent: neither outlives the other. */
    (void)raw2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    /* A process that gave up privileges is not dumpable, and then neither its core nor its maps can
     * be had. */
    (void)raw2(SYS_prctl, PR_SET_DUMPABLE, 1);
    if (!snapshot->is_awaited) {
        gencore_lower_priority();
    }
    (void)raw3(SYS_dup3, snapshot->command_fd, COMMAND_FD, 0);
    (void)raw3(SYS_dup3, snapshot->reply_fd, REPLY_FD, 0);
    send_status(snapshot);
    gencore_close_from(2);

    while (safe_read_exactly(COMMAND_FD, &command, sizeof(command)) == 0) {
        switch (command.kind) {
        case GENCORE_COMMAND_READ:
            unreadable += send_memory(command.address, command.size, snapshot->page_size);
            break;
        case GENCORE_COMMAND_MINCORE:
            send_mincore(command.address, command.size, snapshot->page_size);
            break;
        case GENCORE_COMMAND_UNREADABLE:
            (void)safe_write_all(REPLY_FD, &unreadable, sizeof(unreadable));
            break;
        case GENCORE_COMMAND_CRASH:
            crash(snapshot);
            break;
        case GENCORE_COMMAND_TRACE:
            send_trace(snapshot, command.address, (int)command.size,
                       2 * TRACE_SECONDS * NANOSECONDS);
            break;
        case GENCORE_COMMAND_PROBE:
            send_trace(snapshot, command.address, 0, (int64_t)command.size * 1000000);
            break;
        default:
            (void)raw1(SYS_exit_group, 2);
        }
    }
    for (;;) {
        (void)raw1(SYS_exit_group, 0);
    }
}
