/* Let a copy of this process abort, so that the system writes its core: fork(2) and SIGABRT,
 * nothing else.
 *
 * A library without Python, loaded by ../macos.py. Only POSIX: it is run on Linux, for macOS it was
 * only compiled. The copies call what POSIX lists as async-signal-safe, getrlimit(2) and
 * setrlimit(2) besides: any lock of the process may be held forever in them.
 *
 * There are three: the first is a child of this process and ends at once; so the second, the
 * attendant, is nobody's child, and no test finds it. The third is its child and aborts: only a
 * parent learns whether a core was written. The attendant removes a core that nobody took, and ends
 * a copy that takes too long, whatever has become of this process. All signals are blocked in them:
 * Python's handlers would write into the descriptor of signal.set_wakeup_fd, which is the process's
 * own. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int gencore_abort_copy(const char *before, const char *after, int timeout_ms, int *channel);
EXPORT int gencore_read_number(int channel, int timeout_ms, int *number);
EXPORT void gencore_end_copy(int channel, int timeout_ms);

enum {
    EXIT_NOT_ABORTED = 127,
    DIGITS = 12
};

/* What the attendant needs to know. */
struct order {
    const char *before, *after; /* the path of the core, around the process id */
    int timeout_ms;
    int ours, theirs; /* ends of the channel */
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
tell(int channel, int number)
{
    while (write(channel, &number, sizeof number) < 0 && errno == EINTR) {
    }
}

static long long
now_ms(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/* Append a text; returns the new length, SIZE at most. */
static size_t
append(char *to, size_t length, size_t size, const char *text)
{
    while (*text != '\0' && length < size) {
        to[length++] = *text++;
    }
    return length;
}

/* Remove the core of a process, if it was written since then: seconds of time(2). */
static void
remove_core(const struct order *order, pid_t copy, time_t began)
{
    char path[1024], digits[DIGITS];
    size_t length, at = DIGITS - 1;
    struct stat found;

    digits[at] = '\0';
    for (pid_t rest = copy; rest > 0 && at > 0; rest /= 10) {
        digits[--at] = (char)('0' + rest % 10);
    }
    length = append(path, 0, sizeof path, order->before);
    length = append(path, length, sizeof path, digits + at);
    length = append(path, length, sizeof path, order->after);
    if (length == sizeof path) {
        return; /* such a name is refused before */
    }
    path[length] = '\0';
    /* Clocks of file systems may be some milliseconds late. */
    if (lstat(path, &found) == 0 && S_ISREG(found.st_mode) && found.st_mtime + 1 >= began) {
        (void)unlink(path);
    }
}

/* Wait until one of these has ended, or what is at the other end of it; returns whether one has, in
 * time. */
static int
await_either(int first, int second, long long end_ms)
{
    struct pollfd awaited[] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
    long long left = end_ms - now_ms();

    return left > 0 && poll(awaited, second < 0 ? 1 : 2, (int)left) > 0;
}

/* Have one more copy abort. Tells its process id, or a negative errno; then, when its core is
 * written, its wait status. Then the core is ours to remove, unless it was taken when the channel
 * is closed. */
static void
attend(const struct order *order)
{
    long long end_ms = now_ms() + order->timeout_ms;
    time_t began = time(NULL);
    struct sigaction action = {.sa_handler = SIG_DFL};
    int life[2], status = 0, is_done;
    struct pollfd alive;
    pid_t copy;

    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGCHLD, &action, NULL); /* where it is ignored there is no status */
    if (pipe(life) < 0 || (copy = fork()) < 0) {
        tell(order->theirs, -errno);
        _exit(0);
    }
    if (copy == 0) {
        (void)close(order->theirs);
        (void)close(life[0]);
        abort_now();
    }
    (void)close(life[1]); /* the copy's end is closed by its death, after its core is written */
    tell(order->theirs, (int)copy);
    (void)await_either(life[0], order->theirs, end_ms);
    alive = (struct pollfd){.fd = life[0], .events = POLLIN};
    is_done = poll(&alive, 1, 0) > 0;
    if (!is_done) {
        (void)kill(copy, SIGKILL);
    }
    while (waitpid(copy, &status, 0) < 0 && errno == EINTR) {
    }
    if (is_done) {
        tell(order->theirs, status);
        (void)await_either(order->theirs, -1, end_ms);
    }
    remove_core(order, copy, began);
    _exit(0);
}

/* Make the copies, and return the error of the first one; all signals are blocked. */
static int
fork_twice(const struct order *order, pid_t *child)
{
    pid_t second;

    *child = fork();
    if (*child < 0) {
        return errno;
    }
    if (*child > 0) {
        return 0;
    }
    (void)close(order->ours); /* else nobody would notice that this process closes it */
    second = fork();
    if (second == 0) {
        attend(order);
    }
    _exit(second < 0 ? errno : 0);
}

/* Let a copy of this process abort, while the calling process goes on.
 *
 * before, after: the path of its core, around its process id. timeout_ms: until then its core must
 * be taken. Returns 0 or an errno. 0: *channel is the caller's to end with gencore_end_copy, and
 * tells two numbers: the process id of the copy, or a negative errno; and, when its core is
 * written, its wait status. Signals are blocked in the calling thread for a moment, in which the
 * process has one child more, which ends. */
int
gencore_abort_copy(const char *before, const char *after, int timeout_ms, int *channel)
{
    struct order order = {.before = before, .after = after, .timeout_ms = timeout_ms};
    int ends[2], error, status = 0;
    sigset_t all, mask;
    pid_t child = 0, waited;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0) {
        return errno;
    }
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    order.ours = ends[0];
    order.theirs = ends[1];
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &mask);
    error = fork_twice(&order, &child);
    if (error == 0) {
        do {
            waited = waitpid(child, &status, 0);
        } while (waited < 0 && errno == EINTR);
        /* Another thread may have waited for any child, or SIGCHLD is ignored: then nothing is
         * known of it. */
        error = waited == child && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    }
    (void)close(ends[1]);
    if (error != 0) {
        (void)close(ends[0]);
    }
    else {
        *channel = ends[0];
    }
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return error;
}

/* Read a number, in so many milliseconds. Returns 0, EAGAIN: not yet, EPIPE: nobody tells it any
 * more, or another errno. */
int
gencore_read_number(int channel, int timeout_ms, int *number)
{
    struct pollfd awaited = {.fd = channel, .events = POLLIN};
    int ready = poll(&awaited, 1, timeout_ms);
    ssize_t count;

    if (ready <= 0) {
        return ready == 0 || errno == EINTR ? EAGAIN : errno;
    }
    count = read(channel, number, sizeof *number);
    if (count < 0) {
        return errno == EINTR ? EAGAIN : errno;
    }
    return count == (ssize_t)sizeof *number ? 0 : EPIPE;
}

/* Say that the core was taken, or is not wanted, and close the channel. What is left of it is gone
 * then, unless the system still writes it after so many milliseconds: then the attendant removes it
 * later. */
void
gencore_end_copy(int channel, int timeout_ms)
{
    long long end_ms = now_ms() + timeout_ms;
    int number;

    (void)shutdown(channel, SHUT_WR);
    while (await_either(channel, -1, end_ms) && gencore_read_number(channel, 0, &number) == 0) {
    }
    (void)close(channel);
}
