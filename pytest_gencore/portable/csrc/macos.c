/* Let a copy of this process abort, so that the system writes its core: fork(2) and SIGABRT,
 * nothing else.
 *
 * A library without Python, loaded by ../macos.py. Only POSIX: it is run on Linux, for macOS it was
 * only compiled. The copies call what POSIX lists as async-signal-safe, setrlimit(2) besides: any
 * lock of the process may be held forever in them.
 *
 * The copy that aborts is nobody's child of ours, so that no test finds it; a second copy is its
 * parent, because only a parent learns whether a core was written. All signals are blocked in both:
 * Python's handlers would write into the descriptor of signal.set_wakeup_fd, which is the process's
 * own. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int gencore_abort_copy(int *descriptor);
EXPORT int gencore_read_number(int descriptor, int timeout_ms, int *number);

enum {
    EXIT_NOT_ABORTED = 127
};

/* Raise the limit, and die of SIGABRT; abort(3) would take a lock. */
static void
abort_now(void)
{
    struct rlimit limit;
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t aborting;

    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_CORE, &limit);
    }
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGABRT, &action, NULL);
    (void)sigemptyset(&aborting);
    (void)sigaddset(&aborting, SIGABRT);
    (void)kill(getpid(), SIGABRT);
    (void)sigprocmask(SIG_UNBLOCK, &aborting, NULL);
    _exit(EXIT_NOT_ABORTED);
}

/* Tell a number; a reader that is gone is not our business. */
static void
tell(int descriptor, int number)
{
    while (write(descriptor, &number, sizeof number) < 0 && errno == EINTR) {
    }
}

/* Have one more copy abort; tell its process id, 0 if there is none, then its wait status, or the
 * error. */
static void
attend(int descriptor)
{
    int status = 0;
    pid_t copy = fork();

    if (copy == 0) {
        abort_now();
    }
    if (copy < 0) {
        status = errno;
        tell(descriptor, 0);
    }
    else {
        tell(descriptor, (int)copy);
        while (waitpid(copy, &status, 0) < 0 && errno == EINTR) {
        }
    }
    tell(descriptor, status);
    _exit(0);
}

/* Make the copies, and return the error of the first one; all signals are blocked. */
static int
fork_twice(int reading, int writing, pid_t *child)
{
    pid_t second;

    *child = fork();
    if (*child < 0) {
        return errno;
    }
    if (*child > 0) {
        return 0;
    }
    (void)close(reading);
    second = fork();
    if (second == 0) {
        attend(writing);
    }
    _exit(second < 0 ? errno : 0);
}

/* Let a copy of this process abort, while the calling process goes on.
 *
 * Returns 0 or an errno. 0: *descriptor, which is the caller's to close, tells two numbers: the
 * process id of the copy, and, when its core is written, its wait status; for id 0 the errno of
 * fork(2). Signals are blocked in the calling thread for that moment. The process has had one child
 * more then, which has ended. */
int
gencore_abort_copy(int *descriptor)
{
    int ends[2], error, status = 0;
    sigset_t all, before;
    pid_t child = 0, waited;

    if (pipe(ends) < 0) {
        return errno;
    }
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = fork_twice(ends[0], ends[1], &child);
    if (error == 0) {
        do {
            waited = waitpid(child, &status, 0);
        } while (waited < 0 && errno == EINTR);
        /* Another thread may have waited for any child, or SIGCHLD is ignored: then nothing is
         * known of it. */
        error = waited == child && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)close(ends[1]);
    if (error != 0) {
        (void)close(ends[0]);
        return error;
    }
    *descriptor = ends[0];
    return 0;
}

/* Read a number, in so many milliseconds. Returns 0, EAGAIN: not yet, EPIPE: nobody tells it any
 * more, or another errno. */
int
gencore_read_number(int descriptor, int timeout_ms, int *number)
{
    struct pollfd awaited = {.fd = descriptor, .events = POLLIN};
    int ready = poll(&awaited, 1, timeout_ms);
    ssize_t count;

    if (ready <= 0) {
        return ready == 0 || errno == EINTR ? EAGAIN : errno;
    }
    count = read(descriptor, number, sizeof *number);
    if (count < 0) {
        return errno == EINTR ? EAGAIN : errno;
    }
    return count == (ssize_t)sizeof *number ? 0 : EPIPE;
}
